"""The feature branch as an ONNX model, for runtimes without Python or this software.

The packages ``onnx`` and ``onnxruntime`` (``pip install 'dsiam[onnx]'``) are imported when they
are first needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from dagnet import DagNN, __version__, atomic_write, relative_error
from dagnet.layer import Layer
from layers import LRN, BatchNorm, Conv, DropOut, Pooling, ReLU

from ..branches import INPUT

INSTALL = "pip install 'dsiam[onnx]'"
# Widely read, and all that the operators here need; the version of files that goes with it.
OPSET, IR_VERSION = 13, 7
# What an export may differ by from ``eval``: max|a - b| / max|b|.
BOUND = 1e-5


class OnnxError(ValueError):
    """A network cannot be exported, or what was exported computes something else."""


def import_onnx() -> ModuleType:
    """The package ``onnx``; ImportError with what to do where it is not installed."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as exc:
        raise ImportError(f"the export needs the package onnx ({exc}): {INSTALL}") from exc
    return onnx


def _pads(pad: Sequence[int]) -> list[int]:
    """ONNX's (top, left, bottom, right) from (top, bottom, left, right)."""
    top, bottom, left, right = (int(v) for v in pad)
    return [top, left, bottom, right]


# Of a layer and its parameters: the operator, its attributes and its constants.
Node = tuple[str, dict[str, Any], list[np.ndarray]]


def _conv(block: Conv, params: list[np.ndarray], channels: int) -> Node:
    filters = params[0]
    if not filters.size:
        raise OnnxError("a convolution without filters has no counterpart in ONNX")
    groups, rest = divmod(channels, filters.shape[1])
    if rest or not groups or filters.shape[0] % groups:
        raise OnnxError(
            f"filters {filters.shape} do not divide {channels} channels into groups: they are not "
            "of this network"
        )
    attributes = {
        "group": groups,
        "kernel_shape": list(filters.shape[2:]),
        "strides": [int(v) for v in block.stride],
        "dilations": [int(v) for v in block.dilate],
        "pads": _pads(block.pad),
    }
    return "Conv", attributes, params[:2] if block.has_bias else params[:1]


def _batch_norm(block: BatchNorm, params: list[np.ndarray], channels: int) -> Node:
    """Moments are mean and ``sqrt(variance + epsilon)``: squared, and nothing is added to them."""
    gain, shift, moments = params
    mean, sigma = moments.astype(np.float64).T
    values = [gain, shift, mean, sigma**2]
    return "BatchNormalization", {"epsilon": 0.0}, [v.ravel().astype(np.float32) for v in values]


def _relu(block: ReLU, params: list[np.ndarray], channels: int) -> Node:
    if block.leak == 0:
        return "Relu", {}, []
    return "LeakyRelu", {"alpha": float(block.leak)}, []


def _pooling(block: Pooling, params: list[np.ndarray], channels: int) -> Node:
    attributes = {
        "kernel_shape": [int(v) for v in block.pool_size],
        "strides": [int(v) for v in block.stride],
        "pads": _pads(block.pad),
    }
    if block.method == "max":
        return "MaxPool", attributes, []
    return "AveragePool", {**attributes, "count_include_pad": 0}, []


def _lrn(block: LRN, params: list[np.ndarray], channels: int) -> Node:
    """ONNX divides alpha by the window; onnxruntime takes windows of odd numbers alone."""
    size, kappa, alpha, beta = block.param
    if int(size) % 2 == 0:
        raise OnnxError(f"LRN over {int(size)} channels cannot be exported: an odd number can")
    return "LRN", {"size": int(size), "bias": kappa, "alpha": alpha * int(size), "beta": beta}, []


def _drop_out(block: DropOut, params: list[np.ndarray], channels: int) -> Node:
    return "Identity", {}, []


NODES: dict[type[Layer], Callable[..., Node]] = {
    Conv: _conv,
    BatchNorm: _batch_norm,
    ReLU: _relu,
    Pooling: _pooling,
    LRN: _lrn,
    DropOut: _drop_out,
}


def to_onnx(branch: DagNN, outputs: Sequence[str]) -> Any:
    """A branch as it computes in mode ``'test'``, in single precision.

    Numbers of images, rows and columns are free; the input is called ``input``, the outputs as
    in the branch. Parameters keep their names where ONNX has them as they are.

    Parameters
    ----------
    branch : DagNN
        As ``extract_branch`` gives it: one input variable, ``input``, (N, C, H, W).
    outputs : sequence of str
        Variables.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    OnnxError
        If a layer has no counterpart here, or a parameter has no value.
    ImportError
        If ``onnx`` is not installed.
    """
    onnx = import_onnx()
    helper, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    channels: dict[str, int] = {}
    nodes, constants = [], {}
    for index in branch.get_layer_execution_order():
        record = branch.layers[index]
        make = NODES.get(type(record.block))
        if make is None or len(record.inputs) != 1 or len(record.outputs) != 1:
            known = ", ".join(kind.__name__ for kind in NODES)
            raise OnnxError(
                f"layer {record.name!r} ({type(record.block).__name__}) cannot be exported: "
                f"those that can are {known}"
            )
        params = [_value(branch, name) for name in record.params]
        (source,), (target,) = record.inputs, record.outputs
        if source not in channels:
            if not isinstance(record.block, Conv):
                raise OnnxError(
                    f"layer {record.name!r} is the first, and a convolution is expected there, "
                    "from which the number of channels is known"
                )
            # The first convolution sees all of the input's channels.
            channels[source] = params[0].shape[1]
        before = channels[source]
        operator, attributes, values = make(record.block, params, before)
        channels[target] = len(values[0]) if operator == "Conv" else before
        names = list(record.params)
        if operator == "BatchNormalization":
            names[2:] = [f"{names[2]}_mean", f"{names[2]}_variance"]
        names = names[: len(values)]
        constants.update(zip(names, values))
        nodes.append(
            helper.make_node(operator, [source, *names], [target], name=record.name, **attributes)
        )
    floats = onnx.TensorProto.FLOAT
    shapes = [(INPUT, ("N", channels.get(INPUT), "H", "W"))]
    shapes += [(v, ("N", channels[v], f"H_{v}", f"W_{v}")) for v in outputs]
    infos = [helper.make_tensor_value_info(name, floats, shape) for name, shape in shapes]
    graph = helper.make_graph(
        nodes,
        "branch",
        infos[:1],
        infos[1:],
        [to_tensor(np.ascontiguousarray(v, np.float32), name) for name, v in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="dsiam",
        producer_version=__version__,
        doc_string="Input: RGB images, (N, 3, H, W), values from 0 to 255.",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(branch: DagNN, name: str) -> np.ndarray:
    value = branch.get_param(name).value
    if value is None:
        raise OnnxError(f"parameter {name!r} has no value")
    return np.asarray(value)


def save_onnx(model: Any, path: str | os.PathLike) -> None:
    """Write a model, whole or not at all."""
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def compare_onnx(
    path: str | os.PathLike, branch: DagNN, outputs: Sequence[str], images: Any
) -> dict[str, float]:
    """What onnxruntime's results of a file differ by from the branch's own ``eval``.

    Parameters
    ----------
    path : path of the ONNX file
    branch, outputs : as ``to_onnx``; the branch is left in mode ``'test'``, its outputs precious
    images : float32 array (N, C, H, W)

    Returns
    -------
    dict : ``max|a - b| / max|b|`` of each output.

    Raises
    ------
    ImportError
        If ``onnxruntime`` is not installed.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise ImportError(f"the comparison needs onnxruntime ({exc}): {INSTALL}") from exc
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    images = np.asarray(images, dtype=np.float32)
    theirs = session.run(list(outputs), {INPUT: images})
    branch.mode = "test"
    for name in outputs:
        branch.get_var(name).precious = True  # or it is freed after its last use
    branch.eval({INPUT: images}, outputs=list(outputs))
    return {
        name: relative_error(their, branch.get_var(name).value)
        for name, their in zip(outputs, theirs)
    }
