"""Golden files in tests: outputs of the original MATLAB code, read by ``dsiam_net.fidelity``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagnet import relative_error
from dsiam_net.fidelity import (
    DOUBLE,
    SINGLE,
    Case,
    CaseResult,
    GoldenFile,
    GoldenFolder,
    check_case,
)
from errors import record_error

__all__ = ["DOUBLE", "SINGLE", "Case"]

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("DSIAM_SHARED", ROOT.parent / "shared"))
GOLDENS = SHARED / "goldens"
# Those computed from random inputs alone come with the tests, for clones that have no others.
DATA = Path(__file__).resolve().parent / "data"


@cache
def _folder(path: Path, device: str) -> GoldenFolder:
    return GoldenFolder(path, device)


def golden_path(name: str) -> Path:
    """Where a golden file is: among the shared ones, else beside the tests."""
    return GOLDENS / name if (GOLDENS / name).is_file() else DATA / name


def golden_file(file: str, device: str = "cpu") -> GoldenFile:
    """The golden file ``file`` (without ``.mat``), whose cases are computed on a device."""
    path = golden_path(f"{file}.mat")
    return _folder(path.parent, device).golden(path)


def load_case(file: str, name: str, device: str = "cpu") -> Case:
    """Load the case ``name`` of golden file ``file`` (without ``.mat``)."""
    return golden_file(file, device).case(name)


def golden_cases(file: str, where: Callable[[str], bool] = lambda name: True) -> list:
    """Parameters for ``pytest.mark.parametrize``: the names of a golden file's cases.

    Each becomes one test with the marker ``golden``, which the run's last line counts. Where the
    golden files are missing there is one test, skipped.
    """
    path = golden_path(f"{file}.mat")
    if not path.is_file():
        reason = f"golden file {file}.mat not found (set DSIAM_SHARED to the folder of goldens/)"
        return [pytest.param(None, id=file, marks=[pytest.mark.golden, pytest.mark.skip(reason)])]
    names = [name for name in golden_file(file).names() if where(name)]
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


def assert_passes(case: Case) -> CaseResult:
    """Run the check of ``python -m dsiam_net.fidelity`` for a case; ``--errors`` prints errors."""
    result = check_case(case)
    assert result.status in ("pass", "fail") and not result.message, result.message or result.status
    for c in result.comparisons:
        table = f"golden, {c.unit}" if c.unit else "golden"
        record_error(table, case.file, c.error, f"{case.name} {c.what}")
        assert c.passed, (
            f"{case.file}, {case.name}, {c.what}: error {c.error:.3e} {c.unit}, "
            f"allowed {c.allowed:.1e}; {c.note}"
        )
    return result
