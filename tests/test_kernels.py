"""Tests of layers.kernels: the choice of a kernel, and the windows that kernels share."""

import numpy as np
import pytest

from dagnet import ShapeError
from layers.kernels import Kernel, choose, register, registered, registry
from layers.kernels.windows import output_size, span


@pytest.fixture
def operation(monkeypatch):
    """The name of an operation without kernels; what a test registers is forgotten."""
    monkeypatch.setattr(registry, "_KERNELS", {"conv": list(registered("conv"))})
    return "test operation"


def kernel(name, **options):
    return Kernel(name, forward=lambda: name, backward=lambda: name, **options)


def test_the_kernel_of_the_highest_rank_that_fits_is_chosen(operation):
    register(operation, kernel("reference"))
    register(operation, kernel("single", dtypes=("float32",), backend="numpy", rank=1))
    register(operation, kernel("gpu", backend="cupy", rank=2))
    assert choose(operation, np.zeros(1, np.float32)).name == "single"
    assert choose(operation, np.zeros(1)).name == "reference"
    assert [k.name for k in registered(operation)] == ["reference", "single", "gpu"]


@pytest.mark.parametrize(
    "second",
    [
        kernel("reference", rank=5),
        kernel("other"),
        kernel("other", backend="numpy"),
        kernel("other", dtypes=("float64",)),
    ],
)
def test_a_kernel_that_would_leave_the_choice_open_is_refused(operation, second):
    register(operation, kernel("reference"))
    with pytest.raises(ValueError, match="another name and rank"):
        register(operation, second)


def test_kernels_of_one_rank_for_different_arrays_live_together(operation):
    register(operation, kernel("cpu", backend="numpy"))
    register(operation, kernel("gpu", backend="cupy"))
    register(operation, kernel("single", backend="numpy", dtypes=("float32",), rank=1))
    register(operation, kernel("double", backend="numpy", dtypes=("float64",), rank=1))
    assert choose(operation, np.zeros(1)).name == "double"


def test_no_kernel_is_an_error_that_lists_the_operations(operation):
    register(operation, kernel("gpu", backend="cupy"))
    with pytest.raises(LookupError, match=r"float64 arrays of numpy.*conv, test operation"):
        choose(operation, np.zeros(1))


@pytest.mark.parametrize("length", [1, 4, 7])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("before", [0, 1, 4])
def test_a_span_is_what_lies_inside(length, size, stride, before):
    after = max(0, size - length - before)
    count = output_size((length, 1), (size, 1), (stride, 1), (before, after, 0, 0))[0]
    for offset in range(size):
        outputs, inputs = span(offset, length, count, stride, before)
        pairs = [(r, r * stride + offset - before) for r in range(count)]
        inside = [(r, p) for r, p in pairs if 0 <= p < length]
        assert list(range(count))[outputs] == [r for r, _ in inside]
        assert list(range(length))[inputs] == [p for _, p in inside]


def test_a_window_larger_than_its_padded_input_is_refused():
    assert output_size((4, 3), (5, 3), (1, 1), (1, 0, 0, 0)) == (1, 1)
    with pytest.raises(ShapeError, match=r"5x4.*5x3"):
        output_size((4, 3), (5, 4), (1, 1), (1, 0, 0, 0))
