"""layers: the vocabulary of MatConvNet's DagNN and of DSiam, one layer a file.

Importing this package registers every layer with ``dagnet``.
"""

from .relu import ReLU, relu, relu_backward
from .resize import imresize, imresize_adjoint, resize_matrix

__all__ = [
    "ReLU",
    "imresize",
    "imresize_adjoint",
    "relu",
    "relu_backward",
    "resize_matrix",
]
