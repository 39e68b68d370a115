"""Tests of dsiam_net.evaluate and of the trackers that it names."""

import subprocess
import sys

import numpy as np
import pytest

from dagnet import __version__
from dsiam_net.cli import run_command
from dsiam_net.evaluate import main
from dsiam_net.evaluation.results import read_run
from dsiam_net.evaluation.runner import record
from dsiam_net.evaluation.trackers import (
    NetworkTracker,
    OpenCVSource,
    ResultFolder,
    parse_trackers,
)
from dsiam_net.opencv_trackers import CLASSES, opencv_trackers
from dsiam_net.sequences import read_otb
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking import save_boxes, track, track_sequence
from dsiam_net.weights import load_weights
from evaluation_stubs import write_sequence
from golden import ROOT
from tiny import plain_branch


@pytest.fixture
def data(tmp_path):
    for seed, name in enumerate(("A", "B")):
        write_sequence(tmp_path / "data" / name, 3, seed)
    return tmp_path / "data"


@pytest.fixture
def published(tmp_path, data):
    """Results of someone else: the truth, moved by a pixel, of both sequences."""
    for name in ("A", "B"):
        boxes = np.loadtxt(data / name / "groundtruth_rect.txt", delimiter=",")
        boxes[:, 0] += 1
        save_boxes(tmp_path / "Published" / f"{name}.txt", boxes)
    return tmp_path / "Published"


@pytest.fixture
def weights(tmp_path):
    net = plain_branch((4, 4, 4, 4, 4), seed=1)
    path = tmp_path / "tiny.npz"
    net.save(path)
    return path


def test_one_command_tracks_scores_ranks_and_draws(data, published, weights, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        "--trackers", "siamfc,dsiamm", str(published), "--weights", str(weights),
        "--data", str(data), "--out", str(out), "--jobs", "2",
    ]  # fmt: skip
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "Protocol otb, 2 of 2 sequences compared" in output.out
    assert output.out.count("Published") == 2
    assert output.err.count(" frames in ") == 4 and "[4/4]" in output.err
    names = {p.name for p in out.iterdir()}
    assert names == {"results", "scores.json", "scores.csv", "failures.txt", "plots"}
    # A tracker of the library gives the same boxes.
    sequence = write_sequence(tmp_path / "again", 3, 1)
    tracker = create_tracker("dsiamm", load_weights(weights))
    images = map(sequence.frame, range(3))
    boxes = [step.box for step in track(tracker, images, sequence.boxes[0])]
    assert read_run(out / "results" / "OTB" / "dsiamm", "B").boxes[0].tolist() == [
        sequence.boxes[0].tolist(),
        *(box.tolist() for box in boxes[1:]),
    ]
    # Another protocol takes the results that are there.
    assert main([*arguments, "--protocol", "got10k", "--no-plots"]) == 0
    output = capsys.readouterr()
    assert "Protocol got10k" in output.out
    assert " frames in " not in output.err


def test_a_failed_sequence_makes_the_status_1(data, published, weights, tmp_path, capsys):
    (data / "A" / "img" / "0002.png").write_bytes(b"no image")
    arguments = [
        "--trackers", "siamfc", f"P={published}", "--weights", str(weights), "--data", str(data),
        "--out", str(tmp_path / "out"), "--jobs", "2",
    ]  # fmt: skip
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert "no figure: sequences/A.png: cannot decode image" in output.err
    assert (tmp_path / "out" / "plots" / "sequences" / "B.png").is_file()
    assert "siamfc A: FAILED: SequenceError" in output.err
    assert "no score: siamfc, A: SequenceError" in output.err
    assert "1 of 2 sequences compared" in output.out


def test_missing_sequences_of_a_set_are_listed(data, published, tmp_path, capsys):
    write_sequence(data / "Skiing", 81)
    save_boxes(published / "Skiing.txt", np.ones((81, 4)))
    arguments = [
        "--trackers", str(published), "--data", str(data), "--set", "otb2013",
        "--out", str(tmp_path / "out"), "--no-plots",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="50 of the 51 sequences of otb2013 are missing"):
        main(arguments)
    assert capsys.readouterr().err.count("missing: ") == 50
    assert main([*arguments, "--allow-missing"]) == 0
    assert "1 of 1 sequences compared" in capsys.readouterr().out


def test_sequences_may_be_chosen_by_name(data, published, tmp_path, capsys):
    arguments = ["--trackers", str(published), "--data", str(data), "--no-plots"]
    arguments += ["--out", str(tmp_path / "out"), "--sequences"]
    assert main([*arguments, "B"]) == 0
    assert "1 of 1 sequences compared" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no sequence C, only A, B"):
        main([*arguments, "B", "C"])


def test_errors_are_one_line_and_status_2(data, published, monkeypatch, capsys):
    cases = {
        "--weights": ["siamfc"],
        "'mosaic'": ["mosaic"],
        "'opencv'": ["opencv-none"],
        "nowhere": ["Mine=nowhere"],
        "'a/b'": [f"a/b={published}"],
        "different names": [str(published), str(published)],
    }
    for words, trackers in cases.items():
        if words == "'opencv'":
            words = "received 'none'"
        with pytest.raises(SystemExit) as stop:
            run_command(lambda _, t=trackers: main(["--trackers", *t, "--data", str(data)]))
        assert stop.value.code == 2
        output = capsys.readouterr().err
        assert output.startswith("error: ") and output.count("\n") == 1 and words in output


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "dsiam_net.evaluate", "--version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"dsiam {__version__}\n"


# Trackers by name


def test_names_become_trackers(published, weights):
    options = {"weights": weights, "preset": "released", "fusion_map": "sumw.mat"}
    ours = {"weights": str(weights), "preset": "released"}
    assert parse_trackers(
        ["siamfc,dsiam", f"X={published}", "dsiamm", "opencv-mil"], **options
    ) == [
        NetworkTracker(name="siamfc", **ours),
        NetworkTracker(name="dsiam", **ours),
        ResultFolder(name="X", folder=published),
        NetworkTracker(name="dsiamm", fusion_map="sumw.mat", **ours),
        OpenCVSource(name="opencv-mil"),
    ]


def test_what_results_depend_on_is_described(weights, tmp_path):
    source = NetworkTracker(name="dsiam", weights=str(weights))
    same = tmp_path / "same.npz"
    same.write_bytes(weights.read_bytes())
    assert source.describe() == NetworkTracker(name="dsiam", weights=str(same)).describe()
    for other in ({"preset": "siamfc"}, {"features": ("conv4",)}, {"weights": __file__}):
        changed = NetworkTracker(**{"name": "dsiam", "weights": str(weights), **other})
        assert changed.describe() != source.describe()


def test_a_polygon_is_where_trackers_start_if_asked_for(data, weights, tmp_path, capsys):
    sequence = read_otb(data / "A")
    x, y, w, h = sequence.boxes[0]
    polygon = [x + 2, y - 3, x + w + 3, y + 3, x + w - 2, y + h + 2, x - 3, y + h - 3]
    (data / "A" / "groundtruth_poly.txt").write_text((",".join(map(str, polygon)) + "\n") * 3)
    arguments = [
        "--trackers", "dsiamm", "opencv-mil", "--weights", str(weights), "--data", str(data),
        "--no-plots", "--jobs", "1", "--out",
    ]  # fmt: skip
    assert main([*arguments, str(tmp_path / "box")]) == 0
    assert main([*arguments, str(tmp_path / "polygon"), "--init-polygon"]) == 0
    boxes, polygons = (
        {n: read_run(tmp_path / kind / "results" / "OTB" / "dsiamm", n).boxes[0] for n in "AB"}
        for kind in ("box", "polygon")
    )
    tracked = track_sequence(create_tracker("dsiamm", load_weights(weights)), read_otb(data / "A"))
    assert polygons["A"][1:].tolist() == tracked.boxes[1:].tolist() != boxes["A"][1:].tolist()
    assert polygons["A"][0].tolist() == boxes["A"][0].tolist() == sequence.boxes[0].tolist()
    assert polygons["B"].tolist() == boxes["B"].tolist()  # has none
    # What started elsewhere is not mixed.
    for folder, more in (("box", ["--init-polygon"]), ("polygon", [])):
        with pytest.raises(ValueError, match=r"dsiamm there were made with other start"):
            main([*arguments, str(tmp_path / folder), *more])


def test_opencvs_trackers_are_recorded(tmp_path):
    sequence = write_sequence(tmp_path / "A", 4)
    boxes, _ = record(OpenCVSource(name="opencv-mil").create(), sequence)
    assert np.isfinite(boxes).all() and boxes[0].tolist() == sequence.boxes[0].tolist()


@pytest.mark.skipif(len(opencv_trackers()) == len(CLASSES), reason="this OpenCV has them all")
def test_a_tracker_that_opencv_lacks_is_named():
    name = next(name for name in CLASSES if name not in opencv_trackers())
    with pytest.raises(ValueError, match=f"no tracker '{name}'.*contrib"):
        parse_trackers([f"opencv-{name}"])
