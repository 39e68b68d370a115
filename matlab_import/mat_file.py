"""Reading of ``.mat`` files of every version, and clear words for files that are none."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .errors import MatFileError
from .values import is_empty, kind

EXPECTED = "expected a MATLAB .mat file (version 5, 6, 7 or 7.3)"

# A v5 file starts with 116 bytes of text, 8 of offsets, the version and the byte order mark.
_HEADER_SIZE = 128
_BYTE_ORDER_MARKS = (b"IM", b"MI")

# First bytes of the files that are most easily taken for a .mat file.
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive (an .npz file or a PyTorch .pth file?)"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"\x80", "a Python pickle (an old PyTorch .pth file?)"),
    (b"\x1f\x8b", "a gzip archive"),
)


def read_mat(path: str | PathLike) -> dict[str, Any]:
    """Read all variables of a ``.mat`` file into the plain form that ``values`` describes.

    Parameters
    ----------
    path : path of a file of version 5, 6, 7 (SciPy) or 7.3 (h5py)

    Returns
    -------
    dict of variables by name, in the order of the file (7.3: in alphabetical order).

    Raises
    ------
    MatFileError
        If the file is of another kind, empty, or damaged.
    OSError
        If there is no such file or it cannot be opened.
    """
    path = Path(path)
    read = _reader(path)
    try:
        return read(path)
    except MatFileError:
        raise
    except Exception as exc:
        # On damaged files the two libraries fail in whatever way the damage leads to.
        raise MatFileError(
            f"{path}: {EXPECTED}, found one that is truncated or damaged "
            f"({type(exc).__name__}: {exc})"
        ) from exc


def _reader(path: Path):
    # Imported here since SciPy's and HDF5's readers are slow to import, and most files need one.
    import h5py

    with path.open("rb") as file:
        head = file.read(_HEADER_SIZE)
    if h5py.is_hdf5(path):
        from .mat73 import read_mat73

        return read_mat73
    if head.startswith(b"MATLAB 7.3"):
        raise MatFileError(
            f"{path}: {EXPECTED}, found the header of version 7.3 without the HDF5 data that "
            "belong to it: the file is truncated or damaged"
        )
    if len(head) == _HEADER_SIZE and head[126:] in _BYTE_ORDER_MARKS:
        from .mat5 import read_mat5

        return read_mat5
    raise MatFileError(f"{path}: {EXPECTED}, found {_describe(head)}")


def _describe(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.startswith(b"MATLAB 5.0"):
        return "the header of version 5 cut off: the file is truncated"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in head):
        return f"text that starts with {head[:30].decode('utf-8', 'replace')!r}"
    return f"bytes that start with {head[:8].hex(' ')}"


def load_matrix(path: str | PathLike, name: str | None = None) -> np.ndarray:
    """Read one numeric array with two axes, for example a learned fusion map.

    Parameters
    ----------
    path : path of a ``.mat`` file
    name : name of the variable; may be left out where the file has one variable only

    Returns
    -------
    ndarray of shape (H, W), rows first as in MATLAB, in the file's dtype.

    Raises
    ------
    MatFileError
        If the file is none, lacks the variable, or the variable is something else.
    """
    variables = read_mat(path)
    found = ", ".join(f"{n} ({kind(v)})" for n, v in variables.items()) or "nothing"
    if name is None:
        if len(variables) != 1:
            raise MatFileError(
                f"{path}: expected one variable, found {found}; say which one to read"
            )
        name = next(iter(variables))
    if name not in variables:
        raise MatFileError(f"{path}: expected a variable {name!r}, found {found}")
    value = variables[name]
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "biufc":
        raise MatFileError(
            f"{path}: variable {name!r}: expected a numeric array with two axes, "
            f"found {kind(value)}"
        )
    if is_empty(value):
        raise MatFileError(f"{path}: variable {name!r} is empty")
    return value
