"""Tests of layers.norm_offset."""

import numpy as np
import pytest

from dagnet import POINT, Context, DagNN, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import NormOffset, norm_offset, norm_offset_backward


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 3, 3), (1, 6, 2, 5)])
@pytest.mark.parametrize("param", [(1, 0.5), (0.7, 0.3), (-0.4, 1.5), (0.5, -0.5)])
def test_gradient(rng, shape, param):
    # Away from 0, where a negative power has no end.
    x = rng.uniform(0.3, 2, shape) * rng.choice([-1, 1], shape)
    prove(NormOffset(param=param), [x])


def test_gradient_under_the_floor(rng):
    x = rng.standard_normal((2, 3, 3, 4))
    x[:, :, 1] = rng.uniform(1e-6, 2e-5, x[:, :, 1].shape)
    prove(NormOffset(param=(0.7, 0.3)), [x], step=1e-6)


def test_the_floor_of_the_norm_is_a_constant_offset():
    x = np.zeros((1, 2, 1, 2))
    x[0, :, 0, 1] = 3, 4
    y = norm_offset(x, (2, 0.5))
    # The root of 1e-8 at the first cell, the norm 5 at the second.
    np.testing.assert_allclose(y[0, :, 0, 0], -2e-4, rtol=1e-12)
    np.testing.assert_allclose(y[0, :, 0, 1], [3 - 10, 4 - 10], rtol=1e-12)


def test_an_offset_of_squares_worked_out_by_hand():
    x = np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
    assert norm_offset(x, (0.5, 1)).ravel().tolist() == [1 - 2.5, 2 - 2.5]
    # dx = dy - 2 * 0.5 * x * sum(dy)
    der = norm_offset_backward(x, np.array([3.0, -1.0]).reshape(x.shape), (0.5, 1))
    assert der.ravel().tolist() == [3 - 2, -1 - 4]


def test_single_precision_stays_single(rng):
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    assert norm_offset(x, (1.0, 0.5)).dtype == np.float32
    assert norm_offset_backward(x, x, (1.0, 0.5)).dtype == np.float32


def test_sizes_and_receptive_field():
    net = DagNN()
    net.add_layer("offset", NormOffset(), "x", "y")
    assert net.get_var_sizes({"x": (2, 3, 5, 4)})["y"] == (2, 3, 5, 4)
    assert NormOffset().get_receptive_fields(1, 1) == [[POINT]]


def test_what_cannot_be_is_refused(rng):
    with pytest.raises(ValueError, match="alpha, beta"):
        NormOffset(param=(1, 2, 3))
    with pytest.raises(ShapeError, match="N, C, H, W"):
        NormOffset().forward([np.ones((3, 4))], [], Context())
    with pytest.raises(ShapeError, match="derivative by the output"):
        norm_offset_backward(np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 1)), (1, 0.5))


@golden("layers_pure_m", lambda name: name.startswith("noffset"))
def test_equals_vl_nnnoffset(case):
    assert_passes(case)
