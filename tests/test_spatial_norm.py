"""Tests of layers.spatial_norm."""

import numpy as np
import pytest

from dagnet import Context, ReceptiveField, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import SpatialNorm, spatial_norm, spatial_norm_backward


@pytest.mark.parametrize("shape", [(2, 2, 5, 6), (1, 3, 4, 4), (3, 1, 1, 5)])
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (2, 4), (5, 2), (9, 7)])
def test_gradient(rng, shape, window):
    prove(SpatialNorm(param=(*window, 0.5, 0.75)), [rng.standard_normal(shape)])


@pytest.mark.parametrize("beta", [-0.5, 1, 2])
def test_gradient_by_the_power(rng, beta):
    prove(SpatialNorm(param=(2, 3, 2, beta)), [rng.standard_normal((2, 2, 4, 5))])


@pytest.mark.parametrize("window", [(3, 3), (2, 4), (5, 1), (1, 6)])
def test_equals_its_definition_cell_by_cell(rng, window):
    x = rng.standard_normal((2, 2, 5, 6))
    y = spatial_norm(x, (*window, 0.5, 0.75))
    above, left = (window[0] - 1) // 2, (window[1] - 1) // 2
    for r in range(5):
        for c in range(6):
            rows = slice(max(r - above, 0), r - above + window[0])
            columns = slice(max(c - left, 0), c - left + window[1])
            mean = (x[:, :, rows, columns] ** 2).mean(axis=(2, 3))
            expected = x[:, :, r, c] / (1 + 0.5 * mean) ** 0.75
            np.testing.assert_allclose(y[:, :, r, c], expected, rtol=1e-12)


def test_single_precision_stays_single(rng):
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    param = SpatialNorm().param
    assert spatial_norm(x, param).dtype == spatial_norm_backward(x, x, param).dtype == np.float32


@pytest.mark.parametrize("window", [(3, 3), (2, 4), (5, 2)])
def test_the_receptive_field_is_what_a_cell_depends_on(rng, window):
    layer = SpatialNorm(param=(*window, 1, 1))
    x = rng.standard_normal((1, 1, 11, 12))
    der = np.zeros_like(x)
    der[0, 0, 5, 6] = 1
    _, _, rows, columns = np.nonzero(spatial_norm_backward(x, der, layer.param))
    ((field,),) = layer.get_receptive_fields(1, 1)
    assert isinstance(field, ReceptiveField) and field.size == window and field.stride == (1, 1)
    for seen, cell, offset in zip((rows, columns), (5, 6), field.offset):
        assert seen.max() - seen.min() + 1 == window[0 if seen is rows else 1]
        # offset is the 1-based centre of the first cell's field.
        assert (seen.min() + seen.max()) / 2 == cell + offset - 1
    assert layer.get_output_sizes([(1, 1, 11, 12)]) == [(1, 1, 11, 12)]


@pytest.mark.parametrize("param", [(3, 3, 1), (0, 3, 1, 1), (2.5, 3, 1, 1)])
def test_a_window_that_cannot_be_is_refused(param):
    with pytest.raises(ValueError, match="window of whole cells"):
        SpatialNorm(param=param)


def test_features_of_other_axes_are_refused():
    with pytest.raises(ShapeError, match="N, C, H, W"):
        SpatialNorm().forward([np.ones((3, 4))], [], Context())


@golden("layers_pure_m", lambda name: name.startswith("spnorm"))
def test_equals_vl_nnspnorm(case):
    assert_passes(case)
