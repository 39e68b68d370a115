"""Tests of dsiam_net.analysis.transformations, its figure, responses and generated videos."""

import csv
import json

import cv2
import numpy as np
import pytest

from analysing import FRAMES, short_video, tiny_net
from dsiam_net.analysis.distances import TRACKERS, VARIANTS, Variant
from dsiam_net.analysis.responses import first_clip, unrolled_with
from dsiam_net.analysis.transformations import (
    analyse_transformations,
    counts,
    layer_names,
    spread_frames,
    summary,
    write_csv,
    write_json,
)
from dsiam_net.analysis.transformations_figure import draw_transformations
from dsiam_net.analysis.videos import GeneratedSequence, generated_sequence
from dsiam_net.figures import collect_responses
from dsiam_net.settings import get_preset
from dsiam_net.tracker import create_tracker
from layers import xcorr

LAYERS = ("conv5", "relu4")


def analyse(**options):
    tracker = create_tracker("dsiamm", tiny_net(), get_preset("released", fusion_weight=0.8))
    return analyse_transformations(tracker, short_video(), LAYERS, **options)


@pytest.fixture(scope="module")
def result():
    return analyse()


def test_all_frames_are_measured_and_some_are_shown(result):
    assert result.distances.values.shape == (FRAMES, 2, 2, len(VARIANTS))
    assert [shown.number for shown in result.shown] == [1, 3, 4, 5]
    assert [shown.adapted is None for shown in result.shown] == [True, False, False, False]


def test_the_response_shown_is_that_of_the_plain_network(result):
    tracker = create_tracker("dsiamm", tiny_net(), get_preset("released", fusion_weight=0.8))
    shown = result.shown[-1]
    template = tracker.network.features(result.shown[0].patches.target[None])
    search = tracker.network.features(shown.patches.surroundings[None])
    fine, coarse = (xcorr(z, x)[0, 0] for z, x in zip(template[::-1], search[::-1]))
    coarse = cv2.resize(coarse, fine.shape) if coarse.shape != fine.shape else coarse
    expected = 1e-8 * (0.8 * coarse + 0.2 * fine)
    assert np.allclose(shown.plain, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(shown.adapted, shown.plain, rtol=0.01)


def test_frames_to_be_shown_are_chosen_or_spread():
    assert [shown.number for shown in analyse(show=[2, 5]).shown] == [1, 2, 5]
    assert spread_frames(81) == [3, 22, 42, 62, 81]
    assert spread_frames(4) == [3, 4]
    assert spread_frames(1) == [1]
    with pytest.raises(ValueError, match="in 1 to 5, received 6"):
        analyse(show=[6])


def test_two_frames_are_too_few():
    video = short_video()
    short = GeneratedSequence("two", video.frames[:2], video.boxes[:2])
    tracker = create_tracker("dsiamm", tiny_net())
    with pytest.raises(ValueError, match="from frame 3 on, and there are 2 frames"):
        analyse_transformations(tracker, short, LAYERS)


def test_counts_are_of_the_frames_that_have_both(result):
    found = {(c.role, c.layer, c.variant): c for c in counts(result)}
    assert len(found) == 2 * 2 * 10
    for level, layer in enumerate(LAYERS, start=1):
        with_it = result.distances.series("W", level, TRACKERS)[2:]
        without = result.distances.series("W", level, TRACKERS.base)[2:]
        count = found["W", layer, TRACKERS]
        assert count.nearer == sum(a < b for a, b in zip(with_it, without))
        assert count.frames == FRAMES - 2
        assert count.median == pytest.approx(np.median(with_it / without))
    assert found["V", "conv5", Variant("t", "alone", "hann")].frames == FRAMES - 1
    assert found["W", "conv5", Variant("t", "alone", "hann")].frames == FRAMES


def test_the_summary_names_the_frames_in_which_the_claim_holds(result):
    count = next(c for c in counts(result) if c.variant == TRACKERS)
    line = next(line for line in summary(result).splitlines() if line.startswith("V_t-1 conv5"))
    assert line.split()[2:5] == [str(count.nearer), "of", str(count.frames)]
    assert len(summary(result).splitlines()) == 2 + 3 * 2 * 2


def test_the_files_hold_every_distance_and_the_settings(result, tmp_path):
    write_csv(result, tmp_path / "distances.csv")
    with open(tmp_path / "distances.csv") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == result.distances.values.size
    numbers = np.array([float(row["distance"] or "nan") for row in table])
    assert np.array_equal(numbers, result.distances.values.ravel(), equal_nan=True)
    assert {row["layer"] for row in table} == set(LAYERS)
    write_json(result, tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["shares"] == pytest.approx({"V1": 0.49, "V2": 0.49, "W1": 0.29, "W2": 0.29})
    assert content["lambdas"]["w1_lambda"] == 10
    assert content["frames"] == FRAMES and content["positions"] == "truth"
    assert len(content["counts"]) == len(counts(result))


def test_one_feature_layer_is_enough(tmp_path):
    tracker = create_tracker("dsiam", tiny_net())
    result = analyse_transformations(tracker, short_video(), LAYERS[:1])
    assert result.distances.levels == 1
    draw_transformations(result, tmp_path / "one.png", dpi=40)
    assert cv2.imread(str(tmp_path / "one.png")) is not None


def test_the_figure_says_how_often_and_in_which_frames(result, tmp_path):
    draw_transformations(result, tmp_path / "figure.svg", "A title")
    text = (tmp_path / "figure.svg").read_text()
    for words in ("A title", "frame 5", "of 3 frames", "Euclidean distance", "nothing"):
        assert words in text


def test_feature_layers_have_the_names_of_the_layers_that_write_them():
    assert layer_names(tiny_net(), ("feat", "x14")) == LAYERS
    assert layer_names(tiny_net(), LAYERS) == LAYERS


# Generated videos


def test_a_generated_sequence_is_the_same_again_and_begins_like_a_longer_one():
    first, again, longer = (generated_sequence(4, length=n) for n in (2, 2, 3))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.frames, longer.frames[:2])
    assert len(first) == 2 and first.present.all() and first.polygons is None
    assert np.array_equal(longer.frame(2), longer.frames[2])


@pytest.mark.parametrize("numbers", [(-1, 0, 2), (0, -1, 2), (0, 0, 0)])
def test_a_generated_sequence_refuses_bad_numbers(numbers):
    with pytest.raises(ValueError, match="at least 1 and a seed"):
        generated_sequence(*numbers)


# Responses of the unrolled network


def test_the_unrolled_network_answers_on_the_first_frames():
    clip = first_clip(short_video(), 2)
    net = unrolled_with(tiny_net(), 2)
    branch = tiny_net()
    assert np.array_equal(net.get_param("conv3f").value, branch.get_param("conv3f").value)
    responses = collect_responses(net, clip)
    assert [r.number for r in responses] == [1, 2]
    assert np.array_equal(responses[1].true_box, short_video().boxes[1])


def test_a_clip_needs_frames_and_boxes_of_one_size():
    video = short_video()
    with pytest.raises(ValueError, match="a clip of 6 was asked for"):
        first_clip(video, 6)
    boxes = video.boxes.copy()
    boxes[1] = np.nan
    with pytest.raises(ValueError, match="frame 2 has no box"):
        first_clip(GeneratedSequence("gap", video.frames, boxes), 3)
    frames = [video.frames[0], video.frames[1][:70]]
    with pytest.raises(ValueError, match="one size"):
        first_clip(GeneratedSequence("sizes", frames, video.boxes[:2]), 2)
