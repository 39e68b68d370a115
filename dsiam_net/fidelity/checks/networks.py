"""Networks: what a probe of the originals says of the files beside it, and listings in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import UNKNOWN, DagNN, ReceptiveField, to_device
from layers import LRN
from matlab_import.settings import python_name

from ...branches import siamfc_branch
from ...siamfc import add_losses, make_siamfc
from ..compare import Comparison, expected_like, relative, same
from ..files import SINGLE, Case, GoldenError, GoldenFolder
from ..registry import checks
from .normalisation import FAST_POW

# Fields of a SiamFC probe that hold inputs, and the network's inputs.
SIAMFC_INPUTS = {"z": "exemplar", "x": "instance"}
PARAM = "param_"


def _names(net: DagNN) -> tuple[list[str], list[str], list[str]]:
    return [r.name for r in net.layers], [v.name for v in net.vars], [p.name for p in net.params]


def _matching(folder: GoldenFolder, layers: list[str], by: Any) -> Iterator[tuple[Path, DagNN]]:
    """The folder's networks with these layers; GoldenError if there is none."""
    found = False
    for path, net in folder.networks():
        if _names(net)[0] == list(layers):
            found = True
            folder.mark_used(path, by)
            yield path, net
    if not found:
        raise GoldenError(f"no file of the folder holds the network with layers {layers}")


def _evaluate(net: DagNN, inputs: dict[str, Any], names: list[str], device: str) -> DagNN:
    """A copy of the network in test mode, evaluated with the variables ``names`` kept."""
    net = net.copy()
    net.mode = "test"
    net.move(device)
    for name in names:
        net.get_var(name).precious = True
    net.eval({name: to_device(np.asarray(a, np.float32), device) for name, a in inputs.items()})
    return net


@checks("DagNN test mode")
def check_dagnn_probe(case: Case) -> list[Comparison]:
    """Names, parameters (equal to the bit) and outputs in test mode, for every such file."""
    found = []
    for path, net in _matching(case.folder, case.option("layers"), case.golden):
        where = f"({path.name})"
        _, variables, params = _names(net)
        found.append(same(f"variables {where}", variables, case.option("vars")))
        found.append(same(f"parameters {where}", params, case.option("params")))
        for parameter in net.params:
            field, value = PARAM + parameter.name, parameter.value
            found.append(
                relative(f"{field} {where}", value, expected_like(case, field, value), 0.0)
            )
        outputs = [f for f in case.arrays if f not in SIAMFC_INPUTS and f in variables]
        inputs = {SIAMFC_INPUTS[f]: case.tensor(f) for f in SIAMFC_INPUTS}
        net = _evaluate(net, inputs, outputs, case.folder.device)
        for name in outputs:
            value = net.get_var(name).value
            found.append(relative(f"{name} {where}", value, case.tensor(name), SINGLE))
    return found


@checks("vl_simplenn / DagNN.fromSimpleNN")
def check_simplenn_probe(case: Case) -> list[Comparison]:
    """Every layer's output, from the input, and from the original's own normalised values on.

    The original's normalisation has approximate powers, so what follows it is compared twice.
    """
    found = []
    variables = case.option("dagVars")
    for path, net in _matching(case.folder, case.option("dagLayers"), case.golden):
        where = f"({path.name})"
        found.append(same(f"variables {where}", _names(net)[1], variables))
        found.append(same(f"parameters {where}", _names(net)[2], case.option("dagParams")))
        given = variables[0]
        values = _evaluate(net, {given: case.tensor(given)}, variables, case.folder.device)
        bound, note = SINGLE, ""
        for record in net.layers:
            (name,) = record.outputs
            if isinstance(record.block, LRN):
                given, bound = name, FAST_POW
                note = f"behind vl_nnnormalize, whose powers are approximate: {FAST_POW:.0e}"
            actual = values.get_var(name).value
            found.append(relative(f"{name} {where}", actual, case.tensor(name), bound, note))
        if note:
            found += _from_variable(case, net, given, where)
    if case.has("dag_last"):
        last = case.matlab(variables[-1])
        found.append(relative("dag_last", case.matlab("dag_last"), last, 0.0))
    return found


def _from_variable(case: Case, net: DagNN, given: str, where: str) -> list[Comparison]:
    """What the layers behind the variable ``given`` make of the original's own value of it."""
    names = [r.outputs[0] for r in net.layers]
    behind = names[names.index(given) + 1 :]
    values = _evaluate(net, {given: case.tensor(given)}, behind, case.folder.device)
    return [
        relative(f"{n} from {given} {where}", values.get_var(n).value, case.tensor(n), SINGLE)
        for n in behind
    ]


# Listings


def axes_of_listing(settings: dict[str, Any]) -> dict[str, Any]:
    """The block of a listing (MATLAB's names and axes) in ours."""
    ours = {python_name(name): value for name, value in settings.items()}
    if "size" in ours:
        h, w, i, o = ours["size"]
        ours["size"] = (o, i, h, w)
    options = ours.pop("opts", [])
    if options[:1] == ["instanceWeights"]:
        ours["instance_weights"] = np.array(options[1])[None, None]
        options = []
    return {**ours, "opts": options}


def check_layer_listing(folder: GoldenFolder, path: Path, listing: list) -> list[Comparison]:
    """Every layer of the folder's networks with these layers: name, type, ends and settings."""
    found = []
    for file, net in _matching(folder, [entry["name"] for entry in listing], path.name):
        for record, expected in zip(net.layers, listing):
            where = f"{record.name} ({file.name})"
            for name in ("type", "inputs", "outputs", "params"):
                found.append(same(f"{name} of {where}", getattr(record, name), expected[name]))
            settings = record.block.save()
            for name, value in axes_of_listing(expected["block"]).items():
                if name == "num_channels":  # empty in files, filled in from the multipliers
                    value = len(net.get_param(record.params[0]).value)
                value = tuple(value) if isinstance(value, list) else value
                found.append(same(f"{name} of {where}", settings[name], value))
    return found


def listed_field(entry: dict[str, Any]) -> ReceptiveField | None:
    """A field of a listing; null stands for NaN, and for infinity where the stride is known."""
    if not entry["size"]:
        return None
    if entry["stride"][0] is None:
        return UNKNOWN
    size = tuple(math.inf if v is None else v for v in entry["size"])
    return ReceptiveField(size, tuple(entry["stride"]), tuple(entry["offset"]))


def _same_field(what: str, found: ReceptiveField | None, expected: ReceptiveField | None):
    # NaN is not equal to itself, so the unknown is compared as such.
    if expected is UNKNOWN:
        return same(what, found.known, False)
    return same(what, found, expected)


def check_siamfc_listing(listing: dict[str, Any]) -> list[Comparison]:
    """A SiamFC network as built here: layers, order, parameters, every size and receptive field."""
    shapes = {p["name"]: p["size"] for p in listing["params"]}
    net = make_siamfc(siamfc_branch([shapes[f"conv{k}f"][3] for k in range(1, 6)]))
    score = tuple(listing["resp_sz"])
    add_losses(net, np.ones(score), stride=int(np.ravel(listing["resp_stride"])[0]))
    found = [
        same("layers", _names(net)[0], [entry["name"] for entry in listing["layers"]]),
        same(
            "execution order",
            [i + 1 for i in net.get_layer_execution_order()],
            listing["executionOrder"],
        ),
    ]
    for record, expected in zip(net.layers, listing["layers"]):
        for name in ("type", "inputs", "outputs", "params"):
            found.append(same(f"{name} of {record.name}", getattr(record, name), expected[name]))
    for parameter, expected in zip(net.params, listing["params"]):
        attributes = ("name", "learningRate", "weightDecay", "trainMethod", "fanout")
        ours = [getattr(parameter, python_name(name)) for name in attributes]
        what = f"attributes of {parameter.name}"
        found.append(same(what, ours, [expected[name] for name in attributes]))
    return found + _check_variables(net, listing)


def _check_variables(net: DagNN, listing: dict[str, Any]) -> list[Comparison]:
    listed = {v["name"]: v for v in listing["vars"]}
    found = [same("variables", {v.name for v in net.vars}, set(listed))]

    def size_of(name: str) -> tuple[int, ...]:
        h, w, c, n = listed[name]["size"]
        return (n, c, h, w)

    given = ("exemplar", "instance", "eltwise_label")
    sizes = net.get_var_sizes({name: size_of(name) for name in given})
    fields = {source: net.get_var_receptive_fields(source) for source in given[:2]}
    for name, variable in listed.items():
        if name != "label":  # an input without a plane: MATLAB's is 1 x N
            found.append(same(f"size of {name}", tuple(sizes[name]), size_of(name)))
        for source in fields:
            what = f"receptive field of {name} in {source}"
            listed_as = listed_field(variable[f"rf_{source}"])
            found.append(_same_field(what, fields[source][name], listed_as))
    return found


def check_branch_listing(listing: list[dict[str, Any]]) -> list[Comparison]:
    """A branch's layers by name: those of ``siamfc_branch``."""
    kinds = {"conv": "Conv", "bnorm": "BatchNorm", "relu": "ReLU", "pool": "Pooling"}
    net = siamfc_branch()
    return [
        same("layers", _names(net)[0], [entry["name"] for entry in listing]),
        same(
            "types",
            [r.type for r in net.layers],
            [f"dagnn.{kinds.get(entry['type'], entry['type'])}" for entry in listing],
        ),
    ]
