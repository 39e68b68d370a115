"""Tests of layers.softmax."""

import numpy as np
import pytest

from dagnet import Context, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import SoftMax, softmax, softmax_backward
from suite import check_derivatives, over_kinds


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (3, 4, 3, 3), (2, 1, 2, 2), (2, 30, 5, 4)])
def test_gradient(rng, shape):
    prove(SoftMax(), [rng.standard_normal(shape) * 2])


@over_kinds
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_suite_nnsoftmax(rng, kind, height, width):
    """MatConvNet's test class nnsoftmax."""
    check_derivatives(kind, SoftMax(), [rng.standard_normal((3, 10, height, width))])


def test_a_softmax_worked_out_by_hand():
    x = np.log(np.array([1.0, 2.0, 5.0])).reshape(1, 3, 1, 1)
    y = softmax(x)
    np.testing.assert_allclose(y.ravel(), [1 / 8, 2 / 8, 5 / 8], rtol=1e-14)
    der_y = np.array([8.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(softmax_backward(y, der_y).ravel(), [7 / 8, -2 / 8, -5 / 8])


def test_large_values_do_not_overflow():
    y = softmax(np.array([1e4, 1e4, -1e4], np.float32).reshape(1, 3, 1, 1))
    assert y.ravel().tolist() == [0.5, 0.5, 0.0] and y.dtype == np.float32


def test_backward_needs_no_input(rng):
    layer = SoftMax()
    assert not layer.backward_uses_inputs
    x = rng.standard_normal((2, 5, 3, 4))
    (y,), saved = layer.forward([x], [], Context())
    (der,), _ = layer.backward([None], [], [x], saved, Context())
    np.testing.assert_allclose(der.sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(y.sum(axis=1), 1)


def test_other_than_four_axes_are_refused():
    with pytest.raises(ShapeError, match="N, C, H, W"):
        softmax(np.ones((3, 4)))


# softmaxloss_* are the loss's.
@golden("layers_pure_m", lambda name: name.startswith("softmax_"))
def test_equals_vl_nnsoftmax(case):
    assert_passes(case)
