"""The one plain form in which MATLAB values reach the rest of this package.

Both readers (``mat5`` and ``mat73``) produce it, so nothing after them knows the file version:

=========================  =================================================================
MATLAB                     here
=========================  =================================================================
numeric, logical           ndarray with MATLAB's axes, two or more of them, in MATLAB's class
                           (a scalar is an array of shape (1, 1), ``[]`` one of shape (0, 0))
char                       ``str``; with several rows, a list of them in a 1-D array of ``str``
cell                       ``Cell``, a ``list`` in column-major order that knows its size
struct of size 1 x 1       ``dict``, fields in order
struct array               ``StructArray``, a ``list`` of ``dict`` that knows its size and fields
object, function handle    ``MatlabObject``
=========================  =================================================================

MATLAB has no scalars and no vectors: a struct array of one element is a struct, a cell of one
string is a cell. A reader that wants many therefore asks with ``structs`` or ``texts``, and one
that wants a number asks with ``number``. The writers take the same form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import MatFileError

# A sparse matrix becomes a full one, of at most as many elements (128 MiB); no network has one.
MOST_SPARSE = 1 << 24


@dataclass(frozen=True)
class MatlabObject:
    """Stands for an instance of a MATLAB class, or a function handle: its data cannot be used."""

    class_name: str


class Cell(list):
    """A cell: its elements in column-major order, and its size; ``1 x n`` if none is given."""

    def __init__(self, elements: Iterable[Any] = (), shape: tuple[int, ...] | None = None):
        super().__init__(elements)
        self.shape = shape or ((1, len(self)) if self else (0, 0))


class StructArray(list):
    """A struct array: its elements in column-major order, its size, and the names of its fields."""

    def __init__(
        self,
        elements: Iterable[dict[str, Any]] = (),
        shape: tuple[int, ...] | None = None,
        fields: Iterable[str] = (),
    ):
        super().__init__(elements)
        self.shape = shape or ((1, len(self)) if self else (0, 0))
        self.fields = tuple(self[0]) if self else tuple(fields)


def kind(value: Any) -> str:
    """What MATLAB would call a value, for error messages (``'cell of 3'``, ``'char'``)."""
    if isinstance(value, MatlabObject):
        return f"object of class {value.class_name}"
    if isinstance(value, dict):
        return "struct with fields " + (", ".join(value) or "(none)")
    if isinstance(value, list):
        if value and all(isinstance(v, dict) for v in value):
            return f"{len(value)} structs"
        return f"cell or struct array of {len(value)}"
    if isinstance(value, str):
        return f"char {value!r}" if len(value) <= 40 else f"char of length {len(value)}"
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape))} array of {value.dtype}"
    return type(value).__name__


def is_empty(value: Any) -> bool:
    """Whether MATLAB's ``isempty`` holds: ``[]``, ``{}``, ``''`` or a struct array of none."""
    if isinstance(value, np.ndarray):
        return value.size == 0
    return isinstance(value, (list, str)) and len(value) == 0


def structs(value: Any, what: str) -> list[dict[str, Any]]:
    """A struct array as a list, whether it has one element, many, or none.

    Raises
    ------
    MatFileError
        If the value is something else; ``what`` names it in the message.
    """
    if isinstance(value, dict):
        return [value]
    if is_empty(value):
        return []
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        return value
    raise MatFileError(f"{what}: expected a struct array, found {kind(value)}")


def text(value: Any, what: str) -> str:
    """A char array as ``str``; ``[]`` is the empty string.

    Raises
    ------
    MatFileError
        If the value is something else; ``what`` names it in the message.
    """
    if isinstance(value, str):
        return value
    if is_empty(value):
        return ""
    raise MatFileError(f"{what}: expected a char array, found {kind(value)}")


def texts(value: Any, what: str) -> list[str]:
    """Names given as a cell of char arrays, or as one char array: a list of ``str``.

    Raises
    ------
    MatFileError
        If the value is something else; ``what`` names it in the message.
    """
    if isinstance(value, str):
        return [value] if value else []
    if is_empty(value):
        return []
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise MatFileError(f"{what}: expected a cell of char arrays, found {kind(value)}")


def number(value: Any, what: str) -> float:
    """A numeric or logical scalar as ``float``.

    Raises
    ------
    MatFileError
        If the value is something else; ``what`` names it in the message.
    """
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.item())
    raise MatFileError(f"{what}: expected a scalar, found {kind(value)}")


def to_python(value: Any) -> Any:
    """A value in ordinary Python form, for ``meta``, statistics and options.

    Scalars become numbers: ``float`` or ``bool``, and those of other classes NumPy's of their type
    (``np.float32`` for a single). Containers keep their nature, arrays keep MATLAB's axes. An
    object or function handle becomes the text ``'<MATLAB object of class ...>'``.
    """
    if isinstance(value, Mapping):
        return {name: to_python(v) for name, v in value.items()}
    if isinstance(value, list):
        return [to_python(v) for v in value]
    if isinstance(value, MatlabObject):
        return f"<MATLAB {kind(value)}>"
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return value.tolist()
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf":
        return value.item() if value.dtype in (np.float64, np.bool_) else value.reshape(-1)[0]
    return value
