"""Tests of dsiam_net.evaluation.protocol and of the scores in dsiam_net.metrics."""

import dataclasses

import numpy as np
import pytest

from dsiam_net.evaluation.protocol import (
    PROTOCOLS,
    Run,
    clip_boxes,
    frame_overlaps,
    mean_scores,
    prepare,
    ranking,
    score_run,
)
from dsiam_net.evaluation.results import read_run
from dsiam_net.metrics import (
    average_overlap,
    normalized_errors,
    normalized_precision,
    overlaps,
    success_auc,
)
from dsiam_net.sequences import read_otb
from golden import SHARED
from test_metrics import PUBLISHED

OTB, GOT10K = PROTOCOLS["otb"], PROTOCOLS["got10k"]
SIZE = (100, 80)
NAN = [np.nan] * 4


def score(protocol, boxes, truth, times=None, size=SIZE):
    return score_run(protocol, Run(np.array([boxes], dtype=float), times), np.array(truth), size)


# Scores worked out by hand


def test_the_normalised_error_is_in_units_of_the_true_box():
    truth = np.array([[11.0, 11, 20, 40], [11, 11, 20, 40], [11, 11, 0.5, 0.5]])
    results = np.array([[16.0, 11, 20, 40], [11, 21, 20, 40], [14, 15, 0.5, 0.5]])
    # 5 of 20 across, 10 of 40 down; a side below a pixel counts as one: (3, 4) makes 5.
    assert normalized_errors(results, truth).tolist() == [0.25, 0.25, 5]
    # 0.25 is within the 26 thresholds 0.25, 0.26, ..., 0.5 of 51.
    assert normalized_precision(results[:2], truth[:2]) == pytest.approx(26 / 51)


def test_a_missing_result_is_infinitely_far():
    assert normalized_errors(np.array([NAN]), np.array([[1.0, 1, 2, 2]])).tolist() == [np.inf]


def test_average_overlap_is_the_mean():
    truth = np.array([[1.0, 1, 40, 40]] * 2)
    assert average_overlap(np.array([[1.0, 1, 40, 20], [1, 1, 40, 40]]), truth) == 0.75


def test_no_overlap_is_greater_than_one():
    boxes = np.random.default_rng(0).uniform(0.01, 30, (20000, 4))
    assert overlaps(boxes, boxes).max() == 1
    assert success_auc(boxes, boxes) == 20 / 21


def test_otb_scores_by_hand():
    truth = [[10.0, 10, 10, 10]] * 4
    # The first is replaced by the truth; then overlap 0.5, 1/3 (5 across) and 0 (30 across).
    boxes = [[50.0, 50, 3, 3], [10, 10, 10, 5], [15, 10, 10, 10], [40, 10, 10, 10]]
    scores = score(OTB, boxes, truth)
    # Thresholds 0, 0.05, ..., 1 that overlaps 1, 0.5, 1/3 and 0 exceed: 20, 10, 7 and 0.
    assert scores.auc == pytest.approx((20 + 10 + 7 + 0) / (4 * 21))
    assert scores.precision == 0.75
    # Errors 0, 0.25 (2.5 of 10), 0.5, 3 are within 51, 26, 1 and 0 of 51 thresholds.
    assert scores.normalized_precision == pytest.approx((51 + 26 + 1 + 0) / (4 * 51))
    assert scores.ao == pytest.approx((1 + 0.5 + 1 / 3) / 4)
    assert (scores.sr50, scores.sr75) == (0.25, 0.25)
    assert scores.frames == 4
    assert scores.success[0] == 0.75 and scores.success[-1] == 0
    assert scores.centre[[0, 2, 3, 5, 29, 30]].tolist() == [0.25, 0.25, 0.5, 0.75, 0.75, 1]


def test_got10k_scores_by_hand():
    truth = [[10.0, 10, 10, 10], [10, 10, 10, 10], [95, 10, 10, 10], [10, 10, 10, 10]]
    # The first frame is not scored. The third box and its truth end at the frame's right side,
    # column 100, where both have 5 columns; without that the overlap were 1/3.
    boxes = [[50.0, 50, 3, 3], [10, 10, 10, 5], [95, 10, 20, 10], [60, 60, 9, 9]]
    scores = score(GOT10K, boxes, truth)
    assert scores.frames == 3
    assert scores.ao == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores.sr50 == scores.sr75 == pytest.approx(1 / 3)
    # Of 101 thresholds 0.5 exceeds 50, and 1 exceeds 100.
    assert len(scores.success) == 101
    assert scores.auc == pytest.approx((50 + 100) / (3 * 101))


def test_clipped_boxes_lie_in_the_frame():
    boxes = [[-5.0, 70, 20, 20], [120, 10, 5, 5], [3, 4, 5, 6]]
    assert clip_boxes(boxes, (100, 80)).tolist() == [
        [0, 70, 20, 10],
        [100, 10, 0, 5],
        [3, 4, 5, 6],
    ]


# Frames without truth or result


def test_frames_without_truth_are_not_scored():
    truth = [[10.0, 10, 10, 10], NAN, [10, 10, 10, 10], [10, 10, 0, 0]]
    boxes = [[10.0, 10, 10, 10], [1, 1, 1, 1], [10, 10, 10, 10], [1, 1, 1, 1]]
    assert score(OTB, boxes, truth).frames == 2
    assert score(OTB, boxes, truth).ao == 1
    assert score(GOT10K, boxes, truth).frames == 1
    assert np.isnan(frame_overlaps(OTB, boxes, truth, SIZE)).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="no frame has ground truth"):
        score(GOT10K, boxes[:2], truth[:2])


def test_otb_repeats_the_box_before_a_loss_and_got10k_counts_a_miss():
    truth = [[10.0, 10, 10, 10]] * 4
    boxes = [NAN, NAN, [10, 10, 10, 5], [10, 10, -1, 4]]
    assert prepare(OTB, boxes, truth).tolist() == [truth[0], truth[0], boxes[2], boxes[2]]
    assert score(OTB, boxes, truth).ao == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert score(GOT10K, boxes, truth).ao == pytest.approx(0.5 / 3)


def test_another_number_of_boxes_is_refused():
    with pytest.raises(ValueError, match=r"expected 2 boxes.*received 3"):
        score(OTB, [[1.0, 1, 2, 2]] * 3, [[1.0, 1, 2, 2]] * 2)


# Speed, repetitions, means


def test_frames_a_second_leave_unknown_times_out():
    truth = [[10.0, 10, 10, 10]] * 4
    times = np.array([[0.5, 0.25, 0, np.nan]])
    assert score(OTB, truth, truth, times).fps == 3  # the mean of 2 and 4
    assert score(OTB, truth, truth).fps is None


def test_repetitions_are_scored_together():
    truth = np.array([[10.0, 10, 10, 10]] * 2)
    half = truth * [1, 1, 1, 0.5]
    scores = score_run(GOT10K, Run(np.stack([truth, half])), truth, SIZE)
    assert (scores.frames, scores.ao) == (2, 0.75)


def test_otb_means_over_sequences_and_got10k_over_frames():
    truth = [[10.0, 10, 10, 10]] * 5
    half = np.array(truth) * [1, 1, 1, 0.5]
    for protocol, ao, fps in (
        (OTB, (0.5 + (1 + 0.5) / 2) / 2, (4 + 1) / 2),
        (GOT10K, 0.5, (5 * 4 + 2 * 1) / 7),
    ):
        long = score(protocol, half, truth, np.full((1, 5), 0.25))
        short = score(protocol, half[:2], truth[:2], np.full((1, 2), 1.0))
        long = dataclasses.replace(long, ao=0.5)
        mean = mean_scores(protocol, [long, short])
        assert mean.ao == pytest.approx(ao)
        assert mean.fps == pytest.approx(fps)
        assert mean.frames == long.frames + short.frames


def test_a_mean_needs_a_sequence():
    with pytest.raises(ValueError, match="received none"):
        mean_scores(OTB, [])


def test_trackers_are_ranked_by_the_protocols_score():
    truth = np.array([[10.0, 10, 10, 10]] * 3)
    good, bad = score(OTB, truth, truth), score(OTB, truth * [1.5, 1, 1, 1], truth)
    assert ranking(OTB, {"bad": bad, "good": good, "too": good}) == ["good", "too", "bad"]
    worse_ao = dataclasses.replace(good, ao=0.0)
    assert ranking(GOT10K, {"good": worse_ao, "bad": bad}) == ["bad", "good"]


# Published results


@pytest.mark.skipif(not (SHARED / "reference_results").is_dir(), reason="shared files not found")
@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"Deer"}))
def test_the_published_scores_come_out(name):
    run = read_run(SHARED / "reference_results" / "DSiamM_OTB", name)
    truth = read_otb(SHARED / "sequences" / name).boxes
    scores = score_run(OTB, run, truth, (0, 0))
    assert (scores.auc, scores.precision) == pytest.approx(PUBLISHED[name], abs=5.001e-4)
