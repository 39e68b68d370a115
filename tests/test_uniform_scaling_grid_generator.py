"""Tests of layers.uniform_scaling_grid_generator."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError
from errors import prove
from layers import UniformScalingGridGenerator, affine_grid, uniform_scaling_grid


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 4), (2, 1)])
def test_gradient(rng, count, size):
    layer = UniformScalingGridGenerator(ho=size[0], wo=size[1])
    prove(layer, [rng.standard_normal((count, 3, 1, 1))])


def test_each_number_has_its_place():
    v, u = uniform_scaling_grid(np.array([2.0, 11, 13]).reshape(1, 3, 1, 1), (3, 5))[0]
    # At the lower left cell v is 1 and u is -1; the translation by rows comes first.
    assert v[2, 0] == 2 + 11 and u[2, 0] == -2 + 13
    assert v[1, 3] == 11 and u[1, 3] == 0.5 * 2 + 13


@pytest.mark.parametrize("size", [(4, 6), (1, 3)])
def test_it_is_the_affine_grid_of_a_scaling(rng, size):
    t = rng.standard_normal((3, 3, 1, 1))
    scale, zero = t[:, :1], np.zeros((3, 1, 1, 1))
    affine = np.concatenate([scale, zero, zero, scale, t[:, 1:]], axis=1)
    np.testing.assert_allclose(uniform_scaling_grid(t, size), affine_grid(affine, size), rtol=1e-14)


def test_single_precision_stays_single():
    layer = UniformScalingGridGenerator(ho=3, wo=4)
    (y,), saved = layer.forward([np.ones((2, 3, 1, 1), np.float32)], [], Context())
    (der,), _ = layer.backward([None], [], [y], saved, Context())
    assert y.dtype == der.dtype == np.float32


def test_sizes():
    net = DagNN()
    net.add_layer("grid", UniformScalingGridGenerator(ho=3, wo=4), "t", "grid")
    assert net.get_var_sizes({"t": (5, 3, 1, 1)})["grid"] == (5, 2, 3, 4)


def test_what_cannot_be_is_refused():
    with pytest.raises(ShapeError, match="3 numbers a sample"):
        uniform_scaling_grid(np.ones((2, 6, 1, 1)), (3, 3))
    with pytest.raises(ValueError, match="the grid has no size"):
        layer = UniformScalingGridGenerator(wo=3)
        layer.forward([np.ones((2, 3, 1, 1))], [], Context())
