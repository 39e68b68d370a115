"""CUDA kernels of our own, for arrays of CuPy.

Each ``.cu`` file is about one operation. It is compiled when it is first used, once for single and
once for double precision (``REAL``), and launched on CuPy's current stream: nothing here makes the
host wait, and no launch depends on values of an array, so all of them can be part of a CUDA graph.
The modules that wrap them register them as kernels of their operation, beside the reference that
they must agree with.
"""

from . import (  # noqa: F401  (register themselves)
    batch_norm,
    blas,
    crop,
    elefusion,
    errors,
    loss,
    pooling,
    resize,
    spectra,
)
