# ruff: noqa: F811 (fixtures that another test module has too)
"""Tests of what the track command takes and gives: sources, first boxes, windows and files."""

import json
import subprocess
import sys

import cv2
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from dsiam_net import sources
from dsiam_net.overlay import VideoWriter
from dsiam_net.sequences import SequenceError, SequenceWarning, read_otb
from dsiam_net.settings import get_preset
from dsiam_net.sources import Camera, VideoFile, open_source
from dsiam_net.track import main
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import track_sequence
from dsiam_net.weights import load_weights
from dsiam_net.window import DisplayError, Window, dragged_box, select_box
from test_track_command import FRAMES, command, folder, library_boxes, weights  # noqa: F401

BOX = "41,31,24,20"


def saved(path):
    return np.loadtxt(path, delimiter=",").tolist()


@pytest.fixture
def video(folder, tmp_path):
    """The frames of the sequence as a video."""
    path = tmp_path / "square.mp4"
    sequence = read_otb(folder)
    with VideoWriter(path, fps=10) as writer:
        for index in range(FRAMES):
            writer.add(sequence.frame(index))
    return path


# Sources


def test_a_folder_a_glob_and_a_sequence_are_the_same_frames(folder, weights, tmp_path):
    expected = library_boxes(folder, weights).tolist()
    out = tmp_path / "boxes.txt"
    for source in (folder / "img", folder / "img" / "*.png", folder / "**" / "*"):
        assert main(command(source, weights, "--init", BOX, "--save-boxes", out)) == 0
        assert saved(out) == expected


def test_a_video_is_read_frame_by_frame(folder, video):
    source = open_source(str(video))
    assert isinstance(source, VideoFile)
    assert (source.name, source.fps, source.total) == ("square", 10, FRAMES)
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(FRAMES))
    for frame in frames:  # as lossy as the coding
        original = read_otb(folder).frame(frame.index)[:, :120]
        assert np.abs(frame.image.astype(int) - original).mean() < 20
    assert [frame.index for frame in source.frames(every=2)] == [0, 2, 4]
    assert [frame.index for frame in source.frames(every=2, limit=4)] == [0, 2]


def test_a_video_is_tracked(video, weights, tmp_path, capsys):
    out = tmp_path / "boxes.txt"
    assert main(command(video, weights, "--init", BOX, "--save-boxes", out)) == 0
    assert np.shape(saved(out)) == (FRAMES, 4)
    assert capsys.readouterr().out == "square: 5 of 5 frames\n"


def test_a_video_that_is_cut_off_ends_with_a_warning(video, weights, monkeypatch):
    source = VideoFile(video)
    source.total = 7
    tracker = create_tracker("siamfc", load_weights(weights))
    with pytest.warns(SequenceWarning, match="ended after 5 frames, 7 were announced"):
        done = track_sequence(tracker, source, region=(41, 31, 24, 20))
    assert len(done.boxes) == FRAMES


class FakeCapture:
    """A camera that gives grey frames, now and then none, and stops after ``count``."""

    count = 6
    opened = True

    def __init__(self, number):
        assert number == 3
        self.asked = 0

    def isOpened(self):
        return self.opened

    def read(self):
        self.asked += 1
        if self.asked == 2 or self.asked > self.count:
            return False, None
        return True, np.full((60, 80, 3), 10 * self.asked, np.uint8)

    def release(self):
        pass


@pytest.mark.parametrize("name", ["3", "camera:3"])
def test_a_camera_is_read_until_enough(name, monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
    source = open_source(name)
    assert isinstance(source, Camera) and source.name == "camera 3"
    assert [frame.index for frame in source.frames(every=2, limit=4)] == [0, 2]
    with pytest.raises(SequenceError, match="camera 3: gives no frames any more"):
        list(source.frames())
    monkeypatch.setattr(FakeCapture, "opened", False)
    with pytest.raises(SequenceError, match="camera 3: cannot be opened"):
        list(source.frames())


def test_a_camera_is_tracked(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sources.cv2, "VideoCapture", FakeCapture)
    arguments = command("camera:3", weights, "--init", "20,20,20,20", "--frames", 5)
    assert main([*arguments, "--fast"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "camera 3: 5 of ? frames\n"
    assert printed.out.startswith("20.0,20.0,20.0,20.0\n") and printed.out.count("\n") == 5


# What is tracked


def test_every_second_frame_is_tracked(folder, weights, tmp_path, capsys):
    out = tmp_path / "boxes.txt"
    arguments = ("--every-n", 2, "--frames", 4, "--save-boxes", out)
    assert main(command(folder, weights, *arguments)) == 0
    sequence = read_otb(folder)
    tracker = create_tracker("dsiamm", load_weights(weights))
    tracker.init(sequence.frame(0), sequence.boxes[0])
    assert saved(out) == [sequence.boxes[0].tolist(), tracker.update(sequence.frame(2)).tolist()]
    assert "2 of 5 frames" in capsys.readouterr().out


def test_a_frame_that_cannot_be_read_takes_the_box_before(folder, weights, tmp_path):
    (folder / "img" / "0003.png").write_bytes(b"no image")
    out, record, film = (tmp_path / name for name in ("b.txt", "r.json", "v.mp4"))
    files = ("--save-boxes", out, "--save-json", record, "--save-video", film)
    with pytest.warns(SequenceWarning, match=r"0003\.png.*frame 3 takes the box"):
        assert main(command(folder, weights, *files)) == 0
    boxes = saved(out)
    assert len(boxes) == FRAMES and boxes[2] == boxes[1] != boxes[3]
    content = json.loads(record.read_text())
    assert content["unreadable"] == [2] and content["scores"][2] is None
    assert VideoFile(film).total == FRAMES - 1


def test_the_first_frame_must_be_readable(folder, weights):
    (folder / "img" / "0001.png").write_bytes(b"no image")
    with pytest.raises(SequenceError, match=r"0001\.png"):
        main(command(folder, weights))


def test_the_record_holds_results_and_settings(folder, weights, tmp_path):
    path = tmp_path / "results" / "run.json"
    assert main(command(folder, weights, "--save-json", path, "--fast", "--preset", "siamfc")) == 0
    record = json.loads(path.read_text())
    tracker = create_tracker("dsiamm", load_weights(weights), get_preset("siamfc"), patches="fast")
    done = track_sequence(tracker, read_otb(folder))
    assert record["boxes"] == done.boxes.tolist()
    assert record["scores"] == [entry.score for entry in done.entries]
    assert record["scale_index"] == [entry.scale for entry in done.entries]
    assert record["lost"] == [entry.lost for entry in done.entries]
    assert record["frames"] == [0, 1, 2, 3, 4] and record["init"] == [41, 31, 24, 20]
    assert record["settings"]["scale_lr"] == 0.59 and record["patches"] == "fast"
    assert (record["source"], record["name"]) == (str(folder), "Square")
    assert len(record["seconds"]) == FRAMES and min(record["seconds"]) > 0
    assert record["interrupted"] is False


def test_exact_and_fast_exclude_each_other(folder, weights, capsys):
    with pytest.raises(SystemExit):
        main(command(folder, weights, "--fast", "--exact"))
    assert "not allowed with" in capsys.readouterr().err


# Windows


def test_without_a_display_it_is_said_what_to_do(folder, weights):
    before = pyplot.get_fignums()
    with pytest.raises(DisplayError, match=r"no display.*--init x,y,w,h"):
        main(command(folder / "img", weights))
    with pytest.raises(DisplayError, match=r"no display.*--init x,y,w,h"):
        main(command(folder, weights, "--select"))
    with pytest.raises(DisplayError, match=r"no display.*--save-video"):
        main(command(folder, weights, "--show"))
    assert pyplot.get_fignums() == before


@pytest.fixture
def display(monkeypatch):
    """A Matplotlib backend that says it is interactive, and whose user acts as it is told."""
    import fake_display

    before = matplotlib.get_backend()
    pyplot.switch_backend("module://fake_display")
    monkeypatch.setattr(fake_display, "actions", [])
    yield fake_display
    pyplot.close("all")
    pyplot.switch_backend(before)


def test_a_box_is_drawn_with_the_mouse(display):
    before = pyplot.get_fignums()
    image = np.zeros((90, 121, 3), np.uint8)
    display.actions += [("drag", (39.6, 49.4), (63.4, 29.6)), ("key", "enter")]
    assert select_box(image).tolist() == [41, 31, 24, 20]
    assert pyplot.get_fignums() == before


def test_a_box_that_was_drawn_again_counts(display, folder, weights, tmp_path):
    display.actions += [
        ("drag", (1, 1), (9, 9)),
        ("key", "x"),
        ("drag", (80, 60), (110, 80)),
        ("close",),
    ]
    assert select_box(np.zeros((90, 121, 3), np.uint8)).tolist() == [81, 61, 31, 21]
    display.actions[:] = [("drag", (39.6, 29.6), (63.4, 49.4)), ("key", "enter")]
    out = tmp_path / "boxes.txt"
    assert main(command(folder / "img", weights, "--save-boxes", out)) == 0
    assert saved(out) == library_boxes(folder, weights).tolist()


def test_closing_the_window_without_a_box_is_an_error(display):
    display.actions += [("key", "enter"), ("close",)]
    with pytest.raises(ValueError, match="no box was drawn"):
        select_box(np.zeros((20, 30, 3), np.uint8))


def test_escape_takes_the_box_away(display):
    display.actions += [("drag", (5, 5), (15, 15)), ("key", "escape"), ("key", "enter"), ("close",)]
    with pytest.raises(ValueError, match="no box was drawn"):
        select_box(np.zeros((20, 30, 3), np.uint8))


def test_a_click_takes_the_box_away_and_leaves_the_window_open(display):
    display.actions += [
        ("drag", (5, 5), (15, 15)),
        ("drag", (25, 18), (25, 18)),
        ("key", "enter"),
        ("drag", (1.6, 2.6), (11.4, 8.4)),
        ("key", "enter"),
    ]
    assert select_box(np.zeros((20, 30, 3), np.uint8)).tolist() == [3, 4, 10, 6]


def test_dragging_goes_any_way_and_stops_at_the_frame():
    for first, last in (((2, 3), (6, 8)), ((6, 8), (2, 3)), ((2, 8), (6, 3))):
        assert dragged_box(first, last, (20, 30)).tolist() == [3, 4, 5, 6]
    assert dragged_box((-9, -9), (99, 99), (20, 30)).tolist() == [1, 1, 30, 20]
    with pytest.raises(ValueError, match="no pixel"):
        dragged_box((2.2, 3), (2.8, 9), (20, 30))
    with pytest.raises(ValueError, match="no pixel"):
        dragged_box((40, 3), (50, 9), (20, 30))


def test_frames_are_shown_while_they_are_tracked(display, folder, weights, monkeypatch):
    before = pyplot.get_fignums()
    shown = []
    add = Window.add

    def remember(self, frame):
        add(self, frame)
        shown.append(self._picture.get_array().copy())

    monkeypatch.setattr(Window, "add", remember)
    assert main(command(folder, weights, "--show")) == 0
    assert len(shown) == FRAMES and shown[0].shape == (90, 121, 3)
    assert tuple(shown[0][30, 50]) == (255, 60, 40)  # the box
    assert pyplot.get_fignums() == before


def test_closing_the_window_ends_the_run(display, folder, weights, tmp_path, monkeypatch):
    add = Window.add

    def add_and_close(self, frame):
        add(self, frame)
        add_and_close.count += 1
        if add_and_close.count == 2:
            pyplot.close(self._picture.figure)

    add_and_close.count = 0
    monkeypatch.setattr(Window, "add", add_and_close)
    out = tmp_path / "boxes.txt"
    assert main(command(folder, weights, "--show", "--save-boxes", out)) == 130
    assert saved(out) == library_boxes(folder, weights, frames=2).tolist()


def test_windows_are_imported_only_when_asked_for(folder, weights):
    code = (
        "import sys; from dsiam_net.track import main; main(sys.argv[1:]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    arguments = command(folder, weights, "--frames", 1)
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def test_a_video_must_be_one(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    with pytest.raises(SequenceError, match=r"notes\.mp4: expected a folder"):
        open_source(str(path))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((5, 5, 3)))
    with pytest.raises(SequenceError, match="there is no such folder or file"):
        open_source(str(tmp_path / "none"))
