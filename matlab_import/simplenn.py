"""SimpleNN files: their structs made ready for ``dagnet.from_simple_nn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dagnet import DagNN
from dagnet.simplenn import from_simple_nn

from .axes import parameter_axes, tensor
from .errors import MatFileError
from .python_types import restore_types
from .settings import python_name, setting_value
from .values import is_empty, kind, number, text, to_python

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
    _check_common(place, entry)
    fields: dict[str, Any] = {}
    for name, value in entry.items():
        if name == "weights":
            values = value if isinstance(value, list) else []
            fields[name] = [_weight(place, type_name, i, v) for i, v in enumerate(values)]
        elif name in ("filters", "biases"):
            fields[name] = _weight(place, type_name, int(name == "biases"), value)
        elif name == "instanceWeights" and isinstance(value, np.ndarray) and value.size > 1:
            fields[python_name(name)] = tensor(value)
        else:
            setting = setting_value(value)
            if setting is not None:
                fields[python_name(name)] = setting
    return fields


def _check_common(place: int, entry: Mapping[str, Any]) -> None:
    """Refuse fields of the wrong kind that layers of every type have; none need be there."""
    text(entry.get("name", ""), f"layer {place}, name")
    if not is_empty(entry.get("precious", [])):
        number(entry["precious"], f"layer {place}, precious")
    for name in ("learningRate", "weightDecay"):
        value = entry.get(name, [])
        if not is_empty(value) and not _is_numeric(value):
            raise MatFileError(f"layer {place}, {name}: expected numbers, found {kind(value)}")


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _weight(place: int, type_name: str, index: int, value: Any) -> np.ndarray | None:
    if is_empty(value):
        return None
    if not _is_numeric(value):
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
    given = [normalization.get(name) for name in ("imageSize", "border")]
    if "cropSize" in normalization or not all(map(_are_sizes, given)):
        return normalization
    size, border = np.ravel(given[0])[:2], np.ravel(given[1])
    if border.size not in (1, size.size) or not np.all(size + border):
        return normalization
    return {**normalization, "cropSize": (size / (size + border)).reshape(1, -1)}


def _are_sizes(value: Any) -> bool:
    """Whether a value in Python form is a number or an array, of nothing below 0; sizes are."""
    if not isinstance(value, (int, float, np.generic, np.ndarray)):
        return False
    array = np.asarray(value)
    return array.dtype.kind in "biuf" and array.size > 0 and bool(np.all(array >= 0))
