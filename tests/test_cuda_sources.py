"""The kernels in CUDA compile, and the emulation that runs them here is as strict as it says."""

import shutil
import subprocess
from importlib.util import find_spec

import numpy as np
import pytest

import cuda_emulation
import simulated_cupy
from layers.kernels.cuda.launch import FOLDER, TYPES, options, source

SOURCES = sorted(path.stem for path in FOLDER.glob("*.cu"))
ARCHITECTURES = ("80", "90")
NVCC = shutil.which("nvcc")


def test_every_source_is_used():
    wrappers = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    assert SOURCES and all(f'"{name}"' in wrappers for name in SOURCES)


@pytest.mark.skipif(NVCC is None, reason="needs nvcc, of the CUDA toolkit")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SOURCES)
def test_nvcc_compiles_a_source_without_a_warning(name, dtype, tmp_path):
    path = tmp_path / f"{name}.cu"
    path.write_text(source(name))
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    command = [NVCC, "-fatbin", *targets, "-Werror", "all-warnings", *options(dtype)]
    run = subprocess.run(
        [*command, str(path), "-o", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(find_spec("cupy") is None, reason="needs CuPy, which brings NVRTC")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SOURCES)
def test_the_compiler_that_cupy_uses_compiles_a_source(name, dtype):
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source(name), f"{name}.cu", [], [])
    try:
        for architecture in ARCHITECTURES:
            target = f"--gpu-architecture=sm_{architecture}"
            nvrtc.compileProgram(program, [target, *options(dtype)])
    except nvrtc.NVRTCError as exc:
        raise AssertionError(nvrtc.getProgramLog(program)) from exc


EXCHANGE = """
extern "C" __global__ void exchange(int* cells, long long barrier, long long last) {
    __shared__ int kept[8];
    kept[threadIdx.x] = cells[blockIdx.x * blockDim.x + threadIdx.x];
    if (barrier && threadIdx.x < last) __syncthreads();
    cells[blockIdx.x * blockDim.x + threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}
"""


@pytest.fixture
def exchange():
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    module = cuda_emulation.RawModule(code=EXCHANGE, options=("-DREAL=float",))
    return module.get_function("exchange")


def device_array(values):
    return simulated_cupy.wrap(np.array(values, np.int32))


def test_threads_read_behind_a_barrier_what_others_wrote_before_it(exchange):
    cells = device_array([1, 2, 3, 4, 5, 6, 7, 8])
    exchange((2,), (4,), (cells, 1, 4))
    assert cells.get().tolist() == [4, 3, 2, 1, 8, 7, 6, 5]


def test_a_missing_barrier_gives_wrong_results(exchange):
    cells = device_array([1, 2, 3, 4])
    exchange((1,), (4,), (cells, 0, 4))
    assert cells.get().tolist() != [4, 3, 2, 1]


@pytest.mark.parametrize("last", [1, 3])
def test_a_barrier_that_some_threads_do_not_reach_is_an_error(exchange, last):
    with pytest.raises(RuntimeError, match="barrier"):
        exchange((1,), (4,), (device_array([1, 2, 3, 4]), 1, last))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (lambda: (device_array([1]), 0), "takes 3"),
        (lambda: (device_array([1]), 0.0, 1), "long long"),
        (lambda: (simulated_cupy.wrap(np.ones(1)), 0, 1), "needs int32"),
        (lambda: (None, 0, 1), "an array or 0"),
        (lambda: (device_array([[1, 2], [3, 4]]).T, 0, 1), "C order"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(exchange, arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        exchange((1,), (1,), arguments())


def test_a_source_that_does_not_compile_leaves_the_operations_to_cupy(monkeypatch):
    from layers.kernels.cuda import launch as module

    monkeypatch.setattr(module, "source", lambda name: "nonsense")
    with simulated_cupy.installed(), pytest.warns(UserWarning, match="DSIAM_CUDA=0"):
        assert not module.usable()


def test_the_switch_leaves_the_operations_to_cupy(monkeypatch):
    from layers.kernels.cuda import launch as module

    monkeypatch.setenv(module.SWITCH, "0")
    with simulated_cupy.installed():
        assert not module.usable()
