"""A look over a file of version 5 to 7 before SciPy reads it.

SciPy trusts what a file says of itself: a damaged type or size can make it read outside its tables
or ask for all memory, which ends the process. So the skeleton of the file is walked first. Every
data element must have a known type and lie inside the element around it, compressed data must
unpack with the right checksum and to no more than so small a file can hold, and an array must be
as large as it says. The layout is in MathWorks' "MAT-File Format", chapter 1.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .limits import most_bytes, unpack

_HEADER_SIZE = 128
_TAG_SIZE = 8
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
# miINT8 to miUINT32, miSINGLE, miDOUBLE, miINT64, miUINT64, miMATRIX, miCOMPRESSED, miUTF8 to 32
_KNOWN = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13, _MATRIX, _COMPRESSED, 16, 17, 18})

# Classes of arrays.
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_NUMERIC = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_COMPLEX = 0x0800  # flag
_UNDOCUMENTED = (16, 17)  # function handles and objects of newer classes
# Some files hold fewer characters than they say; SciPy fills up with blanks.
_MISSING_CHARS = 1024

# Deeper nesting than any network has; what claims it is damage.
_MOST_LEVELS = 100
# Structs without fields take no room in the file, and some in memory.
_MOST_EMPTY = 1 << 16


class _Element(NamedTuple):
    kind: int
    data: memoryview


def check_mat5(path: Path) -> None:
    """Raise ValueError or zlib.error if the elements of the file do not fit together."""
    content = memoryview(np.memmap(path, np.uint8, "r"))
    order = "<" if content[126:_HEADER_SIZE] == b"IM" else ">"
    most = most_bytes(len(content))
    for element in _elements(content[_HEADER_SIZE:], order, padded=False):
        if element.kind == _COMPRESSED:
            unpacked = memoryview(unpack(element.data, most))
            # SciPy has the arrays of all elements in memory at once.
            most -= len(unpacked)
            for inner in _elements(unpacked, order):
                _check(inner, order, 1)
        else:
            _check(element, order, 1)


def _elements(view: memoryview, order: str, padded: bool = True) -> list[_Element]:
    """The elements that follow each other in ``view``; inside others they are padded to 8 bytes."""
    elements, position = [], 0
    while position < len(view):
        if len(view) - position < _TAG_SIZE:
            raise ValueError(f"{len(view) - position} bytes where an element should begin")
        kind, size = struct.unpack_from(order + "II", view, position)
        start = position + _TAG_SIZE
        if kind >> 16:
            # A small element: size and type in one word, the data in the other.
            kind, size, start = kind & 0xFFFF, kind >> 16, position + _TAG_SIZE // 2
            if size > _TAG_SIZE // 2:
                raise ValueError(f"a small element of {size} bytes")
        if kind not in _KNOWN:
            raise ValueError(f"an element of the unknown type {kind}")
        end = start + size
        if end > len(view):
            raise ValueError(f"an element of {size} bytes where {len(view) - start} are left")
        elements.append(_Element(kind, view[start:end]))
        position = -(-end // _TAG_SIZE) * _TAG_SIZE if padded else end
    return elements


def _check(element: _Element, order: str, level: int) -> None:
    if level > _MOST_LEVELS:
        raise ValueError("arrays are nested without end")
    if element.kind == _COMPRESSED:
        raise ValueError("a compressed element inside another")
    if element.kind != _MATRIX or not len(element.data):
        return
    parts = _elements(element.data, order)
    for part in parts:
        _check(part, order, level + 1)
    if not parts or parts[0].kind != _UINT32 or len(parts[0].data) != 8:
        raise ValueError("an array without flags")
    flags = struct.unpack(order + "II", parts[0].data)[0]
    class_number = flags & 0xFF
    if class_number in _UNDOCUMENTED:
        return
    if len(parts) < 3 or parts[1].kind not in (_INT32, _UINT32):
        raise ValueError("an array without size or name")
    size = struct.unpack(f"{order}{len(parts[1].data) // 4}i", parts[1].data)
    if len(size) < 2 or min(size) < 0:
        raise ValueError(f"an array of size {size}")
    _check_content(class_number, math.prod(size), parts[3:], order)
    if flags & _COMPLEX and class_number in (*_NUMERIC, _SPARSE):
        needed = 4 if class_number == _SPARSE else 2
        if len(parts) - 3 < needed or len(parts[-1].data) < len(parts[-2].data):
            raise ValueError("a complex array without imaginary part")


def _check_content(class_number: int, count: int, content: list[_Element], order: str) -> None:
    """Whether the content of an array is of its class, and as much as ``count`` elements need."""
    wants_arrays = class_number in (_CELL, _STRUCT, _OBJECT)
    if not wants_arrays and any(part.kind == _MATRIX for part in content):
        raise ValueError("an array where numbers or characters should be")
    if class_number in (_STRUCT, _OBJECT):
        content = content[1:] if class_number == _OBJECT else content
        if len(content) < 2 or len(content[0].data) != 4:
            raise ValueError("a struct without names of fields")
        length = struct.unpack(order + "i", content[0].data)[0]
        if length < 1 and len(content[1].data):
            raise ValueError(f"names of fields of length {length}")
        fields = len(content[1].data) // length if length > 0 else 0
        fits = len(content) - 2 == count * fields and (fields > 0 or count <= _MOST_EMPTY)
    elif class_number == _CELL:
        fits = len(content) == count
    elif class_number == _CHAR:
        fits = bool(content) and len(content[0].data) + _MISSING_CHARS >= count
    elif class_number in _NUMERIC:
        # Numbers may be stored in a smaller type than the array's, of one byte at least.
        fits = bool(content) and len(content[0].data) >= count
    elif class_number == _SPARSE:
        fits = len(content) >= 2
    else:
        raise ValueError(f"an array of the unknown class {class_number}")
    if not fits:
        raise ValueError(f"an array of class {class_number} with less or more than it says")
