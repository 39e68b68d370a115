"""Tests of layers.affine_grid_generator."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError
from errors import prove
from layers import AffineGridGenerator, BilinearSampler, affine_grid


def transforms(*rows):
    return np.array(rows, dtype=float)[:, :, None, None]


IDENTITY = (1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 4), (2, 1)])
def test_gradient(rng, count, size):
    layer = AffineGridGenerator(ho=size[0], wo=size[1])
    prove(layer, [rng.standard_normal((count, 6, 1, 1))])


def test_the_identity_goes_from_minus_one_to_one():
    v, u = affine_grid(transforms(IDENTITY), (3, 5))[0]
    np.testing.assert_array_equal(v, np.repeat([[-1.0], [0.0], [1.0]], 5, axis=1))
    np.testing.assert_array_equal(u, np.repeat([[-1.0, -0.5, 0.0, 0.5, 1.0]], 3, axis=0))


def test_each_number_has_its_place():
    v, u = affine_grid(transforms((2, 3, 5, 7, 11, 13)), (3, 5))[0]
    # At the lower left cell v is 1 and u is -1.
    assert v[2, 0] == 2 - 3 + 11 and u[2, 0] == 5 - 7 + 13


def test_an_axis_of_one_cell_lies_at_one_as_matlab_linspace_has_it():
    v, u = affine_grid(transforms((1, 0, 0, 1, 0, 0.5)), (1, 3))[0]
    assert v.tolist() == [[1, 1, 1]] and u.tolist() == [[-0.5, 0.5, 1.5]]


def test_a_grid_samples_what_it_says(rng):
    x = rng.standard_normal((2, 3, 5, 7))
    net = DagNN()
    net.add_layer("grid", AffineGridGenerator(ho=5, wo=7), "t", "grid")
    net.add_layer("sample", BilinearSampler(), ["x", "grid"], "y")
    net.get_var("y").precious = True
    # The identity, and a plane that is turned upside down and moved one cell to the right.
    given = transforms(IDENTITY, (-1, 0, 0, 1, 0, 2 / 6))
    net.eval({"x": x, "t": given}, {"y": np.ones((2, 3, 5, 7))})
    y = net.get_var("y").value
    np.testing.assert_allclose(y[0], x[0], atol=1e-12)
    np.testing.assert_allclose(y[1, :, :, :-1], x[1, :, ::-1, 1:], atol=1e-12)
    np.testing.assert_allclose(y[1, :, :, -1], 0, atol=1e-12)
    assert net.get_var("t").der.shape == (2, 6, 1, 1)
    assert net.get_var_sizes({"x": x.shape, "t": given.shape})["grid"] == (2, 2, 5, 7)


def test_single_precision_stays_single(rng):
    layer = AffineGridGenerator(ho=3, wo=4)
    (y,), saved = layer.forward([transforms(IDENTITY).astype(np.float32)], [], Context())
    (der,), _ = layer.backward([None], [], [y], saved, Context())
    assert y.dtype == der.dtype == np.float32


def test_what_cannot_be_is_refused():
    with pytest.raises(ShapeError, match="6 numbers a sample"):
        affine_grid(np.ones((2, 3, 1, 1)), (3, 3))
    with pytest.raises(ShapeError, match="6 numbers a sample"):
        affine_grid(np.ones((2, 6, 1, 2)), (3, 3))
    with pytest.raises(ValueError, match="ho must be"):
        AffineGridGenerator(ho=-1, wo=2)
    with pytest.raises(TypeError):
        AffineGridGenerator(ho=1.5, wo=2)
    with pytest.raises(ValueError, match="ho is 3 and wo is 0"):
        AffineGridGenerator(ho=3).forward([transforms(IDENTITY)], [], Context())
    with pytest.raises(ShapeError, match="derivative by the output"):
        layer = AffineGridGenerator(ho=3, wo=3)
        layer.backward([None], [], [np.ones((1, 2, 3, 4))], None, Context())
