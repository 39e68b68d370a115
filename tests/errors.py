"""Errors measured by the tests, gathered into the tables that ``pytest --errors`` prints."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from dagnet import check_layer, to_device
from devices import devices

# table -> row -> (worst error, where, how many were measured)
_TABLES: dict[str, dict[str, tuple[float, str, int]]] = {}


def record_error(table: str, row: str, error: float, where: str) -> None:
    """Keep the worst error of a row, and count the measurements."""
    rows = _TABLES.setdefault(table, {})
    worst, at, count = rows.get(row, (-1.0, "", 0))
    rows[row] = (error, where, count + 1) if not error <= worst else (worst, at, count + 1)


def prove(layer: Any, inputs: Any, params: Any = (), **options: Any) -> None:
    """``check_layer`` on the test's device, with the errors recorded in their table."""
    device = devices.current
    if device != "cpu":
        layer = copy.deepcopy(layer)
        layer.move(device)
        inputs, params = (_there(arrays, device) for arrays in (inputs, params))
        options = {k: _there(v, device) if k == "der_outputs" else v for k, v in options.items()}
    for check in check_layer(layer, inputs, params, **options):
        record_error("gradient", check.layer, check.error, f"{check.argument} {check.index}")


def _there(arrays: Any, device: str) -> Any:
    return arrays and [None if a is None else to_device(np.asarray(a), device) for a in arrays]


def tables() -> list[str]:
    """The tables as lines of text."""
    lines = []
    for table, rows in _TABLES.items():
        lines.append(f"{table}: worst max|a-b| / max|b|")
        for row, (error, where, count) in sorted(rows.items()):
            lines.append(f"  {row:34s} {count:5d} compared  {error:.2e}  at {where}")
    return lines
