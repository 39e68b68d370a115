"""Training of SiamFC on pairs of crops: network, first values, batches, figures, early stop.

After ``experiment.m``, ``make_siameseFC.m`` and ``vid_create_net.m`` of the original. What differs:
targets may lie off the middle of an instance, so each pair has a map of labels of its own, and
errors are measured at its target's cell; for centred targets both are the original's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dagnet import (
    Batch,
    Callback,
    DagNN,
    HostBatches,
    ReadAhead,
    StopTraining,
    TrainState,
)
from dagnet.communicator import SINGLE, Communicator
from layers import CenterThresholdError, Loss, MaxScoreError

from .branches import extract_branch, siamfc_branch
from .labels import target_labels
from .siamfc import make_siamfc
from .training import POSITIVE_RADIUS

EXEMPLAR_SIZE = 127
INITIAL_WEIGHTS = ("xavierimproved", "xavier", "gaussian")
# init_weight.m, with the scale of 1 that experiment.m sets.
GAUSSIAN_DEVIATION = 0.01
LOSSES = ("objective", "errdisp", "errmax")
# What is minimised and, per step and epoch, logged.
FIGURES = ("objective", "errdisp", "errmax", "errneg")
# The figure by which epochs are compared.
VALIDATION_ERROR = "errdisp"
# Whose pairs validation has in every epoch.
VALIDATION_EPOCH = 1


class Pair(Protocol):
    """What is used of a pair: ``dsiam_net.pairs.Pair`` has more."""

    exemplar: np.ndarray
    instance: np.ndarray
    offset: np.ndarray
    positive: bool


class Pairs(Protocol):
    """Where pairs come from: ``dsiam_net.pairs.PairSource``."""

    def pair(self, epoch: int, index: int, mode: str) -> Pair:
        """The same pair whenever it is asked for, from any thread."""


def draw_filters(
    net: DagNN, rng: np.random.Generator | int, method: str = "xavierimproved"
) -> None:
    """Draw all filters as ``init_weight.m`` does; biases 0, batch norms 1, 0 and moments of 0.

    ``xavierimproved``: Gaussian of variance ``2 / (kh kw out)``. ``xavier``: uniform within
    ``sqrt(3 / (kh kw in))``. ``gaussian``: of deviation 0.01. ``experiment.m`` has an ``initBias``
    of 0.1 beside the method, which ``vid_create_net.m`` takes and never uses: its biases are 0.

    Raises
    ------
    ValueError
        If the method is not known.
    """
    if method not in INITIAL_WEIGHTS:
        raise ValueError(f"initial weights must be one of {INITIAL_WEIGHTS}, received {method!r}")
    rng = np.random.default_rng(rng)
    net.init_params(rng)
    for record in net.layers:
        if record.type != "dagnn.Conv":
            continue
        parameter = net.get_param(record.params[0])
        out, inside, kh, kw = parameter.value.shape
        if method == "xavier":
            bound = math.sqrt(3 / (kh * kw * inside))
            values = rng.uniform(-bound, bound, parameter.value.shape)
        else:
            improved = math.sqrt(2 / (kh * kw * out))
            deviation = improved if method == "xavierimproved" else GAUSSIAN_DEVIATION
            values = rng.standard_normal(parameter.value.shape) * deviation
        parameter.value = values.astype(np.float32)


def siamfc_from(source: DagNN) -> DagNN:
    """SiamFC with the weights of a network, to train on: a branch, a SiamFC or a DSiam.

    Parameters are trained as those of a new network are: what was frozen is not any more.

    Raises
    ------
    UnknownNameError, ValueError
        If the network has no features ``feat``, or not all of its branch's parameters have values.
    """
    branch, (feature,) = extract_branch(source.copy(), ("feat",))
    missing = [p.name for p in branch.params if p.value is None]
    if missing:
        raise ValueError(
            f"the weights lack values of {', '.join(missing)}: give a network that was trained"
        )
    usual = siamfc_branch()
    for parameter in branch.params:
        if (index := usual.get_param_index(parameter.name)) is not None:
            as_new = usual.params[index]
            parameter.train_method = as_new.train_method
            parameter.learning_rate = as_new.learning_rate
            parameter.weight_decay = as_new.weight_decay
    for record in branch.layers:
        if record.type == "dagnn.BatchNorm":
            record.block.moments = "batch"
    net = make_siamfc(branch, feature)
    for name in ("adjust_f", "adjust_b"):
        index = source.get_param_index(name)
        if index is not None and source.params[index].value is not None:
            value = np.asarray(source.params[index].value, dtype=np.float32)
            net.get_param(name).value = value.reshape(net.get_param(name).value.shape)
    return net


def add_pair_losses(net: DagNN, instance_size: int, exemplar_size: int = EXEMPLAR_SIZE) -> None:
    """Add ``objective``, ``errdisp`` and ``errmax`` of pairs, each with a target of its own.

    Inputs are then ``eltwise_label`` (N, 1, h, w) and ``target`` (N, 2), the cells of
    ``target_cells``. ``meta['pairs']`` holds sizes and stride. The logistic loss is balanced: each
    sign has half of a pair's weight, and a negative pair, which has one sign, weighs half.

    Raises
    ------
    ValueError
        If the response to such an instance is empty, or has an even side and so no middle cell.
    """
    size = {"exemplar": (1, 3, exemplar_size, exemplar_size)}
    size["instance"] = (1, 3, instance_size, instance_size)
    cells = net.get_var_sizes(size)["score"][2:]
    stride = int(net.get_var_receptive_fields("instance")["score"].stride[0])
    if not all(n >= 1 and n % 2 for n in cells):
        raise ValueError(
            f"an instance of {instance_size} pixels gives a response of {cells[0]:g}x{cells[1]:g} "
            f"cells; it needs an odd number of them, as 239 and 255 pixels give (one cell is "
            f"{stride} pixels)"
        )
    labelled = ["score", "eltwise_label"]
    loss = Loss(loss="logistic", instance_weights="balanced")
    net.add_layer("objective", loss, labelled, "objective")
    error = CenterThresholdError(total_stride=stride)
    net.add_layer("errdisp", error, [*labelled, "target"], "errdisp")
    net.add_layer("errmax", MaxScoreError(), [*labelled, "target"], "errmax")
    for name in (*LOSSES, *labelled):
        net.get_var(name).precious = True
    net.meta["pairs"] = {
        "exemplar_size": exemplar_size,
        "instance_size": instance_size,
        "map_size": [int(n) for n in cells],
        "stride": stride,
    }


def without_losses(net: DagNN) -> DagNN:
    """A copy of the network as trackers and joint training take it: up to ``score``."""
    trained = net.copy()
    trained.remove_layer(LOSSES)
    trained.get_var("score").precious = False
    return trained


def pair_cells(pairs: Sequence[Pair], map_size: Sequence[int], stride: float) -> np.ndarray:
    """Where the targets of pairs lie in their response maps, cells: (N, 2); NaN if negative.

    The middle of the map, ``(side - 1) / 2``, and the offset over the stride.
    """
    middle = (np.asarray(map_size, dtype=np.float64) - 1) / 2
    offsets = np.array([pair.offset for pair in pairs], dtype=np.float64).reshape(-1, 2)
    absent = np.array([not pair.positive for pair in pairs])
    return np.where(absent[:, None], np.nan, middle + offsets / stride)


class PairBatches(HostBatches):
    """``get_batch`` of the training loop from a source of pairs.

    Validation has the same pairs in every epoch, those of epoch 1, so that epochs compare (the
    original draws new ones).

    Parameters
    ----------
    source : PairSource, or another one with its ``pair``
    net : DagNN
        With ``add_pair_losses``; tells sizes and device.
    """

    def __init__(self, source: Pairs, net: DagNN):
        self._source = source
        self.device = net.device
        self._map_size = net.meta["pairs"]["map_size"]
        self._stride = net.meta["pairs"]["stride"]

    def read(self, indexes: Sequence[int], mode: str, epoch: int) -> dict[str, np.ndarray]:
        """``arrays`` of these pairs."""
        drawn = epoch if mode == "train" else VALIDATION_EPOCH
        return self.arrays([self._source.pair(drawn, index, mode) for index in indexes])

    def finish(self, arrays: dict[str, Any]) -> Batch:
        """The batch: they are its inputs."""
        return Batch(arrays)

    def arrays(self, pairs: Sequence[Pair]) -> dict[str, np.ndarray]:
        """Images of pairs and their labels: +1 within 16 px of the target, -1 elsewhere."""
        cells = pair_cells(pairs, self._map_size, self._stride)
        return {
            "exemplar": np.stack([pair.exemplar for pair in pairs]),
            "instance": np.stack([pair.instance for pair in pairs]),
            "eltwise_label": target_labels(cells, self._map_size, POSITIVE_RADIUS / self._stride),
            "target": cells.astype(np.float32),
        }


class PairStats:
    """Figures of training: means over pairs so far, and under ``last`` those of the last step.

    ``objective``: the loss of a pair. ``errdisp``, of positive pairs: area over a threshold of the
    peak's distance from the target (0 to 99). ``errmax``: the share of positive pairs whose score
    at the target is 0 or less. ``errneg``: the share of negative pairs with a score of 0 or more
    anywhere. A figure of pairs that did not occur is NaN. ``waited``: seconds waited for batches.

    Parameters
    ----------
    reader : ReadAhead, optional
        Tells how long the last batch was waited for.
    communicator : Communicator
        Figures are of the pairs of all processes; ``waited`` is of this one.
    """

    def __init__(self, reader: ReadAhead | None = None, communicator: Communicator = SINGLE):
        self._reader = reader
        self._communicator = communicator

    def __call__(self, stats: dict, net: DagNN) -> dict:
        own = None if net.get_var("score").value is None else self._sums(net)
        parts = [part for part in self._communicator.exchange(own) if part is not None]
        sums = {name: [sum(n) for n in zip(*(p[name] for p in parts))] for name in parts[0]}
        before = stats.get("sums", {})
        total = {
            name: [a + b for a, b in zip(before.get(name, (0, 0)), added)]
            for name, added in sums.items()
        }
        return {
            **stats,
            "steps": stats.get("steps", 0) + 1,
            "waited": stats.get("waited", 0.0) + (self._reader.waited if self._reader else 0.0),
            "sums": total,
            **{name: _ratio(*value) for name, value in total.items()},
            "last": {name: _ratio(*value) for name, value in sums.items()},
        }

    @staticmethod
    def _sums(net: DagNN) -> dict[str, tuple[float, int]]:
        """Of this process's pairs: each figure's sum, and over how many."""
        # All at once, for one transfer from a device.
        values = net.fetch([*LOSSES, "score", "eltwise_label"])
        score = values["score"]
        positive = (values["eltwise_label"] > 0).any(axis=(1, 2, 3))
        objective, errdisp, wrong = (float(values[n].item()) for n in LOSSES)
        wrong_negative = int(np.count_nonzero(score[~positive].max(axis=(1, 2, 3)) >= 0))
        n, n_positive = len(score), int(np.count_nonzero(positive))
        return {
            "objective": (objective * n, n),
            "errdisp": (errdisp, n_positive),
            "errmax": (wrong - wrong_negative, n_positive),
            "errneg": (wrong_negative, n - n_positive),
        }


def _ratio(amount: float, count: int) -> float:
    return amount / count if count else math.nan


def best_epoch(state: TrainState, figure: str = VALIDATION_ERROR) -> int:
    """The epoch (from 1) of the least validation error; the last one without validation.

    The first of several equal ones.
    """
    errors = validation_errors(state, figure)
    return int(np.argmin(errors)) + 1 if errors else len(state.stats["train"])


def validation_errors(state: TrainState, figure: str = VALIDATION_ERROR) -> list[float]:
    """The validation error of each finished epoch; infinite where it is not a number."""
    return [math.inf if math.isnan(s[figure]) else s[figure] for s in state.stats["val"]]


class EarlyStop(Callback):
    """Ends training when the validation error has not fallen for some epochs.

    It looks at the finished epochs of the checkpoint, so that a run which was over stays over when
    its command is given again.

    Parameters
    ----------
    patience : int
        Epochs without a new least error.
    """

    def __init__(self, patience: int):
        if patience < 1:
            raise ValueError(f"patience must be an epoch or more, received {patience}")
        self.patience = patience

    def on_start(self, net, state):
        self.after_epoch(net, state)

    def after_epoch(self, net, state):
        finished = len(state.stats["val"])
        if finished and finished - best_epoch(state) >= self.patience:
            raise StopTraining
