"""Checkpoints of training: network, solver state and statistics in one file without pickle."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import storage
from .net import FORMAT_VERSION, DagNN, check_format

FORMAT = "dagnet.checkpoint"
_NAME = re.compile(r"net-epoch-(\d+)\.npz")
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
    stats : dict
        ``{'train': [...], 'val': [...]}``: one dict of figures for each finished epoch.
    running : dict
        Figures of the epoch that is under way, and the losses' running averages.
    settings : dict
        Whatever the caller wants to find in the checkpoint again (options of the run).
    """

    epoch: int = 0
    step: int = -1
    solver_state: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, list[dict]] = field(default_factory=lambda: {"train": [], "val": []})
    running: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def epoch_path(directory: str | os.PathLike, epoch: int) -> Path:
    """Path of the checkpoint written at the end of ``epoch``."""
    return Path(directory) / f"net-epoch-{epoch}.npz"


def save_checkpoint(path: str | os.PathLike, net: DagNN, state: TrainState) -> None:
    """Write network and state to ``path``, under a temporary name first."""
    storage.save_tree(
        path,
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "net": net.to_dict(),
            "state": dict(vars(state)),
        },
    )


def load_checkpoint(path: str | os.PathLike) -> tuple[DagNN, TrainState]:
    """Read what ``save_checkpoint`` wrote; the network is on the CPU.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, is damaged, or is of a later version.
    """
    content = check_format(path, storage.load_tree(path), FORMAT)
    return DagNN.from_dict(content["net"]), TrainState(**content["state"])


def find_last_checkpoint(directory: str | os.PathLike) -> Path | None:
    """The checkpoint of ``directory`` that got farthest, or None.

    That is the partial one if it belongs to a later epoch than the newest complete one.
    """
    directory = Path(directory)
    epochs = [
        int(match[1])
        for p in directory.glob("net-epoch-*.npz")
        if (match := _NAME.fullmatch(p.name))
    ]
    newest = max(epochs, default=0)
    partial = directory / PARTIAL
    if partial.is_file() and load_checkpoint(partial)[1].epoch > newest:
        return partial
    return epoch_path(directory, newest) if newest else None
