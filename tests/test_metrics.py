"""Tests of dsiam_net.metrics."""

import numpy as np
import pytest

from dsiam_net.metrics import (
    center_errors,
    overlaps,
    precision,
    precision_auc,
    success_auc,
    success_rates,
)
from golden import SHARED, assert_passes, golden

# Success and precision of the published results, from their README.
PUBLISHED = {
    "Bird2": (0.709, 0.949),
    "Crossing": (0.740, 1),
    "David": (0.688, 0.975),
    "Deer": (0.767, 1),
    "DragonBaby": (0.302, 0.327),
    "Freeman1": (0.657, 1),
    "Human7": (0.744, 1),
    "Jogging": (0.718, 0.974),
    "MotorRolling": (0.169, 0.073),
    "Skiing": (0.480, 0.975),
}


@golden("siamfc_metrics", lambda name: name.startswith("precision_auc"))
def test_equals_precision_auc(case):
    assert_passes(case)


def test_precision_auc_leaves_out_what_is_not_a_number():
    positions = np.array([[1.0, 1.0], [np.nan, 2.0], [4.0, 5.0]])
    truth = np.ones((3, 2))
    # The third is 5 away, beyond thresholds 0, 2 and 4 of 0, 2, ..., 10: 1/2 + 1 + 1.
    assert precision_auc(positions, truth, 10, 6) == 2.5


@pytest.mark.skipif(not (SHARED / "reference_results").is_dir(), reason="shared files not found")
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_scores_of_published_results_are_reproduced(name):
    def read(path):
        text = path.read_text().replace(",", " ").replace("\t", " ")
        return np.array([line.split() for line in text.splitlines() if line.strip()], dtype=float)

    results = read(SHARED / "reference_results" / "DSiamM_OTB" / f"{name}.txt")
    truth = read(SHARED / "sequences" / name / "groundtruth_rect.txt")
    if name == "Deer":
        # The frames of 704x400 pixels were resized to 640x364, and the boxes with them: those of
        # the truth around the first pixel by either ratio, those of the results by 640/704 alone.
        ratio = np.array([640 / 704, 364 / 400] * 2)
        first = np.array([1, 1, 0, 0])
        truth = np.round((truth - first) / ratio + first, 2) * (640 / 704)
    success, at_20 = PUBLISHED[name]
    assert success_auc(results, truth) == pytest.approx(success, abs=5.001e-4)
    assert precision(results, truth) == pytest.approx(at_20, abs=5.001e-4)


def test_overlap_must_exceed_its_threshold_and_the_centre_error_may_equal_its():
    truth = np.array([[1.0, 1, 40, 40], [1, 1, 40, 40]])
    results = np.array([[1.0, 1, 40, 20], [21, 1, 40, 40]])
    assert overlaps(results, truth)[0] == 0.5
    assert success_rates(results[:1], truth[:1], [0.49, 0.5]).tolist() == [1, 0]
    assert center_errors(results, truth).tolist() == [10, 20]
    assert precision(results, truth) == 1
    assert precision(results, truth, 19.9) == 0.5


def test_a_perfect_result_misses_the_last_threshold_alone():
    truth = np.array([[3.0, 4, 5, 6]])
    assert success_auc(truth, truth) == 20 / 21


def test_frames_without_truth_are_left_out_and_frames_without_result_are_missed():
    truth = np.array([[1.0, 1, 4, 4], [np.nan] * 4, [1, 1, 4, 4]])
    results = np.array([[1.0, 1, 4, 4], [1, 1, 4, 4], [np.nan] * 4])
    assert overlaps(results, truth).tolist() == [1, 0]
    assert center_errors(results, truth).tolist() == [0, np.inf]
    assert precision(results, truth) == 0.5


def test_results_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        success_auc(np.ones((3, 4)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="no frame has ground truth"):
        precision(np.ones((2, 4)), np.full((2, 4), np.nan))
