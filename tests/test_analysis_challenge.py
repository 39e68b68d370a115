"""Tests of dsiam_net.analysis.challenge, following and the pictures."""

import imageio_ffmpeg
import numpy as np
import pytest

from analysing import FRAMES, short_video, tiny_net
from dsiam_net.analysis.challenge import Entrant, parse_entrants, read_boxes, run_challenge, table
from dsiam_net.analysis.challenge_figure import (
    COLORS,
    draw_boxes,
    draw_legend,
    draw_strip,
    line_widths,
    write_video,
)
from dsiam_net.analysis.following import follow
from dsiam_net.metrics import success_auc
from dsiam_net.opencv_trackers import OpenCVTracker
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import save_boxes


class Standing:
    """A tracker whose target never moves."""

    def init(self, image, box):
        self.box = np.asarray(box, dtype=float)

    def update(self, image):
        return self.box


def test_trackers_are_ours_opencvs_or_files():
    entrants = parse_entrants("dsiamm, opencv-mil,Other=boxes.txt")
    assert entrants == [Entrant("dsiamm"), Entrant("opencv-mil"), Entrant("Other", "boxes.txt")]
    assert [e.needs_network for e in entrants] == [True, False, False]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "NAME or NAME=FILE"),
        ("dsiamm,", "NAME or NAME=FILE"),
        ("A=", "NAME or NAME=FILE"),
        ("kcf", "NAME=FILE or a file that is there, received 'kcf'"),
        ("opencv-best", "must be one of"),
        ("siamfc,siamfc", "twice"),
        (",".join(f"T{i}=f" for i in range(8)), "at most 7"),
    ],
)
def test_bad_lists_of_trackers_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_entrants(text)


def test_a_tracker_that_opencv_lacks_is_named(monkeypatch):
    monkeypatch.setattr("dsiam_net.opencv_trackers._maker", lambda name: None)
    with pytest.raises(ValueError, match="has no tracker 'csrt'"):
        parse_entrants("opencv-csrt")


def test_files_hold_boxes_or_polygons(tmp_path, rng):
    boxes = rng.uniform(1, 50, (7, 4))
    save_boxes(tmp_path / "boxes.txt", boxes)
    assert np.array_equal(read_boxes(tmp_path / "boxes.txt", 5), boxes[:5])
    (tmp_path / "polygons.txt").write_text("10,20,39,20,39,49,10,49\n" * 2)
    assert read_boxes(tmp_path / "polygons.txt", 2).shape == (2, 4)
    with pytest.raises(ValueError, match=r"boxes\.txt: expected a box for each of 8 frames"):
        read_boxes(tmp_path / "boxes.txt", 8)


def test_every_tracker_gets_the_same_frames_and_its_scores(tmp_path):
    video = short_video()
    save_boxes(tmp_path / "truth.txt", video.boxes)
    entrants = parse_entrants(f"dsiam,Truth={tmp_path / 'truth.txt'},opencv-mil")
    results = run_challenge(video, entrants, lambda name: Standing(), frames=4)
    assert [r.name for r in results] == ["dsiam", "Truth", "opencv-mil"]
    assert all(r.boxes.shape == (4, 4) for r in results)
    standing = np.tile(video.boxes[0], (4, 1))
    assert np.array_equal(results[0].boxes, standing)
    assert results[0].auc == success_auc(standing, video.boxes[:4])
    assert np.array_equal(results[1].boxes, video.boxes[:4]) and results[1].precision == 1
    mil = follow(OpenCVTracker("mil"), video, 4)
    assert np.array_equal(results[2].boxes[0], mil[0])
    assert table(results).splitlines()[1].startswith("Truth ")


def test_a_missing_file_stops_before_anything_is_tracked():
    def forbidden(name):
        raise AssertionError("tracked before the files were read")

    with pytest.raises(ValueError, match=r"nowhere\.txt"):
        run_challenge(short_video(), parse_entrants("dsiam,A=nowhere.txt"), forbidden)


def test_ours_are_followed_as_they_track():
    tracker = create_tracker("dsiam", tiny_net())
    video = short_video()
    boxes = follow(tracker, video)
    tracker.init(video.frame(0), video.boxes[0])
    expected = [tracker.box] + [tracker.update(video.frame(t)) for t in range(1, FRAMES)]
    assert np.array_equal(boxes, expected)
    with pytest.raises(ValueError, match="at least 1"):
        follow(tracker, video, 0)


# Pictures


def rgb(color):
    return tuple(bytes.fromhex(color[1:]))


def test_boxes_are_drawn_in_their_colours_at_their_places():
    image = np.zeros((40, 60, 3), np.uint8)
    boxes = np.array([[11, 6, 20, 10], [np.nan] * 4, [41, 21, 10, 12]])
    frame = draw_boxes(image, boxes, COLORS[:3], factor=2)
    assert not image.any() and frame.shape == (80, 120, 3)
    for box, color in ((boxes[0], COLORS[0]), (boxes[2], COLORS[2])):
        rows, columns = np.nonzero((frame == rgb(color)).all(axis=2))
        x, y, w, h = box
        assert (columns.min(), rows.min()) == (2 * (x - 1), 2 * (y - 1))
        assert (columns.max(), rows.max()) == (2 * (x - 1 + w) - 1, 2 * (y - 1 + h) - 1)
    assert not (frame == rgb(COLORS[1])).all(axis=2).any()


def test_of_boxes_at_one_place_the_first_trackers_is_on_top():
    boxes = np.tile([11.0, 6, 20, 10], (2, 1))
    frame = draw_boxes(np.zeros((40, 60, 3), np.uint8), boxes, COLORS[:2])
    assert (frame == rgb(COLORS[0])).all(axis=2).any()
    assert not (frame == rgb(COLORS[1])).all(axis=2).any()


def test_a_long_legend_takes_more_lines():
    labels = [(f"tracker number {i}", color) for i, color in enumerate(COLORS)]
    legend = draw_legend(labels, 640, 26)
    assert legend.shape[1] == 640 and legend.shape[0] > 26 and legend.shape[0] % 26 == 0
    for _, color in labels:
        assert (legend == rgb(color)).all(axis=2).sum() > 50


def test_the_video_has_all_frames_and_a_legend(tmp_path):
    video = short_video()
    results = run_challenge(video, [Entrant("dsiam")], lambda name: Standing())
    write_video(video, results, tmp_path / "challenge.mp4")
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "challenge.mp4"))
    width, height = next(reader)["size"]
    assert (width, height) == (600, 506)
    assert len(list(reader)) == FRAMES


def test_the_strip_shows_the_chosen_frames_and_the_scores(tmp_path):
    video = short_video()
    results = run_challenge(video, [Entrant("dsiam")], lambda name: Standing())
    draw_strip(video, results, [1, 3, 4, 5], tmp_path / "strip.svg", "A title")
    text = (tmp_path / "strip.svg").read_text()
    for words in ("A title", "frame 3", "ground truth", f"dsiam (AUC {results[0].auc:.3f})"):
        assert words in text
    with pytest.raises(ValueError, match="in 1 to 5, received 6"):
        draw_strip(video, results, [6], tmp_path / "strip.svg")


def test_lines_are_wider_the_lower_they_lie_and_no_wider_than_needed():
    for count in range(1, 9):
        widths = line_widths(count)
        steps = np.diff(widths)
        assert len(widths) == count and widths[0] == 1.7 and widths[-1] <= 6
        assert (steps > 0.6).all() and (steps < 1.5).all()
