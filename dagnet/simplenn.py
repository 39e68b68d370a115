"""From a SimpleNN network, a chain of layers without names of variables, to a ``DagNN``.

After MatConvNet's ``@DagNN/fromSimpleNN.m`` and the defaults of ``vl_simplenn_tidy.m``. A layer is
a dict of its fields, in Python's spelling and with arrays in this project's axes; reading such
dicts from MATLAB's files is the business of ``matlab_import``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import DagNNError
from .layer import layer_class
from .net import DagNN

Fields = Mapping[str, Any]

# Fields that mean the same for every type of layer.
_COMMON = ("type", "name", "precious", "weights")
# Training attributes of the weights: one number for each of them.
_TRAINING = ("learning_rate", "weight_decay")


@dataclass(frozen=True)
class Kind:
    """How a type of SimpleNN layer becomes a layer of a DagNN.

    ``settings`` maps names of fields to names of settings, ``defaults`` holds the values of fields
    that may be missing, ``suffixes`` are those of the parameters' names, ``shapes`` gives further
    settings from the weights.
    """

    type_name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    suffixes: str = ""
    shapes: Callable[[Sequence[Any]], dict[str, Any]] = lambda weights: {}
    fixed: Mapping[str, Any] = field(default_factory=dict)
    reads_label: bool = False

    def knows(self) -> set[str]:
        """Names of the fields that have an effect."""
        # ``size`` repeats the shape of the filters.
        own = ("filters", "biases", "size", *_TRAINING) if self.suffixes else ()
        return {*_COMMON, *self.settings, *own}


def _convolution_shapes(weights: Sequence[Any]) -> dict[str, Any]:
    return {"size": weights[0].shape, "has_bias": len(weights) > 1 and weights[1] is not None}


_CONVOLUTION = Kind(
    "dagnn.Conv",
    settings={n: n for n in ("pad", "stride", "dilate", "opts")},
    defaults={"pad": 0, "stride": 1, "dilate": 1, "opts": ()},
    suffixes="fb",
    shapes=_convolution_shapes,
)
_NORMALISATION = Kind(
    "dagnn.LRN", settings={"param": "param"}, defaults={"param": (5, 1, 0.0001 / 5, 0.75)}
)
_LOSS = Kind("dagnn.Loss", fixed={"loss": "softmaxlog"}, reads_label=True)
# Types of SimpleNN layers: those that ``fromSimpleNN`` takes, and at the end those that only
# ``vl_simplenn`` knows.
KINDS = {
    "conv": _CONVOLUTION,
    "convt": Kind(
        "dagnn.ConvTranspose",
        settings={n: n for n in ("upsample", "crop", "num_groups", "opts")},
        defaults={"upsample": 1, "crop": 0, "num_groups": 1, "opts": ()},
        suffixes="fb",
        shapes=_convolution_shapes,
    ),
    "pool": Kind(
        "dagnn.Pooling",
        settings={"pool": "pool_size", **{n: n for n in ("method", "pad", "stride", "opts")}},
        defaults={"method": "max", "pad": 0, "stride": 1, "opts": ()},
    ),
    "bnorm": Kind(
        "dagnn.BatchNorm",
        settings={"epsilon": "epsilon"},
        defaults={"epsilon": 1e-5},
        suffixes="mbx",
        shapes=lambda weights: {"num_channels": len(weights[0])},
    ),
    "normalize": _NORMALISATION,
    "lrn": _NORMALISATION,
    "relu": Kind("dagnn.ReLU", settings={"leak": "leak"}, defaults={"leak": 0.0}),
    "sigmoid": Kind("dagnn.Sigmoid"),
    "dropout": Kind("dagnn.DropOut", settings={"rate": "rate"}, defaults={"rate": 0.5}),
    "softmax": Kind("dagnn.SoftMax"),
    "softmaxloss": _LOSS,
    # ``vl_nnloss`` without an option: its help text speaks of the log loss of probabilities, its
    # code takes the softmax first.
    "loss": _LOSS,
    "noffset": Kind("dagnn.NormOffset", settings={"param": "param"}),
    "spnorm": Kind("dagnn.SpatialNorm", settings={"param": "param"}),
    "pdist": Kind(
        "dagnn.PDist",
        settings={n: n for n in ("p", "no_root", "aggregate", "epsilon", "instance_weights")},
        defaults={
            "p": 2,
            "no_root": False,
            "aggregate": False,
            "epsilon": 1e-3,
            "instance_weights": None,
        },
        reads_label=True,
    ),
}


def from_simple_nn(
    layers: Sequence[Fields], meta: Mapping[str, Any] | None = None, canonical_names: bool = False
) -> DagNN:
    """Build a ``DagNN`` from the layers of a SimpleNN network.

    The input of the first layer is the variable ``x0``, the output of the n-th is ``xn``. A loss
    (and ``pdist``) reads ``label`` too (``label1``, ... for further losses). The parameters of a
    layer ``conv1`` are ``conv1f`` and ``conv1b``, those of a batch norm ``bn1`` are ``bn1m``,
    ``bn1b``, ``bn1x``.

    Parameters
    ----------
    layers : list of dict
        ``type`` (``conv``, ``convt``, ``pool``, ``bnorm``, ``normalize`` or ``lrn``, ``relu``,
        ``sigmoid``, ``dropout``, ``softmax``, ``softmaxloss``, and of those that the original
        evaluates but does not convert ``loss``, ``noffset``, ``spnorm``, ``pdist``), ``name``,
        ``precious`` (the output is kept after evaluation) and what the type needs:

        ``weights``
            list of arrays. Convolutions: filters (out, in / groups, kh, kw) and biases (out,) or
            None. ``bnorm``: multipliers (C,), biases (C,) and, zero if left out, moments (C, 2).
            In place of ``weights`` the older fields ``filters`` and ``biases`` may stand.
        ``learning_rate``, ``weight_decay``
            one number for each of the weights.
        ``pad``, ``stride``, ``dilate``, ``pool``, ``method``, ``upsample``, ``crop``,
        ``num_groups``, ``epsilon``, ``param``, ``leak``, ``rate``, ``p``, ``no_root``,
        ``aggregate``, ``instance_weights``, ``opts``
            settings; those left out have ``vl_simplenn_tidy``'s defaults.
    meta : dict, optional
        Kept as the network's ``meta``; in ``meta['inputs']`` the name becomes the input's.
    canonical_names : bool
        Name variables by what they are: the input ``input``, the output of a softmax ``prob``,
        that of a loss ``objective``, and what a softmax or loss reads ``prediction``.

    Returns
    -------
    DagNN
        Fields without effect are kept in ``net.meta['unused'][layer][field]``, with a warning.

    Raises
    ------
    DagNNError
        If a layer's type cannot be converted or is not registered, or a field is missing.

    Notes
    -----
    Differs from the original in three things. The epsilon of a batch norm and ``precious`` are
    carried over (the original leaves both behind), and a second loss gets the name
    ``objective1``, where the original would give one name to both. ``simple_nn`` evaluates such a
    network as ``vl_simplenn`` does.
    """
    net = DagNN()
    net.meta = dict(meta or {})
    for place, fields in enumerate(layers, start=1):
        _add(net, place, fields)
    net.rebuild()
    if canonical_names:
        _rename_canonically(net)
    if net.layers:
        net.meta = _with_input_name(net.meta, net.layers[0].inputs[0])
    return net


def _add(net: DagNN, place: int, fields: Fields) -> None:
    name = fields.get("name") or f"layer{place}"
    what = f"SimpleNN layer {place} ({name!r})"
    kind = KINDS.get(fields.get("type", ""))
    if kind is None:
        raise DagNNError(
            f"{what} has type {fields.get('type')!r}, which has no counterpart in a DagNN; "
            f"types that have: {', '.join(sorted(KINDS))}; a layer of your own goes into a DagNN "
            "with add_layer"
        )
    weights = _weights(fields) if kind.suffixes else []
    missing = [key for key in kind.settings if key not in {**kind.defaults, **fields}]
    if kind.suffixes and (not weights or weights[0] is None):
        missing.append("weights")
    if missing:
        raise DagNNError(f"{what}, type {fields['type']!r}, lacks {', '.join(missing)}")
    if len(weights) > len(kind.suffixes):
        raise DagNNError(
            f"{what}, type {fields['type']!r}, takes at most {len(kind.suffixes)} weights, "
            f"received {len(weights)}"
        )
    values = {**kind.defaults, **fields}
    settings = {setting: values[key] for key, setting in kind.settings.items()}
    try:
        block = layer_class(kind.type_name)(**settings, **kind.shapes(weights), **kind.fixed)
    except (DagNNError, ValueError, TypeError, OverflowError) as exc:
        raise DagNNError(f"{what}, type {fields['type']!r}: {exc}") from exc
    inputs, output = [f"x{place - 1}"], f"x{place}"
    if kind.reads_label:
        inputs.append(_new_name(net, "label"))
    present = [i for i, value in enumerate(weights) if value is not None]
    params = [name + kind.suffixes[i] for i in present]
    net.add_layer(name, block, inputs, output, params, skip_rebuild=True)
    net.get_var(output).precious = bool(fields.get("precious", False))
    for param, i in zip(params, present):
        record = net.get_param(param)
        record.value = weights[i]
        for attribute in _TRAINING:
            factors = _factors(fields, attribute)
            if i < len(factors):
                setattr(record, attribute, float(factors[i]))
    _keep_unused(net, name, fields, kind)


def _factors(fields: Fields, attribute: str) -> np.ndarray:
    """Learning rates or weight decays of the weights, as many as are given."""
    factors = np.atleast_1d(fields.get(attribute, ()))
    if fields["type"] == "bnorm" and attribute == "weight_decay" and len(factors):
        # Files give two; moments are not decayed.
        return np.append(factors[:2], 0)
    return factors


def _weights(fields: Fields) -> list[Any]:
    """The weights from either form; moments of a batch norm that lacks them are zero."""
    if "weights" in fields:
        weights = list(fields["weights"])
    else:
        weights = [fields.get("filters"), fields.get("biases")]
    if fields["type"] == "bnorm" and len(weights) == 2 and weights[0] is not None:
        weights.append(np.zeros((len(weights[0]), 2), weights[0].dtype))
    return weights


def _keep_unused(net: DagNN, name: str, fields: Fields, kind: Kind) -> None:
    unused = {key: value for key, value in fields.items() if key not in kind.knows()}
    if not unused:
        return
    net.meta.setdefault("unused", {})[name] = unused
    warnings.warn(
        f"SimpleNN layer {name!r} (type {fields['type']!r}): {', '.join(unused)} has no effect "
        f"here and is kept in meta['unused'][{name!r}]",
        UserWarning,
        stacklevel=4,
    )


def _new_name(net: DagNN, prefix: str) -> str:
    """``prefix``, or the first of ``prefix1``, ``prefix2``, ... that is no variable's name."""
    name, count = prefix, 0
    while net.get_var_index(name) is not None:
        count += 1
        name = f"{prefix}{count}"
    return name


def _rename_canonically(net: DagNN) -> None:
    for place, record in enumerate(net.layers):
        if place == 0:
            net.rename_var(record.inputs[0], "input")
        if record.type == "dagnn.SoftMax":
            net.rename_var(record.outputs[0], _new_name(net, "prob"))
            net.rename_var(record.inputs[0], _new_name(net, "prediction"))
        if record.type == "dagnn.Loss":
            net.rename_var(record.outputs[0], _new_name(net, "objective"))
            if not re.match("prob", record.inputs[0]):
                net.rename_var(record.inputs[0], _new_name(net, "prediction"))


def _with_input_name(meta: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``meta``, its first input (a dict, or the first of a list of dicts) renamed."""
    inputs = meta.get("inputs")
    if isinstance(inputs, Mapping):
        return {**meta, "inputs": {**inputs, "name": name}}
    if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], Mapping):
        return {**meta, "inputs": [{**inputs[0], "name": name}, *inputs[1:]]}
    return dict(meta)
