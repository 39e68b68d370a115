"""What ``--tensorboard`` writes, against the runs' own logs."""

import struct
import sys

import numpy as np
import pytest

from dagnet import loss_averages, train_dag
from dsiam_net import pretrain, train
from dsiam_net.adapters.tensorboard import tensorboard_logs
from dsiam_net.branches import siamfc_branch
from dsiam_net.pretraining_log import read_steps
from dsiam_net.training_log import read_log
from pair_sources import Blobs
from test_pretrain_command import arguments as pretrain_arguments
from test_train_command import arguments, data, weights  # noqa: F401, fixtures
from tiny import CHANNELS
from toy_training import get_batch, options, toy_net

FIGURES = ("objective",)


@pytest.fixture
def events():
    """A function: scalars {tag: {step: value}} of a folder's files, as TensorBoard takes them."""
    event_pb2 = pytest.importorskip(
        "tensorboardX.proto.event_pb2", reason="tensorboardX is not installed"
    )

    def read(folder):
        found, starts = {}, []
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            while content:
                # A length and its checksum, the record and its checksum.
                (length,) = struct.unpack("<Q", content[:8])
                event = event_pb2.Event.FromString(content[12 : 12 + length])
                content = content[16 + length :]
                if event.HasField("session_log"):
                    assert event.session_log.status == event_pb2.SessionLog.START
                    starts.append(event.step)
                    for values in found.values():  # what comes from this step on counts no more
                        for step in [s for s in values if s >= event.step]:
                            del values[step]
                for value in event.summary.value:
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
        return found, starts

    return read


def assert_curve(found, tag, steps, values):
    assert list(found[tag]) == list(steps)
    assert [*found[tag].values()] == pytest.approx(np.float32(values).tolist(), rel=1e-7)


def test_figures_of_training_are_those_of_the_log(
    weights,  # noqa: F811
    data,  # noqa: F811
    tmp_path,
    events,
    capsys,
):
    board = tmp_path / "board"
    train.main(arguments(weights, data, tmp_path / "run", "--tensorboard", board))
    found, starts = events(board)
    log = read_log(tmp_path / "run" / "log.csv")
    assert starts == [1] and len(log) == 6
    for name in ("objective", "errdisp", "errmax"):
        column = [row[name] for row in log]
        assert_curve(found, f"step/{name}", range(1, 7), column)
        assert_curve(found, f"train/{name}", [3, 6], [np.mean(column[:3]), np.mean(column[3:])])
    assert len(found) == 6  # there is no validation


def test_figures_of_pretraining_have_validation_and_none_that_is_no_number(
    tmp_path, events, monkeypatch, capsys
):
    monkeypatch.setattr(pretrain, "siamfc_branch", lambda: siamfc_branch(CHANNELS))
    monkeypatch.setattr(pretrain, "make_source", lambda options: Blobs(159, jitter=4))
    monkeypatch.setattr(pretrain, "write_contact_sheet", lambda *_, **__: None)
    board = tmp_path / "board"
    more = ("--negatives", "0", "--tensorboard", board)
    pretrain.main(pretrain_arguments(tmp_path / "run", *more))
    found, _ = events(board)
    steps = read_steps(tmp_path / "run" / "log.csv")
    assert_curve(found, "step/objective", range(1, 7), steps["objective"])
    rows = np.genfromtxt(tmp_path / "run" / "epochs.csv", delimiter=",", names=True)
    for mode in ("train", "val"):
        assert_curve(found, f"{mode}/errdisp", [3, 6], rows[f"{mode}_errdisp"])
    assert not any("errneg" in tag for tag in found)  # there are no pairs of two videos


def run_toy(folder, board, **changes):
    """Train the toy network, with the figures of a step by themselves, as our trainers have it."""

    def figures(stats, net):
        last = {"objective": float(net.get_var("objective").value)}
        return {**loss_averages(stats, net), "last": last}

    with tensorboard_logs(board, FIGURES) as logs:
        train_dag(
            toy_net(),
            get_batch,
            range(8),
            options=options(folder, **changes),
            extract_stats=figures,
            callbacks=logs,
        )


def test_a_run_that_goes_on_replaces_what_it_does_again(tmp_path, events):
    board = tmp_path / "board"
    run_toy(tmp_path / "whole", tmp_path / "other", num_epochs=4)
    run_toy(tmp_path / "run", board, num_epochs=3)
    # As if it had been killed in the third epoch: its last checkpoint is that of the second.
    (tmp_path / "run" / "net-epoch-3.npz").unlink()
    run_toy(tmp_path / "run", board, num_epochs=4)
    found, starts = events(board)
    expected, _ = events(tmp_path / "other")
    assert starts == [1, 5] and found == expected
    assert list(found["train/objective"]) == [2, 4, 6, 8]


def test_a_finished_run_writes_no_file(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    run_toy(tmp_path / "run", None)
    run_toy(tmp_path / "run", tmp_path / "board")
    assert not list((tmp_path / "board").iterdir())


def test_without_the_package_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(ImportError, match=r"needs the package tensorboardX .*dsiam\[tensorboard\]"),
        tensorboard_logs(tmp_path / "board", FIGURES),
    ):
        pass
    assert not (tmp_path / "board").exists()
