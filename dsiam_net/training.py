"""Training of the unrolled network: inputs from clips, two-phase labels, figures, bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np

from dagnet import (
    Batch,
    Callback,
    Context,
    DagNN,
    HostBatches,
    ReadAhead,
    get_array_module,
)
from dagnet.backend import tree_to_device
from dagnet.communicator import SINGLE, Communicator
from dagnet.requirements import noting
from layers import Crop
from layers.crop import GIVEN

from .boxes import box_to_center, template_sides, valid_boxes
from .clips import Clip
from .labels import target_cell, target_labels
from .unrolled import GROUND_TRUTH, RESPONSE, given_centers, objectives

# RLR divides by |Xh|^2 + n lambda: lambda must stay positive.
LAMBDA_MIN = 1e-12
# A cell is positive within 16 px of the crop of the true target: experiment.m's rPos.
POSITIVE_RADIUS = 16
# Tells the random numbers of the centres from those that draw a clip of the same epoch and index.
SHIFTS_STREAM = 1
FIGURES = ("objective", "errdisp", "errmax")
# Of what is read for a batch, the one that is no input of the network.
TRUE_CENTERS = "true_centers"


def first_map(map_size: Sequence[int], dtype: Any) -> np.ndarray:
    """A response map (1, 1, h, w) whose peak is its centre: the ``score0`` of frame 1."""
    height, width = map_size
    scores = np.zeros((1, 1, height, width), dtype=dtype)
    scores[0, 0, (height - 1) // 2, (width - 1) // 2] = 1
    return scores


def clip_batch(
    net: DagNN, clips: Sequence[Clip], dtype: Any = np.float32, shifts: Any = None
) -> Batch:
    """Inputs of the unrolled network for a batch of clips, and its labels as late inputs.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``; arrays go to its device.
    clips : sequence of Clip
        As many frames as the network has, all of one size.
    dtype : numpy dtype
        Of everything but the frames, which keep theirs.
    shifts : array (N, T, 2), optional
        With ``crops='ground-truth'``: how far the centres of the crops lie from those of the true
        boxes of the T frames; rows and columns, pixels of the search crop. By default there.

    Returns
    -------
    Batch
        The labels are +1 within 16 px of the crop of the target's unrounded position and -1
        elsewhere; they and the target's cell follow from where the crops fell.

    Raises
    ------
    ValueError
        If a clip is too short, the clips' frames differ in size, or a first box is not a box; with
        ``crops='ground-truth'`` if a box that crops are cut around is none. If there are shifts
        for a network whose crops follow the responses, or of another shape.
    """
    arrays = clip_arrays(net, clips, dtype, shifts)
    return finish_clip_batch(net, tree_to_device(arrays, net.device))


def clip_arrays(
    net: DagNN, clips: Sequence[Clip], dtype: Any = np.float32, shifts: Any = None
) -> dict[str, np.ndarray]:
    """What ``clip_batch`` sends to the network's device; its arguments and errors.

    Returns
    -------
    dict
        Inputs of the network without the template, and under ``TRUE_CENTERS`` those of the target
        (N, T, 2).
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
    given = given_centers(net)
    if given:
        pixel = sides[:, 1].astype(np.float64) / unrolled["search_size"]
        centers_given = _shifted(centers, shifts, pixel)
        _check_boxes(boxes, given.values())
        inputs |= {name: centers_given[:, t - 1].astype(dtype) for name, t in given.items()}
    elif shifts is not None:
        raise ValueError(f"shifts are for crops {GROUND_TRUTH!r}; this network's are {RESPONSE!r}")
    else:
        inputs["score0"] = np.repeat(first_map(map_size, dtype), len(clips), axis=0)
        inputs["center0"] = centers[:, 0].astype(dtype)
    inputs["sides"] = sides
    # In single precision, as the mean of frames of that type is.
    first = images[0].astype(np.float32) if images[0].dtype == np.uint8 else images[0]
    inputs["color"] = first.mean(axis=(2, 3)).astype(dtype)
    inputs[TRUE_CENTERS] = centers.astype(dtype)
    return inputs


def finish_clip_batch(net: DagNN, arrays: Mapping[str, Any]) -> Batch:
    """The batch of ``clip_batch`` from what ``clip_arrays`` returned, on the network's device."""
    inputs = {name: array for name, array in arrays.items() if name != TRUE_CENTERS}
    inputs["template"] = cut_template(net, inputs)
    return Batch(inputs, label_function(net, arrays[TRUE_CENTERS], inputs["sides"]))


def _shifted(centers: np.ndarray, shifts: Any, pixel: np.ndarray) -> np.ndarray:
    """Centres (N, T, 2) moved by ``shifts``; ``pixel`` (N,): frame pixels in one of the crop."""
    if shifts is None:
        return centers
    if np.shape(shifts) != centers.shape:
        raise ValueError(
            f"shifts must be {centers.shape} (clips, frames, row and column), received "
            f"{np.shape(shifts)}"
        )
    return centers + np.asarray(shifts, dtype=np.float64) * pixel[:, None, None]


def _check_boxes(boxes: np.ndarray, frames: Iterable[int]) -> None:
    """Refuse clips (N, T, 4) without a box in one of these frames, counted from 1."""
    for t in frames:
        for clip in np.flatnonzero(~valid_boxes(boxes[:, t - 1])):
            raise ValueError(
                f"crops {GROUND_TRUTH!r} are cut around the true boxes, and clip {clip} of the "
                f"batch has none in frame {t}, but {boxes[clip, t - 1].tolist()}: leave the clip "
                f"out, or take crops {RESPONSE!r}"
            )


def cut_template(net: DagNN, inputs: Mapping[str, Any]) -> Any:
    """The template ``O_1``: what the network's first crop cuts of the first frame, by the layer's
    own code. (N, 3, exemplar_size, exemplar_size)."""
    size = net.meta["unrolled"]["exemplar_size"]
    crop = _template_crop(size, GIVEN if given_centers(net) else "none")
    record = net.get_layer("f1_crop_o")
    # What is required of values on a device the network's own crop notes too: the host does not
    # wait for it here.
    with noting([], record):
        (template, _), _ = crop.forward([inputs[name] for name in record.inputs], [], Context())
    return template


@cache
def _template_crop(size: int, mode: str) -> Crop:
    # Made once for all batches.
    return Crop(size=size, side="exemplar", mode=mode)


@dataclass(frozen=True)
class TrueLabels:
    """The function that gives ``label{t}`` and ``target{t}`` once the crops' centres are known.

    Attributes
    ----------
    centers : array (N, T, 2)
        True centres (row, column), frame pixels, 0-based.
    search_side : array (N, 1)
        ``s_x``, frame pixels.
    frames, stride, search_size : int
    map_size : (int, int)
        As the network's ``meta['unrolled']`` has them.
    """

    centers: Any
    search_side: Any
    frames: int
    stride: int
    search_size: int
    map_size: tuple[int, int]

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        late = {}
        radius = POSITIVE_RADIUS / self.stride
        for t in range(1, self.frames + 1):
            cell = target_cell(
                self.centers[:, t - 1],
                values[f"center{t}"],
                self.search_side,
                self.stride,
                self.search_size,
                self.map_size,
            )
            late[f"target{t}"] = cell
            late[f"label{t}"] = target_labels(cell, self.map_size, radius, cell.dtype)
        return late


def label_function(net: DagNN, centers: Any, sides: Any) -> TrueLabels:
    """The labels of a batch whose true centres are ``centers`` (N, T, 2), for a network.

    Parameters
    ----------
    sides : array (N, 2)
        ``(s_z, s_x)``, frame pixels; like the centres, on the network's device.
    """
    unrolled = net.meta["unrolled"]
    return TrueLabels(
        centers,
        sides[:, 1:2],
        unrolled["frames"],
        unrolled["stride"],
        unrolled["search_size"],
        tuple(unrolled["map_size"]),
    )


class ClipBatches(HostBatches):
    """``get_batch`` of the training loop: batches of ``clips``, the same clips in every epoch.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``; tells sizes and device.
    clips : object with ``clip(epoch, index) -> Clip``
    center_jitter : float
        With ``crops='ground-truth'``, in training: the centres of the crops are shifted at
        random by up to as many pixels of the search crop; see ``center_shifts``. They are others
        in each epoch.
    seed : int
        Of the shifts.

    Raises
    ------
    ValueError
        If ``center_jitter`` is not a finite number from 0 on, or the network's crops follow the
        responses.
    """

    def __init__(self, net: DagNN, clips: Any, center_jitter: float = 0.0, seed: int = 0):
        if not 0 <= center_jitter < np.inf:
            raise ValueError(f"center_jitter must be 0 or more pixels, received {center_jitter!r}")
        if center_jitter and not given_centers(net):
            raise ValueError(
                f"center_jitter {center_jitter!r} shifts the centres that crops are given, and "
                f"with crops {RESPONSE!r} none are: take crops {GROUND_TRUTH!r}, or no jitter"
            )
        self.device = net.device
        self._net = net
        self._clips = clips
        self._center_jitter = center_jitter
        self._seed = seed

    def read(self, indexes: Sequence[int], mode: str, epoch: int) -> dict[str, np.ndarray]:
        """``clip_arrays`` of these clips."""
        shifts = None
        if self._center_jitter and mode == "train":
            frames = self._net.meta["unrolled"]["frames"]
            keys = [[self._seed, epoch, index, SHIFTS_STREAM] for index in indexes]
            shifts = np.stack([center_shifts(self._center_jitter, frames, key) for key in keys])
        clips = [self._clips.clip(0, index) for index in indexes]
        return clip_arrays(self._net, clips, shifts=shifts)

    def finish(self, arrays: dict[str, Any]) -> Batch:
        """``finish_clip_batch``."""
        return finish_clip_batch(self._net, arrays)


def center_shifts(center_jitter: float, frames: int, key: Sequence[int]) -> np.ndarray:
    """What a tracker's errors do to the crops' centres, at random: (T, 2), rows and columns.

    Uniform in ``[-center_jitter, center_jitter]``, each for itself, as SiamFC's training shifts
    its crops (``vid_get_random_batch.m``). The first frame's is 0: its box is given to a tracker.

    Parameters
    ----------
    center_jitter : float
        Pixels of the search crop.
    frames : int
        T.
    key : sequence of int
        Seed: the same key gives the same shifts.
    """
    shifts = np.random.default_rng(key).uniform(-center_jitter, center_jitter, (frames, 2))
    shifts[0] = 0
    return shifts


def figure(net: DagNN, name: str) -> float:
    """Sum over the frames of ``objective``, ``errdisp`` or ``errmax`` in the last evaluation."""
    frames = range(1, net.meta["unrolled"]["frames"] + 1)
    values = net.fetch(f"{name}{t}" for t in frames).values()
    return float(np.stack(list(values)).sum(dtype=np.float64))


def frame_stats(
    stats: dict,
    net: DagNN,
    communicator: Communicator = SINGLE,
    reader: ReadAhead | None = None,
) -> dict:
    """Figures of training: the objective summed over frames, the errors as means of the frames.

    ``stats`` holds running means by name, and under ``last`` those of this step: the means of
    all processes that had clips in it, which count alike as their derivatives do. ``waited`` are
    the seconds that this process waited for clips of ``reader`` so far.
    """
    frames = net.meta["unrolled"]["frames"]
    own = None
    if net.get_var("objective1").value is not None:
        # All at once, for one transfer from a device.
        net.fetch(f"{name}{t}" for name in FIGURES for t in range(1, frames + 1))
        own = {n: figure(net, n) / (1 if n == "objective" else frames) for n in FIGURES}
    parts = [part for part in communicator.exchange(own) if part is not None]
    last = {name: sum(part[name] for part in parts) / len(parts) for name in FIGURES}
    steps = stats.get("steps", 0) + 1
    means = {
        name: stats.get(name, 0.0) + (value - stats.get(name, 0.0)) / steps
        for name, value in last.items()
    }
    waited = stats.get("waited", 0.0) + (reader.waited if reader else 0.0)
    return stats | means | {"steps": steps, "waited": waited, "last": last}


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
        # All frames: with given centres, or crops without derivative, none leads to another.
        net.eval(batch.inputs, dict.fromkeys(objectives(net), 0), late_inputs=batch.late_inputs)
        for parameter in moments:
            observed = parameter.der / parameter.fanout
            sums[parameter.name] = sums.get(parameter.name, 0) + observed
        count += 1
    for parameter in moments:
        parameter.value = sums[parameter.name] / count


class KeepLambdasPositive(Callback):
    """Keeps every lambda at or above ``LAMBDA_MIN`` after an update."""

    on_device = True

    def after_update(self, net):
        for parameter in net.params:
            if parameter.name.endswith("_lambda"):
                xp = get_array_module(parameter.value)
                parameter.value = xp.maximum(parameter.value, LAMBDA_MIN)


def scale_learning_rates(net: DagNN, factors: Iterable[tuple[str, float]]) -> None:
    """Multiply the learning rates of parameters by factors.

    Parameters
    ----------
    net : DagNN
    factors : pairs of a pattern and a factor
        Patterns of names as ``fnmatch.fnmatchcase`` has them. A parameter that several match is
        multiplied by each factor.

    Raises
    ------
    ValueError
        If no parameter has such a name.
    """
    for pattern, factor in factors:
        chosen = [p for p in net.params if fnmatchcase(p.name, pattern)]
        if not chosen:
            names = ", ".join(p.name for p in net.params)
            raise ValueError(f"no parameter is called {pattern!r}; there are {names}")
        for parameter in chosen:
            parameter.learning_rate *= factor


def learning_rates(first: float, last: float, epochs: int) -> list[float]:
    """Rates falling from ``first`` to ``last`` in equal ratios over ``epochs``.

    Raises
    ------
    ValueError
        If one of the two is not a positive number.
    """
    if not all(0 < rate < np.inf for rate in (first, last)):
        raise ValueError(
            f"first and last learning rate must be positive numbers, received {first} and {last}"
        )
    return np.logspace(np.log10(first), np.log10(last), epochs).tolist()
