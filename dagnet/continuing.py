"""Where a training run begins: at its first step, or at the last checkpoint."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import (
    PARTIAL,
    TrainState,
    find_last_checkpoint,
    load_checkpoint,
)
from .communicator import Communicator
from .errors import CheckpointError
from .net import DagNN
from .train_options import TrainOptions


def begin_training(
    net: DagNN, train: Sequence[int], options: TrainOptions, communicator: Communicator
) -> tuple[DagNN, TrainState]:
    """Network and state to begin with: those of the last checkpoint, if there is one."""
    state, last = TrainState(), None
    if options.continue_:
        if communicator.is_first:
            last = find_last_checkpoint(options.exp_dir)
        name, *_ = communicator.exchange(None if last is None else str(last))
        last = None if name is None else Path(name)
    if last is not None:
        net, state = _go_on(last, net, train, options, communicator)
        if communicator.is_first and len(train) > 0 and last.name != PARTIAL:
            # Of an epoch that is whole: the run was killed before it could remove it.
            (Path(options.exp_dir) / PARTIAL).unlink(missing_ok=True)
    state.settings = dict(options.settings)
    state.workers = communicator.size
    _take_solver(state, options)
    return net, state


def _go_on(
    path: Path,
    given: DagNN,
    train: Sequence[int],
    options: TrainOptions,
    communicator: Communicator,
) -> tuple[DagNN, TrainState]:
    """Network and state of a checkpoint, in the place of a network that is given."""
    net, state = _read(path, communicator)
    _refuse_changes(path, state.settings, options.settings)
    if state.workers != communicator.size:
        raise CheckpointError(
            f"{path} was written by {state.workers} processes that train together, and this run "
            f"has {communicator.size}: start as many, or begin a new run with its weights"
        )
    if "plan" in state.running:
        _refuse_changes(path, state.running["plan"], elements_plan(train, options))
    net.move(given.device)
    net.parameter_server, net.conserve_memory = given.parameter_server, given.conserve_memory
    for variable in given.vars:
        if variable.precious and net.get_var_index(variable.name) is not None:
            net.get_var(variable.name).precious = True
    averages = state.running.get("averages", {})
    if isinstance(averages, list):
        # One for each process; in checkpoints of the time when there was but one, that one.
        averages = averages[communicator.rank]
    for name, held in averages.items():
        net.get_layer(name).block.load_statistics_state(held)
    return net, state


def _read(path: Path, communicator: Communicator) -> tuple[DagNN, TrainState]:
    """A checkpoint that the first process reads for all."""
    if communicator.size == 1:
        return load_checkpoint(path)
    if communicator.is_first:
        result = load_checkpoint(path)
        communicator.broadcast_bytes(path.read_bytes())
        return result
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(communicator.broadcast_bytes(b""))
        return load_checkpoint(copy)


def _take_solver(state: TrainState, options: TrainOptions) -> None:
    """Begin without the state of a solver of another kind."""
    name = type(options.solver).__name__
    if state.solver not in ("", name):
        state.solver_state = {}
    state.solver = name


def elements_plan(train: Sequence[int], options: TrainOptions) -> dict[str, Any]:
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
