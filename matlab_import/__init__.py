"""matlab_import: networks and arrays from MATLAB's files, and from those of SiamFC in PyTorch.

The only place that knows MATLAB's axes and names.
"""

from .errors import MatFileError
from .mat_file import load_matrix, read_mat
from .network import load_network
from .training import TrainingFile, load_training
from .values import MatlabObject

__all__ = [
    "MatFileError",
    "MatlabObject",
    "TrainingFile",
    "load_matrix",
    "load_network",
    "load_training",
    "read_mat",
]
