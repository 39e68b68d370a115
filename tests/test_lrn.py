"""Tests of layers.lrn."""

import numpy as np
import pytest

from dagnet import Context, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import LRN, lrn, lrn_backward


@pytest.mark.parametrize("shape", [(2, 7, 3, 4), (1, 6, 3, 3), (3, 1, 2, 3), (2, 30, 4, 5)])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 40])
def test_gradient(rng, shape, size):
    prove(LRN(param=(size, 1.5, 0.3, 0.75)), [rng.standard_normal(shape)])


def test_a_normalisation_worked_out_by_hand():
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    # A window of 4 channels: one before, two after.
    y = lrn(x, (4, 1, 0.5, 1.0)).ravel()
    expected = [1 / (1 + 7), 2 / (1 + 15), 3 / (1 + 14.5), 4 / (1 + 12.5)]
    np.testing.assert_allclose(y, expected, rtol=1e-14)


def test_a_window_over_all_channels_gives_unit_vectors(rng):
    y = lrn(rng.standard_normal((2, 5, 3, 4)), (10, 0, 1, 0.5))
    np.testing.assert_allclose((y**2).sum(axis=1), 1, rtol=1e-12)


def test_single_precision_stays_single(rng):
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    param = LRN().param
    assert lrn(x, param).dtype == lrn_backward(x, x, param).dtype == np.float32


def test_what_cannot_be_is_refused(rng):
    with pytest.raises(ValueError, match="param"):
        LRN(param=(5, 1, 1))
    with pytest.raises(ValueError, match="param"):
        LRN(param=(0, 1, 1, 1))
    with pytest.raises(ShapeError, match="N, C, H, W"):
        LRN().forward([np.ones((3, 4))], [], Context())


# The fields y and dx hold the original's approximate power (fast_pow); y_exact and dx_exact the
# same code with the exact one.
@golden("layers_vl_nnnormalize")
def test_equals_vl_nnnormalize_with_exact_powers(case):
    assert_passes(case)
