"""Kernels of the operations that most of the time goes into, per backend.

A layer's file asks ``choose(operation, x)`` and runs what it gets. A faster kernel is a module
here that calls ``register`` and is imported below; its test compares it with the operation's
reference, over ``registered(operation)``.
"""

from . import conv_im2row, cuda  # noqa: F401  (register themselves)
from .products import matmul
from .registry import Kernel, choose, reference, register, registered

__all__ = ["Kernel", "choose", "matmul", "reference", "register", "registered"]
