"""Well-formed files with the wrong content: another value somewhere in a network's structs."""

from __future__ import annotations

import contextlib
import copy
import io
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from matlab_import.mat5 import read_mat5
from matlab_import.mat_writing import write_mat
from matlab_import.values import Cell, StructArray

_HEADER_SIZE = 128
_NOTABLE = (0.0, 1.0, -1.0, 2.0, 3.5, 1e5, 2.0**31, 2.0**53, 1e300, float("nan"), float("inf"))
_TEXTS = ("", "x1", "net", "dagnn.Conv", "dagnn.Loss", "conv", "bnorm", "loss", "\u00e4", "a.b")


def _pool(rng: np.random.Generator) -> Any:
    """A value of any kind."""
    number = _NOTABLE[int(rng.integers(len(_NOTABLE)))]
    shape = tuple(int(n) for n in rng.integers(0, 4, int(rng.integers(2, 6))))
    text = _TEXTS[int(rng.integers(len(_TEXTS)))]
    values = (
        *(np.array([[number]]), np.array([[number]]), np.array([[number, 1, 2, number]])),
        *(np.full(shape, number), np.ones(shape, np.float32), np.zeros((0, 0))),
        *(np.array([[True]]), np.array([[7]], np.int8), np.array([[1 + 2j]])),
        *(text, text, np.array(["ab", "cd"])),
        *(Cell([]), Cell([text, np.array([[number]])]), Cell([Cell([Cell([text])])])),
        *({"name": text}, {}, StructArray([{"name": text}, {"name": text}])),
    )
    return values[int(rng.integers(len(values)))]


@lru_cache(maxsize=4)
def _read(content: bytes) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.mat"
        path.write_bytes(content)
        return read_mat5(path)


def _containers(value: Any) -> list[Any]:
    """Dicts and lists in a value, itself first, that hold something."""
    if not isinstance(value, (dict, list)) or not value:
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(found for v in inner for found in _containers(v))]


def other_value_mat5(content: bytes, rng: np.random.Generator) -> bytes:
    """Some values replaced, left out, named anew or exchanged, in a file of version 5 to 7."""
    variables = copy.deepcopy(_read(content))
    for _ in range(int(rng.integers(1, 4))):
        places = _containers(variables)
        if not places:
            break
        container = places[int(rng.integers(len(places)))]
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        key, other = (keys[int(rng.integers(len(keys)))] for _ in range(2))
        # The elements of a struct array must keep their fields.
        free = isinstance(container, dict) and not any(
            isinstance(p, StructArray) and any(e is container for e in p) for p in places
        )
        choice = rng.integers(8)
        if choice == 0 and free:
            del container[key]
        elif choice == 1 and free:
            container[_TEXTS[int(rng.integers(1, 4))].replace(".", "_")] = container.pop(key)
        elif choice == 2:
            container[key] = copy.deepcopy(container[other])
        elif isinstance(container, StructArray):
            container[key] = {name: _pool(rng) for name in container.fields}
        else:
            container[key] = _pool(rng)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.mat"
        write_mat(path, variables, "7" if rng.random() < 0.5 else "6")
        # The header tells the hour.
        return content[:_HEADER_SIZE] + path.read_bytes()[_HEADER_SIZE:]


def other_value_hdf5(content: bytes, rng: np.random.Generator) -> bytes:
    """Some objects or attributes replaced, in a file of version 7.3."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        for _ in range(int(rng.integers(1, 4))):
            group = file
            while isinstance(group, h5py.Group) and len(group):
                names = list(group)
                name = names[int(rng.integers(len(names)))]
                parent, group = group, group[name]
                if rng.random() < 0.15:
                    break
            item = parent[name]
            with contextlib.suppress(OSError, TypeError, ValueError):
                _change(file, parent, name, item, rng)
    return stream.getvalue()


def _change(file, parent, name, item, rng) -> None:
    choice = rng.integers(9)
    classes = [b"double", b"char", b"cell", b"struct", b"single", b"uint8", b"nonsense", b""]
    if choice == 0:
        del parent[name]
    elif choice == 1:
        item.attrs["MATLAB_class"] = np.bytes_(classes[int(rng.integers(len(classes)))])
    elif choice == 2:
        attribute = ("MATLAB_empty", "MATLAB_sparse", "MATLAB_object_decode")[int(rng.integers(3))]
        item.attrs[attribute] = np.uint64(rng.choice([0, 1, 2, 2**31, 2**63]))
    elif choice == 3:
        item.attrs["MATLAB_fields"] = np.float64(7)
    elif choice == 4:
        del parent[name]
        parent[name] = h5py.SoftLink("/") if rng.random() < 0.3 else file
    elif choice == 5:
        del parent[name]
        parent[name] = h5py.ExternalLink("/etc/hostname", "/")
    elif choice == 6:
        del parent[name]
        big = int(rng.choice([1 << 20, 1 << 28, 1 << 40]))
        dataset = parent.create_dataset(name, (big,), "f4", chunks=(1024,), compression=1)
        dataset.attrs["MATLAB_class"] = np.bytes_(b"single")
    else:
        pool = file["#refs#"] if "#refs#" in file else file
        references = np.empty((int(rng.integers(1, 4)), 1), dtype=h5py.ref_dtype)
        for i in range(len(references)):
            target = list(pool)[int(rng.integers(len(pool)))]
            references[i, 0] = pool[target].ref if rng.random() < 0.7 else parent.ref
        del parent[name]
        dataset = parent.create_dataset(name, data=references, dtype=h5py.ref_dtype)
        if rng.random() < 0.5:
            dataset.attrs["MATLAB_class"] = np.bytes_(b"cell")
