"""Tests of the compiled activation: against the plain layers and NumPy's kernel."""

import numpy as np
import pytest

from compiled_kernels import ROUNDING, SINGLE, errors, needs_numba, with_workers
from layers.kernels import compiled
from layers.kernels.activation import Activation, RowActivation
from layers.kernels.maps import MapLayout, fill_maps, from_maps
from layers.pooling import max_pool, max_pool_backward
from layers.relu import relu, relu_backward

pytestmark = needs_numba

ACTIVATIONS = [
    Activation(),
    Activation(relu=True),
    Activation(relu=True, leak=0.1),
    Activation(relu=True, pool=((3, 3), (2, 2))),
    Activation(relu=True, leak=0.1, pool=((3, 3), (2, 2))),
    Activation(pool=((2, 3), (1, 2))),
    Activation(relu=True, pool=((2, 2), (3, 3))),
]
# samples, channels, groups of y, groups of the maps, height, width
SIZES = [(1, 16, 1, 1, 7, 7), (2, 32, 1, 2, 11, 14), (3, 96, 2, 1, 8, 9)]


class Problem:
    """Values after a convolution, and the derivative by what is made of them."""

    def __init__(self, sizes, activation, seed=0, whole=False):
        self.samples, channels, groups_y, groups_maps, height, width = sizes
        self.activation = activation
        out = activation.output_size(height, width)
        self.layout_y = MapLayout(channels, groups_y, height + 3, width + 2, 0, 0, height, width)
        self.layout_maps = MapLayout(channels, groups_maps, out[0] + 3, out[1] + 2, 1, 1, *out)
        self.rng = np.random.default_rng(seed)
        shape = (self.samples, channels)
        draw = self.whole_numbers if whole else self.rng.standard_normal
        self.y = draw((*shape, height, width))
        self.der = draw((*shape, *out))
        self.scale = np.sign(self.rng.standard_normal(shape)) if whole else draw(shape)
        self.shift, self.mean, self.a, self.b = (draw(shape) for _ in range(4))

    def whole_numbers(self, shape):
        """Few small ones, so that many are equal and sums are exact."""
        return self.rng.integers(-2, 3, shape).astype(float)

    def by_layers(self):
        """Output, both sums and the derivative by ``y``, of the plain layers."""

        def column(v):
            return v[:, :, None, None]

        z = self.y * column(self.scale) + column(self.shift)
        kind = self.activation
        output = rectified = relu(z, kind.leak) if kind.relu else z
        dz = self.der
        if kind.pool is not None:
            size, stride = kind.pool
            output, winners = max_pool(rectified, size, stride=stride)
            dz = max_pool_backward(dz, winners, z.shape[2:], size, stride=stride)
        if kind.relu:
            dz = relu_backward(rectified, dz, kind.leak)
        s1 = dz.sum(axis=(2, 3))
        s2 = (dz * (self.y - column(self.mean))).sum(axis=(2, 3))
        return output, s1, s2, dz * column(self.scale) + column(self.a) + column(self.b) * self.y

    def by_kernel(self, kernel, affine=True, around=True):
        """The same of a kernel in single precision; memory it may not read holds NaN."""
        y = np.full(self.layout_y.shape(self.samples), np.nan, SINGLE)
        self.layout_y.valid(y)[...] = 0
        filled = np.empty_like(y)
        fill_maps(self.y, self.layout_y, filled)
        self.layout_y.valid(y)[...] = self.layout_y.valid(filled)
        maps = np.zeros(self.layout_maps.shape(self.samples), SINGLE)
        single = [v.astype(SINGLE) for v in (self.scale, self.shift, self.a, self.b)]
        scale, shift = single[:2] if affine else (None, None)
        a, b = single[2:] if around else (None, None)
        kernel.forward(y, self.layout_y, scale, shift, self.activation, maps, self.layout_maps)
        border = maps.copy()
        self.layout_maps.valid(border)[...] = 0
        assert not border.any()
        der_maps = np.full_like(maps, np.nan)
        fill_maps(self.der, self.layout_maps, filled := np.empty_like(maps))
        self.layout_maps.valid(der_maps)[...] = self.layout_maps.valid(filled)
        der_y = np.full_like(y, np.nan)
        how = (y, self.layout_y, scale, shift, self.activation, maps, self.layout_maps, der_maps)
        s1, s2 = kernel.sums(*how, self.mean, der_y)
        kernel.backward(*how, a, b, der_y)
        beyond = der_y.copy()
        self.layout_y.valid(beyond)[...] = 0
        assert not beyond.any()
        return from_maps(maps, self.layout_maps), s1, s2, from_maps(der_y, self.layout_y)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_rounding_errors_are_those_of_numpys_kernel(activation, sizes):
    problem = Problem(sizes, activation)
    exact = problem.by_layers()
    own = errors(problem.by_kernel(compiled.CompiledActivation()), exact)
    others = errors(problem.by_kernel(RowActivation()), exact)
    for error, other in zip(own, others):
        assert error < 3 * other + 4 * ROUNDING


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_of_equal_values_the_first_in_column_major_order_wins(activation):
    """Whole numbers: without a leak every result is exact, so winners are the layers'."""
    problem = Problem(SIZES[1], activation, whole=True)
    exact = problem.by_layers()
    results = problem.by_kernel(compiled.CompiledActivation())
    for result, expected in zip(results, exact):
        if activation.leak:
            assert errors([result], [expected])[0] < 4 * ROUNDING
        else:
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_a_multiplier_of_zero_is_divided_by_nowhere(activation):
    problem = Problem(SIZES[1], activation)
    problem.scale[:, ::2] = 0
    for result, exact in zip(problem.by_kernel(compiled.CompiledActivation()), problem.by_layers()):
        assert errors([result], [exact])[0] < 20 * ROUNDING


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_without_batch_norm_nothing_is_scaled_or_added(activation):
    problem = Problem(SIZES[2], activation)
    results = problem.by_kernel(compiled.CompiledActivation(), affine=False, around=False)
    problem.scale[...], problem.shift[...], problem.a[...], problem.b[...] = 1, 0, 0, 0
    for result, exact in zip(results, problem.by_layers()):
        assert errors([result], [exact])[0] < 20 * ROUNDING


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_nan_and_infinity_go_where_the_layers_send_them(activation):
    problem = Problem(SIZES[1], activation)
    problem.scale[...], problem.shift[...] = 1, 0
    problem.y[0, 3, 2:6, 3:7] = np.nan
    problem.y[0, 4] = np.nan
    problem.y[1, 5, 4, 4] = np.inf
    problem.y[1, 6, :5, :5] = -np.inf
    with np.errstate(invalid="ignore"):
        expected = problem.by_layers()[0].astype(SINGLE)
        output = problem.by_kernel(compiled.CompiledActivation())[0]
    np.testing.assert_array_equal(np.isnan(output), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(output), np.isinf(expected))
    np.testing.assert_allclose(output, expected, rtol=2 * ROUNDING)


def test_a_window_of_nan_alone_has_no_winner():
    problem = Problem(SIZES[1], Activation(relu=True, pool=((3, 3), (2, 2))))
    problem.y[0, 4] = np.nan
    _, s1, _, _ = problem.by_kernel(compiled.CompiledActivation())
    assert s1[0, 4] == 0


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_moments_are_exact_far_from_zero_too(mean):
    rng = np.random.default_rng(2)
    y = (mean + rng.standard_normal((2, 2, 9, 12, 48))).astype(SINGLE)
    exact = y[:, :, :8, :11].astype(np.float64)
    moments = compiled.CompiledActivation().moments(y, 8, 11)
    expected = exact.mean(axis=(2, 3)), exact.var(axis=(2, 3))
    for result, values in zip(moments, expected):
        np.testing.assert_allclose(result, values.reshape(2, 96), rtol=1e-8)


def test_workers_change_no_bit():
    problem = Problem(SIZES[1], Activation(relu=True, pool=((3, 3), (2, 2))))
    kernel = compiled.CompiledActivation()
    alone, helped = (with_workers(lambda: problem.by_kernel(kernel), workers) for workers in (1, 2))
    for a, b in zip(alone, helped):
        np.testing.assert_array_equal(a, b)


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        compiled.CompiledActivation().moments(np.zeros((1, 2, 3, 3, 24), SINGLE), 3, 3)


def test_other_maps_are_left_to_numpy():
    takes = compiled.CompiledActivation.takes
    wide, narrow = (MapLayout(96, groups, 5, 5, 0, 0, 5, 5) for groups in (2, 4))
    assert takes(SINGLE, wide, wide)
    assert not takes(SINGLE, wide, narrow)
    assert not takes(np.dtype(np.float64), wide, wide)
