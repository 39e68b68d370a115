"""The training loop, after MatConvNet's ``examples/cnn_train_dag.m``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .averages import accumulate_stats, loss_averages
from .backend import asnumpy, get_array_module, tree_to_device
from .checkpoint import (
    PARTIAL,
    TrainState,
    epoch_path,
    save_checkpoint,
    set_aside,
)
from .communicator import SINGLE, Communicator, broadcast_tree
from .continuing import begin_training, elements_plan
from .device_steps import DeviceSteps
from .errors import DagNNError
from .net import DagNN
from .train_options import (
    Batch,
    Callback,
    ExtractStats,
    GetBatch,
    PostEpoch,
    Request,
    StopTraining,
    TrainOptions,
    check_rates,
)
from .update import NonFiniteError, accumulate_gradients
from .values import draw_entropy


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
    communicator: Communicator = SINGLE,
) -> tuple[DagNN, TrainState]:
    """Train a network, epoch after epoch, with checkpoints.

    Without training elements the network is only evaluated on those of validation, as often as
    there are epochs left; nothing is changed and no checkpoint is written or moved.

    Every random choice depends on ``random_seed``, epoch and step alone, so a run that was
    interrupted and goes on from a checkpoint gives the numbers of one that was not (bit for bit
    on a CPU).

    Several processes, each of which calls this function alike, train one network together: each
    evaluates its share of a step's elements, and all take the same step. Parameters begin with,
    and after each checkpoint are, those of the first process, which alone writes and reads
    files. An exception in one of them leaves the others waiting: end the run then, as
    ``dagnet.mpi.abort`` does.

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
        Turns the present evaluation into figures. With several processes it is called by each,
        and must give all the same, those of all processes, as the default does.
        A process without elements in a step has no values then.
    post_epoch : function
        Called after each epoch; see ``PostEpoch``. The checkpoint of the epoch, written after
        it, holds the learning rate that it sets, so that a run which goes on keeps it.
    callbacks : sequence of Callback
    communicator : Communicator
        The processes that train together; by default this one alone. Callbacks that write are
        given to the first process alone.

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
        If the checkpoint to go on from is damaged, or of a run with other settings or another
        number of processes; or was written within an epoch whose steps had other elements.
    DagNNError
        If there are several processes, and the network has a parameter server of its own.
    ValueError
        If there are neither training nor validation elements, or no ``der_outputs`` to train.
    """
    exp_dir = Path(options.exp_dir)
    if len(train) == 0 and len(val) == 0:
        raise ValueError("the training set is empty, and so is the validation set")
    if len(train) > 0:
        if not options.der_outputs:
            raise ValueError("der_outputs must name what is minimised, and is empty")
        if communicator.is_first:
            exp_dir.mkdir(parents=True, exist_ok=True)
        for name in options.der_outputs:
            net.get_var(name).precious = True
        if not options.continue_ and communicator.is_first:
            set_aside(exp_dir)
    if communicator.size > 1 and net.parameter_server is not None:
        raise DagNNError("a network with a parameter server cannot have a communicator as well")
    net, state = begin_training(net, train, options, communicator)
    for parameter in net.params:
        # Sums depend on an array's order in memory, and checkpoints keep C order alone.
        if parameter.value is not None:
            xp = get_array_module(parameter.value)
            parameter.value = xp.asarray(parameter.value, order="C")
    loop = _Loop(
        *(net, state, get_batch, train, val, options, extract_stats, post_epoch, callbacks),
        communicator=communicator,
    )
    first, done = (state.epoch + 1, 0) if state.step < 0 else (state.epoch, state.step)
    if communicator.size > 1:
        loop.take_first()
        net.set_parameter_server(communicator.server(net))
    try:
        loop.ask(lambda callback: callback.on_start(net, state))
        if hasattr(get_batch, "expect"):
            get_batch.expect(loop.requests(first, done))
        for epoch in range(first, options.num_epochs + 1):
            if loop.is_over():
                break
            loop.run_epoch(epoch)
    except StopTraining:
        pass
    finally:
        if communicator.size > 1:
            net.clear_parameter_server()
    return net, state


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
    communicator: Communicator
    # Elements that this process has evaluated, of the epoch's training or validation so far.
    seen: int = 0

    @property
    def exp_dir(self) -> Path:
        return Path(self.options.exp_dir)

    def ask(self, what: Callable[[Callback], None]) -> None:
        """Do something with each callback; training is over for all processes if one stops it."""
        stop = False
        try:
            for callback in self.callbacks:
                what(callback)
        except StopTraining:
            stop = True
        if any(self.communicator.exchange(stop)):
            raise StopTraining

    def take_first(self) -> None:
        """Parameters and the solver's state of the first process, in all.

        They are the same but where processors differ and round differently; a run that goes on
        from a checkpoint has those of the first process.
        """
        for parameter in self.net.params:
            parameter.value = broadcast_tree(parameter.value, self.communicator)
        self.state.solver_state = broadcast_tree(self.state.solver_state, self.communicator)

    def _save(self, path: Path) -> None:
        if self.communicator.size > 1:
            self.take_first()
        if self.communicator.is_first:
            save_checkpoint(path, self.net, self.state)

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
            self._save(epoch_path(self.exp_dir, epoch))
            if self.communicator.is_first:
                (self.exp_dir / PARTIAL).unlink(missing_ok=True)
        self.ask(lambda callback: callback.after_epoch(net, state))

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
                    for part in self._own_parts(batch):
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
        self.seen = sum(len(part) for batch in batches[:done] for part in self._own_parts(batch))
        for step in range(done, steps):
            start = time.perf_counter()
            batch = batches[step]
            self.net.rng = np.random.default_rng([self.options.random_seed, epoch, step])
            (self._train_step if mode == "train" else self._validate)(batch, epoch)
            stats["num"] = stats.get("num", 0) + len(batch)
            self.seen += sum(map(len, self._own_parts(batch)))
            stats = self._figures(stats)
            stats["time"] = stats.get("time", 0.0) + time.perf_counter() - start
            if mode == "train":
                self.state.step = step + 1
            for callback in self.callbacks:
                callback.after_step(mode, epoch, step + 1, steps, stats)
            # After the callbacks: what they write of a step is there before a run goes on from it.
            if mode == "train":
                self._save_partial(step + 1, steps, stats)
        return stats

    def _figures(self, stats: dict) -> dict:
        """The figures so far, of all processes, with those of this step."""
        if self.extract_stats is not loss_averages or self.communicator.size == 1:
            return self.extract_stats(stats, self.net)
        own = loss_averages({"num": self.seen}, self.net)
        return stats | accumulate_stats(self.communicator.exchange(own))

    @cached_property
    def _device_steps(self) -> DeviceSteps | None:
        """Steps that leave nothing to the host, where a GPU alone has all of a step's work."""
        alone = self.communicator.size == 1 and self.net.parameter_server is None
        if self.net.device == "cpu" or not alone or self.options.num_sub_batches > 1:
            return None
        given = (self.net, self.state, self.options, self.callbacks)
        return DeviceSteps(*given, lambda name: self._loss_error(name, self.state.epoch))

    def _train_step(self, batch: Any, epoch: int) -> None:
        net, options = self.net, self.options
        if self._device_steps is not None:
            for given, _ in self._turns(batch, "train", epoch):
                self._device_steps.train(given, epoch)
            return
        net.mode = "normal"
        net.accumulate_param_ders = False
        for given, is_last in self._turns(batch, "train", epoch):
            # What is not finite is looked for right after, and named.
            with np.errstate(invalid="ignore", over="ignore"):
                net.eval(
                    given.inputs,
                    options.der_outputs,
                    late_inputs=given.late_inputs,
                    hold_on=not is_last,
                    memory_budget=options.memory_budget,
                )
            net.accumulate_param_ders = True
            self._check_losses(epoch)
        net.accumulate_param_ders = False
        evaluations = len(self._sub_batches(batch))
        if net.parameter_server is not None and self.communicator.size == 1:
            # Processes that the loop knows nothing of have as many each.
            evaluations *= net.parameter_server.num_workers
        accumulate_gradients(net, self.state, options, epoch, evaluations=evaluations)
        for callback in self.callbacks:
            callback.after_update(net)

    def _check_losses(self, epoch: int) -> None:
        # All numbers that a step leaves, by one transfer: the figures are made of them too.
        net, asked = self.net, list(self.options.der_outputs)
        numbers = [v.name for v in net.vars if v.precious and getattr(v.value, "size", 0) == 1]
        values = net.fetch([*asked, *numbers])
        for name in asked:
            if not np.isfinite(values[name]).all():
                raise self._loss_error(name, epoch)

    def _loss_error(self, name: str, epoch: int) -> NonFiniteError:
        value = asnumpy(self.net.get_var(name).value)
        found = float(value.reshape(())) if value.size == 1 else "not finite everywhere"
        return NonFiniteError(
            f"{name} is {found} in epoch {epoch}, step {self.state.step + 1}: no parameter "
            f"was changed by this step, and the checkpoints in {self.exp_dir} are whole; "
            "lower the learning rate, or look at the inputs of this step"
        )

    def _validate(self, batch: Any, epoch: int) -> None:
        if self._device_steps is not None:
            for given, _ in self._turns(batch, "val", epoch):
                self._device_steps.validate(given)
            return
        self.net.mode = "test"
        for given, _ in self._turns(batch, "val", epoch):
            self.net.eval(given.inputs, late_inputs=given.late_inputs)

    def _turns(self, batch: Any, mode: str, epoch: int) -> Iterator[tuple[Batch, bool]]:
        """What this process evaluates of a step, and whether it is the last; every evaluation has
        the random numbers that it has with one process."""
        own = self._own(batch)
        if not own:
            # What an earlier step computed is not this one's.
            for variable in self.net.vars:
                variable.value = None
        for place, part in enumerate(self._sub_batches(batch)):
            if place in own:
                yield self.get_batch(part, mode, epoch), place == own[-1]
            else:
                draw_entropy(self.net.rng)

    def _sub_batches(self, batch: Any) -> list[list[int]]:
        """The sub-batches of all processes, every n-th element each; a last batch may have fewer
        than there are sub-batches."""
        parts = min(self.options.num_sub_batches * self.communicator.size, len(batch))
        return [[int(i) for i in batch[s::parts]] for s in range(parts)]

    def _own(self, batch: Any) -> range:
        """The places of this process's sub-batches among those of all."""
        return range(self.communicator.rank, len(self._sub_batches(batch)), self.communicator.size)

    def _own_parts(self, batch: Any) -> list[list[int]]:
        parts = self._sub_batches(batch)
        return [parts[place] for place in self._own(batch)]

    def _save_partial(self, step: int, steps: int, stats: dict) -> None:
        every = self.options.checkpoint_every
        if not every or step % every or step == steps:
            return
        averages = {}
        for record in self.net.layers:
            held = record.block.statistics_state()
            if held is not None:
                averages[record.name] = held
        plan = elements_plan(self.train, self.options)
        averages = self.communicator.exchange(averages)
        self.state.running = {"stats": stats, "averages": averages, "plan": plan}
        self._save(self.exp_dir / PARTIAL)

    def _reset_statistics(self) -> None:
        for record in self.net.layers:
            record.block.reset()
