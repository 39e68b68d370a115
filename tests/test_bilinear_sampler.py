"""Tests of layers.bilinear_sampler."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dagnet import UNKNOWN, Context, DagNN, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import BilinearSampler, bilinear_sampler, bilinear_sampler_backward

SHAPES = [((2, 3, 5, 6), (2, 2, 4, 3)), ((1, 1, 4, 4), (3, 2, 3, 3)), ((2, 2, 3, 7), (4, 2, 2, 5))]


def grid_away_from_cells(rng, shape, size, reach=1.4):
    """Places whose rows and columns are at least 0.05 from a whole number, some outside."""
    places = rng.uniform(-reach, reach, shape)
    for axis, length in enumerate(size):
        cells = (places[:, axis] + 1) * (length - 1) / 2
        cells = np.floor(cells) + 0.05 + 0.9 * (cells - np.floor(cells))
        places[:, axis] = cells * 2 / (length - 1) - 1
    return places


def plane_grid(size):
    """The grid (1, 2, H, W) that samples each cell."""
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))[None]


@pytest.mark.parametrize(("shape", "grid_shape"), SHAPES)
def test_gradient_by_features_and_grid(rng, shape, grid_shape):
    grid = grid_away_from_cells(rng, grid_shape, shape[2:])
    assert (abs(grid) > 1).any() and (abs(grid) < 1).any()
    prove(BilinearSampler(), [rng.standard_normal(shape), grid])


@pytest.mark.parametrize(("shape", "grid_shape"), SHAPES)
def test_equals_scipy(rng, shape, grid_shape):
    x, grid = rng.standard_normal(shape), rng.uniform(-1.6, 1.6, grid_shape)
    y = bilinear_sampler(x, grid)
    assert y.shape == (grid_shape[0], shape[1], *grid_shape[2:])
    for m, c in np.ndindex(y.shape[:2]):
        image = x[m // (grid_shape[0] // shape[0]), c]
        cells = [(grid[m, a] + 1) * (shape[2 + a] - 1) / 2 for a in (0, 1)]
        expected = map_coordinates(image, cells, order=1, mode="grid-constant", cval=0)
        np.testing.assert_allclose(y[m, c], expected, rtol=1e-12, atol=1e-14)


def test_the_grid_of_cells_gives_the_features_back(rng):
    x = rng.standard_normal((2, 3, 5, 7))
    np.testing.assert_allclose(
        bilinear_sampler(x, np.repeat(plane_grid((5, 7)), 2, axis=0)), x, rtol=1e-12
    )
    flipped = -np.repeat(plane_grid((5, 7)), 2, axis=0)
    np.testing.assert_allclose(bilinear_sampler(x, flipped), x[:, :, ::-1, ::-1], rtol=1e-12)


def test_values_fall_off_over_one_cell_on_every_side():
    x = np.full((1, 1, 3, 3), 8.0)
    # A cell is a distance of 1 here; three quarters of one behind each border, and a corner.
    places = [(-1.75, 0), (1.75, 0), (0, -1.75), (0, 1.75), (-1.75, 1.5), (2, 0), (-2.5, 0)]
    grid = np.array(places).T.reshape(1, 2, 1, -1)
    assert bilinear_sampler(x, grid).ravel().tolist() == [2, 2, 2, 2, 1, 0, 0]


def test_places_that_are_nowhere_are_zero(rng):
    x = np.full((1, 2, 3, 3), np.inf)
    grid = np.array([[np.nan, np.inf, -np.inf, 0], [0, 0, 0, np.nan]]).reshape(1, 2, 1, 4)
    y = bilinear_sampler(x, grid)
    assert not y.any()
    for der in bilinear_sampler_backward(x, grid, np.ones_like(y)):
        assert not der.any()


def test_grids_of_an_image_are_neighbours(rng):
    x, grid = rng.standard_normal((2, 3, 4, 5)), rng.uniform(-1, 1, (6, 2, 2, 2))
    y = bilinear_sampler(x, grid)
    for n in (0, 1):
        for k in range(3):
            one = bilinear_sampler(x[n : n + 1], grid[3 * n + k : 3 * n + k + 1])
            np.testing.assert_array_equal(y[3 * n + k], one[0])


def test_a_plane_of_one_cell_has_no_derivative_along_it(rng):
    x, grid = rng.standard_normal((1, 2, 1, 4)), rng.uniform(-1, 1, (1, 2, 3, 3))
    y = bilinear_sampler(x, grid)
    _, der = bilinear_sampler_backward(x, grid, np.ones_like(y))
    assert not der[:, 0].any() and der[:, 1].all()


def test_only_derivatives_that_are_read_are_computed(rng):
    x, grid = rng.standard_normal((1, 2, 3, 4)), rng.uniform(-1, 1, (1, 2, 3, 3))
    der = np.ones((1, 2, 3, 3))
    both, _ = BilinearSampler().backward([x, grid], [], [der], None, Context())
    for k, needs in enumerate([(True, False), (False, True)]):
        ders, _ = BilinearSampler().backward([x, grid], [], [der], None, Context(needs=needs))
        assert ders[1 - k] is None
        np.testing.assert_array_equal(ders[k], both[k])


def test_single_precision_stays_single(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    grid = rng.uniform(-1, 1, (2, 2, 3, 3)).astype(np.float32)
    y = bilinear_sampler(x, grid)
    ders = bilinear_sampler_backward(x, grid, y)
    assert y.dtype == ders[0].dtype == ders[1].dtype == np.float32


def test_sizes():
    net = DagNN()
    net.add_layer("sample", BilinearSampler(), ["x", "grid"], "y")
    sizes = net.get_var_sizes({"x": (2, 3, 7, 9), "grid": (4, 2, 5, 6)})
    assert sizes["y"] == (4, 3, 5, 6)
    assert BilinearSampler().get_receptive_fields(2, 1) == [[UNKNOWN], [UNKNOWN]]


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 2, 3, 3), (2, 3, 3, 2), (0, 2, 3, 3)])
def test_a_grid_that_does_not_fit_is_refused(shape):
    with pytest.raises(ShapeError, match="expected a grid") as caught:
        BilinearSampler().forward([np.ones((2, 3, 4, 5)), np.zeros(shape)], [], Context())
    assert caught.value.input == 1


@golden("layers_vl_nnbilinearsampler")
def test_equals_vl_nnbilinearsampler(case):
    result = assert_passes(case)
    # Where the original's bounds hold the layer itself is compared.
    assert any(c.what.startswith("y where") for c in result.comparisons)


@golden("layers_vl_nnbilinearsampler")
def test_the_original_has_no_values_a_cell_above_and_left_of_the_features(case):
    x, grid = case.tensor("x"), case.matlab("grid").transpose(3, 0, 1, 2)
    difference = abs(bilinear_sampler(x, grid) - case.tensor("y")).max(axis=1)
    rows, columns = ((grid[:, a] + 1) * (x.shape[2 + a] - 1) / 2 for a in (0, 1))
    lost = (np.floor(rows) == -1) | (np.floor(columns) == -1)
    assert difference[~lost].max() < 1e-5 and difference[lost].max() > 0.1
    assert not case.tensor("y").max(axis=1)[lost].any()
