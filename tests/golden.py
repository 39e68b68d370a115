"""Reading of the golden files: outputs of the original MATLAB code, as their INDEX.md says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from dagnet import relative_error
from errors import record_error

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DSIAM_SHARED", ROOT.parent / "shared"))
GOLDENS = SHARED / "goldens"
# Those computed from random inputs alone come with the tests, for clones that have no others.
DATA = Path(__file__).resolve().parent / "data"

# Bounds of max|a-b| / max|b| against the originals.
SINGLE, DOUBLE = 1e-5, 1e-10


@dataclass(frozen=True)
class Case:
    """One case of a golden file: arrays by field name, options, and the file that it is from."""

    file: str
    name: str
    options: dict[str, Any]
    note: str
    arrays: dict[str, np.ndarray]

    def matlab(self, field: str) -> np.ndarray:
        """The array in MATLAB's own axes (four or more, trailing ones kept)."""
        return self.arrays[field]

    def tensor(self, field: str) -> np.ndarray:
        """An H x W x C x N array as (N, C, H, W), C order."""
        return np.ascontiguousarray(self.arrays[field].transpose(3, 2, 0, 1))

    def vector(self, field: str) -> np.ndarray:
        """An array with one axis longer than 1, or a scalar, as a vector."""
        return self.arrays[field].reshape(-1, order="F")

    def scalar(self, field: str) -> float:
        return self.arrays[field].item()

    @property
    def tolerance(self) -> float:
        """The bound for this case by the class of its arrays."""
        single = any(a.dtype in (np.float32, np.complex64) for a in self.arrays.values())
        return SINGLE if single else DOUBLE


@lru_cache(maxsize=4)
def _load(path: Path) -> dict[str, Any]:
    return scipy.io.loadmat(path)


@cache
def _meta(path: Path) -> list[dict[str, Any]]:
    return json.loads(str(scipy.io.loadmat(path, variable_names=["meta_json"])["meta_json"][0]))


def golden_path(name: str) -> Path:
    """Where a golden file is: among the shared ones, else beside the tests."""
    return GOLDENS / name if (GOLDENS / name).is_file() else DATA / name


def load_case(file: str, name: str) -> Case:
    """Load the case ``name`` of golden file ``file`` (without ``.mat``)."""
    path = golden_path(f"{file}.mat")
    meta = next(m for m in _meta(path) if m["name"] == name)
    content = _load(path)
    arrays = {}
    for field in meta["fields"]:
        size = [int(v) for v in meta[f"{field}_size"]]
        key = f"{name}__{field}"
        value = content[key] if key in content else content[f"{key}_re"] + 1j * content[f"{key}_im"]
        arrays[field] = np.asarray(value).reshape(size, order="F")
    return Case(file, name, meta.get("opts") or {}, meta.get("note", ""), arrays)


def golden_cases(file: str, where: Callable[[str], bool] = lambda name: True) -> list:
    """Parameters for ``pytest.mark.parametrize``: the names of a golden file's cases.

    Each becomes one test with the marker ``golden``, which the run's last line counts. Where the
    golden files are missing there is one test, skipped.
    """
    path = golden_path(f"{file}.mat")
    if not path.is_file():
        reason = f"golden file {file}.mat not found (set DSIAM_SHARED to the folder of goldens/)"
        return [pytest.param(None, id=file, marks=[pytest.mark.golden, pytest.mark.skip(reason)])]
    names = [m["name"] for m in _meta(path) if where(m["name"])]
    return [pytest.param((file, n), id=n, marks=pytest.mark.golden) for n in names]


def golden(file: str, where: Callable[[str], bool] = lambda name: True):
    """Decorator: run a test that takes ``case`` over the cases of a golden file."""
    return pytest.mark.parametrize("case", golden_cases(file, where), indirect=True)


def assert_close(
    actual: Any, expected: np.ndarray, tolerance: float, case: Case, what: str
) -> None:
    """Compare with ``max|a-b| / max|b|``; ``--errors`` prints the errors."""
    error = relative_error(actual, expected)
    record_error("golden", case.file, error, f"{case.name} {what}")
    assert error <= tolerance, (
        f"{case.file}, {case.name}, {what}: relative error {error:.3e}, allowed {tolerance:.0e}"
    )
