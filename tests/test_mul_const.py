"""Tests of layers.mul_const."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError
from errors import prove
from layers import MulConst


@pytest.mark.parametrize("shape", [(5, 4), (1, 1, 5, 4), (1, 3, 1, 1), (2, 3, 5, 4)])
def test_gradient(rng, shape):
    inputs, params = [rng.standard_normal((2, 3, 5, 4))], [rng.standard_normal(shape)]
    prove(MulConst(), inputs, params, skip_params=[0])


def test_a_window_multiplies_every_channel_in_the_features_precision(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    window = np.hanning(4)[:, None] * np.hanning(5)
    (y,), _ = MulConst().forward([x], [window], Context())
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[1, 2], x[1, 2] * window, rtol=1e-6)


def test_the_constant_is_not_trained(rng):
    net = DagNN()
    net.add_layer("window", MulConst(), "x", "y", "h")
    record = net.get_param("h")
    assert record.learning_rate == 0 and record.weight_decay == 0
    record.value = np.ones((3, 3), np.float32)
    net.eval({"x": rng.standard_normal((1, 2, 3, 3)).astype(np.float32)}, {"y": 1.0})
    assert record.der is None


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 3, 4, 5), (3, 1, 1, 1)])
def test_constants_that_do_not_fit_are_refused(rng, shape):
    with pytest.raises(ShapeError, match="broadcasts") as error:
        MulConst().forward([rng.standard_normal((2, 2, 4, 5))], [np.ones(shape)], Context())
    assert error.value.param == 0
