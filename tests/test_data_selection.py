"""Which tracks are selected, why others are not, and how many of each there are."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dsiam_net.preparation.selection import (
    SELECTED,
    Limits,
    choose,
    counts_table,
    longest_run,
    select,
    write_selection,
)
from dsiam_net.preparation.videos import Track, Video

LIMITS = Limits(max_aspect=4, max_area=0.5, min_side=8, tolerance=0.1, min_frames=10)


def a_video(*tracks, frames=20, name="v"):
    return Video(name, name, Path("."), [f"{t}.jpg" for t in range(frames)], (100, 100), tracks)


def boxes(w=20, h=20, x=1, y=1, frames=20):
    return np.tile(np.array([x, y, w, h], float), (frames, 1))


def judge(array, limits=LIMITS, flags=None):
    track = Track("t", array, flags=flags or {})
    return choose(a_video(track), track, limits)


def test_an_ordinary_target_is_selected_with_all_of_its_frames():
    choice = judge(boxes(40, 20))
    assert choice.verdict == SELECTED and choice.within.all()
    assert choice.measures == (20, 20, 2, 0.08, 20)


@pytest.mark.parametrize(
    "w, h, verdict",
    [
        (80, 20, SELECTED),
        (81, 20, "extreme aspect ratio"),
        (20, 81, "extreme aspect ratio"),
        (100, 50, SELECTED),
        (100, 51, "fills the frame"),
        (8, 20, SELECTED),
        (7.9, 20, "too small"),
    ],
)
def test_limits_belong_to_what_is_allowed(w, h, verdict):
    assert judge(boxes(w, h)).verdict == verdict


def test_only_the_part_within_the_frame_counts_as_area():
    assert judge(boxes(90, 90, x=51)).verdict == SELECTED  # half of the width, 90 high: 0.45
    assert judge(boxes(90, 90, x=1)).verdict == "fills the frame"


@pytest.mark.parametrize("x, there", [(100, True), (101, False), (-18, True), (-19, False)])
def test_a_box_outside_the_frame_is_none(x, there):
    # 20 wide: from -18 it covers column 1, from -19 none.
    assert judge(boxes(x=x)).verdict == (SELECTED if there else "no box")


def test_a_tenth_of_the_boxes_may_be_beyond_a_limit_and_is_not_used():
    array = boxes()
    array[:2, 2] = 90
    choice = judge(array)
    assert choice.verdict == SELECTED
    assert_array_equal(choice.within, [False] * 2 + [True] * 18)
    assert choice.counted.all()
    array[2, 2] = 90
    assert judge(array).verdict == "extreme aspect ratio"
    assert judge(array, replace(LIMITS, tolerance=0.15)).verdict == SELECTED
    assert judge(boxes(), replace(LIMITS, tolerance=0)).verdict == SELECTED


def test_frames_must_be_consecutive():
    array = boxes()
    array[9] = np.nan
    assert judge(array).verdict == SELECTED
    array[10] = np.nan
    assert judge(array).verdict == "too few frames in a row"


def test_a_run_may_be_interrupted_by_a_box_beyond_the_limits():
    array = boxes()
    array[[6, 13], 2] = 90
    assert judge(array).verdict == "interrupted"


@pytest.mark.parametrize("array", [np.full((20, 4), np.nan), boxes(w=0), boxes(h=-3)])
def test_a_track_without_a_box_has_none(array):
    choice = judge(array)
    assert choice.verdict == "no box"
    assert choice.measures.boxes == 0 and np.isnan(choice.measures.aspect)


def test_boxes_with_flags_can_be_skipped():
    flags = {"occluded": np.arange(20) < 12, "generated": np.zeros(20, bool)}
    assert judge(boxes(), flags=flags).verdict == SELECTED
    skip = replace(LIMITS, skip=("generated", "occluded"))
    choice = judge(boxes(), skip, flags)
    assert choice.verdict == "too few frames in a row"
    assert_array_equal(choice.counted, np.arange(20) >= 12)


def test_the_first_reason_of_several_is_given():
    assert judge(boxes(100, 1)).verdict == "extreme aspect ratio"
    assert judge(boxes(100, 1), replace(LIMITS, max_aspect=200)).verdict == "too small"


@pytest.mark.parametrize(
    "options",
    [
        {"max_aspect": 0.5},
        {"max_area": 0},
        {"min_side": -1},
        {"tolerance": 1},
        {"min_frames": 0},
        {"skip": ("truncated",)},
        {"max_area": float("nan")},
    ],
)
def test_limits_that_make_no_sense_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        Limits(**options)


def test_the_longest_run_is_found_wherever_it_is():
    for flags, length in (("", 0), ("..", 0), ("x", 1), ("xx.x", 2), (".x.xxx", 3), ("xxxx", 4)):
        assert longest_run(np.array([c == "x" for c in flags], bool)) == length


def test_videos_count_by_their_best_track_and_files_say_why(tmp_path):
    videos = [
        a_video(Track("a0", boxes()), Track("a1", boxes(100, 60)), name="a"),
        a_video(Track("b0", boxes(100, 10)), Track("b1", boxes(90, 90)), name="b"),
        a_video(name="c"),
        a_video(Track("d0", boxes(4, 4)), name="d"),
        a_video(Track("e0", boxes(), label="n1"), Track("e1", boxes()), name="e"),
    ]
    choices = select(videos, LIMITS)
    counts = write_selection(tmp_path, LIMITS, videos, choices)
    assert counts.videos == {
        "selected": 2,
        "no box": 1,
        "too few frames in a row": 0,
        "extreme aspect ratio": 0,
        "fills the frame": 1,
        "too small": 1,
        "interrupted": 0,
    }
    assert {v: n for v, n in counts.tracks.items() if n} == {
        "selected": 3,
        "extreme aspect ratio": 1,
        "fills the frame": 2,
        "too small": 1,
    }
    written = json.loads((tmp_path / "selection.json").read_text())
    assert written["videos"] == counts.videos and written["tracks"] == counts.tracks
    assert written["limits"]["max_aspect"] == 4
    with (tmp_path / "selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["track"] for row in rows] == ["a0", "a1", "b0", "b1", "d0", "e0", "e1"]
    assert [row["verdict"] for row in rows] == [choice.verdict for choice in choices]
    assert rows[2]["aspect"] == "10" and rows[5]["label"] == "n1" and rows[3]["area"] == "0.81"
    assert counts_table(counts).splitlines()[-1].split() == ["all", "5", "7"]
