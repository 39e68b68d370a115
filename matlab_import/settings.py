"""Settings of layers: MATLAB's block properties and the fields of this project's layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dagnet import Layer

from .axes import size4, tensor
from .errors import MatFileError
from .values import MatlabObject, is_empty, kind, to_python

# Axis numbers of MATLAB, 1-based in (H, W, C, N), as axes of (N, C, H, W).
_AXIS = {1: 2, 2: 3, 3: 1, 4: 0}

# Names that are not MATLAB's in Python's spelling.
_RENAMED = {"isrep": "is_rep", "calsum": "sum_channels", "lambda": "lambda_"}


def python_name(name: str) -> str:
    """MATLAB's spelling in Python's: ``hasBias`` is ``has_bias``, ``poolSize`` ``pool_size``."""
    return _RENAMED.get(name) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def setting_value(value: Any) -> Any:
    """A property as a setting: whole numbers are ``int``, vectors and cells are tuples.

    ``[]`` is None. Matrices keep MATLAB's axes.
    """
    if isinstance(value, list):
        return tuple(setting_value(v) for v in value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.size == 0:
            return None
        if value.size == max(value.shape):
            numbers = tuple(_number(v) for v in value.ravel().tolist())
            return numbers if len(numbers) > 1 else numbers[0]
        return value
    return to_python(value)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _numbers(value: Any) -> tuple[int, ...]:
    """A size: MATLAB's own drops trailing ones, but never below two numbers."""
    numbers = setting_value(value)
    if isinstance(numbers, int):
        return (numbers,)
    if not isinstance(numbers, tuple) or not all(type(n) is int for n in numbers):
        raise MatFileError(f"expected a size, found a {kind(value)}")
    return numbers


def _size(value: Any) -> dict[str, Any]:
    return {} if is_empty(value) else {"size": size4(_numbers(value))}


def _dim(value: Any) -> dict[str, Any]:
    dim = setting_value(value)
    if dim not in _AXIS:
        raise MatFileError(f"dim: expected an axis, 1 to 4, found {kind(value)}")
    return {"dim": _AXIS[dim]}


# Options of vl_nnloss, whose names it reads without regard to case, that are settings here.
_LOSS_SETTINGS = {"loss": "loss", "topk": "top_k", "threshold": "threshold"}


def _loss_options(value: Any) -> dict[str, Any]:
    """Options of ``vl_nnloss`` in a loss: pairs of names and values, 'instanceWeights', W say.

    ``classWeights`` it takes and never reads; they are left out.
    """
    options = list(value) if isinstance(value, list) else []
    settings: dict[str, Any] = {}
    rest: list[Any] = []
    for name, option in zip(options[::2], options[1::2]):
        key = str(name).lower()
        if key == "instanceweights" and isinstance(option, str):
            settings["instance_weights"] = option  # 'balanced', of a network made here
        elif key == "instanceweights":
            if not isinstance(option, np.ndarray):
                raise MatFileError(f"instance weights: expected an array, found {kind(option)}")
            if option.size:
                settings["instance_weights"] = tensor(option)
        elif key in _LOSS_SETTINGS:
            settings[_LOSS_SETTINGS[key]] = setting_value(option)
        elif key == "normalise":
            rest += [key, setting_value(option)]
        elif key != "classweights":
            rest += [name, setting_value(option)]
    return {**settings, "opts": tuple(rest)}


# Options of vl_nnpdist, which override the properties of the same meaning.
_DISTANCE_SETTINGS = {"noroot": "no_root", "epsilon": "epsilon", "aggregate": "aggregate"}


def _distance_options(value: Any) -> dict[str, Any]:
    """Options of ``vl_nnpdist`` in a distance, pairs of names and values: all are settings here."""
    options = list(value) if isinstance(value, list) else []
    settings: dict[str, Any] = {}
    rest: list[Any] = []
    for name, option in zip(options[::2], options[1::2]):
        key = str(name).lower()
        if key == "instanceweights" and isinstance(option, np.ndarray):
            settings["instance_weights"] = tensor(option) if option.size else None
        elif key in _DISTANCE_SETTINGS:
            settings[_DISTANCE_SETTINGS[key]] = setting_value(option)
        else:
            rest += [name, setting_value(option)]
    return {**settings, "opts": tuple(rest)}


def _window(value: Any) -> dict[str, Any]:
    """The constant of the public DSiam's ``Mul``: (H, W), or (H, W, C) to (C, H, W)."""
    if not isinstance(value, np.ndarray) or value.ndim > 3:
        raise MatFileError(f"saliencywindow: expected (H, W) or (H, W, C), found {kind(value)}")
    return {"constant": value if value.ndim == 2 else tensor(value)[0]} if value.size else {}


def _total_stride(value: Any) -> dict[str, Any]:
    """CFNet's ``stride`` of ``centerThrErr``; 0 there is one that is not set."""
    stride = setting_value(value)
    return {"total_stride": stride} if stride else {}


# Properties whose meaning depends on the type of layer, most of them about axes.
_SPECIAL: Mapping[tuple[str, str], Callable[[Any], dict[str, Any]]] = {
    ("dagnn.Conv", "size"): _size,
    ("dagnn.ConvTranspose", "size"): _size,
    ("dagnn.Scale", "size"): _size,
    ("dagnn.Concat", "dim"): _dim,
    # How many inputs there are is seen from the wiring; older files tell it too.
    ("dagnn.Concat", "numInputs"): lambda value: {},
    ("dagnn.Sum", "numInputs"): lambda value: {},
    ("dagnn.Loss", "opts"): _loss_options,
    ("dagnn.PDist", "opts"): _distance_options,
    ("Eltwise", "saliencywindow"): _window,
    ("centerThrErr", "stride"): _total_stride,
}


def layer_settings(
    layer_class: type[Layer], block: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort the properties of a block into settings of a layer and what it does not know.

    Parameters
    ----------
    layer_class : class of the layer
    block : properties in plain MATLAB form

    Returns
    -------
    settings : dict
        For the constructor. A property that is ``[]`` is left out: it is unset in MATLAB.
    unused : dict
        Properties that the layer has no setting for, by MATLAB's name, unless they are empty.

    Raises
    ------
    MatFileError
        If a size or an axis cannot be understood.
    """
    known = layer_class.setting_names()
    settings: dict[str, Any] = {}
    unused: dict[str, Any] = {}
    for name, value in block.items():
        special = _SPECIAL.get((layer_class.type_name, name))
        key = python_name(name)
        if special is not None:
            settings.update(special(value))
        elif key in known and not isinstance(value, MatlabObject):
            setting = setting_value(value)
            if setting is not None:
                settings[key] = setting
        elif not is_empty(value):
            unused[name] = to_python(value)
    return settings, unused
