"""Tests of the files of checkpoints: they come back whole, and the farthest is found."""

import shutil

from dagnet import (
    DagNN,
    TrainState,
    find_last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from dagnet.checkpoint import PARTIAL, epoch_path
from toy_layers import array
from toy_training import bytes_of, plain, toy_net


def test_a_checkpoint_comes_back_whole(tmp_path):
    net = toy_net()
    state = TrainState(
        epoch=2,
        step=3,
        solver_state={"w": array(0.5), "m": (array(1.0), {"n": 2})},
        stats={"train": [{"objective": 0.1}], "val": []},
        running={"averages": {"loss": {"average": 0.25}}},
        settings={"rates": (1e-7, 1e-9)},
        solver="Adam",
        learning_rate=[0.1, 0.01],
    )
    save_checkpoint(tmp_path / "deep" / "c.npz", net, state)
    found_net, found = load_checkpoint(tmp_path / "deep" / "c.npz")
    assert bytes_of(found_net) == bytes_of(net)
    assert plain(found.solver_state["w"]) == plain(array(0.5))
    assert found.solver_state["m"][1] == {"n": 2} and isinstance(found.solver_state["m"], tuple)
    for name in ("epoch", "step", "stats", "running", "settings", "solver", "learning_rate"):
        assert getattr(found, name) == getattr(state, name)


def test_a_checkpoint_loads_as_a_network(tmp_path):
    save_checkpoint(tmp_path / "c.npz", toy_net(), TrainState())
    assert bytes_of(DagNN.load(tmp_path / "c.npz")) == bytes_of(toy_net())


def test_the_farthest_checkpoint_is_found(tmp_path):
    assert find_last_checkpoint(tmp_path) is None
    for epoch in (1, 2, 10):
        save_checkpoint(epoch_path(tmp_path, epoch), toy_net(), TrainState(epoch=epoch))
    for name in ("net-epoch-11.npz.tmp", "net-epoch-x.npz", "net-epoch-011.npz"):
        shutil.copy(epoch_path(tmp_path, 1), tmp_path / name)
    assert find_last_checkpoint(tmp_path) == epoch_path(tmp_path, 10)
    for epoch, last in ((10, epoch_path(tmp_path, 10)), (11, tmp_path / PARTIAL)):
        save_checkpoint(tmp_path / PARTIAL, toy_net(), TrainState(epoch=epoch, step=1))
        assert find_last_checkpoint(tmp_path) == last
