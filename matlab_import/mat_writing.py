"""Writing of ``.mat`` files, version 6, 7 and 7.3, from the plain form of ``values``.

In place of a ``Cell`` or a ``StructArray`` an ordinary list may stand: of dicts, it is a struct
array, else a cell of one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import atomic_write

from .errors import MatFileError
from .values import Cell, MatlabObject, StructArray, to_python

VERSIONS = ("6", "7", "7.3")

# What versions 5 to 7 can hold: 4-byte counts, and some of them are signed.
_LARGEST_VARIABLE = 2**31 - 1


def write_mat(path: str | PathLike, variables: Mapping[str, Any], version: str = "7") -> None:
    """Write variables in plain MATLAB form, under a temporary name first.

    Parameters
    ----------
    path : the file; an old one is replaced when the new one is whole
    variables : values by name, as ``values`` describes them
    version : '6' (not compressed), '7' (compressed) or '7.3' (HDF5, for more than 2 GB)

    Raises
    ------
    MatFileError
        If the version is not known, or cannot hold as much.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    if version not in VERSIONS:
        raise MatFileError(f"version must be one of {', '.join(VERSIONS)}, received {version!r}")
    if version == "7.3":
        from .mat73_writing import write_mat73

        with atomic_write(path, "w+b") as stream:
            write_mat73(stream, variables)
        return
    # Imported here since SciPy's writers are slow to import.
    from scipy.io import savemat

    for name, value in variables.items():
        if _size(value) > _LARGEST_VARIABLE:
            raise MatFileError(
                f"{path}: variable {name!r} has more than 2 GB, which files of version {version} "
                "cannot hold; write version 7.3"
            )
    content = {name: _for_scipy(value) for name, value in variables.items()}
    with atomic_write(path) as stream:
        savemat(stream, content, do_compression=version == "7", long_field_names=True)


def as_list(value: list) -> Cell | StructArray:
    """An ordinary list as a ``StructArray`` if it holds dicts alone, else as a ``Cell``."""
    if isinstance(value, (Cell, StructArray)):
        return value
    is_array = bool(value) and all(isinstance(v, dict) for v in value)
    return StructArray(value) if is_array else Cell(value)


def _size(value: Any) -> int:
    """Bytes of the arrays in a value."""
    if isinstance(value, dict):
        return sum(_size(v) for v in value.values())
    if isinstance(value, list):
        return sum(_size(v) for v in value)
    return int(getattr(value, "nbytes", 0))


def _for_scipy(value: Any) -> Any:
    if isinstance(value, dict):
        # A struct without fields is what SciPy makes of an empty dict.
        return {name: _for_scipy(v) for name, v in value.items()}
    if isinstance(value, list):
        return _objects(as_list(value))
    return to_python(value) if isinstance(value, MatlabObject) else value


def _objects(value: Cell | StructArray) -> np.ndarray:
    """A struct array or cell as SciPy's arrays of structured or object type."""
    if isinstance(value, Cell) or not value.fields:
        array = np.empty(value.shape, object)
        flat = array.reshape(-1, order="F")
        for i, element in enumerate(value):
            flat[i] = _for_scipy(element)
        return flat.reshape(value.shape, order="F")
    flat = np.empty(len(value), [(name, object) for name in value.fields])
    for i, element in enumerate(value):
        for name, v in element.items():
            flat[i][name] = _for_scipy(v)
    return flat.reshape(value.shape, order="F")
