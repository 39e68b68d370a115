"""Checkpoints of training: network, solver state and statistics in one file without pickle."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import storage
from .backend import tree_to_device
from .contents import CHECKPOINT_FORMAT, FORMAT_VERSION, check_format
from .net import DagNN

_NAME = re.compile(r"net-epoch-([1-9]\d*)\.npz")
PARTIAL = "net-partial.npz"


@dataclass
class TrainState:
    """Where training stands.

    Attributes
    ----------
    epoch : int
        The epoch that was begun last, 1-based; 0 before the first.
    step : int
        Batches of it that are done; -1 when all are, and validation too.
    solver_state : dict of parameter name to state
    solver : str
        Class of the solver that it is of; empty before the first step, and in checkpoints of the
        time when they did not tell.
    learning_rate : float, list of float or None
        What ``post_epoch`` of ``train_dag`` has set, in place of the options' rates.
    stats : dict
        ``{'train': [...], 'val': [...]}``: one dict of figures for each finished epoch.
    running : dict
        Figures of the epoch that is under way, and the losses' running averages.
    settings : dict
        Whatever the caller wants to find in the checkpoint again (options of the run).
    workers : int
        Processes that train together.
    """

    epoch: int = 0
    step: int = -1
    solver_state: dict[str, Any] = field(default_factory=dict)
    solver: str = ""
    learning_rate: float | list[float] | None = None
    stats: dict[str, list[dict]] = field(default_factory=lambda: {"train": [], "val": []})
    running: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int = 1


def epoch_path(directory: str | os.PathLike, epoch: int) -> Path:
    """Path of the checkpoint written at the end of ``epoch``."""
    return Path(directory) / f"net-epoch-{epoch}.npz"


def save_checkpoint(path: str | os.PathLike, net: DagNN, state: TrainState) -> None:
    """Write network and state, of any device, to ``path``, under a temporary name first."""
    storage.save_tree(
        path,
        {
            "format": CHECKPOINT_FORMAT,
            "version": FORMAT_VERSION,
            "net": net.to_dict(),
            "state": tree_to_device(vars(state), "cpu"),
        },
    )


def load_checkpoint(path: str | os.PathLike) -> tuple[DagNN, TrainState]:
    """Read what ``save_checkpoint`` wrote; the network is on the CPU.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, is damaged, or is of a later version.
    """
    content = check_format(path, storage.load_tree(path), CHECKPOINT_FORMAT)
    return DagNN.from_dict(content["net"]), TrainState(**content["state"])


def find_last_checkpoint(directory: str | os.PathLike) -> Path | None:
    """The checkpoint of ``directory`` that got farthest, or None.

    That is the partial one if it belongs to a later epoch than the newest complete one.

    Raises
    ------
    CheckpointError
        If there is a partial one and it is damaged.
    """
    directory = Path(directory)
    newest = max(_epochs(directory), default=0)
    partial = directory / PARTIAL
    if partial.is_file() and load_checkpoint(partial)[1].epoch > newest:
        return partial
    return epoch_path(directory, newest) if newest else None


def set_aside(directory: str | os.PathLike) -> Path | None:
    """Move the checkpoints of ``directory`` to a new folder ``earlier-1`` (or -2, ...) in it.

    Two runs must not mix in one folder: continuing goes on from the farthest epoch.

    Returns
    -------
    Path or None
        The new folder; None where there was nothing to move.
    """
    directory = Path(directory)
    found = [epoch_path(directory, epoch) for epoch in _epochs(directory)]
    if (directory / PARTIAL).is_file():
        found.append(directory / PARTIAL)
    if not found:
        return None
    number = 1
    while (aside := directory / f"earlier-{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    return aside


def _epochs(directory: Path) -> list[int]:
    """The epochs whose checkpoints ``directory`` holds."""
    matches = [_NAME.fullmatch(path.name) for path in directory.glob("net-epoch-*.npz")]
    return [int(match[1]) for match in matches if match]
