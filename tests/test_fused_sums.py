"""Tests of the sums of derivatives over processes, which threads play: buckets, order, devices."""

from itertools import pairwise

import numpy as np
import pytest

from dagnet import (
    DagNN,
    DagNNError,
    asnumpy,
    get_array_module,
    to_device,
)
from dagnet.fused_sums import FusedSums, completion_order
from feature_chains import fuse_everything
from layers import BatchNorm, Conv, Loss, ReLU, XCorr
from layers.chain import FeatureChain
from simulated_cupy import installed
from team import Member, Sum, run_team
from toy_training import toy_net


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
