"""This project beside PyTorch on the CPU: the same network, weights and inputs.

``python benchmarks/cpu.py [--work step track ...] [--rounds 7] [--json FILE]``

Before anything is timed both sides must agree on responses, losses and all derivatives, in double
precision and in single. Each side runs in a process of its own; they take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from comparing import (
    CHANNELS_LAST,
    CPU_SIDES,
    NCHW,
    TORCH_BATCH,
    Comparison,
    Effort,
    compare,
)
from contender import Contender
from dsiam_net.cli import make_parser, print_settings, run_command
from machine import describe, load, usable_cores
from reporting import (
    print_machine,
    record_sides,
    require_positive,
    require_torch,
    spread,
    write_json,
)
from works import WORKS

# What --quick does in place of the defaults.
QUICK = {"rounds": 2, "frames": 2, "check_frames": 2}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = make_parser(
        "benchmarks.cpu",
        "Time this project and PyTorch eager on the same network, on the CPU, after checking that "
        "they compute the same.",
    )
    parser.prog = "python benchmarks/cpu.py"
    parser.add_argument(
        "--work",
        nargs="+",
        choices=WORKS,
        default=list(WORKS),
        metavar="WORK",
        help=f"what is timed: {', '.join(WORKS)}",
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each side")
    parser.add_argument("--frames", type=int, default=10, help="of the full-size training steps")
    parser.add_argument(
        "--check-frames", type=int, default=3, help="of the full-size steps that are compared"
    )
    parser.add_argument(
        "--torch-batch",
        type=int,
        default=TORCH_BATCH,
        metavar="N",
        help="images a batch where PyTorch knows all crops beforehand",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of two frames: does it run?"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    options = parser.parse_args(argv)
    if options.quick:
        vars(options).update(QUICK)
    counts = ("rounds", "threads", "frames", "check_frames", "torch_batch")
    require_positive(parser, options, *counts)
    return options


def gemm_peak(threads: int) -> float:
    """GF/s that NumPy's matrix product reaches with these threads."""
    with Contender("ours", threads) as contender:
        return contender.gemm()


# Tables


def side_rows(comparison: Comparison, peak: float) -> list[str]:
    """A row a side: seconds, processor seconds, GF/s, its share of the peak, and memory."""
    rows = []
    for side, measured in comparison.sides.items():
        before, most = measured.memory
        speed = comparison.gigaflops / float(np.median(measured.wall))
        rows.append(
            f"| {comparison.name} | {side} | {spread(measured.wall)} | "
            f"{np.median(measured.processor):.3f} | {speed:.1f} | {speed / peak:.2f} | "
            f"{most:.0f} ({before:.0f} before) |"
        )
    return rows


def ratio_row(comparison: Comparison) -> str:
    """Our part of PyTorch's time or memory, with the targets."""
    cells = [comparison.name]
    for side, target in zip((NCHW, CHANNELS_LAST), comparison.work.targets):
        ratios = comparison.ratio(side)
        cells.append(f"{ratios[0]:.2f}" if len(ratios) == 1 else spread(ratios, ".2f"))
        cells.append(f"{target:.2f}")
    ratios = [f"{comparison.processor_ratio(side):.2f}" for side in (NCHW, CHANNELS_LAST)]
    cells.append("" if comparison.work.memory else " / ".join(ratios))
    return "| " + " | ".join(cells) + " |"


def print_tables(comparisons: Sequence[Comparison], peak: float) -> None:
    """Print what was measured, and the ratios."""
    print()
    print("| work | side | seconds, median (quartiles) | processor s | GF/s | of GEMM peak | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for comparison in comparisons:
        print("\n".join(side_rows(comparison, peak)))
    print()
    print("| ours / PyTorch | NCHW (quartiles) | target | channels_last | target | processor s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for comparison in comparisons:
        print(ratio_row(comparison))


def record(comparison: Comparison) -> dict[str, Any]:
    """Everything about a comparison that JSON can hold."""
    return record_sides(comparison) | {
        "ratios": {
            side: {"rounds": comparison.ratio(side).tolist(), "target": target}
            for side, target in zip((NCHW, CHANNELS_LAST), comparison.work.targets)
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the works, print the tables, write the record."""
    options = parse(argv)
    require_torch()
    print_settings(options)
    machine = describe(options.threads)
    print_machine(machine)
    effort = Effort(
        options.threads,
        options.rounds,
        options.frames,
        options.check_frames,
        options.torch_batch,
    )
    peak, comparisons = gemm_peak(options.threads), []
    works = [WORKS[name] for name in options.work]
    with tqdm(total=effort.ticks(works, CPU_SIDES), disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_description(what)
            bar.update()

        for name in options.work:
            comparison = compare(name, WORKS[name], effort, tick)
            comparisons.append(comparison)
            tqdm.write(f"{name}: {comparison.work.title}, {comparison.gigaflops:.1f} GF")
            for line in [*comparison.agreement, *comparison.plan.splitlines()]:
                tqdm.write(f"    {line}")
            tqdm.write(ratio_row(comparison))
            peak = max(peak, gemm_peak(options.threads))
            machine |= {"load after": load(), "GEMM peak, GF/s": round(peak, 1)}
            if options.json:
                # After each work: what was measured is kept, whatever happens to the rest.
                works = {comparison.name: record(comparison) for comparison in comparisons}
                content = {"machine": machine, "settings": vars(options), "works": works}
                write_json(options.json, content)
    print(
        f"GEMM peak {peak:.0f} GF/s, load before and after {machine['load before']}, "
        f"{machine['load after']}"
    )
    print_tables(comparisons, peak)


if __name__ == "__main__":
    run_command(main)
