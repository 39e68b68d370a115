"""Networks from ``.mat`` files of MatConvNet: DagNN, and SimpleNN through ``simplenn``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import layers  # noqa: F401  (registers every layer)
from dagnet import DagNN, DagNNError, Layer, layer_class
from dagnet.records import TRAIN_METHODS

from . import forms
from .axes import Convert, by_shape, parameter_axes
from .errors import MatFileError
from .mat_file import read_mat
from .python_types import restore_types
from .saving import NOTES, OPTIONAL_PARAM_FIELDS, network_struct
from .settings import layer_settings
from .simplenn import network_of_simple_nn
from .simplenn_saving import simplenn_struct
from .values import (
    MatlabObject,
    StructArray,
    is_empty,
    kind,
    number,
    structs,
    text,
    texts,
    to_python,
)

# Types of the original's that have another name here.
_TYPES = {"Sum_w": "Elefusion", "Mul": "Eltwise"}

# Fields that are read. Others are kept among the unused, but for those that only mean something
# while MATLAB runs.
_NETWORK_FIELDS = ("layers", "vars", "params", "meta")
_PARAM_FIELDS = ("name", "value", "learningRate", "weightDecay", "trainMethod", "der", "fanout")


def load_network(path: str | PathLike) -> DagNN:
    """Read a network from a ``.mat`` file of MatConvNet, DagNN or SimpleNN.

    The network is the variable ``net``, or the file's only struct that has ``layers``, or
    (SimpleNN) the variables ``layers`` and ``meta`` themselves. Layers, variables and parameters
    keep their names. Arrays become (N, C, H, W), filters (out, in / groups, kh, kw), biases and
    batch-norm factors (C,), moments (C, 2), fusion maps (H, W), in the file's dtype.

    Parameters
    ----------
    path : path of a ``.mat`` file of version 5, 6, 7 or 7.3

    Returns
    -------
    DagNN
        On the CPU, in mode ``normal``. ``net.meta`` holds the file's ``meta`` in Python form
        (arrays with MATLAB's axes). Settings that the layers here do not know are kept, with a
        UserWarning, in ``net.meta['unused'][layer][setting]``. How a parameter is trained
        (``train_method``) is not in such files, so the layer decides it.

    Raises
    ------
    MatFileError
        If the file is none, holds no network, or one that cannot be built here; the message
        names the file and the layer or parameter.
    OSError
        If there is no such file or it cannot be opened.
    """
    path = Path(path)
    return build_network(read_mat(path), path)[0]


def find_network(variables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The struct with ``layers`` among the variables of a file.

    Raises
    ------
    MatFileError
        If there is none, or several and none is called ``net``.
    """
    found = ", ".join(f"{n} ({kind(v)})" for n, v in variables.items()) or "no variables"
    net = variables.get("net")
    if isinstance(net, MatlabObject):
        raise MatFileError(
            f"{path}: net is a MATLAB {kind(net)}, which only MATLAB can read; there, write "
            "net = net.saveobj() before save"
        )
    candidates = [v for v in (net, variables) if isinstance(v, dict) and "layers" in v]
    if not candidates:
        candidates = [v for v in variables.values() if isinstance(v, dict) and "layers" in v]
        if len(candidates) > 1:
            raise MatFileError(f"{path}: expected one network, or one called net, found {found}")
    if not candidates:
        raise MatFileError(
            f"{path}: expected a network of MatConvNet (a struct net with layers, or variables "
            f"layers and meta), found {found}"
        )
    return candidates[0]


def is_dag(struct: Mapping[str, Any]) -> bool:
    """Whether a network struct is a DagNN's; a SimpleNN's layers have no ``block``."""
    entries = struct["layers"]
    first = entries[0] if isinstance(entries, list) and entries else entries
    return isinstance(first, dict) and "block" in first


def build_network(variables: Mapping[str, Any], path: Path) -> tuple[DagNN, dict[str, Any]]:
    """A ``DagNN`` from the variables of a file, and its struct; errors as in ``load_network``."""
    struct = find_network(variables, path)
    try:
        if is_dag(struct):
            net = _dag(struct)
            _note_dag(net, struct)
        else:
            net = network_of_simple_nn(struct)
            _note_simplenn(net, struct, inside=struct is not variables)
        return net, struct
    except DagNNError as exc:
        raise MatFileError(f"{path}: {exc}") from exc


def keep_notes(net: DagNN, layout: str, notes: Mapping[str, Any]) -> None:
    """Keep notes on the file with the network, those that are not empty, for ``save_network``."""
    found = {name: note for name, note in notes.items() if note}
    if found:
        net.meta.setdefault(NOTES, {"layout": layout}).update(found)


def _note_dag(net: DagNN, struct: Mapping[str, Any]) -> None:
    """Keep how the file differs from what ``save_network`` would write."""
    entries = list(parameter_entries(struct).values())
    fields = [f for f in OPTIONAL_PARAM_FIELDS if any(f in entry for entry in entries)]
    # Before the comparison, which must see these fields and what is unused as they will be written.
    net.meta[NOTES] = {"layout": "dagnn", **({"param_fields": fields} if fields else {})}
    with warnings.catch_warnings():
        # Of settings that MATLAB does not know; that is a matter of writing.
        warnings.simplefilter("ignore", UserWarning)
        written = network_struct(net)
    original = {name: _without_derivatives(value) for name, value in struct.items()}
    original.setdefault("meta", written["meta"])
    note = forms.differences(written, original)
    if not note and not fields:
        del net.meta[NOTES]
    keep_notes(net, "dagnn", {"net": note})


def _without_derivatives(value: Any) -> Any:
    """``params`` without what some files have beside the values, as large as these."""
    if not isinstance(value, list) or not any(isinstance(e, dict) and "der" in e for e in value):
        return value
    entries = [{n: v for n, v in entry.items() if n != "der"} for entry in value]
    return StructArray(entries, value.shape)


def _note_simplenn(net: DagNN, struct: Mapping[str, Any], inside: bool) -> None:
    """The same for ``save_simplenn``; ``inside``: the struct is the variable ``net``."""
    entries = struct["layers"]
    first = [e for e in ([entries] if isinstance(entries, dict) else entries) if "filters" in e]
    old = bool(first) or "meta" not in struct
    try:
        written = simplenn_struct(net, old, unused=False)
    except DagNNError:
        # Two losses, say: such a network is written as a DagNN alone.
        return
    note = forms.differences(written, dict(struct))
    keep_notes(net, "simplenn", {"inside": inside, "old": old, "net": note})


def parameter_entries(struct: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of a DagNN struct's ``params`` by name, in the order of the file."""
    return {
        text(entry.get("name", ""), "name of a parameter"): entry
        for entry in structs(struct.get("params", []), "params")
    }


def parameter_converters(struct: Mapping[str, Any]) -> dict[str, Convert]:
    """How to convert each parameter of a DagNN struct, by name: its first user decides."""
    converters: dict[str, Convert] = {}
    for entry in _layer_entries(struct):
        for place, name in enumerate(entry.params):
            converters.setdefault(name, parameter_axes(entry.type, place))
    return converters


class _LayerEntry(NamedTuple):
    """An element of a DagNN struct's ``layers``; the block is a dict of properties."""

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    params: list[str]
    block: dict[str, Any]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.type})"


def _layer_entries(struct: Mapping[str, Any]) -> list[_LayerEntry]:
    entries = []
    for place, entry in enumerate(structs(struct["layers"], "layers"), start=1):
        missing = [field for field in _LayerEntry._fields if field not in entry]
        if missing:
            raise MatFileError(f"layer {place} lacks the field {', '.join(missing)}")
        name, kind_of_layer = (text(entry[f], f"layer {place}, {f}") for f in ("name", "type"))
        names = (
            texts(entry[f], f"layer {place} ({name!r}), {f}")
            for f in ("inputs", "outputs", "params")
        )
        block = {} if is_empty(entry["block"]) else entry["block"]
        if not isinstance(block, dict):
            raise MatFileError(
                f"layer {place} ({name!r}), block: expected a struct, found {kind(block)}"
            )
        entries.append(_LayerEntry(name, kind_of_layer, *names, block))
    return entries


def _dag(struct: Mapping[str, Any]) -> DagNN:
    values = _values(struct)
    net = DagNN()
    meta = to_python(struct.get("meta", {}))
    net.meta = restore_types(meta) if isinstance(meta, dict) else {}
    for entry in _layer_entries(struct):
        _add_layer(net, entry, values)
    net.rebuild()
    for name, entry in parameter_entries(struct).items():
        _set_parameter(net, name, entry, values[name])
    for entry in structs(struct.get("vars", []), "vars"):
        name = text(entry.get("name", ""), "name of a variable")
        if net.get_var_index(name) is not None and not is_empty(entry.get("precious", [])):
            precious = number(entry["precious"], f"variable {name!r}, precious")
            net.get_var(name).precious = bool(precious)
    unused = {n: to_python(v) for n, v in struct.items() if n not in _NETWORK_FIELDS}
    _keep_unused(net, "net", "network", unused)
    return net


def _values(struct: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the parameters by name, in this project's axes; None where MATLAB has ``[]``."""
    converters = parameter_converters(struct)
    values = {}
    for name, entry in parameter_entries(struct).items():
        value = entry.get("value", [])
        if is_empty(value):
            values[name] = None
            continue
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            raise MatFileError(
                f"parameter {name!r}: expected an array of real numbers, found {kind(value)}"
            )
        try:
            values[name] = converters.get(name, by_shape)(value)
        except MatFileError as exc:
            raise MatFileError(f"parameter {name!r}: {exc}") from exc
    return values


def _add_layer(net: DagNN, entry: _LayerEntry, values: Mapping[str, Any]) -> None:
    try:
        cls = layer_class(_TYPES.get(entry.type, entry.type))
        settings, unused = layer_settings(cls, entry.block)
        wired = _from_wiring(cls, entry.inputs, [values.get(p) for p in entry.params])
        net.add_layer(
            entry.name,
            cls(**{**wired, **settings}),
            entry.inputs,
            entry.outputs,
            entry.params,
            skip_rebuild=True,
        )
    except (DagNNError, ValueError, TypeError, OverflowError) as exc:
        raise MatFileError(f"{entry}: {exc}") from exc
    _keep_unused(net, entry.name, str(entry), unused)


def _from_wiring(cls: type[Layer], inputs: Sequence[str], params: Sequence[Any]) -> dict[str, Any]:
    """Settings that MATLAB's layers leave empty or do not have."""
    known = cls.setting_names()
    settings = {}
    if "num_channels" in known and params and params[0] is not None:
        settings["num_channels"] = len(params[0])
    if "num_maps" in known:
        settings["num_maps"] = len(inputs)
    return settings


def _set_parameter(net: DagNN, name: str, entry: Mapping[str, Any], value: Any) -> None:
    what = f"parameter {name!r}"
    if net.get_param_index(name) is None:
        _keep_unused(net, name, f"{what}, which no layer uses", {"value": value})
        return
    record = net.get_param(name)
    record.value = value
    for field, attribute in (("learningRate", "learning_rate"), ("weightDecay", "weight_decay")):
        if not is_empty(entry.get(field, [])):
            setattr(record, attribute, number(entry[field], f"{what}, {field}"))
    method = text(entry.get("trainMethod", ""), f"{what}, trainMethod")
    if method:
        if method not in TRAIN_METHODS:
            raise MatFileError(
                f"{what}: trainMethod must be one of {TRAIN_METHODS}, found {method!r}"
            )
        record.train_method = method
    unused = {
        f: to_python(v) for f, v in entry.items() if f not in _PARAM_FIELDS and not is_empty(v)
    }
    _keep_unused(net, name, what, unused)


def _keep_unused(net: DagNN, name: str, what: str, unused: Mapping[str, Any]) -> None:
    if not unused:
        return
    net.meta.setdefault("unused", {}).setdefault(name, {}).update(unused)
    warnings.warn(
        f"{what}: {', '.join(unused)} is not known here, has no effect, and is kept in "
        f"meta['unused'][{name!r}]",
        UserWarning,
        stacklevel=5,
    )
