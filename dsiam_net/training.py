"""Training of the unrolled network: inputs from clips, two-phase labels, figures, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dagnet import (
    Batch,
    Callback,
    Context,
    DagNN,
    GetBatch,
    asnumpy,
    get_array_module,
    to_device,
)
from layers import Crop

from .boxes import box_to_center, template_sides
from .clips import Clip
from .labels import target_cell, target_labels

# RLR divides by |Xh|^2 + n lambda: lambda must stay positive.
LAMBDA_MIN = 1e-12
# A cell is positive within 16 px of the crop of the true target: experiment.m's rPos.
POSITIVE_RADIUS = 16
FIGURES = ("objective", "errdisp", "errmax")


def first_map(map_size: Sequence[int], dtype: Any) -> np.ndarray:
    """A response map (1, 1, h, w) whose peak is its centre: the ``score0`` of frame 1."""
    height, width = map_size
    scores = np.zeros((1, 1, height, width), dtype=dtype)
    scores[0, 0, (height - 1) // 2, (width - 1) // 2] = 1
    return scores


def clip_batch(net: DagNN, clips: Sequence[Clip], dtype: Any = np.float32) -> Batch:
    """Inputs of the unrolled network for a batch of clips, and its labels as late inputs.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``; arrays go to its device.
    clips : sequence of Clip
        As many frames as the network has, all of one size.
    dtype : numpy dtype
        Of everything but the frames, which keep theirs.

    Returns
    -------
    Batch
        The labels are +1 within 16 px of the crop of the target's unrounded position and -1
        elsewhere; they and the target's cell follow from where the crops fell.

    Raises
    ------
    ValueError
        If a clip is too short, the clips' frames differ in size, or a first box is not a box.
    """
    unrolled = net.meta["unrolled"]
    frames, map_size = unrolled["frames"], tuple(unrolled["map_size"])
    for clip in clips:
        if len(clip.frames) < frames:
            raise ValueError(f"the network has {frames} frames, a clip only {len(clip.frames)}")
    boxes = np.stack([clip.boxes[:frames] for clip in clips])
    centers, sizes = box_to_center(boxes)
    scale = unrolled["search_size"] / unrolled["exemplar_size"]
    sides = [template_sides(*size)[0] for size in sizes[:, 0]]
    sides = np.array([(s_z, s_z * scale) for s_z in sides], dtype=dtype)
    images = [np.stack([clip.frames[t] for clip in clips]) for t in range(frames)]
    inputs = {f"frame{t}": image for t, image in enumerate(images, start=1)}
    inputs["score0"] = np.repeat(first_map(map_size, dtype), len(clips), axis=0)
    inputs["center0"] = centers[:, 0].astype(dtype)
    inputs["sides"] = sides
    inputs["color"] = images[0].mean(axis=(2, 3)).astype(dtype)
    inputs = {name: to_device(value, net.device) for name, value in inputs.items()}
    inputs["template"] = cut_template(inputs, unrolled["exemplar_size"])
    return Batch(inputs, label_function(net, to_device(centers.astype(dtype), net.device), sides))


def cut_template(inputs: Mapping[str, Any], size: int) -> Any:
    """The template ``O_1`` (N, 3, size, size): the first frame's crop, by the layer's own code."""
    crop = Crop(size=size, side="exemplar", mode="none")
    names = ("frame1", "score0", "center0", "sides", "color")
    (template, _), _ = crop.forward([inputs[name] for name in names], [], Context())
    return template


def label_function(net: DagNN, centers: Any, sides: Any) -> Callable[[Mapping], dict[str, Any]]:
    """The function that gives ``label{t}`` and ``target{t}`` once the crops' centres are known.

    Parameters
    ----------
    centers : array (N, T, 2)
        True centres (row, column), frame pixels, 0-based.
    sides : array (N, 2)
        ``(s_z, s_x)``, frame pixels.
    """
    unrolled = net.meta["unrolled"]
    map_size, stride = tuple(unrolled["map_size"]), unrolled["stride"]
    search_side = to_device(sides, net.device)[:, 1:2]

    def labels(values: Mapping[str, Any]) -> dict[str, Any]:
        late = {}
        for t in range(1, unrolled["frames"] + 1):
            cell = target_cell(
                centers[:, t - 1],
                values[f"center{t}"],
                search_side,
                stride,
                unrolled["search_size"],
                map_size,
            )
            late[f"target{t}"] = cell
            late[f"label{t}"] = target_labels(cell, map_size, POSITIVE_RADIUS / stride, cell.dtype)
        return late

    return labels


def clip_getter(net: DagNN, clips: Any) -> GetBatch:
    """``get_batch`` of the training loop: batches of ``clips``, the same clips in every epoch.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``; tells sizes and device.
    clips : object with ``clip(epoch, index) -> Clip``
    """

    def get_batch(indexes: Sequence[int], mode: str, epoch: int) -> Batch:
        return clip_batch(net, [clips.clip(0, index) for index in indexes])

    return get_batch


def figure(net: DagNN, name: str) -> float:
    """Sum over the frames of ``objective``, ``errdisp`` or ``errmax`` in the last evaluation."""
    frames = range(1, net.meta["unrolled"]["frames"] + 1)
    values = [net.get_var(f"{name}{t}").value for t in frames]
    return float(asnumpy(get_array_module(*values).stack(values).sum(dtype=np.float64)))


def frame_stats(stats: dict, net: DagNN) -> dict:
    """Figures of training: the objective summed over frames, the errors as means of the frames.

    ``stats`` holds running means by name, and under ``last`` those of this step.
    """
    frames = net.meta["unrolled"]["frames"]
    last = {name: figure(net, name) / (1 if name == "objective" else frames) for name in FIGURES}
    steps = stats.get("steps", 0) + 1
    means = {
        name: stats.get(name, 0.0) + (value - stats.get(name, 0.0)) / steps
        for name, value in last.items()
    }
    return stats | means | {"steps": steps, "last": last}


def observe_moments(net: DagNN, batches: Iterable[Batch]) -> None:
    """Set every batch norm's stored moments to the mean of those of some batches.

    Moments follow training slowly (by a twentieth a step) and start from zero where the weights
    are random; after a short training they are not yet those of the network.
    """
    moments = [p for p in net.params if p.train_method == "average"]
    sums: dict[str, Any] = {}
    count = 0
    for batch in batches:
        net.mode = "normal"
        last = f"objective{net.meta['unrolled']['frames']}"
        net.eval(batch.inputs, {last: 0}, late_inputs=batch.late_inputs)
        for parameter in moments:
            observed = parameter.der / parameter.fanout
            sums[parameter.name] = sums.get(parameter.name, 0) + observed
        count += 1
    for parameter in moments:
        parameter.value = sums[parameter.name] / count


class KeepLambdasPositive(Callback):
    """Keeps every lambda at or above ``LAMBDA_MIN`` after an update."""

    def after_update(self, net):
        for parameter in net.params:
            if parameter.name.endswith("_lambda"):
                xp = get_array_module(parameter.value)
                parameter.value = xp.maximum(parameter.value, LAMBDA_MIN)


def learning_rates(first: float, last: float, epochs: int) -> list[float]:
    """Rates falling from ``first`` to ``last`` in equal ratios over ``epochs``."""
    return np.logspace(np.log10(first), np.log10(last), epochs).tolist()
