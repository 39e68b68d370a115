"""Tests of layers.roi_pooling."""

import math

import numpy as np
import pytest

from dagnet import UNKNOWN, Context, DagNN, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import ROIPooling
from layers.roi_pooling import affine_transform, find_tiles

# Regions (image, u0, v0, u1, v1) on features of two images of 7 x 9 cells: whole, small, turned
# round, partly and wholly outside.
ROIS = np.array(
    [
        [1, 1, 1, 9, 7],
        [2, 3, 2, 5, 6],
        [1, 4, 4, 4, 4],
        [2, 6, 5, 2, 3],
        [1, -2, -1, 3, 12],
        [2, 20, 20, 25, 22],
        [1, 1.6, 2.5, 6.4, 5.5],
    ]
)
SUBDIVISIONS = [(1, 1), (3, 2), (2, 5), (9, 11)]


def forward(layer, x, rois):
    (y,), saved = layer.forward([x, np.asarray(rois, dtype=x.dtype)], [], Context())
    return y, saved


def distinct(rng, shape):
    """Values far enough from each other for a numerical derivative of the maximum."""
    return rng.permutation(math.prod(shape)).reshape(shape) / 100.0


def half_away(value):
    return math.copysign(math.floor(abs(value) + 0.5), value)


def cell_by_cell(x, rois, method, subdivisions):
    """The definition, in loops; for regions whose tiles' borders are not at rounding's mercy."""
    sh, sw = subdivisions
    y = np.zeros((len(rois), x.shape[1], sh, sw))
    for k, (image, u0, v0, u1, v1) in enumerate(rois):
        plane = x[int(image) - 1]
        top, left = half_away(v0) - 1, half_away(u0) - 1
        height = max(half_away(v1) - half_away(v0) + 1, 1)
        width = max(half_away(u1) - half_away(u0) + 1, 1)
        for i, j in np.ndindex(sh, sw):
            cells = [
                plane[:, int(r), int(c)]
                for r in range(*_tile(top, height, i, sh, x.shape[2]))
                for c in range(*_tile(left, width, j, sw, x.shape[3]))
            ]
            if cells:
                y[k, :, i, j] = getattr(np, {"max": "max", "avg": "mean"}[method])(cells, axis=0)
    return y


def _tile(first, size, index, count, length):
    start = first + size * index // count
    end = first - (-size * (index + 1) // count)
    return int(min(max(start, 0), length)), int(min(max(end, 0), length))


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize("subdivisions", SUBDIVISIONS)
def test_equals_its_definition_cell_by_cell(rng, method, subdivisions):
    x = rng.standard_normal((2, 3, 7, 9))
    y, _ = forward(ROIPooling(method=method, subdivisions=subdivisions), x, ROIS)
    np.testing.assert_allclose(y, cell_by_cell(x, ROIS, method, subdivisions), rtol=1e-12)


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize("subdivisions", SUBDIVISIONS)
def test_gradient(rng, method, subdivisions, flatten):
    layer = ROIPooling(method=method, subdivisions=subdivisions, flatten=flatten)
    prove(layer, [distinct(rng, (2, 2, 7, 4)), ROIS], skip_inputs=[1])
    prove(layer, [distinct(rng, (2, 1, 4, 4)), ROIS], skip_inputs=[1])


@pytest.mark.parametrize("method", ["max", "avg"])
def test_a_region_outside_is_zero_and_has_no_derivative(rng, method):
    x = rng.standard_normal((2, 3, 7, 9)) - 10
    layer = ROIPooling(method=method, subdivisions=(2, 2))
    y, saved = forward(layer, x, ROIS[5:6])
    assert not y.any()
    (der, none), _ = layer.backward([None, None], [], [np.ones_like(y)], saved, Context())
    assert not der.any() and none is None


def test_tiles_overlap_where_the_region_cannot_be_divided():
    # 5 rows in 2 tiles of 2.5: rows 0 to 2 and 2 to 4. 3 columns in 4 tiles of 0.75.
    tiles = find_tiles((1, 1, 9, 9), np.float64, np.array([[1, 2, 3, 4, 7.0]]), (2, 4))
    assert (tiles.rows[0] - 2).tolist() == [[0, 3], [2, 5]]
    assert (tiles.columns[0] - 1).tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]


def test_tiles_are_found_in_the_precision_of_the_features():
    # 41 rows in 10 tiles: 4.1 in single precision is a little less, in double too, and ten of
    # them are 41; of 11 rows in 3 tiles, a third of 11 in single precision times 3 is 11.
    for dtype in (np.float32, np.float64):
        for height in range(1, 60):
            for count in range(1, 12):
                rois = np.array([[1, 1, 1, 1, height]])
                rows = find_tiles((1, 1, 100, 1), dtype, rois, (count, 1)).rows[0]
                size = dtype(height / count)
                for i, (start, end) in enumerate(rows.tolist()):
                    assert start == math.floor(dtype(i) * size)
                    assert end == math.ceil(dtype(i + 1) * size)


def test_coordinates_are_rounded_half_away_from_zero():
    rois = np.array([[1, 2.5, 0.49999999999999994, 3.5, -0.5], [1, -1.5, 1, 3, 1]])
    tiles = find_tiles((1, 1, 9, 9), np.float64, rois, (1, 1))
    # Columns 3 to 4 and -2 to 3, 1-based; row 0 to -1 is one row, above the features.
    assert tiles.columns.tolist() == [[[2, 4]], [[0, 3]]]
    assert tiles.rows.tolist() == [[[0, 0]], [[0, 1]]]


def test_of_equal_values_the_first_in_column_major_order_has_the_derivative():
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 2, 0] = x[0, 0, 0, 1] = x[0, 0, 1, 0] = 5
    layer = ROIPooling(subdivisions=1)
    y, saved = forward(layer, x, [[1, 1, 1, 3, 3]])
    (der, _), _ = layer.backward([None, None], [], [np.full_like(y, 7)], saved, Context())
    expected = np.zeros_like(x)
    expected[0, 0, 1, 0] = 7
    np.testing.assert_array_equal(der, expected)


def test_nan_never_is_a_maximum():
    x = np.array([[np.nan, 1.0], [3.0, np.nan]]).reshape(1, 1, 2, 2)
    layer = ROIPooling(subdivisions=(2, 1))
    y, saved = forward(layer, x, [[1, 1, 1, 2, 2]])
    assert y.ravel().tolist() == [1, 3]
    (der, _), _ = layer.backward([None, None], [], [np.ones_like(y)], saved, Context())
    assert der.ravel().tolist() == [0, 1, 1, 0]
    layer = ROIPooling(subdivisions=1)
    y, saved = forward(layer, np.full((1, 1, 2, 2), np.nan), [[1, 1, 1, 2, 2]])
    assert y.ravel().tolist() == [-np.inf]
    (der, _), _ = layer.backward([None, None], [], [np.ones_like(y)], saved, Context())
    assert not der.any()


def test_nan_stays_in_the_tile_that_it_is_in():
    x = np.ones((1, 1, 4, 4))
    x[0, 0, 0, 0] = np.nan
    y, _ = forward(ROIPooling(method="avg", subdivisions=2), x, [[1, 1, 1, 4, 4]])
    assert np.isnan(y[0, 0, 0, 0]) and y[0, 0].ravel()[1:].tolist() == [1, 1, 1]


def test_scales_leave_the_first_cell_where_it_is():
    matrix = affine_transform(0.5)
    np.testing.assert_array_equal(matrix @ [1, 1, 1], [1, 1])
    np.testing.assert_array_equal(matrix @ [9, 5, 1], [5, 3])
    # Horizontal first.
    np.testing.assert_array_equal(affine_transform((0.5, 2)) @ [9, 5, 1], [5, 9])
    np.testing.assert_array_equal(affine_transform(np.array([[0.5], [2]])) @ [9, 5, 1], [5, 9])


def test_a_matrix_transforms_corners():
    matrix = [[0, 1, 2], [3, 0, 4]]
    np.testing.assert_array_equal(affine_transform(matrix) @ [5, 6, 1], [8, 19])
    # The same numbers column by column.
    np.testing.assert_array_equal(affine_transform((0, 3, 1, 0, 2, 4)), matrix)


@pytest.mark.parametrize(
    "transform", [0.5, (1, 0.5), ((0, 1, 0), (1, 0, 0)), ((1, 0, -1), (0, 2, 1))]
)
@pytest.mark.parametrize("method", ["max", "avg"])
def test_transformed_regions_are_regions_that_were_transformed(rng, transform, method):
    x = rng.standard_normal((2, 3, 7, 9))
    y, _ = forward(ROIPooling(method=method, subdivisions=2, transform=transform), x, ROIS)
    corners = ROIS[:, 1:].reshape(-1, 2, 2)
    m = affine_transform(transform)
    moved = np.concatenate(
        [ROIS[:, :1], (corners @ m[:, :2].T + m[:, 2]).reshape(len(ROIS), 4)], axis=1
    )
    expected, _ = forward(ROIPooling(method=method, subdivisions=2), x, moved)
    np.testing.assert_array_equal(y, expected)


def test_flat_values_are_in_matlab_order(rng):
    x = rng.standard_normal((2, 3, 7, 9))
    y, _ = forward(ROIPooling(subdivisions=(2, 4)), x, ROIS)
    flat, _ = forward(ROIPooling(subdivisions=(2, 4), flatten=True), x, ROIS)
    # MATLAB's reshape of SH x SW x C x K to 1 x 1 x SH*SW*C x K.
    matlab = y.transpose(2, 3, 1, 0).reshape(-1, len(ROIS), order="F")
    assert flat.shape == (len(ROIS), 24, 1, 1)
    np.testing.assert_array_equal(flat[:, :, 0, 0], matlab.T)


def test_regions_may_be_tensors_and_are_constants(rng):
    x = rng.standard_normal((2, 3, 7, 9)).astype(np.float32)
    net = DagNN()
    net.add_layer("pool", ROIPooling(subdivisions=(3, 2)), ["x", "rois"], "y")
    net.get_var("y").precious = True
    net.eval({"x": x, "rois": ROIS[:, :, None, None]}, {"y": np.ones((7, 3, 3, 2), np.float32)})
    y, _ = forward(ROIPooling(subdivisions=(3, 2)), x, ROIS)
    np.testing.assert_array_equal(net.get_var("y").value, y)
    assert net.get_var("x").der.dtype == np.float32 and net.get_var("rois").der is None


@pytest.mark.parametrize("method", ["max", "avg"])
def test_single_precision_stays_single(rng, method):
    x = rng.standard_normal((2, 3, 7, 9)).astype(np.float32)
    layer = ROIPooling(method=method)
    y, saved = forward(layer, x, ROIS)
    (der, _), _ = layer.backward([None, None], [], [y], saved, Context())
    assert y.dtype == der.dtype == np.float32


def test_sizes():
    sizes = {"x": (2, 3, 7, 9), "rois": (7, 5, 1, 1)}
    for flatten, expected in ((False, (7, 3, 4, 2)), (True, (7, 24, 1, 1))):
        net = DagNN()
        layer = ROIPooling(subdivisions=(4, 2), flatten=flatten)
        net.add_layer("pool", layer, ["x", "rois"], "y")
        assert net.get_var_sizes(sizes)["y"] == expected
        assert layer.get_receptive_fields(2, 1) == [[UNKNOWN], [UNKNOWN]]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "sum"}, "method"),
        ({"subdivisions": 0}, "subdivisions"),
        ({"subdivisions": (1, 2, 3)}, "subdivisions"),
        ({"transform": (1, 2, 3)}, "transform"),
        ({"transform": [[1, 2], [3, 4], [5, 6]]}, "transform"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        ROIPooling(**settings)


@pytest.mark.parametrize(
    ("rois", "match"),
    [
        (np.ones((5, 3)), r"\(K, 5\)"),
        (np.ones(5), r"\(K, 5\)"),
        (np.ones((0, 5)), r"\(K, 5\)"),
        (np.array([[3, 1, 1, 2, 2]]), "images 1 to 2"),
        (np.array([[0, 1, 1, 2, 2]]), "images 1 to 2"),
        (np.array([[1, 1, np.nan, 2, 2]]), "finite"),
        (np.array([[np.nan, 1, 1, 2, 2]]), "finite"),
    ],
)
def test_regions_that_cannot_be_are_refused(rois, match):
    with pytest.raises(ShapeError, match=match) as caught:
        ROIPooling().forward([np.ones((2, 3, 7, 9)), rois], [], Context())
    assert caught.value.input == 1


def test_a_region_of_great_numbers_is_cut_to_the_features():
    x = np.ones((1, 1, 3, 4), np.float32)
    y, _ = forward(ROIPooling(method="avg", subdivisions=1), x, [[1, -1e30, -1e30, 1e30, 1e30]])
    assert y.item() == 1


@golden("layers_vl_nnroipool")
def test_equals_vl_nnroipool(case):
    assert_passes(case)
