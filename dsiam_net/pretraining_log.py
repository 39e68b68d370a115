"""What a pretraining run writes and shows: steps, epochs, curves, weights, a progress bar."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dagnet import (
    Callback,
    CheckpointError,
    DagNN,
    TrainState,
    atomic_write,
    explain_writing,
    load_checkpoint,
)
from dagnet.checkpoint import epoch_path

from .network_files import write_network_file
from .pretraining import FIGURES, best_epoch, without_losses
from .training_log import Progress, waited_share

STEP_COLUMNS = ("epoch", "step", *FIGURES, "seconds", "waited")
EPOCH_COLUMNS = (
    *("epoch", "learning_rate"),
    *(f"train_{name}" for name in FIGURES),
    *(f"val_{name}" for name in FIGURES),
    *("seconds", "waited"),
)
# Steps after which the curves are drawn again within an epoch.
DRAW_EVERY = 500
BEST, LAST = "siamfc.npz", "siamfc-last.npz"


class StepLog(Callback):
    """Writes ``log.csv``, a row a step.

    When a run goes on from a checkpoint, rows after it are dropped: they are computed again.
    """

    def __init__(self, directory: Path):
        self.path = directory / "log.csv"
        self._before = (0.0, 0.0)

    def on_start(self, net, state):
        running = state.running.get("stats", {})
        self._before = (running.get("time", 0.0), running.get("waited", 0.0))
        # After a whole epoch the step is -1: every row of it is kept.
        last = (state.epoch, state.step if state.step >= 0 else math.inf)
        kept = [row for row in read_steps(self.path) if (row["epoch"], row["step"]) <= last]
        _write_rows(self.path, STEP_COLUMNS, kept)

    def after_step(self, mode, epoch, step, steps, stats):
        if mode != "train":
            return
        now = (stats["time"], stats["waited"])
        seconds, waited = (round(b - a, 4) for a, b in zip(self._before, now))
        self._before = now if step < steps else (0.0, 0.0)
        row = {"epoch": epoch, "step": step, **stats["last"], "seconds": seconds, "waited": waited}
        with explain_writing(self.path), self.path.open("a", newline="") as stream:
            _writer(stream).writerow([row[name] for name in STEP_COLUMNS])


class EpochLog(Callback):
    """Writes ``epochs.csv``, a row an epoch, and ``curves.png``.

    What a run that was killed did not come to write is written when it goes on.

    Parameters
    ----------
    directory : Path
    rates : sequence of float
        Learning rate of each epoch.
    """

    def __init__(self, directory: Path, rates: Sequence[float]):
        self.directory = directory
        self.rates = rates
        self._state = TrainState()

    def on_start(self, net, state):
        self._state = state
        if state.stats["train"]:
            self.after_epoch(net, state)

    def after_step(self, mode, epoch, step, steps, stats):
        if mode == "train" and step % DRAW_EVERY == 0:
            self._draw()

    def after_epoch(self, net, state):
        _write_rows(self.directory / "epochs.csv", EPOCH_COLUMNS, epoch_rows(state, self.rates))
        self._draw()

    def _draw(self) -> None:
        # Imported here since it brings Matplotlib, which takes longer than all else together.
        from .pretraining_figures import draw_curves

        steps = read_steps(self.directory / "log.csv")
        draw_curves(steps, epoch_rows(self._state, self.rates), self.directory / "curves.png")


class SaveWeights(Callback):
    """Writes the network without its losses: ``siamfc.npz`` of the epoch whose validation error is
    least, ``siamfc.mat`` beside it in MatConvNet's format, ``siamfc-last.npz`` of the last epoch.
    Solver state stays in the checkpoints.

    What a run that was killed did not come to write is written when it goes on.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def on_start(self, net, state):
        finished = len(state.stats["train"])
        wanted = {LAST: finished, BEST: best_epoch(state)} if finished else {}
        for name, epoch in wanted.items():
            if _epoch_of(self.directory / name) != epoch:
                before = load_checkpoint(epoch_path(self.directory, epoch))
                self._save(self.directory / name, *before, epoch)

    def after_epoch(self, net, state):
        self._save(self.directory / LAST, net, state, state.epoch)
        if best_epoch(state) == state.epoch:
            self._save(self.directory / BEST, net, state, state.epoch)

    @staticmethod
    def _save(path: Path, net: DagNN, state: TrainState, epoch: int) -> None:
        trained = without_losses(net)
        validation = state.stats["val"][epoch - 1] if state.stats["val"] else {}
        trained.meta["pretraining"] = {
            "epoch": epoch,
            "validation": {name: validation[name] for name in FIGURES if name in validation},
            "settings": state.settings,
        }
        if path.name == BEST:
            # Before the native file, which tells what is written when a run was killed.
            write_network_file(trained, path.with_suffix(".mat"))
        write_network_file(trained, path)


def _epoch_of(path: Path) -> int | None:
    """The epoch that a network which ``SaveWeights`` wrote is of; None where there is none."""
    try:
        return DagNN.load(path).meta["pretraining"]["epoch"]
    except (OSError, KeyError, CheckpointError):
        return None


class PairProgress(Progress):
    """A progress bar an epoch with the share of time waited for data, and a line after it."""

    def figures(self, stats):
        return {name: f"{stats['last'][name]:.4g}" for name in FIGURES[:3]} | {
            "s_step": f"{stats['time'] / stats['steps']:.2f}",
            "waited": f"{waited_share(stats):.1f}%",
        }

    def summary(self, stats):
        figures = ", ".join(f"{n} {stats[n]:.5g}" for n in FIGURES if not math.isnan(stats[n]))
        steps = stats["steps"]
        return (
            f"{figures}, {stats['time'] / steps:.3f} s a step over {steps} steps, waited for data "
            f"{1e3 * stats['waited'] / steps:.1f} ms a step "
            f"({waited_share(stats):.1f} %)"
        )


def epoch_rows(state: TrainState, rates: Sequence[float]) -> list[dict[str, float]]:
    """A row of ``EPOCH_COLUMNS`` for each finished epoch; NaN where there was no validation."""
    rows = []
    validation = state.stats["val"] or [{}] * len(state.stats["train"])
    for epoch, (train, val) in enumerate(zip(state.stats["train"], validation), start=1):
        row = {"epoch": epoch, "learning_rate": rates[min(epoch, len(rates)) - 1]}
        for name in FIGURES:
            row[f"train_{name}"] = train[name]
            row[f"val_{name}"] = val.get(name, math.nan)
        row["seconds"] = round(train["time"] + val.get("time", 0.0), 2)
        row["waited"] = round(train["waited"] + val.get("waited", 0.0), 2)
        rows.append(row)
    return rows


def read_steps(path: Path) -> np.ndarray:
    """Rows of ``log.csv`` as a structured array with the fields ``STEP_COLUMNS``.

    A last row that is not whole, of a run that was killed, is left out.
    """
    dtype = [(name, np.int64 if name in ("epoch", "step") else np.float64) for name in STEP_COLUMNS]
    if not path.is_file():
        return np.empty(0, dtype)
    lines = path.read_text().split("\n")[1:-1]
    rows = [tuple(line.split(",")) for line in lines if line.count(",") == len(dtype) - 1]
    return np.array(rows, dtype=dtype)


def _writer(stream):
    return csv.writer(stream, lineterminator="\n")


def _write_rows(path: Path, columns: Sequence[str], rows) -> None:
    with atomic_write(path, "w") as stream:
        writer = _writer(stream)
        writer.writerow(columns)
        writer.writerows([[row[name] for name in columns] for row in rows])
