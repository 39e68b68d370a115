"""dagnet: a directed acyclic graph of layers with explicit forward and backward passes.

A port of MatConvNet's ``dagnn.DagNN`` to NumPy and CuPy arrays in ``(N, C, H, W)`` order.
"""

from .backend import asnumpy, check_device, get_array_module, get_fft_module, to_device
from .checkpoint import TrainState, find_last_checkpoint, load_checkpoint, save_checkpoint
from .errors import (
    BackendError,
    CheckpointError,
    DagNNError,
    FolderInUseError,
    GraphError,
    LayerError,
    LayerMemoryError,
    OutputError,
    ShapeError,
    UnknownNameError,
)
from .files import atomic_write, explain_writing
from .fusion import Chain, FusedLayer, Surroundings, register_finder
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
from .lock import lock_folder
from .net import DagNN
from .parameter_server import ParameterServer
from .read_ahead import HostBatches, ReadAhead
from .records import LayerRecord, Parameter, Variable
from .requirements import require
from .scheduling import share
from .shortage import memory_shortage
from .simplenn import from_simple_nn
from .simplenn_eval import SimpleResult, simple_nn
from .solvers import SGD, SOLVERS, AdaDelta, AdaGrad, Adam, RMSProp, Solver
from .train_dag import (
    NonFiniteError,
    accumulate_gradients,
    accumulate_stats,
    loss_averages,
    train_dag,
)
from .train_options import Batch, Callback, GetBatch, PostEpoch, StopTraining, TrainOptions
from .version import __version__

__all__ = [
    "POINT",
    "SGD",
    "SOLVERS",
    "UNKNOWN",
    "UNKNOWN_SIZE",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "ArgumentCheck",
    "BackendError",
    "Batch",
    "Callback",
    "Chain",
    "CheckpointError",
    "Context",
    "DagNN",
    "DagNNError",
    "ElementWise",
    "Filter",
    "FolderInUseError",
    "FusedLayer",
    "GetBatch",
    "GradientError",
    "GraphError",
    "HostBatches",
    "Layer",
    "LayerError",
    "LayerMemoryError",
    "LayerRecord",
    "NonFiniteError",
    "OutputError",
    "Parameter",
    "ParameterServer",
    "PostEpoch",
    "RMSProp",
    "ReadAhead",
    "ReceptiveField",
    "ShapeError",
    "SimpleResult",
    "Size",
    "Solver",
    "StopTraining",
    "Surroundings",
    "TrainOptions",
    "TrainState",
    "UnknownNameError",
    "Variable",
    "__version__",
    "accumulate_gradients",
    "accumulate_stats",
    "asnumpy",
    "atomic_write",
    "check_device",
    "check_layer",
    "explain_writing",
    "find_last_checkpoint",
    "from_simple_nn",
    "get_array_module",
    "get_fft_module",
    "layer_class",
    "load_checkpoint",
    "lock_folder",
    "loss_averages",
    "memory_shortage",
    "register_finder",
    "register_layer",
    "registered_layers",
    "relative_error",
    "require",
    "save_checkpoint",
    "share",
    "simple_nn",
    "to_device",
    "train_dag",
]
