"""Tests of dsiam_net.evaluation.report and plots: tables, files, figures."""

import csv
import json

import matplotlib.image
import numpy as np
import pytest

from dsiam_net.evaluation.plots import (
    curves,
    failure_figure,
    failure_frames,
    sequence_figure,
    spread_frames,
    styles,
    write_plots,
)
from dsiam_net.evaluation.protocol import PROTOCOLS
from dsiam_net.evaluation.report import (
    evaluate,
    failure_table,
    overall_table,
    sequence_table,
    write_scores,
)
from dsiam_net.evaluation.results import write_run
from evaluation_stubs import write_sequence

FAR = np.array([40, 0, 0, 0])  # off the target


@pytest.fixture
def sequences(tmp_path):
    return [write_sequence(tmp_path / "data" / n, 8, i) for i, n in enumerate(("A", "B"))]


@pytest.fixture
def evaluation(tmp_path, sequences):
    """Two trackers: ``good`` loses B's target in frames 3, 4 and 6, ``poor`` is never near.

    ``poor`` has no result of B.
    """
    for sequence in sequences:
        boxes = sequence.boxes.copy()
        if sequence.name == "B":
            boxes[[2, 3, 5]] += FAR
        write_run(tmp_path / "r", "good", sequence.name, boxes, np.full(8, 0.1))
    write_run(tmp_path / "r", "poor", "A", sequences[0].boxes + FAR, np.full(8, 0.5))
    folders = {name: tmp_path / "r" / "OTB" / name for name in ("poor", "good")}
    return evaluate(PROTOCOLS["otb"], sequences, folders)


def test_the_ranking_is_over_what_all_have(evaluation):
    assert evaluation.compared == ["A"]
    assert evaluation.ranked == ["good", "poor"]
    assert evaluation.trackers["good"].overall.ao == 1
    assert "no result" in evaluation.trackers["poor"].problems["B"]
    assert overall_table(evaluation).splitlines() == [
        "   tracker    AUC   P@20  Pnorm     AO  SR.50  SR.75   fps",
        "1  good     0.952  1.000  1.000  1.000  1.000  1.000  10.0",
        "2  poor     0.119  0.125  0.125  0.125  0.125  0.125   2.0",
    ]


def test_a_tracker_without_any_result_is_not_compared(tmp_path, sequences, evaluation):
    folders = {"good": tmp_path / "r" / "OTB" / "good", "none": tmp_path / "nowhere"}
    found = evaluate(PROTOCOLS["otb"], sequences, folders)
    assert found.compared == ["A", "B"]
    assert found.ranked == ["good"]


def test_the_table_of_sequences(evaluation):
    assert sequence_table(evaluation).splitlines() == [
        "sequence  frames                poor                good",
        "                    AUC  P@20    fps    AUC  P@20    fps",
        "A              8  0.119 0.125    2.0  0.952 1.000   10.0",
        "B              8      -     -      -  0.595 0.625   10.0",
    ]


def test_failures_are_stretches_of_frames(evaluation):
    assert evaluation.trackers["good"].failures("B") == [(3, 4), (6, 6)]
    assert evaluation.trackers["good"].failures("A") == []
    assert failure_table(evaluation).splitlines() == [
        "poor A: 7 frames without overlap: 2-8",
        "good B: 3 frames without overlap: 3-4, 6",
    ]
    assert failure_frames(evaluation.trackers["good"], "B") == [3, 6]


def test_a_result_of_another_length_is_a_problem_not_an_error(tmp_path, sequences, evaluation):
    (tmp_path / "r" / "OTB" / "poor" / "B.txt").write_text("1,2,3,4\n")
    found = evaluate(PROTOCOLS["otb"], sequences, {"poor": tmp_path / "r" / "OTB" / "poor"})
    assert "expected 8 boxes" in found.trackers["poor"].problems["B"]


def test_scores_are_written_as_json_and_csv(tmp_path, evaluation):
    write_scores(evaluation, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert content["ranking"] == ["good", "poor"] and content["protocol"] == "otb"
    good = content["trackers"]["good"]
    assert good["overall"]["auc"] == pytest.approx(20 / 21)
    assert len(good["sequences"]["B"]["success"]) == 21
    assert good["failures"]["B"] == [[3, 4], [6, 6]]
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [(r["tracker"], r["sequence"]) for r in rows] == [
        ("poor", "A"),
        ("poor", "overall"),
        ("good", "A"),
        ("good", "B"),
        ("good", "overall"),
    ]
    assert float(rows[3]["precision"]) == 0.625
    assert "good B: 3 frames" in (tmp_path / "out" / "failures.txt").read_text()


# Figures


def test_curves_show_the_ranked_trackers_with_their_scores(evaluation):
    figures = curves(evaluation)
    assert list(figures) == ["success", "precision", "normalized_precision"]
    (axes,) = figures["success"].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "good [0.952]",
        "poor [0.119]",
    ]
    overall = evaluation.trackers["good"].overall
    assert axes.lines[0].get_ydata().tolist() == overall.success.tolist()
    (axes,) = figures["precision"].axes
    assert axes.lines[0].get_xdata()[[0, -1]].tolist() == [0, 50]


def test_no_two_trackers_look_alike():
    drawn = styles([str(n) for n in range(28)])
    assert len(set(drawn.values())) == 28


def test_frames_of_a_strip():
    assert spread_frames(101) == [2, 22, 42, 61, 81, 101]
    assert spread_frames(3) == [2, 3]
    assert spread_frames(1) == [1]


def test_a_strip_shows_the_frames_asked_for_with_all_boxes(evaluation):
    figure = sequence_figure(evaluation, "A", [1, 5, 99])
    frames = [axes for axes in figure.axes if axes.images]
    assert [axes.texts[0].get_text() for axes in frames] == ["#1", "#5"]
    video = evaluation.sequences["A"]
    assert np.array_equal(frames[1].images[0].get_array(), video.frame(4))
    truth, poor, good = frames[1].patches
    x, y, w, h = video.boxes[4]
    for patch in (truth, good):
        assert (patch.get_x(), patch.get_y()) == (x - 1.5, y - 1.5)
        assert (patch.get_width(), patch.get_height()) == (w, h)
    assert poor.get_x() == x - 1.5 + 40
    with pytest.raises(ValueError, match="frames 1 to 8"):
        sequence_figure(evaluation, "A", [99])


def test_only_failures_have_a_figure(evaluation):
    assert failure_figure(evaluation, "good", "A") is None
    figure = failure_figure(evaluation, "good", "B")
    assert [axes.texts[0].get_text() for axes in figure.axes if axes.images] == ["#3", "#6"]


def test_all_figures_are_written(tmp_path, evaluation):
    assert write_plots(evaluation, tmp_path / "plots", [2, 4]) == {}
    assert {
        p.relative_to(tmp_path / "plots").as_posix()
        for p in (tmp_path / "plots").rglob("*")
        if p.is_file()
    } == {
        "success.svg",
        "success.png",
        "precision.svg",
        "precision.png",
        "normalized_precision.svg",
        "normalized_precision.png",
        "sequences/A.png",
        "sequences/B.png",
        "failures/poor/A.png",
        "failures/good/B.png",
    }
    assert matplotlib.image.imread(tmp_path / "plots" / "success.png").std() > 0.01
