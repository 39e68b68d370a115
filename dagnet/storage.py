"""Nested containers with arrays in one ``.npz`` file, without pickle.

Arrays become members of the archive; everything else becomes JSON in the member ``tree``, where
an array stands as a reference. Tuples come back as tuples, NumPy's numbers as numbers of their
type; Python's complex numbers come back as NumPy's.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from .backend import asnumpy
from .errors import CheckpointError
from .files import atomic_write

_TREE = "tree"
# Bytes that a file may hold in memory, as a factor of its size and beside it. What is written here
# is not compressed; what others compressed may be, but not without end.
_EXPANSION, _ALLOWANCE = 100, 1 << 26
_SEQUENCES = {"list": list, "tuple": tuple}
# What the readers of zip, npy and JSON raise on files that are damaged or of another kind.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_tree(path: str | os.PathLike, tree: Any) -> None:
    """Write ``tree`` (dicts with string keys, lists, tuples, strings, numbers, booleans, None,
    arrays) to ``path``, under a temporary name first.

    Raises
    ------
    TypeError
        If it holds an object of another kind; the message says where.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_encode(tree, arrays, "tree"))
    with atomic_write(path) as stream:
        np.savez(stream, **{_TREE: np.array(text)}, **arrays)


def load_tree(path: str | os.PathLike) -> Any:
    """Read what ``save_tree`` wrote.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError
        If there is no such file, or it cannot be opened.
    CheckpointError
        If the file is not one of this format, or is truncated or damaged, or says that it holds
        more than it can.
    MemoryError
        If there is no memory for what it holds.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _decode(json.loads(str(arrays.pop(_TREE))), arrays)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except MemoryError as exc:
        raise MemoryError(f"{os.fspath(path)}: {exc}") from exc
    except _DAMAGE as exc:
        reason = " ".join(f"{type(exc).__name__}: {exc}".split())
        raise CheckpointError(
            f"{os.fspath(path)}: not a file of this software, or damaged or truncated ({reason})"
        ) from exc


def _check_sizes(path: str | os.PathLike) -> None:
    """Refuse arrays that are another size than their data before memory is taken for them.

    Raises
    ------
    ValueError
        If the archive's members would be far more than the file, or one is not an array of as
        many bytes as it says.
    """
    most = _EXPANSION * os.path.getsize(path) + _ALLOWANCE
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        if total > most:
            raise ValueError(f"{total} bytes, when unpacked, in a file that may hold {most}")
        for member in archive.infolist():
            with archive.open(member) as stream:
                shape, dtype = _read_header(stream)
                held = member.file_size - stream.tell()
            needed = math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and needed != held:
                raise ValueError(f"{member.filename}: {held} bytes for an array of {needed}")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, without its data."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
    return shape, dtype


def _encode(value: Any, arrays: dict[str, np.ndarray], where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.generic, complex)) and not np.asarray(value).dtype.hasobject:
        return {"number": _keep(np.asarray(value), arrays)}
    if isinstance(value, dict):
        items = {}
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: keys must be strings, received {key!r}")
            items[key] = _encode(entry, arrays, f"{where}.{key}")
        return {"dict": items}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, arrays, f"{where}[{i}]") for i, v in enumerate(value)]}
    if hasattr(value, "dtype") and not asnumpy(value).dtype.hasobject:
        return {"array": _keep(asnumpy(value), arrays)}
    raise TypeError(f"{where}: cannot save an object of type {type(value).__name__}")


def _keep(array: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    name = f"array{len(arrays)}"
    arrays[name] = array
    return name


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "number":
        return arrays[content][()]
    if kind == "dict":
        return {key: _decode(entry, arrays) for key, entry in content.items()}
    return _SEQUENCES[kind](_decode(entry, arrays) for entry in content)
