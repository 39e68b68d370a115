"""What a layer is in MATLAB: its type, and the properties of its block in the original's order.

The way back from ``settings``. MATLAB's ``save`` lists the properties of a class before those of
the class that it extends, and ``load`` refuses a property that the class does not have.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dagnet import Layer, asnumpy

from .axes import MATLAB_AXES, matlab_size, tensor
from .errors import MatFileError
from .from_python import from_python
from .settings import python_name
from .values import Cell

_FILTER = ("pad", "stride", "dilate")
_LOSS = ("loss", "ignoreAverage", "normalise", "opts")

# Properties by type, of the original classes, in the order in which MATLAB's save lists them.
PROPERTIES: Mapping[str, tuple[str, ...]] = {
    # MatConvNet
    "dagnn.AffineGridGenerator": ("Ho", "Wo"),
    "dagnn.BatchNorm": ("numChannels", "epsilon", "opts"),
    "dagnn.BilinearSampler": (),
    "dagnn.Concat": ("dim",),
    "dagnn.Conv": ("size", "hasBias", "opts", *_FILTER),
    "dagnn.ConvTranspose": ("size", "hasBias", "upsample", "crop", "numGroups", "opts"),
    "dagnn.Crop": ("crop",),
    "dagnn.DropOut": ("rate", "frozen"),
    "dagnn.LRN": ("param",),
    "dagnn.Loss": _LOSS,
    "dagnn.NormOffset": ("param",),
    "dagnn.PDist": ("p", "aggregate", "noRoot", "epsilon", *_LOSS),
    "dagnn.Pooling": ("method", "poolSize", "opts", *_FILTER),
    "dagnn.ROIPooling": ("method", "subdivisions", "transform", "flatten"),
    "dagnn.ReLU": ("useShortCircuit", "leak", "opts"),
    "dagnn.Scale": ("size", "hasBias"),
    "dagnn.Sigmoid": (),
    "dagnn.SoftMax": (),
    "dagnn.SpatialNorm": ("param",),
    "dagnn.Sum": (),
    "dagnn.UniformScalingGridGenerator": ("Ho", "Wo"),
    # SiamFC
    "CropMargin": ("margin",),
    "MaxScoreErr": _LOSS,
    "XCorr": ("opts",),
    "centerThrErr": _LOSS,
    # CFNet
    "CorrFilter": ("lambda", "window", "bias"),
    "IOUErrorScore": ("stride", *_LOSS),
    "LogisticLoss": _LOSS,
    "MulConst": (),
    # The public DSiam
    "CirConv": ("opts", "enable", "calsum", "isrep"),
    "Mul": ("saliencywindow",),
    "Sum_w": (),
}

# Properties that some versions of a class have, by their setting; written where they are used.
_OPTIONAL: Mapping[tuple[str, str], str] = {
    ("XCorr", "weight"): "weight",
    ("XCorr", "bias"): "bias",
    ("XCorr", "expect"): "expect",
    ("XCorr", "visualization_active"): "visualization_active",
    ("XCorr", "visualization_grid_sz"): "visualization_grid_sz",
    ("centerThrErr", "total_stride"): "stride",
}

# Settings that another property tells (``opts``), or the wiring of the network.
_TOLD_ELSEWHERE = {
    "dagnn.Loss": {"instance_weights", "threshold", "top_k"},
    "dagnn.PDist": {"instance_weights"},
    "Sum_w": {"num_maps"},
    "Elefusion": {"num_maps"},
    "Mul": {"operation", "constant"},
}


def matlab_name(name: str) -> str:
    """Python's spelling in MATLAB's: ``has_bias`` is ``hasBias``."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def matlab_type(block: Layer) -> str:
    """The name of the original's class: two layers have another one here, and mean more."""
    kind = block.type_name or type(block).__name__
    if kind == "Elefusion" and block.num_maps == 2:
        return "Sum_w"
    if kind == "Eltwise" and block.operation == "prod" and block.constant is not None:
        return "Mul"
    return kind


def block_properties(block: Layer, what: str) -> dict[str, Any]:
    """Properties of a layer in plain MATLAB form, in the original's order.

    A setting that the original's class does not have is written if it is not at its default, with
    a UserWarning: such a file loads here, and MATLAB refuses it.

    Parameters
    ----------
    block : the layer
    what : the layer's name, for messages

    Raises
    ------
    MatFileError
        If a setting holds what MATLAB cannot.
    """
    kind = matlab_type(block)
    settings = block.save()
    names = PROPERTIES.get(kind)
    if names is None:
        known = {n: matlab_name(n) for n in settings if n not in _TOLD_ELSEWHERE.get(kind, ())}
        return {name: _encoded(kind, name, settings[n], what) for n, name in known.items()}
    properties = {}
    for name in names:
        setting = python_name(name)
        special = _WRITERS.get((kind, name))
        if special is not None:
            properties[name] = special(settings)
        else:
            properties[name] = _encoded(kind, name, settings[setting], what)
    told = {python_name(name) for name in names} | _TOLD_ELSEWHERE.get(kind, set())
    for setting, value in changed_settings(block).items():
        if setting in told:
            continue
        optional = _OPTIONAL.get((kind, setting))
        name = optional or matlab_name(setting)
        properties[name] = _encoded(kind, setting, value, what)
        if optional:
            continue
        warnings.warn(
            f"{what}: the original's {kind} has no property for {setting}, which is "
            f"{value!r:.80} here; it is written, and MATLAB's load will refuse it",
            UserWarning,
            stacklevel=4,
        )
    return properties


def changed_settings(block: Layer) -> dict[str, Any]:
    """The settings of a layer that are not at their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(block)}
    return {n: v for n, v in block.save().items() if not _is_default(v, defaults[n])}


def _is_default(value: Any, default: Any) -> bool:
    if value is None or default is None or hasattr(value, "shape"):
        return value is default
    return bool(value == default)


def _encoded(kind: str, name: str, value: Any, what: str) -> Any:
    """A setting as a property: tuples of numbers are rows, other tuples are cells."""
    if isinstance(value, (tuple, list)) and name != "opts":
        if value and all(isinstance(v, (bool, int, float, np.number)) for v in value):
            return np.array([value], dtype=bool if type(value[0]) is bool else float)
    return from_python(value, f"{what}, {name}")


def _size(settings: Mapping[str, Any]) -> np.ndarray:
    if settings["size"] is None:
        return np.zeros((0, 0))
    return np.array([matlab_size(settings["size"])], float)


def _dim(settings: Mapping[str, Any]) -> np.ndarray:
    return np.array([[float(MATLAB_AXES[settings["dim"]])]])


def _loss_options(settings: Mapping[str, Any]) -> Cell:
    """The cell of options: those that are settings here, then the others.

    ``vl_nnloss`` takes them in any order, and its defaults are left out.
    """
    options: list[Any] = []
    weights = settings.get("instance_weights")
    if isinstance(weights, str):
        options += ["instanceWeights", weights]
    elif weights is not None:
        options += ["instanceWeights", tensor.to_matlab(asnumpy(weights))]
    for setting, name, default in (("threshold", "threshold", 0.0), ("top_k", "topK", 5)):
        value = settings.get(setting, default)
        if value != default:
            options += [name, np.array([[float(value)]])]
    options += [from_python(v, "opts of a loss") for v in settings["opts"]]
    return Cell(options)


def _mask(settings: Mapping[str, Any]) -> np.ndarray:
    """The constant of a product, (H, W), (C, H, W) or (N, C, H, W), with MATLAB's axes."""
    constant = asnumpy(settings["constant"])
    if constant.ndim < 2:
        raise MatFileError(
            f"the constant of a product must have the axes of an image, found {constant.shape}"
        )
    return tensor.to_matlab(constant)


_WRITERS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = {
    ("dagnn.Conv", "size"): _size,
    ("dagnn.ConvTranspose", "size"): _size,
    ("dagnn.Scale", "size"): _size,
    ("dagnn.Concat", "dim"): _dim,
    ("dagnn.Loss", "opts"): _loss_options,
    ("dagnn.PDist", "opts"): _loss_options,
    ("Mul", "saliencywindow"): _mask,
}
