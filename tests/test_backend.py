"""Tests of dagnet.backend. A stand-in for CuPy shows the ways that need no GPU; the GPU's own
tests need CuPy."""

import sys
import types

import numpy as np
import pytest
import scipy.fft

from dagnet import (
    BackendError,
    DagNN,
    asnumpy,
    check_device,
    get_array_module,
    get_fft_module,
    memory_shortage,
    to_device,
)
from dagnet.arena import _piece
from dagnet.backend import tree_to_device
from dagnet.shortage import is_of_gpu, requested_bytes


class FakeArray:
    """An array that stands for one of CuPy's."""

    __module__ = "cupy"
    dtype = np.dtype(float)

    def __init__(self, array):
        self.array = np.asarray(array)

    def get(self):
        return self.array


@pytest.fixture
def fake_cupy(monkeypatch):
    """A module ``cupy`` with one device; its attributes can be changed."""
    cupy = types.ModuleType("cupy")
    runtime = types.SimpleNamespace(
        CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}),
        getDeviceCount=lambda: 1,
    )
    cupy.cuda = types.SimpleNamespace(runtime=runtime)
    cupy._core = types.SimpleNamespace(
        set_compute_type=lambda dtype, compute_type: None,
        _routines_linalg=types.SimpleNamespace(COMPUTE_TYPE_DEFAULT=1),
    )
    cupy.asarray = lambda a: a if isinstance(a, FakeArray) else FakeArray(a)
    fft = types.ModuleType("cupyx.scipy.fft")
    scipy_like = types.ModuleType("cupyx.scipy")
    scipy_like.fft = fft
    cupyx = types.ModuleType("cupyx")
    cupyx.scipy = scipy_like
    for name, module in {
        "cupy": cupy,
        "cupyx": cupyx,
        "cupyx.scipy": scipy_like,
        "cupyx.scipy.fft": fft,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return cupy


def test_numpy_is_the_module_of_everything_that_is_not_cupys():
    assert get_array_module() is np
    assert get_array_module(np.zeros(2), None, 3.0) is np
    assert get_fft_module(np.zeros(2)) is scipy.fft


def test_one_cupy_array_among_the_arguments_decides(fake_cupy):
    assert get_array_module(np.zeros(2), FakeArray([1])) is fake_cupy
    assert get_fft_module(FakeArray([1])) is sys.modules["cupyx.scipy.fft"]


def test_arrays_travel_and_nothing_stays_nothing(fake_cupy):
    there = to_device(np.array([1.0]), "gpu")
    assert isinstance(there, FakeArray)
    assert asnumpy(there) is there.array and to_device(there, "cpu") is there.array
    assert to_device(None, "gpu") is None and to_device(None, "cpu") is None


def test_trees_travel_with_their_containers(fake_cupy):
    tree = {"sum": np.array([2.0]), "steps": 3, "pair": (np.array(1.0), [None, "a"])}
    there = tree_to_device(tree, "gpu")
    assert isinstance(there["sum"], FakeArray) and isinstance(there["pair"][0], FakeArray)
    assert there["steps"] == 3 and there["pair"][1] == [None, "a"]
    assert isinstance(there["pair"], tuple)
    back = tree_to_device(there, "cpu")
    assert back["sum"].tolist() == [2.0] and back["pair"][0] == 1.0
    assert tree == {"sum": tree["sum"], "steps": 3, "pair": tree["pair"]}


def test_an_unknown_device_is_refused():
    with pytest.raises(BackendError, match=r"device must be one of \('cpu', 'gpu'\), .* 'cuda'"):
        check_device("cuda")
    assert check_device("cpu") == "cpu"


def test_without_cupy_the_device_gpu_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r"needs CuPy.*pip install 'dsiam\[cuda12\]'"):
        check_device("gpu")


def test_a_driver_that_cannot_be_used_is_told(fake_cupy):
    runtime = fake_cupy.cuda.runtime

    def fail():
        raise runtime.CUDARuntimeError("cudaErrorNoDevice")

    runtime.getDeviceCount = fail
    with pytest.raises(BackendError, match=r"driver cannot be used \(cudaErrorNoDevice\).*nvidia"):
        check_device("gpu")
    runtime.getDeviceCount = lambda: 0
    with pytest.raises(BackendError, match="the CUDA driver reports no device; use device 'cpu'"):
        DagNN().move("gpu")
    runtime.getDeviceCount = lambda: 1
    assert check_device("gpu") == "gpu"


def test_what_is_used_of_cupy_beside_its_arrays_exists():
    """The stand-in has these by hand; where CuPy is installed they are looked for."""
    cupy = pytest.importorskip("cupy")
    import cupyx

    core = cupy._core
    core.set_compute_type("float32", core._routines_linalg.COMPUTE_TYPE_DEFAULT)
    assert core.get_compute_type("float32") == 1 and core._routines_linalg.COMPUTE_TYPE_TF32 == 7
    for owner, names in (
        (cupy, ("get_default_memory_pool",)),
        (cupy.cuda, ("Device", "get_cublas_handle", "get_current_stream")),
        (cupy.cuda, ("Memory", "MemoryPointer", "UnownedMemory", "get_allocator")),
        (cupy.cuda, ("using_allocator",)),
        (cupy.cuda.Graph, ("launch",)),
        (cupy.cuda.Stream, ("record", "wait_event", "synchronize", "__enter__")),
        (cupy.cuda.Stream, ("begin_capture", "end_capture")),
        (cupy.fft.config, ("get_plan_cache",)),
        (cupy.cuda.Event, ("done",)),
        (cupy.cuda.Device, ("compute_capability",)),
        (cupy.cuda.runtime, ("memGetInfo", "runtimeGetVersion")),
        (cupyx, ("empty_pinned",)),
    ):
        assert all(hasattr(owner, name) for name in names)
    # Memory of an arena tells when no array has it any more.
    gone = []
    piece = _piece(cupy.cuda.UnownedMemory)(4096, 100, None, 0, lambda: gone.append(1))
    array = cupy.ndarray((3,), "f4", memptr=cupy.cuda.MemoryPointer(piece, 0))
    part = array[1:]
    del piece, array
    assert part.data.ptr == 4100 and not gone
    del part
    assert gone == [1]
    error = cupy.cuda.memory.OutOfMemoryError(512, 2048, 4096)
    assert memory_shortage(error) == str(error) and is_of_gpu(error)
    assert requested_bytes(error) == 512
    driver = cupy.cuda.runtime.CUDARuntimeError(2)
    assert memory_shortage(driver) and is_of_gpu(driver) and requested_bytes(driver) is None
