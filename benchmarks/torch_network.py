"""DSiam in PyTorch, as somebody who has autograd would write it: this project is timed against it.

The same network as ``dsiam_net.unrolled`` with SiamFC's branch and two feature layers, one clip at
a time. Where the layers of the paper leave a choice, the faster way for PyTorch is taken:

* The template's features and their spectrum are computed once, and so are the two equal search
  regions of the first frame.
* A transformation stays in the Fourier domain between RLR and CirConv.
* ReLU works in place; nothing is computed that the losses do not need.
* On a GPU nothing makes the host wait for it, so that a step can be captured as a CUDA graph.

The derivative of a crop by the response before it is a definition (``layers.Crop``, mode
``pool``), so it is written as an ``autograd.Function``. Nothing here imports this project.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

EPSILON = 1e-4  # of the batch norms: siamese-fc's
MOMENTUM = 0.05  # of their running moments: siamese-fc's rate of bn?x
POSITIVE_CELLS = 2.0  # radius of the positive labels
# Of conv1 to conv5.
STRIDES, GROUPS = (2, 1, 1, 1, 1), (1, 2, 1, 2, 2)
POOLED = (1, 2)  # stages that end in max-pooling
LEVELS = (1, 2)  # conv5 and relu4
# What ``torch.compile`` is given, each by itself: as one, the 40 branches of a step would be
# compiled 40 times.
COMPILED = ("features", "learn_filters", "respond", "locate", "crop", "labels", "loss", "errors")


class Filters(NamedTuple):
    """The spectra of V and W of one frame, a pair for each feature layer."""

    v: list[torch.Tensor]
    w: list[torch.Tensor]


class PeakGradient(torch.autograd.Function):
    """The patch as it is; its derivative, summed, goes to the peak of the response."""

    @staticmethod
    def forward(ctx, scores, patch, peak):
        ctx.save_for_backward(peak)
        ctx.shape = scores.shape
        return patch.view_as(patch)

    @staticmethod
    def backward(ctx, der_patch):
        (peak,) = ctx.saved_tensors
        # By scatter: an index of tensors without axes is read by the host.
        cell = (peak[0] * ctx.shape[3] + peak[1]).reshape(1)
        flat = der_patch.new_zeros(ctx.shape[2] * ctx.shape[3])
        return flat.scatter(0, cell, der_patch.sum().reshape(1)).view(ctx.shape), None, None


class TorchDSiam:
    """The network and its 33 parameters.

    Parameters
    ----------
    params : dict of name to NumPy array
        With the names of ``dsiam_net.unrolled``; ``bn?x`` holds ``[mean, sigma]``.
    geometry : dict
        ``exemplar_size``, ``search_size``, ``stride``, ``map_size`` and ``mask``, an array.
    crop_gradient : 'pool' or 'none'
    channels_last : bool
        Memory format of images, features and filters.
    dtype : torch.float32 or torch.float64
    device : 'cpu' or 'cuda'
    """

    def __init__(
        self,
        params: Mapping[str, np.ndarray],
        geometry: Mapping[str, Any],
        crop_gradient: str = "pool",
        channels_last: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ):
        self.dtype, self.device = dtype, torch.device(device)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.crop_gradient = crop_gradient
        self.exemplar_size = geometry["exemplar_size"]
        self.search_size = geometry["search_size"]
        self.stride = geometry["stride"]
        self.map_size = tuple(geometry["map_size"])
        self.mask = self.tensor(geometry["mask"])
        # Of the response map: its middle, and its last cell.
        self.middle = self.tensor([(side - 1) / 2 for side in self.map_size])
        self.last_cell = torch.tensor([side - 1 for side in self.map_size], device=self.device)
        self.params: dict[str, torch.Tensor] = {}
        self.running: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for name, value in params.items():
            if name.startswith("bn") and name.endswith("x"):
                mean, sigma = self.tensor(value).unbind(1)
                self.running[int(name[2])] = mean.clone(), sigma**2 - EPSILON
            else:
                self.params[name] = self.tensor(value).requires_grad_()
        # Set to a dict, it collects the moments of the batch norms (for checks, never timed).
        self.observed: dict[str, torch.Tensor] | None = None
        self._windows: dict[tuple[int, int], torch.Tensor] = {}

    def tensor(self, array: Any) -> torch.Tensor:
        """An array as a tensor of its own in this network's type and, with 4 axes, format."""
        tensor = torch.tensor(np.asarray(array), dtype=self.dtype, device=self.device)
        return tensor.contiguous(memory_format=self.format) if tensor.ndim == 4 else tensor

    def zero_grad(self) -> None:
        """Forget the derivatives of the step before."""
        for parameter in self.params.values():
            parameter.grad = None

    def compiled(self) -> TorchDSiam:
        """The same network, with the same parameters, whose parts ``torch.compile`` compiles."""
        other = copy.copy(self)
        for name in COMPILED:
            # Every size has code of its own: no sizes but a few come.
            setattr(other, name, torch.compile(getattr(self, name), dynamic=False))
        return other

    # Branch

    def features(
        self, images: torch.Tensor, training: bool = True, uses: Sequence[int] = (1,)
    ) -> list[torch.Tensor]:
        """Features of conv5 and of relu4, of images (N, 3, S, S).

        In training every image has its own batch norm's moments, as each branch of the unrolled
        network has. ``uses`` is how often each image's branch stands in the unrolled network.
        """
        x = images.contiguous(memory_format=self.format)
        for i in range(1, 5):
            x = F.relu(self._norm(i, self._conv(i, x), training, uses), inplace=True)
            if i in POOLED:
                x = F.max_pool2d(x, 3, 2)
        return [self._conv(5, x), x]

    def _conv(self, i: int, x: torch.Tensor) -> torch.Tensor:
        filters, biases = self.params[f"conv{i}f"], self.params[f"conv{i}b"]
        return F.conv2d(x, filters, biases, stride=STRIDES[i - 1], groups=GROUPS[i - 1])

    def _norm(self, i: int, x: torch.Tensor, training: bool, uses: Sequence[int]) -> torch.Tensor:
        mean, variance = self.running[i]
        scale, shift = self.params[f"bn{i}m"], self.params[f"bn{i}b"]
        if self.observed is not None:
            self._observe(i, x, uses)
        if training and len(x) > 1:
            # Autograd keeps the running moments of instance norm and refuses to see them change
            # from one frame to the next, so here they are left out.
            return F.instance_norm(x, weight=scale, bias=shift, eps=EPSILON)
        return F.batch_norm(x, mean, variance, scale, shift, training, MOMENTUM, EPSILON)

    @torch.no_grad()
    def _observe(self, i: int, x: torch.Tensor, uses: Sequence[int]) -> None:
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0)
        moments = torch.stack([mean, (variance + EPSILON).sqrt()], dim=2)
        total = (moments * x.new_tensor(uses)[:, None, None]).sum(dim=0)
        self.observed[f"bn{i}x"] = self.observed.get(f"bn{i}x", 0) + total

    # Head

    def window(self, plane: torch.Tensor) -> torch.Tensor:
        """``hann(h) hann(w)^T`` of the planes of a feature."""
        h, w = plane.shape[-2:]
        if (h, w) not in self._windows:
            window = np.outer(np.hanning(h), np.hanning(w))
            self._windows[h, w] = torch.tensor(window, dtype=self.dtype, device=self.device)
        return self._windows[h, w]

    def spectrum(self, x: torch.Tensor) -> torch.Tensor:
        """Half spectrum of the windowed planes."""
        return torch.fft.rfft2(self.window(x) * x)

    def learn(self, role: str, level: int, xh: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """RLR: spectrum of the filter that turns the feature of spectrum ``xh`` into ``y``."""
        name = f"{role}_lambda" if level == 1 else f"{role}1_lambda"
        n = y.shape[-2] * y.shape[-1]
        power = xh.real**2 + xh.imag**2
        return xh.conj() * self.spectrum(y) / (power + n * self.params[name])

    def transform(
        self, which: int, level: int, x: torch.Tensor, xh: torch.Tensor, filter_: torch.Tensor
    ) -> torch.Tensor:
        """CirConv: a share of the feature ``x`` (spectrum ``xh``) filtered, the rest as it is."""
        lr = self.params[f"cir{level}{which}_lr"]
        return (1 - lr) * x + lr * torch.fft.irfft2(filter_ * xh, s=x.shape[-2:])

    def respond(
        self,
        template: Sequence[torch.Tensor],
        spectra: Sequence[torch.Tensor],
        search: Sequence[torch.Tensor],
        filters: Filters,
    ) -> torch.Tensor:
        """The response maps (N, 1, h, w): CirConv, XCorr, Elefusion and adjust.

        Of several targets, template and filters have K samples and ``search`` the regions of the
        first target, then those of the second, and so on.
        """
        maps = []
        for level in LEVELS:
            i = level - 1
            z = self.transform(1, level, template[i], spectra[i], filters.v[i])
            w = filters.w[i]
            if len(w) > 1:
                w = w.repeat_interleave(len(search[i]) // len(w), dim=0)
            x = self.transform(2, level, search[i], self.spectrum(search[i]), w)
            maps.append(self.correlate(z, x))
        p = self.params
        fused = p["sumweights"] * maps[0] + (1 - p["sumweights"]) * maps[1]
        return p["adjust_f"] * fused + p["adjust_b"]

    def correlate(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """XCorr of templates (K, C, h, w), each with its own N / K regions of ``x`` (N, C, H, W)"""
        if len(z) == 1:
            return F.conv2d(x, z)
        n, c, *size = x.shape
        each = n // len(z)
        grouped = x.reshape(len(z), each, c, *size).transpose(0, 1).reshape(each, -1, *size)
        maps = F.conv2d(grouped, z, groups=len(z)).transpose(0, 1)
        return maps.reshape(n, 1, *maps.shape[2:])

    def learn_filters(
        self,
        spectra: Sequence[torch.Tensor],
        target: Sequence[torch.Tensor],
        region: Sequence[torch.Tensor],
        masked: Sequence[torch.Tensor],
    ) -> Filters:
        """V from the template to the target now, W from the region to the masked region."""
        return Filters(
            [self.learn("v", i, spectra[i - 1], target[i - 1]) for i in LEVELS],
            [self.learn("w", i, self.spectrum(region[i - 1]), masked[i - 1]) for i in LEVELS],
        )

    # Crops, labels and losses

    @torch.no_grad()
    def locate(
        self, scores: torch.Tensor, center: torch.Tensor, search_side: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Position of the peak in frame pixels, and its cell; ties as MATLAB has them."""
        height = scores.shape[2]
        index = scores[0, 0].T.reshape(-1).argmax()
        peak = torch.stack([index % height, index // height])
        cell = search_side * (self.stride / self.search_size)
        return center + (peak.to(self.dtype) - self.middle) * cell, peak

    @torch.no_grad()
    def crop(
        self,
        image: torch.Tensor,
        color: torch.Tensor,
        center: torch.Tensor,
        side: torch.Tensor,
        size: int,
    ) -> torch.Tensor:
        """Bilinear samples (1, 3, size, size) of a square of a frame (3, H, W)."""
        color = color[:, None, None]
        steps = torch.arange(size, dtype=self.dtype, device=self.device) - (size - 1) / 2
        taps = []
        for axis, length in enumerate(image.shape[1:]):
            position = center[axis] + steps * (side / size)
            low = position.floor()
            fraction = position - low
            inside = [((cell >= 0) & (cell < length)).to(self.dtype) for cell in (low, low + 1)]
            cells = [cell.clamp(0, length - 1).long() for cell in (low, low + 1)]
            taps.append(list(zip(cells, ((1 - fraction) * inside[0], fraction * inside[1]))))
        rows, columns = taps
        lines = sum((image[:, cell] - color) * weight[:, None] for cell, weight in rows)
        patch = sum(lines[:, :, cell] * weight for cell, weight in columns)
        return (patch + color)[None]

    @torch.no_grad()
    def labels(
        self, true: torch.Tensor, center: torch.Tensor, search_side: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A map of +1 near the target and -1 elsewhere, and the target's cell, unrounded."""
        scale = self.search_size / (self.stride * search_side)
        target = self.middle + (true - center) * scale
        rows, columns = (
            torch.arange(side, dtype=torch.float64, device=self.device) for side in self.map_size
        )
        distance = torch.hypot(rows[:, None] - target[0], columns[None, :] - target[1])
        return torch.where(distance <= POSITIVE_CELLS, 1, -1).to(self.dtype), target

    def loss(self, scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Logistic loss; each sign has half of the weight."""
        positive = label > 0
        wanted = positive.to(self.dtype)
        count = wanted.sum()
        shares = [0.5 / c.clamp(min=1) for c in (count, label.numel() - count)]
        weights = torch.where(positive, *shares)
        return F.binary_cross_entropy_with_logits(scores[0, 0], wanted, weights, reduction="sum")

    @torch.no_grad()
    def errors(
        self, scores: torch.Tensor, label: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """SiamFC's two figures of a response, as the unrolled network's ``errdisp``, ``errmax``."""
        plane = scores[0, 0]
        height, width = plane.shape
        cell = (target + 0.5).floor().long().clamp(min=0).minimum(self.last_cell)
        index = plane.T.reshape(-1).argmax()
        distance = torch.hypot(
            (index % height - cell[0]).double(), (index // height - cell[1]).double()
        )
        limits = torch.linspace(0, 50 / self.stride, 100, dtype=torch.float64, device=self.device)
        missed = (distance > limits).double()
        # Both cases are computed, so that the host need not know which one it is.
        present = (label > 0).any()
        wrong = torch.where(present, plane.take(cell[0] * width + cell[1]) <= 0, plane.max() >= 0)
        return torch.where(present, torch.trapezoid(missed), 0.0), wrong.to(plane.dtype)

    # The works

    def clip(self, inputs: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """A clip's arrays as tensors.

        Parameters
        ----------
        inputs : dict of arrays
            ``frames`` (T, 3, H, W), ``true`` (T, 2) the true centres, ``template``, ``score0``,
            ``center0`` (2,), ``sides`` (2,), ``color`` (3,).
        """
        clip = {name: self.tensor(value) for name, value in inputs.items()}
        clip["frames"] = clip["frames"].contiguous()
        return clip

    def forward(self, clip: Mapping[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """The unrolled network, frame after frame: ``score``, ``loss``, ``center``, ``errors``."""
        frames = clip["frames"]
        template = self.features(clip["template"], uses=[len(frames)])
        spectra = [self.spectrum(x) for x in template]
        scores, center = clip["score0"], clip["center0"]
        side_z, side_x = clip["sides"]
        results: dict[str, list] = {"score": [], "loss": [], "center": [], "errors": []}
        for t, frame in enumerate(frames):
            center, peak = self.locate(scores, center, side_x)
            previous = frames[max(t - 1, 0)]
            crops = [(previous, side_z, self.exemplar_size), (previous, side_x, self.search_size)]
            if t:
                crops.append((frame, side_x, self.search_size))
            patches = [self.crop(f, clip["color"], center, side, n) for f, side, n in crops]
            if t and self.crop_gradient == "pool":
                patches = [PeakGradient.apply(scores, patch, peak) for patch in patches]
            target = self.features(patches[0])
            # In the first frame the region learned from and the one searched are the same.
            region = self.features(patches[1], uses=[1 if t else 2])
            masked = self.features(patches[1] * self.mask)
            search = self.features(patches[2]) if t else region
            filters = self.learn_filters(spectra, target, region, masked)
            scores = self.respond(template, spectra, search, filters)
            self._judge(results, scores, center, clip, t)
        return results

    def forward_known(
        self, clip: Mapping[str, torch.Tensor], centers: torch.Tensor, batch: int
    ) -> dict[str, list[torch.Tensor]]:
        """The unrolled network with crops around ``centers`` (T, 2), known beforehand.

        All branches of a size run in batches of ``batch`` images.
        """
        frames, color = clip["frames"], clip["color"]
        side_z, side_x = clip["sides"]
        before = [frames[max(t - 1, 0)] for t in range(len(frames))]
        small = [clip["template"]] + [
            self.crop(frame, color, center, side_z, self.exemplar_size)
            for frame, center in zip(before, centers)
        ]
        regions = [
            self.crop(frame, color, center, side_x, self.search_size)
            for frame, center in zip(before, centers)
        ]
        searched = [
            self.crop(frame, color, center, side_x, self.search_size)
            for frame, center in zip(frames[1:], centers[1:])
        ]
        large = torch.cat([*regions, *(region * self.mask for region in regions), *searched])
        count = len(frames)
        template, *targets = self._in_batches(torch.cat(small), batch, [count] + [1] * count)
        features = self._in_batches(large, batch, [2] + [1] * (len(large) - 1))
        regions, masked = features[:count], features[count : 2 * count]
        # The first frame's region is searched too.
        searched = [regions[0], *features[2 * count :]]
        spectra = [self.spectrum(x) for x in template]
        results: dict[str, list] = {"score": [], "loss": [], "center": [], "errors": []}
        for t, center in enumerate(centers):
            filters = self.learn_filters(spectra, targets[t], regions[t], masked[t])
            scores = self.respond(template, spectra, searched[t], filters)
            self._judge(results, scores, center, clip, t)
        return results

    def _in_batches(
        self, images: torch.Tensor, batch: int, uses: Sequence[int]
    ) -> list[list[torch.Tensor]]:
        """Features of each image, computed ``batch`` images at a time."""
        found = []
        for first in range(0, len(images), batch):
            part = slice(first, first + batch)
            features = self.features(images[part], uses=uses[part])
            found += zip(*(x.split(1) for x in features))
        return [list(pair) for pair in found]

    def _judge(
        self,
        results: dict[str, list],
        scores: torch.Tensor,
        center: torch.Tensor,
        clip: Mapping[str, torch.Tensor],
        t: int,
    ) -> None:
        label, target = self.labels(clip["true"][t], center, clip["sides"][1])
        results["score"].append(scores)
        results["center"].append(center)
        results["loss"].append(self.loss(scores, label))
        results["errors"].append(self.errors(scores, label, target))

    @torch.inference_mode()
    def track(
        self,
        template: Sequence[torch.Tensor],
        filters: Filters,
        patches: torch.Tensor,
        target: torch.Tensor,
        regions: torch.Tensor,
    ) -> tuple[torch.Tensor, Filters]:
        """One frame of DSiamM: responses of the scales, then V and W of the new position.

        Parameters
        ----------
        template : features of the first frame's K targets
        filters : what was learned in the frame before
        patches : tensor (K * scales, 3, S, S)
        target : tensor (K, 3, s, s)
        regions : tensor (2 K, 3, S, S)
            All surroundings, and the same without their background.
        """
        spectra = [self.spectrum(x) for x in template]
        search = self.features(patches, training=False)
        scores = self.respond(template, spectra, search, filters)
        both = self.features(regions, training=False)
        count = len(target)
        learned = self.learn_filters(
            spectra,
            self.features(target, training=False),
            [x[:count] for x in both],
            [x[count:] for x in both],
        )
        return scores, learned
