"""What a training run is told: its options, where its batches come from, and its callbacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from .checkpoint import TrainState
from .execution import LateInputs
from .net import DagNN
from .solvers import SGD, Solver


@dataclass(frozen=True)
class Batch:
    """Inputs of one evaluation, and the function for those that come late (``DagNN.eval``).

    On a GPU a step can be captured only if ``late_inputs`` is an instance of a dataclass (with
    ``__call__``) whose fields hold all arrays that it reads, and settings that can be hashed.
    """

    inputs: Mapping[str, Any]
    late_inputs: LateInputs | None = None


# get_batch(indexes, mode, epoch): the batch of these elements of the training or validation set.
# One that has a method ``expect(requests)`` is told before the first step which batches will be
# asked for, in order, up to the last epoch (``dagnet.ReadAhead``).
GetBatch = Callable[[Sequence[int], str, int], Batch]
# The arguments of one call of it.
Request = tuple[tuple[int, ...], str, int]
# extract_stats(stats, net): the figures so far with those of the last step taken in.
ExtractStats = Callable[[dict, DagNN], dict]
# post_epoch(net, options, state): what is to be done after an epoch. It returns None, or the
# learning rate of the epochs to come (a number, or one for each epoch from the first on, of which
# the last is kept), where 0 ends the training.
PostEpoch = Callable[[DagNN, "TrainOptions", TrainState], float | Sequence[float] | None]


class StopTraining(Exception):
    """Raised by a callback in ``on_start`` or ``after_epoch``: training is over."""


class Callback:
    """Hooks of the training loop; a subclass overrides those that it needs.

    Class attributes
    ----------------
    on_device : bool
        ``after_update`` computes on the network's device alone, the same each time, so that on a
        GPU it can be part of a captured step. It is then called while steps run plainly or are
        captured, and not at all when a captured one is launched.
    """

    on_device: ClassVar[bool] = False

    def on_start(self, net: DagNN, state: TrainState) -> None:
        """Before the first step, after a checkpoint was read where there was one."""

    def after_update(self, net: DagNN) -> None:
        """Parameters have changed: the place to keep them within bounds."""

    def after_step(self, mode: str, epoch: int, step: int, steps: int, stats: dict) -> None:
        """A batch is done; ``step`` counts from 1 to ``steps``. Its checkpoint, if it has one, is
        written afterwards: a run that goes on from there finds what was written here."""

    def after_epoch(self, net: DagNN, state: TrainState) -> None:
        """Training and validation of an epoch are done and its checkpoint is written."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``train_dag``; names and defaults are those of ``cnn_train_dag``.

    Attributes
    ----------
    exp_dir : path
        Folder of the checkpoints, made where it is missing.
    continue_ : bool
        Go on from the checkpoint in ``exp_dir`` that got farthest. Otherwise checkpoints that are
        there are moved to a folder ``earlier-1`` (or -2, ...) in it.
    batch_size, num_sub_batches : int
        Elements a step; into how many evaluations they are divided. As in ``cnn_train_dag``
        these count alike, whatever their numbers of elements.
    epoch_size : int or None
        Elements an epoch, of the shuffled training set.
    num_epochs : int
    learning_rate : float or sequence of float
        For all epochs, or one for each (the last is kept).
    weight_decay : float
    solver : Solver
    save_solver_state : bool
        Keep the solver's state from epoch to epoch. Otherwise each begins without, and only
        checkpoints within an epoch hold it.
    random_seed : int
    der_outputs : dict of variable name to derivative
    checkpoint_every : int or None
        Steps after which a partial checkpoint is written within an epoch.
    memory_budget : float or None
        Bytes that an evaluation may take, as ``DagNN.eval`` has it.
    capture : bool
        On a GPU: capture each kind of step once as a CUDA graph, and launch that from then on.
    settings : dict
        Stored in every checkpoint; one with other values is not continued.
    """

    exp_dir: str | os.PathLike
    continue_: bool = True
    batch_size: int = 256
    num_sub_batches: int = 1
    epoch_size: int | None = None
    num_epochs: int = 300
    learning_rate: float | Sequence[float] = 0.001
    weight_decay: float = 0.0005
    solver: Solver = field(default_factory=SGD)
    save_solver_state: bool = True
    random_seed: int = 0
    der_outputs: Mapping[str, Any] = field(default_factory=lambda: {"objective": 1})
    checkpoint_every: int | None = None
    memory_budget: float | None = None
    capture: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        least = {"batch_size": 1, "num_sub_batches": 1, "num_epochs": 0}
        least |= {n: 1 for n in ("epoch_size", "checkpoint_every") if getattr(self, n) is not None}
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < bound:
                raise ValueError(f"{name} must be an integer of at least {bound}, received {value}")
        for name in ("learning_rate", "weight_decay"):
            check_rates(name, getattr(self, name))

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch (1-based)."""
        return rate_of_epoch(self.learning_rate, epoch)


def check_rates(name: str, given: float | Sequence[float]) -> None:
    """Refuse what is neither a number of at least 0 nor a sequence of such."""
    value = np.atleast_1d(given)
    if value.size == 0 or not (np.isfinite(value) & (value >= 0)).all():
        raise ValueError(f"{name} must be finite and not negative, received {given}")


def rate_of_epoch(rates: float | Sequence[float], epoch: int) -> float:
    """The rate of an epoch (1-based) of one for all, or one for each (the last is kept)."""
    rates = np.atleast_1d(rates)
    return float(rates[min(epoch, len(rates)) - 1])
