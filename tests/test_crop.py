"""Tests of layers.crop."""

import numpy as np
import pytest

from dagnet import Context, DagNN, GraphError, ShapeError
from errors import prove
from layers import Crop

BLUE = np.array([[10.0, 20.0, 30.0]])


def ramp(height, width):
    """A frame whose value at (row, column) is 100 row + column, the same in three channels."""
    rows, columns = np.mgrid[:height, :width]
    return np.broadcast_to((100.0 * rows + columns), (1, 3, height, width)).copy()


def score_map(peak, shape=(5, 5), value=1.0):
    scores = np.zeros((1, 1, *shape))
    scores[0, 0, peak[0], peak[1]] = value
    return scores


def run(layer, image, scores, center, sides, color=BLUE):
    arrays = [image, scores, np.array([center], float), np.array([sides], float), color]
    outputs, saved = layer.forward(arrays, [], Context())
    return outputs, saved


def test_a_side_of_as_many_pixels_as_the_patch_copies_the_pixels():
    # s_z = 3 at 3 pixels: samples fall on pixel centres.
    (patch, center), _ = run(
        Crop(size=3, side="exemplar"), ramp(9, 9), score_map((2, 2)), (4, 5), (3, 6)
    )
    expected = 100 * np.array([[3], [4], [5]]) + np.array([4, 5, 6])
    assert np.allclose(patch[0, 0], expected)
    assert center.tolist() == [[4, 5]]


def test_the_centre_moves_by_the_peak_in_frame_pixels():
    # One cell is stride * s_x / search_size = 8 * 51 / 255 = 1.6 frame pixels.
    layer = Crop(size=3, side="search")
    (_, center), _ = run(layer, ramp(20, 20), score_map((4, 1)), (10, 10), (20, 51))
    assert np.allclose(center, [[10 + 2 * 1.6, 10 - 1 * 1.6]])


def test_a_side_twice_the_patch_samples_every_second_pixel_boundary():
    # Samples of a span of 4 pixels at 2 points lie at c - 1 and c + 1.
    (patch, _), _ = run(
        Crop(size=2, side="search"), ramp(9, 9), score_map((2, 2)), (4.5, 4.5), (2, 4)
    )
    assert np.allclose(patch[0, 1], [[353.5, 355.5], [553.5, 555.5]])


def test_outside_the_frame_is_the_given_colour():
    (patch, _), _ = run(
        Crop(size=4, side="search"), ramp(6, 6), score_map((2, 2)), (-20, -20), (2, 4)
    )
    assert np.allclose(patch[0], BLUE[0][:, None, None] * np.ones((4, 4)))


def test_half_outside_mixes_with_the_colour_at_the_border():
    # Samples at rows -0.5 and 0.5: half colour, half first row; and the middle of rows 0 and 1.
    (patch, _), _ = run(
        Crop(size=2, side="search"), ramp(6, 6), score_map((2, 2)), (0, 2.5), (1, 2)
    )
    first = 0.5 * BLUE[0, 0] + 0.5 * np.array([2.0, 3.0])
    assert np.allclose(patch[0, 0], [first, [52, 53]])


def test_ties_of_the_peak_go_to_the_first_in_column_major_order():
    scores = np.zeros((1, 1, 5, 5))
    scores[0, 0, 1, 3] = scores[0, 0, 4, 1] = 2.0  # column 1 comes before column 3
    (_, center), _ = run(Crop(size=3), ramp(9, 9), scores, (0, 0), (127, 255))
    assert np.allclose(center, [[2 * 8, -1 * 8]])


def test_pool_puts_the_sum_at_the_peak():
    layer = Crop(size=2, side="search", mode="pool")
    _, saved = run(layer, ramp(9, 9), score_map((3, 1)), (4, 4), (2, 4))
    der_patch = np.arange(12.0).reshape(1, 3, 2, 2)
    ders, _ = layer.backward([None] * 5, [], [der_patch, None], saved, Context())
    expected = np.zeros((1, 1, 5, 5))
    expected[0, 0, 3, 1] = 66.0
    assert np.array_equal(ders[1], expected)
    assert ders[0] is None and ders[2] is None


def test_scatter_puts_each_pixel_at_the_cell_that_lies_there():
    # Map 3x3, one cell = 8 * 255 / 255 = 8 frame pixels around c = (50, 50); peak at (1, 2), so
    # c' = (50, 58). A patch of 4x4 samples over side 32 has samples at offsets -12, -4, 4, 12:
    # rows 38, 46, 54, 62 -> cells -1.5+1, -0.5+1, 0.5+1, 1.5+1 = -0.5, 0.5, 1.5, 2.5 -> 0, 1, 2, 3
    # columns 46, 54, 62, 70 -> 0.5, 1.5, 2.5, 3.5 -> 1, 2, 3, 4 (3 and 4 are beyond the map).
    layer = Crop(size=4, side="exemplar", mode="scatter")
    _, saved = run(layer, ramp(99, 99), score_map((1, 2), (3, 3)), (50, 50), (32, 255))
    der_patch = np.arange(16.0).reshape(1, 1, 4, 4) * np.array([1.0, 10.0, 100.0]).reshape(
        1, 3, 1, 1
    )
    ders, _ = layer.backward([None] * 5, [], [der_patch, None], saved, Context())
    expected = np.zeros((3, 3))
    expected[0:3, 1] = [111 * 0, 111 * 4, 111 * 8]
    expected[0:3, 2] = [111 * 1, 111 * 5, 111 * 9]
    assert np.allclose(ders[1][0, 0], expected)


def test_scatter_of_a_patch_within_the_map_keeps_the_whole_sum(rng):
    layer = Crop(size=9, side="exemplar", mode="scatter")
    _, saved = run(layer, ramp(99, 99), score_map((8, 8), (17, 17)), (50, 50), (64, 255))
    der_patch = rng.standard_normal((1, 3, 9, 9))
    ders, _ = layer.backward([None] * 5, [], [der_patch, None], saved, Context())
    assert np.isclose(ders[1].sum(), der_patch.sum())


def test_none_has_no_derivative():
    layer = Crop(size=2, mode="none")
    _, saved = run(layer, ramp(9, 9), score_map((2, 2)), (4, 4), (2, 4))
    ders, _ = layer.backward([None] * 5, [], [np.ones((1, 3, 2, 2)), None], saved, Context())
    assert ders == [None] * 5
    assert layer.differentiable_inputs(5) == (False,) * 5


@pytest.mark.parametrize("size, side, shape", [(5, "exemplar", (5, 5)), (4, "search", (3, 7))])
def test_soft_is_differentiable_by_image_scores_and_center(rng, size, side, shape):
    n = 2
    image = rng.uniform(0, 2, (n, 3, 11, 14))
    scores = rng.standard_normal((n, 1, *shape))
    # Centres that let the patch leave the frame, away from the kinks of bilinear sampling.
    center = np.array([[5.13, 6.21], [1.37, 12.41]])
    sides = np.array([[6.17, 9.31], [5.23, 8.87]])
    color = rng.uniform(0, 2, (n, 3))
    layer = Crop(size=size, side=side, mode="soft", temperature=0.7, search_size=60)
    prove(layer, [image, scores, center, sides, color], skip_inputs=[3, 4], step=1e-6)


def test_soft_at_a_low_temperature_is_the_peak(rng):
    image, scores = (
        rng.uniform(0, 255, (1, 3, 40, 50)),
        rng.permutation(np.arange(25.0)).reshape(1, 1, 5, 5),
    )
    (hard, _), _ = run(Crop(size=7), image, scores, (20, 25), (10, 20))
    (soft, _), _ = run(
        Crop(size=7, mode="soft", temperature=0.01), image, scores, (20, 25), (10, 20)
    )
    assert np.allclose(hard, soft)


def test_a_given_centre_is_the_patchs():
    # Samples of a span of 4 pixels at 2 points lie at c - 1 and c + 1: rows 2.5 and 4.5, columns
    # 5.25 and 7.25 of frame 1; in frame 2 the colour lies left of column 0.
    layer = Crop(size=2, side="search", mode="given")
    center = np.array([[3.5, 6.25], [1.0, -30.0]])
    inputs = [np.concatenate([ramp(9, 9)] * 2), center, np.array([[2.0, 4.0]] * 2), BLUE[[0, 0]]]
    (patch, moved), _ = layer.forward(inputs, [], Context())
    assert np.allclose(patch[0, 2], [[255.25, 257.25], [455.25, 457.25]])
    assert np.array_equal(patch[1], BLUE[0][:, None, None] * np.ones((2, 2)))
    assert np.array_equal(moved, center) and moved is not center


def test_a_given_centre_cuts_what_a_peak_there_cuts(rng):
    image, color = rng.uniform(0, 255, (1, 3, 40, 50)), rng.uniform(0, 255, (1, 3))
    sides = np.array([[9.3, 18.7]])
    for side in ("exemplar", "search"):
        scores, center = score_map((1, 4)), np.array([[20.3, 24.9]])
        around_peak = [image, scores, center, sides, color]
        (patch, moved), _ = Crop(size=7, side=side).forward(around_peak, [], Context())
        given = Crop(size=7, side=side, mode="given")
        (same, still), _ = given.forward([image, moved, sides, color], [], Context())
        assert np.array_equal(patch, same) and np.array_equal(moved, still)


def test_with_a_given_centre_nothing_is_differentiated():
    layer = Crop(size=2, mode="given")
    inputs = [ramp(9, 9), np.array([[4.0, 4.0]]), np.array([[2.0, 4.0]]), BLUE]
    _, saved = layer.forward(inputs, [], Context())
    ders, _ = layer.backward([None] * 4, [], [np.ones((1, 3, 2, 2)), None], saved, Context())
    assert ders == [None] * 4
    assert layer.differentiable_inputs(4) == (False,) * 4


@pytest.mark.parametrize("mode, names", [("given", "isckl"), ("pool", "ickl")])
def test_a_response_beside_a_given_centre_or_none_without_is_refused(mode, names):
    wanted = 4 if mode == "given" else 5
    with pytest.raises(GraphError, match=f"takes {wanted} inputs, received {len(names)}"):
        DagNN().add_layer("crop", Crop(mode=mode), list(names), ["patch", "moved"])


def test_a_given_centre_of_another_shape_or_of_integers_is_refused():
    layer = Crop(size=2, mode="given")
    others = [np.array([[2.0, 4.0]]), BLUE]
    with pytest.raises(ShapeError, match=r"a position .* must have shape \(1, 2\)") as caught:
        layer.forward([ramp(9, 9), np.zeros((1, 3)), *others], [], Context())
    assert caught.value.input == 1
    with pytest.raises(ShapeError, match="the sides") as caught:
        layer.forward([ramp(9, 9), np.zeros((1, 2)), BLUE, BLUE], [], Context())
    assert caught.value.input == 2
    with pytest.raises(TypeError, match=r"floating point.* received int64"):
        layer.forward([ramp(9, 9), np.zeros((1, 2), np.int64), *others], [], Context())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_position_that_is_not_finite_is_refused(bad):
    scores = np.full((1, 1, 5, 5), bad)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=r"not finite.* diverged"):
        run(Crop(size=3, mode="soft"), ramp(9, 9), scores, (4, 5), (3, 6))
    given = [ramp(9, 9), np.array([[4.0, bad]]), np.array([[3.0, 6.0]]), BLUE]
    with pytest.raises(ValueError, match="given centre is not finite"):
        Crop(size=3, mode="given").forward(given, [], Context())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_given_centres_dtype_is_that_of_the_outputs(rng, dtype):
    image = rng.integers(0, 256, (1, 3, 30, 40), dtype=np.uint8)
    inputs = [image, np.array([[10, 12]], dtype), np.array([[8.0, 16.0]]), np.full((1, 3), 9.0)]
    (patch, center), _ = Crop(size=6, mode="given").forward(inputs, [], Context())
    assert patch.dtype == center.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_taken_as_they_are_and_outputs_have_the_dtype_of_the_scores(rng, dtype):
    image = rng.integers(0, 256, (2, 3, 30, 40), dtype=np.uint8)
    scores = rng.standard_normal((2, 1, 5, 5)).astype(dtype)
    arrays = [np.array([[10, 12], [3, 30]]), np.array([[8.0, 16.0]] * 2), np.full((2, 3), 9.0)]
    layer = Crop(size=6)
    (patch, center), _ = layer.forward([image, scores, *arrays], [], Context())
    assert patch.dtype == center.dtype == dtype
    (same, _), _ = layer.forward([image.astype(dtype), scores, *arrays], [], Context())
    assert np.array_equal(patch, same)


def test_a_wrong_shape_is_refused_by_name():
    with pytest.raises(ShapeError, match="response map must have shape"):
        run(Crop(), ramp(9, 9), np.zeros((1, 5, 5)), (4, 4), (2, 4))


@pytest.mark.parametrize("settings", [{"mode": "hard"}, {"side": "z"}, {"temperature": 0.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Crop(**settings)
