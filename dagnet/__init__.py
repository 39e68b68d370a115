"""dagnet: a directed acyclic graph of layers with explicit forward and backward passes.

A port of MatConvNet's ``dagnn.DagNN`` to NumPy and CuPy arrays in ``(N, C, H, W)`` order.
"""

from .backend import asnumpy, check_device, get_array_module, get_fft_module, to_device
from .errors import (
    BackendError,
    CheckpointError,
    DagNNError,
    GraphError,
    LayerError,
    ShapeError,
    UnknownNameError,
)
from .geometry import POINT, UNKNOWN, UNKNOWN_SIZE, ReceptiveField, Size
from .gradient_check import ArgumentCheck, GradientError, check_layer, relative_error
from .layer import (
    Context,
    ElementWise,
    Filter,
    Layer,
    layer_class,
    register_layer,
    registered_layers,
)
from .net import DagNN
from .records import LayerRecord, Parameter, Variable
from .version import __version__

__all__ = [
    "ArgumentCheck",
    "BackendError",
    "CheckpointError",
    "Context",
    "DagNN",
    "DagNNError",
    "ElementWise",
    "Filter",
    "GradientError",
    "GraphError",
    "Layer",
    "LayerError",
    "LayerRecord",
    "POINT",
    "Parameter",
    "ReceptiveField",
    "ShapeError",
    "Size",
    "UNKNOWN",
    "UNKNOWN_SIZE",
    "UnknownNameError",
    "Variable",
    "__version__",
    "asnumpy",
    "check_device",
    "check_layer",
    "get_array_module",
    "get_fft_module",
    "layer_class",
    "register_layer",
    "registered_layers",
    "relative_error",
    "to_device",
]
