"""Files of results: boxes as text, and all that is known of a run as JSON."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import __version__
from dagnet.files import atomic_write


def boxes_text(boxes: np.ndarray) -> str:
    """Boxes (T, 4) as text, a row ``x,y,w,h`` each; reading the numbers gives the same ones."""
    return "".join(",".join(repr(float(v)) for v in box) + "\n" for box in boxes)


def check_writable(path: str | os.PathLike) -> None:
    """Find out before a long run whether a file can be written after it.

    Raises
    ------
    OSError
        If the path is a folder, or its folder cannot be written to or made.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected the name of a file to write, received a folder")
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: cannot be written, as {there} is no folder to write to")


def save_boxes(path: str | os.PathLike, boxes: np.ndarray) -> None:
    """Write boxes (T, 4) as ``boxes_text``, under a temporary name first; folders are made."""
    with atomic_write(path, "w") as file:
        file.write(boxes_text(boxes))


def save_json(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Write named values as JSON, with this software's version, under a temporary name first.

    Arrays become lists, and numbers that are not finite null, as JSON has none.
    """
    with atomic_write(path, "w") as file:
        json.dump(_plain({"version": __version__, **record}), file, allow_nan=False, indent=1)
        file.write("\n")


def _plain(value: Any) -> Any:
    """``value`` in the types that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
