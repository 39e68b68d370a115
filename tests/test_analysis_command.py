"""Tests of the command dsiam_net.analyse."""

import numpy as np
import pytest

from analysing import short_video, tiny_net, write_otb
from dsiam_net.analyse import main
from dsiam_net.cli import run_command


@pytest.fixture
def folder(tmp_path):
    return write_otb(short_video(), tmp_path / "sequences")


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.npz"
    tiny_net().save(path)
    return path


def command(name, *arguments):
    main([name, *map(str, arguments)])


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("positions", ["truth", "tracker"])
def test_transformations_of_a_sequence(folder, weights, tmp_path, capsys, positions):
    command(
        "transformations", "--sequence", folder, "--weights", weights, "--out", tmp_path / "out",
        "--positions", positions, "--quiet", "--show", "3,5", "--dpi", 40,
    )  # fmt: skip
    assert files(tmp_path / "out") == ["distances.csv", "summary.json", "transformations.png"]
    output = capsys.readouterr()
    assert "short: frames in which" in output.out and " of 3 (" in output.out
    assert output.err == ""


def test_transformations_of_a_generated_video_on_one_layer(weights, tmp_path, capsys):
    command(
        "transformations", "--synthetic", 3, "--length", 3, "--weights", weights,
        "--feature-layers", "conv5", "--out", tmp_path, "--dpi", 40,
    )  # fmt: skip
    output = capsys.readouterr()
    assert "generated-3-0" in output.out and "relu4" not in output.out
    assert "3/3" in output.err


def test_ablation_of_generated_videos_goes_on(weights, tmp_path, capsys):
    arguments = (
        "--synthetic", 2, "--length", 2, "--weights", weights, "--quiet", "--out", tmp_path / "out",
    )  # fmt: skip
    command("ablation", *arguments)
    first = capsys.readouterr().out
    found = files(tmp_path / "out")
    assert len(found) == 2 * 8 + 2 and {"ablation.csv", "ablation.png"} < set(found)
    lines = first.splitlines()
    assert lines[1].split()[2:] == ["generated-0-0", "generated-0-1"]
    assert [line[:5].strip() for line in lines[2:]] == ["none", "V", "W", "V+W"] * 2
    command("ablation", *arguments)
    assert capsys.readouterr().out == first


def test_ablation_of_one_layer_and_of_folders(folder, weights, tmp_path, capsys):
    command(
        "ablation", "--data", folder.parent, "--frames", 2, "--weights", weights,
        "--feature-layers", "conv5", "--quiet", "--out", tmp_path / "out",
    )  # fmt: skip
    assert len(files(tmp_path / "out" / "runs")) == 4
    assert "2 layers" not in capsys.readouterr().out


def test_challenge_of_ours_opencvs_and_a_file(folder, weights, tmp_path, capsys):
    truth = folder / "groundtruth_rect.txt"
    command(
        "challenge", folder, "--trackers", f"siamfc,dsiamm,opencv-mil,Truth={truth}",
        "--weights", weights, "--quiet", "--out", tmp_path / "out", "--dpi", 40,
    )  # fmt: skip
    assert files(tmp_path / "out") == [
        *(f"boxes/{n}.txt" for n in ("Truth", "dsiamm", "opencv-mil", "siamfc")),
        "challenge.mp4",
        "challenge.png",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["siamfc", "dsiamm", "opencv-mil", "Truth"]
    assert lines[3].endswith("precision at 20 px 1.000")
    written = np.loadtxt(tmp_path / "out" / "boxes" / "Truth.txt", delimiter=",")
    assert np.array_equal(written, np.loadtxt(truth, delimiter=","))


def test_responses_of_the_unrolled_network(weights, tmp_path, capsys):
    command(
        "responses", "--synthetic", 3, "--length", 2, "--frames", 2, "--weights", weights,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert files(tmp_path / "out") == ["responses.png"]
    assert "responses.png" in capsys.readouterr().out


def failing(folder, weights, tmp_path):
    """Words of the message, and the arguments."""
    network, out = ("--weights", weights), ("--out", tmp_path / "out")
    text = tmp_path / "notes.txt"
    text.write_text("no boxes\n")
    return {
        "Circle": ("transformations", "--sequence", folder.with_name("Circle"), *network, *out),
        "missing.npz": (
            "transformations", "--sequence", folder, "--weights", tmp_path / "missing.npz", *out,
        ),
        "conv9": (
            "transformations", "--sequence", folder, "--feature-layers", "conv9", *network, *out,
        ),
        "received 99": ("transformations", "--sequence", folder, "--show", 99, *network, *out),
        "a network is needed": ("transformations", "--synthetic", 1, *out),
        "there are 2 frames": ("transformations", "--synthetic", 1, "--length", 2, *network, *out),
        "--data DIR": ("ablation", *network, *out),
        "at least 1": ("ablation", "--synthetic", 0, *network, *out),
        "number of frames": ("ablation", "--data", folder, "--frames", 0, *network, *out),
        "--random-weights": ("challenge", folder, "--trackers", "dsiamm", *out),
        "opencv-NAME": ("challenge", folder, "--trackers", "best", *out),
        "notes.txt": ("challenge", folder, "--trackers", f"A={text}", *out),
        "nowhere.txt": ("challenge", folder, "--trackers", "A=nowhere.txt", *out),
        "a clip of 9": ("responses", "--sequence", folder, "--frames", 9, *network, *out),
    }  # fmt: skip


def test_errors_are_one_line_and_exit_status_2(folder, weights, tmp_path, capsys):
    for culprit, arguments in failing(folder, weights, tmp_path).items():
        with pytest.raises(SystemExit) as stop:
            run_command(lambda _, given=arguments: main([*map(str, given)]))
        output = capsys.readouterr()
        assert stop.value.code == 2
        assert output.err.startswith("error: ") and output.err.count("\n") == 1, output.err
        assert culprit in output.err
        assert output.out == ""
    assert not (tmp_path / "out").exists()


def test_arguments_that_cannot_be_read_are_refused(capsys):
    for arguments in (
        ["transformations", "--synthetic", "1", "--random-weights", "--out", "o", "--show", "a"],
        ["transformations", "--random-weights", "--out", "o"],
        ["transformations", "seq", "--synthetic", "1", "--random-weights", "--out", "o"],
        ["challenge", "seq", "--sequence", "seq", "--trackers", "opencv-mil", "--out", "o"],
        ["guess"],
        [],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err


def test_every_subcommand_has_help(capsys):
    for name in ("transformations", "ablation", "challenge", "responses"):
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert "--weights" in capsys.readouterr().out
    for name, option in (("learned", "--start"), ("joint", "--with"), ("crop-modes", "--last")):
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert option in capsys.readouterr().out
