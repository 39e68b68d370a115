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

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import MatFileError
from .mat73_check import Item, Tree
from .mat73_trial import try_reading
from .values import MOST_SPARSE, Cell, MatlabObject, StructArray

# Structs without fields take no place in a file; more of them are damage.
MOST_WITHOUT_FIELDS = 1 << 16

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
    ValueError
        If the file holds what MATLAB does not write and could do harm (``mat73_check``), or
        the HDF5 library does not survive it (``mat73_trial``).
    Exception
        Whatever h5py raises on a damaged file.
    """
    try_reading(path, _read)
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    with h5py.File(path, "r") as file:
        top = Item(h5py.h5o.open(file.id, b"/"))
        items = {name: top.member(name) for name in top.names() if not name.startswith("#")}
        if items and not any(item.class_name for item in items.values()):
            raise MatFileError(
                f"{path}: expected a MATLAB file, found an HDF5 file that MATLAB did not write "
                f"(nothing in it has the attribute MATLAB_class; it holds {', '.join(items)})"
            )
        tree = Tree()
        return {name: _plain(item, tree) for name, item in items.items()}


def _plain(item: Item, tree: Tree) -> Any:
    tree.enter(item)
    value = _value(item, tree)
    tree.leave()
    return value


def _value(item: Item, tree: Tree) -> Any:
    if "MATLAB_sparse" in item.attributes:
        return _sparse(item)
    if item.class_name == "function_handle" or item.attributes.get("MATLAB_object_decode", 0):
        return MatlabObject(item.class_name)
    if item.is_group:
        return _struct(item, tree)
    if item.class_name == "struct":
        return _struct_without_fields(item)
    if item.is_empty:
        return _empty(item)
    if item.class_name == "char":
        return _chars(item)
    if item.holds_references:
        return Cell([_plain(element, tree) for element in item.referenced()], _matlab_shape(item))
    return _array(item)


def _matlab_shape(item: Item) -> tuple[int, ...]:
    """The size of a cell or struct array; C order of the reversed axes is MATLAB's order."""
    shape = item.id.shape[::-1]
    return shape + (1,) * (2 - len(shape))


def _names(item: Item) -> list[str]:
    names = item.attributes.get("MATLAB_fields", ())
    return ["".join(c.decode("ascii") for c in name) for name in names]


def _fields(group: Item) -> list[str]:
    names, members = _names(group), group.names()
    return names if sorted(names) == sorted(members) else members


def _struct(group: Item, tree: Tree) -> dict | list[dict]:
    members = {name: group.member(name) for name in _fields(group)}

    def holds_elements(item: Item) -> bool:
        return item.holds_references and "MATLAB_class" not in item.attributes

    if not members or not all(map(holds_elements, members.values())):
        return {name: _plain(item, tree) for name, item in members.items()}
    columns = [item.referenced() for item in members.values()]
    elements = [
        {name: _plain(value, tree) for name, value in zip(members, row)}
        for row in zip(*columns, strict=True)
    ]
    return StructArray(elements, _matlab_shape(next(iter(members.values()))), members)


def _stored_shape(item: Item) -> tuple[int, ...]:
    """The size that a dataset holds in place of elements that there are none of."""
    shape = tuple(int(n) for n in item.content().ravel())
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of size {shape}")
    return shape


def _struct_without_fields(item: Item) -> dict | StructArray:
    """Without elements or without fields there is no group; the dataset holds the size."""
    shape = _stored_shape(item)
    count = math.prod(shape)
    if count > MOST_WITHOUT_FIELDS:
        raise ValueError(f"{count} structs without fields")
    return {} if count == 1 else StructArray([{} for _ in range(count)], shape, _names(item))


def _empty(item: Item) -> Any:
    if item.class_name == "char":
        return ""
    shape = _stored_shape(item)
    if 0 not in shape:
        raise ValueError(f"an empty array of size {shape}")
    if item.class_name == "cell":
        return Cell([], shape)
    return np.zeros(shape, dtype=_DTYPES.get(item.class_name, np.float64))


def _chars(item: Item) -> str | np.ndarray:
    rows = [row.astype("<u2").tobytes().decode("utf-16-le", "replace") for row in _reversed(item)]
    return rows[0] if len(rows) == 1 else np.array(rows)


def _array(item: Item) -> np.ndarray:
    array = _reversed(item)
    if array.dtype.names == ("real", "imag"):
        array = array["real"] + 1j * array["imag"]
        return np.ascontiguousarray(array)
    dtype = _DTYPES.get(item.class_name, array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array, dtype=dtype)


def _reversed(item: Item) -> np.ndarray:
    """The dataset with MATLAB's axes, at least two."""
    array = item.content().T
    return array.reshape(array.shape + (1,) * (2 - array.ndim))


def _sparse(item: Item) -> np.ndarray:
    """Compressed columns (``data``, row numbers ``ir``, column starts ``jc``) as a full array."""
    if not item.is_group:
        raise ValueError("a sparse matrix that is no group")
    starts = item.member("jc").content().astype(np.int64)
    rows, columns = int(item.attributes["MATLAB_sparse"]), len(starts) - 1
    if rows * columns > MOST_SPARSE:
        raise ValueError(f"a sparse matrix of {rows} x {columns}, to be read as a full one")
    matrix = np.zeros((rows, columns))
    if "data" in item.names():
        places = item.member("ir").content().astype(np.int64)
        counts = np.diff(starts)
        if counts.sum() != len(places):
            raise ValueError(f"a sparse matrix of {len(places)} elements with other columns")
        matrix[places, np.repeat(np.arange(columns), counts)] = item.member("data").content()
    return matrix
