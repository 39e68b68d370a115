"""This project beside PyTorch on a GPU: the same network, weights, inputs and precision.

``python benchmarks/gpu.py [--work step track ...] [--precision single tf32] [--json FILE]``

PyTorch runs eagerly, by ``torch.compile``, as a CUDA graph, and by both. Before anything is timed
all must agree with PyTorch in double precision. Each side runs in a process of its own on the one
card; they take turns. Times are compared with two floors: the convolutions' operations at the
speed of a product of large matrices, and what the layers read and write at that of a copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from comparing import OURS, Comparison, Effort, Measured, Side, compare
from contender import Contender
from dagnet import atomic_write
from dagnet.backend import check_device
from dsiam_net.cli import make_parser, print_settings, run_command
from machine import describe, load
from profiling import LayerTime
from reporting import (
    print_machine,
    record_sides,
    require_positive,
    require_torch,
    spread,
    write_json,
)
from works import Work, make_problem

EAGER = "PyTorch eager"
# A side that fails is a row that says why; all are compared with the first of PyTorch's.
SIDES = {
    "plain": Side(OURS, "ours", optional=True),
    "graph": Side("this project, CUDA graph", "ours", {"graph": True}, optional=True, tracks=False),
    "eager": Side(EAGER),
    "eager-nhwc": Side("PyTorch channels_last", options={"channels_last": True}, optional=True),
    "compile": Side("torch.compile", options={"compiled": True}, optional=True),
    "torch-graph": Side("PyTorch CUDA graph", options={"graph": True}, optional=True),
    "torch-graph-nhwc": Side(
        "PyTorch CUDA graph, channels_last",
        options={"graph": True, "channels_last": True},
        optional=True,
    ),
    "compile-graph": Side(
        "torch.compile, CUDA graph", options={"compiled": True, "graph": True}, optional=True
    ),
}
PRECISIONS = {"single": False, "tf32": True}
# Targets are parts of the time, or memory, of PyTorch eager, and of PyTorch's best way.
WORKS = {
    "step": Work("training step, frame after frame", (0.5, 0.9), repeats=5, device="gpu"),
    "track": Work("tracked frame", (None, None), repeats=20, tracking=True, device="gpu"),
    "track-on-card": Work(
        "tracked frame, patches on the card",
        (None, None),
        repeats=20,
        tracking=True,
        device="gpu",
        on_card=True,
    ),
    "track-32": Work(
        "tracked frame of 32 targets",
        (None, None),
        repeats=3,
        tracking=True,
        device="gpu",
        followed=32,
    ),
    "track-32-on-card": Work(
        "tracked frame of 32 targets, patches on the card",
        (None, None),
        repeats=3,
        tracking=True,
        device="gpu",
        followed=32,
        on_card=True,
    ),
    "memory": Work("memory of a training step", (0.6, None), memory=True, device="gpu"),
}
# Targets that are followed in a second, a frame each.
FRAMES_A_SECOND = {1: 500, 32: 4000}
QUICK = {"rounds": 2, "frames": 2, "check_frames": 2}
PROFILED_RUNS = 5
# Of what a side said when it failed, in a table.
LONGEST_REASON = 160


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = make_parser(
        "benchmarks.gpu",
        "Time this project and PyTorch on the same network, on one GPU, after checking that they "
        "compute the same.",
    )
    parser.prog = "python benchmarks/gpu.py"
    for name, choices, text in (
        ("work", WORKS, "what is timed"),
        ("sides", SIDES, "who is timed"),
        ("precision", PRECISIONS, "of products of single-precision numbers"),
    ):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            choices=choices,
            default=list(choices),
            metavar=name.upper(),
            help=f"{text}: {', '.join(choices)}",
        )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--threads", type=int, default=4, help="of the host, of each side")
    parser.add_argument("--frames", type=int, default=10, help="of the training steps")
    parser.add_argument(
        "--check-frames", type=int, default=3, help="of the training steps that are compared"
    )
    parser.add_argument(
        "--profile", action="store_true", help="times of the layers of a training step, too"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of two frames: does it run?"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    parser.add_argument("--out", metavar="FILE.md", help="write the tables here, too")
    options = parser.parse_args(argv)
    if options.quick:
        vars(options).update(QUICK)
    if "eager" not in options.sides:
        parser.error("--sides needs eager, which the others are compared with")
    require_positive(parser, options, "rounds", "threads", "frames", "check_frames")
    return options


def chosen_works(options: argparse.Namespace) -> dict[str, Work]:
    """The works of the options, by name: each in each precision, memory in the first alone."""
    works = {}
    for precision in options.precision:
        for name in options.work:
            if not WORKS[name].memory or precision == options.precision[0]:
                work = replace(WORKS[name], tf32=PRECISIONS[precision])
                works[f"{name}, {precision}"] = work
    return works


# Tables


def floors(comparison: Comparison, rates: Mapping[str, float]) -> dict[str, float]:
    """Seconds below which the work cannot be, by the card's measured rates."""
    product = rates["tf32" if comparison.work.tf32 else "single"]
    return {
        "products": comparison.gigaflops / product,
        "copies": comparison.gigabytes / rates["copy"],
    }


def time_rows(comparison: Comparison, rates: Mapping[str, float]) -> list[str]:
    """A row a side: its time, how long the host launched, and its multiples of the floors."""
    rows = []
    limits = floors(comparison, rates)
    for side, measured in comparison.sides.items():
        wall = float(np.median(measured.wall))
        cells = [comparison.name, side, spread(measured.wall * 1e3)]
        cells.append(f"{np.median(measured.launched) * 1e3:.3f}")
        cells.append(f"{comparison.work.followed / wall:.0f}" if comparison.work.tracking else "")
        cells += [f"{wall / limit:.1f}" if limit else "" for limit in limits.values()]
        rows.append("| " + " | ".join(cells) + " |")
    return rows + [failed_row(comparison, side, 5) for side in comparison.failed]


def memory_rows(comparison: Comparison) -> list[str]:
    """A row a side: what it took of the card."""
    rows = [
        f"| {comparison.name} | {side} | {measured.taken:.0f} | {measured.card[0]:.0f} |"
        for side, measured in comparison.sides.items()
    ]
    return rows + [failed_row(comparison, side, 2) for side in comparison.failed]


def failed_row(comparison: Comparison, side: str, cells: int) -> str:
    """A row that says why a side is missing."""
    reason = " ".join(comparison.failed[side].split()).replace("|", "/")[:LONGEST_REASON]
    return f"| {comparison.name} | {side} | {reason} |" + " |" * (cells - 1)


def best_of_pytorch(comparison: Comparison) -> str:
    """The side of PyTorch's that is fastest, or takes least memory."""
    own = {side.name for side in SIDES.values() if side.ours}

    def cost(side: str) -> float:
        measured: Measured = comparison.sides[side]
        return measured.taken if comparison.work.memory else float(np.median(measured.wall))

    return min((side for side in comparison.sides if side not in own), key=cost)


def target_rows(comparison: Comparison) -> list[str]:
    """A row for each of our sides: its part of PyTorch's time or memory, and the targets."""
    rows, work = [], comparison.work
    best = best_of_pytorch(comparison)
    for side in (s.name for s in SIDES.values() if s.ours and s.name in comparison.sides):
        cells = [comparison.name, side]
        for other, target in zip((EAGER, best), work.targets):
            ratios = comparison.ratio(other, side)
            cells.append(f"{ratios[0]:.2f}" if len(ratios) == 1 else spread(ratios, ".2f"))
            cells.append("" if target is None else f"{target:.2f}")
        cells.insert(4, best)
        if work.tracking:
            speed = work.followed / float(np.median(comparison.sides[side].wall))
            cells += [f"{speed:.0f}", str(FRAMES_A_SECOND[work.followed])]
        else:
            cells += ["", ""]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def profile_rows(name: str, times: Sequence[LayerTime]) -> list[str]:
    """A row for each type of layer."""
    whole = sum(row.forward + row.backward for row in times)
    return [
        f"| {name} | {row.kind} | {row.calls} | {row.forward * 1e3:.3f} | "
        f"{row.backward * 1e3:.3f} | {(row.forward + row.backward) / whole:.2f} |"
        for row in times
    ]


def table(head: str, rows: Sequence[str]) -> list[str]:
    """A table in Markdown, and an empty line before it; nothing where there are no rows."""
    if not rows:
        return []
    return ["", head, "|" + " --- |" * (head.count("|") - 1), *rows]


def tables(
    comparisons: Sequence[Comparison],
    profiles: Mapping[str, Sequence[LayerTime]],
    rates: Mapping[str, float],
) -> list[str]:
    """All that was measured, as lines of Markdown."""
    timed = [c for c in comparisons if not c.work.memory]
    memory = [c for c in comparisons if c.work.memory]
    return [
        *table(
            "| work | side | ms, median (quartiles) | launched after, ms | targets a second | "
            "times the floor of products | of copies |",
            [row for c in timed for row in time_rows(c, rates)],
        ),
        *table(
            "| memory | side | MB of the card | MB before |",
            [row for c in memory for row in memory_rows(c)],
        ),
        *table(
            "| work | side | of PyTorch eager | target | PyTorch's best | of its best | target | "
            "targets a second | target |",
            [row for c in comparisons for row in target_rows(c)],
        ),
        *table(
            "| profile | layer | calls | forward, ms | backward, ms | share |",
            [row for name, times in profiles.items() for row in profile_rows(name, times)],
        ),
    ]


# Measuring


def profile_step(work: Work, effort: Effort) -> list[LayerTime]:
    """Times of the layers of our training step."""
    work = effort.at_size(work)
    with Contender("ours", effort.threads) as contender:
        contender.make("Step", make_problem(work), device=work.device, tf32=work.tf32)
        return contender.profile(PROFILED_RUNS)


def describe_card(threads: int) -> tuple[dict[str, Any], dict[str, float]]:
    """The machine with its card and libraries, and the card's rates."""
    with Contender("card", threads) as contender:
        card, rates = contender.ask("describe"), contender.ask("rates")
    with Contender("with_torch", threads) as contender:
        card |= contender.ask("describe")
    return describe(threads) | card, rates


def main(argv: Sequence[str] | None = None) -> None:
    """Run the works, print the tables, write the record."""
    options = parse(argv)
    require_torch()
    check_device("gpu")
    print_settings(options)
    machine, rates = describe_card(options.threads)
    print_machine(machine)
    print(
        f"products {rates['single']:.0f} GF/s in single precision, {rates['tf32']:.0f} in TF32; "
        f"copies {rates['copy']:.0f} GB/s"
    )
    effort = Effort(options.threads, options.rounds, options.frames, options.check_frames)
    works, sides = chosen_works(options), [SIDES[name] for name in options.sides]
    comparisons: list[Comparison] = []
    profiles: dict[str, list[LayerTime]] = {}
    with tqdm(total=effort.ticks(list(works.values()), sides), disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_description(what)
            bar.update()

        for name, work in works.items():
            able = [side for side in sides if side.tracks or not work.tracking]
            comparison = compare(name, work, effort, tick, able)
            comparisons.append(comparison)
            if options.profile and not (work.tracking or work.memory):
                profiles[name] = profile_step(work, effort)
            tqdm.write(f"{name}: {work.title}, {comparison.gigaflops:.1f} GF")
            failures = (f"{side}: {reason}" for side, reason in comparison.failed.items())
            for line in [*comparison.agreement, *comparison.plan.splitlines(), *failures]:
                tqdm.write(f"    {line}")
            if options.json:
                # After each work: what was measured is kept, whatever happens to the rest.
                content = {
                    "machine": machine | {"load after": load()},
                    "rates": rates,
                    "settings": vars(options),
                    "works": {c.name: record(c, rates) for c in comparisons},
                    "profiles": {n: [row._asdict() for row in p] for n, p in profiles.items()},
                }
                write_json(options.json, content)
    lines = tables(comparisons, profiles, rates)
    print("\n".join(lines))
    if options.out:
        with atomic_write(options.out, "w") as stream:
            stream.write("\n".join(lines).lstrip() + "\n")


def record(comparison: Comparison, rates: Mapping[str, float]) -> dict[str, Any]:
    """Everything about a comparison that JSON can hold."""
    own = [side.name for side in SIDES.values() if side.ours and side.name in comparison.sides]
    return record_sides(comparison) | {
        "floors, seconds": floors(comparison, rates),
        "failed": comparison.failed,
        "ratios": {
            side: {other: comparison.ratio(other, side).tolist() for other in comparison.sides}
            for side in own
        },
    }


if __name__ == "__main__":
    run_command(main)
