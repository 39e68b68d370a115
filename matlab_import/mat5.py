"""MAT-files of versions 5, 6 and 7, read with SciPy into the plain form of ``values``."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse
from scipy.io.matlab import MatlabFunction, MatlabOpaque
from scipy.io.matlab import MatlabObject as OldStyleObject

from .errors import MatFileError
from .mat5_check import check_mat5
from .values import MOST_SPARSE, Cell, MatlabObject, StructArray


def read_mat5(path: Path) -> dict[str, Any]:
    """All variables of the file by name.

    Raises
    ------
    MatFileError
        If SciPy reports a variable that it cannot read.
    Exception
        Whatever the check or SciPy raises on a damaged file.
    """
    check_mat5(path)
    # mat_dtype: MATLAB stores a double of integer value as int8 to save space, and a logical as
    # uint8; this asks for the class that the array had in MATLAB.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = scipy.io.loadmat(path, mat_dtype=True)
    for warning in caught:
        # What SciPy cannot read it replaces by a text.
        if str(warning.message).startswith("Unreadable variable"):
            raise MatFileError(f"{path}: {warning.message}")
    if any(issubclass(w.category, np.exceptions.ComplexWarning) for w in caught):
        # mat_dtype drops imaginary parts, which are there without it.
        original = scipy.io.loadmat(path)
        content = {name: _with_complex(value, original[name]) for name, value in content.items()}
    variables = {}
    for name, value in content.items():
        if name.startswith("__"):
            continue
        if isinstance(value, MatlabOpaque):
            # SciPy does not know the names of objects; they are in the first field.
            name = _decode(value["s0"].flat[0]) or name
        variables[name] = _plain(value)
    return variables


def _with_complex(value: Any, original: Any) -> Any:
    """``value`` with the complex arrays of ``original``, its like, in place of their real parts."""
    if not isinstance(value, np.ndarray):
        return value
    if np.iscomplexobj(original):
        return original
    if value.dtype.names is not None:
        for i in np.ndindex(value.shape):
            for name in value.dtype.names:
                value[i][name] = _with_complex(value[i][name], original[i][name])
    elif value.dtype == object:
        for i in np.ndindex(value.shape):
            value[i] = _with_complex(value[i], original[i])
    return value


def _decode(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, MatlabFunction):
        return MatlabObject("function_handle")
    if isinstance(value, MatlabOpaque):
        return MatlabObject(_decode(value["s2"].flat[0]))
    if isinstance(value, OldStyleObject):
        return MatlabObject(str(value.classname))
    if scipy.sparse.issparse(value):
        if math.prod(value.shape) > MOST_SPARSE:
            raise ValueError(f"a sparse matrix of size {value.shape}, to be read as a full one")
        value.check_format(full_check=True)  # toarray would write where the indices say
        return value.toarray()
    if value.dtype.names is not None:
        return _struct(value)
    if value.dtype == object:
        items = [value[i] for i in _column_major(value)]
        if items and all(item is None for item in items):
            # What SciPy makes of a struct without fields.
            return {} if len(items) == 1 else StructArray([{} for _ in items], value.shape)
        return Cell([_plain(item) for item in items], value.shape)
    if value.dtype.kind == "U":
        return _chars(value)
    # Fortran order and the file's byte order end here.
    return np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))


def _column_major(array: np.ndarray) -> list[tuple[int, ...]]:
    if array.size == 0:  # one side may be empty and another long
        return []
    return [tuple(reversed(i)) for i in np.ndindex(array.shape[::-1])]


def _struct(value: np.ndarray) -> dict | list[dict]:
    elements = [
        {name: _plain(value[i][name]) for name in value.dtype.names} for i in _column_major(value)
    ]
    return elements[0] if len(elements) == 1 else _array_of(elements, value)


def _array_of(elements: list[dict], value: np.ndarray) -> StructArray:
    return StructArray(elements, value.shape, value.dtype.names)


def _chars(value: np.ndarray) -> str | np.ndarray:
    rows = value.ravel()
    if rows.size == 0:
        return ""
    return str(rows[0]) if rows.size == 1 else rows
