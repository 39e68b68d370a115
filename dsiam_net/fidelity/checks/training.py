"""Training steps of a small SiamFC: DagNN and ``cnn_train_dag``'s ``accumulateGradients``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dagnet import (
    SGD,
    DagNN,
    TrainOptions,
    TrainState,
    accumulate_gradients,
    asnumpy,
    loss_averages,
    relative_error,
)
from dagnet.backend import tree_to_device

from ...branches import cast_params, siamfc_branch
from ...siamfc import add_losses, make_siamfc
from ..compare import Comparison, relative, same
from ..files import SINGLE, Case, GoldenError, GoldenFile
from ..registry import checks

INIT, EVAL, BACKWARD = "DagNN params", "DagNN.eval", "DagNN.eval backward"
UPDATE, STATISTICS = "cnn_train_dag accumulateGradients", "extractStats"
TEST = "DagNN.eval test mode"
INPUT_FIELDS = ("Z", "X", "eltwise_label", "instanceWeights")

# In double the numbers are the original's to 1e-9. In single, switches of ReLU and pooling near
# ties change derivatives, and after a step or two everything, by percents: there our distance
# from the same run in double must be of the size of the original's own.
IN_DOUBLE = 1e-9
MULTIPLE = 3
# What no switch disturbs in the first step: the ends of the network, behind the last ReLU.
UNDISTURBED = ("conv5f", "conv5b", "adjust_f", "adjust_b")
UNDISTURBED_TOLERANCE = 1e-4
# Values, averages and updated parameters of the first step, and derivatives by the features.
FIRST_STEP = 1e-3
BEHIND_SWITCHES = ("der_exemplar_sub",)
# Batch statistics take these biases' effect away: their derivatives are noise.
CANCELLED = ("conv1b", "conv2b", "conv3b", "conv4b")
VALUES = ("a_feat", "b_feat", "score", "objective", "errdisp", "errmax")
PER_PARAMETER = ("der", "val", "mom")


@dataclass(frozen=True)
class Plan:
    """What a file's run was: its settings, and step and part ('vars', 'der', ...) of each case."""

    options: dict[str, Any]
    parts: dict[str, tuple[int, str]]
    steps: int
    images: int
    init: Case
    inputs: Case


def _place(entry: dict[str, Any], step: int) -> tuple[int, str]:
    """Step and part of a case by its function; a solver's two tell themselves by their options."""
    function = entry["func"]
    if function == UPDATE:
        return step, "val" if "learningRate" in (entry.get("opts") or {}) else "mom"
    part = {INIT: "init", EVAL: "vars", BACKWARD: "der", STATISTICS: "stats", TEST: "test"}
    return (0 if function in (INIT, TEST) else step), part[function]


@lru_cache(maxsize=8)
def plan_of(golden: GoldenFile) -> Plan:
    """Read the plan of a run off its file."""
    step, parts = 0, {}
    for entry in golden.meta:
        step += entry["func"] == EVAL
        parts[entry["name"]] = _place(entry, step)

    def first(part: str) -> Case:
        for name, (_, kind) in parts.items():
            if kind == part:
                return golden.case(name)
        raise GoldenError(f"{golden.path.name} has no case for the part {part!r} of a run")

    images, score = first("test").matlab("score").shape[3], first("test").matrix("score").shape
    options = first("val").options
    return Plan(options, parts, step, images, first("init"), _inputs(golden, step, images, score))


def _inputs(golden: GoldenFile, steps: int, images: int, score: tuple[int, int]) -> Case:
    """The case of the folder that holds inputs for so many steps and images, and such a map."""
    for other in golden.folder.goldens():
        for entry in other.meta:
            if not set(INPUT_FIELDS) <= set(entry["fields"]):
                continue
            case = other.case(entry["name"])
            z = case.matlab("Z").shape
            if (
                z[3] >= images
                and (*z, 1)[4] >= steps
                and case.matrix("eltwise_label").shape == score
            ):
                golden.folder.mark_used(other.path, golden)
                return case
    raise GoldenError(
        f"no file of the folder holds inputs ({', '.join(INPUT_FIELDS)}) for {steps} steps of "
        f"{images} images and a map of {score[0]}x{score[1]}"
    )


def parameter_array(case: Case, name: str) -> np.ndarray:
    """A parameter of a golden in our axes."""
    if name.endswith("f"):
        return case.matlab(name).transpose(3, 2, 0, 1)
    return case.matrix(name) if name.endswith("x") else case.vector(name)


def make_net(plan: Plan, dtype: type) -> DagNN:
    """The SiamFC network with its losses and the run's first values."""
    channels = [plan.init.matlab(f"conv{k}f").shape[3] for k in range(1, 6)]
    # The goldens were made at HEAD, whose dagnn.BatchNorm has this epsilon.
    net = make_siamfc(siamfc_branch(channels, epsilon=1e-5))
    add_losses(net, plan.inputs.matrix("instanceWeights"))
    for parameter in net.params:
        parameter.value = parameter_array(plan.init, parameter.name)
    cast_params(net, dtype)
    for name in (*VALUES, "exemplar"):
        net.get_var(name).precious = True
    return net


def batch(plan: Plan, dtype: type, step: int, images: list[int]) -> dict[str, np.ndarray]:
    """Inputs of a step: some of its images."""

    def take(field: str) -> np.ndarray:
        array = plan.inputs.matlab(field)
        array = array.reshape((*array.shape, 1)[:5], order="F")[..., step]
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1)[images], dtype=dtype)

    label = plan.inputs.matrix("eltwise_label").astype(dtype)
    return {
        "exemplar": take("Z"),
        "instance": take("X"),
        "eltwise_label": np.repeat(label[None, None], len(images), axis=0),
        "label": np.ones(len(images), dtype=dtype),
    }


@lru_cache(maxsize=8)
def run(golden: GoldenFile, dtype: type) -> dict[tuple[int, str], dict[str, Any]]:
    """A whole run: by step and part, what the network and the solver hold."""
    plan = plan_of(golden)
    options = plan.options
    sub_batches = int(options.get("numSubBatches", 1))
    net = make_net(plan, dtype)
    device = golden.folder.device
    net.move(device)
    training = TrainOptions(
        exp_dir=".",
        learning_rate=options["learningRate"],
        weight_decay=options["weightDecay"],
        num_sub_batches=sub_batches,
        solver=SGD(options["momentum"], nesterov=bool(options.get("nesterovUpdate", False))),
    )
    state, found = TrainState(), {}
    for step in range(1, plan.steps + 1):
        for part in range(sub_batches):
            net.accumulate_param_ders = part > 0
            images = list(range(plan.images))[part::sub_batches]
            inputs = batch(plan, dtype, step - 1, images)
            net.eval(tree_to_device(inputs, device), {"objective": 1})
        values = {name: asnumpy(net.get_var(name).value) for name in VALUES}
        ders = {
            f"der_{name}": asnumpy(net.get_var(name).der) for name in ("score", "a_feat", "b_feat")
        }
        found[step, "vars"] = (
            values | ders | {"der_exemplar_sub": asnumpy(net.get_var("exemplar").der)}
        )
        found[step, "stats"] = loss_averages({}, net)
        found[step, "der"] = {p.name: asnumpy(p.der).copy() for p in net.params}
        accumulate_gradients(net, state, training, epoch=1)
        found[step, "val"] = {p.name: asnumpy(p.value) for p in net.params}
        found[step, "mom"] = tree_to_device(state.solver_state, "cpu")
    net.mode = "test"
    net.eval(tree_to_device(batch(plan, dtype, 0, list(range(plan.images))), device))
    found[0, "test"] = {name: asnumpy(net.get_var(name).value) for name in ("score", "objective")}
    return found


def expected_array(case: Case, part: str, field: str, actual: Any) -> tuple[Any, Any]:
    """A golden field in our axes, and ours as the golden has it (every so many pixels)."""
    if part in PER_PARAMETER:
        expected = parameter_array(case, field)
    else:
        expected = case.matlab(field).transpose(3, 2, 0, 1)
    if field == "der_exemplar_sub":
        stride = -(-actual.shape[2] // expected.shape[2])
        actual = actual[:, :, ::stride, ::stride]
    return expected, np.reshape(actual, expected.shape)


def is_noise(part: str, field: str) -> bool:
    return field in CANCELLED and part in ("der", "mom")


@checks(INIT)
def check_init(case: Case) -> list[Comparison]:
    """Training attributes of the parameters are those that the original gave them."""
    net = make_net(plan_of(case.golden), np.float64)
    return [
        same("names", [p.name for p in net.params], case.option("names")),
        same("lr", [p.learning_rate for p in net.params], case.option("lr")),
        same("wd", [p.weight_decay for p in net.params], case.option("wd")),
        same("fanout", [p.fanout for p in net.params], case.option("fanout")),
        same("trainMethod", [p.train_method for p in net.params], case.option("trainMethod")),
    ]


@checks(EVAL, BACKWARD, UPDATE, STATISTICS, TEST)
def check_run(case: Case) -> list[Comparison]:
    """The whole run is made once, and each case compared with its part of it."""
    plan = plan_of(case.golden)
    step, part = plan.parts[case.name]
    double = all(a.dtype == np.float64 for a in plan.init.arrays.values())
    exact = run(case.golden, np.float64)[step, part]
    if double:
        return list(_in_double(case, part, exact))
    single = run(case.golden, np.float32)[step, part]
    return list(itertools.chain.from_iterable(_in_single(case, step, part, single, exact)))


def _in_double(case: Case, part: str, found: dict[str, Any]):
    for field, actual in found.items():
        expected, actual = expected_array(case, part, field, actual)
        scale = np.abs(expected).max() or 1.0
        if is_noise(part, field):
            # Around zero: small against the derivative by the same layer's filters.
            scale = np.abs(found[field[:-1] + "f"]).max()
        yield Comparison(field, float(np.abs(actual - expected).max() / scale), IN_DOUBLE)


def _in_single(case: Case, step: int, part: str, found: dict[str, Any], exact: dict[str, Any]):
    for field, actual in found.items():
        if is_noise(part, field):
            continue
        expected, actual = expected_array(case, part, field, actual)
        _, reference = expected_array(case, part, field, exact[field])
        ours, theirs = relative_error(actual, reference), relative_error(expected, reference)
        note = f"distance from the run in double, at most {MULTIPLE} times the original's"
        yield [Comparison(field, ours, MULTIPLE * theirs + SINGLE, note=note)]
        if step == 1 and field in UNDISTURBED:
            yield [relative(f"{field} itself", actual, expected, UNDISTURBED_TOLERANCE)]
        elif step == 1 and part in ("vars", "stats", "val") and field not in BEHIND_SWITCHES:
            # A switch that fell the other way in the original itself is no error of ours.
            note = f"allowed {FIRST_STEP} and the original's own distance from the run in double"
            itself = relative_error(actual, expected)
            yield [Comparison(f"{field} itself", itself, FIRST_STEP + theirs, note=note)]
