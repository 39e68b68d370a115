"""The kernels of RLR and CirConv in CUDA against NumPy's."""

import numpy as np
import pytest

from cuda_arrays import chosen, here, there
from dagnet import relative_error
from layers.cir_conv import cir_conv, cir_conv_backward
from layers.rlr import rlr, rlr_backward

SHAPES = [(2, 3, 6, 6), (1, 2, 7, 5), (2, 2, 1, 8), (3, 1, 17, 16)]
BOUNDS = {"float32": 1e-4, "float64": 1e-11}

precisions = pytest.mark.parametrize("dtype", BOUNDS)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
windows = pytest.mark.parametrize("window", ["hann", "none"])


def assert_agree(ours, exact, dtype):
    """Arrays of a precision with those in double precision; sums may be double in both."""
    for received, expected in zip(here(ours), exact, strict=True):
        assert received.dtype in (dtype, "float64")
        assert relative_error(received, expected) < BOUNDS[dtype]


def numbers(rng, dtype, *sizes):
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


@precisions
@shapes
@windows
def test_rlr_is_numpys_in_double_precision(cuda, rng, shape, dtype, window):
    x, y, der = numbers(rng, dtype, shape, shape, shape)
    penalty = np.asarray(2.5, dtype)
    assert chosen("rlr", x) == "cuda"
    r, saved = rlr(x.astype(float), y.astype(float), 2.5, window)
    exact = rlr_backward(saved, der.astype(float), 2.5, window)
    ours, kept = rlr(*there([x, y, penalty]), window)
    ders = rlr_backward(kept, *there([der, penalty]), window)
    assert_agree([ours, *ders], [r, *exact], dtype)


@precisions
@shapes
@windows
@pytest.mark.parametrize("shared", [False, True])
def test_cir_conv_is_numpys_in_double_precision(cuda, rng, shape, dtype, window, shared):
    filters = (1, *shape[1:]) if shared else shape
    x, r, der = numbers(rng, dtype, shape, filters, shape)
    lr = np.asarray(0.3, dtype)
    assert chosen("cir_conv", x) == "cuda"
    exact = [a.astype(float) for a in (x, r, lr, der)]
    y, saved = cir_conv(*exact[:3], window)
    ders = cir_conv_backward(exact[0], exact[2], saved, exact[3], window)
    ours, kept = cir_conv(*there([x, r, lr]), window)
    received = cir_conv_backward(*there([x, lr]), kept, there(der), window)
    assert_agree([ours, *received], [y, *ders], dtype)


def test_derivatives_that_nobody_wants_are_left_out(cuda, rng):
    x, y, der = numbers(rng, "float64", *[(2, 2, 4, 5)] * 3)
    for needs in ((True, False), (False, True), (False, False)):
        _, kept = rlr(*there([x, y]), 1.0)
        all_three = here(rlr_backward(kept, there(der), 1.0))
        received = here(rlr_backward(kept, there(der), 1.0, needs=needs))
        for wanted, alone, one in zip((*needs, True), received, all_three):
            assert (alone is not None) == wanted
            assert not wanted or np.array_equal(alone, one)
        _, kept = cir_conv(*there([x, y]), 0.3)
        place = (*there([x]), 0.3, kept, there(der))
        all_three = here(cir_conv_backward(*place))
        received = here(cir_conv_backward(*place, needs=needs))
        for wanted, alone, one in zip((*needs, True), received, all_three):
            assert (alone is not None) == wanted
            assert not wanted or np.array_equal(alone, one)
