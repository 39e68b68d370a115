"""The GPU that a benchmark runs on: what it is, and how fast it multiplies and copies.

As a module of ``contender`` it is asked in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dagnet.backend import import_cupy, set_tf32

# Side of the matrices whose product measures the card.
GEMM_SIDE = 8192
# Single-precision numbers that are copied: 1 GiB of them.
COPIED = 2**28
REPEATS = 10


def describe() -> dict[str, object]:
    """The card, its driver, and the libraries that this project computes with there."""
    cupy = import_cupy()
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "card": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory, GiB": round(properties["totalGlobalMem"] / 2**30, 1),
        "driver's CUDA": _version(runtime.driverGetVersion()),
        "CuPy's CUDA": _version(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
    }


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def rates(side: int = GEMM_SIDE, copied: int = COPIED) -> dict[str, float]:
    """GF/s of a product of large matrices, single precision and TF32, and GB/s of a copy.

    The best of ``REPEATS``, by events. A copy reads and writes: both count.
    """
    cupy = import_cupy()
    a, b = cupy.asarray(np.random.default_rng(0).standard_normal((2, side, side), np.float32))
    found = {}
    for name, tf32 in (("single", False), ("tf32", True)):
        set_tf32(tf32)
        found[name] = 2 * side**3 / best_seconds(lambda: cupy.matmul(a, b)) / 1e9
    set_tf32(False)
    source = cupy.zeros(copied, np.float32)
    target = cupy.empty_like(source)
    seconds = best_seconds(lambda: cupy.copyto(target, source))
    found["copy"] = 2 * source.nbytes / seconds / 1e9
    return found


def best_seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """How long the device takes for what a function launches, the best of some, after a first."""
    cuda = import_cupy().cuda
    best = float("inf")
    for _ in range(repeats + 1):
        start, end = cuda.Event(), cuda.Event()
        start.record()
        function()
        end.record()
        end.synchronize()
        best = min(best, cuda.get_elapsed_time(start, end) / 1e3)
    return best
