"""Tests of training by several processes, which threads play: shares, sums, figures, files."""

import math

import numpy as np
import pytest

from dagnet import (
    SGD,
    Adam,
    Batch,
    Callback,
    CheckpointError,
    DagNNError,
    NonFiniteError,
    StopTraining,
    asnumpy,
    load_checkpoint,
    to_device,
    train_dag,
)
from dagnet.checkpoint import PARTIAL
from dagnet.communicator import SINGLE, broadcast_tree
from dagnet.fused_sums import FusedSums
from layers import DropOut
from simulated_cupy import installed
from team import run_team
from toy_training import C, X, bytes_of, get_batch, options, toy_net


def start():
    net = toy_net()
    for name, value in (("w", 1.0), ("m", 0.0)):
        net.get_param(name).value = np.full_like(net.get_param(name).value, value)
    return net


def train(folder, size, elements=8, get=get_batch, make=start, val=(), **changes):
    """Networks and states of each member after training together."""

    def work(member):
        own = folder / (f"{member.rank}" if member.rank else "first")
        return train_dag(
            *(make(), get, range(elements), val),
            options=options(own, **changes),
            communicator=member,
        )

    return run_team(size, work)


def alone(folder, parts, elements=8, get=get_batch, make=start, val=(), **changes):
    chosen = options(folder, num_sub_batches=parts, **changes)
    return train_dag(make(), get, range(elements), val, options=chosen)


def value(net, name):
    return net.get_param(name).value


@pytest.mark.parametrize("solver", [SGD(), SGD(nesterov=True), Adam()])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_take_the_steps_of_one_with_as_many_sub_batches(tmp_path, size, solver):
    changes = {"batch_size": 4, "num_epochs": 3, "weight_decay": 0.01, "solver": solver}
    expected, state = alone(tmp_path / "alone", size, **changes)
    for net, found in train(tmp_path, size, **changes):
        for name in ("w", "m"):
            assert value(net, name) == pytest.approx(value(expected, name), rel=1e-12)
        for before, after in zip(state.stats["train"], found.stats["train"], strict=True):
            assert after["num"] == before["num"] == 8
            assert after["objective"] == pytest.approx(before["objective"], rel=1e-12)


@pytest.mark.parametrize("elements", [5, 7, 9])
def test_a_last_batch_that_is_too_small_for_all_is_shared_by_some(tmp_path, elements):
    def get(indexes, mode, epoch):
        return get_batch([i % 8 for i in indexes], mode, epoch)

    changes = {"elements": elements, "get": get, "batch_size": 4, "num_epochs": 3}
    expected, state = alone(tmp_path / "alone", 3, **changes)
    for net, found in train(tmp_path, 3, **changes):
        for name in ("w", "m"):
            assert value(net, name) == pytest.approx(value(expected, name), rel=1e-12)
        assert [s["num"] for s in found.stats["train"]] == [elements] * 3
        assert found.stats["train"][-1]["objective"] == pytest.approx(
            state.stats["train"][-1]["objective"], rel=1e-12
        )


def test_sub_batches_of_several_processes_are_those_of_one_with_all_of_them(tmp_path):
    expected, _ = alone(tmp_path / "alone", 4, batch_size=8, num_epochs=2)
    for net, _ in train(tmp_path, 2, batch_size=8, num_epochs=2, num_sub_batches=2):
        assert value(net, "w") == pytest.approx(value(expected, "w"), rel=1e-12)


def test_every_process_asks_for_its_own_elements_and_together_they_are_all(tmp_path):
    asked = {}

    def work(member):
        def get(indexes, mode, epoch):
            asked.setdefault((member.rank, mode), []).extend(indexes)
            return get_batch(indexes, mode, epoch)

        return train_dag(
            *(start(), get, range(8), range(6)),
            options=options(tmp_path / str(member.rank), batch_size=2),
            communicator=member,
        )

    run_team(2, work)
    for mode, count in (("train", 8), ("val", 6)):
        own = [asked[rank, mode] for rank in range(2)]
        assert sorted(own[0] + own[1]) == list(range(count))
        assert len(own[0]) == len(own[1])


def test_validation_figures_are_of_all_elements(tmp_path):
    _, state = alone(tmp_path / "alone", 2, val=range(5), batch_size=4)
    for _, found in train(tmp_path, 2, val=range(5), batch_size=4):
        (figures,) = found.stats["val"]
        assert figures["num"] == 5
        assert figures["objective"] == pytest.approx(state.stats["val"][0]["objective"], rel=1e-12)


def test_random_numbers_are_those_of_one_process(tmp_path):
    def make():
        net = start()
        net.remove_layer("see again")
        net.add_layer("drop", DropOut(rate=0.5), "y", "z")
        return net

    expected, _ = alone(tmp_path / "alone", 2, make=make, num_epochs=3)
    other, _ = alone(tmp_path / "seed", 2, make=make, num_epochs=3, random_seed=1)
    assert value(expected, "w") != pytest.approx(value(other, "w"), rel=1e-3)
    for net, _ in train(tmp_path, 2, make=make, num_epochs=3):
        assert value(net, "w") == pytest.approx(value(expected, "w"), rel=1e-12)


def test_only_the_first_process_writes(tmp_path):
    train(tmp_path, 2, num_epochs=2, checkpoint_every=1)
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == [
        "net-epoch-1.npz",
        "net-epoch-2.npz",
    ]
    assert not (tmp_path / "1").exists()


def test_all_begin_with_the_first_ones_parameters(tmp_path):
    def work(member):
        net = start()
        net.get_param("w").value += member.rank
        net, _ = train_dag(
            *(net, get_batch, range(8)), options=options(tmp_path), communicator=member
        )
        return bytes_of(net)

    first, second = run_team(2, work)
    expected, _ = alone(tmp_path / "alone", 2)
    assert first == second
    assert np.frombuffer(first[1]) == pytest.approx(value(expected, "w").ravel(), rel=1e-12)


class Break(Callback):
    """Ends a run after some steps, as a kill does."""

    def __init__(self, steps):
        self.left = steps

    def after_step(self, mode, epoch, step, steps, stats):
        self.left -= mode == "train"
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 6, 7])
def test_a_run_that_goes_on_repeats_to_the_bit_with_as_many_processes(tmp_path, steps):
    changes = {"batch_size": 2, "num_epochs": 2, "solver": SGD(momentum=0.9)}

    def work(folder, breaks):
        def run(member):
            return train_dag(
                *(start(), get_batch, range(8), range(4)),
                options=options(folder, checkpoint_every=1, **changes),
                callbacks=breaks(),
                communicator=member,
            )

        return run

    whole = run_team(2, work(tmp_path / "whole", list))
    with pytest.raises(KeyboardInterrupt):
        run_team(2, work(tmp_path / "broken", lambda: [Break(steps)]))
    again = run_team(2, work(tmp_path / "broken", list))
    for (net, state), (other, found) in zip(whole, again, strict=True):
        assert bytes_of(net) == bytes_of(other)
        for part in ("train", "val"):
            for a, b in zip(state.stats[part], found.stats[part], strict=True):
                assert {**a, "time": 0} == {**b, "time": 0}


@pytest.mark.parametrize("name", ["net-epoch-1.npz", PARTIAL])
def test_another_number_of_processes_is_refused_by_name(tmp_path, name):
    breaks = [Break(2)] if name == PARTIAL else []
    try:
        run_team(
            2,
            lambda member: train_dag(
                *(start(), get_batch, range(8)),
                options=options(tmp_path, batch_size=2, checkpoint_every=1),
                callbacks=breaks and [Break(2)],
                communicator=member,
            ),
        )
    except KeyboardInterrupt:
        pass
    assert load_checkpoint(tmp_path / name)[1].workers == 2
    chosen = options(tmp_path, batch_size=2, num_epochs=2)
    with pytest.raises(CheckpointError, match="by 2 processes that train together, and this run"):
        train_dag(start(), get_batch, range(8), options=chosen)
    with pytest.raises(CheckpointError, match="has 3"):
        run_team(
            3,
            lambda member: train_dag(
                *(start(), get_batch, range(8)), options=chosen, communicator=member
            ),
        )


def test_one_process_that_stops_stops_all(tmp_path):
    class Stop(Callback):
        def after_epoch(self, net, state):
            if state.epoch == 2:
                raise StopTraining

    def work(member):
        return train_dag(
            *(start(), get_batch, range(8)),
            options=options(tmp_path, num_epochs=5),
            callbacks=[Stop()] if member.rank == 1 else [],
            communicator=member,
        )[1].epoch

    assert run_team(2, work) == [2, 2]


def test_a_derivative_that_is_not_finite_in_one_process_stops_all_before_the_update(tmp_path):
    def work(member):
        def get(indexes, mode, epoch):
            c = np.where(np.asarray(indexes) == 3, np.inf, C[indexes])
            return Batch({"x": X[indexes], "c": c})

        net = start()
        with pytest.raises(NonFiniteError):
            train_dag(
                *(net, get, range(8)),
                options=options(tmp_path, batch_size=8),
                communicator=member,
            )
        raise NonFiniteError

    with pytest.raises(NonFiniteError):
        run_team(2, work)


def test_a_parameter_server_and_a_communicator_exclude_each_other(tmp_path):
    def work(member):
        net = start()
        net.set_parameter_server(FusedSums(net, member))
        train_dag(net, get_batch, range(8), options=options(tmp_path), communicator=member)

    with pytest.raises(DagNNError, match="parameter server"):
        run_team(2, work)


def test_the_network_has_no_server_afterwards(tmp_path):
    for net, _ in train(tmp_path, 2):
        assert net.parameter_server is None


def test_training_on_a_device_is_that_on_the_host(tmp_path):
    def make():
        net = start()
        net.move("gpu")
        return net

    def get(indexes, mode, epoch):
        batch = get_batch(indexes, mode, epoch).inputs
        return Batch({name: to_device(value, "gpu") for name, value in batch.items()})

    expected, _ = alone(tmp_path / "alone", 2, num_epochs=2)
    with installed():
        for net, _ in train(tmp_path, 2, num_epochs=2, make=make, get=get):
            assert asnumpy(value(net, "w")) == pytest.approx(value(expected, "w"), rel=1e-12)


# One process


def test_a_single_process_has_nothing_to_do():
    assert (SINGLE.rank, SINGLE.size, SINGLE.is_first) == (0, 1, True)
    assert SINGLE.server(toy_net()) is None
    assert SINGLE.exchange({"a": math.pi}) == [{"a": math.pi}]
    assert SINGLE.broadcast_bytes(b"abc") == b"abc"
    array = np.arange(3)
    assert SINGLE.broadcast(array) is array


def test_containers_are_taken_from_the_first_with_their_arrays_alone():
    def work(member):
        tree = {"m": np.full(2, member.rank), "t": member.rank, "l": [np.array(member.rank), None]}
        return broadcast_tree(tree, member)

    _, second = run_team(2, work)
    assert second["m"].tolist() == [0, 0] and second["t"] == 1
    assert second["l"][0] == 0 and second["l"][1] is None
