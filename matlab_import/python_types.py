"""What MATLAB's form loses of Python values: whole numbers, tuples, None, and keys of any text.

``meta`` of a network made here is written with such a skeleton beside it, one text of JSON in the
field ``pythonTypes``, so that a network is the same after it was written and read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .from_python import field_name

FIELD = "pythonTypes"
# What JSON reading makes of a text that is none, or nested beyond all measure.
_BAD_TEXT = (ValueError, RecursionError)


def types_text(meta: Mapping[str, Any]) -> str | None:
    """The skeleton of ``meta`` as text; None where MATLAB's form loses nothing."""
    skeleton = _skeleton(meta)
    return None if skeleton is None else json.dumps(skeleton)


def restore_types(meta: dict[str, Any]) -> dict[str, Any]:
    """``meta`` as read, with the types that its skeleton tells, where they still fit."""
    text = meta.pop(FIELD, None)
    if not isinstance(text, str):
        return meta
    try:
        found = _restored(meta, json.loads(text))
    except _BAD_TEXT:
        return meta
    return found if isinstance(found, dict) else meta


def _skeleton(value: Any) -> Any:
    """What is lost: ``'int'``, ``'none'``, or a dict of kind and content; None for nothing."""
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return "int"
    if isinstance(value, Mapping):
        entries = {str(key): _skeleton(entry) for key, entry in value.items()}
        lost = {k: s for k, s in entries.items() if s is not None or field_name(k) != k}
        return {"dict": lost} if lost else None
    if isinstance(value, (list, tuple)):
        entries = [_skeleton(entry) for entry in value]
        whole = [entry is None for entry in entries]
        dicts = bool(value) and all(isinstance(entry, Mapping) for entry in value)
        if isinstance(value, list) and all(whole) and not dicts:
            return None
        return {"tuple" if isinstance(value, tuple) else "list": entries}
    return None


def _restored(value: Any, skeleton: Any) -> Any:
    if skeleton == "none" and isinstance(value, np.ndarray) and value.size == 0:
        return None
    if skeleton == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(skeleton, dict) or len(skeleton) != 1:
        return value
    ((kind, content),) = skeleton.items()
    if kind == "dict" and isinstance(value, dict) and isinstance(content, dict):
        names = {field_name(key): key for key in content}
        return {
            names.get(name, name): _restored(entry, content.get(names.get(name, name)))
            for name, entry in value.items()
        }
    if kind in ("list", "tuple") and isinstance(content, list):
        # A struct array of one element is a struct.
        entries = [value] if isinstance(value, dict) else value
        if isinstance(entries, list) and len(entries) == len(content):
            found = [_restored(entry, s) for entry, s in zip(entries, content)]
            return tuple(found) if kind == "tuple" else found
    return value
