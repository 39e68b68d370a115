# ruff: noqa: F811 (fixtures that another test module has too)
"""Tests of what dsiam_net.analyse takes: sources, first boxes, results; with truth and without."""

import json
import shutil

import numpy as np
import pytest
import scipy.io

from analysing import FRAMES, short_video
from dsiam_net import sources
from dsiam_net.analyse import main
from dsiam_net.analysis.challenge import parse_entrants, run_challenge, table
from dsiam_net.analysis.challenge_figure import draw_strip
from dsiam_net.analysis.following import follow
from dsiam_net.analysis.recordings import DecodedVideo, open_recording
from dsiam_net.overlay import VideoWriter
from dsiam_net.sequences import SequenceError, SequenceWarning
from dsiam_net.sources import VideoFile
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import track_sequence
from dsiam_net.weights import load_weights
from test_analysis_command import command, files, folder, weights  # noqa: F401

INIT = ",".join(str(v) for v in short_video().boxes[0])


@pytest.fixture
def film(tmp_path):
    """The frames as a video."""
    path = tmp_path / "film.mp4"
    with VideoWriter(path, fps=10) as writer:
        for frame in short_video().frames:
            writer.add(frame)
    return path


def vot(folder, polygons):
    """Make a VOT sequence of an OTB one."""
    shutil.move(folder / "img", folder / "color")
    (folder / "groundtruth_rect.txt").unlink()
    np.savetxt(folder / "groundtruth.txt", polygons, delimiter=",")
    return folder


def tilted(box):
    """A polygon whose upright box is another than ``box``."""
    x, y, w, h = box
    return [x + 3, y - 2, x + w + 2, y + 4, x + w - 3, y + h + 2, x - 2, y + h - 4]


def printed(capsys):
    return [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]


def tracked(source, weights, name="dsiamm", region=None):
    """Boxes of the track command's library."""
    tracker = create_tracker(name, load_weights(weights))
    return track_sequence(tracker, source, region=region).boxes


def boxes_of(folder, name):
    return np.loadtxt(folder / "boxes" / f"{name}.txt", delimiter=",")


# Sources


def test_frames_of_a_video_are_had_in_any_order(film):
    video = open_recording(str(film))
    assert isinstance(video, DecodedVideo)
    assert (video.name, video.fps, len(video)) == ("film", 10, FRAMES)
    assert video.boxes.shape == (FRAMES, 4) and not video.present.any() and video.truth is None
    frames = [frame.image for frame in VideoFile(film).frames()]
    for index in (0, 1, 4, 2, 2, 3, 0):
        assert np.array_equal(video.frame(index), frames[index])
    with pytest.raises(IndexError, match="no frame 6, only 5"):
        video.frame(FRAMES)


def test_the_frames_that_are_there_count_not_those_announced(film, monkeypatch):
    video = VideoFile(film)
    video.total = 9
    assert len(DecodedVideo(video)) == FRAMES


def test_a_camera_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(sources.cv2, "VideoCapture", None)  # it is not even opened
    with pytest.raises(SequenceError, match=r"camera 0: expected frames .* record a video"):
        open_recording("camera:0")


@pytest.mark.parametrize("kind", ["images", "glob", "film"])
def test_a_challenge_without_truth_has_boxes_and_no_scores(
    folder, film, weights, tmp_path, capsys, kind
):
    (folder / "groundtruth_rect.txt").unlink()
    source = {"images": folder, "glob": folder / "img" / "*.png", "film": film}[kind]
    other = tmp_path / "other.txt"
    np.savetxt(other, short_video().boxes, delimiter=",")
    command(
        "challenge", source, "--init", INIT, "--trackers", f"dsiamm,opencv-mil,{other}",
        "--weights", weights, "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    assert printed(capsys) == [
        [name, "5 frames, not scored: there is no ground truth"]
        for name in ("dsiamm", "opencv-mil", "other")
    ]
    assert files(tmp_path / "out")[-2:] == ["challenge.mp4", "challenge.png"]
    expected = tracked(sources.open_source(str(source)), weights, region=short_video().boxes[0])
    assert np.array_equal(boxes_of(tmp_path / "out", "dsiamm"), expected)
    assert np.array_equal(boxes_of(tmp_path / "out", "opencv-mil")[0], short_video().boxes[0])
    assert VideoFile(tmp_path / "out" / "challenge.mp4").fps == (10 if kind == "film" else 25)


@pytest.mark.parametrize("kind", ["images", "film"])
def test_transformations_without_truth_follow_the_tracker(
    folder, film, weights, tmp_path, capsys, kind
):
    (folder / "groundtruth_rect.txt").unlink()
    command(
        "transformations", folder if kind == "images" else film, "--init", INIT,
        "--weights", weights, "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["positions"] == "tracker" and summary["frames"] == FRAMES
    assert " of 3 (" in capsys.readouterr().out


def test_a_polygon_is_where_trackers_start_as_in_track(folder, weights, tmp_path, capsys):
    polygons = [tilted(box) for box in short_video().boxes]
    source = vot(folder, polygons)
    command(
        "challenge", source, "--trackers", "dsiamm,siamfc", "--weights", weights,
        "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    recording = open_recording(str(source))
    for name in ("dsiamm", "siamfc"):
        assert np.array_equal(
            boxes_of(tmp_path / "out", name), tracked(recording, weights, name, polygons[0])
        )
    assert all("AUC" in words for _, words in printed(capsys))


def test_init_moves_the_start_though_there_is_truth(folder, weights, tmp_path, capsys):
    x, y, w, h = short_video().boxes[0].round()
    command(
        "challenge", folder, "--init", f"{x + 2},{y},{w},{h}", "--trackers", "dsiam",
        "--weights", weights, "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    assert boxes_of(tmp_path / "out", "dsiam")[0].tolist() == [x + 2, y, w, h]
    assert "AUC" in capsys.readouterr().out
    command(
        "transformations", folder, "--init", f"{x + 2},{y},{w},{h}",
        "--weights", weights, "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["positions"] == "tracker"


def test_the_first_true_box_alone_is_no_ground_truth_to_score_by(folder):
    path = folder / "groundtruth_rect.txt"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0]] + ["nan,nan,nan,nan"] * (FRAMES - 1)))
    results = run_challenge(open_recording(str(folder)), parse_entrants("opencv-mil"), None)
    assert results[0].auc is None
    assert "not scored" in table(results)


def test_what_cannot_be_started_or_compared_is_said(folder, film, weights, tmp_path):
    out = ("--weights", weights, "--quiet", "--out", tmp_path / "out")
    for words, arguments in {
        "film: the first frame has no box .*--init": ("challenge", film, "--trackers", "siamfc"),
        "film: there is no ground truth .*--positions tracker": (
            "transformations", film, "--positions", "truth",
        ),
        "--init.* is of use to a tracker": (
            "transformations", folder, "--init", INIT, "--positions", "truth",
        ),
        "a clip of 9": ("responses", folder, "--frames", 9),
        "film: frame 1 has no box": ("responses", film, "--frames", 2),
        "--init must be numbers": ("challenge", film, "--init", "a,b", "--trackers", "siamfc"),
    }.items():  # fmt: skip
        given = [a for a in out if a != "--quiet"] if arguments[0] == "responses" else out
        with pytest.raises(ValueError, match=words):
            command(*arguments, *given)
    assert not (tmp_path / "out").exists()


def test_results_of_others_alone_need_no_first_box(film, tmp_path, capsys):
    np.savetxt(tmp_path / "A.txt", short_video().boxes, delimiter="\t")
    scipy.io.savemat(
        tmp_path / "B.mat", {"results": {"res": short_video().boxes, "type": "rect", "len": 5.0}}
    )
    command(
        "challenge", film, "--trackers", f"{tmp_path / 'A.txt'},Bee={tmp_path / 'B.mat'}",
        "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    assert [name for name, _ in printed(capsys)] == ["A", "Bee"]
    assert np.array_equal(boxes_of(tmp_path / "out", "Bee"), short_video().boxes)


# Without truth, and with frames that cannot be read


def test_the_strip_without_truth_names_no_score_and_no_truth(film, tmp_path):
    np.savetxt(tmp_path / "A.txt", short_video().boxes, delimiter=",")
    recording = open_recording(str(film))
    results = run_challenge(recording, parse_entrants(f"A={tmp_path / 'A.txt'}"), None)
    draw_strip(recording, results, [1, 5], tmp_path / "strip.svg")
    text = (tmp_path / "strip.svg").read_text()
    assert "frame 5" in text and "AUC" not in text and "ground truth" not in text


def test_a_frame_that_cannot_be_read_stops_no_analysis(folder, weights, tmp_path, capsys):
    (folder / "img" / "0003.png").write_bytes(b"no image")
    recording = open_recording(str(folder))
    with pytest.warns(SequenceWarning, match=r"0003\.png.*frame 3 is passed over"):
        boxes = follow(create_tracker("dsiam", load_weights(weights)), recording)
    with pytest.warns(SequenceWarning, match=r"0003\.png"):
        assert np.array_equal(boxes, tracked(recording, weights, "dsiam"))
    with pytest.warns(SequenceWarning, match="frame 3 is passed over"):
        command(
            "challenge", folder, "--trackers", "dsiam", "--weights", weights, "--quiet",
            "--out", tmp_path / "out", "--dpi", 40,
        )  # fmt: skip
    assert VideoFile(tmp_path / "out" / "challenge.mp4").total == FRAMES - 1
    with pytest.warns(SequenceWarning, match="frame 3 is passed over"):
        command(
            "transformations", folder, "--weights", weights, "--quiet", "--show", "3,5",
            "--out", tmp_path / "out", "--dpi", 40,
        )  # fmt: skip
    assert " of 1 (" in capsys.readouterr().out  # frames 3 and 4 lack what they need


def test_analyse_runs_main_for_a_source_given_by_name(folder, tmp_path, capsys):
    main(["challenge", "--sequence", str(folder), "--trackers", "opencv-mil", "--frames", "2",
          "--quiet", "--out", str(tmp_path / "out"), "--dpi", "40"])  # fmt: skip
    assert capsys.readouterr().out.startswith("opencv-mil  AUC")
