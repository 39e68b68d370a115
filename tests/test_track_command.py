"""Tests of dsiam_net.track, tracking, overlay and weights."""

import os
import signal
import subprocess
import sys

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import scipy.io

from dagnet import __version__
from dsiam_net import sequences
from dsiam_net.cli import run_command
from dsiam_net.metrics import precision, success_auc
from dsiam_net.overlay import LOST, TRACKED, TRUTH, VideoWriter, draw_box, draw_tracking
from dsiam_net.sequences import read_otb
from dsiam_net.settings import get_preset
from dsiam_net.track import main
from dsiam_net.tracker import Tracker, TrackingWarning, create_tracker
from dsiam_net.tracking import save_boxes, track, track_sequence
from dsiam_net.weights import load_fusion_map, load_weights, random_siamfc
from golden import GOLDENS, ROOT, golden, load_case
from tiny import plain_branch

FRAMES = 5


@pytest.fixture
def folder(tmp_path, rng):
    """A sequence of five frames of odd width, in OTB's layout."""
    directory = tmp_path / "Square"
    (directory / "img").mkdir(parents=True)
    background = rng.integers(0, 80, (90, 121, 3), dtype=np.uint8)
    texture = rng.integers(120, 256, (20, 24, 3), dtype=np.uint8)
    rows = []
    for t in range(FRAMES):
        frame = background.copy()
        frame[30 + t : 50 + t, 40 + 2 * t : 64 + 2 * t] = texture
        cv2.imwrite(str(directory / "img" / f"{t + 1:04d}.png"), frame)
        rows.append(f"{41 + 2 * t},{31 + t},24,20\n")
    (directory / "groundtruth_rect.txt").write_text("".join(rows))
    return directory


@pytest.fixture
def weights(tmp_path):
    """A file with a tiny network."""
    net = plain_branch((4, 4, 4, 4, 4), seed=1)
    path = tmp_path / "tiny.npz"
    net.save(path)
    return path


def command(folder, weights, *more):
    return [str(folder), "--weights", str(weights), "--quiet", *map(str, more)]


def library_boxes(folder, weights, name="dsiamm", frames=FRAMES):
    sequence = read_otb(folder)
    tracker = create_tracker(name, load_weights(weights))
    images = map(sequence.frame, range(frames))
    return np.array([step.box for step in track(tracker, images, sequence.boxes[0])])


@pytest.mark.parametrize("name", ["siamfc", "dsiam", "dsiamm"])
def test_the_command_writes_the_boxes_of_the_library(folder, weights, tmp_path, capsys, name):
    out = tmp_path / "results" / "boxes.txt"
    assert main(command(folder, weights, "--tracker", name, "--save-boxes", out)) == 0
    boxes = np.loadtxt(out, delimiter=",")
    assert boxes.tolist() == library_boxes(folder, weights, name).tolist()
    assert boxes[0].tolist() == [41, 31, 24, 20]
    assert os.listdir(out.parent) == ["boxes.txt"]
    truth = read_otb(folder).boxes
    assert capsys.readouterr().out == (
        f"Square: 5 of 5 frames, AUC {success_auc(boxes, truth):.3f}, "
        f"precision at 20 px {precision(boxes, truth):.3f}\n"
    )


def test_boxes_that_go_to_no_file_are_printed(folder, weights, tmp_path, capsys):
    out = tmp_path / "boxes.txt"
    assert main(["--sequence", *command(folder, weights, "--save-boxes", out)]) == 0
    assert "5 of 5 frames" in capsys.readouterr().out
    assert main(command(folder, weights)) == 0
    printed = capsys.readouterr()
    assert printed.out == out.read_text()
    assert "5 of 5 frames" in printed.err


def test_the_first_frames_alone_are_tracked(folder, weights, tmp_path, capsys):
    out = tmp_path / "boxes.txt"
    assert main(command(folder, weights, "--frames", 3, "--save-boxes", out)) == 0
    assert (
        np.loadtxt(out, delimiter=",").tolist() == library_boxes(folder, weights, frames=3).tolist()
    )
    assert "3 of 5 frames" in capsys.readouterr().out


def test_the_video_has_every_frame(folder, weights, tmp_path):
    video = tmp_path / "square.mp4"
    assert main(command(folder, weights, "--save-video", video)) == 0
    reader = imageio_ffmpeg.read_frames(str(video))
    assert next(reader)["size"] == (120, 90)
    assert len(list(reader)) == FRAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Square", "square.mp4", "tiny.npz"]


@pytest.mark.parametrize("preset", ["released", "siamfc-5s"])
def test_settings_are_printed_and_taken_from_the_preset(folder, weights, capsys, preset):
    arguments = command(folder, weights, "--preset", preset, "--frames", 2)
    arguments.remove("--quiet")
    assert main(arguments) == 0
    errors = capsys.readouterr().err
    assert get_preset(preset).table() in errors
    assert "2/2" in errors


def test_feature_layers_may_be_named(folder, weights, tmp_path):
    boxes = []
    for layers in ("feat,x14", "conv5, relu4"):
        out = tmp_path / "boxes.txt"
        assert main(command(folder, weights, "--feature-layers", layers, "--save-boxes", out)) == 0
        boxes.append(out.read_text())
    assert boxes[0] == boxes[1]


def test_random_weights_must_be_asked_for(folder):
    with pytest.raises(ValueError, match=r"without weights of its own.* --random-weights"):
        main([str(folder)])


def test_random_weights_come_from_the_seed():
    first, again, other = (random_siamfc(seed) for seed in (1, 1, 2))
    for a, b in zip(first.params, again.params):
        assert np.array_equal(a.value, b.value)
    assert not np.array_equal(first.params[0].value, other.params[0].value)


def interrupt_at(monkeypatch, number):
    """Make frame ``number`` (from 0) raise KeyboardInterrupt."""
    read = sequences.Sequence.frame

    def frame(self, index):
        if index == number:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(sequences.Sequence, "frame", frame)


def break_tracker_at(monkeypatch, number):
    """Make the ``number``-th update raise ValueError."""
    update, calls = Tracker.update, []

    def broken(self, image):
        calls.append(1)
        if len(calls) == number:
            raise ValueError("out of order")
        return update(self, image)

    monkeypatch.setattr(Tracker, "update", broken)


def test_ctrl_c_keeps_the_frames_done(folder, weights, tmp_path, monkeypatch, capsys):
    expected = library_boxes(folder, weights, frames=3)
    interrupt_at(monkeypatch, 3)
    out, video = tmp_path / "boxes.txt", tmp_path / "square.mp4"
    arguments = command(folder, weights, "--save-boxes", out, "--save-video", video)
    assert main(arguments) == 130
    assert np.loadtxt(out, delimiter=",").tolist() == expected.tolist()
    reader = imageio_ffmpeg.read_frames(str(video))
    next(reader)
    assert len(list(reader)) == 3
    assert "3 of 5 frames" in capsys.readouterr().out


def test_a_second_ctrl_c_does_not_cost_the_results(folder, weights, tmp_path, monkeypatch):
    close = VideoWriter.__exit__

    def impatient(self, *error):
        os.kill(os.getpid(), signal.SIGINT)
        close(self, *error)
        os.kill(os.getpid(), signal.SIGINT)

    frame = sequences.Sequence.frame

    def interrupted(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return frame(self, index)

    monkeypatch.setattr(VideoWriter, "__exit__", impatient)
    monkeypatch.setattr(sequences.Sequence, "frame", interrupted)
    before = signal.getsignal(signal.SIGINT)
    out, video = tmp_path / "boxes.txt", tmp_path / "square.mp4"
    assert main(command(folder, weights, "--save-boxes", out, "--save-video", video)) == 130
    assert np.loadtxt(out, delimiter=",").shape == (3, 4)
    assert video.is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_where_nothing_can_be_written_nothing_is_tracked(folder, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("dsiam_net.weights_options.load_weights", None)
    for option in ("--save-boxes", "--save-json", "--save-video"):
        with pytest.raises(OSError, match=r"expected the name of a file to write, received a fold"):
            main(command(folder, weights, option, folder))
        with pytest.raises(OSError, match=r"cannot be written, as .*tiny\.npz is no folder"):
            main(command(folder, weights, option, weights / "new" / "boxes.txt"))


def test_ctrl_c_before_the_first_frame_writes_nothing(folder, weights, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 0)
    out = tmp_path / "boxes.txt"
    assert (
        main(command(folder, weights, "--save-boxes", out, "--save-video", tmp_path / "v.mp4"))
        == 130
    )
    assert not out.exists()
    assert not (tmp_path / "v.mp4").exists()


def test_an_error_leaves_neither_boxes_nor_video(folder, weights, tmp_path, monkeypatch):
    break_tracker_at(monkeypatch, 3)
    out, video = tmp_path / "boxes.txt", tmp_path / "square.mp4"
    with pytest.raises(ValueError, match="out of order"):
        main(command(folder, weights, "--save-boxes", out, "--save-video", video))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Square", "tiny.npz"]


def failing(folder, weights, tmp_path):
    """What is wrong, and the arguments."""
    text = tmp_path / "notes.txt"
    text.write_text("no network")
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(weights.read_bytes()[:1000])
    no_mat, no_pth = tmp_path / "no.mat", tmp_path / "no.pth"
    no_mat.write_text("no network")
    no_pth.write_text("no network")
    return {
        "missing.npz": command(folder, tmp_path / "missing.npz"),
        "notes.txt": command(folder, text),
        "damaged.npz": command(folder, damaged),
        "no.mat": command(folder, no_mat),
        "no.pth": command(folder, no_pth),
        "Circle": command(folder.with_name("Circle"), weights),
        "no.mat: expected a folder, an image glob or a video": command(no_mat, weights),
        "0001.png: expected several images": command(folder / "img" / "0001.png", weights),
        "*.gif: no image matches": command(folder / "*.gif", weights),
        "--init must be numbers": command(folder, weights, "--init", "1,2,three,4"),
        "--init: a region must be 4": command(folder, weights, "--init", "1,2,3"),
        "--init: width and height": command(folder, weights, "--init", "1,2,-3,4"),
        "--init: a region must be 4 finite": command(folder, weights, "--init", "1,2,nan,4"),
        "covers no whole pixel": command(folder, weights, "--init", "300,2,5,5"),
        "step between frames": command(folder, weights, "--every-n", 0),
        "groundtruth_rect.2.txt": command(folder, weights, "--target", 2),
        "conv9": command(folder, weights, "--feature-layers", "conv9,relu4"),
        "frames": command(folder, weights, "--frames", 0),
        "--sumweights fuses two feature layers, and dsiam has one": command(
            folder, weights, "--tracker", "dsiam", "--sumweights", text
        ),
        "suffix": command(folder, weights, "--save-video", tmp_path / "video.txt"),
    }


def test_errors_are_one_line_and_exit_status_2(folder, weights, tmp_path, monkeypatch, capsys):
    for culprit, arguments in failing(folder, weights, tmp_path).items():
        monkeypatch.setattr(sys, "argv", ["track", *arguments])
        with pytest.raises(SystemExit) as stop:
            run_command(lambda _: main(sys.argv[1:]))
        assert stop.value.code == 2
        output = capsys.readouterr()
        assert output.err.startswith("error: ") and output.err.count("\n") == 1, output.err
        assert culprit in output.err
        assert output.out == ""


def test_warnings_are_one_line(folder, weights, tmp_path):
    (folder / "img" / "0003.png").write_bytes(b"no image")
    done = subprocess.run(
        [sys.executable, "-m", "dsiam_net.track", *command(folder, weights),
         "--save-boxes", str(tmp_path / "boxes.txt")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    # A first run tells besides that it compiles its kernels.
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("compiling")]
    assert line.startswith("warning: cannot decode image")
    assert line.endswith("frame 3 takes the box of the frame before")


def test_a_sequence_without_a_first_box_needs_one(folder, weights, capsys):
    path = folder / "groundtruth_rect.txt"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(["NaN,NaN,NaN,NaN", *rows[1:]]))
    with pytest.raises(ValueError, match="--init x,y,w,h"):
        main(command(folder, weights))
    with pytest.raises(ValueError, match="first frame has no box"):
        track_sequence(create_tracker("siamfc", load_weights(weights)), read_otb(folder))
    assert main(command(folder, weights, "--init", "41,31,24,20")) == 0
    assert "5 of 5 frames, AUC" in capsys.readouterr().err


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "dsiam_net.track", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"dsiam {__version__}\n"


# The library below the command


def test_a_polygon_is_what_the_tracker_starts_from(folder, weights):
    polygon = "40,30,66,34,64,52,38,48\n"
    (folder / "groundtruth_poly.txt").write_text(polygon * FRAMES)
    tracker = create_tracker("dsiam", load_weights(weights))
    done = track_sequence(tracker, read_otb(folder), frames=1)
    assert done.boxes.tolist() == [[38, 30, 28, 22]]
    assert not done.interrupted


def test_saved_boxes_are_read_back_exactly(tmp_path, rng):
    boxes = rng.uniform(-50, 500, (7, 4))
    save_boxes(tmp_path / "boxes.txt", boxes)
    assert np.array_equal(np.loadtxt(tmp_path / "boxes.txt", delimiter=","), boxes)


def test_a_box_is_drawn_on_the_pixels_that_it_covers():
    frame = np.zeros((40, 50, 3), np.uint8)
    draw_box(frame, (11, 6, 20, 10), TRACKED)
    rows, columns = np.nonzero(frame.any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 14, 10, 29)
    assert not frame[6:14, 11:29].any()


def test_boxes_far_outside_or_not_there_are_no_error():
    frame = np.zeros((40, 50, 3), np.uint8)
    for box in ((1e12, 0, 5, 5), (-1e9, -1e9, 1, 1), (np.nan,) * 4):
        draw_box(frame, box, TRACKED)
    assert not frame.any()


def test_the_picture_shows_box_truth_and_loss(folder, weights):
    sequence = read_otb(folder)
    tracker = create_tracker("dsiam", load_weights(weights), get_preset("released", lost_score=1e9))
    image = sequence.frame(0)
    before = image.copy()
    tracker.init(image, sequence.boxes[0])
    picture = draw_tracking(image, tracker.box, truth=(5, 70, 30, 15))
    assert np.array_equal(image, before)
    assert tuple(picture[30, 50]) == TRACKED
    assert tuple(picture[69, 20]) == TRUTH
    box = tracker.update(sequence.frame(1))
    picture = draw_tracking(sequence.frame(1), box, result=tracker.last, number=2)
    x, y = round(box[0] - 1), round(box[1] - 1 + box[3] / 2)
    assert tuple(picture[y, x]) == LOST
    side = round(0.28 * 90)
    assert tuple(picture[0, -1]) == tuple(picture[side - 1, -side]) == (255, 255, 255)


def test_a_flat_response_is_drawn_too(folder, weights, monkeypatch):
    sequence = read_otb(folder)
    tracker = create_tracker("siamfc", load_weights(weights))
    tracker.init(sequence.frame(0), sequence.boxes[0])
    monkeypatch.setattr(
        "dsiam_net.tracker.respond_together",
        lambda networks, patches: [np.zeros((len(p), 17, 17), np.float32) for p in patches],
    )
    with pytest.warns(TrackingWarning, match="no peak"):
        box = tracker.update(sequence.frame(1))
    assert np.isfinite(box).all()
    draw_tracking(sequence.frame(1), box, result=tracker.last)


def test_frames_of_other_sizes_are_fitted_into_the_video(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", fps=10) as video:
        for size in ((64, 80), (32, 40), (65, 81)):
            video.add(np.full((*size, 3), 128, np.uint8))
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "v.mp4"))
    assert next(reader)["size"] == (80, 64)
    assert len(list(reader)) == 3


@golden("net_siamfc_small_probe")
def test_a_network_from_matlab_is_loaded(case):
    net = load_weights(GOLDENS / "net_siamfc_small_v7.mat")
    tracker = create_tracker("dsiamm", net)
    frame = load_case("frames_first", "skiing0001").matlab("im")[:, :, :, 0]
    tracker.init(frame, (446, 181, 29, 26))
    assert np.isfinite(tracker.update(frame)).all()


def test_a_fusion_map_comes_from_a_mat_file(tmp_path):
    path = tmp_path / "sumw.mat"
    scipy.io.savemat(path, {"sumw": np.arange(6.0).reshape(2, 3)})
    assert load_fusion_map(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert load_fusion_map(path).dtype == np.float32
