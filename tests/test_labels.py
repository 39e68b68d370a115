"""Tests of dsiam_net.labels."""

import numpy as np
import pytest

from dsiam_net.labels import (
    create_labels,
    create_logistic_loss_label,
    target_cell,
    target_labels,
)
from golden import assert_passes, golden


@golden("siamfc_labels", lambda name: name.startswith("lab_"))
def test_equals_create_logisticloss_label(case):
    assert_passes(case)


@golden("siamfc_labels", lambda name: name.startswith("cl_"))
def test_equals_create_labels(case):
    assert_passes(case)


@golden("siamfc_augment", lambda name: name.startswith("gw"))
def test_equals_gaussian_weight(case):
    assert_passes(case)


def test_labels_around_the_centre_are_siamfcs():
    expected = create_logistic_loss_label(17, 2, 0)
    np.testing.assert_array_equal(target_labels(np.array([[8.0, 8.0]]))[0, 0], expected)


def test_labels_follow_the_unrounded_position():
    # From (3.4, 2.0) the cells (2, 2) .. (5, 2) lie within 2 cells, (1, 2) and (6, 2) do not.
    (label,) = target_labels(np.array([[3.4, 2.0]]), (9, 7))[:, 0]
    assert label.shape == (9, 7)
    assert (np.flatnonzero(label[:, 2] > 0) == [2, 3, 4, 5]).all()
    distance = np.hypot(*(np.indices((9, 7)) - np.array([3.4, 2.0]).reshape(2, 1, 1)))
    np.testing.assert_array_equal(label > 0, distance <= 2)
    assert set(np.unique(label)) == {-1, 1}


def test_a_target_outside_the_map_or_absent_leaves_no_positive_cell():
    position = np.array([[30.0, 8.0], [np.nan, np.nan], [-1.5, 8.0]])
    label = target_labels(position, dtype=np.float64)
    assert label.shape == (3, 1, 17, 17) and label.dtype == np.float64
    assert (label[:2] == -1).all()
    assert (label[2, 0] > 0).sum() == 3  # (0, 7), (0, 8) and (0, 9)


def test_the_cell_of_a_target_worked_out_by_hand():
    # A search region of 510 frame pixels: 2 of them a pixel of the patch, 16 of them a cell.
    cell = target_cell(np.array([120.0, 84.0]), np.array([104.0, 100.0]), 510.0)
    assert cell.tolist() == [9, 7]


def test_the_cell_of_a_target_for_a_batch_and_a_map_that_is_not_square():
    center = np.array([[50.0, 60.0], [20.0, 30.0]])
    offset = np.array([[8.0, 0.0], [0.0, 16.0]])
    sides = np.array([[255.0], [510.0]])
    cells = target_cell(center + offset, center, sides, map_size=(9, 21))
    assert cells.tolist() == [[5, 10], [4, 11]]


def test_sides_without_a_centre_and_unknown_weightings_are_refused():
    with pytest.raises(ValueError, match="odd sides"):
        create_labels(16)
    with pytest.raises(ValueError, match="neutral_area"):
        create_labels(17, "none")
    with pytest.raises(ValueError, match="size"):
        create_logistic_loss_label((0, 3), 1, 2)
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        target_labels(np.zeros(2))
