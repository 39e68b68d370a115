"""Ordinary Python values, of ``meta``, statistics and settings, in plain MATLAB form."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dagnet import asnumpy

from .errors import MatFileError
from .forms import struct_array
from .values import Cell

# namelengthmax, the longest name of a field or variable in MATLAB.
_LONGEST_NAME = 63
_MATLAB_DTYPES = ("float64", "float32", "bool", "complex128", "complex64")


def from_python(value: Any, what: str) -> Any:
    """The way back from ``values.to_python``.

    Numbers become doubles, but NumPy's keep their class. None is ``[]``. A list or tuple of dicts
    is a struct array, any other a cell of one row. Arrays keep their axes; with one, they are a
    row. A key that cannot be the name of a field is changed, with a UserWarning.

    Parameters
    ----------
    value : dicts, lists, tuples, strings, numbers, booleans, None, and arrays
    what : what the value is, for messages

    Raises
    ------
    MatFileError
        If MATLAB has nothing like the value, or two keys become one name.
    """
    if value is None:
        return np.zeros((0, 0))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return np.array([[bool(value)]])
    if isinstance(value, (int, float)):
        return np.array([[float(value)]])
    if isinstance(value, Mapping):
        return _struct(value, what)
    if isinstance(value, (list, tuple)):
        elements = [from_python(v, f"{what}, element {i}") for i, v in enumerate(value, start=1)]
        if elements and all(isinstance(e, dict) for e in elements):
            return struct_array(elements)
        return Cell(elements)
    if hasattr(value, "dtype"):
        return _array(asnumpy(value), what)
    raise MatFileError(f"{what}: a {type(value).__name__} cannot be written to a .mat file")


def _struct(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    struct = {}
    for key, entry in value.items():
        name = field_name(str(key))
        if name in struct:
            raise MatFileError(f"{what}: two keys would be the field {name!r}")
        if name != key:
            warnings.warn(
                f"{what}: {key!r} cannot be the name of a field in MATLAB and is written as "
                f"{name!r}",
                UserWarning,
                stacklevel=2,
            )
        struct[name] = from_python(entry, f"{what}.{key}")
    return struct


def field_name(key: str) -> str:
    """The key itself if it can be a field's name, else one like it."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", key)[:_LONGEST_NAME]
    return name if re.match(r"[A-Za-z]", name) else f"x{name}"[:_LONGEST_NAME]


def _array(array: np.ndarray, what: str) -> Any:
    if array.dtype.kind == "O":
        return from_python(array.tolist(), what)
    array = np.atleast_2d(array)
    if array.dtype.kind == "U":
        rows = array.ravel()
        return str(rows[0]) if rows.size == 1 else Cell([str(row) for row in rows])
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.name in _MATLAB_DTYPES or array.dtype.kind in "iu":
        return array
    raise MatFileError(f"{what}: an array of {array.dtype} cannot be written to a .mat file")
