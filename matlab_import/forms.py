"""What a file has beyond its meaning, kept so that writing gives the same file again.

A bias can be a row or a column, a stride ``2`` or ``[2 2]``, a flag a double or a logical; what is
read here means the same, and a writer must choose one of them. So after reading, what the writer
would write is compared with what the file has, and the differences become *notes*, plain
containers that a network carries in its ``meta`` and its native files hold. Before writing they
are applied again, each where the writer still says what it said then: a bias stays a row after
training, and a stride that was changed is written as the writer has it.

A note is a dict with some of these:

``shape``, ``class``        of an array with the same elements
``as``, ``for``             another value, in place of the value that the writer gave
``entries``                 notes on fields of a struct, or elements of a struct array or cell
``extra``                   fields or elements that the writer does not give
``missing``                 those that it gives and the file lacks, with their values
``order``                   names of all fields or elements, in the file's order

Elements are known by their field ``name`` where all have one, else by their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .values import Cell, MatlabObject, StructArray

Note = dict[str, Any]


def differences(written: Any, original: Any) -> Note:
    """Notes on how ``original`` differs from ``written``, both in plain MATLAB form; {} if not."""
    if isinstance(written, dict) and isinstance(original, dict):
        return _entries(written, original)
    if isinstance(written, list) and type(written) is type(original):
        before, after = _by_key(written), _by_key(original)
        if before is not None and after is not None:
            note = _entries(before, after)
            if written.shape != original.shape:
                note["shape"] = tuple(original.shape)
            # By place, other values could come beside those that they do not belong to.
            safe = isinstance(written, StructArray) or _named(written) or _is_form(note)
            return note if safe and (original or not written) else _replaced(written, original)
    if same(written, original):
        return {}
    if _is_array(written) and _is_array(original) and _same_elements(written, original):
        note = {}
        if written.shape != original.shape:
            note["shape"] = tuple(original.shape)
        if written.dtype != original.dtype:
            note["class"] = original.dtype.name
        return note
    return _replaced(written, original)


def _replaced(written: Any, original: Any) -> Note:
    return {"as": pack(original), "for": pack(written)}


def apply(written: Any, note: Mapping[str, Any]) -> Any:
    """``written`` in the form that the notes tell of."""
    if not note:
        return written
    if "as" in note:
        return unpack(note["as"]) if same(written, unpack(note["for"])) else written
    if isinstance(written, dict):
        return _apply_entries(written, note)
    if isinstance(written, list):
        elements = _by_key(written)
        if elements is None:
            return written
        entries = list(_apply_entries(elements, note).values())
        if not entries:
            return written
        shape = note.get("shape", (1, len(entries)))
        # A cell keeps its size as long as it has as many elements.
        shape = tuple(shape) if np.prod(shape) == len(entries) else None
        if isinstance(written, Cell):
            return Cell(entries, shape)
        return struct_array(entries, shape)
    return _apply_array(written, note) if _is_array(written) else written


def struct_array(
    elements: list[dict[str, Any]], shape: tuple[int, ...] | None = None
) -> StructArray | dict[str, Any]:
    """Structs as MATLAB keeps them: one alone is a struct; all have all fields, ``[]`` at least."""
    fields = list(dict.fromkeys(name for element in elements for name in element))
    whole = [{n: element.get(n, np.zeros((0, 0))) for n in fields} for element in elements]
    if len(whole) == 1 and shape in (None, (1, 1)):
        return whole[0]
    return StructArray(whole, shape)


def same(a: Any, b: Any) -> bool:
    """Whether two plain MATLAB values have the same class, size, and elements."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[n], b[n]) for n in a)
    if isinstance(a, list):
        if type(a) is not type(b) or a.shape != b.shape or len(a) != len(b):
            return False
        if isinstance(a, StructArray) and a.fields != b.fields:
            return False
        return all(same(x, y) for x, y in zip(a, b))
    if _is_array(a):
        return (
            _is_array(b)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        )
    return type(a) is type(b) and a == b


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _same_elements(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two numeric arrays hold the same in column-major order."""
    if a.size != b.size or a.dtype.kind not in "biuf" or b.dtype.kind not in "biuf":
        return False
    equal_nan = a.dtype.kind == b.dtype.kind == "f"
    return np.array_equal(a.ravel(order="F"), b.ravel(order="F"), equal_nan=equal_nan)


def _apply_array(written: np.ndarray, note: Mapping[str, Any]) -> np.ndarray:
    shape = tuple(note.get("shape", written.shape))
    if np.prod(shape) == written.size:
        written = written.reshape(shape, order="F")
    cast = written.astype(note.get("class", written.dtype))
    return cast if _same_elements(cast, written) else written


def _named(elements: list) -> bool:
    return all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in elements)


def _is_form(note: Mapping[str, Any]) -> bool:
    """Whether notes tell of sizes and classes, and of what is left out, alone."""
    return not {"as", "extra"} & set(note) and all(map(_is_form, note.get("entries", {}).values()))


def _by_key(elements: list) -> dict[str, Any] | None:
    """Elements by name, or by place; None if names repeat."""
    if not _named(elements):
        return {str(place): element for place, element in enumerate(elements)}
    found = {element["name"]: element for element in elements}
    return found if len(found) == len(elements) else None


def _entries(written: Mapping[str, Any], original: Mapping[str, Any]) -> Note:
    both = [name for name in original if name in written]
    notes = {name: differences(written[name], original[name]) for name in both}
    note: Note = {"entries": {name: n for name, n in notes.items() if n}}
    note["extra"] = {name: pack(v) for name, v in original.items() if name not in written}
    note["missing"] = {name: pack(v) for name, v in written.items() if name not in original}
    if list(original) != both or list(written) != both:
        note["order"] = list(original)
    return {name: content for name, content in note.items() if content}


def _apply_entries(written: Mapping[str, Any], note: Mapping[str, Any]) -> dict[str, Any]:
    missing = {name: unpack(value) for name, value in note.get("missing", {}).items()}
    extra = {name: unpack(value) for name, value in note.get("extra", {}).items()}
    notes = note.get("entries", {})
    found = {
        name: apply(value, notes.get(name, {}))
        for name, value in written.items()
        if name not in missing or not same(value, missing[name])
    }
    found = {**extra, **found}
    order = [name for name in note.get("order", written) if name in found]
    return {name: found[name] for name in [*order, *(n for n in found if n not in order)]}


def pack(value: Any) -> Any:
    """A plain MATLAB value in containers that native files hold."""
    if isinstance(value, dict):
        return {"struct": {name: pack(v) for name, v in value.items()}}
    if isinstance(value, StructArray):
        elements = [{name: pack(v) for name, v in element.items()} for element in value]
        return {"structs": elements, "shape": tuple(value.shape), "fields": list(value.fields)}
    if isinstance(value, Cell):
        return {"cell": [pack(v) for v in value], "shape": tuple(value.shape)}
    if isinstance(value, MatlabObject):
        return {"object": value.class_name}
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return {"rows": value.tolist()}
    return value


def unpack(value: Any) -> Any:
    """The plain MATLAB value that ``pack`` was given."""
    if not isinstance(value, Mapping):
        return value
    if "struct" in value:
        return {name: unpack(v) for name, v in value["struct"].items()}
    if "structs" in value:
        elements = [{n: unpack(v) for n, v in element.items()} for element in value["structs"]]
        return StructArray(elements, tuple(value["shape"]), value["fields"])
    if "cell" in value:
        return Cell([unpack(v) for v in value["cell"]], tuple(value["shape"]))
    if "rows" in value:
        return np.array(value["rows"])
    return MatlabObject(value["object"])
