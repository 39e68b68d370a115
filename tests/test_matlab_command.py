"""Tests of ``python -m matlab_import``."""

import subprocess
import sys

import numpy as np
import pytest
from h5py import is_hdf5

from dagnet import DagNN, TrainState, __version__, save_checkpoint
from golden import ROOT
from layers import Conv
from mat_networks import small_network, training_file
from mat_writers import write_mat5, write_mat73
from matlab_import import load_network, read_mat
from matlab_import.__main__ import main


@pytest.fixture
def network(rng):
    return small_network(rng)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.mat"


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_info_prints_layers_parameters_meta_and_statistics(path, network, capsys):
    write_mat5(path, training_file(network))
    status, out, err = run(capsys, "info", path)
    assert (status, err) == (0, "")
    assert "BatchNorm" in out and "bm bb bx" in out
    assert any(
        line.split() == ["c1f", "(4,", "2,", "3,", "2)", "float32", "1", "1", "gradient"]
        for line in out.splitlines()
    )
    assert "meta: normalization, classes" in out
    assert "solver state of 6 of 7 parameters" in out
    assert "stats, train: 2 epochs; last: num 10, objective 0.5" in out


def test_convert_writes_the_native_format(path, network, tmp_path, capsys):
    write_mat73(path, {"net": network})
    target = tmp_path / "net.npz"
    status, out, err = run(capsys, "convert", path, target)
    assert (status, err) == (0, "") and "5 layers, 7 parameters" in out
    again = DagNN.load(target)
    assert np.array_equal(again.get_param("c1f").value, load_network(path).get_param("c1f").value)


def test_convert_writes_matconvnets_format_with_state_and_statistics(
    path, network, tmp_path, capsys
):
    write_mat5(path, training_file(network))
    target = tmp_path / "out.mat"
    for more in ((), ("--v73",)):
        status, out, err = run(capsys, "convert", path, target, *more)
        assert (status, err) == (0, "") and "5 layers, 7 parameters" in out
        assert is_hdf5(target) == bool(more)
        assert set(read_mat(target)) == {"net", "state", "stats"}
        assert read_mat(target)["net"]["params"][1]["value"].shape == (4, 1)


def test_convert_writes_a_checkpoint_for_matlab(tmp_path, capsys):
    net = DagNN()
    net.add_layer("c", Conv(size=(4, 3, 2, 2)), "x", "y", ["f", "b"])
    net.init_params(0)
    state = TrainState(
        epoch=1,
        solver_state={net.params[0].name: np.ones_like(net.params[0].value)},
        stats={"train": [{"objective": 0.5}], "val": []},
    )
    save_checkpoint(tmp_path / "net-epoch-1.npz", net, state)
    target = tmp_path / "out.mat"
    assert run(capsys, "convert", tmp_path / "net-epoch-1.npz", target)[0] == 0
    found = read_mat(target)
    assert np.all(found["state"]["solverState"][0] == 1)
    assert found["stats"]["train"]["objective"].item() == 0.5


def test_convert_writes_a_simplenn_of_a_chain(path, network, tmp_path, capsys):
    del network["layers"][1:3]
    network["layers"][0]["outputs"] = ["x3"]
    write_mat5(path, {"net": network})
    target = tmp_path / "out.mat"
    assert run(capsys, "convert", path, target, "--simplenn")[0] == 0
    assert [entry["type"] for entry in read_mat(target)["layers"]] == ["conv", "pool", "conv"]
    assert run(capsys, "convert", path, tmp_path / "o.npz", "--simplenn")[0] == 2


def test_a_warning_is_one_line(path, network, capsys):
    network["layers"][2]["block"]["colour"] = "red"
    write_mat5(path, {"net": network})
    status, _, err = run(capsys, "info", path)
    assert status == 0
    assert len(err.splitlines()) == 1 and "warning: layer 'relu'" in err


@pytest.mark.parametrize("command", ["info", "convert"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "an empty file"),
        (b"not a network\n" * 20, "text that starts with"),
        (None, "No such file"),
    ],
)
def test_an_error_is_one_line_and_status_2(tmp_path, capsys, command, content, words):
    path = tmp_path / "file.mat"
    if content is not None:
        path.write_bytes(content)
    target = [tmp_path / "out.npz"] if command == "convert" else []
    status, out, err = run(capsys, command, path, *target)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1 and words in err and str(path) in err
    assert not (tmp_path / "out.npz").exists()


def test_an_output_of_another_kind_is_refused(path, network, tmp_path, capsys):
    write_mat5(path, {"net": network})
    status, _, err = run(capsys, "convert", path, tmp_path / "net.mat5")
    assert status == 2 and "ends in .npz" in err


def test_the_module_runs_as_a_program(tmp_path):
    def program(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "matlab_import", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert program("--version").stdout.split()[-1] == __version__
    text = program("convert", "--help").stdout
    assert "OUT.npz" in text and "default: False" in text
    failed = program("info", str(tmp_path / "none.mat"))
    assert failed.returncode == 2
    assert len(failed.stderr.splitlines()) == 1 and "Traceback" not in failed.stderr
