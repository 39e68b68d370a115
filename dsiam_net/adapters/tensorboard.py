"""Figures of a training run for TensorBoard, beside its own log.

Written by ``tensorboardX`` (``pip install 'dsiam[tensorboard]'``), which needs neither TensorFlow
nor PyTorch; it is imported when it is first needed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dagnet import Callback

INSTALL = "pip install 'dsiam[tensorboard]'"
# Seconds after which what a run that is killed has not written yet is written.
FLUSH_EVERY = 10


class TensorBoardLog(Callback):
    """Writes event files: ``step/NAME`` a training step, ``train/NAME`` and ``val/NAME`` an epoch.

    The abscissa counts training steps over all epochs, from 1. A run that goes on from a
    checkpoint writes a further file, which tells TensorBoard to drop what the earlier ones hold
    of the steps that are done again.

    Parameters
    ----------
    directory : path
        Where the files are written; made where it is missing.
    figures : sequence of str
        Names of the figures of a step that are written; those that are not finite are left out.

    Raises
    ------
    ImportError
        If ``tensorboardX`` is not installed.
    OSError
        If the folder cannot be made.
    """

    def __init__(self, directory: str | os.PathLike, figures: Sequence[str]):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as exc:
            raise ImportError(
                f"--tensorboard needs the package tensorboardX ({exc}): {INSTALL}"
            ) from exc
        os.makedirs(directory, exist_ok=True)
        # The names of files end with seconds, and those of a run that was killed must not be taken
        # by the next; TensorBoard reads files in the order of their names.
        self._open = lambda first: SummaryWriter(
            os.fspath(directory),
            purge_step=first,
            flush_secs=FLUSH_EVERY,
            filename_suffix=f".{time.time_ns()}",
        )
        self._figures = tuple(figures)
        self._writer: Any = None
        self._step = 0

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, *exc) -> None:
        if self._writer is not None:
            self._writer.close()

    def after_step(self, mode, epoch, step, steps, stats):
        if mode != "train":
            return
        self._step = (epoch - 1) * steps + step
        if self._writer is None:
            self._writer = self._open(self._step)
        self._add("step", stats["last"])

    def after_epoch(self, net, state):
        for mode in ("train", "val"):
            # An epoch without validation adds nothing to its list.
            if self._writer is not None and len(state.stats[mode]) == state.epoch:
                self._add(mode, state.stats[mode][-1])

    def _add(self, group: str, values: dict[str, float]) -> None:
        for name in self._figures:
            value = float(values.get(name, math.nan))
            if math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, self._step)


def add_tensorboard_option(group: argparse._ArgumentGroup) -> None:
    """Add ``--tensorboard``."""
    group.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="write the figures of steps and epochs for TensorBoard, too",
    )


@contextmanager
def tensorboard_logs(
    directory: str | os.PathLike | None, figures: Sequence[str]
) -> Iterator[list[TensorBoardLog]]:
    """The callbacks for ``--tensorboard``: one, closed at the end, or none without a folder."""
    if directory is None:
        yield []
        return
    with TensorBoardLog(directory, figures) as log:
        yield [log]
