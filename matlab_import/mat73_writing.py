"""Files of version 7.3, written with h5py as MATLAB writes them; the layout is in ``mat73``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import IO, Any

import h5py
import numpy as np

from .mat_writing import as_list
from .values import Cell, MatlabObject, StructArray, to_python

_USER_BLOCK = 512
# 116 bytes of text, 8 of offsets, the version, and the mark of the byte order.
_HEADER = (
    b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116)
    + bytes(8)
    + b"\x00\x02IM"
)
_CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}
# MATLAB_int_decode: what integers stand for.
_LOGICAL, _CHAR = 1, 2
_REFERENCES = "#refs#"


def write_mat73(stream: IO[bytes], variables: Mapping[str, Any]) -> None:
    """Write variables in plain MATLAB form to a stream that can be read and written."""
    with h5py.File(stream, "w", userblock_size=_USER_BLOCK) as file:
        numbers = itertools.count()
        for name, value in variables.items():
            _write(file, name, value, numbers)
    stream.seek(0)
    stream.write(_HEADER)


def _write(group: h5py.Group, name: str, value: Any, numbers: Iterator[int]) -> None:
    """Write a value; ``numbers`` gives the names of what is referred to."""
    if isinstance(value, MatlabObject):
        value = to_python(value)
    if isinstance(value, dict):
        struct = _struct(group, name, tuple(value))
        for field, v in value.items():
            _write(struct, field, v, numbers)
    elif isinstance(value, list):
        _list(group, name, as_list(value), numbers)
    elif isinstance(value, str) or np.asarray(value).dtype.kind == "U":
        _chars(group, name, value)
    else:
        _array(group, name, np.asarray(value))


def _struct(group: h5py.Group, name: str, fields: tuple[str, ...]) -> h5py.Group | h5py.Dataset:
    """The group of a struct; without fields, MATLAB writes a dataset that holds its size."""
    item = group.create_group(name) if fields else _empty(group, name, (1, 1))
    _set_class(item, "struct")
    _set_fields(item, fields)
    return item


def _set_fields(item: h5py.Group | h5py.Dataset, fields: tuple[str, ...]) -> None:
    if not fields:
        return
    names = np.empty(len(fields), dtype=object)
    for i, field in enumerate(fields):
        names[i] = np.array([c.encode("ascii") for c in field], dtype="S1")
    item.attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype(np.dtype("S1")))


def _list(group: h5py.Group, name: str, value: Cell | StructArray, numbers: Iterator[int]) -> None:
    if isinstance(value, Cell):
        item = _references(group, name, value, value.shape, numbers)
        _set_class(item, "cell")
    elif not value or not value.fields:
        item = _empty(group, name, value.shape)
        _set_class(item, "struct")
        _set_fields(item, value.fields)
    else:
        struct = _struct(group, name, value.fields)
        for field in value.fields:
            column = [element[field] for element in value]
            _references(struct, field, column, value.shape, numbers)


def _references(
    group: h5py.Group,
    name: str,
    values: list,
    shape: tuple[int, ...],
    numbers: Iterator[int],
) -> h5py.Dataset:
    """A dataset of references to values, which are in a group of their own."""
    if not values:
        return _empty(group, name, shape)
    pool = group.file.require_group(_REFERENCES)
    references = np.empty(len(values), dtype=h5py.ref_dtype)
    for i, value in enumerate(values):
        key = f"r{next(numbers)}"
        _write(pool, key, value, numbers)
        references[i] = pool[key].ref
    # Column-major order is C order of the reversed axes.
    return group.create_dataset(name, data=references.reshape(shape[::-1]), dtype=h5py.ref_dtype)


def _empty(group: h5py.Group, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    item = group.create_dataset(name, data=np.array(shape, np.uint64))
    item.attrs["MATLAB_empty"] = np.uint8(1)
    return item


def _chars(group: h5py.Group, name: str, value: str | np.ndarray) -> None:
    """UTF-16 code units; several strings are the rows of a matrix, blanks at their ends."""
    rows = [str(row) for row in np.ravel(value)]
    units = [np.frombuffer(row.encode("utf-16-le", "surrogatepass"), "<u2") for row in rows]
    width = max(map(len, units), default=0)
    matrix = np.full((len(rows), width), ord(" "), np.uint16)
    for row, codes in zip(matrix, units):
        row[: len(codes)] = codes
    empty = (0, 0) if len(rows) == 1 else matrix.shape
    item = group.create_dataset(name, data=matrix.T) if matrix.size else _empty(group, name, empty)
    _set_class(item, "char")
    item.attrs["MATLAB_int_decode"] = np.int32(_CHAR)


def _array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    stored = array.astype(np.uint8) if array.dtype == bool else array
    class_name = _CLASSES.get(array.dtype.name, array.dtype.name)
    if np.iscomplexobj(array):
        part = array.real.dtype
        stored = np.empty(array.shape, [("real", part), ("imag", part)])
        stored["real"], stored["imag"] = array.real, array.imag
        class_name = _CLASSES[part.name]
    item = (
        group.create_dataset(name, data=stored.T)
        if array.size
        else _empty(group, name, array.shape)
    )
    _set_class(item, class_name)
    if array.dtype == bool:
        item.attrs["MATLAB_int_decode"] = np.int32(_LOGICAL)


def _set_class(item: h5py.Group | h5py.Dataset, class_name: str) -> None:
    item.attrs["MATLAB_class"] = np.bytes_(class_name)
