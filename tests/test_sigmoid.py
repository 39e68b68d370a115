"""Tests of layers.sigmoid."""

import numpy as np
import pytest

from dagnet import Context
from errors import prove
from golden import assert_passes, golden
from layers import Sigmoid, sigmoid, sigmoid_backward
from suite import check_derivatives, over_kinds


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 2, 3, 3)])
def test_gradient(rng, shape):
    prove(Sigmoid(), [rng.standard_normal(shape) * 3])


@over_kinds
def test_suite_nnsigmoid(rng, kind):
    """MatConvNet's test class nnsigmoid."""
    check_derivatives(kind, Sigmoid(), [rng.standard_normal((1, 1, 5, 5))])


def test_values_worked_out_by_hand():
    y = sigmoid(np.array([0.0, np.log(3), -np.log(3)]))
    np.testing.assert_allclose(y, [1 / 2, 3 / 4, 1 / 4], rtol=1e-15)
    der = sigmoid_backward(y, np.array([4.0, 16.0, 16.0]))
    np.testing.assert_allclose(der, [1, 3, 3], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_values_do_not_overflow(dtype):
    y = sigmoid(np.array([1e4, -1e4], dtype))
    assert y.tolist() == [1, 0] and y.dtype == dtype


def test_backward_needs_no_input(rng):
    layer = Sigmoid()
    (y,), saved = layer.forward([rng.standard_normal((1, 2, 3, 3))], [], Context())
    (der,), _ = layer.backward([None], [], [np.ones_like(y)], saved, Context())
    np.testing.assert_allclose(der, y - y**2)


@golden("layers_pure_m", lambda name: name.startswith("sigmoid"))
def test_equals_vl_nnsigmoid(case):
    assert_passes(case)
