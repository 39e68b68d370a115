"""Pooling's kernels in CUDA against NumPy's."""

import itertools

import numpy as np
import pytest

from cuda_arrays import chosen, here, there
from layers import pooling

SIZES = [(5, 5), (7, 4), (1, 6)]
WINDOWS = [(1, 1), (3, 3), (2, 3), (3, 1)]
STRIDES = [(1, 1), (2, 2), (3, 1)]
PADS = [(0, 0, 0, 0), (1, 0, 0, 1), (2, 1, 2, 2)]


def placements():
    for size, window, stride, pad in itertools.product(SIZES, WINDOWS, STRIDES, PADS):
        fits = window[0] <= size[0] + pad[0] + pad[1] and window[1] <= size[1] + pad[2] + pad[3]
        if fits and max(pad[:2]) < window[0] and max(pad[2:]) < window[1]:
            yield size, window, {"stride": stride, "pad": pad}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_maximum_and_where_it_lies_are_numpys(cuda, rng, dtype):
    assert chosen("max_pool", np.zeros(1, dtype)) == "cuda"
    for size, window, place in placements():
        # Few values, so that many are equal.
        x = rng.integers(-2, 2, (2, 3, *size)).astype(dtype)
        x[rng.random(x.shape) < 0.1] = np.nan
        x[rng.random(x.shape) < 0.1] = -np.inf
        y, winners = pooling.max_pool(x, window, **place)
        ours, our_winners = pooling.max_pool(there(x), window, **place)
        np.testing.assert_array_equal(here(ours), y)
        der = rng.integers(-9, 9, y.shape).astype(dtype)
        expected = pooling.max_pool_backward(der, winners, size, window, **place)
        received = pooling.max_pool_backward(there(der), our_winners, size, window, **place)
        # Sums of small integers are exact in any order.
        np.testing.assert_array_equal(here(received), expected)
        assert here(received).dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mean_is_numpys(cuda, rng, dtype):
    assert chosen("avg_pool", np.zeros(1, dtype)) == "cuda"
    tolerance = 4 * np.finfo(dtype).eps
    for size, window, place in placements():
        x = rng.standard_normal((2, 3, *size)).astype(dtype)
        y = pooling.avg_pool(x, window, **place)
        ours = here(pooling.avg_pool(there(x), window, **place))
        np.testing.assert_allclose(ours, y, rtol=0, atol=tolerance * np.abs(x).max())
        der = rng.standard_normal(y.shape).astype(dtype)
        expected = pooling.avg_pool_backward(der, size, window, **place)
        received = here(pooling.avg_pool_backward(there(der), size, window, **place))
        np.testing.assert_allclose(received, expected, atol=9 * tolerance * np.abs(der).max())
        assert ours.dtype == received.dtype == dtype


def test_arrays_that_are_not_in_c_order_are_taken(cuda, rng):
    x = rng.standard_normal((2, 3, 6, 5)).transpose(0, 1, 3, 2)
    y, winners = pooling.max_pool(x, (3, 2))
    ours, our_winners = pooling.max_pool(there(x), (3, 2))
    np.testing.assert_array_equal(here(ours), y)
    der = np.ones(y.shape[::-1]).T
    received = pooling.max_pool_backward(there(der), our_winners, x.shape[2:], (3, 2))
    expected = pooling.max_pool_backward(der, winners, x.shape[2:], (3, 2))
    np.testing.assert_array_equal(here(received), expected)
