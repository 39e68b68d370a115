"""Batch norm's kernels in CUDA, alone and with ReLU, against NumPy's and their layers."""

import numpy as np
import pytest

from cuda_arrays import chosen, here, there
from dagnet import relative_error
from layers.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_stored,
    batch_norm_stored_backward,
)
from layers.kernels.cuda import batch_norm as kernels
from layers.relu import relu, relu_backward

SHAPES = [(1, 3, 5, 4), (6, 5, 1, 1), (3, 2, 17, 19), (2, 1, 1, 300)]
BOUNDS = {"float32": 1e-5, "float64": 1e-12}
EPSILON = 1e-4

precisions = pytest.mark.parametrize("dtype", BOUNDS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def arrays(rng, shape, dtype):
    """x far from 0, multipliers, biases, moments and a derivative."""
    channels = shape[1]
    x = 20 + 3 * rng.standard_normal(shape)
    parts = [x, rng.standard_normal(channels), rng.standard_normal(channels)]
    parts += [20 + rng.random((channels, 2)), rng.standard_normal(shape)]
    return [part.astype(dtype) for part in parts]


def assert_agree(ours, exact, dtype):
    """Results of a precision with those in double precision."""
    for received, expected in zip(here(ours), exact, strict=True):
        assert received.dtype == dtype
        assert relative_error(received, expected) < BOUNDS[dtype]


@precisions
@shapes
def test_moments_of_the_batch_are_numpys_in_double_precision(cuda, rng, shape, dtype):
    x, multipliers, biases, _, der = arrays(rng, shape, dtype)
    assert chosen("batch_norm", x) == "cuda"
    exact = [a.astype(float) for a in (x, multipliers, biases, der)]
    y, moments = batch_norm(*exact[:3], EPSILON)
    ours = batch_norm(*there([x, multipliers, biases]), EPSILON)
    assert_agree(ours, (y, moments), dtype)
    # In float32 the error of the mean, times 1/sigma, is not the derivative's.
    moments = moments.astype(dtype)
    ders = batch_norm_backward(*exact[:2], exact[3], moments.astype(float))
    ours = batch_norm_backward(*there([x, multipliers, der, moments]))
    assert_agree(ours, ders, dtype)


@precisions
@shapes
def test_given_moments_are_numpys_in_double_precision(cuda, rng, shape, dtype):
    x, multipliers, biases, moments, der = arrays(rng, shape, dtype)
    exact = [a.astype(float) for a in (x, multipliers, biases, moments, der)]
    y = batch_norm_stored(*exact[:4])
    assert_agree([batch_norm_stored(*there([x, multipliers, biases, moments]))], [y], dtype)
    ders = batch_norm_stored_backward(*exact[:2], exact[4], exact[3])
    ours = batch_norm_stored_backward(*there([x, multipliers, der, moments]))
    assert_agree(ours, ders, dtype)
    der_x, *ours = batch_norm_stored_backward(*there([x, multipliers, der, moments]), needs_x=False)
    assert der_x is None
    assert_agree(ours, ders[1:], dtype)


@pytest.mark.parametrize("leak", [0.0, 0.1])
@shapes
def test_with_relu_they_are_the_two_layers(cuda, rng, shape, leak):
    x, multipliers, biases, moments, der = arrays(rng, shape, "float64")
    z, found = batch_norm(x, multipliers, biases, EPSILON)
    y = relu(z, leak)
    received, _ = kernels.forward(*there([x, multipliers, biases]), EPSILON, leak)
    assert_agree([received], [y], "float64")
    der_z = relu_backward(y, der, leak)
    ders = batch_norm_backward(x, multipliers, der_z, found)
    ours = kernels.backward(*there([x, multipliers, der, found]), leak, there(biases))
    assert_agree(ours, ders, "float64")

    y = relu(batch_norm_stored(x, multipliers, biases, moments), leak)
    received = kernels.forward_stored(*there([x, multipliers, biases, moments]), leak)
    assert_agree([received], [y], "float64")
    der_z = relu_backward(y, der, leak)
    ders = batch_norm_stored_backward(x, multipliers, der_z, moments)
    ours = kernels.backward_stored(
        *there([x, multipliers, der, moments]), True, leak, there(biases)
    )
    assert_agree(ours, ders, "float64")


def test_relu_behind_a_norm_has_no_negative_zero_and_keeps_nan(cuda):
    x = np.array([[[[-np.inf, -1.0, 0.0, 2.0, np.nan, np.inf]]]])
    one, zero, moments = np.ones(1), np.zeros(1), np.array([[0.0, 1.0]])
    received = here(kernels.forward_stored(*there([x, one, zero, moments]), 0.0))
    np.testing.assert_array_equal(received, relu(x))
    assert not np.signbit(received[0, 0, 0, :3]).any()


def test_a_large_mean_does_not_cancel(cuda, rng):
    x = (1e4 + rng.standard_normal((2, 2, 30, 30))).astype(np.float32)
    _, moments = batch_norm(x.astype(float), np.ones(2), np.zeros(2))
    _, ours = batch_norm(there(x), *there([np.ones(2), np.zeros(2)]))
    assert relative_error(here(ours)[:, 1], moments[:, 1]) < 1e-4
