"""Tests of layers.mul_const."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import MulConst
from suite import check_derivatives, over_kinds

SHAPES = [(5, 4), (1, 1, 5, 4), (1, 3, 1, 1), (2, 1, 1, 4), (3, 5, 4), (1,), (), (2, 3, 5, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(rng, shape):
    prove(MulConst(), [rng.standard_normal((2, 3, 5, 4))], [rng.standard_normal(shape)])


@over_kinds
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_in_both_precisions_and_on_every_device(rng, kind, shape):
    x, h = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal(shape)
    check_derivatives(kind, MulConst(), [x], [h])


@golden("cfnet", lambda name: name.startswith("mul"))
def test_equals_the_original(case):
    assert_passes(case)


def test_values_and_derivatives_by_hand():
    x = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    h, der_y = np.array([[10.0, -1.0]]), np.array([[[[1.0, 1.0]], [[2.0, 5.0]]]])
    (y,), _ = MulConst().forward([x], [h], Context())
    assert y.tolist() == [[[[10, -2]], [[30, -4]]]]
    (der_x,), (der_h,) = MulConst().backward([x], [h], [der_y], None, Context())
    assert der_x.tolist() == [[[[10, -1]], [[20, -5]]]]
    assert der_h.tolist() == [[1 * 1 + 3 * 2, 2 * 1 + 4 * 5]]


def test_a_window_multiplies_every_channel_in_the_features_precision(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    window = np.hanning(4)[:, None] * np.hanning(5)
    (y,), _ = MulConst().forward([x], [window], Context())
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[1, 2], x[1, 2] * window, rtol=1e-6)
    (der_x,), (der_h,) = MulConst().backward([x], [window], [y], None, Context())
    assert der_x.dtype == np.float32 and der_h.dtype == window.dtype


def test_the_constant_is_trained_only_where_its_learning_rate_says_so(rng):
    net = DagNN()
    net.add_layer("window", MulConst(), "x", "y", "h")
    record = net.get_param("h")
    assert record.learning_rate == 0 and record.weight_decay == 0
    record.value = np.ones((3, 3), np.float32)
    x = rng.standard_normal((1, 2, 3, 3)).astype(np.float32)
    net.eval({"x": x}, {"y": 1.0})
    np.testing.assert_allclose(record.der, x[0].sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 3, 4, 5), (3, 1, 1, 1)])
def test_constants_that_do_not_fit_are_refused(rng, shape):
    with pytest.raises(ShapeError, match="broadcasts") as error:
        MulConst().forward([rng.standard_normal((2, 2, 4, 5))], [np.ones(shape)], Context())
    assert error.value.param == 0
