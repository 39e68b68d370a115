"""The training loop, after MatConvNet's ``examples/cnn_train_dag.m``."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .backend import get_array_module, tree_to_device
from .checkpoint import (
    PARTIAL,
    TrainState,
    epoch_path,
    find_last_checkpoint,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from .errors import CheckpointError, DagNNError
from .net import DagNN
from .records import TRAIN_METHODS, Parameter
from .train_options import (
    Callback,
    ExtractStats,
    GetBatch,
    PostEpoch,
    Request,
    StopTraining,
    TrainOptions,
    check_rates,
    rate_of_epoch,
)


class NonFiniteError(DagNNError, ArithmeticError):
    """A loss or a derivative is infinite or not a number; training stopped before the update."""


def loss_averages(stats: dict, net: DagNN) -> dict:
    """Running averages of all layers that keep one, by the name of their first output."""
    for record in net.layers:
        figures = record.block.statistics()
        if figures is not None:
            stats[record.outputs[0]] = figures["average"]
    return stats


def accumulate_stats(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of one epoch of several workers as one (``accumulateStats``).

    Parameters
    ----------
    parts : sequence of dict
        The figures of each worker, numbers by name, among them ``num``, how many elements it saw.

    Returns
    -------
    dict
        ``num``, the sum, and of each other figure the mean weighted by ``num``.

    Raises
    ------
    ValueError
        If no worker saw an element, or they have other figures.
    """
    names = list(parts[0]) if parts else []
    if any(set(part) != set(names) for part in parts):
        received = " and ".join(str(list(part)) for part in parts)
        raise ValueError(f"workers must have the same figures, received {received}")
    total = sum(part["num"] for part in parts)
    if not total:
        raise ValueError("no worker saw an element: there is nothing to average")
    means = {name: sum(part[name] * part["num"] for part in parts) / total for name in names}
    return {**means, "num": total}


def train_dag(
    net: DagNN,
    get_batch: GetBatch,
    train: Sequence[int],
    val: Sequence[int] = (),
    *,
    options: TrainOptions,
    extract_stats: ExtractStats = loss_averages,
    post_epoch: PostEpoch | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[DagNN, TrainState]:
    """Train a network, epoch after epoch, with checkpoints.

    Without training elements the network is only evaluated on those of validation, as often as
    there are epochs left; nothing is changed and no checkpoint is written or moved.

    Every random choice depends on ``random_seed``, epoch and step alone, so a run that was
    interrupted and goes on from a checkpoint gives the numbers of one that was not (bit for bit
    on a CPU).

    Parameters
    ----------
    net : DagNN
        Trained in place, unless a checkpoint is found.
    get_batch : function
        See ``GetBatch``. Its result must depend on its arguments alone. ``ReadAhead`` makes
        batches of another one in threads, ahead of their use.
    train, val : sequences of int
        Elements of the two sets.
    options : TrainOptions
    extract_stats : function
        Turns the present evaluation into figures.
    post_epoch : function
        Called after each epoch; see ``PostEpoch``. The checkpoint of the epoch, written after
        it, holds the learning rate that it sets, so that a run which goes on keeps it.
    callbacks : sequence of Callback

    Returns
    -------
    net, state : DagNN and TrainState
        As after the last epoch. The network is another object than ``net`` where a checkpoint
        was found, on the same device and with the same parameter server.

    Raises
    ------
    NonFiniteError
        If a loss or derivative is not finite. The checkpoints written so far stay.
    CheckpointError
        If the checkpoint to go on from is damaged, or of a run with other settings; or was
        written within an epoch whose steps had other elements.
    ValueError
        If there are neither training nor validation elements, or no ``der_outputs`` to train.
    """
    exp_dir = Path(options.exp_dir)
    if len(train) == 0 and len(val) == 0:
        raise ValueError("the training set is empty, and so is the validation set")
    if len(train) > 0:
        if not options.der_outputs:
            raise ValueError("der_outputs must name what is minimised, and is empty")
        exp_dir.mkdir(parents=True, exist_ok=True)
        for name in options.der_outputs:
            net.get_var(name).precious = True
        if not options.continue_:
            set_aside(exp_dir)
    state = TrainState()
    last = find_last_checkpoint(exp_dir) if options.continue_ else None
    if last is not None:
        net, state = _go_on(last, net, train, options)
    state.settings = dict(options.settings)
    _take_solver(state, options)
    for parameter in net.params:
        # Sums depend on an array's order in memory, and checkpoints keep C order alone.
        if parameter.value is not None:
            xp = get_array_module(parameter.value)
            parameter.value = xp.asarray(parameter.value, order="C")
    loop = _Loop(net, state, get_batch, train, val, options, extract_stats, post_epoch, callbacks)
    first, done = (state.epoch + 1, 0) if state.step < 0 else (state.epoch, state.step)
    try:
        for callback in callbacks:
            callback.on_start(net, state)
        if hasattr(get_batch, "expect"):
            get_batch.expect(loop.requests(first, done))
        for epoch in range(first, options.num_epochs + 1):
            if loop.is_over():
                break
            loop.run_epoch(epoch)
    except StopTraining:
        pass
    return net, state


def accumulate_gradients(
    net: DagNN,
    state: TrainState,
    options: TrainOptions,
    epoch: int,
    *,
    evaluations: int | None = None,
) -> None:
    """Update all parameters from their derivatives (``accumulateGradients``).

    A parameter of method ``average`` moves to the mean of what its uses observed; one of method
    ``gradient`` by the solver, with weight decay, unless its learning rate and decay are both 0.
    A parameter that no evaluated layer used has no derivative and stays. Parameters keep their
    dtype.

    Parameters
    ----------
    evaluations : int, optional
        How many evaluations' derivatives were added up; by default ``num_sub_batches``.

    Raises
    ------
    NonFiniteError
        If a derivative is not finite. No parameter is changed then.
    DagNNError
        If a parameter's train method is not known; likewise.
    """
    server = net.parameter_server
    workers = options.num_sub_batches if evaluations is None else evaluations
    if server is not None:
        server.sync()
        workers *= server.num_workers
    updates = []
    for parameter in net.params:
        der = parameter.der if server is None else server.pull(parameter.name)
        if der is not None:
            _check_update(parameter, der, epoch)
            updates.append((parameter, der))
    for parameter, der in updates:
        if parameter.train_method == "average":
            rate = float(parameter.learning_rate)
            share = rate / workers / parameter.fanout
            _assign(parameter, (1 - rate) * parameter.value + share * der)
        else:
            _descend(parameter, der / workers, state, options, epoch)


def _check_update(parameter: Parameter, der: Any, epoch: int) -> None:
    if parameter.train_method not in TRAIN_METHODS:
        raise DagNNError(
            f"parameter {parameter.name!r}: train_method must be one of {TRAIN_METHODS}, received "
            f"{parameter.train_method!r}"
        )
    if not bool(get_array_module(der).isfinite(der).all()):
        raise NonFiniteError(
            f"the derivative by parameter {parameter.name!r} is not finite in epoch {epoch}: no "
            "parameter was changed by this step; lower the learning rate, or look at the inputs "
            "of this step"
        )


def _descend(
    parameter: Parameter, der: Any, state: TrainState, options: TrainOptions, epoch: int
) -> None:
    # float: a factor of NumPy's double type would turn single precision into double.
    decay = float(options.weight_decay * parameter.weight_decay)
    chosen = state.learning_rate
    rate = options.rate(epoch) if chosen is None else rate_of_epoch(chosen, epoch)
    rate = float(rate * parameter.learning_rate)
    if rate <= 0 and decay <= 0:
        return
    value, state.solver_state[parameter.name] = options.solver.update(
        parameter.value,
        state.solver_state.get(parameter.name),
        der + decay * parameter.value,
        rate,
    )
    _assign(parameter, value)


def _assign(parameter: Parameter, value: Any) -> None:
    """A new value in the parameter's dtype, and an array where arithmetic made a number of it."""
    before = parameter.value
    parameter.value = get_array_module(before).asarray(value, dtype=before.dtype)


@dataclass
class _Loop:
    """The epochs of one call of ``train_dag``."""

    net: DagNN
    state: TrainState
    get_batch: GetBatch
    train: Sequence[int]
    val: Sequence[int]
    options: TrainOptions
    extract_stats: ExtractStats
    post_epoch: PostEpoch | None
    callbacks: Sequence[Callback]

    @property
    def exp_dir(self) -> Path:
        return Path(self.options.exp_dir)

    def run_epoch(self, epoch: int) -> None:
        state, net = self.state, self.net
        done = state.step if state.epoch == epoch else 0
        stats = state.running.get("stats", {}) if done else {}
        train, val = self._orders(epoch)
        state.epoch, state.step = epoch, done
        if not done:
            self._reset_statistics()
        state.solver_state = tree_to_device(state.solver_state, net.device)
        train_stats = self._process("train", epoch, train, done, stats)
        self._reset_statistics()
        val_stats = self._process("val", epoch, val, 0, {})
        for part, figures in (("train", train_stats), ("val", val_stats)):
            if figures:
                state.stats[part].append(figures)
        state.step, state.running = -1, {}
        if not self.options.save_solver_state:
            state.solver_state = {}
        if self.post_epoch is not None:
            self._take_rate(self.post_epoch(net, self.options, state))
        if len(self.train) > 0:
            save_checkpoint(epoch_path(self.exp_dir, epoch), net, state)
            (self.exp_dir / PARTIAL).unlink(missing_ok=True)
        for callback in self.callbacks:
            callback.after_epoch(net, state)

    def _take_rate(self, rate: Any) -> None:
        """The learning rate that ``post_epoch`` returned."""
        if rate is not None:
            check_rates("the learning rate that post_epoch returns", rate)
            self.state.learning_rate = np.asarray(rate, dtype=np.float64).tolist()

    def is_over(self) -> bool:
        """Whether ``post_epoch`` has ended the training, in this run or before it went on."""
        return self.state.learning_rate is not None and not np.any(self.state.learning_rate)

    def requests(self, first: int, done: int) -> Iterator[Request]:
        """What ``get_batch`` will be asked for from epoch ``first`` on, ``done`` steps of which
        are done."""
        for epoch in range(first, self.options.num_epochs + 1):
            train, val = self._orders(epoch)
            for mode, subset, skip in (("train", train, done), ("val", val, 0)):
                for batch in self._batches(subset)[skip:]:
                    for part in self._sub_batches(batch):
                        yield tuple(part), mode, epoch
            done = 0

    def _orders(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The elements of an epoch in the order of their use: for training, for validation."""
        rng = np.random.default_rng([self.options.random_seed, epoch])
        train = rng.permutation(np.asarray(self.train))[: self.options.epoch_size]
        return train, rng.permutation(np.asarray(self.val))

    def _batches(self, subset: np.ndarray) -> list[np.ndarray]:
        size = self.options.batch_size
        return [subset[i : i + size] for i in range(0, len(subset), size)]

    def _process(self, mode: str, epoch: int, subset: Any, done: int, stats: dict) -> dict:
        batches = self._batches(subset)
        steps = len(batches)
        for step in range(done, steps):
            start = time.perf_counter()
            batch = batches[step]
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
        parts = self._sub_batches(batch)
        for s, part in enumerate(parts):
            given = self.get_batch(part, "train", epoch)
            net.accumulate_param_ders = s > 0
            # What is not finite is looked for right after, and named.
            with np.errstate(invalid="ignore", over="ignore"):
                net.eval(
                    given.inputs,
                    options.der_outputs,
                    late_inputs=given.late_inputs,
                    hold_on=s < len(parts) - 1,
                    memory_budget=options.memory_budget,
                )
            self._check_losses(epoch)
        net.accumulate_param_ders = False
        accumulate_gradients(net, self.state, options, epoch, evaluations=len(parts))
        for callback in self.callbacks:
            callback.after_update(net)

    def _check_losses(self, epoch: int) -> None:
        for name in self.options.der_outputs:
            value = self.net.get_var(name).value
            if not bool(get_array_module(value).isfinite(value).all()):
                found = float(value.reshape(())) if value.size == 1 else "not finite everywhere"
                raise NonFiniteError(
                    f"{name} is {found} in epoch {epoch}, step {self.state.step + 1}: no parameter "
                    f"was changed by this step, and the checkpoints in {self.exp_dir} are whole; "
                    "lower the learning rate, or look at the inputs of this step"
                )

    def _validate(self, batch: Any, epoch: int) -> None:
        self.net.mode = "test"
        for part in self._sub_batches(batch):
            given = self.get_batch(part, "val", epoch)
            self.net.eval(given.inputs, late_inputs=given.late_inputs)

    def _sub_batches(self, batch: Any) -> list[list[int]]:
        """Every n-th element each; a last batch may have fewer than there are sub-batches."""
        parts = min(self.options.num_sub_batches, len(batch))
        return [[int(i) for i in batch[s::parts]] for s in range(parts)]

    def _save_partial(self, step: int, steps: int, stats: dict) -> None:
        every = self.options.checkpoint_every
        if not every or step % every or step == steps:
            return
        averages = {}
        for record in self.net.layers:
            held = record.block.statistics_state()
            if held is not None:
                averages[record.name] = held
        plan = _plan(self.train, self.options)
        self.state.running = {"stats": stats, "averages": averages, "plan": plan}
        save_checkpoint(self.exp_dir / PARTIAL, self.net, self.state)

    def _reset_statistics(self) -> None:
        for record in self.net.layers:
            record.block.reset()


def _go_on(
    path: Path, given: DagNN, train: Sequence[int], options: TrainOptions
) -> tuple[DagNN, TrainState]:
    """Network and state of a checkpoint, in the place of a network that is given."""
    net, state = load_checkpoint(path)
    _refuse_changes(path, state.settings, options.settings)
    if "plan" in state.running:
        _refuse_changes(path, state.running["plan"], _plan(train, options))
    net.move(given.device)
    net.parameter_server, net.conserve_memory = given.parameter_server, given.conserve_memory
    for variable in given.vars:
        if variable.precious and net.get_var_index(variable.name) is not None:
            net.get_var(variable.name).precious = True
    for name, held in state.running.get("averages", {}).items():
        net.get_layer(name).block.load_statistics_state(held)
    return net, state


def _take_solver(state: TrainState, options: TrainOptions) -> None:
    """Begin without the state of a solver of another kind."""
    name = type(options.solver).__name__
    if state.solver not in ("", name):
        state.solver_state = {}
    state.solver = name


def _plan(train: Sequence[int], options: TrainOptions) -> dict[str, Any]:
    """What decides which elements a step sees."""
    names = ("batch_size", "num_sub_batches", "epoch_size", "random_seed")
    elements = np.asarray(train, dtype=np.int64)
    return {
        **{name: getattr(options, name) for name in names},
        "number of training elements": len(elements),
        "checksum of training elements": zlib.crc32(elements.tobytes()),
    }


def _refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was started with other settings."""
    changed = [
        f"{name} was {_shown(before, name)}, is {_shown(now, name)}"
        for name in dict.fromkeys([*before, *now])
        if _plain(before.get(name)) != _plain(now.get(name))
    ]
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({'; '.join(changed)}): give the same "
            "settings, choose another folder, or begin anew without continuing"
        )


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not set"


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists, so that ``!=`` compares."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value
