"""What a training run shows: a log of its steps, its loss curve, and a progress bar."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dagnet import Callback, atomic_write, explain_writing

from .training import FIGURES

COLUMNS = ("epoch", "step", *FIGURES, "seconds", "waited")
# Steps after which the loss curve is drawn again within an epoch.
DRAW_EVERY = 50
# Seconds between two looks of the progress bar: on a terminal, and in a file that keeps them all.
SHOW_EVERY, WRITE_EVERY = 0.2, 60


class TrainingLog(Callback):
    """Writes ``log.csv``, a row a step, and ``loss.png`` into a folder.

    When a run goes on from a checkpoint, rows after it are dropped: they are computed again.
    """

    def __init__(self, directory: Path):
        self.path = directory / "log.csv"
        self.figure = directory / "loss.png"
        self._before = (0.0, 0.0)

    def on_start(self, net, state):
        running = state.running.get("stats", {})
        self._before = (running.get("time", 0.0), running.get("waited", 0.0))
        # After a whole epoch the step is -1: every row of it is kept.
        last = (state.epoch, state.step if state.step >= 0 else np.inf)
        kept = [row for row in read_log(self.path) if (row["epoch"], row["step"]) <= last]
        with atomic_write(self.path, "w") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def after_step(self, mode, epoch, step, steps, stats):
        if mode != "train":
            return
        now = (stats["time"], stats["waited"])
        seconds, waited = (round(b - a, 3) for a, b in zip(self._before, now))
        self._before = now if step < steps else (0.0, 0.0)
        row = {"epoch": epoch, "step": step, **stats["last"], "seconds": seconds, "waited": waited}
        with explain_writing(self.path), self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, COLUMNS).writerow(row)
        if step % DRAW_EVERY == 0 or step == steps:
            self._draw()

    def _draw(self) -> None:
        # Imported here since it brings Matplotlib, which takes longer than all else together.
        from .figures import loss_curve

        rows = read_log(self.path)
        curve = np.array([[row[name] for name in FIGURES] for row in rows])
        loss_curve(curve, self.figure, title=f"{len(rows)} steps")


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of a log; a last row that is not whole, of a run that was killed, is left out.

    What logs of earlier versions do not have is NaN.
    """
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    present = [name for name in COLUMNS if name in (reader.fieldnames or ())]
    whole = [row for row in rows if all(row[name] for name in present)]
    return [
        dict.fromkeys(COLUMNS, math.nan)
        | {name: (int if name in ("epoch", "step") else float)(row[name]) for name in present}
        for row in whole
    ]


def waited_share(stats: dict) -> float:
    """Per cent of the time so far that was waited for data."""
    return 100 * stats["waited"] / max(stats["time"], 1e-9)


class Progress(Callback):
    """A progress bar an epoch, and a line of figures after it."""

    def __init__(self):
        self._bar: tqdm | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc) -> None:
        self._close()

    def after_step(self, mode, epoch, step, steps, stats):
        if self._bar is None or self._bar.total != steps:
            self._close()
            self._bar = tqdm(
                total=steps,
                desc=f"{mode} {epoch}",
                unit="step",
                initial=step - 1,
                mininterval=SHOW_EVERY if sys.stderr.isatty() else WRITE_EVERY,
            )
        self._bar.set_postfix(**self.figures(stats), refresh=False)
        self._bar.update()
        if step == steps:
            self._close()
            print(f"{mode} epoch {epoch}: {self.summary(stats)}")

    def figures(self, stats: dict) -> dict[str, str]:
        """What the bar shows of a step, by name."""
        shown = {name: f"{stats['last'][name]:.4g}" for name in FIGURES}
        return shown | {
            "s_step": f"{stats['time'] / stats['steps']:.2f}",
            "waited": f"{waited_share(stats):.1f}%",
        }

    def summary(self, stats: dict) -> str:
        """The line after an epoch."""
        means = ", ".join(f"{name} {stats[name]:.5g}" for name in FIGURES)
        seconds = stats["time"] / stats["steps"]
        return (
            f"{means}, {seconds:.2f} s a step over {stats['steps']} steps, waited for data "
            f"{waited_share(stats):.1f} % of them"
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
