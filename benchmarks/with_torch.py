"""PyTorch's side of a benchmark. It imports nothing of this project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from torch_network import TorchDSiam

# PyTorch's names of the devices.
DEVICES = {"cpu": "cpu", "gpu": "cuda"}
# Runs before a capture: they make plans, choose algorithms, and compile.
RUNS_BEFORE_CAPTURE = 3


def prepare(device: str, tf32: bool) -> None:
    """Make the device ready, with products of single precision in TF32 or not.

    Raises
    ------
    RuntimeError
        If PyTorch has no such device.
    """
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no GPU that it can use")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    # The fastest algorithm for each size, found out in the first runs.
    torch.backends.cudnn.benchmark = True


def wait(device: str) -> None:
    """Return when the device has nothing left to do."""
    if device != "cpu":
        torch.cuda.synchronize()


def card_taken(device: str) -> int:
    """Bytes of the GPU that are taken, by whomever; 0 on the CPU."""
    if device == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def describe() -> dict[str, object]:
    """Versions of what PyTorch computes with on the GPU."""
    return {
        "PyTorch's CUDA": torch.version.cuda,
        "PyTorch's cuDNN": torch.backends.cudnn.version(),
    }


def capture(function: Callable[[], None]) -> Callable[[], None]:
    """A function as a CUDA graph: what it launches is recorded, and launched by each call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(RUNS_BEFORE_CAPTURE):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def _network(problem: Mapping[str, Any], channels_last: bool, device: str) -> TorchDSiam:
    return TorchDSiam(
        problem["params"],
        problem["geometry"],
        problem["size"]["crop_gradient"],
        channels_last,
        getattr(torch, problem["dtype"]),
        DEVICES[device],
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
    device : 'cpu' or 'gpu'
    compiled : bool
        By ``torch.compile``.
    graph : bool
        As one CUDA graph.
    """

    def __init__(
        self,
        problem: Mapping[str, Any],
        channels_last: bool = False,
        known_crops: bool = False,
        batch: int = 1,
        device: str = "cpu",
        compiled: bool = False,
        graph: bool = False,
    ):
        self.net = _network(problem, channels_last, device)
        self.inputs = self.net.clip(problem["inputs"])
        self.batch = batch
        self.centers = self.net.tensor(problem["crop_centers"]) if known_crops else None
        running = self.net
        if compiled:
            # Once as it is, so that what is made at the first use is not made while compiling.
            self._step(self.net)
            running = self.net.compiled()
        self.run = lambda: self._step(running)
        if graph:
            self.run = capture(self.run)

    def _step(self, net: TorchDSiam) -> None:
        net.zero_grad()
        found = self._forward(net)
        torch.stack(found["loss"]).sum().backward()
        # What autograd kept is freed with the step, as in a training loop.
        self.found = {
            name: [torch.stack(v) if isinstance(v, tuple) else v.detach() for v in values]
            for name, values in found.items()
        }
        self.grads = {name: p.grad for name, p in net.params.items()}

    def _forward(self, net: TorchDSiam) -> dict[str, list]:
        if self.centers is None:
            return net.forward(self.inputs)
        return net.forward_known(self.inputs, self.centers, self.batch)

    def results(self) -> dict[str, np.ndarray]:
        """As ``ours.Step.results``; runs forward once more, to see the moments."""
        found = {name: torch.stack(values) for name, values in self.found.items()}
        found["score"] = found["score"][:, 0, 0]
        self.net.observed = {}
        with torch.no_grad():
            self._forward(self.net)
        ders, self.net.observed = self.grads | self.net.observed, None
        found |= {f"der {name}": der.contiguous() for name, der in ders.items()}
        return {name: value.cpu().numpy() for name, value in found.items()}


class Track:
    """One frame of DSiamM, of one target or of several; see ``ours.Track``."""

    def __init__(
        self,
        problem: Mapping[str, Any],
        channels_last: bool = False,
        device: str = "cpu",
        followed: int = 1,
        on_card: bool = False,
        compiled: bool = False,
        graph: bool = False,
    ):
        net = _network(problem, channels_last, device)
        patches = problem["patches"]
        regions = np.repeat(patches["regions"], followed, axis=0)
        self.host = {
            "scales": torch.tensor(np.tile(patches["scales"], (followed, 1, 1, 1))),
            "target": torch.tensor(np.stack([patches["target"]] * followed)),
            "regions": torch.tensor(regions),
        }
        self.patches = {name: net.tensor(values) for name, values in self.host.items()}
        self.uploads = device != "cpu" and not on_card
        if self.uploads:
            self.host = {name: values.pin_memory() for name, values in self.host.items()}
        template = net.tensor(np.stack([patches["template"]] * followed))
        with torch.inference_mode():
            self.template = net.features(template, training=False)
            both = net.features(self.patches["regions"], training=False)
            self.filters = net.learn_filters(
                [net.spectrum(x) for x in self.template],
                net.features(self.patches["target"], training=False),
                [x[:followed] for x in both],
                [x[followed:] for x in both],
            )
        if compiled:
            net = net.compiled()
        self.in_place = graph
        self._evaluate = lambda: self._frame(net)
        if graph:
            self._evaluate = capture(self._evaluate)

    @torch.inference_mode()
    def _frame(self, net: TorchDSiam) -> None:
        self.scores, learned = net.track(self.template, self.filters, *self.patches.values())
        if not self.in_place:
            self.filters = learned
            return
        # A graph reads in the next frame what it wrote, in the same place, in this one.
        for before, after in zip(self.filters, learned):
            for old, new in zip(before, after):
                old.copy_(new)

    def run(self) -> None:
        """One frame: the responses of the scales, in main memory, then V and W."""
        if self.uploads:
            for name, values in self.host.items():
                self.patches[name].copy_(values, non_blocking=True)
        self._evaluate()
        self.found = self.scores.cpu()

    def results(self) -> dict[str, np.ndarray]:
        """The responses (targets * scales, h, w)."""
        return {"score": self.found[:, 0].numpy()}
