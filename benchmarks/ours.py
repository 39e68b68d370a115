"""This project's side of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dagnet import DagNN, asnumpy, to_device
from dagnet.backend import import_cupy, set_tf32
from dagnet.graph_capture import StepGraphs
from dagnet.plan import Plan
from dsiam_net.branches import siamfc_branch
from dsiam_net.clips import Clip
from dsiam_net.settings import get_preset
from dsiam_net.tracking_net import TrackingNet, learn_together, respond_together
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import GROUND_TRUTH, UnrolledSettings, build_unrolled, objectives
from profiling import LayerTime, layer_times

# The first plainly, the second recorded, the third captured and launched.
RUNS_BEFORE_LAUNCH = 3


def prepare(device: str, tf32: bool) -> None:
    """Make the device ready, with products of single precision in TF32 or not."""
    if device == "gpu":
        set_tf32(tf32)


def wait(device: str) -> None:
    """Return when the device has nothing left to do."""
    if device == "gpu":
        import_cupy().cuda.runtime.deviceSynchronize()


def card_taken(device: str) -> int:
    """Bytes of the GPU that are taken, by whomever; 0 on the CPU."""
    if device == "cpu":
        return 0
    free, total = import_cupy().cuda.runtime.memGetInfo()
    return total - free


class Step:
    """Forward and backward of the unrolled network.

    Parameters
    ----------
    problem : dict
        Of ``problems.step_problem``.
    known_crops : bool
        Crops at the true centres.
    budget : float, optional
        Bytes that the engine may plan with; see ``DagNN.eval``.
    device : 'cpu' or 'gpu'
    graph : bool
        As one CUDA graph.

    Raises
    ------
    RuntimeError
        If it cannot be captured.
    """

    def __init__(
        self,
        problem: Mapping[str, Any],
        known_crops: bool = False,
        budget: float | None = None,
        device: str = "cpu",
        graph: bool = False,
    ):
        settings = dict(problem["size"])
        branch = siamfc_branch(settings.pop("channels"))
        if known_crops:
            settings |= {"crops": GROUND_TRUTH, "crop_gradient": "none"}
        self.net = build_unrolled(branch, UnrolledSettings(**settings))
        for parameter in self.net.params:
            parameter.value = problem["params"][parameter.name].copy()
        self.net.move(device)
        clip = Clip(problem["clip"]["frames"], problem["clip"]["boxes"])
        self.batch = clip_batch(self.net, [clip], np.dtype(problem["dtype"]))
        self.ders = dict.fromkeys(objectives(self.net), 1)
        self.options = {} if budget is None else {"memory_budget": budget}
        self.graphs = StepGraphs() if graph else None
        if graph:
            for _ in range(RUNS_BEFORE_LAUNCH):
                self.run()
            if self.graphs.failure is not None:
                raise RuntimeError(f"the step cannot be captured: {self.graphs.failure}")

    def run(self) -> None:
        """One step."""
        arrays = list(self.batch.inputs.values())
        if self.graphs is None:
            self._evaluate(arrays)
        else:
            self.graphs.run("step", arrays, self._evaluate, [p.value for p in self.net.params])

    def _evaluate(self, arrays: Sequence[Any]) -> None:
        inputs = dict(zip(self.batch.inputs, arrays))
        self.net.eval(inputs, self.ders, late_inputs=self.batch.late_inputs, **self.options)

    def results(self) -> dict[str, np.ndarray]:
        """Responses, losses, figures and positions of the step, and every derivative."""
        net = self.net
        frames = range(1, net.meta["unrolled"]["frames"] + 1)

        def values(name: str) -> np.ndarray:
            return np.stack([asnumpy(net.get_var(f"{name}{t}").value) for t in frames])

        found = {"score": values("score")[:, 0, 0], "loss": values("objective")}
        found["center"] = values("center")[:, 0]
        found["errors"] = np.stack([values("errdisp"), values("errmax")], axis=1)
        return found | {f"der {p.name}": asnumpy(p.der) for p in net.params}

    def plan(self) -> str:
        """What the engine makes of the network, in words."""
        return str(self._plan())

    def expected_bytes(self) -> float:
        """The memory that the engine expects values, derivatives and the like to take."""
        return self._plan().peak_bytes

    def traffic(self) -> float:
        """Bytes that the layers read and write at least: see ``traffic``."""
        return traffic(self.net, self._plan(), self._input_sizes(), backward=True)

    def profile(self, runs: int) -> list[LayerTime]:
        """Times of the step's layers on the GPU: see ``profiling.layer_times``."""
        return layer_times(self.net, self.run, runs)

    def _plan(self) -> Plan:
        return self.net.plan(input_sizes=self._input_sizes(), **self.options)

    def _input_sizes(self) -> dict[str, tuple[int, ...]]:
        inputs = self.batch.inputs
        return {name: value.shape for name, value in inputs.items() if value.ndim == 4}


class Track:
    """One frame of DSiamM, whose V and W were learned in the frame before.

    Parameters
    ----------
    problem : dict
        Of ``problems.track_problem``.
    device : 'cpu' or 'gpu'
    followed : int
        Targets in one batch, all with the same patches.
    on_card : bool
        Patches are in the memory of the GPU from the start.
    """

    def __init__(
        self,
        problem: Mapping[str, Any],
        device: str = "cpu",
        followed: int = 1,
        on_card: bool = False,
    ):
        size = problem["size"]
        branch = siamfc_branch(size["channels"])
        source = build_unrolled(branch, UnrolledSettings(**{**_known(size), "frames": 1}))
        for parameter in source.params:
            parameter.value = problem["params"][parameter.name].copy()
        settings = get_preset(
            "released", exemplar_size=size["exemplar_size"], instance_size=size["search_size"]
        )
        net = TrackingNet(source, size["features"], settings, device)
        self.nets = [net, *(net.sibling() for _ in range(1, followed))]
        patches = problem["patches"]
        for one in self.nets:
            one.set_template(patches["template"])
        if on_card:
            patches = {name: to_device(values, device) for name, values in patches.items()}
        self.scales, self.target, self.regions = (
            [patches[name]] * followed for name in ("scales", "target", "regions")
        )
        self._learn()

    def run(self) -> None:
        """One frame: the responses of the scales, then V and W of the new position."""
        self.responses = respond_together(self.nets, self.scales)
        self._learn()

    def _learn(self) -> None:
        learn_together(self.nets, self.target, self.regions)

    def traffic(self) -> float:
        """Bytes that the layers read and write at least: see ``traffic``."""
        total = 0.0
        for net in (self.nets[0].search, self.nets[0].branch):
            given = {v.name: v.value.shape for v in net.vars if not v.fanin and v.value is not None}
            total += traffic(net, net.plan(input_sizes=given), given, backward=False)
        return total

    def results(self) -> dict[str, np.ndarray]:
        """The responses (targets * scales, h, w)."""
        return {"score": np.concatenate(self.responses)}


def traffic(net: DagNN, plan: Plan, given: Mapping[str, Sequence[int]], backward: bool) -> float:
    """Bytes that the units of a plan read and write at least, in single precision.

    Forward a unit reads its inputs and parameters and writes its outputs; backward it reads
    inputs, parameters and the derivatives by its outputs, and writes those by parameters and by
    inputs that were computed. What stays in the caches in between would be less. ``given`` has
    the sizes of inputs.
    """
    sizes = net.get_var_sizes(given)

    def count(places: Sequence[int], computed: bool = False) -> float:
        chosen = [net.vars[v] for v in places if net.vars[v].fanin or not computed]
        return float(np.nansum([sizes[variable.name].count for variable in chosen]))

    total = 0.0
    for unit in plan.units:
        params = sum(net.params[p].value.size for p in unit.params)
        total += count(unit.inputs) + params + count(unit.outputs)
        if backward:
            total += count(unit.inputs) + params + count(unit.outputs)
            total += count(unit.inputs, computed=True) + params
    return 4 * total


def _known(size: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in size.items() if name != "channels"}
