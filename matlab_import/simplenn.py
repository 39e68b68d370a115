"""SimpleNN files: their structs made ready for ``dagnet.from_simple_nn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dagnet import DagNN
from dagnet.simplenn import from_simple_nn

from .axes import parameter_axes
from .errors import MatFileError
from .python_types import restore_types
from .settings import python_name, setting_value
from .values import is_empty, kind, to_python

# The layers whose weights have axes of their own, as what they become.
_WEIGHTED = {"conv": "dagnn.Conv", "convt": "dagnn.ConvTranspose", "bnorm": "dagnn.BatchNorm"}


def network_of_simple_nn(struct: Mapping[str, Any]) -> DagNN:
    """Build a ``DagNN`` from a SimpleNN struct (``layers``, and ``meta`` or the older fields).

    Older files have ``filters`` and ``biases`` in place of ``weights``, and ``classes`` and
    ``normalization`` beside the layers in place of ``meta``.

    Raises
    ------
    MatFileError
        If a layer is not a struct with a type, or weights are not arrays.
    DagNNError
        As ``from_simple_nn``.
    """
    entries = struct["layers"]
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        raise MatFileError(f"layers: expected a cell of structs, found {kind(entries)}")
    return from_simple_nn([_fields(i, e) for i, e in enumerate(entries, start=1)], _meta(struct))


def _fields(place: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise MatFileError(f"layer {place}: expected a struct with a type, found {kind(entry)}")
    type_name = _WEIGHTED.get(entry["type"], "")
    fields: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "weights":
            values = value if isinstance(value, list) else []
            fields[name] = [_weight(place, type_name, i, v) for i, v in enumerate(values)]
        elif name in ("filters", "biases"):
            fields[name] = _weight(place, type_name, int(name == "biases"), value)
        else:
            setting = setting_value(value)
            if setting is not None:
                fields[python_name(name)] = setting
    return fields


def _weight(place: int, type_name: str, index: int, value: Any) -> np.ndarray | None:
    if is_empty(value):
        return None
    if not isinstance(value, np.ndarray):
        raise MatFileError(f"layer {place}, weights: expected arrays, found {kind(value)}")
    return parameter_axes(type_name, index)(value)


def _meta(struct: Mapping[str, Any]) -> dict[str, Any]:
    meta = to_python(struct.get("meta", {}))
    meta = restore_types(dict(meta)) if isinstance(meta, dict) else {}
    for name in ("classes", "normalization"):
        if name in struct:
            meta[name] = to_python(struct[name])
    normalization = meta.get("normalization")
    if isinstance(normalization, dict):
        meta["normalization"] = _with_crop_size(normalization)
    return meta


def _with_crop_size(normalization: dict[str, Any]) -> dict[str, Any]:
    """Add ``cropSize``, the part of an image that is used, as ``vl_simplenn_tidy`` does.

    Older files give the image size and, in ``border``, by how much more is read and cut off.
    """
    if "cropSize" in normalization or not {"border", "imageSize"} <= set(normalization):
        return normalization
    size = np.ravel(normalization["imageSize"])[:2]
    border = np.ravel(normalization["border"])
    return {**normalization, "cropSize": (size / (size + border)).reshape(1, -1)}
