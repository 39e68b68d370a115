"""The training loop, after MatConvNet's ``examples/cnn_train_dag.m``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .backend import get_array_module, to_device
from .checkpoint import (
    PARTIAL,
    TrainState,
    epoch_path,
    find_last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from .errors import CheckpointError, DagNNError
from .execution import LateInputs
from .net import DagNN
from .records import Parameter
from .solvers import SGD, Solver


class NonFiniteError(DagNNError, ArithmeticError):
    """A loss or a derivative is infinite or not a number; training stopped before the update."""


@dataclass(frozen=True)
class Batch:
    """Inputs of one evaluation, and the function for those that come late (``DagNN.eval``)."""

    inputs: Mapping[str, Any]
    late_inputs: LateInputs | None = None


# get_batch(indexes, mode, epoch): the batch of these elements of the training or validation set.
GetBatch = Callable[[Sequence[int], str, int], Batch]
# extract_stats(stats, net): the figures so far with those of the last step taken in.
ExtractStats = Callable[[dict, DagNN], dict]


class Callback:
    """Hooks of the training loop; a subclass overrides those that it needs."""

    def on_start(self, net: DagNN, state: TrainState) -> None:
        """Before the first step, after a checkpoint was read where there was one."""

    def after_update(self, net: DagNN) -> None:
        """Parameters have changed: the place to keep them within bounds."""

    def after_step(self, mode: str, epoch: int, step: int, steps: int, stats: dict) -> None:
        """A batch is done; ``step`` counts from 1 to ``steps``."""

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
        Go on from the checkpoint in ``exp_dir`` that got farthest.
    batch_size, num_sub_batches : int
        Elements a step; into how many evaluations they are divided.
    epoch_size : int or None
        Elements an epoch, of the shuffled training set.
    num_epochs : int
    learning_rate : float or sequence of float
        For all epochs, or one for each (the last is kept).
    weight_decay : float
    solver : Solver
    random_seed : int
    der_outputs : dict of variable name to derivative
    checkpoint_every : int or None
        Steps after which a partial checkpoint is written within an epoch.
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
    random_seed: int = 0
    der_outputs: Mapping[str, Any] = field(default_factory=lambda: {"objective": 1})
    checkpoint_every: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch (1-based)."""
        rates = np.atleast_1d(self.learning_rate)
        return float(rates[min(epoch, len(rates)) - 1])


def loss_averages(stats: dict, net: DagNN) -> dict:
    """Running averages of all layers that keep one, by the name of their first output."""
    for record in net.layers:
        figures = record.block.statistics()
        if figures is not None:
            stats[record.outputs[0]] = figures["average"]
    return stats


def train_dag(
    net: DagNN,
    get_batch: GetBatch,
    train: Sequence[int],
    val: Sequence[int] = (),
    *,
    options: TrainOptions,
    extract_stats: ExtractStats = loss_averages,
    callbacks: Sequence[Callback] = (),
) -> tuple[DagNN, TrainState]:
    """Train a network, epoch after epoch, with checkpoints.

    Every random choice depends on ``random_seed``, epoch and step alone, so a run that was
    interrupted and goes on from a checkpoint gives the numbers of one that was not (bit for bit
    on a CPU).

    Parameters
    ----------
    net : DagNN
        Trained in place, unless a checkpoint is found.
    get_batch : function
        See ``GetBatch``. Its result must depend on its arguments alone.
    train, val : sequences of int
        Elements of the two sets.
    options : TrainOptions
    extract_stats : function
        Turns the present evaluation into figures.
    callbacks : sequence of Callback

    Returns
    -------
    net, state : DagNN and TrainState
        As after the last epoch.

    Raises
    ------
    NonFiniteError
        If a loss or derivative is not finite. The checkpoints written so far stay.
    CheckpointError
        If the checkpoint to go on from is damaged, or of a run with other settings.
    """
    exp_dir = Path(options.exp_dir)
    exp_dir.mkdir(parents=True, exist_ok=True)
    if len(train) == 0:
        raise ValueError("the training set is empty")
    state = TrainState()
    last = find_last_checkpoint(exp_dir) if options.continue_ else None
    if last is not None:
        device = net.device
        net, state = load_checkpoint(last)
        _check_settings(last, state.settings, options.settings)
        net.move(device)
        _restore_statistics(net, state)
    state.settings = dict(options.settings)
    for name in options.der_outputs:
        net.get_var(name).precious = True
    loop = _Loop(net, get_batch, options, extract_stats, callbacks, state, exp_dir)
    for callback in callbacks:
        callback.on_start(net, state)
    first = state.epoch + 1 if state.step < 0 else state.epoch
    for epoch in range(first, options.num_epochs + 1):
        loop.run_epoch(epoch, train, val)
    return net, state


def accumulate_gradients(net: DagNN, state: TrainState, options: TrainOptions, epoch: int) -> None:
    """Update all parameters from their derivatives (``accumulateGradients``).

    A parameter of method ``average`` moves to the mean of what its uses observed; one of method
    ``gradient`` by the solver, with weight decay, unless its learning rate and decay are both 0.
    A parameter that no evaluated layer used has no derivative and stays.
    """
    server = net.parameter_server
    workers = options.num_sub_batches
    if server is not None:
        server.sync()
        workers *= server.num_workers
    for parameter in net.params:
        der = parameter.der if server is None else server.pull(parameter.name)
        if der is None:
            continue
        if not bool(get_array_module(der).isfinite(der).all()):
            raise NonFiniteError(
                f"the derivative by parameter {parameter.name!r} is not finite in epoch {epoch}; "
                "lower the learning rate, or look at the inputs of this step"
            )
        if parameter.train_method == "average":
            rate = parameter.learning_rate
            parameter.value = (1 - rate) * parameter.value + rate / workers / parameter.fanout * der
        else:
            _descend(parameter, der / workers, state, options, epoch)


def _descend(
    parameter: Parameter, der: Any, state: TrainState, options: TrainOptions, epoch: int
) -> None:
    decay = options.weight_decay * parameter.weight_decay
    rate = options.rate(epoch) * parameter.learning_rate
    if rate <= 0 and decay <= 0:
        return
    parameter.value, state.solver_state[parameter.name] = options.solver.update(
        parameter.value,
        state.solver_state.get(parameter.name),
        der + decay * parameter.value,
        rate,
    )


class _Loop:
    def __init__(self, net, get_batch, options, extract_stats, callbacks, state, exp_dir):
        self.net = net
        self.get_batch = get_batch
        self.options = options
        self.extract_stats = extract_stats
        self.callbacks = callbacks
        self.state = state
        self.exp_dir = exp_dir

    def run_epoch(self, epoch: int, train: Sequence[int], val: Sequence[int]) -> None:
        options, state, net = self.options, self.state, self.net
        done = state.step if state.epoch == epoch else 0
        stats = state.running.get("stats", {}) if done else {}
        rng = np.random.default_rng([options.random_seed, epoch])
        chosen = rng.permutation(np.asarray(train))[: options.epoch_size]
        state.epoch, state.step = epoch, done
        if not done:
            self._reset_statistics()
        for name, value in state.solver_state.items():
            state.solver_state[name] = to_device(value, net.device)
        train_stats = self._process("train", epoch, chosen, done, stats)
        self._reset_statistics()
        val_stats = self._process("val", epoch, rng.permutation(np.asarray(val)), 0, {})
        state.stats["train"].append(train_stats)
        if val_stats:
            state.stats["val"].append(val_stats)
        state.step, state.running = -1, {}
        save_checkpoint(epoch_path(self.exp_dir, epoch), net, self._on_cpu())
        (self.exp_dir / PARTIAL).unlink(missing_ok=True)
        for callback in self.callbacks:
            callback.after_epoch(net, state)

    def _process(self, mode: str, epoch: int, subset: Any, done: int, stats: dict) -> dict:
        size = self.options.batch_size
        steps = -(-len(subset) // size)
        for step in range(done, steps):
            start = time.perf_counter()
            batch = subset[step * size : (step + 1) * size]
            self.net.rng = np.random.default_rng([self.options.random_seed, epoch, step])
            (self._train_step if mode == "train" else self._validate)(batch, epoch)
            stats["num"] = stats.get("num", 0) + len(batch)
            stats = self.extract_stats(stats, self.net)
            stats["time"] = stats.get("time", 0.0) + time.perf_counter() - start
            if mode == "train":
                self.state.step = step + 1
                self._save_partial(step + 1, steps, stats)
            for callback in self.callbacks:
                callback.after_step(mode, epoch, step + 1, steps, stats)
        return stats

    def _train_step(self, batch: Any, epoch: int) -> None:
        net, options = self.net, self.options
        net.mode = "normal"
        parts = options.num_sub_batches
        for s in range(parts):
            part = batch[s::parts]
            if len(part) == 0:
                continue
            given = self.get_batch([int(i) for i in part], "train", epoch)
            net.accumulate_param_ders = s > 0
            # What is not finite is looked for right after, and named.
            with np.errstate(invalid="ignore", over="ignore"):
                net.eval(
                    given.inputs,
                    options.der_outputs,
                    late_inputs=given.late_inputs,
                    hold_on=s < parts - 1,
                )
            self._check_losses(epoch)
        accumulate_gradients(net, self.state, options, epoch)
        for callback in self.callbacks:
            callback.after_update(net)

    def _check_losses(self, epoch: int) -> None:
        for name in self.options.der_outputs:
            value = self.net.get_var(name).value
            if not bool(get_array_module(value).isfinite(value).all()):
                raise NonFiniteError(
                    f"{name} is {value} in epoch {epoch}, step {self.state.step + 1}: no parameter "
                    f"was changed by this step, and the checkpoints in {self.exp_dir} are whole; "
                    "lower the learning rate, or look at the inputs of this step"
                )

    def _validate(self, batch: Any, epoch: int) -> None:
        given = self.get_batch([int(i) for i in batch], "val", epoch)
        self.net.mode = "test"
        self.net.eval(given.inputs, late_inputs=given.late_inputs)

    def _save_partial(self, step: int, steps: int, stats: dict) -> None:
        every = self.options.checkpoint_every
        if not every or step % every or step == steps:
            return
        averages = {}
        for record in self.net.layers:
            held = record.block.statistics_state()
            if held is not None:
                averages[record.name] = held
        self.state.running = {"stats": stats, "averages": averages}
        save_checkpoint(self.exp_dir / PARTIAL, self.net, self._on_cpu())

    def _reset_statistics(self) -> None:
        for record in self.net.layers:
            record.block.reset()

    def _on_cpu(self) -> TrainState:
        held = dict(vars(self.state))
        held["solver_state"] = {
            name: to_device(value, "cpu") for name, value in self.state.solver_state.items()
        }
        return TrainState(**held)


def _restore_statistics(net: DagNN, state: TrainState) -> None:
    for name, held in state.running.get("averages", {}).items():
        net.get_layer(name).block.load_statistics_state(held)


def _check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was started with other settings."""
    changed = [
        f"{name} was {before.get(name)!r}, is {value!r}"
        for name, value in now.items()
        if _plain(before.get(name)) != _plain(value)
    ]
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({'; '.join(changed)}): give the same "
            "settings, choose another folder, or begin anew without continuing"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
