"""Tests of the compiled convolutions: against the plain layer and NumPy's kernels."""

import numpy as np
import pytest

from compiled_kernels import ROUNDING, SINGLE, errors, needs_numba, with_workers
from layers.conv import conv, conv_backward
from layers.kernels import compiled
from layers.kernels.compiled import winograd
from layers.kernels.geometry import ConvGeometry
from layers.kernels.maps import fill_maps, from_maps
from layers.kernels.rows import RowsConv
from layers.kernels.winograd import WinogradConv

pytestmark = needs_numba

# channels, filters, groups, side of the filters, stride, pad, height, width, samples
WINOGRAD = [
    (16, 16, 1, 3, 1, (0, 0, 0, 0), 6, 6, 1),
    (32, 48, 1, 3, 1, (0, 0, 0, 0), 9, 14, 2),
    (64, 32, 2, 3, 1, (1, 2, 0, 1), 7, 10, 3),
    (32, 32, 1, 3, 1, (1, 1, 1, 1), 1, 2, 2),
    (32, 64, 2, 5, 1, (0, 0, 0, 0), 17, 19, 2),
    (48, 16, 1, 5, 1, (2, 1, 2, 0), 6, 13, 1),
]
DIRECT = [
    (3, 96, 1, 11, 2, (0, 0, 0, 0), 31, 38, 2),
    (3, 144, 1, 7, 2, (3, 2, 1, 0), 23, 20, 2),
    (1, 16, 1, 5, 1, (0, 0, 0, 0), 5, 6, 3),
    (4, 64, 2, 3, 3, (0, 1, 0, 1), 9, 8, 1),
    (3, 48, 1, 4, 2, (0, 0, 0, 0), 4, 60, 1),
]
CASES = [*WINOGRAD, *DIRECT]


def kernel_class(channels):
    return compiled.CompiledWinograd if channels >= 16 else compiled.DirectConv


class Problem:
    """A convolution with inputs, filters and derivatives by the output, in double precision."""

    def __init__(self, channels, out, groups, side, stride, pad, height, width, samples):
        rng = np.random.default_rng(channels + height)
        self.stride, self.pad = (stride, stride), pad
        self.geometry = ConvGeometry(
            channels, out, groups, (side, side), self.stride, pad, (1, 1), height, width
        )
        self.kernel_class = kernel_class(channels // groups)
        self.x = rng.standard_normal((samples, channels, height, width))
        self.filters = rng.standard_normal((out, channels // groups, side, side))
        self.der_y = rng.standard_normal((samples, out, *self.geometry.out_size))

    def by_layer(self):
        """Output, and derivatives by input and filters, of the plain layer."""
        options = {"stride": self.stride, "pad": self.pad}
        y = conv(self.x, self.filters, **options)
        der_x, der_filters, _ = conv_backward(self.x, self.filters, None, self.der_y, **options)
        return y, der_x, der_filters

    def by_kernel(self, cls, wanted=True):
        """The same of a kernel in single precision; memory it may not read holds NaN."""
        kernel, n = cls(self.geometry, SINGLE), len(self.x)
        maps = np.full(kernel.input_layout.shape(n), np.nan, SINGLE)
        fill_maps(self.x, kernel.input_layout, maps)
        weights = kernel.prepare(self.filters.astype(SINGLE))
        y = np.full(kernel.output_layout.shape(n), np.nan, SINGLE)
        kernel.forward(maps, weights, y)
        der_y = np.full_like(y, np.nan)
        fill_maps(self.der_y, kernel.output_layout, der_y)
        der_maps = np.full_like(maps, np.nan) if wanted else None
        part = kernel.backward(maps, weights, der_y, der_maps)
        der_x = from_maps(der_maps, kernel.input_layout) if wanted else None
        return from_maps(y, kernel.output_layout), der_x, kernel.finish(part)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rounding_errors_are_those_of_numpys_kernel(case):
    problem = Problem(*case)
    assert problem.kernel_class.takes(problem.geometry, SINGLE)
    exact = problem.by_layer()
    own = errors(problem.by_kernel(problem.kernel_class), exact)
    plain = WinogradConv if problem.kernel_class is compiled.CompiledWinograd else RowsConv
    others = errors(problem.by_kernel(plain), exact)
    for error, other in zip(own, others):
        assert error < 3 * other + 4 * ROUNDING


@pytest.mark.parametrize("case", [WINOGRAD[2], WINOGRAD[4], DIRECT[0], DIRECT[3]], ids=str)
def test_workers_change_no_bit(case):
    problem = Problem(*case)
    alone, helped = (
        with_workers(lambda: problem.by_kernel(problem.kernel_class), workers) for workers in (1, 2)
    )
    for a, b in zip(alone, helped):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", [WINOGRAD[1], DIRECT[0]], ids=str)
def test_filters_have_their_derivative_where_nobody_asks_for_the_inputs(case):
    problem = Problem(*case)
    _, der_x, der_filters = problem.by_kernel(problem.kernel_class, wanted=False)
    assert der_x is None
    np.testing.assert_array_equal(der_filters, problem.by_kernel(problem.kernel_class)[2])


@pytest.mark.parametrize("case", [WINOGRAD[1], DIRECT[0]], ids=str)
def test_parts_of_inputs_of_several_sizes_add_up(case):
    larger = (*case[:6], case[6] + 5, case[7] + 3, 1)
    problems = [Problem(*case), Problem(*larger)]
    problems[1].filters = problems[0].filters
    cls = problems[0].kernel_class
    total = sum(p.by_kernel(cls)[2] for p in problems)
    exact = sum(p.by_layer()[2] for p in problems)
    assert errors([total], [exact])[0] < 100 * ROUNDING


@pytest.mark.parametrize("case", [WINOGRAD[1], DIRECT[0]], ids=str)
def test_nan_reaches_every_output_that_sees_it(case):
    problem = Problem(*case)
    problem.x[0, 0, 3, 4] = np.nan
    y, _, der_filters = problem.by_kernel(problem.kernel_class)
    seen = np.isnan(problem.by_layer()[0])
    assert seen.any() and np.isnan(y[seen]).all()
    assert np.isnan(der_filters[:, 0]).any()
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize("case", [WINOGRAD[0], DIRECT[0]], ids=str)
def test_arrays_of_another_kind_are_refused(case):
    problem = Problem(*case)
    kernel = problem.kernel_class(problem.geometry, SINGLE)
    maps = np.zeros(kernel.input_layout.shape(1), SINGLE)
    y = np.zeros(kernel.output_layout.shape(1), SINGLE)
    weights = kernel.prepare(problem.filters.astype(SINGLE))
    with pytest.raises(ValueError, match="float32"):
        kernel.forward(maps.astype(np.float64), weights, y)
    with pytest.raises(ValueError, match="shape"):
        kernel.forward(maps[..., 1:, :], weights, y)
    with pytest.raises(ValueError, match="contiguous"):
        kernel.forward(maps, weights, y.transpose(0, 1, 3, 2, 4))


def test_other_convolutions_are_left_to_numpy():
    def takes(*sizes, dilate=(1, 1), dtype=SINGLE):
        channels, out, groups, side, stride = sizes
        geometry = ConvGeometry(
            channels, out, groups, (side, side), (stride, stride), (0, 0, 0, 0), dilate, 32, 32
        )
        kinds = compiled.CompiledWinograd, compiled.DirectConv
        for kind in kinds:
            if not kind.takes(geometry, dtype):
                with pytest.raises(ValueError, match=kind.__name__):
                    kind(geometry, dtype)
        return [kind.takes(geometry, dtype) for kind in kinds]

    assert takes(16, 16, 1, 3, 1) == [True, True]
    assert takes(3, 96, 1, 11, 2) == [False, True]
    assert takes(3, 96, 1, 11, 2, dtype=np.dtype(np.float64)) == [False, False]
    assert takes(256, 256, 1, 3, 1, dtype=np.dtype(np.float64)) == [False, False]
    assert takes(256, 256, 1, 3, 2) == [False, False]
    assert takes(24, 32, 1, 3, 1) == [False, True]
    assert takes(56, 32, 1, 3, 1) == [False, False]
    assert takes(32, 24, 1, 3, 1) == [False, False]
    assert takes(32, 32, 1, 3, 1, dilate=(2, 2)) == [False, False]
    assert takes(3, 32, 1, 3, 1, dilate=(2, 2)) == [False, False]


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_filters_are_transformed_as_numpy_does_in_double_precision(case):
    problem = Problem(*case)
    own = compiled.CompiledWinograd(problem.geometry, SINGLE)
    exact = WinogradConv(problem.geometry, np.dtype(np.float64))
    filters = problem.filters.astype(SINGLE)
    weights = own.prepare(filters)
    expected = exact.prepare(filters.astype(np.float64))
    assert errors([weights.array], [expected])[0] < 4 * ROUNDING
    np.testing.assert_array_equal(weights.transposed, weights.array.transpose(0, 1, 3, 2))
    # Asked for to and fro, both orders stay.
    assert weights.array is weights.array and weights.transposed is weights.transposed
    part = np.random.default_rng(0).standard_normal(expected.shape).astype(SINGLE)
    finished = exact.finish(part.astype(np.float64))
    assert errors([own.finish(part)], [finished])[0] < 8 * ROUNDING


@pytest.mark.parametrize("lines", [3, 4, 7])
def test_tiles_are_computed_in_chunks_that_end_anywhere(monkeypatch, lines):
    problem = Problem(32, 32, 2, 3, 1, (0, 0, 0, 0), 21, 18, 3)
    cls = compiled.CompiledWinograd
    line = 36 * 4 * (32 + 32) * SINGLE.itemsize
    monkeypatch.setattr(winograd, "FORWARD_BYTES", lines * line)
    monkeypatch.setattr(winograd, "BACKWARD_BYTES", lines * line)
    chunks = cls(problem.geometry, SINGLE)._chunks(3, lines * line)
    assert len(chunks) == 15 // lines
    alone, helped = (with_workers(lambda: problem.by_kernel(cls), workers) for workers in (1, 2))
    exact = problem.by_layer()
    others = errors(problem.by_kernel(WinogradConv), exact)
    for a, b, expected, other in zip(alone, helped, exact, others):
        np.testing.assert_array_equal(a, b)
        assert errors([a], [expected])[0] < 3 * other + 4 * ROUNDING
