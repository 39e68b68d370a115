"""MAT-files of version 7.3, which are HDF5, read with h5py into the plain form of ``values``.

How MATLAB lays its values out in HDF5 (seen in files; there is no published description):

* Every object has the attribute ``MATLAB_class``. Arrays are stored with their axes reversed.
* An empty array is a dataset that holds its size, with ``MATLAB_empty`` set.
* ``char`` is stored as UTF-16 code units, ``logical`` as uint8, complex numbers as a compound
  of ``real`` and ``imag``.
* A cell is a dataset of object references, which point into the group ``#refs#``.
* A struct is a group with one member a field (``MATLAB_fields`` has their order). In a struct
  array each member is a dataset of references *without* ``MATLAB_class``, one for an element.
* Sparse matrices are groups with ``MATLAB_sparse``, objects have ``MATLAB_object_decode``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import MatFileError
from .values import Cell, MatlabObject, StructArray

_DTYPES = {
    "double": np.float64,
    "single": np.float32,
    "logical": np.bool_,
    "canonical empty": np.float64,
    **{
        f"{sign}int{bits}": np.dtype(f"{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


def read_mat73(path: Path) -> dict[str, Any]:
    """All variables of the file by name.

    Raises
    ------
    MatFileError
        If the file is HDF5 but nothing in it was written by MATLAB.
    Exception
        Whatever h5py raises on a damaged file.
    """
    with h5py.File(path, "r") as file:
        names = [name for name in file if not name.startswith("#")]
        if names and not any("MATLAB_class" in file[name].attrs for name in names):
            raise MatFileError(
                f"{path}: expected a MATLAB file, found an HDF5 file that MATLAB did not write "
                f"(nothing in it has the attribute MATLAB_class; it holds {', '.join(names)})"
            )
        return {name: _plain(file[name]) for name in names}


def _attribute(item: Any, name: str) -> str:
    value = item.attrs.get(name, b"")
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _plain(item: h5py.Group | h5py.Dataset) -> Any:
    class_name = _attribute(item, "MATLAB_class")
    if "MATLAB_sparse" in item.attrs:
        return _sparse(item)
    if class_name == "function_handle" or item.attrs.get("MATLAB_object_decode", 0):
        return MatlabObject(class_name)
    if isinstance(item, h5py.Group):
        return _struct(item)
    if class_name == "struct":
        # Without elements or without fields there is no group; the dataset holds the size.
        shape = tuple(int(n) for n in item[()])
        count = int(np.prod(shape))
        return {} if count == 1 else StructArray([{} for _ in range(count)], shape, _names(item))
    if item.attrs.get("MATLAB_empty", 0):
        return _empty(item, class_name)
    if class_name == "char":
        return _chars(item)
    if h5py.check_ref_dtype(item.dtype) is not None:
        return Cell([_plain(element) for element in _referenced(item)], _matlab_shape(item))
    return _array(item, class_name)


def _referenced(item: h5py.Dataset) -> list[Any]:
    # C order of the reversed axes is MATLAB's column-major order.
    return [item.file[reference] for reference in np.ravel(item[()])]


def _matlab_shape(item: h5py.Dataset) -> tuple[int, ...]:
    shape = item.shape[::-1]
    return shape + (1,) * (2 - len(shape))


def _names(item: h5py.Group | h5py.Dataset) -> list[str]:
    return [
        "".join(c.decode("ascii") for c in name) for name in item.attrs.get("MATLAB_fields", ())
    ]


def _fields(group: h5py.Group) -> list[str]:
    names = _names(group)
    return names if sorted(names) == sorted(group) else list(group)


def _struct(group: h5py.Group) -> dict | list[dict]:
    names = _fields(group)

    def holds_elements(name: str) -> bool:
        member = group[name]
        return (
            isinstance(member, h5py.Dataset)
            and "MATLAB_class" not in member.attrs
            and h5py.check_ref_dtype(member.dtype) is not None
        )

    if not names or not all(holds_elements(name) for name in names):
        return {name: _plain(group[name]) for name in names}
    columns = [_referenced(group[name]) for name in names]
    elements = [
        {name: _plain(value) for name, value in zip(names, row)}
        for row in zip(*columns, strict=True)
    ]
    return StructArray(elements, _matlab_shape(group[names[0]]))


def _empty(item: h5py.Dataset, class_name: str) -> Any:
    if class_name == "char":
        return ""
    shape = tuple(int(n) for n in item[()])
    if class_name == "cell":
        return Cell([], shape)
    return np.zeros(shape, dtype=_DTYPES.get(class_name, np.float64))


def _chars(item: h5py.Dataset) -> str | np.ndarray:
    rows = [row.astype("<u2").tobytes().decode("utf-16-le", "replace") for row in _reversed(item)]
    return rows[0] if len(rows) == 1 else np.array(rows)


def _array(item: h5py.Dataset, class_name: str) -> np.ndarray:
    array = _reversed(item)
    if array.dtype.names == ("real", "imag"):
        array = array["real"] + 1j * array["imag"]
        return np.ascontiguousarray(array)
    dtype = _DTYPES.get(class_name, array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array, dtype=dtype)


def _reversed(item: h5py.Dataset) -> np.ndarray:
    """The dataset with MATLAB's axes, at least two."""
    array = np.asarray(item[()]).T
    return array.reshape(array.shape + (1,) * (2 - array.ndim))


def _sparse(group: h5py.Group) -> np.ndarray:
    """Compressed columns (``data``, row numbers ``ir``, column starts ``jc``) as a full array."""
    starts = group["jc"][()].astype(np.int64)
    matrix = np.zeros((int(group.attrs["MATLAB_sparse"]), len(starts) - 1))
    if "data" in group:
        columns = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        matrix[group["ir"][()].astype(np.int64), columns] = group["data"][()]
    return matrix
