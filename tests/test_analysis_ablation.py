"""Tests of dsiam_net.analysis.ablation and its figure."""

import csv
import json
import os

import cv2
import numpy as np
import pytest

from analysing import FRAMES, short_video, tiny_net
from dsiam_net.analysis import ablation
from dsiam_net.analysis.ablation import (
    VARIANTS,
    Run,
    Variant,
    mean_runs,
    result_file,
    run_ablation,
    table,
    write_csv,
)
from dsiam_net.analysis.ablation_figure import draw_ablation
from dsiam_net.analysis.videos import GeneratedSequence
from dsiam_net.metrics import precision, success_auc
from dsiam_net.patches import ExactPatches
from dsiam_net.settings import get_preset
from dsiam_net.tracker import Tracker, create_tracker

# Random weights: no score counts as lost, so that the transformations are in use all the time.
SETTINGS = get_preset("released", lost_score=-1e9, fusion_weight=0.8)
FEW = (Variant(False, False, 1), Variant(True, True, 2))


def responses(tracker, video):
    """Response maps of all frames after the first."""
    tracker.init(video.frame(0), np.rint(video.boxes[0]))
    found = []
    for index in range(1, len(video)):
        tracker.update(video.frame(index))
        found.append(tracker.last.responses)
    return found


def tracker_of(variant):
    name = {1: "dsiam", 2: "dsiamm"}[variant.layers]
    return create_tracker(name, tiny_net(), variant.apply(SETTINGS))


@pytest.mark.parametrize("layers", [1, 2])
def test_without_both_transformations_responses_are_siamfcs(layers):
    dsiam = tracker_of(Variant(False, False, layers))
    siamfc = Tracker(dsiam.network, dsiam.settings, ExactPatches())
    for ours, plain in zip(responses(dsiam, short_video()), responses(siamfc, short_video())):
        assert np.array_equal(ours, plain)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_what_is_not_in_use_is_never_learned(variant):
    tracker = tracker_of(variant)
    responses(tracker, short_video())
    for level in tracker.network.levels:
        for role, which, used in (("v", 1, variant.v), ("w", 2, variant.w)):
            assert tracker.network.search.get_layer(f"circonv{level}_{which}").block.enable == used
            assert (tracker.network.filters[f"{role}{level}"].size > 1) == used


def test_each_transformation_changes_the_responses():
    video = short_video()
    third = [
        responses(tracker_of(Variant(v, w, 1)), video)[1]
        for v in (False, True)
        for w in (False, True)
    ]
    scale = np.abs(third[0]).max()
    for i in range(4):
        for j in range(i):
            assert np.abs(third[i] - third[j]).max() > 1e-3 * scale


def test_a_share_of_a_trained_network_is_switched_off_too():
    net = tiny_net().copy()
    trained = create_tracker("dsiam", net, SETTINGS).network.search
    for name in ("cir11_lr", "cir12_lr"):
        assert trained.get_param(name).value > 0
    off = create_tracker("dsiam", net, Variant(False, False, 1).apply(SETTINGS))
    for name in ("cir11_lr", "cir12_lr"):
        off.network.search.get_param(name).value = np.float32([0.5])
    expected = responses(tracker_of(Variant(False, False, 1)), short_video())
    for ours, plain in zip(responses(off, short_video()), expected):
        assert np.array_equal(ours, plain)


def run(folder, *, weights="a", sequences=None, **options):
    options = {"variants": FEW, "settings": SETTINGS, **options}
    sequences = [short_video()] if sequences is None else sequences
    return run_ablation(tiny_net(), sequences, folder=folder, weights=weights, **options)


def test_runs_are_scored_as_their_boxes_are(tmp_path):
    runs = run(tmp_path)
    assert [r.variant for r in runs] == list(FEW)
    for r in runs:
        boxes = np.array(json.loads(result_file(tmp_path, r.variant, "short").read_text())["boxes"])
        assert boxes.shape == (FRAMES, 4)
        assert r.auc == success_auc(boxes, short_video().boxes)
        assert r.precision == precision(boxes, short_video().boxes)
        assert r.frames == FRAMES and r.speed > 0


def test_finished_runs_are_not_done_again(tmp_path, monkeypatch):
    first = run(tmp_path)

    def forbidden(*_):
        raise AssertionError("a finished run was done again")

    monkeypatch.setattr(ablation, "follow", forbidden)
    assert run(tmp_path) == first


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    expected = run(tmp_path / "whole")
    follow, calls = ablation.follow, []

    def stopped(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return follow(*arguments)

    monkeypatch.setattr(ablation, "follow", stopped)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["short.json"]
    runs = run(folder)
    assert len(calls) == 3
    assert [(r.auc, r.precision) for r in runs] == [(r.auc, r.precision) for r in expected]


def test_half_a_file_is_never_left(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        run(tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "change, word",
    [
        ({"weights": "b"}, "other weights"),
        ({"settings": SETTINGS.replace(v_lambda=1.0)}, "other settings"),
        ({"frames": 3}, "other frames"),
        ({"features": ("conv5", "relu3")}, "other features"),
    ],
)
def test_results_of_another_run_are_not_mixed_in(tmp_path, change, word):
    run(tmp_path)
    with pytest.raises(ValueError, match=word):
        run(tmp_path, **change)


def test_a_damaged_result_is_named(tmp_path):
    path = result_file(tmp_path, FEW[0], "short")
    path.parent.mkdir()
    path.write_text('{"boxes": [')
    with pytest.raises(ValueError, match=r"short\.json: not a result"):
        run(tmp_path)


def test_a_sequence_without_first_box_is_refused(tmp_path):
    video = short_video()
    boxes = np.vstack([np.full((1, 4), np.nan), video.boxes[1:]])
    with pytest.raises(ValueError, match="first frame has no box"):
        run(tmp_path, sequences=[GeneratedSequence("gap", video.frames, boxes)])


RUNS = [
    Run(FEW[0], "a", 10, 0.5, 0.25, 5.0),
    Run(FEW[0], "b", 30, 0.7, 0.75, 10.0),
    Run(FEW[1], "a", 10, 0.6, 1.0, 2.0),
    Run(FEW[1], "b", 30, 0.8, 1.0, 2.0),
]


def test_means_count_sequences_alike_and_frames_for_speed():
    first, second = mean_runs(RUNS)
    assert (first.auc, first.precision) == pytest.approx((0.6, 0.5))
    assert first.speed == pytest.approx(40 / 5) and first.frames == 40
    assert (second.auc, second.speed) == pytest.approx((0.7, 2.0))


def test_the_table_has_means_and_sequences(tmp_path):
    lines = table(RUNS).splitlines()
    assert lines[1].split() == ["mean", "frames/s", "a", "b"]
    assert lines[2].split() == "none 1 layer 0.600 0.500 8.00 0.500 0.250 0.700 0.750".split()
    assert lines[3].split()[:3] == ["V+W", "2", "layers"]
    write_csv(RUNS, tmp_path / "ablation.csv")
    with open(tmp_path / "ablation.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 and rows[-1]["sequence"] == "mean" and float(rows[-1]["auc"]) == 0.7


def test_the_figure_is_drawn_with_one_sequence_or_several(tmp_path):
    for runs in (RUNS, RUNS[:1]):
        draw_ablation(runs, tmp_path / "figure.png", "A title")
        assert cv2.imread(str(tmp_path / "figure.png")).shape[1] > 1000
    with pytest.raises(ValueError, match="at least one run"):
        draw_ablation([], tmp_path / "figure.png")
