"""This project's side of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dagnet.plan import Plan
from dsiam_net.branches import siamfc_branch
from dsiam_net.clips import Clip
from dsiam_net.settings import get_preset
from dsiam_net.tracking_net import TrackingNet
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import GROUND_TRUTH, UnrolledSettings, build_unrolled, objectives


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
    """

    def __init__(
        self, problem: Mapping[str, Any], known_crops: bool = False, budget: float | None = None
    ):
        settings = dict(problem["size"])
        branch = siamfc_branch(settings.pop("channels"))
        if known_crops:
            settings |= {"crops": GROUND_TRUTH, "crop_gradient": "none"}
        self.net = build_unrolled(branch, UnrolledSettings(**settings))
        for parameter in self.net.params:
            parameter.value = problem["params"][parameter.name].copy()
        clip = Clip(problem["clip"]["frames"], problem["clip"]["boxes"])
        self.batch = clip_batch(self.net, [clip], np.dtype(problem["dtype"]))
        self.ders = dict.fromkeys(objectives(self.net), 1)
        self.options = {} if budget is None else {"memory_budget": budget}

    def run(self) -> None:
        """One step."""
        self.net.eval(
            self.batch.inputs, self.ders, late_inputs=self.batch.late_inputs, **self.options
        )

    def results(self) -> dict[str, np.ndarray]:
        """Responses, losses, figures and positions of the step, and every derivative."""
        net = self.net
        frames = range(1, net.meta["unrolled"]["frames"] + 1)

        def values(name: str) -> np.ndarray:
            return np.stack([np.asarray(net.get_var(f"{name}{t}").value) for t in frames])

        found = {"score": values("score")[:, 0, 0], "loss": values("objective")}
        found["center"] = values("center")[:, 0]
        found["errors"] = np.stack([values("errdisp"), values("errmax")], axis=1)
        return found | {f"der {p.name}": np.asarray(p.der) for p in net.params}

    def plan(self) -> str:
        """What the engine makes of the network, in words."""
        return str(self._plan())

    def expected_bytes(self) -> float:
        """The memory that the engine expects values, derivatives and the like to take."""
        return self._plan().peak_bytes

    def _plan(self) -> Plan:
        sizes = {name: value.shape for name, value in self.batch.inputs.items() if value.ndim == 4}
        return self.net.plan(input_sizes=sizes, **self.options)


class Track:
    """One frame of DSiamM, whose V and W were learned in the frame before."""

    def __init__(self, problem: Mapping[str, Any]):
        size = problem["size"]
        branch = siamfc_branch(size["channels"])
        source = build_unrolled(branch, UnrolledSettings(**{**_known(size), "frames": 1}))
        for parameter in source.params:
            parameter.value = problem["params"][parameter.name].copy()
        settings = get_preset(
            "released", exemplar_size=size["exemplar_size"], instance_size=size["search_size"]
        )
        self.net = TrackingNet(source, size["features"], settings)
        self.patches = problem["patches"]
        self.net.set_template(self.patches["template"])
        self._learn()

    def run(self) -> None:
        """One frame: the responses of the scales, then V and W of the new position."""
        self.responses = self.net.respond(self.patches["scales"])
        self._learn()

    def _learn(self) -> None:
        self.net.learn(self.patches["target"], self.patches["regions"])

    def results(self) -> dict[str, np.ndarray]:
        """The responses (scales, h, w)."""
        return {"score": self.responses}


def _known(size: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in size.items() if name != "channels"}
