"""layers: the vocabulary of MatConvNet's DagNN and of DSiam, one layer a file.

Importing this package registers every layer with ``dagnet``.
"""

from .relu import ReLU, relu, relu_backward

__all__ = ["ReLU", "relu", "relu_backward"]
