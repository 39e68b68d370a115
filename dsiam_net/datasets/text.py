"""Text files of numbers: regions, flags and tables, whatever separates the numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import SequenceError

_SEPARATOR = re.compile(r"[,;\s]+")


def _read(path: str | os.PathLike, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise SequenceError(f"cannot read {what} {path}: {exc}") from exc


def _numbers(line: str) -> list[float]:
    """The numbers of a line; none if a word is not a number."""
    try:
        return [float(word) for word in _SEPARATOR.split(line.strip().strip(",;"))]
    except ValueError:
        return []


def read_table(path: str | os.PathLike, widths: Sequence[int] = (4, 8)) -> np.ndarray:
    """Read a text file with the same count of numbers in every line.

    Numbers are separated by commas, tabs, semicolons or spaces, lines end as on any system, and
    empty lines may end the file.

    Parameters
    ----------
    path : path
    widths : sequence of int
        The counts that a line may have.

    Returns
    -------
    float64 array (T, width)

    Raises
    ------
    SequenceError
        Names file and line.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(_read(path, "boxes").rstrip().splitlines(), start=1):
        row = _numbers(line)
        expected = (len(rows[0]),) if rows else tuple(widths)
        if len(row) not in expected:
            raise SequenceError(
                f"{path}, line {number}: expected {' or '.join(map(str, expected))} numbers, "
                f"received {line.strip()!r}"
            )
        rows.append(row)
    if not rows:
        raise SequenceError(f"{path}: expected one region a line, received an empty file")
    return np.array(rows)


def read_regions(path: str | os.PathLike) -> np.ndarray:
    """Read a text file of one region a line, as ``read_table`` reads tables.

    Returns
    -------
    float64 array (T, 4) or (T, 8)
        A row with NaN, for a target that is absent, is NaN throughout.
    """
    regions = read_table(path)
    regions[~np.isfinite(regions).all(axis=1)] = np.nan
    return regions


def read_flags(path: str | os.PathLike, count: int) -> np.ndarray:
    """Read whole numbers, one a frame, in one line or in many: int array (count,).

    Raises
    ------
    SequenceError
        If there is another number of them, or something else.
    """
    words = [word for word in _SEPARATOR.split(_read(path, "flags")) if word]
    if len(words) != count:
        raise SequenceError(f"{path}: expected {count} numbers, one a frame, received {len(words)}")
    try:
        return np.array([int(word) for word in words], dtype=int)
    except ValueError as exc:
        raise SequenceError(f"{path}: expected whole numbers, received {exc}") from None
