"""Tests of layers.normalize_lp."""

import math

import numpy as np
import pytest

from dagnet import POINT, Context, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import NormalizeLp, normalize_lp, normalize_lp_backward
from layers.geometry import WHOLE_PLANE


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 3, 3), (1, 6, 2, 1)])
@pytest.mark.parametrize("p", [2, 4, 6])
@pytest.mark.parametrize("settings", [{}, {"spatial": True}, {"dimensions": (0, 1)}])
def test_gradient(rng, shape, p, settings):
    prove(NormalizeLp(p=p, epsilon=0.1, **settings), [rng.standard_normal(shape)])


@pytest.mark.parametrize("p", [1, 3, 0.5, 2.5, -2])
def test_gradient_for_other_exponents_of_positive_features(rng, p):
    prove(NormalizeLp(p=p), [rng.uniform(0.5, 2, (2, 3, 3, 4))])


@pytest.mark.parametrize("axes", [(1,), (2, 3), (0,), (1, 2, 3), (0, 1, 2, 3)])
def test_rows_have_the_norm_that_numpy_gives(rng, axes):
    x = rng.standard_normal((3, 4, 5, 2))
    y, norms = normalize_lp(x, 2, 0.0, axes)
    np.testing.assert_allclose(norms, np.sqrt((x * x).sum(axis=axes, keepdims=True)), rtol=1e-12)
    np.testing.assert_allclose((y * y).sum(axis=axes), 1, rtol=1e-12)
    y, _ = normalize_lp(x, 4, 0.0, axes)
    np.testing.assert_allclose((y**4).sum(axis=axes), 1, rtol=1e-12)


def test_a_normalisation_worked_out_by_hand():
    x = np.array([3.0, 4.0]).reshape(1, 2, 1, 1)
    y, norms = normalize_lp(x, 2, 11.0)
    assert norms.ravel().tolist() == [6] and y.ravel().tolist() == [0.5, 4 / 6]


def test_norms_that_are_given_are_divided_by(rng):
    x = rng.standard_normal((2, 3, 2, 2))
    given = rng.uniform(1, 2, (2, 1, 2, 2))
    y, norms = normalize_lp(x, norms=given)
    np.testing.assert_array_equal(y, x / given)
    np.testing.assert_array_equal(norms, given)
    with pytest.raises(ShapeError, match=r"norms of shape \(2, 1, 2, 2\)"):
        normalize_lp(x, norms=given[:1])


def test_backward_computes_the_norms_that_it_is_not_given(rng):
    x, der = rng.standard_normal((2, 2, 3, 2, 2))
    _, norms = normalize_lp(x, 4, 0.1, (2, 3))
    with_norms = normalize_lp_backward(x, der, 4, 0.1, (2, 3), norms)
    np.testing.assert_array_equal(normalize_lp_backward(x, der, 4, 0.1, (2, 3)), with_norms)


def test_single_precision_stays_single(rng):
    x = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    for p in (2, 4, 4.0):
        y, norms = normalize_lp(x, p)
        assert y.dtype == norms.dtype == normalize_lp_backward(x, x, p).dtype == np.float32


def test_receptive_fields():
    def field(**settings):
        return NormalizeLp(**settings).get_receptive_fields(1, 1)[0][0]

    assert field() == field(dimensions=(0,)) == POINT
    assert field(spatial=True) == field(dimensions=(2, 3), spatial=True) == WHOLE_PLANE
    assert field(dimensions=(1, 3)).size == (1, math.inf)
    assert NormalizeLp().get_output_sizes([(2, 3, 4, 5)]) == [(2, 3, 4, 5)]


@pytest.mark.parametrize("p", [0, math.inf, math.nan])
def test_a_power_that_cannot_be_is_refused(p):
    with pytest.raises(ValueError, match="p must be"):
        NormalizeLp(p=p)


@pytest.mark.parametrize("dimensions", [(), (4,), (-1,), (1, 1)])
def test_axes_that_cannot_be_are_refused(dimensions):
    with pytest.raises(ValueError, match="different axes"):
        NormalizeLp(dimensions=dimensions)


def test_two_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="leave one of the two"):
        NormalizeLp(dimensions=(1,), spatial=True)
    with pytest.raises(ShapeError, match="N, C, H, W"):
        NormalizeLp().forward([np.ones((3, 4))], [], Context())


@golden("layers_vl_nnnormalizelp")
def test_equals_vl_nnnormalizelp(case):
    assert_passes(case)
