"""Networks written as MatConvNet's ``.mat`` files, which its ``DagNN.loadobj`` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from dagnet import DagNN, LayerRecord, asnumpy

from . import forms
from .axes import Convert, parameter_axes
from .blocks import block_properties, matlab_type
from .errors import MatFileError
from .from_python import from_python
from .mat_writing import write_mat
from .python_types import FIELD as TYPES_FIELD
from .python_types import types_text
from .values import Cell, StructArray

# The entry of a network's ``meta`` with notes on the file that it was read from (see ``forms``),
# and that with what was read and has no effect.
NOTES, UNUSED = "matlab", "unused"

# Fields of a parameter that MatConvNet's saveobj leaves out, and some files have.
OPTIONAL_PARAM_FIELDS = ("trainMethod", "fanout")


def save_network(
    net: DagNN,
    path: str | PathLike,
    version: str = "7",
    state: Mapping[str, Any] | None = None,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as MatConvNet saves a ``DagNN``: the struct ``net``.

    A network that ``load_network`` read is written with every name, value, class and size of its
    file, but for what was changed since. The file has its name when it is whole.

    Parameters
    ----------
    net : DagNN
        On any device.
    path : the ``.mat`` file
    version : '7', '7.3' (HDF5; for more than 2 GB) or '6' (not compressed)
    state : dict, optional
        As ``load_training`` gives it, or with ``solver_state`` a dict by names of parameters, as
        ``TrainState`` has it: written as ``state``, with one entry for each parameter in the cell
        ``solverState``.
    stats : dict, optional
        ``train`` and ``val``, lists of dicts of numbers: written as ``stats``.

    Raises
    ------
    MatFileError
        If the network holds what such a file cannot; the message says where.
    OSError
        If the file cannot be written.
    """
    notes = net.meta.get(NOTES, {})
    own = notes if notes.get("layout") == "dagnn" else {}
    variables = {"net": forms.apply(network_struct(net), own.get("net", {}))}
    write_mat(path, {**variables, **training_variables(net, state, stats, own)}, version)


def training_variables(
    net: DagNN,
    state: Mapping[str, Any] | None,
    stats: Mapping[str, Any] | None,
    notes: Mapping[str, Any],
) -> dict[str, Any]:
    """``state`` and ``stats``, those that there are, in the form that the notes tell of."""
    variables = {}
    if state:
        variables["state"] = forms.apply(state_struct(net, state), notes.get("state", {}))
    if stats:
        variables["stats"] = forms.apply(stats_struct(stats), notes.get("stats", {}))
    return variables


def network_struct(net: DagNN) -> dict[str, Any]:
    """What MatConvNet's ``saveobj`` gives, in plain MATLAB form, without regard to notes."""
    return {
        "vars": _structs(
            [{"name": v.name, "precious": np.array([[bool(v.precious)]])} for v in net.vars],
            ("name", "precious"),
        ),
        "params": _params(net),
        "layers": _structs(
            [_layer(record) for record in net.layers],
            ("name", "type", "inputs", "outputs", "params", "block"),
        ),
        "meta": meta_struct(net),
    }


def meta_struct(net: DagNN, unused: bool | None = None) -> Any:
    """``meta`` without the notes; ``[]`` if there is nothing, as MATLAB has it.

    What was read without effect goes back to its place through the notes of the same layout, and
    is kept in ``meta`` otherwise.
    """
    same_layout = net.meta.get(NOTES, {}).get("layout") == "dagnn"
    left_out = {NOTES, UNUSED} if (same_layout if unused is None else not unused) else {NOTES}
    meta = {name: value for name, value in net.meta.items() if name not in left_out}
    struct = from_python(meta or None, "meta")
    types = types_text(meta)
    return struct if types is None else {**struct, TYPES_FIELD: types}


def _structs(elements: list[dict[str, Any]], fields: Sequence[str]) -> Any:
    return forms.struct_array(elements) if elements else StructArray([], (0, 0), fields)


def _layer(record: LayerRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "type": matlab_type(record.block),
        "inputs": Cell(record.inputs),
        "outputs": Cell(record.outputs),
        "params": Cell(record.params),
        "block": block_properties(record.block, f"layer {record.name!r}"),
    }


def converters(net: DagNN) -> dict[str, Convert]:
    """How to convert each parameter of a network, by name: its first user decides."""
    found: dict[str, Convert] = {}
    for record in net.layers:
        for place, name in enumerate(record.params):
            found.setdefault(name, parameter_axes(record.type, place))
    return found


def _params(net: DagNN) -> Any:
    wanted = set(net.meta.get(NOTES, {}).get("param_fields", ()))
    methods = _methods_of_layers(net)
    if any(p.train_method != methods[p.name] for p in net.params):
        wanted.add("trainMethod")
    known = converters(net)
    entries = []
    for parameter in net.params:
        value = parameter.value
        more = {
            "trainMethod": parameter.train_method,
            "fanout": np.array([[float(parameter.fanout)]]),
        }
        entries.append(
            {
                "name": parameter.name,
                "value": np.zeros((0, 0))
                if value is None
                else matlab_array(known[parameter.name], value, parameter.name),
                "learningRate": np.array([[float(parameter.learning_rate)]]),
                "weightDecay": np.array([[float(parameter.weight_decay)]]),
                **{field: more[field] for field in OPTIONAL_PARAM_FIELDS if field in wanted},
            }
        )
    return _structs(entries, ("name", "value", "learningRate", "weightDecay"))


def matlab_array(convert: Convert, value: Any, name: str) -> np.ndarray:
    """A parameter's value, or an array of its shape, of any device, with MATLAB's axes."""
    array = asnumpy(value)
    if array.ndim > 4:
        raise MatFileError(
            f"parameter {name!r}: expected at most four axes, found shape {array.shape}"
        )
    return convert.to_matlab(array)


def _methods_of_layers(net: DagNN) -> dict[str, str]:
    """The train method that MATLAB gives each parameter when its layers are attached."""
    methods = {parameter.name: "gradient" for parameter in net.params}
    for record in net.layers:
        for name, attributes in zip(record.params, record.block.param_attributes()):
            methods[name] = attributes.get("train_method", methods[name])
    return methods


def state_struct(net: DagNN, state: Mapping[str, Any]) -> dict[str, Any]:
    """The solver's state as ``cnn_train_dag`` saves it; other entries as they are."""
    rest = {name: value for name, value in state.items() if name != "solver_state"}
    struct = from_python(rest, "state")
    if "solver_state" not in state:
        return struct
    entries = state["solver_state"]
    names = [parameter.name for parameter in net.params]
    if not isinstance(entries, Mapping):
        if len(entries) != len(names):
            raise MatFileError(
                f"state: expected one entry of solver_state for each of the {len(names)} "
                f"parameters, found {len(entries)}"
            )
        entries = dict(zip(names, entries))
    known = converters(net)
    cell = Cell([_solver_entry(known[name], entries.get(name), name) for name in names])
    return {"solverState": cell, **struct}


def _solver_entry(convert: Convert, entry: Any, name: str) -> Any:
    if entry is None:
        return np.zeros((1, 1))
    if isinstance(entry, Mapping):
        return {
            field: matlab_array(convert, value, name)
            if np.ndim(value)
            else from_python(value, f"state of {name!r}")
            for field, value in entry.items()
        }
    return matlab_array(convert, entry, name)


def stats_struct(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of the epochs: a struct array for each part, ``[]`` without epochs."""
    return {
        part: from_python(list(epochs) or None, f"stats.{part}") for part, epochs in stats.items()
    }
