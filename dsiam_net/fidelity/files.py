"""Reading of golden files: what they hold, and which of a folder's files belong together.

A golden file is a flat ``.mat`` file with a variable ``meta_json``, a JSON list of cases. Array
``field`` of case ``name`` is the variable ``name__field`` (complex ones are split into ``_re`` and
``_im``), in MATLAB's order H x W x C x N; its size, trailing ones included, stands in the case's
``field_size``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from dagnet import DagNN, DagNNError, check_device, to_device
from matlab_import import load_matrix, load_network, read_mat

# Bounds of max|a-b| / max|b| against the originals.
SINGLE, DOUBLE = 1e-5, 1e-10

META = "meta_json"
LAYOUT = (
    "expected a golden file (a variable meta_json with a JSON list of cases), a MatConvNet "
    "network (net or layers), SiamFC's parameters by name (conv1f, ...) or one matrix (sumw)"
)
# Where DSiam's learned fusion map is looked for, beside the folder.
FUSION_MAP = Path("..", "reference_results", "sumw.mat")


class GoldenError(DagNNError):
    """A file or a case of it that is not laid out as golden files are."""


@dataclass(frozen=True, eq=False)
class Case:
    """One case of a golden file: arrays by field name, options, and the file that it is from.

    ``read`` gathers the fields that were asked for, so that a check can be said to leave some out.
    """

    golden: GoldenFile = field(repr=False)
    name: str
    function: str
    options: dict[str, Any]
    note: str
    arrays: dict[str, np.ndarray] = field(repr=False)
    read: set[str] = field(default_factory=set, repr=False)

    @property
    def file(self) -> str:
        """The file's name without ``.mat``."""
        return self.golden.name

    @property
    def folder(self) -> GoldenFolder:
        return self.golden.folder

    def has(self, *fields: str) -> bool:
        """Whether the case has these fields, and none of them empty."""
        return all(f in self.arrays and self.arrays[f].size for f in fields)

    def matlab(self, field: str) -> np.ndarray:
        """The array in MATLAB's own axes (four or more, trailing ones kept).

        A complex one may be listed as one field or as two, ``field_re`` and ``field_im``.
        """
        parts = [f"{field}_re", f"{field}_im"]
        if field not in self.arrays and all(part in self.arrays for part in parts):
            real, imaginary = (self.matlab(part) for part in parts)
            return real + 1j * imaginary
        self.read.add(field)
        try:
            return self.arrays[field]
        except KeyError:
            raise GoldenError(
                f"case {self.name!r} lacks the field {field!r}; it has {', '.join(self.arrays)}"
            ) from None

    def matrix(self, field: str) -> np.ndarray:
        """An array with two axes, as MATLAB has it."""
        return self.matlab(field)[:, :, 0, 0]

    def tensor(self, field: str) -> np.ndarray:
        """An H x W x C x N array as (N, C, H, W), C order."""
        return np.ascontiguousarray(self.matlab(field).transpose(3, 2, 0, 1))

    def array(self, field: str) -> Any:
        """As ``tensor``, in the memory of the device that the folder's cases are computed on."""
        return self.on_device(self.tensor(field))

    def on_device(self, array: Any) -> Any:
        """An array in the memory of the device that the folder's cases are computed on."""
        return to_device(array, self.folder.device)

    def vector(self, field: str) -> np.ndarray:
        """An array with one axis longer than 1, or a scalar, as a vector."""
        return self.matlab(field).reshape(-1, order="F")

    def scalar(self, field: str) -> float:
        return self.matlab(field).item()

    def unread(self) -> list[str]:
        """Fields that are not empty and were not asked for."""
        return [f for f, array in self.arrays.items() if array.size and f not in self.read]

    def option(self, name: str, default: Any = None) -> Any:
        """An option; GoldenError if the case has none of this name and there is no default."""
        if name not in self.options and default is None:
            raise GoldenError(f"case {self.name!r} lacks the option {name!r}")
        return self.options.get(name, default)

    @property
    def tolerance(self) -> float:
        """The bound for this case by the class of its arrays."""
        single = any(a.dtype in (np.float32, np.complex64) for a in self.arrays.values())
        return SINGLE if single else DOUBLE


@lru_cache(maxsize=4)
def _load(path: Path) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(path)
    except NotImplementedError:  # version 7.3
        return read_mat(path)


class GoldenFile:
    """A golden file, read when it is asked for its cases.

    Parameters
    ----------
    path : path of a ``.mat`` file
    folder : GoldenFolder
        Where files that its cases refer to are looked for.

    Raises
    ------
    GoldenError
        On reading, if the file is none, or a case lacks what its entry promises.
    """

    def __init__(self, path: Path, folder: GoldenFolder):
        self.path, self.folder = path, folder
        self.name = path.stem

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        """The entries of ``meta_json``."""
        try:
            try:
                text = scipy.io.loadmat(self.path, variable_names=[META])[META]
            except NotImplementedError:  # version 7.3
                text = _load(self.path)[META]
            entries = json.loads(str(np.ravel(text)[0]))
        except KeyError:
            raise GoldenError(f"{self.path.name} has no variable {META}: {LAYOUT}") from None
        except Exception as exc:
            # SciPy fails in whatever way the damage of a file leads to.
            raise GoldenError(
                f"{self.path.name} cannot be read as a golden file ({type(exc).__name__}: {exc})"
            ) from exc
        if not isinstance(entries, list) or not entries:
            raise GoldenError(f"{self.path.name}: {META} must be a list of cases")
        for entry in entries:
            if not isinstance(entry, dict) or not {"name", "func", "fields"} <= set(entry):
                raise GoldenError(
                    f"{self.path.name}: a case must have name, func and fields; found "
                    f"{json.dumps(entry)[:80]}"
                )
        return entries

    def names(self) -> list[str]:
        return [entry["name"] for entry in self.meta]

    def entry(self, name: str) -> dict[str, Any]:
        for entry in self.meta:
            if entry["name"] == name:
                return entry
        raise GoldenError(f"{self.path.name} has no case {name!r}")

    def _array(self, entry: dict[str, Any], field: str) -> np.ndarray:
        name, content = f"{entry['name']}__{field}", _load(self.path)
        where = f"case {entry['name']!r}, field {field!r}"
        if name in content:
            value = content[name]
        elif f"{name}_re" in content and f"{name}_im" in content:
            value = content[f"{name}_re"] + 1j * content[f"{name}_im"]
        else:
            raise GoldenError(f"{where}: the file has no variable {name}")
        try:
            size = [int(v) for v in entry[f"{field}_size"]]
            return np.asarray(value).reshape(size, order="F")
        except KeyError:
            raise GoldenError(f"{where}: {META} has no {field}_size") from None
        except ValueError:
            raise GoldenError(
                f"{where}: {META} says size {size}, found {np.shape(value)}"
            ) from None

    def case(self, name: str) -> Case:
        """Load one case."""
        entry = self.entry(name)
        fields = entry["fields"]
        arrays = {
            f: self._array(entry, f) for f in ([fields] if isinstance(fields, str) else fields)
        }
        options = entry.get("opts")
        return Case(
            self,
            name,
            entry["func"] or "",
            options if isinstance(options, dict) else {},
            entry.get("note") or "",
            arrays,
        )

    def cases(self, *functions: str) -> Iterator[Case]:
        """The cases that were made by these functions, in the file's order."""
        for entry in self.meta:
            if entry["func"] in functions:
                yield self.case(entry["name"])


class GoldenFolder:
    """A folder of golden files and of what their cases refer to.

    Parameters
    ----------
    path : path of the folder
    device : 'cpu' or 'gpu'
        Where layers and networks of the cases are computed.

    Attributes
    ----------
    used : dict of set
        By name of a file that holds inputs alone, the files whose cases used it.
    """

    def __init__(self, path: str | os.PathLike, device: str = "cpu"):
        self.path = Path(path)
        self.device = check_device(device)
        self.used: dict[str, set[str]] = {}
        self._goldens: dict[Path, GoldenFile] = {}
        self._networks: dict[Path, DagNN] = {}
        self._variables: dict[Path, tuple[str, ...]] = {}
        self.colours: list | None = None  # of its frames, see frames.py

    def paths(self) -> list[Path]:
        """Files of the folder that can be goldens or inputs, by name."""
        return sorted(p for p in self.path.iterdir() if p.suffix in (".mat", ".json"))

    def golden(self, path: Path) -> GoldenFile:
        return self._goldens.setdefault(path, GoldenFile(path, self))

    def variables(self, path: Path) -> tuple[str, ...]:
        """Names of a ``.mat`` file's variables; GoldenError if it cannot be read."""
        if path not in self._variables:
            try:
                names = [name for name, *_ in scipy.io.whosmat(path)]
            except NotImplementedError:  # version 7.3
                names = list(read_mat(path))
            except Exception as exc:
                # SciPy fails in whatever way the damage of a file leads to.
                raise GoldenError(
                    f"{path.name} cannot be read as a .mat file ({type(exc).__name__}: {exc})"
                ) from exc
            self._variables[path] = tuple(names)
        return self._variables[path]

    def kind(self, path: Path) -> str:
        """What a file is: 'golden', 'listing', 'network', 'parameters' or 'matrix'.

        Raises
        ------
        GoldenError
            If it is none of these.
        """
        if path.suffix == ".json":
            return "listing"
        names = self.variables(path)
        if META in names:
            return "golden"
        if {"net", "layers"} & set(names):
            return "network"
        if {"conv1f", "conv1f_q"} & set(names):
            return "parameters"
        if len(names) == 1:
            return "matrix"
        raise GoldenError(f"{path.name} holds {', '.join(names) or 'nothing'}: {LAYOUT}")

    def of_kind(self, kind: str) -> Iterator[Path]:
        """Files of a kind; those that are of none are left to whoever checks them."""
        for path in self.paths():
            try:
                if self.kind(path) == kind:
                    yield path
            except DagNNError:
                continue

    def goldens(self) -> Iterator[GoldenFile]:
        return (self.golden(path) for path in self.of_kind("golden"))

    def network(self, path: Path) -> DagNN:
        """A network file's network; what the reader raises passes through."""
        if path not in self._networks:
            self._networks[path] = load_network(path)
        return self._networks[path]

    def networks(self) -> Iterator[tuple[Path, DagNN]]:
        """The folder's networks; files that cannot be read are left to whoever checks them."""
        for path in self.of_kind("network"):
            try:
                yield path, self.network(path)
            except (DagNNError, ValueError):
                continue

    def mark_used(self, path: Path, by: GoldenFile | str) -> None:
        """Note that a case of ``by`` used the file ``path``."""
        name = by if isinstance(by, str) else by.path.name
        if path.name != name:
            self.used.setdefault(path.name, set()).add(name)

    def fusion_map(self, size: tuple[int, int], by: GoldenFile) -> np.ndarray:
        """DSiam's learned map of this size (``sumw.mat``), of the folder or from beside it."""
        for path in (*self.of_kind("matrix"), self.path / FUSION_MAP):
            try:
                matrix = load_matrix(path)
            except (DagNNError, OSError):
                continue
            if matrix.shape == tuple(size):
                self.mark_used(path, by)
                return np.asarray(matrix, np.float32)
        raise GoldenError(
            f"the fusion map of {size[0]}x{size[1]} cells that the run was made with (sumw.mat) "
            f"stands neither in the folder nor at {FUSION_MAP} from it"
        )
