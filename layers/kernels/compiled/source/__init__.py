"""Sources of the compiled kernels: Python functions for Numba, over raw pointers.

Nothing here runs as Python, and only ``..build`` imports it, when there is no machine code yet.
``declare.kernel`` registers a kernel with a letter for each argument: pointer to float32 (``p``),
float64 (``d``) or int64 (``q``), int64 (``i``) or float32 (``f``) number. Kernels return nothing,
allocate nothing and cannot raise. Strides and offsets count elements; channels lie next to each
other, in multiples of 16.
"""

from . import activation, direct, winograd  # noqa: F401  (their kernels register themselves)
from .declare import KERNELS

__all__ = ["KERNELS"]
