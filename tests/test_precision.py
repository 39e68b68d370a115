"""Tests of TF32: off whatever the environment says, on when it is asked for, and what it does.
The stand-in for CuPy rounds the factors of matrix products where CuPy and cuBLAS would."""

import argparse
import re
import threading

import numpy as np
import pytest

from dagnet import BackendError, asnumpy, check_device, get_array_module, to_device
from dagnet.backend import set_tf32
from dsiam_net import train
from dsiam_net.cli import add_device_options, choose_device, make_parser
from dsiam_net.evaluate import main as evaluate
from dsiam_net.evaluation.trackers import parse_trackers
from dsiam_net.fidelity.__main__ import main as check
from dsiam_net.pretrain import main as pretrain
from dsiam_net.track import main as track
from dsiam_net.training_log import read_log
from problems import Size, make_clip
from simulated_cupy import installed
from simulated_device import Device, precision
from tf32 import effect, step_values, table
from tiny import CHANNELS, SEARCH_SIZE, write_siamfc, write_two_clips

SIZE = Size(2, CHANNELS, search_size=SEARCH_SIZE)
# A third needs more than 10 bits.
THIRD = np.float32([[1 / 3]])


@pytest.fixture(autouse=True)
def simulated():
    with installed():
        yield


def products():
    """A third times one, as the product of two matrices and in a batch of them."""
    x, one = to_device(THIRD, "gpu"), to_device(np.float32([[1]]), "gpu")
    matmul = get_array_module(x).matmul
    return [float(asnumpy(matmul(x, one))[0, 0]), float(asnumpy(matmul(x[None], one))[0, 0, 0])]


def test_single_precision_is_single_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    assert precision.get_compute_type("f") == precision.TF32
    check_device("gpu")
    assert products() == [THIRD[0, 0]] * 2


def test_tf32_is_for_products_of_two_matrices_and_for_batches_and_can_be_ended():
    set_tf32(True)
    # 1/3 = 1.0101...b / 4: 10 bits after the point end with 01|01, and are cut.
    assert products() == [1365 / 4096] * 2
    set_tf32(False)
    assert products() == [THIRD[0, 0]] * 2


def test_double_precision_is_left_alone():
    set_tf32(True)
    x = to_device(np.float64([[1 / 3]]), "gpu")
    assert asnumpy(x @ x)[0, 0] == (1 / 3) ** 2


def test_a_gpu_without_tf32_says_so(monkeypatch):
    monkeypatch.setattr(Device, "compute_capability", "75")
    with pytest.raises(BackendError, match=r"compute capability 75, and TF32 needs 80"):
        set_tf32(True)
    set_tf32(False)


def test_the_mode_of_batches_is_the_thread_s_own():
    set_tf32(True)
    found = []
    thread = threading.Thread(target=lambda: found.extend(products()))
    thread.start()
    thread.join()
    assert found == [1365 / 4096, THIRD[0, 0]] and products() == [1365 / 4096] * 2


# The commands


def test_the_option_turns_it_on_and_its_absence_off():
    parser = argparse.ArgumentParser()
    add_device_options(parser)
    for words, expected in (([], THIRD[0, 0]), (["--tf32"], 1365 / 4096), ([], THIRD[0, 0])):
        choose_device(parser.parse_args(["--device", "gpu", *words]))
        assert products() == [expected] * 2


@pytest.mark.parametrize(
    "main, words",
    [
        (train.main, ["--synthetic"]),
        (pretrain, ["--crops", "x"]),
        (track, ["x"]),
        (evaluate, ["--data", "x", "--trackers", "dsiam"]),
        (check, ["x"]),
    ],
)
def test_every_command_refuses_it_on_the_cpu_before_anything_else(main, words):
    with pytest.raises(BackendError, match=r"--tf32 is a precision of the GPU.*give --device gpu"):
        main([*words, "--tf32"])


def test_a_run_may_go_on_in_another_precision():
    parser = make_parser("x", "y")
    train.add_network_options(parser)
    train.add_training_options(parser)
    chosen = parser.parse_args(["--synthetic", "--tf32", "--device", "gpu"])
    kept = train.settings_to_keep(chosen)
    assert "tf32" not in kept and "device" not in kept


def test_a_training_on_a_gpu_begins_in_one_precision_and_goes_on_in_the_other(tmp_path, capsys):
    weights = write_siamfc(tmp_path / "small.npz")
    data = write_two_clips(tmp_path / "data")
    words = ["--data", str(data), "--weights", str(weights), "--exp-dir", str(tmp_path / "run")]
    words += ["--frames", "2", "--num-clips", "1", "--device", "gpu"]
    train.main([*words, "--epochs", "1", "--tf32"])
    assert precision.get_compute_type("f") == precision.TF32
    assert re.search(r"^tf32 +True$", capsys.readouterr().out, re.MULTILINE)
    train.main([*words, "--epochs", "2"])
    assert precision.get_compute_type("f") == precision.DEFAULT
    log = read_log(tmp_path / "run" / "log.csv")
    assert [(row["epoch"], row["step"]) for row in log] == [(1, 1), (2, 1)]
    assert all(np.isfinite(row["objective"]) for row in log)


def test_trackers_of_an_evaluation_have_it_where_they_are_made(tmp_path):
    (source,) = parse_trackers(["dsiam"], weights="w.npz", device="gpu", tf32=True)
    with pytest.raises(OSError):
        source.create()
    assert products() == [1365 / 4096] * 2


# What it does to a step


def test_its_effect_on_a_step_is_told_by_loss_and_parameter():
    found = effect(SIZE)
    names = step_values(SIZE, make_clip(SIZE.frames), np.float32, "cpu").keys()
    assert found.keys() == names and sum(n.startswith("der ") for n in names) == 33
    single, rounded = found["der conv3f"]
    assert single < 1e-4 and 10 * single < rounded < 1
    assert found["loss"][0] < found["loss"][1]
    assert table(found).splitlines()[1].startswith("score")
    assert products() == [THIRD[0, 0]] * 2  # it is off again


def test_the_cpu_has_none():
    assert all(single == tf32 for single, tf32 in effect(SIZE, "cpu").values())
