"""A network file in words: what ``python -m matlab_import info`` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from .saving import NOTES
from .training import TrainingFile


def describe(content: TrainingFile) -> str:
    """Tables of layers and parameters, the keys of ``meta``, and the last epoch's statistics."""
    net = content.net
    sections = [
        str(net),
        f"{len(net.layers)} layers, {len(net.vars)} variables, {len(net.params)} parameters; "
        f"inputs: {', '.join(net.get_inputs())}; outputs: {', '.join(net.get_outputs())}",
        _parameters(net),
        "meta: " + (", ".join(name for name in net.meta if name != NOTES) or "none"),
    ]
    if content.state:
        sections.append(_state(content.state))
    for part, epochs in content.stats.items():
        sections.append(_epochs(part, epochs))
    return "\n\n".join(sections)


def _parameters(net: Any) -> str:
    rows = [("parameter", "shape", "dtype", "learning rate", "weight decay", "train method")]
    for p in net.params:
        shape, dtype = ("none", "none") if p.value is None else (p.value.shape, p.value.dtype)
        rows.append(
            (
                p.name,
                str(shape),
                str(dtype),
                f"{p.learning_rate:g}",
                f"{p.weight_decay:g}",
                p.train_method,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _state(state: dict[str, Any]) -> str:
    entries = state.get("solver_state", [])
    kept = sum(entry is not None for entry in entries)
    others = ", ".join(name for name in state if name != "solver_state") or "none"
    return f"state: solver state of {kept} of {len(entries)} parameters; other fields: {others}"


def _epochs(part: str, epochs: list[dict[str, Any]]) -> str:
    if not epochs:
        return f"stats, {part}: no epochs"
    last = ", ".join(
        f"{name} {value:.6g}" if np.ndim(value) == 0 else f"{name} {np.shape(value)}"
        for name, value in epochs[-1].items()
    )
    return f"stats, {part}: {len(epochs)} epochs; last: {last}"
