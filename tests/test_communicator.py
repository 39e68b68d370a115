"""Tests of training by several processes, which threads play: shares, sums, figures, files."""

import math
from itertools import pairwise

import numpy as np
import pytest

from dagnet import (
    SGD,
    Adam,
    Batch,
    Callback,
    CheckpointError,
    DagNN,
    DagNNError,
    NonFiniteError,
    StopTraining,
    asnumpy,
    get_array_module,
    load_checkpoint,
    to_device,
    train_dag,
)
from dagnet.checkpoint import PARTIAL
from dagnet.communicator import SINGLE, broadcast_tree
from dagnet.fused_sums import FusedSums, completion_order
from feature_chains import fuse_everything
from layers import BatchNorm, Conv, DropOut, Loss, ReLU, XCorr
from layers.chain import FeatureChain
from simulated_cupy import installed
from team import Member, Sum, run_team
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


# The buffer


def chain(channels=(3, 4, 5, 6)):
    """Convolutions one after the other, with a bias each."""
    net = DagNN()
    for i, (before, after) in enumerate(pairwise(channels), start=1):
        conv = Conv(size=(after, before, 3, 3), pad=1)
        net.add_layer(f"conv{i}", conv, f"x{i}", f"x{i + 1}", [f"f{i}", f"b{i}"])
    net.init_params(0, np.float64)
    return net


def ders_of(net, seed):
    rng = np.random.default_rng(seed)
    return {p.name: rng.standard_normal(p.value.shape) for p in net.params}


def test_parameters_are_sent_in_the_order_in_which_backward_finishes_them():
    assert [p.name for p in completion_order(chain())] == ["f3", "b3", "f2", "b2", "f1", "b1"]
    net = toy_net()
    # The first layer uses m too, and so it is complete last.
    assert [p.name for p in completion_order(net)] == ["w", "m"]


def test_buckets_hold_at_least_their_bytes_and_one_dtype():
    net = chain()
    sizes = {p.name: p.value.nbytes for p in net.params}
    assert sizes == {"f1": 864, "b1": 32, "f2": 1440, "b2": 40, "f3": 2160, "b3": 48}

    def buckets(least):
        return run_team(1, lambda member: FusedSums(net, member, least))[0].buckets

    assert buckets(1) == [("f3",), ("b3",), ("f2",), ("b2",), ("f1",), ("b1",)]
    assert buckets(2200) == [("f3", "b3"), ("f2", "b2", "f1"), ("b1",)]
    assert buckets(1 << 20) == [("f3", "b3", "f2", "b2", "f1", "b1")]
    net.get_param("f2").value = net.get_param("f2").value.astype(np.float32)
    assert buckets(1 << 20) == [("f3", "b3"), ("f2",), ("b2", "f1", "b1")]


@pytest.mark.parametrize("least", [1, 1000, 1 << 20])
def test_sums_are_those_of_all_processes_in_whatever_order_they_push(least):
    net = chain()
    everything = [ders_of(net, seed) for seed in range(3)]

    def work(member):
        server = FusedSums(net, member, least)
        order = np.random.default_rng(member.rank).permutation([p.name for p in net.params])
        results = []
        for _ in range(2):
            for name in order:
                server.push(name, everything[member.rank][name])
            server.sync()
            results.append({p.name: server.pull(p.name).copy() for p in net.params})
        return results

    for results in run_team(3, work):
        for found in results:
            for name, total in found.items():
                expected = sum(ders[name] for ders in everything)
                np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_what_one_process_did_not_push_counts_as_zero_and_what_none_pushed_is_not_there():
    net = chain()
    ders = ders_of(net, 0)

    def work(member):
        server = FusedSums(net, member)
        found = []
        for pushing in (["f1", "f2"], [], ["f1", "f2"]):
            if member.rank == 0:
                for name in pushing:
                    server.push(name, ders[name])
            server.sync()
            totals = [server.pull(name) for name in ("f1", "f2", "b3")]
            found.append([None if t is None else t.copy() for t in totals])
        return found

    for first, nothing, last in run_team(2, work):
        assert nothing == [None, None, None]
        for totals in (first, last):
            assert np.array_equal(totals[0], ders["f1"])
            assert np.array_equal(totals[1], ders["f2"])
            assert totals[2] is None


def test_a_bucket_leaves_when_it_is_complete_and_those_before_it_have_left():
    net = chain()
    ders = ders_of(net, 0)

    def work(member):
        server = FusedSums(net, member, 2200)
        sent = []
        for name in ("f3", "f2", "b2", "f1", "b3", "b1"):
            server.push(name, ders[name])
            sent.append(len(member.sent))
        server.sync()
        return sent, len(member.sent)

    assert run_team(1, work) == [([0, 0, 0, 0, 2, 3], 3)]


def test_where_threads_may_not_send_all_is_sent_in_the_end():
    net = chain()

    def work(member):
        member.any_thread = False
        server = FusedSums(net, member, 1)
        for name, der in ders_of(net, 0).items():
            server.push(name, der)
        before = len(member.sent)
        server.sync()
        return before, len(member.sent)

    assert run_team(2, work) == [(0, 6), (0, 6)]


@pytest.mark.parametrize(
    "push, message",
    [
        (lambda s: s.push("b9", np.zeros(4)), "no value"),
        (lambda s: s.push("f1", np.zeros((4, 3, 3))), r"shape \(4, 3, 3, 3\)"),
        (lambda s: [s.push("b1", np.zeros(4)) for _ in range(2)], "twice"),
    ],
)
def test_wrong_derivatives_are_refused(push, message):
    net = chain()
    net.get_param("b1").value = np.zeros(4)
    with pytest.raises(DagNNError, match=message):
        run_team(1, lambda member: push(FusedSums(net, member)))


def test_the_engine_pushes_while_backward_goes_on():
    """The first bucket has left before the first layer's derivative is known."""
    net = chain()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 8, 8))
    net.eval({"x1": x}, {"x4": np.ones((1, 6, 8, 8))}, plan=False)
    expected = {p.name: p.der for p in net.params}

    def work(member):
        server = FusedSums(net, member, 2200)
        net.set_parameter_server(server)
        before = []
        push = server.push
        server.push = lambda name, der: (before.append((name, len(member.sent))), push(name, der))
        net.eval({"x1": x}, {"x4": np.ones((1, 6, 8, 8))}, plan=False)
        server.sync()
        net.clear_parameter_server()
        return dict(before), {p.name: server.pull(p.name) for p in net.params}

    ((sent, totals),) = run_team(1, work)
    assert sent["f3"] == 0 and sent["f1"] >= 1
    for name, der in expected.items():
        np.testing.assert_allclose(totals[name], der, rtol=1e-12)


def branches(rng):
    """Two branches of one SiamFC, of sizes that do not run together, and a response of both."""
    net = DagNN()
    widths = (3, 16, 32)
    for side in ("z", "x"):
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            conv = Conv(size=(after, before, 3, 3))
            names = [f"f{i}", f"b{i}"]
            net.add_layer(f"{side}conv{i}", conv, f"{side}{i}", f"{side}{i}y", names)
            norm = [f"{kind}{i}" for kind in "gcm"]
            bn = BatchNorm(num_channels=after)
            net.add_layer(f"{side}bn{i}", bn, f"{side}{i}y", f"{side}{i}n", norm)
            net.add_layer(f"{side}relu{i}", ReLU(), f"{side}{i}n", f"{side}{i + 1}")
    net.add_layer("response", XCorr(), ["z3", "x3"], "score")
    net.init_params(0)
    inputs = {"z1": rng.standard_normal((2, 3, 9, 9)), "x1": rng.standard_normal((2, 3, 15, 15))}
    return net, {name: value.astype(np.float32) for name, value in inputs.items()}


def test_the_last_call_of_a_fused_chain_hands_over_stage_by_stage(rng, monkeypatch):
    """Filters of the last stage leave before the first stage's are known; bits stay the same."""
    fuse_everything(monkeypatch)
    net, inputs = branches(rng)
    assert [len(unit.chains) for unit in net.plan(input_sizes=sizes_of(inputs)).units] == [1, 1, 1]
    asked = {"score": 1}
    net.eval(inputs, asked)
    expected = {p.name: p.der for p in net.params}
    pushed = {}

    class Server:
        num_workers = 1

        def push(self, name, der):
            assert name not in pushed
            pushed[name] = der.copy()

    net.set_parameter_server(Server())
    calls = []
    backward = FeatureChain.backward

    def watched(self, *arguments):
        before = len(pushed)
        result = backward(self, *arguments)
        calls.append((before, len(pushed)))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureChain, "backward", watched)
        net.eval(inputs, asked)
    assert calls == [(0, 0), (0, 10)]
    assert list(pushed)[:5] == ["f2", "b2", "g2", "c2", "m2"]
    for name, der in expected.items():
        assert np.array_equal(pushed[name], der), name
    # Nothing is handed over where more evaluations follow, and none is lost.
    pushed.clear()
    net.eval(inputs, asked, hold_on=True)
    assert not pushed
    net.accumulate_param_ders = True
    net.eval(inputs, asked)
    for name, der in expected.items():
        assert np.array_equal(pushed[name], der + der), name


def sizes_of(inputs):
    return {name: value.shape for name, value in inputs.items()}


def test_the_shorter_of_two_features_is_handed_over_too(rng):
    """Stages that the last call does not reach have been completed by the others."""
    net, inputs = branches(rng)
    net.remove_layer("response")
    net.add_layer("first", Loss(loss="logistic"), ["z2", "c"], "objective1")
    net.add_layer("second", Loss(loss="logistic"), ["x3", "d"], "objective2")
    inputs |= {"c": np.ones((2, 16, 7, 7), np.float32), "d": np.ones((2, 32, 11, 11), np.float32)}
    asked = {"objective1": 1, "objective2": 1}
    net.eval(inputs, asked)
    expected = {p.name: p.der for p in net.params}

    def work(member):
        net.set_parameter_server(FusedSums(net, member))
        net.eval(inputs, asked)
        server = net.parameter_server
        server.sync()
        return {p.name: server.pull(p.name) for p in net.params}

    (found,) = run_team(1, work)
    for name, der in expected.items():
        assert np.array_equal(found[name], der), name


@pytest.mark.parametrize("host", [True, False])
def test_derivatives_of_a_device_go_by_the_host_or_directly(host):
    """What MPI is given are arrays of the host, or of the device where it can take them."""

    class DeviceSum(Sum):
        def __init__(self, team, rank, array, number):
            super().__init__(team, rank, array.get(), number)
            self.place = array

        def wait(self):
            super().wait()
            self.place[...] = to_device(self.array, "gpu")

    class DeviceMember(Member):
        def empty(self, count, dtype, device):
            assert device == "gpu"
            array = super().empty(count, dtype, device)
            return array if host else to_device(array, "gpu")

        def start_sum(self, array):
            assert (type(array) is np.ndarray) == host
            if host:
                return super().start_sum(array)
            self.sent.append(len(array))
            return DeviceSum(self._team, self.rank, array, len(self.sent))

    with installed():
        net = chain()
        net.move("gpu")
        everything = [ders_of(net, seed) for seed in range(2)]

        def work(member):
            member.__class__ = DeviceMember
            server = FusedSums(net, member, 2200)
            for name, der in everything[member.rank].items():
                if name != "f2" or member.rank:
                    server.push(name, to_device(der, "gpu"))
            server.sync()
            return {p.name: server.pull(p.name) for p in net.params}

        for found in run_team(2, work):
            for name, total in found.items():
                expected = everything[1][name] + (everything[0][name] if name != "f2" else 0)
                assert get_array_module(total).__name__ == "cupy"
                np.testing.assert_allclose(asnumpy(total), expected, rtol=1e-12)


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
