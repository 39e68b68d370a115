"""MatConvNet's test class nnbnorm: batch normalisation over its grid of sizes."""

import numpy as np
import pytest

from dagnet import Context
from layers import BatchNorm, batch_norm, batch_norm_backward, batch_norm_stored
from suite import check_derivatives, equal, over_kinds

# vl_nnbnorm's default.
EPSILON = 1e-4


@pytest.fixture(params=[2, 8, 13], ids=lambda n: f"{n}rows")
def rows(request):
    return request.param


@pytest.fixture(params=[2, 8, 17], ids=lambda n: f"{n}columns")
def columns(request):
    return request.param


@pytest.fixture(params=[1, 3, 4], ids=lambda n: f"{n}channels")
def channels(request):
    return request.param


@pytest.fixture(params=[2, 7], ids=lambda n: f"{n}samples")
def arrays(request, rng, rows, columns, channels):
    """Features, multipliers and biases."""
    x = rng.standard_normal((request.param, channels, rows, columns))
    return x, rng.standard_normal(channels), rng.standard_normal(channels)


@over_kinds
def test_values_and_moments_are_those_of_their_definition(kind, arrays):
    x, g, b = arrays
    y, moments = batch_norm(*(kind.array(a) for a in arrays), 0.001)
    mean = x.mean(axis=(0, 2, 3))
    sigma = np.sqrt(((x - mean[:, None, None]) ** 2).mean(axis=(0, 2, 3)) + 0.001)
    equal(moments[:, 1], sigma, kind)
    assert np.abs(moments[:, 0] - kind.array(mean)).max() <= (
        1e-6 if kind.dtype == np.float32 else 1e-13
    )
    g, b, mean, sigma = (v[:, None, None] for v in (g, b, mean, sigma))
    equal(y, g * (x - mean) / sigma + b, kind)


@over_kinds
def test_derivatives(kind, arrays):
    x, g, b = arrays
    moments = np.ones((len(g), 2))
    check_derivatives(kind, BatchNorm(epsilon=EPSILON), [x], [g, b, moments], constant_params=[2])


@over_kinds
def test_the_batchs_own_moments_given_back_change_nothing(kind, arrays, rng):
    x, g, b = (kind.array(a) for a in arrays)
    y, moments = batch_norm(x, g, b, EPSILON)
    equal(batch_norm_stored(x, g, b, moments), y, kind)
    der_y = kind.array(rng.standard_normal(x.shape))
    layer, params = BatchNorm(epsilon=EPSILON), [g, b, moments]
    _, saved = layer.forward([x], params, Context())
    (der_x,), ders = layer.backward([x], params, [der_y], saved, Context())
    given = batch_norm_backward(x, g, der_y, moments)
    for actual, expected in zip((der_x, *ders), (*given, moments), strict=True):
        equal(actual, expected, kind)
