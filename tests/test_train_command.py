"""Tests of the commands train and build_unrolled, as a user runs them."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from dagnet import (
    CheckpointError,
    DagNN,
    DagNNError,
    NonFiniteError,
    TrainState,
    load_checkpoint,
)
from dsiam_net import build_unrolled, train
from dsiam_net.clips import ClipFiles, ClipSampler, write_clips
from dsiam_net.sequences import find_sequences
from dsiam_net.training_log import TrainingLog, read_log
from golden import ROOT
from matlab_import import load_training, read_mat
from tiny import write_siamfc, write_two_clips


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_siamfc(tmp_path_factory.mktemp("weights") / "small.npz")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_two_clips(tmp_path_factory.mktemp("data"))


def arguments(weights, data, exp_dir, *more):
    return [
        *("--data", str(data), "--weights", str(weights), "--exp-dir", str(exp_dir)),
        *("--frames", "2", "--num-clips", "3", "--epochs", "2"),
        *("--learning-rate", "1e-3", "1e-3", *map(str, more)),
    ]


def params(path):
    return {p.name: p.value for p in load_checkpoint(path)[0].params}


def momenta(path):
    """What the solver keeps, an array or several for each parameter."""
    found = {}
    for name, held in load_checkpoint(path)[1].solver_state.items():
        parts = held if isinstance(held, dict) else {"": held}
        found |= {(name, part): value for part, value in parts.items()}
    return found


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert np.array_equal(first[name], second[name]), name


def test_training_writes_checkpoints_log_curve_and_network(weights, data, tmp_path, capsys):
    out = tmp_path / "trained.npz"
    train.main(arguments(weights, data, tmp_path / "run", "--out", out))
    printed = capsys.readouterr().out
    words = ("objective", "errdisp", "errmax", "s a step", "learning-rate", "tf32")
    for word in (*words, "waited for data"):
        assert word in printed
    log = read_log(tmp_path / "run" / "log.csv")
    assert [(row["epoch"], row["step"]) for row in log] == [
        (e, s) for e in (1, 2) for s in (1, 2, 3)
    ]
    assert all(0 <= row["waited"] <= row["seconds"] for row in log)
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
    trained = {p.name: p.value for p in DagNN.load(out).params}
    assert_same(trained, params(tmp_path / "run" / "net-epoch-2.npz"))
    before = {p.name: p.value for p in DagNN.load(weights).params}
    assert not np.array_equal(before["conv3f"], trained["conv3f"])
    assert np.array_equal(before["adjust_f"], trained["adjust_f"])


def test_a_log_of_a_time_without_waiting_goes_on(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,step,objective,errdisp,errmax,seconds\n1,1,0.5,2,1,0.25\n1,2,0.5,2\n")
    (row,) = read_log(log)
    assert math.isnan(row.pop("waited")) and list(row.values()) == [1, 1, 0.5, 2.0, 1.0, 0.25]
    TrainingLog(tmp_path).on_start(None, TrainState(epoch=1, step=-1))
    assert log.read_text().splitlines() == [
        "epoch,step,objective,errdisp,errmax,seconds,waited",
        "1,1,0.5,2.0,1.0,0.25,nan",
    ]
    assert math.isnan(read_log(log)[0]["waited"])


def test_a_mat_file_holds_the_trained_network_its_solver_state_and_statistics(
    weights, data, tmp_path
):
    out = tmp_path / "trained.mat"
    train.main(arguments(weights, data, tmp_path / "run", "--out", out))
    net, state, stats = load_training(out)
    trained, last = load_checkpoint(tmp_path / "run" / "net-epoch-2.npz")
    assert_same({p.name: p.value for p in net.params}, {p.name: p.value for p in trained.params})
    assert net.meta["unrolled"] == trained.meta["unrolled"]
    assert [e["objective"] for e in stats["train"]] == [e["objective"] for e in last.stats["train"]]
    for parameter, entry in zip(net.params, state["solver_state"], strict=True):
        expected = last.solver_state.get(parameter.name)
        assert np.array_equal(0 if entry is None else entry, 0 if expected is None else expected)
    # The momentum of a convolution has MATLAB's axes in the file.
    raw = read_mat(out)["state"]["solverState"]
    place = net.get_param_index("conv1f")
    assert np.array_equal(raw[place][:, :, 1, 2], last.solver_state["conv1f"][2, 1])


def test_clips_of_several_files_are_trained_on_in_turn(weights, data, tmp_path, monkeypatch):
    sampler = ClipSampler(find_sequences(data), 2, seed=0)
    lists = [tmp_path / "one.txt", tmp_path / "two.txt"]
    clips = [[sampler.files(0, i) for i in range(3)], [sampler.files(1, i) for i in range(3)]]
    for path, some in zip(lists, clips):
        write_clips(path, some)
    read = []
    read_clip = ClipFiles.read
    monkeypatch.setattr(ClipFiles, "read", lambda self: read.append(self) or read_clip(self))
    options = arguments(weights, data, tmp_path / "run", "--epochs", "1")[2:]
    train.main(["--clips", *map(str, lists), *options])

    def frames(clips):
        return sorted([path.resolve() for path in clip.paths] for clip in clips)

    assert frames(read) == frames([clips[0][0], clips[1][0], clips[0][1]])


def test_a_run_names_its_only_list_of_clips_as_it_always_did(weights, data, tmp_path):
    path = tmp_path / "clips.txt"
    write_clips(path, [ClipSampler(find_sequences(data), 2, seed=0).files(0, 0)])
    options = arguments(weights, data, tmp_path / "run", "--epochs", "1")[2:]
    train.main(["--clips", str(path), *options])
    settings = load_checkpoint(tmp_path / "run" / "net-epoch-1.npz")[1].settings
    assert settings["clips"] == str(path)


class Stop(BaseException):
    """An interruption."""


# The third frame is the first whose crops the jitter moves.
FORCED = ("--crops", "ground-truth", "--frames", "3", "--center-jitter", "8")
ADAM = ("--solver", "adam", "--beta1", "0.8")


@pytest.mark.parametrize("step, options", [(1, ()), (2, ADAM), (3, ()), (1, FORCED), (2, FORCED)])
def test_a_run_that_was_stopped_goes_on_to_equal_bits(
    weights, data, tmp_path, monkeypatch, step, options
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    every = ("--checkpoint-every", "1", *options)
    train.main(arguments(weights, data, whole, *every))

    after_step = train.Progress.after_step

    def stop(self, mode, epoch, done, steps, stats):
        after_step(self, mode, epoch, done, steps, stats)
        if (epoch, done) == (2, step):
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(train.Progress, "after_step", stop)
        with pytest.raises(Stop):
            train.main(arguments(weights, data, broken, *every))
    train.main(arguments(weights, data, broken, *every))
    for read in (params, momenta):
        assert_same(read(whole / "net-epoch-2.npz"), read(broken / "net-epoch-2.npz"))
    figures = ("epoch", "step", "objective", "errdisp", "errmax")
    logs = [
        [[row[f] for f in figures] for row in read_log(folder / "log.csv")]
        for folder in (whole, broken)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 6
    stats = [load_checkpoint(d / "net-epoch-2.npz")[1].stats["train"] for d in (whole, broken)]
    for first, second in zip(*stats):
        assert first["objective"] == second["objective"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    weights, data, tmp_path, monkeypatch
):
    clean = train.ClipBatches

    def poisoned(net, clips, *jitter):
        get_batch = clean(net, clips, *jitter)

        def get(indexes, mode, epoch):
            batch = get_batch(indexes, mode, epoch)
            if epoch == 2:
                batch.inputs["frame1"] = batch.inputs["frame1"] * np.nan
            return batch

        return get

    monkeypatch.setattr(train, "ClipBatches", poisoned)
    with pytest.raises(NonFiniteError, match="objective1 is nan in epoch 2"):
        train.main(arguments(weights, data, tmp_path))
    assert all(np.isfinite(v).all() for v in params(tmp_path / "net-epoch-1.npz").values())


def test_another_set_of_options_does_not_continue_a_run(weights, data, tmp_path):
    train.main(arguments(weights, data, tmp_path, "--epochs", "1"))
    with pytest.raises(Exception, match=r"momentum was 0.9, is 0.5"):
        train.main(arguments(weights, data, tmp_path, "--momentum", "0.5"))


def test_a_run_has_the_settings_of_its_solver_and_no_others(weights, data, tmp_path):
    one = ("--epochs", "1", "--num-clips", "1")
    train.main(arguments(weights, data, tmp_path / "sgd", *one))
    state = load_checkpoint(tmp_path / "sgd" / "net-epoch-1.npz")[1]
    # As it was written when there was no other solver.
    assert state.settings["momentum"] == 0.9
    assert not {"solver", "nesterov", "beta1", "epsilon", "rho"} & state.settings.keys()
    train.main(arguments(weights, data, tmp_path / "rms", *one, "--solver", "rmsprop"))
    state = load_checkpoint(tmp_path / "rms" / "net-epoch-1.npz")[1]
    assert (state.settings["solver"], state.settings["rho"], state.solver) == (
        *("rmsprop", 0.99),
        "RMSProp",
    )
    with pytest.raises(CheckpointError, match="solver was not set, is 'rmsprop'"):
        train.main(arguments(weights, data, tmp_path / "sgd", "--solver", "rmsprop"))
    with pytest.raises(ValueError, match="--momentum is a setting of sgd"):
        train.main(arguments(weights, data, tmp_path / "x", *ADAM, "--momentum", "0.9"))
    assert not (tmp_path / "x").exists()


def test_crops_from_the_ground_truth_train_and_their_options_stay_those_of_the_run(
    weights, data, tmp_path, capsys
):
    train.main(arguments(weights, data, tmp_path, "--epochs", "1", *FORCED))
    printed = capsys.readouterr().out
    for line in (r"crops +ground-truth", r"crop-gradient +none", r"center-jitter +8\.0"):
        assert re.search(rf"^{line}$", printed, re.MULTILINE)
    net = load_checkpoint(tmp_path / "net-epoch-1.npz")[0]
    assert net.meta["unrolled"]["crops"] == "ground-truth"
    before = {p.name: p.value for p in DagNN.load(weights).params}
    assert not np.array_equal(before["conv3f"], net.get_param("conv3f").value)
    with pytest.raises(CheckpointError, match=r"crops was 'ground-truth', is not set"):
        train.main(arguments(weights, data, tmp_path))
    with pytest.raises(CheckpointError, match=r"center_jitter was 8\.0, is 4\.0"):
        train.main(arguments(weights, data, tmp_path, *FORCED[:-1], "4"))


def test_a_run_of_before_there_was_a_choice_of_crops_goes_on_with_the_default(
    weights, data, tmp_path
):
    train.main(arguments(weights, data, tmp_path, "--epochs", "1"))
    state = load_checkpoint(tmp_path / "net-epoch-1.npz")[1]
    # As it was written when the options did not exist.
    assert not {"crops", "center_jitter"} & state.settings.keys()
    assert state.settings["crop_gradient"] == "pool"
    with pytest.raises(CheckpointError, match=r"crops was not set, is 'ground-truth'"):
        train.main(arguments(weights, data, tmp_path, "--crops", "ground-truth"))
    train.main(arguments(weights, data, tmp_path, "--crops", "response"))
    assert (tmp_path / "net-epoch-2.npz").is_file()


@pytest.mark.parametrize("mode", ["pool", "scatter", "none", "soft"])
def test_every_crop_gradient_and_frozen_moments_train(weights, data, tmp_path, mode):
    options = ("--crop-gradient", mode, "--epochs", "1", "--num-clips", "1", "--freeze-bn")
    # Stored moments must be there to be frozen: those of a first run.
    first = tmp_path / "first.npz"
    train.main(arguments(weights, data, tmp_path / "a", "--epochs", "1", "--out", first))
    train.main(arguments(first, data, tmp_path / "b", *options))
    before = {p.name: p.value for p in DagNN.load(first).params}
    after = params(tmp_path / "b" / "net-epoch-1.npz")
    assert np.array_equal(before["bn2x"], after["bn2x"])
    assert not np.array_equal(before["bn2m"], after["bn2m"])


@pytest.mark.of_plan  # chains make a step small enough for this budget
def test_a_memory_budget_changes_memory_and_not_the_numbers(weights, data, tmp_path):
    train.main(arguments(weights, data, tmp_path / "free", "--epochs", 1))
    command = arguments(weights, data, tmp_path / "tight", "--epochs", 1)
    train.main([*command, "--memory-budget", "13MB"])
    free, tight = (params(tmp_path / name / "net-epoch-1.npz") for name in ("free", "tight"))
    for name, value in free.items():
        np.testing.assert_allclose(tight[name], value, rtol=1e-6, atol=1e-9, err_msg=name)
    with pytest.raises(DagNNError, match="budget of 1 MiB cannot be met"):
        train.main([*arguments(weights, data, tmp_path / "small"), "--memory-budget", "1MB"])
    for wrong in ("11", "-1GB", "much", "nanGB"):
        with pytest.raises(SystemExit):
            train.main([*command, "--memory-budget", wrong])


def test_listed_clips_and_generated_video_train_too(weights, data, tmp_path):
    rows = [f"0,{data / 'First' / 'img' / f'{i:04d}.png'},70,60,40,31" for i in (1, 2)]
    (tmp_path / "clips.txt").write_text("\n".join(rows) + "\n")
    common = ["--weights", str(weights), "--frames", "2", "--num-clips", "2", "--epochs", "1"]
    clips = ["--clips", str(tmp_path / "clips.txt"), "--exp-dir", str(tmp_path / "a")]
    train.main([*clips, *common])
    train.main(["--synthetic", "--exp-dir", str(tmp_path / "b"), *common])
    assert len(read_log(tmp_path / "a" / "log.csv")) == 1
    assert len(read_log(tmp_path / "b" / "log.csv")) == 2


def test_build_unrolled_ends_with_the_two_numbers(capsys, tmp_path):
    files = {kind: tmp_path / f"net.{kind}" for kind in ("npz", "json", "svg")}
    build_unrolled.main(
        ["--out", str(files["npz"]), "--json", str(files["json"]), "--draw", str(files["svg"])]
    )
    last = capsys.readouterr().out.split("\n")[-3:]
    assert "940" in last[0] and "33" in last[1] and last[2] == ""
    listing = json.loads(files["json"].read_text())
    assert len(listing["layers"]) == 940 and len(listing["params"]) == 33
    net = DagNN.load(files["npz"])
    assert len(net.layers) == 940 and net.get_param("conv1f").value.shape == (96, 3, 11, 11)
    assert "<svg" in files["svg"].read_text()


@pytest.mark.parametrize(
    "options, layers",
    [
        (["--frames", "3"], 3 * 94),
        (["--frames", "2", "--single-layer"], 2 * 88),
        (["--frames", "1", "--feature-layers", "conv5"], 88),
    ],
)
def test_build_unrolled_takes_frames_and_feature_layers(options, layers, capsys):
    build_unrolled.main(options)
    assert str(layers) in capsys.readouterr().out.split("\n")[-3]


def test_a_backbone_of_any_file_is_unrolled_by_its_feature_layers(weights, capsys):
    backbone = ["--backbone", str(weights), "--frames", "2"]
    with pytest.raises(ValueError, match="name the feature layers with --feature-layers"):
        build_unrolled.main(backbone)
    build_unrolled.main([*backbone, "--feature-layers", "conv5,relu4"])
    assert "188" in capsys.readouterr().out.split("\n")[-3]


def run(*command):
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "command",
    [
        ("dsiam_net.build_unrolled", "--weights", "nowhere.mat"),
        ("dsiam_net.build_unrolled", "--feature-layers", "feat,x99"),
        ("dsiam_net.build_unrolled", "--frames", "0"),
        ("dsiam_net.train", "--data", "nowhere"),
        ("dsiam_net.train", "--synthetic", "--single"),
        ("dsiam_net.train", "--synthetic", "--crops", "ground-truth", "--crop-gradient", "pool"),
        ("dsiam_net.train", "--synthetic", "--frames", "2", "--center-jitter", "8"),
        ("dsiam_net.train",),
    ],
)
def test_what_cannot_be_done_ends_with_one_clear_line_and_status_2(command):
    done = run(*command)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr.strip().split("\n")[-1]


@pytest.mark.parametrize("command", ["build_unrolled", "train", "track", "demo"])
def test_every_command_tells_its_version_and_its_defaults(command):
    assert run(f"dsiam_net.{command}", "--version").stdout.startswith("dsiam ")
    text = run(f"dsiam_net.{command}", "--help").stdout
    assert "default" in text and "--version" in text


def test_rates_of_parameters_are_scaled(weights, data, tmp_path):
    rates = ("--epochs", "1", "--param-rates", "conv*=0", "bn*=0", "*_lambda=0")
    train.main(arguments(weights, data, tmp_path / "run", *rates))
    before = {p.name: p.value for p in DagNN.load(weights).params}
    after = params(tmp_path / "run" / "net-epoch-1.npz")
    assert np.array_equal(after["conv1f"], before["conv1f"])
    assert after["w_lambda"] == 10 and after["cir11_lr"] != np.float32(0.49)


@pytest.mark.parametrize("wrong", ["conv1f", "conv1f=-1", "=2", "conv1f=x", "conv1f=inf"])
def test_rates_that_are_none_are_refused(weights, data, tmp_path, wrong, capsys):
    with pytest.raises(SystemExit):
        train.main(arguments(weights, data, tmp_path / "run", "--param-rates", wrong))
    assert "NAME=FACTOR" in capsys.readouterr().err
