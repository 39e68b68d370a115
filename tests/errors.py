"""Errors measured by the tests, gathered into the tables that ``pytest --errors`` prints."""

from __future__ import annotations

from typing import Any

from dagnet import check_layer

# table -> row -> (worst error, where, how many were measured)
_TABLES: dict[str, dict[str, tuple[float, str, int]]] = {}


def record_error(table: str, row: str, error: float, where: str) -> None:
    """Keep the worst error of a row, and count the measurements."""
    rows = _TABLES.setdefault(table, {})
    worst, at, count = rows.get(row, (-1.0, "", 0))
    rows[row] = (error, where, count + 1) if not error <= worst else (worst, at, count + 1)


def prove(layer: Any, inputs: Any, params: Any = (), **options: Any) -> None:
    """``check_layer``, with the errors recorded in the table of gradient checks."""
    for check in check_layer(layer, inputs, params, **options):
        record_error("gradient", check.layer, check.error, f"{check.argument} {check.index}")


def tables() -> list[str]:
    """The tables as lines of text."""
    lines = []
    for table, rows in _TABLES.items():
        lines.append(f"{table}: worst max|a-b| / max|b|")
        for row, (error, where, count) in sorted(rows.items()):
            lines.append(f"  {row:34s} {count:5d} compared  {error:.2e}  at {where}")
    return lines
