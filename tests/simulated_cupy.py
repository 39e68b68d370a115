"""A stand-in for CuPy that computes with NumPy and is as strict as CuPy: GPU code without a GPU.

Arrays of the "device" are a type of their own. What fails on a card fails here: an operand, an
argument or an index that is a NumPy array, ``np.asarray`` of a device array, a function that CuPy
lacks, an argument that its function does not take (``cupy_functions.json`` has the names of
CuPy 14.2's functions and of their arguments, read with ``inspect``). What makes the host wait for
the card is counted by ``transfers``: values that are fetched, ``float`` and ``bool`` of an array,
a mask as an index. Kernels in CUDA are compiled for the host and run there (``cuda_emulation``).
Streams and their errors are in ``simulated_streams``, graphs and allocators in
``simulated_cuda``, cuBLAS in ``simulated_blas``. Memory ends where a test wants it to
(``memory``), and matrix products are in TF32 where CuPy's would be.
What it cannot show is CUDA itself: its compiler's code, its memory, other rounding.
"""

from __future__ import annotations

import contextlib
import json
import operator
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.fft

import simulated_blas
import simulated_cuda
import simulated_streams as streams
from cuda_emulation import RawModule
from dagnet.backend import _begin_without_tf32, _constant
from layers.kernels.cuda import blas
from layers.kernels.cuda.launch import cuda_module, usable
from simulated_cuda import capturing, compute, refuse
from simulated_device import (
    Device,
    OutOfMemoryError,
    Precision,
    Transfers,
    memory,
    precision,
    to_tf32,
    transfers,
)

FUNCTIONS = json.loads(Path(__file__).with_name("cupy_functions.json").read_text())
UFUNC_OPTIONS = ("out", "dtype", "casting")
UFUNC_METHODS = ("accumulate", "at", "outer", "reduce", "reduceat")
# Functions that take arrays of the host: they carry them to the device.
UPLOADS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
# The number of what they return depends on values, so the host has to wait for these.
WAITING = ("nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress")
# Functions that write to their first argument and return nothing.
WRITING = ("copyto", "fill", "put", "putmask", "place", "sort", "partition", "at")
# What CuPy does with cuBLAS, which it refuses to call while a stream captures.
PRODUCTS = ("dot", "einsum", "inner", "matmul", "outer", "tensordot", "vdot")
# Of more arrays than this CuPy sends the addresses over.
JOINING = ("concatenate", "hstack", "stack", "vstack")
JOINED_AT_MOST = 8
# CuPy's ways to add to cells named twice, which are methods of its arrays.
SCATTER = {"scatter_add": np.add, "scatter_max": np.maximum, "scatter_min": np.minimum}


def _wait() -> None:
    """The host waits for the device."""
    refuse("waiting for values")
    transfers.to_host += 1


def _send(count: int = 1) -> None:
    """The host sends arrays to the device."""
    if count:
        refuse("sending values of the host")
    transfers.to_device += count


class ndarray:
    """An array of the device: a NumPy array that only functions of the device may touch."""

    __slots__ = ("_host",)
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host: np.ndarray):
        self._host = host

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = getattr(module(), ufunc.__name__)
        return (function if method == "__call__" else getattr(function, method))(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return getattr(module(), function.__name__)(*args, **kwargs)

    def __getattr__(self, name):
        described = FUNCTIONS["ndarray"].get(name)
        if described is None:
            raise AttributeError(f"CuPy's arrays have no attribute {name!r}")
        if name in SCATTER:
            return lambda cells, value: compute(
                SCATTER[name].at, (self._host, bare(cells), bare(value)), {}, writes=True
            )
        if described == "value":
            value = getattr(self._host, name)
            return wrap(value) if isinstance(value, np.ndarray) else value
        return partial(Function(f"ndarray.{name}", getattr(np.ndarray, name), described), self)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._host.ctypes.data)

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        _wait()
        streams.used(self._host)
        if out is None:
            return self._host.copy()
        if out.shape != self._host.shape or out.dtype != self._host.dtype:
            raise TypeError(f"out must be {self._host.shape} {self._host.dtype}, as the array is")
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if arr.shape != self._host.shape or arr.dtype != self._host.dtype:
            raise ValueError(f"arr must be {self._host.shape} {self._host.dtype}, as the array is")
        _send()
        streams.copied(self._host, arr, stream)

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __index__(self):
        return operator.index(self.get())

    def __complex__(self):
        return complex(self.get())

    def __bool__(self):
        return bool(self.get())

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self._host)))

    def __repr__(self):
        return f"simulated {self._host!r}"

    def __getitem__(self, place):
        if _has_mask(place):
            _wait()
        return wrap(compute(operator.getitem, (self._host, _index(place)), {}))

    def __setitem__(self, place, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if _has_mask(place) and np.ndim(bare(value)):
            _wait()
        streams.used(self._host)
        given = (self._host, _index(place), bare(value))
        compute(operator.setitem, given, {}, writes=True)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return wrap, (self.get(),)


ndarray.__module__ = "cupy"


def _index(place: Any) -> Any:
    """CuPy takes arrays of the host as indices, and sends them over."""
    parts = place if isinstance(place, tuple) else (place,)
    _send(sum(isinstance(p, (np.ndarray, list)) for p in parts))
    return bare(place, host_allowed=True)


def _has_mask(place: Any) -> bool:
    parts = place if isinstance(place, tuple) else (place,)
    return any(isinstance(p, ndarray) and p.dtype == bool for p in parts)


def bare(value: Any, host_allowed: bool = False) -> Any:
    """What NumPy computes with: device arrays, in containers too, as their arrays."""
    if isinstance(value, ndarray):
        streams.used(value._host)
        return value._host
    if isinstance(value, np.ndarray) and not host_allowed:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(bare(v, host_allowed) for v in value)
    if isinstance(value, dict):
        return {name: bare(v, host_allowed) for name, v in value.items()}
    return value


def wrap(value: Any) -> Any:
    """Results of NumPy as arrays of the device; a number of an array has no axes there."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.base is None:
            memory.take(array.nbytes)
            streams.made(array)
        return ndarray(array)
    if isinstance(value, (tuple, list)):
        return type(value)(wrap(v) for v in value)
    return value


class Function:
    """One of CuPy's functions: it takes no arrays of the host and returns none."""

    def __init__(self, name: str, function: Any, described: Any):
        self.name, self._function, self._described = name, function, described
        self.__name__ = name.rpartition(".")[2]

    def __call__(self, *args, **kwargs):
        described = UFUNC_OPTIONS if self._described == "ufunc" else self._described
        if described != "any" and (unknown := set(kwargs) - set(described)):
            raise TypeError(f"{self.name} of CuPy has no arguments {sorted(unknown)}")
        # ``blocking`` and the like are about the device alone.
        kwargs = {k: v for k, v in kwargs.items() if k not in ("blocking", "stream")}
        uploads = self.__name__ in UPLOADS
        if uploads and not isinstance(args[0], ndarray):
            # Numbers are sent too, but cost the host nothing.
            _send(isinstance(args[0], np.ndarray))
            refuse("sending values of the host")
        if self.__name__ in WAITING:
            _wait()
        if capturing() is not None:
            self._check_captured(args)
        if self.name.startswith("cupyx.scipy.fft.") and isinstance(args[0], ndarray):
            settings = {k: v for k, v in kwargs.items() if k != "overwrite_x"}
            simulated_cuda.plans.use((self.name, args[0].shape, args[0].dtype.char, str(settings)))
            if simulated_cuda.is_placing():
                # SciPy may return the array that it was given, with other values.
                kwargs = settings
        given = bare(args, uploads)
        if self.__name__ == "matmul" and _are_single(given) and precision.is_tf32(given[0].ndim):
            given = tuple(map(to_tf32, given))
        result = compute(self._function, given, bare(kwargs), self.__name__ in WRITING)
        if kwargs.get("out") is not None:
            return kwargs["out"]
        if uploads and result is args[0]:
            # An array of the host and its copy on a device never share memory.
            result = result.copy()
        return wrap(result)

    def _check_captured(self, args: tuple) -> None:
        """Refuse what CuPy cannot do while a stream captures."""
        if self.__name__ in PRODUCTS or self.name.startswith("cupy.linalg."):
            refuse("calling cuBLAS by CuPy", NotImplementedError)
        if self.name.startswith("cupy.random."):
            refuse("drawing random numbers by CuPy", NotImplementedError)
        if self.__name__ in JOINING and len(args[0]) > JOINED_AT_MOST:
            refuse("sending the addresses of arrays that are joined")

    def __getattr__(self, name):
        if self._described != "ufunc" or name not in UFUNC_METHODS:
            raise AttributeError(f"{self.name} of CuPy has no {name!r}")
        return Function(f"{self.name}.{name}", getattr(self._function, name), "any")


def _are_single(arrays: Any) -> bool:
    return all(array.dtype == np.float32 for array in arrays)


class Library:
    """A module of CuPy: NumPy's or SciPy's of the same name, with CuPy's functions alone."""

    def __init__(self, name: str, original: Any, parts: dict[str, Any] | None = None):
        self.__name__ = name
        self._original, self._described = original, FUNCTIONS[name]
        self.__dict__.update(parts or {})

    def __getattr__(self, name):
        described = self._described.get(name)
        if described is None:
            raise AttributeError(f"{self.__name__} has no attribute {name!r}")
        value = getattr(self._original, name)
        if described in ("type", "value"):
            return value
        return Function(f"{self.__name__}.{name}", value, described)


class CUDARuntimeError(RuntimeError):
    """CuPy's error of the driver."""

    __module__ = "cupy_backends.cuda.api.runtime"


def module() -> Any:
    """The simulated ``cupy`` that is installed."""
    return sys.modules["cupy"]


def _modules() -> dict[str, Any]:
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: 1,
            memGetInfo=lambda: (memory.free, memory.total),
            runtimeGetVersion=lambda: 12090,
        ),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        Device=Device,
        Event=streams.Event,
        Graph=simulated_cuda.Graph,
        Memory=simulated_cuda.Memory,
        MemoryPointer=simulated_cuda.MemoryPointer,
        Stream=simulated_cuda.Stream,
        UnownedMemory=simulated_cuda.UnownedMemory,
        get_allocator=simulated_cuda.get_allocator,
        using_allocator=simulated_cuda.using_allocator,
        get_current_stream=streams.get_current_stream,
        get_cublas_handle=threading.get_ident,
        cublas=SimpleNamespace(
            CUBLAS_DEFAULT_MATH=Precision.DEFAULT_MATH,
            CUBLAS_TF32_TENSOR_OP_MATH=Precision.TF32_MATH,
            setMathMode=precision.set_mode,
        ),
    )
    core = SimpleNamespace(
        set_compute_type=precision.set_compute_type,
        get_compute_type=precision.get_compute_type,
        _routines_linalg=SimpleNamespace(
            COMPUTE_TYPE_DEFAULT=Precision.DEFAULT, COMPUTE_TYPE_TF32=Precision.TF32
        ),
    )
    tricks = Library("cupy.lib.stride_tricks", np.lib.stride_tricks)
    cupy = Library(
        "cupy",
        np,
        {
            "ndarray": ndarray,
            "cuda": cuda,
            "_core": core,
            "fft": SimpleNamespace(
                config=SimpleNamespace(get_plan_cache=lambda: simulated_cuda.plans)
            ),
            "linalg": Library("cupy.linalg", np.linalg),
            "random": Library("cupy.random", np.random),
            "lib": SimpleNamespace(stride_tricks=tricks),
            "RawModule": RawModule,
            "get_default_memory_pool": lambda: SimpleNamespace(free_all_blocks=lambda: None),
            "asnumpy": lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a),
        },
    )
    fft = Library("cupyx.scipy.fft", scipy.fft)
    cupyx, within = ModuleType("cupyx"), ModuleType("cupyx.scipy")
    cupyx.scipy, within.fft = within, fft
    cupyx.empty_pinned = streams.empty_pinned
    return {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": within, "cupyx.scipy.fft": fft}


@contextlib.contextmanager
def installed() -> Iterator[Transfers]:
    """Within the block ``import cupy`` gives the simulation; yields its count, set to 0."""
    modules = _modules()
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    _forget_kernels()
    _begin_anew()
    load, blas.load_library = blas.load_library, simulated_blas.Library
    try:
        yield transfers
    finally:
        blas.load_library = load
        _forget_kernels()
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def _begin_anew() -> None:
    transfers.to_host = transfers.to_device = 0
    memory.__init__()
    precision.__init__()
    streams.forget()
    simulated_cuda.plans.__init__()


def _forget_kernels() -> None:
    """Kernels and constants are one library's, the simulated or the real one."""
    _begin_without_tf32.cache_clear()
    _constant.cache_clear()
    cuda_module.cache_clear()
    usable.cache_clear()
    blas.library.cache_clear()


def _binary(symbol: str, ufunc: str) -> None:
    def forward(self, other):
        return getattr(module(), ufunc)(self, other)

    def reflected(self, other):
        return getattr(module(), ufunc)(other, self)

    def inplace(self, other):
        getattr(module(), ufunc)(self, other, out=self)
        return self

    setattr(ndarray, f"__{symbol}__", forward)
    setattr(ndarray, f"__r{symbol}__", reflected)
    setattr(ndarray, f"__i{symbol}__", inplace)


for _symbol, _ufunc in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "matmul": "matmul",
}.items():
    _binary(_symbol, _ufunc)


def _compare(symbol: str, ufunc: str) -> None:
    setattr(ndarray, f"__{symbol}__", lambda self, other: getattr(module(), ufunc)(self, other))


for _symbol, _ufunc in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    _compare(_symbol, _ufunc)


def _unary(symbol: str, ufunc: str) -> None:
    setattr(ndarray, f"__{symbol}__", lambda self: getattr(module(), ufunc)(self))


for _symbol, _ufunc in {
    "neg": "negative",
    "pos": "positive",
    "abs": "absolute",
    "invert": "invert",
}.items():
    _unary(_symbol, _ufunc)
