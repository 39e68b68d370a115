"""How the cost of a training step grows: with frames, feature layers and cores.

``python benchmarks/growth.py [--frames 2 5 10 20 40] [--out growth_output]``

Writes ``growth.csv``, a row as soon as it is measured, and ``growth.png`` and ``growth.svg``.
Every row is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from contender import Contender, ContenderError
from dagnet import atomic_write
from dsiam_net.cli import make_parser, print_settings, run_command
from dsiam_net.figures import save_figure
from growth_figure import draw
from machine import describe, load, usable_cores
from problems import FULL, Size, make_clip, make_net, step_problem
from reporting import print_machine, require_positive

# Features of one, two and three layers, outermost first; all give a response of one size.
FEATURES = (("feat",), ("feat", "x14"), ("feat", "x14", "x11"))
SERIES = ("frames", "frames, budget", "feature layers", "cores")


@dataclass(frozen=True)
class Row:
    """A training step at one size.

    Attributes
    ----------
    series : str
        One of ``SERIES``: what was varied.
    value : int
        The number of frames, feature layers or cores.
    seconds, first_quartile, third_quartile, processor_seconds : float
        Of a step: median and quartiles by the clock, median of the processor.
    megabytes_before, megabytes_peak : float
        Resident before the first step and at most.
    megabytes_expected : float
        What the engine's plan expects a step to take besides.
    megabytes_budget : float
        What it was allowed to plan with; infinite without a budget.
    """

    series: str
    value: int
    seconds: float
    first_quartile: float
    third_quartile: float
    processor_seconds: float
    megabytes_before: float
    megabytes_peak: float
    megabytes_expected: float
    megabytes_budget: float


@dataclass(frozen=True)
class Case:
    """What a row measures."""

    series: str
    value: int
    size: Size
    threads: int
    budget_share: float | None = None


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """The cases that the options ask for, in the order in which they are measured."""
    budgets = {"frames": None, "frames, budget": options.budget}
    for series, budget in budgets.items():
        if series in options.series:
            for frames in options.frames:
                yield Case(series, frames, Size(frames=frames), options.threads, budget)
    if "feature layers" in options.series:
        for features in FEATURES:
            size = Size(frames=options.layer_frames, features=features)
            yield Case("feature layers", len(features), size, options.threads)
    if "cores" in options.series:
        for threads in range(1, options.threads + 1):
            yield Case("cores", threads, Size(frames=options.layer_frames), threads)


def measure(case: Case, rounds: int) -> Row:
    """Run a step some times in a process of its own; the first run is not counted.

    Raises
    ------
    ContenderError
        If the step fails: it needs more memory than there is, or than its budget.
    """
    problem = step_problem(make_net(case.size), case.size, make_clip(case.size.frames))
    budget = None
    if case.budget_share is not None:
        with Contender("ours", case.threads) as contender:
            contender.make("Step", problem)
            budget = case.budget_share * contender.expected_bytes()
    with Contender("ours", case.threads) as contender:
        contender.make("Step", problem, budget=budget)
        contender.run()
        taken = np.array(contender.run(rounds))
        before, peak = contender.memory()
        expected = contender.expected_bytes() / 2**20
    low, middle, high = np.percentile(taken[:, 0], [25, 50, 75])
    return Row(
        *(case.series, case.value, middle, low, high, float(np.median(taken[:, 1]))),
        *(before, peak, expected, float("inf") if budget is None else budget / 2**20),
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows as CSV."""
    with atomic_write(path, "w") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Row)])
        writer.writeheader()
        for row in rows:
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            writer.writerow(shown)


def read_rows(path: Path) -> list[Row]:
    """Rows that ``write_rows`` wrote."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            Row(row.pop("series"), int(row.pop("value")), **{k: float(v) for k, v in row.items()})
            for row in csv.DictReader(stream)
        ]


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table."""
    print("\n| varied | | seconds (quartiles) | s a frame | processor s | MB (before) | budget |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        each = f"{r.seconds / r.value:.3f}" if r.series.startswith("frames") else ""
        budget = "" if np.isinf(r.megabytes_budget) else f"{r.megabytes_budget:.0f}"
        print(
            f"| {r.series} | {r.value} | {r.seconds:.2f} ({r.first_quartile:.2f} to "
            f"{r.third_quartile:.2f}) | {each} | {r.processor_seconds:.2f} | "
            f"{r.megabytes_peak:.0f} ({r.megabytes_before:.0f}) | {budget} |"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = make_parser(
        "benchmarks.growth",
        "Measure how time and memory of a training step grow with frames, feature layers and "
        "cores; write a table and a figure.",
    )
    parser.prog = "python benchmarks/growth.py"
    parser.add_argument(
        "--series",
        nargs="+",
        choices=SERIES,
        default=list(SERIES),
        metavar="WHAT",
        help=f"what is varied: {', '.join(repr(series) for series in SERIES)}",
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[2, 5, 10, 20, 40], help="numbers of frames"
    )
    parser.add_argument(
        "--layer-frames",
        type=int,
        default=FULL.frames,
        metavar="N",
        help="frames where feature layers or cores are varied",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="memory budget, as a part of what a step is expected to take without one",
    )
    parser.add_argument("--rounds", type=int, default=5, help="steps of which the median counts")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="cores, at most")
    parser.add_argument("--out", default="growth_output", metavar="DIR", help="results go here")
    parser.add_argument(
        "--draw-only", action="store_true", help="draw what an earlier run wrote to --out"
    )
    options = parser.parse_args(argv)
    require_positive(parser, options, "layer_frames", "rounds", "threads")
    if min(options.frames) < 1:
        parser.error("--frames must be at least 1")
    if not options.budget > 0:
        parser.error("--budget must be above 0")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure row after row, then draw."""
    options = parse(argv)
    folder = Path(options.out)
    table = folder / "growth.csv"
    if options.draw_only:
        if not table.is_file():
            raise FileNotFoundError(f"{table}: no such table; measure first, without --draw-only")
        rows = read_rows(table)
    else:
        print_settings(options)
        machine = describe(options.threads)
        print_machine(machine)
        rows = []
        for case in (bar := tqdm(list(cases(options)), disable=None)):
            bar.set_description(f"{case.series} {case.value}")
            try:
                rows.append(measure(case, options.rounds))
            except ContenderError as exc:
                tqdm.write(f"{case.series} {case.value} is left out: {exc}")
                continue
            write_rows(table, rows)
        print(f"load before and after {machine['load before']}, {load()}")
    print_rows(rows)
    for suffix in ("png", "svg"):
        save_figure(draw(rows), folder / f"growth.{suffix}")
    print(f"wrote {table}, growth.png and growth.svg")


if __name__ == "__main__":
    run_command(main)
