"""Small ``.mat`` files of every version, for the tests of the readers.

Values are dicts (structs), lists of dicts (struct arrays), other lists (cells, 1 x n), ``str``
(char) and arrays with MATLAB's axes, two or more. Versions 6 and 7 are written by SciPy. Version
7.3 is written with h5py from what is known of the format (see ``matlab_import/mat73.py``):
MATLAB's header in a user block of 512 bytes, axes reversed, cells and struct arrays as references.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

USER_BLOCK = 512
_CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}
# Names in the group of references.
_numbers = itertools.count()


class Cell(list):
    """A list that is a cell although it holds nothing but dicts."""


class Opaque:
    """An object of a MATLAB class, of which the file says little more than the name."""

    def __init__(self, class_name: str):
        self.class_name = class_name


def write_mat5(path: Path, variables: dict[str, Any], *, compressed: bool = True) -> None:
    """Write a file of version 7, or 6, which is not compressed."""
    content = {name: _for_scipy(value) for name, value in variables.items()}
    scipy.io.savemat(path, content, do_compression=compressed, long_field_names=True)


def _for_scipy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _for_scipy(v) for name, v in value.items()}
    if _is_struct_array(value):
        array = np.empty((1, len(value)), [(name, object) for name in value[0]])
        for i, element in enumerate(value):
            for name, v in element.items():
                array[0, i][name] = _for_scipy(v)
        return array
    if isinstance(value, list):
        array = np.empty((1, len(value)) if value else (0, 0), object)
        for i, v in enumerate(value):
            array[0, i] = _for_scipy(v)
        return array
    return value


def _is_struct_array(value: Any) -> bool:
    return (
        isinstance(value, list)
        and not isinstance(value, Cell)
        and len(value) > 0
        and all(isinstance(v, dict) for v in value)
    )


def write_mat73(path: Path, variables: dict[str, Any], *, user_block: bool = True) -> None:
    """Write a file of version 7.3, with MATLAB's header unless ``user_block`` is False."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK if user_block else 0) as file:
        for name, value in variables.items():
            _write(file, name, value)
    if user_block:
        header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64 HDF5 schema 1.00 .".ljust(116)
        with path.open("r+b") as stream:
            stream.write(header + bytes(8) + b"\x00\x02IM")


def _write(group: h5py.Group, name: str, value: Any) -> None:
    if isinstance(value, Opaque):
        item = group.create_dataset(name, data=np.zeros((1, 6), np.uint32))
        item.attrs["MATLAB_object_decode"] = np.int32(3)
        _set_class(item, value.class_name)
    elif isinstance(value, dict):
        _write_struct(group, name, value, value)
    elif _is_struct_array(value):
        columns = {field: [element[field] for element in value] for field in value[0]}
        struct = _write_struct(group, name, columns, {})
        for field, column in columns.items():
            _write_references(struct, field, column)
    elif isinstance(value, list):
        item = _write_references(group, name, value)
        _set_class(item, "cell")
    elif isinstance(value, str):
        codes = np.frombuffer(value.encode("utf-16-le"), np.uint16)
        item = _write_array(group, name, codes.reshape(1, -1) if value else np.zeros((0, 0)))
        _set_class(item, "char")
        item.attrs["MATLAB_int_decode"] = np.int32(2)
    else:
        array = np.asarray(value)
        stored = array.astype(np.uint8) if array.dtype == bool else array
        if np.iscomplexobj(array):
            stored = np.empty(array.shape, [("real", "f8"), ("imag", "f8")])
            stored["real"], stored["imag"] = array.real, array.imag
        item = _write_array(group, name, stored)
        kind = "float64" if np.iscomplexobj(array) else array.dtype.name
        _set_class(item, _CLASSES.get(kind, kind))


def _write_struct(group, name, fields, members) -> h5py.Group:
    struct = group.create_group(name)
    _set_class(struct, "struct")
    names = np.empty(len(fields), dtype=object)
    for i, field in enumerate(fields):
        names[i] = np.array([c.encode() for c in field], dtype="S1")
    struct.attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype(np.dtype("S1")))
    for field, value in members.items():
        _write(struct, field, value)
    return struct


def _write_array(group, name, array: np.ndarray) -> h5py.Dataset:
    if array.size:
        return group.create_dataset(name, data=array.T)
    item = group.create_dataset(name, data=np.array(array.shape, np.uint64))
    item.attrs["MATLAB_empty"] = np.uint8(1)
    return item


def _write_references(group, name, values: list) -> h5py.Dataset:
    if not values:
        return _write_array(group, name, np.zeros((0, 0)))
    pool = group.file.require_group("#refs#")
    references = np.empty((len(values), 1), dtype=h5py.ref_dtype)
    for i, value in enumerate(values):
        key = f"r{next(_numbers)}"
        _write(pool, key, value)
        references[i, 0] = pool[key].ref
    return group.create_dataset(name, data=references, dtype=h5py.ref_dtype)


def _set_class(item, class_name: str) -> None:
    item.attrs["MATLAB_class"] = np.bytes_(class_name)


WRITERS = {
    "version 6": lambda path, variables: write_mat5(path, variables, compressed=False),
    "version 7": write_mat5,
    "version 7.3": write_mat73,
    "version 7.3 without user block": lambda path, variables: write_mat73(
        path, variables, user_block=False
    ),
}
