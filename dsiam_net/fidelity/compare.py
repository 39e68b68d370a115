"""What a check returns: comparisons of a number or an array with the original's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import asnumpy, relative_error

from .files import Case

# Units of errors that are not relative.
GREY_LEVELS = "grey levels"
PIXELS = "pixels"


class NotYetError(Exception):
    """Raised by a check for something that this version of the software does not have."""


@dataclass(frozen=True)
class Comparison:
    """An error and its bound.

    Attributes
    ----------
    what : str
        The field, or what was compared in its place.
    error : float
        ``max|a-b| / max|b|``, or ``max|a-b|`` where there is a unit; infinite where things differ
        that have no distance (names, shapes).
    allowed : float
    unit : str
        Of an absolute error.
    note : str
        Why the bound is another one than usual, or what was found and expected.
    """

    what: str
    error: float
    allowed: float
    unit: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.allowed)

    @property
    def closeness(self) -> float:
        """How much of the bound is used up; more than 1 fails."""
        if self.passed:
            return self.error / self.allowed if self.allowed > 0 else 0.0
        return math.inf if math.isnan(self.error) or not self.allowed else self.error / self.allowed


def _numbers(array: Any) -> np.ndarray:
    array = asnumpy(array)
    return array if array.dtype.kind in "fc" else array.astype(np.float64)


def expected_like(case: Case, field: str, actual: Any) -> np.ndarray:
    """A field in the axes of ours: (N, C, H, W), a matrix, a vector or a number."""
    ndim = np.ndim(actual)
    if ndim == 0:
        return case.matlab(field).reshape(())
    if ndim == 1:
        return case.vector(field)
    return case.matrix(field) if ndim == 2 else case.tensor(field)


def relative(what: str, actual: Any, expected: Any, allowed: float, note: str = "") -> Comparison:
    """Compare with ``max|a-b| / max|b|``."""
    actual, expected = _numbers(actual), _numbers(expected)
    if actual.shape != expected.shape:
        return differing(what, actual.shape, expected.shape, "shape ")
    return Comparison(what, relative_error(actual, expected), allowed, note=note)


def absolute(what: str, actual: Any, expected: Any, allowed: float, unit: str) -> Comparison:
    """Compare with ``max|a-b|``."""
    actual, expected = (asnumpy(a).astype(np.float64) for a in (actual, expected))
    if actual.shape != expected.shape:
        return differing(what, actual.shape, expected.shape, "shape ")
    return Comparison(what, float(np.abs(actual - expected).max(initial=0.0)), allowed, unit)


def same(what: str, actual: Any, expected: Any) -> Comparison:
    """Two things that have to be equal, names or flags say."""
    if isinstance(actual, np.ndarray) or isinstance(expected, np.ndarray):
        equal = np.array_equal(actual, expected)
    else:
        equal = actual == expected
    return Comparison(what, 0.0, 0.0) if equal else differing(what, actual, expected)


def differing(what: str, actual: Any, expected: Any, kind: str = "") -> Comparison:
    note = f"found {kind}{_short(actual)}, expected {_short(expected)}"
    return Comparison(what, math.inf, 0.0, note=note)


def _short(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 80 else text[:77] + "..."


class Comparer:
    """Gathers the comparisons of one case, by field.

    Parameters
    ----------
    case : Case
    allowed : float, optional
        The bound; by default the case's, 1e-5 for single precision and 1e-10 for double.
    """

    def __init__(self, case: Case, allowed: float | None = None):
        self.case = case
        self.allowed = case.tolerance if allowed is None else allowed
        self.found: list[Comparison] = []

    def field(
        self,
        field: str,
        actual: Any,
        allowed: float | None = None,
        what: str | None = None,
        note: str = "",
    ) -> None:
        """Compare ``actual`` with a field, in the axes that ``actual`` has."""
        expected = expected_like(self.case, field, actual)
        bound = self.allowed if allowed is None else allowed
        self.found.append(relative(what or field, actual, expected, bound, note))

    def present(self, field: str, actual: Any, allowed: float | None = None) -> None:
        """The same where the case has the field and it is not empty."""
        if self.case.has(field):
            self.field(field, actual, allowed)

    def add(self, *comparisons: Comparison) -> None:
        self.found.extend(comparisons)
