"""Which derivative of the crops learns better: runs that differ in ``--crop-gradient`` and seed.

The figures are those that training logs in each step, before the step changes anything. Runs of
one seed see the same clips in the same order, so that a mode and 'none' are compared step by step.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import atomic_write
from dagnet.checkpoint import find_last_checkpoint, load_checkpoint
from layers.crop import MODES

from ..text_table import columns
from ..training import FIGURES
from ..training_log import read_log
from .statistics import Estimate, counted, estimate, plus_minus, verdict

# What the others are compared with: no derivative through the crops' position.
BASELINE = "none"
# Settings that the runs are to differ in.
VARIED = ("crop_gradient", "seed")
# Share of the steps, the last ones, whose mean is a run's result.
LAST_SHARE = 4


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """A run of ``dsiam_net.train``.

    Attributes
    ----------
    folder : str
    mode : str
        Its ``--crop-gradient``.
    seed : int
    settings : dict
        All options that its checkpoint holds.
    steps : tuple of (epoch, step)
    values : dict of float64 arrays (steps,)
        Objective, errdisp and errmax of each step.
    """

    folder: str
    mode: str
    seed: int
    settings: dict[str, Any]
    steps: tuple[tuple[int, int], ...]
    values: dict[str, np.ndarray]

    def first(self, count: int) -> TrainingRun:
        """The first steps of it alone."""
        values = {name: v[:count] for name, v in self.values.items()}
        return TrainingRun(
            self.folder, self.mode, self.seed, self.settings, self.steps[:count], values
        )


@dataclass(frozen=True, eq=False)
class CropModes:
    """Runs that can be compared, and how many of the last steps are their result."""

    runs: tuple[TrainingRun, ...]
    last: int

    @property
    def modes(self) -> list[str]:
        """The modes there are: 'none' first."""
        there = {run.mode for run in self.runs}
        return sorted(there, key=lambda m: (m != BASELINE, m))

    @property
    def steps(self) -> int:
        """Steps of each run."""
        return len(self.runs[0].steps)

    def seeds(self, mode: str) -> list[int]:
        """Seeds that a mode was run with."""
        return sorted(run.seed for run in self.runs if run.mode == mode)

    def common_seeds(self, mode: str) -> list[int]:
        """Seeds that both a mode and 'none' were run with."""
        return [s for s in self.seeds(mode) if s in self.seeds(BASELINE)]

    def values(self, mode: str, figure: str, seeds: Iterable[int] | None = None) -> np.ndarray:
        """A figure in each step: (seeds, steps)."""
        found = {run.seed: run.values[figure] for run in self.runs if run.mode == mode}
        return np.stack([found[s] for s in (self.seeds(mode) if seeds is None else seeds)])

    def differences(self, mode: str, figure: str) -> np.ndarray:
        """A mode minus 'none', step by step on the same clips: (common seeds, steps)."""
        seeds = self.common_seeds(mode)
        return self.values(mode, figure, seeds) - self.values(BASELINE, figure, seeds)

    def final(self, mode: str, figure: str) -> Estimate:
        """Mean over the last steps, over seeds."""
        return estimate(self.values(mode, figure)[:, -self.last :].mean(axis=1))

    def difference(self, mode: str, figure: str, part: slice = slice(None)) -> Estimate:
        """Paired difference from 'none', mean over some steps, over seeds.

        Steps of a run are no samples of their own: they follow from one another.
        """
        return estimate(self.differences(mode, figure)[:, part].mean(axis=1))

    @property
    def parts(self) -> dict[str, slice]:
        """Which steps are looked at, by words."""
        return {
            "first step": slice(0, 1),
            "all steps": slice(None),
            f"last {self.last}": slice(-self.last, None),
        }


def read_training(folder: str | os.PathLike) -> TrainingRun:
    """Read a run of ``dsiam_net.train``: its settings from the last checkpoint, figures from the
    log.

    Raises
    ------
    ValueError
        If there is no checkpoint, no log, or they are not of ``dsiam_net.train``.
    CheckpointError
        If the checkpoint is damaged.
    """
    path = find_last_checkpoint(folder)
    rows = read_log(Path(folder) / "log.csv")
    if path is None or not rows:
        raise ValueError(
            f"{folder}: expected a run of dsiam_net.train (its --exp-dir) with a checkpoint and "
            f"log.csv, found {'no checkpoint' if path is None else 'no log, or an empty one'}"
        )
    settings = load_checkpoint(path)[1].settings
    mode, seed = (settings.get(name) for name in VARIED)
    if mode not in MODES or not isinstance(seed, int):
        raise ValueError(f"{path}: not a checkpoint of dsiam_net.train, it names no crop gradient")
    return TrainingRun(
        os.fspath(folder),
        mode,
        seed,
        settings,
        tuple((row["epoch"], row["step"]) for row in rows),
        {name: np.array([row[name] for row in rows]) for name in FIGURES},
    )


def compare_runs(
    runs: Sequence[TrainingRun], last: int | None = None, steps: int | None = None
) -> CropModes:
    """Put runs together that differ in crop gradient and seed alone.

    Parameters
    ----------
    runs : sequence of TrainingRun
        With 'none' and another mode at least, each with a seed that 'none' has too.
    last : int, optional
        How many of the last steps are averaged as the result; by default a quarter.
    steps : int, optional
        The first so many steps of each run alone.

    Raises
    ------
    ValueError
        If other settings or the numbers of steps differ, a mode and seed come twice, there is no
        run to compare, or there are not so many steps.
    """
    if not runs:
        raise ValueError("expected runs of dsiam_net.train, received none")
    _check_settings(runs)
    if steps is not None:
        short = [f"{run.folder} has {len(run.steps)}" for run in runs if len(run.steps) < steps]
        if short or steps < 1:
            raise ValueError(f"the first {steps} steps: {', '.join(short) or 'at least 1'}")
        runs = [run.first(steps) for run in runs]
    first = runs[0]
    for run in runs[1:]:
        if run.steps != first.steps:
            raise ValueError(
                f"the runs have other steps: {first.folder} {len(first.steps)} up to epoch "
                f"{first.steps[-1][0]}, {run.folder} {len(run.steps)} up to epoch "
                f"{run.steps[-1][0]}; finish them, or compare the first ones (--steps)"
            )
    known: dict[tuple[str, int], str] = {}
    for run in runs:
        key = run.mode, run.seed
        if key in known:
            raise ValueError(
                f"{known[key]} and {run.folder} are both of mode {run.mode!r} and seed {run.seed}"
            )
        known[key] = run.folder
    count = len(first.steps)
    last = max(1, count // LAST_SHARE) if last is None else last
    if not 1 <= last <= count:
        raise ValueError(f"the last steps must be 1 to {count}, received {last}")
    modes = CropModes(tuple(runs), last)
    if BASELINE not in modes.modes or len(modes.modes) < 2:
        raise ValueError(
            f"expected runs of mode {BASELINE!r} and of another, received {', '.join(modes.modes)}"
        )
    for mode in modes.modes:
        if not modes.common_seeds(mode):
            raise ValueError(
                f"mode {mode!r} has seeds {modes.seeds(mode)}, {BASELINE!r} has "
                f"{modes.seeds(BASELINE)}: clips are the same for the same seed alone"
            )
    return modes


def _check_settings(runs: Sequence[TrainingRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        names = {**first.settings, **run.settings}
        different = [
            f"{name.replace('_', ' ')} is {run.settings.get(name, 'not set')!r}, there "
            f"{first.settings.get(name, 'not set')!r}"
            for name in names
            if name not in VARIED and first.settings.get(name) != run.settings.get(name)
        ]
        if different:
            raise ValueError(
                f"{run.folder} and {first.folder} differ in more than crop gradient and seed: "
                f"in the first, {'; '.join(different)}"
            )


def table(modes: CropModes) -> str:
    """A block a figure: results of the modes and differences from 'none', mean ± standard error."""
    blocks = []
    for figure in FIGURES:
        rows = [[figure, "seeds", f"last {modes.last}", *(f"- none, {p}" for p in modes.parts)]]
        for mode in modes.modes:
            row = [mode, str(len(modes.seeds(mode))), plus_minus(modes.final(mode, figure), ".4f")]
            for part in modes.parts.values():
                if mode == BASELINE:
                    row.append("")
                    continue
                found = modes.difference(mode, figure, part)
                error = f" ± {found.error:.2g}" if found.count > 1 else ""
                row.append(f"{found.mean:+.4g}{error}")
            rows.append(row)
        blocks.append(columns(rows))
    return (
        f"{modes.steps} steps; results: mean ± standard deviation over seeds; differences from "
        f"{BASELINE!r}: mean ± standard error over seeds\n\n" + "\n\n".join(blocks)
    )


def statement(modes: CropModes) -> str:
    """Whether a mode differs from 'none' beyond the spread, in sentences."""
    lines, better = [], []
    last = slice(-modes.last, None)
    for mode in modes.modes[1:]:
        seeds = len(modes.common_seeds(mode))
        words, steps = counted(seeds, "seed"), counted(modes.last, "step")
        for figure in FIGURES[:2]:
            found = modes.difference(mode, figure, last)
            lines.append(
                f"{mode} - {BASELINE}, {figure}, last {steps}: {found.mean:+.4g}, "
                f"{verdict(found, words)}; {counted(seeds * modes.last, 'pair')} of steps"
            )
            if found.beyond:
                sign = "lower (better)" if found.mean < 0 else "higher (worse)"
                better.append(f"{mode} has a {sign} {figure} than {BASELINE}")
        start = modes.difference(mode, FIGURES[0], slice(0, 1)).mean
        if start:
            lines.append(
                f"{mode} differs by {start:+.4g} in the first step already, before anything was "
                "learned: its crops are cut in another way, and the figures of training are not "
                "of the same thing; compare trackers with what each has learned"
            )
    if better:
        lines.append(f"Beyond the spread: {'; '.join(better)}.")
    elif all(len(modes.common_seeds(mode)) < 2 for mode in modes.modes[1:]):
        lines.append("One seed has no spread: nothing can be said about which mode is better.")
    else:
        lines.append("No mode makes a difference beyond the spread over seeds.")
    return "\n".join(lines)


def write_json(modes: CropModes, path: str | os.PathLike) -> None:
    """Write settings, results and differences."""
    content = {
        "settings": {k: v for k, v in modes.runs[0].settings.items() if k not in VARIED},
        "runs": [{"folder": r.folder, "mode": r.mode, "seed": r.seed} for r in modes.runs],
        "steps": modes.steps,
        "last": modes.last,
        "results": {
            figure: {mode: _plain(modes.final(mode, figure)) for mode in modes.modes}
            for figure in FIGURES
        },
        "differences": {
            figure: {
                mode: {
                    words: modes.difference(mode, figure, part).as_dict()
                    for words, part in modes.parts.items()
                }
                for mode in modes.modes[1:]
            }
            for figure in FIGURES
        },
    }
    with atomic_write(path, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def _plain(found: Estimate) -> dict[str, Any]:
    return {k: None if np.isnan(v) else v for k, v in found._asdict().items()}


def write_csv(modes: CropModes, path: str | os.PathLike) -> None:
    """Write a row for each run and step: figures, and their differences from 'none' if paired."""
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ("mode", "seed", "epoch", "step", *FIGURES, *(f"{f}_difference" for f in FIGURES))
        )
        for run in modes.runs:
            paired = run.seed in modes.seeds(BASELINE)
            place = modes.common_seeds(run.mode).index(run.seed) if paired else 0
            changes = [modes.differences(run.mode, f)[place] if paired else None for f in FIGURES]
            for i, (epoch, step) in enumerate(run.steps):
                values = [repr(float(run.values[f][i])) for f in FIGURES]
                apart = ["" if c is None else repr(float(c[i])) for c in changes]
                writer.writerow([run.mode, run.seed, epoch, step, *values, *apart])
