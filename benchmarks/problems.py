"""What both sides of a benchmark are given: sizes, parameters and inputs, as plain containers.

A problem is a dict of numbers and arrays, so that a process which runs PyTorch need not import
this project, nor the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dagnet import DagNN
from dsiam_net.boxes import box_to_center
from dsiam_net.branches import INPUT, cast_params, siamfc_branch
from dsiam_net.clips import Clip
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.training import clip_batch, observe_moments
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from layers import Crop, background_mask

SCALES = (1.0375**-1, 1.0, 1.0375)  # of a tracked frame's three search regions
GIGA = 1e9


@dataclass(frozen=True)
class Size:
    """Sizes of an unrolled network.

    Attributes
    ----------
    frames : int
    channels : tuple of int
        Of conv1 to conv5.
    exemplar_size, search_size : int
        Sides of the crops, pixels.
    crop_gradient : 'pool' or 'none'
    features : tuple of str
        Feature layers, outermost first.
    """

    frames: int = 10
    channels: tuple[int, ...] = (96, 256, 384, 384, 256)
    exemplar_size: int = 127
    search_size: int = 255
    crop_gradient: str = "pool"
    features: tuple[str, ...] = ("feat", "x14")

    def settings(self, **changes: Any) -> UnrolledSettings:
        """Settings of the unrolled network, with ``changes``."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "channels"}
        return UnrolledSettings(**own | changes)


FULL = Size()
# 940 layers whose arithmetic hardly takes time.
SMALL = Size(channels=(2, 4, 4, 4, 2), exemplar_size=87, search_size=103)


def make_net(size: Size, seed: int = 0, dtype: Any = np.float32, **changes: Any) -> DagNN:
    """The unrolled network with random filters."""
    branch = siamfc_branch(size.channels)
    branch.init_params(np.random.default_rng(seed))
    net = build_unrolled(branch, size.settings(**changes))
    cast_params(net, dtype)
    return net


def make_clip(frames: int, seed: int = 0) -> Clip:
    """A generated clip; without photographs, so that it is the same everywhere."""
    return SyntheticVideos(seed=seed, length=frames, photographs=False).clip(0, 0)


def step_problem(net: DagNN, size: Size, clip: Clip, dtype: Any = np.float32) -> dict[str, Any]:
    """Forward and backward of an unrolled network on one clip.

    Parameters
    ----------
    net : DagNN
        From ``make_net``, or any network of this size with SiamFC's branch.
    size : Size
    clip : Clip
    dtype : numpy dtype
        That both sides compute in.

    Returns
    -------
    dict
        ``size`` (a dict), ``dtype``, ``params``, ``clip`` (frames and boxes), and what PyTorch's
        side needs besides: ``geometry`` and ``inputs``, see ``torch_network``, and
        ``crop_centers`` (T, 2), where crops lie that do not follow the responses.
    """
    inputs = clip_batch(net, [clip], dtype).inputs
    centers, _ = box_to_center(clip.boxes)
    # A frame's crops lie around the target in the frame before; the first frame's in itself.
    before = [max(t - 1, 0) for t in range(size.frames)]
    return {
        **_common(net, size, dtype),
        "clip": {"frames": clip.frames[: size.frames], "boxes": clip.boxes[: size.frames]},
        "inputs": {
            "frames": clip.frames[: size.frames],
            "true": centers[: size.frames].astype(dtype),
            "template": inputs["template"],
            "score0": inputs["score0"],
            "center0": inputs["center0"][0],
            "sides": inputs["sides"][0],
            "color": inputs["color"][0],
        },
        "crop_centers": centers[before].astype(dtype),
    }


def track_problem(size: Size, seed: int = 0) -> dict[str, Any]:
    """One frame of DSiamM in single precision, with the moments of generated video.

    Returns
    -------
    dict
        As ``step_problem``'s, with ``patches`` in place of clip and inputs: ``template``
        (3, s, s), ``scales`` (3, 3, S, S), ``target`` (3, s, s) and ``regions`` (2, 3, S, S), the
        surroundings and the same without their background.
    """
    one = replace(size, frames=1)
    net, clip = make_net(one, seed), make_clip(2, seed)
    batch = clip_batch(net, [clip])
    observe_moments(net, [batch])
    given = {name: batch.inputs[name] for name in ("sides", "color")}
    centers, _ = box_to_center(clip.boxes)

    def cut(frame: int, kind: str, side: int, scale: float = 1.0) -> np.ndarray:
        crop = Crop(size=side, side=kind, mode="none")
        inputs = [
            clip.frames[frame : frame + 1],
            batch.inputs["score0"],
            centers[frame : frame + 1].astype(np.float32),
            given["sides"] * np.float32(scale),
            given["color"],
        ]
        (patch, _), _ = crop.forward(inputs, [], None)
        return patch[0]

    region = cut(1, "search", size.search_size)
    mask = background_mask(size.search_size, size.exemplar_size)
    return {
        **_common(net, size, np.float32),
        "patches": {
            "template": cut(0, "exemplar", size.exemplar_size),
            "scales": np.stack([cut(1, "search", size.search_size, s) for s in SCALES]),
            "target": cut(1, "exemplar", size.exemplar_size),
            "regions": np.stack([region, region * mask]),
        },
    }


def _common(net: DagNN, size: Size, dtype: Any) -> dict[str, Any]:
    unrolled = net.meta["unrolled"]
    return {
        "size": {f.name: getattr(size, f.name) for f in fields(size)},
        "dtype": np.dtype(dtype).name,
        "params": {p.name: p.value.astype(dtype) for p in net.params},
        "geometry": {
            **{k: unrolled[k] for k in ("exemplar_size", "search_size", "stride", "map_size")},
            "mask": background_mask(size.search_size, size.exemplar_size),
        },
    }


# Arithmetic


def convolution_work(size: Size, side: int) -> dict[str, float]:
    """Floating-point operations of each convolution of a branch, for one image of ``side``.

    Counted as of a direct convolution, a product and a sum each one.
    """
    branch = siamfc_branch(size.channels)
    sizes = branch.get_var_sizes({INPUT: (1, 3, side, side)})
    work = {}
    for record in branch.layers:
        if record.type == "dagnn.Conv":
            filters, output = record.block.size, sizes[record.outputs[0]]
            work[record.name] = 2.0 * float(np.prod(filters)) * output.h * output.w
    return work


def step_work(size: Size, known_crops: bool = False) -> float:
    """GF of a training step's convolutions: forward, and backward by filters and by inputs.

    The first convolution is differentiated by its input only where a crop passes that on.
    """
    total = 0.0
    passes_on = size.crop_gradient != "none" and not known_crops
    for side, branches, cut in (
        (size.exemplar_size, 1 + size.frames, size.frames - 1),
        (size.search_size, 3 * size.frames - 1, 3 * (size.frames - 1)),
    ):
        work = convolution_work(size, side)
        total += branches * (3 * sum(work.values()) - work["conv1"])
        total += cut * work["conv1"] * passes_on
    return total / GIGA


def track_work(size: Size) -> float:
    """GF of a tracked frame's convolutions: five search regions and one template."""
    small, large = (
        sum(convolution_work(size, side).values())
        for side in (size.exemplar_size, size.search_size)
    )
    return (small + 5 * large) / GIGA
