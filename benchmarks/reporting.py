"""What the benchmarks' commands share: tables, records, and what they need."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from dagnet import atomic_write

if TYPE_CHECKING:
    from comparing import Comparison


def require_torch() -> None:
    """Raise ImportError, saying what to install, where PyTorch is not there."""
    if find_spec("torch") is None:
        raise ImportError("the benchmark needs PyTorch: pip install '.[bench]'")


def require_positive(parser: argparse.ArgumentParser, options: argparse.Namespace, *names: str):
    """End the command with an error if an option is below 1."""
    for name in names:
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")


def print_machine(machine: dict[str, Any]) -> None:
    """Print what ``machine.describe`` found, in a line."""
    print("machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()))


def spread(values: Any, form: str = ".3f") -> str:
    """Median and quartiles of some numbers."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def write_json(path: str, content: Any) -> None:
    """Write a record, whole or not at all."""
    with atomic_write(path, "w") as stream:
        json.dump(content, stream, indent=1)


def record_sides(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON can hold it, but for ratios, which commands choose."""
    return {
        "title": comparison.work.title,
        "size": asdict(comparison.work.size),
        "gigaflops": comparison.gigaflops,
        "gigabytes": comparison.gigabytes,
        "agreement": comparison.agreement,
        "plan": comparison.plan.splitlines(),
        "sides": {
            side: {
                "seconds": measured.wall.tolist(),
                "processor_seconds": measured.processor.tolist(),
                "launched_seconds": measured.launched.tolist(),
                "megabytes_before": measured.memory[0],
                "megabytes_peak": measured.memory[1],
                "card_megabytes": measured.card,
            }
            for side, measured in comparison.sides.items()
        },
    }
