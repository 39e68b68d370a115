"""How sizes, memory and times look in the cells of ``DagNN.print``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .layer import Layer

# Bytes of one element of a variable or parameter in single precision.
BYTES = 4
UNKNOWN_CELL = "n/a"


def format_memory(count: float) -> str:
    """Bytes as text with a unit: ``'23MB'``."""
    if math.isnan(count):
        return "NaN"
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.0f}GB" if count >= 10 else f"{count:.1f}GB"


def format_seconds(seconds: float | None) -> str:
    """Seconds as text with a unit, to three digits: ``'1.25ms'``; None is not known."""
    if seconds is None:
        return UNKNOWN_CELL
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        # What would be rounded to a thousand takes the next unit.
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g}{unit}"
    return f"{seconds:.3g}s" if seconds < 999.5 else f"{seconds:.0f}s"


def dims_cell(values: Sequence[float]) -> str:
    """Numbers with x between them, or one for all where they are the same."""
    if any(math.isnan(v) for v in values):
        return UNKNOWN_CELL
    if len(set(values)) == 1:
        return f"{values[0]:.4g}"
    return "x".join(f"{v:.4g}" for v in values)


def setting_cell(block: Layer, name: str) -> str:
    """A setting of one or several numbers."""
    if not hasattr(block, name):
        return UNKNOWN_CELL
    return dims_cell(np.atleast_1d(getattr(block, name)).tolist())


def shape_cells(values: Sequence[float] | None) -> tuple[str, str]:
    """A size in full, as (N, C, H, W) with x between, and its memory; None is not known."""
    if values is None or any(math.isnan(v) for v in values):
        return UNKNOWN_CELL, "NaN"
    # An array of shape () is one number.
    text = "x".join(f"{v:.0f}" for v in values) or "1"
    return text, format_memory(BYTES * math.prod(values))
