"""PyTorch's side of a benchmark. It imports nothing of this project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from torch_network import TorchDSiam


def _network(problem: Mapping[str, Any], channels_last: bool) -> TorchDSiam:
    return TorchDSiam(
        problem["params"],
        problem["geometry"],
        problem["size"]["crop_gradient"],
        channels_last,
        getattr(torch, problem["dtype"]),
    )


class Step:
    """Forward and backward of the unrolled network; see ``ours.Step``.

    Parameters
    ----------
    problem : dict
        Of ``problems.step_problem``.
    channels_last : bool
    known_crops : bool
        Crops at the centres ``problem['crop_centers']`` (T, 2), in batches of ``batch`` images.
    batch : int
    """

    def __init__(
        self,
        problem: Mapping[str, Any],
        channels_last: bool = False,
        known_crops: bool = False,
        batch: int = 1,
    ):
        self.net = _network(problem, channels_last)
        self.inputs = self.net.clip(problem["inputs"])
        self.batch = batch
        self.centers = self.net.tensor(problem["crop_centers"]) if known_crops else None

    def run(self) -> None:
        """One step."""
        self.net.zero_grad()
        if self.centers is None:
            found = self.net.forward(self.inputs)
        else:
            found = self.net.forward_known(self.inputs, self.centers, self.batch)
        torch.stack(found["loss"]).sum().backward()
        # What autograd kept is freed with the step, as in a training loop.
        self.found = {
            name: [torch.stack(v) if isinstance(v, tuple) else v.detach() for v in values]
            for name, values in found.items()
        }

    def results(self) -> dict[str, np.ndarray]:
        """As ``ours.Step.results``; runs the step once more, to see the moments."""
        self.net.observed = {}
        self.run()
        found = {name: torch.stack(values).numpy() for name, values in self.found.items()}
        found["score"] = found["score"][:, 0, 0]
        ders = {name: p.grad for name, p in self.net.params.items()} | self.net.observed
        self.net.observed = None
        return found | {f"der {name}": der.contiguous().numpy() for name, der in ders.items()}


class Track:
    """One frame of DSiamM; see ``ours.Track``."""

    def __init__(self, problem: Mapping[str, Any], channels_last: bool = False):
        self.net = net = _network(problem, channels_last)
        patches = problem["patches"]
        template, self.target = (net.tensor(patches[n][None]) for n in ("template", "target"))
        self.scales, self.regions = (net.tensor(patches[name]) for name in ("scales", "regions"))
        with torch.inference_mode():
            self.template = net.features(template, training=False)
            both = net.features(self.regions, training=False)
            self.filters = net.learn_filters(
                [net.spectrum(x) for x in self.template],
                net.features(self.target, training=False),
                [x[:1] for x in both],
                [x[1:] for x in both],
            )

    def run(self) -> None:
        """One frame: the responses of the scales, then V and W of the new position."""
        self.scores, self.filters = self.net.track(
            self.template, self.filters, self.scales, self.target, self.regions
        )

    def results(self) -> dict[str, np.ndarray]:
        """The responses (scales, h, w)."""
        return {"score": self.scores[:, 0].numpy()}
