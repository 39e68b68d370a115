"""Tests of layers.crop_like and layers.crop_margin."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError, Size, layer_class
from errors import prove
from golden import assert_passes, golden
from layers import Conv, Crop, CropLike, CropMargin, cut_borders

# features, reference, setting, (top, bottom, left, right) worked out by hand
GRID = [
    ((2, 3, 6, 5), (2, 1, 4, 3), (0, 0), (0, 2, 0, 2)),
    ((2, 3, 6, 5), (1, 2, 4, 3), (1, 1), (1, 1, 1, 1)),
    ((2, 3, 6, 6), (2, 3, 3, 5), (2, 3), (2, 1, 1, 0)),  # 3 columns are more than there are to cut
    ((1, 2, 5, 4), (1, 2, 5, 4), (2, 2), (0, 0, 0, 0)),
    ((3, 1, 7, 4), (3, 1, 1, 2), 1, (1, 5, 1, 1)),
]


@pytest.mark.parametrize(("shape", "reference", "crop", "cut"), GRID)
def test_gradient(rng, shape, reference, crop, cut):
    prove(CropLike(crop=crop), [rng.standard_normal(shape), rng.standard_normal(reference)])


@pytest.mark.parametrize(("shape", "reference", "crop", "cut"), GRID)
def test_takes_the_size_of_the_second(rng, shape, reference, crop, cut):
    x, layer = rng.standard_normal(shape), CropLike(crop=crop)
    (y,), _ = layer.forward([x, np.empty(reference)], [], Context())
    assert y.shape == (*shape[:2], *reference[2:])
    top, _, left, _ = cut
    np.testing.assert_array_equal(y, x[:, :, top : top + reference[2], left : left + reference[3]])
    assert layer.get_adapted_crops(shape[2:], reference[2:]) == cut
    assert tuple(layer.get_output_sizes([Size(*shape), Size(*reference)])[0]) == y.shape


def test_it_is_not_the_crop_of_dsiam():
    assert layer_class("dagnn.Crop") is CropLike
    assert layer_class("Crop") is Crop


def test_receptive_fields_do_not_pass_through_the_second_input():
    net = DagNN()
    net.add_layer("conv", Conv(size=(1, 1, 3, 3)), "x", "small", ["f", "b"])
    net.add_layer("crop", CropLike(crop=(1, 2)), ["big", "small"], "y")
    field = net.get_var_receptive_fields("big")["y"]
    assert field == ((1, 1), (1, 1), (2, 3))
    assert net.get_var_receptive_fields("x")["y"] is None


def test_a_network_trains_through_the_first_input_alone(rng):
    net = DagNN()
    net.add_layer("crop", CropLike(crop=1), ["x", "like"], "y")
    net.get_var("x").precious = net.get_var("like").precious = True
    x, like = rng.standard_normal((1, 2, 5, 5)), rng.standard_normal((1, 2, 3, 3))
    net.eval({"x": x, "like": like}, {"y": 1.0})
    assert net.get_var("x").der.sum() == 2 * 9
    assert net.get_var("like").der is None


def test_references_that_are_too_large_are_refused(rng):
    x = rng.standard_normal((1, 2, 4, 4))
    with pytest.raises(ShapeError, match="no larger than") as error:
        CropLike().forward([x, np.empty((1, 1, 5, 3))], [], Context())
    assert error.value.input == 1
    with pytest.raises(ShapeError, match="no larger than"):
        CropLike().forward([x, np.empty((4, 4))], [], Context())
    with pytest.raises(ShapeError, match="cannot cut"):
        cut_borders(x, (2, 2, 0, 0))
    with pytest.raises(ValueError, match="crop"):
        CropLike(crop=(1, 2, 3))
    with pytest.raises(ValueError, match="crop"):
        CropLike(crop=-1)


@golden("layers_pure_m", lambda name: name.startswith("crop"))
def test_equals_vl_nncrop(case):
    assert_passes(case)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 6, 6)])
@pytest.mark.parametrize("margin", [0, 1, 2])
def test_gradient_of_the_margin(rng, shape, margin):
    prove(CropMargin(margin=margin), [rng.standard_normal(shape)])


def test_a_margin_is_cut_off_all_four_sides(rng):
    x = rng.standard_normal((2, 3, 6, 5))
    layer = CropMargin(margin=2)
    (y,), _ = layer.forward([x], [], Context())
    np.testing.assert_array_equal(y, x[:, :, 2:-2, 2:-2])
    assert tuple(layer.get_output_sizes([Size(2, 3, 6, 5)])[0]) == y.shape
    assert layer.get_output_sizes([Size(2, 3, 3, np.nan)])[0][:3] == (2, 3, 0)
    assert layer.get_receptive_fields(1, 1) == [[((1, 1), (1, 1), (3, 3))]]


def test_margins_that_cannot_be_are_refused(rng):
    with pytest.raises(ShapeError, match="cannot cut"):
        CropMargin(margin=2).forward([rng.standard_normal((1, 1, 4, 9))], [], Context())
    for margin in (-1, 0.5):
        with pytest.raises(ValueError, match="margin"):
            CropMargin(margin=margin)
