"""Tests of temporal and spatial robustness evaluation, TRE and SRE."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from dsiam_net.evaluate import main
from dsiam_net.evaluation.protocol import PROTOCOLS, Run, score_run, score_runs
from dsiam_net.evaluation.report import evaluate_starts, perturbation_table, write_scores
from dsiam_net.evaluation.results import StartFiles, read_start
from dsiam_net.evaluation.runner import run_trackers
from dsiam_net.evaluation.starts import (
    PERTURBATIONS,
    make_starts,
    perturbed_box,
    possible_starts,
    spatial_starts,
    temporal_starts,
)
from dsiam_net.sequences import Sequence
from evaluation_stubs import SIZE, Drifting, drifted, write_sequence

OTB = PROTOCOLS["otb"]
FRAMES = 50


@pytest.fixture
def long(tmp_path):
    return write_sequence(tmp_path / "data" / "Long", FRAMES)


def video(tmp_path, frames):
    """A sequence whose frames are not on disk."""
    paths = tuple(tmp_path / "A" / "img" / f"{n:04d}.jpg" for n in range(1, frames + 1))
    boxes = np.tile([10.0, 20.0, 30.0, 40.0], (frames, 1))
    return Sequence("A", paths, boxes)


# TRE: the benchmark's frames, worked out by hand from its rule


def test_twenty_segments_begin_at_equal_distances_and_the_last_has_20_frames(tmp_path):
    # Of the 381 to start in: those at 1 + k 381 / 19, rounded down, and the last.
    starts = temporal_starts(video(tmp_path, 400))
    begins = [400 - len(start.sequence) + 1 for start in starts]
    assert begins == [
        1, 21, 41, 61, 81, 101, 121, 141, 161, 181,
        201, 221, 241, 261, 281, 301, 321, 341, 361, 381,
    ]  # fmt: skip
    assert [start.name for start in starts[:2]] == ["from_0001", "from_0021"]
    assert starts[1].sequence.name == "A/from_0021"
    assert starts[1].sequence.paths[0].name == "0021.jpg" and len(starts[-1].truth) == 20


def test_no_segment_begins_where_there_is_no_box(tmp_path):
    sequence = video(tmp_path, 400)
    sequence.boxes[0] = np.nan  # absent
    sequence.boxes[1, 2] = 0  # without area
    sequence.boxes[2, 0] = 0  # not above 0, which the benchmark's code leaves out too
    sequence.boxes[20:30] = np.nan
    starts = temporal_starts(sequence)
    begins = [400 - len(start.sequence) + 1 for start in starts]
    # 368 are left: 4 to 20, 31 to 381.
    places = [int(1 + k * 368 / 19) for k in range(19)] + [368]
    possible = [*range(4, 21), *range(31, 382)]
    assert begins == [possible[place - 1] for place in places]
    assert begins[0] == 4 and begins[-1] == 381


def test_frames_that_the_benchmark_omits_are_not_started_in(tmp_path):
    sequence = video(tmp_path, 40)
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "init_omit.txt").write_text("1 5\n10\t12\n")
    assert (possible_starts(sequence)[:6] + 1).tolist() == [6, 7, 8, 9, 13, 14]
    (tmp_path / "A" / "init_omit.txt").write_text("one to five")
    with pytest.raises(ValueError, match=r"init_omit.txt: expected rows of a first and a last"):
        possible_starts(sequence)


def test_a_short_sequence_has_fewer_segments_of_which_no_two_are_alike(tmp_path):
    starts = temporal_starts(video(tmp_path, 24))
    assert [start.name for start in starts] == [f"from_{n:04d}" for n in (1, 2, 3, 4, 5)]
    with pytest.raises(ValueError, match="A: expected a frame with a box and 19 more"):
        temporal_starts(video(tmp_path, 19))


# SRE: boxes worked out by hand, after the benchmark's code


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The centre moves by round(0.1 * 34 + 0.5) = 4 and round(0.1 * 25 + 0.5) = 3 pixels.
        ("left", (96, 50, 34, 25)),
        ("right", (104, 50, 34, 25)),
        ("up", (100, 47, 34, 25)),
        ("down", (100, 53, 34, 25)),
        # One corner: (100, 50) goes to round(96.6), round(47.5); (133, 74) to 136.4, 76.5.
        ("topLeft", (97, 48, 37, 27)),
        ("topRight", (100, 48, 37, 27)),
        ("bottomLeft", (97, 50, 37, 28)),
        ("bottomRight", (100, 50, 37, 28)),
        # Around the centre (117, 62.5).
        ("scale_8", (103, 53, 27, 20)),
        ("scale_9", (102, 51, 31, 23)),
        ("scale_11", (98, 49, 37, 28)),
        ("scale_12", (97, 48, 41, 30)),
    ],
)
def test_first_boxes_are_the_benchmarks(name, expected):
    assert perturbed_box(np.array([100, 50, 34, 25]), name, (640, 480)).tolist() == [*expected]


def test_first_boxes_stay_within_the_frame():
    size = (50, 40)
    # Before the frame: it begins with the frame and keeps its size.
    assert perturbed_box(np.array([2, 1, 20, 10]), "left", size).tolist() == [1, 1, 20, 10]
    assert perturbed_box(np.array([2, 1, 20, 10]), "topLeft", size).tolist() == [1, 1, 22, 11]
    # Beyond it: what lies outside is cut off.
    assert perturbed_box(np.array([31, 31, 20, 10]), "right", size).tolist() == [34, 31, 17, 10]
    assert perturbed_box(np.array([31, 31, 20, 10]), "scale_12", size).tolist() == [29, 30, 22, 11]


def test_twelve_starts_have_one_truth_and_other_first_boxes(long):
    starts = spatial_starts(long)
    assert [start.name for start in starts] == [*PERTURBATIONS] and len(starts) == 12
    assert len({tuple(start.sequence.boxes[0]) for start in starts}) == 12
    for start in starts:
        assert np.array_equal(start.truth, long.boxes)
        assert np.array_equal(start.sequence.boxes[1:], long.boxes[1:])
        expected = perturbed_box(long.boxes[0], start.name, SIZE[::-1])
        assert start.sequence.boxes[0].tolist() == expected.tolist()


def test_a_perturbed_start_is_a_box_though_there_are_polygons(long):
    polygons = np.tile(np.arange(8.0), (FRAMES, 1))
    sequence = dataclasses.replace(long, polygons=polygons)
    assert all(start.sequence.polygons is None for start in spatial_starts(sequence))
    assert len(temporal_starts(sequence)[-1].sequence.polygons) == 20


def test_sequences_that_cannot_be_started_in_are_named(long, tmp_path):
    starts, problems = make_starts("tre", [long, video(tmp_path, 5)])
    assert list(starts) == ["Long"] and "found none among 5" in problems["A"]
    # Its frames are not there, and SRE needs the first one's size.
    assert "0001.jpg" in make_starts("sre", [video(tmp_path, 30)])[1]["A"]


# Scores


def test_all_frames_of_all_runs_count_alike(tmp_path, rng):
    truth = video(tmp_path, 30).boxes
    runs = []
    for length in (30, 12, 20):
        boxes = truth[-length:] + rng.normal(0, 6, (length, 4)) * [1, 1, 0, 0]
        runs.append((Run(boxes[None], np.full((1, length), 0.1)), truth[-length:]))
    each = [score_run(OTB, run, part, (0, 0)) for run, part in runs]
    pooled = score_runs(OTB, runs, (0, 0))
    assert pooled.frames == 62 and pooled.timed == 62 and pooled.fps == pytest.approx(10)
    weights = [scores.frames for scores in each]
    for name in ("auc", "precision", "normalized_precision", "ao", "sr75", "success", "centre"):
        expected = np.average([getattr(s, name) for s in each], axis=0, weights=weights)
        assert getattr(pooled, name) == pytest.approx(expected, abs=1e-12)


# Runs


@pytest.mark.parametrize(("kind", "count"), [("TRE", 20), ("SRE", 12)])
def test_every_start_has_its_file_and_a_run_goes_on(long, tmp_path, kind, count):
    starts, _ = make_starts(kind.lower(), [long])
    runs = [start.sequence for start in starts["Long"]]
    root, files, reports = tmp_path / "r", StartFiles(kind), []
    short = runs[-2:]
    assert run_trackers([Drifting()], short, root, 2, lambda *r: reports.append(r), files) == []
    assert [total for *_, total in reports] == [2, 2]
    for start in starts["Long"][-2:]:
        run = read_start(root / kind / "drifting", start.sequence.name)
        expected = drifted(start.sequence.boxes[0], len(start.sequence))
        assert run.boxes[0].tolist() == expected.tolist() and (run.times > 0).all()
        assert (root / kind / "drifting" / "Long" / f"{start.name}.txt").is_file()
    # Given again, what is finished is not tracked again.
    assert run_trackers([Drifting()], short, root, 2, lambda *r: reports.append(r), files) == []
    assert len(reports) == 2 and len(runs) == count


def write_runs(folder, starts, offset):
    """Results of a tracker whose boxes are off by some pixels in all starts but the first."""
    for each in starts.values():
        for number, start in enumerate(each):
            boxes = start.truth + np.array([offset * (number > 0), 0, 0, 0])
            times = np.full(len(boxes), 0.5)
            StartFiles("SRE").write(folder, "t", start.sequence.name, boxes, times)
    return folder / "SRE" / "t"


def test_a_tracker_with_a_run_missing_has_no_score_of_the_sequence(long, tmp_path):
    other = dataclasses.replace(long, name="Other")
    starts, _ = make_starts("sre", [long, other])
    folder = write_runs(tmp_path, starts, 3)
    (folder / "Other" / "up.txt").unlink()
    done = evaluate_starts(OTB, "SRE", [long, other], starts, {"t": folder})
    tracker = done.trackers["t"]
    assert done.compared == ["Long"] and "no result up in" in tracker.problems["Other"]
    assert tracker.starts["Long"]["left"].auc == pytest.approx(20 / 21)
    assert tracker.starts["Long"]["right"].auc < 20 / 21
    table = perturbation_table(done).splitlines()
    assert len(table) == 13 and table[1].split() == ["left", "0.952"]
    write_scores(done, tmp_path / "out")
    rows = list(csv.reader((tmp_path / "out" / "starts.csv").open()))
    assert rows[1][:4] == ["t", "Long", "left", repr(tracker.starts["Long"]["left"].auc)]
    assert len(rows) == 13 and not (tmp_path / "out" / "failures.txt").exists()
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["evaluation"] == "SRE"


def test_the_command_scores_all_three_evaluations(long, tmp_path, capsys):
    for kind in ("tre", "sre"):
        starts, _ = make_starts(kind, [long])
        for start in starts["Long"]:
            StartFiles("x").write(tmp_path, "p", start.sequence.name, start.truth, np.ones(1))
    folder = tmp_path / "x" / "p"
    (folder / "Long.txt").write_text("\n".join(",".join(map(str, b)) for b in long.boxes))
    arguments = ["--trackers", f"p={folder}", "--data", str(tmp_path / "data")]
    out = tmp_path / "out"
    status = main([*arguments, "--out", str(out), "--evaluation", "ope", "tre", "sre"])
    output = capsys.readouterr().out
    assert status == 0 and output.count("1 of 1 sequences compared") == 3
    assert "\nTRE\n" in output and "bottomRight" in output
    for kind in ("TRE", "SRE"):
        assert (out / kind / "plots" / "success.svg").is_file()
        scores = json.loads((out / kind / "scores.json").read_text())
        assert scores["trackers"]["p"]["overall"]["auc"] == pytest.approx(20 / 21)
