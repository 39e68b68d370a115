"""Tests of dsiam_net.boxes."""

import numpy as np
import pytest

from dsiam_net.boxes import (
    box_to_center,
    center_to_box,
    get_axis_aligned_bb,
    iou,
    polygon_to_box,
    template_sides,
    valid_boxes,
)
from golden import DOUBLE, assert_close, assert_passes, golden


@golden("siamfc_metrics", lambda name: name.startswith("aabb"))
def test_equals_get_axis_aligned_bb(case):
    assert_passes(case)
    region, expected = case.matrix("region"), case.matrix("out")
    assert_close(get_axis_aligned_bb(region[0]), expected[0], DOUBLE, case, "first row")


def test_the_centre_of_a_box_is_the_mean_of_the_pixels_that_it_covers():
    image = np.zeros((20, 30))
    image[4:9, 10:21] = 1  # rows 5 to 9 and columns 11 to 21, counted from 1
    center, size = box_to_center([11, 5, 11, 5])
    assert center.tolist() == [rc.mean() for rc in np.nonzero(image)]
    assert size.tolist() == [5, 11]


def test_centre_and_size_lead_back_to_the_box(rng):
    boxes = rng.random((6, 5, 4)) * 100
    center, size = box_to_center(boxes)
    assert center.shape == size.shape == (6, 5, 2)
    np.testing.assert_allclose(center_to_box(center, size), boxes, rtol=1e-12)


def test_an_upright_square_keeps_its_box_but_for_the_pixel_that_is_added():
    polygon = [10, 20, 40, 20, 40, 50, 10, 50]
    assert polygon_to_box(polygon).tolist() == [9.5, 19.5, 31, 31]


def test_a_region_of_another_length_is_refused():
    with pytest.raises(ValueError, match="4 or 8"):
        get_axis_aligned_bb([1, 2, 3, 4, 5, 6])


def test_sides_of_the_crops_worked_out_by_hand():
    # A square box of side a has a margin of a / 2 all around: 2 a.
    assert template_sides(30, 30) == pytest.approx((60, 60 * 255 / 127))
    # p = 30: (20 + 30) (40 + 30)
    assert template_sides(20, 40)[0] == pytest.approx(np.sqrt(3500))


@pytest.mark.parametrize("side", [0, -1, np.nan, np.inf])
def test_sides_of_a_box_without_area_are_refused(side):
    with pytest.raises(ValueError, match="positive"):
        template_sides(side, 3)


def test_overlap_counts_shared_pixels():
    a, b = np.array([3, 4, 8, 6]), np.array([7, 2, 9, 5])
    masks = np.zeros((2, 30, 30), bool)
    for mask, (x, y, w, h) in zip(masks, (a, b)):
        mask[y : y + h, x : x + w] = True
    assert iou(a, b) == (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert iou(a, a) == 1
    assert iou(a, [11, 4, 8, 6]) == 0  # side by side
    assert iou(a, [50, 50, 3, 3]) == 0


def test_overlap_broadcasts_and_is_zero_for_boxes_that_are_not_there():
    boxes = [[1, 1, 4, 4], [np.nan] * 4, [1, 1, 0, 4], [1, 1, -4, 4]]
    assert iou(boxes, [1, 1, 4, 4]).tolist() == [1, 0, 0, 0]
    assert valid_boxes(boxes).tolist() == [True, False, False, False]
