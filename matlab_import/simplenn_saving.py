"""Networks written as MatConvNet's SimpleNN files, where their graph is a chain."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from dagnet import DagNN, LayerRecord
from dagnet.simplenn import KINDS, Kind

from . import forms
from .axes import parameter_axes, tensor
from .blocks import block_properties, changed_settings, matlab_name
from .errors import MatFileError
from .from_python import from_python
from .mat_writing import write_mat
from .saving import NOTES, matlab_array, meta_struct, training_variables
from .settings import python_name
from .values import Cell

# Fields in vl_simplenn_tidy's order; those of a type stand between these.
_FIRST, _LAST = ("type", "name", "weights"), ("precious",)

# What older files hold in place of ``weights``, and beside the layers in place of ``meta``.
_OLD_WEIGHTS = ("filters", "biases")
_OLD_META = ("classes", "normalization")


def save_simplenn(
    net: DagNN,
    path: str | PathLike,
    version: str = "7",
    state: Mapping[str, Any] | None = None,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as a SimpleNN: variables ``layers``, a cell of structs, and ``meta``.

    Each layer must read what the one before it wrote (a loss its labels too), parameters must not
    be shared, and the types must be those that SimpleNN has. Variables have no names in such a
    file, and parameters those of their layers: loaded again they are ``x0``, ``x1``, ... and
    ``conv1f``, ``conv1b``. A network that was read from a SimpleNN file is written in the form of
    that file, with ``filters`` and ``biases`` if it was an old one.

    Parameters, and errors, as of ``save_network``. ``state`` is written as it is.

    Raises
    ------
    MatFileError
        Also if the graph is not such a chain; the message names the layer.
    """
    notes = net.meta.get(NOTES, {})
    own = notes if notes.get("layout") == "simplenn" else {}
    struct = simplenn_struct(net, old=own.get("old", False), unused=not own)
    struct = forms.apply(struct, own.get("net", {}))
    variables = {"net": struct} if own.get("inside") else struct
    # There is no parameter by parameter conversion: entries are one a layer.
    plain = {"state": from_python(state, "state")} if state else {}
    rest = training_variables(net, None, stats, own)
    if plain:
        plain["state"] = forms.apply(plain["state"], own.get("state", {}))
    write_mat(path, {**variables, **plain, **rest}, version)


def simplenn_struct(net: DagNN, old: bool = False, unused: bool = True) -> dict[str, Any]:
    """The struct of a SimpleNN in plain MATLAB form, without regard to notes.

    Parameters
    ----------
    old : bool
        The form before version beta 17 of MatConvNet.
    unused : bool
        Whether ``meta['unused']`` is written; not if notes put its content back in place.
    """
    layers = Cell([_layer(net, place, old) for place in range(len(net.layers))])
    meta = meta_struct(net, unused)
    if not old:
        return {"layers": layers, "meta": meta}
    beside = {name: meta[name] for name in _OLD_META if isinstance(meta, dict) and name in meta}
    return {"layers": layers, **beside}


def _layer(net: DagNN, place: int, old: bool) -> dict[str, Any]:
    record = net.layers[place]
    what = f"layer {record.name!r} ({record.type})"
    field, kind = _kind(record, what)
    _check_chain(net, place, what, int(kind.reads_label))
    properties = block_properties(record.block, f"layer {record.name!r}")
    by_setting = {python_name(name): value for name, value in properties.items()}
    if "instance_weights" in kind.settings:  # one of the class's options, a field of its own here
        by_setting["instance_weights"] = _instance_weights(record.block.instance_weights)
    _check_settings(record, kind, what)
    own = {matlab_name(name): by_setting[setting] for name, setting in kind.settings.items()}
    weights = _weights(net, record, kind, what)
    precious = np.array([[bool(net.get_var(record.outputs[0]).precious)]])
    if old:
        entry = {"type": field, "name": record.name, **own}
        entry.update(zip(_OLD_WEIGHTS, weights) if len(weights) <= 2 else ())
        entry.update({"weights": Cell(weights)} if len(weights) > 2 else {})
    else:
        values = (field, record.name, Cell(weights))
        entry = {**dict(zip(_FIRST, values)), **own, **dict.fromkeys(_LAST, precious)}
    return {**entry, **_factors(net, record)}


def _kind(record: LayerRecord, what: str) -> tuple[str, Kind]:
    for field, kind in KINDS.items():
        if kind.type_name == record.type and all(
            getattr(record.block, setting) == value for setting, value in kind.fixed.items()
        ):
            return field, kind
    known = ", ".join(sorted({kind.type_name for kind in KINDS.values()}))
    raise MatFileError(
        f"{what}: a SimpleNN has no layer like it (it has {known}, and of losses softmaxlog); "
        "write a DagNN file"
    )


def _check_chain(net: DagNN, place: int, what: str, labels: int) -> None:
    """Each layer reads the output of the one before it, and a loss its labels beside."""
    record = net.layers[place]
    if len(record.inputs) != 1 + labels or len(record.outputs) != 1:
        raise MatFileError(
            f"{what}: in a SimpleNN each layer has one input and one output, this one has "
            f"{len(record.inputs)} and {len(record.outputs)}; write a DagNN file"
        )
    if place and record.inputs[0] != net.layers[place - 1].outputs[0]:
        raise MatFileError(
            f"{what} reads {record.inputs[0]!r}, not {net.layers[place - 1].outputs[0]!r} of the "
            "layer before it: the graph is not a chain; write a DagNN file"
        )
    shared = [name for name in record.params if net.get_param(name).fanout > 1]
    if shared:
        raise MatFileError(
            f"{what}: other layers use its parameter {shared[0]!r} too, which a SimpleNN cannot "
            "tell; write a DagNN file"
        )


def _check_settings(record: LayerRecord, kind: Kind, what: str) -> None:
    """A setting that a SimpleNN has no field for must be at its default."""
    told = {*kind.settings.values(), *kind.fixed, "size", "has_bias", "num_channels"}
    told |= {"opts", "use_short_circuit"}  # for back-ends, without effect
    for setting, value in changed_settings(record.block).items():
        if setting not in told:
            raise MatFileError(
                f"{what}: a SimpleNN has no field for {setting}, which is {value!r:.80}; write a "
                "DagNN file"
            )


def _weights(net: DagNN, record: LayerRecord, kind: Kind, what: str) -> list[np.ndarray]:
    """Values of the parameters; a convolution without a bias has ``[]`` in its place."""
    weights = []
    for place, name in enumerate(record.params):
        value = net.get_param(name).value
        if value is None:
            raise MatFileError(f"{what}: parameter {name!r} has no value")
        weights.append(matlab_array(parameter_axes(record.type, place), value, name))
    if weights and len(weights) < len(kind.suffixes):
        weights.append(np.zeros((0, 0), weights[0].dtype))
    return weights


def _instance_weights(weights: Any) -> np.ndarray:
    """Weights of a distance with MATLAB's axes; ``[]`` where there are none."""
    if weights is None:
        return np.zeros((0, 0))
    weights = np.asarray(weights)
    return np.array([[float(weights)]]) if weights.ndim == 0 else tensor.to_matlab(weights)


def _factors(net: DagNN, record: LayerRecord) -> dict[str, np.ndarray]:
    """Learning rates and weight decays of the weights, where they are not what loading gives."""
    factors = {}
    for field, attribute in (("learningRate", "learning_rate"), ("weightDecay", "weight_decay")):
        values = [float(getattr(net.get_param(name), attribute)) for name in record.params]
        defaults = [a.get(attribute, 1.0) for a in record.block.param_attributes()]
        defaults += [1.0] * (len(values) - len(defaults))
        if values != defaults:
            factors[field] = np.array([values])
    return factors
