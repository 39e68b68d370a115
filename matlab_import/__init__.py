"""matlab_import: networks and arrays from MATLAB's files, and from those of SiamFC in PyTorch.

The only place that knows MATLAB's axes and names.
"""

from .errors import MatFileError
from .mat_file import load_matrix, read_mat
from .network import load_network
from .saving import save_network
from .siamfc_pth import load_siamfc_pth, siamfc_from_state_dict
from .simplenn_saving import save_simplenn
from .training import TrainingFile, load_training
from .values import MatlabObject

__all__ = [
    "MatFileError",
    "MatlabObject",
    "TrainingFile",
    "load_matrix",
    "load_network",
    "load_siamfc_pth",
    "load_training",
    "read_mat",
    "save_network",
    "save_simplenn",
    "siamfc_from_state_dict",
]
