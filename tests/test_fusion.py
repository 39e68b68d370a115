"""Tests of dagnet.fusion in the engine: chains as one, equal chains in one call, on toy layers."""

from typing import ClassVar

import numpy as np
import pytest

from dagnet import Chain, DagNN, DagNNError, FusedLayer, LayerError, ShapeError, fusion
from layers import ReLU
from toy_layers import Observe, Plus, Split, Times, array

pytestmark = pytest.mark.of_plan


class FusedTimes(FusedLayer):
    """Chains of ``Times`` and ``Observe``: what each does, and which of its variables are given."""

    calls: ClassVar[list] = []

    def __init__(self, kinds, taps):
        self.kinds, self.taps = tuple(kinds), tuple(taps)

    def key(self):
        return self.kinds, self.taps

    def begin(self, params, context):
        self.calls.append(("begin", len(params)))
        return [float(p[0]) if kind is Times else 1.0 for kind, p in zip(self.kinds, params)]

    def forward(self, inputs, params, context):
        if any(x.shape[0] > 3 for x in inputs):
            raise ShapeError("too long")
        self.calls.append(("forward", len(inputs), context.derivatives))
        outputs, saved = [], []
        for x in inputs:
            values = [x]
            for kind, w in zip(self.kinds, context.shared):
                values.append(values[-1] * w)
                if kind is Observe and context.mode == "test":
                    values[-1] = values[-1] + 100
            outputs += [values[i + 1] for i in self.taps]
            saved.append(values)
        return outputs, saved if context.derivatives else None

    def backward(self, inputs, params, der_outputs, saved, context):
        self.calls.append(("backward", len(inputs), context.uses))
        part = np.zeros(len(self.kinds))
        ders = []
        for b, values in enumerate(saved):
            own = dict(zip(self.taps, der_outputs[b * len(self.taps) :]))
            der = 0
            for i in reversed(range(len(self.kinds))):
                if own.get(i) is not None:
                    der = der + own[i]
                if self.kinds[i] is Times:
                    part[i] += np.sum(der * values[i])
                else:
                    times = context.uses[b] if context.mode == "normal" else 1
                    part[i] += np.mean(values[i]) * times
                der = der * context.shared[i]
            ders.append(der if context.needs_input(b) else None)
        return ders, part

    def add(self, total, part):
        return total + part

    def finish(self, total, params, shared, context):
        return [t.reshape(1) for t in total]

    def saved_bytes(self, input_sizes):
        return 4.0 * input_sizes[0].count * len(self.kinds)


def find_times(around):
    chains, taken = [], set()
    for index in around.order:
        layers, taps = [], []
        while index is not None and index not in taken:
            record = around.net.layers[index]
            if type(record.block) not in (Times, Observe):
                break
            layers.append(index)
            (v,) = record.output_indexes
            readers = around.readers.get(v, [])
            if v in around.visible or len(readers) != 1:
                taps.append(len(layers) - 1)
            index = readers[0] if readers and v not in around.given else None
        if not layers or taken.intersection(layers):
            continue
        if len(layers) - 1 not in taps:
            taps.append(len(layers) - 1)
        taken.update(layers)
        records = [around.net.layers[i] for i in layers]
        chains.append(
            Chain(
                layers=tuple(layers),
                block=FusedTimes([type(r.block) for r in records], taps),
                input=around.shared[records[0].input_indexes[0]],
                outputs=tuple(records[i].output_indexes[0] for i in taps),
                params=tuple(r.param_indexes[0] for r in records),
            )
        )
    return chains


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    monkeypatch.setattr(fusion, "_FINDERS", {"cpu": [find_times]})
    FusedTimes.calls = []


def ladder(steps=3, rungs=3):
    """``x`` times w0, w1, w2 into ``y0``; each y is halved and goes into the next step."""
    net = DagNN()
    source = "x"
    for t in range(steps):
        for side in "ab":
            last = source if side == "a" else "other"
            for i in range(rungs):
                out = f"{side}{t}_{i}"
                net.add_layer(f"times_{out}", Times(), last, out, f"w{i}")
                last = out
        net.add_layer(f"plus{t}", Plus(), [f"a{t}_{rungs - 1}", f"b{t}_{rungs - 1}"], f"y{t}")
        source = f"y{t}"
    for i in range(rungs):
        net.get_param(f"w{i}").value = array(0.5 + 0.25 * i)
    return net


def results(net, inputs, ders, **options):
    net.eval(inputs, ders, **options)
    found = {f"value of {v.name}": v.value for v in net.vars if v.precious or v.fanout == 0}
    found |= {f"der of {v.name}": v.der for v in net.vars if v.precious or v.fanin == 0}
    found |= {f"der of {p.name}": p.der for p in net.params}
    return found


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        if value is None:
            assert two[name] is None, name
        else:
            np.testing.assert_allclose(two[name], value, rtol=1e-12, err_msg=name)


INPUTS = {"x": array(1.0, 2.0, 3.0), "other": array(-1.0, 0.5, 2.0)}


@pytest.mark.parametrize("workers", [1, 2])
def test_chains_that_can_run_together_do_and_give_what_the_layers_give(workers):
    net = ladder()
    net.workers = workers
    plain = results(net, INPUTS, {"y2": 1}, plan=False)
    assert FusedTimes.calls == []
    assert_same(plain, results(net, INPUTS, {"y2": 1}))
    # The chain on `other` is the same in each step, so it is run once, with the first.
    forward = [call[1] for call in FusedTimes.calls if call[0] == "forward"]
    assert forward == [2, 1, 1]
    assert FusedTimes.calls.count(("begin", 3)) == 1
    text = str(net.plan())
    assert "fused: 12 layers into 4 chains (12 test.Times)" in text
    assert "batched: 4 chains run in 3 calls (1 of 2, 2 of 1 chains)" in text


def test_variables_that_are_looked_at_are_given_with_their_derivatives():
    net = ladder(steps=2)
    net.get_var("a1_0").precious = True
    plain = results(net, INPUTS, {"y1": 2.0, "b1_1": 3.0}, plan=False)
    assert_same(plain, results(net, INPUTS, {"y1": 2.0, "b1_1": 3.0}))


def test_a_variable_that_is_given_ends_a_chain():
    net = ladder(steps=1)
    given = INPUTS | {"a0_1": array(7.0, 7.0, 7.0)}
    del given["x"]
    plain = results(net, given, {"y0": 1}, plan=False)
    assert_same(plain, results(net, given, {"y0": 1}))


@pytest.mark.parametrize("late", ["x", "a0_1"])
def test_late_inputs_may_come_at_a_chains_head_or_in_its_middle(late):
    net = ladder(steps=2)
    given = {"other": INPUTS["other"]}

    def late_inputs(values):
        assert values["b0_2"] is not None
        return {late: array(4.0, 5.0, 6.0)}

    plain = results(net, given, {"y1": 1}, late_inputs=late_inputs, plan=False)
    assert_same(plain, results(net, given, {"y1": 1}, late_inputs=late_inputs))
    assert plain["der of w0"] is not None


def test_chains_without_their_input_are_left_out():
    net = ladder(steps=2)
    net.eval({"other": INPUTS["other"]}, {"b0_2": 1})
    assert net.get_var("y1").value is None
    # A merged chain's variables share one value, so one derivative.
    assert net.get_param("w0").der == INPUTS["other"].sum() * 0.75 * 1.0


def test_observations_count_for_all_chains_that_one_stands_for():
    def observed(plan):
        net = DagNN()
        for t in range(3):
            net.add_layer(f"times{t}", Times(), "x", f"a{t}", "w")
            net.add_layer(f"observe{t}", Observe(), f"a{t}", f"b{t}", "m")
        net.add_layer("times3", Times(), "z", "a3", "w")
        net.add_layer("observe3", Observe(), "a3", "b3", "m")
        net.get_param("w").value, net.get_param("m").value = array(2.0), array(0.0)
        inputs = {"x": array(1.0, 3.0), "z": array(10.0)}
        net.eval(inputs, dict.fromkeys(["b0", "b1", "b2", "b3"], 1.0), plan=plan)
        return net.get_param("m").der, net.get_param("w").der

    assert observed(True) == observed(False) == (3 * 4 + 20, 3 * 4 + 10)


def test_an_error_in_a_chain_names_the_layer_or_the_chain():
    net = ladder(steps=1)
    long = {name: np.ones(5) for name in INPUTS}
    with pytest.raises(LayerError, match=r"layers 'times_a0_0' to 'times_a0_2', .*plan=False"):
        net.eval(long)
    # Where a layer alone raises too, its error is the one that is told.
    net.get_param("w1").value = array(1.0, 2.0)
    with pytest.raises(LayerError, match=r"layer 'times_a0_1' .*w1 .2,."):
        net.eval({name: np.ones(5) for name in INPUTS})


def test_a_budget_makes_chains_run_again_in_backward():
    net = ladder(steps=4)
    for v in net.get_inputs():
        assert net.get_var(v).fanin == 0
    inputs = {name: value.reshape(3, 1, 1, 1) for name, value in INPUTS.items()}
    sizes = {name: (3, 1, 1, 1) for name in inputs}
    whole = net.plan(input_sizes=sizes)
    assert "expected peak" in str(whole)
    plain = results(net, inputs, {"y3": 1}, plan=False)
    FusedTimes.calls.clear()
    assert_same(plain, results(net, inputs, {"y3": 1}, memory_budget=whole.peak_bytes - 1))
    kept = [call[2] for call in FusedTimes.calls if call[0] == "forward"]
    # The first unit keeps nothing, and runs a second time in backward, as the last call.
    assert kept == [False, True, True, True, True]
    assert net.plan(input_sizes=sizes, memory_budget=whole.peak_bytes - 1).peak_bytes < (
        whole.peak_bytes
    )
    with pytest.raises(DagNNError, match="budget of 0 MiB cannot be met"):
        net.eval(inputs, {"y3": 1}, memory_budget=1)


def test_a_plan_is_made_again_when_a_setting_or_the_structure_changes():
    net = ladder(steps=1)
    for side in "pq":
        net.add_layer(f"relu_{side}", ReLU(leak=0.5), "y0", side)
    net.eval(INPUTS)
    assert net.get_var("q").value is net.get_var("p").value  # one layer for both
    net.get_layer("relu_q").block.leak = 0.25
    net.eval(INPUTS)
    np.testing.assert_array_equal(net.get_var("q").value, net.get_var("p").value / [2, 1, 1])
    before = net.get_var("p").value
    net.set_layer_inputs("times_a0_1", "x")
    net.eval(INPUTS)
    assert not np.allclose(net.get_var("p").value, before)
    net.get_layer("times_a0_1").block = Split()
    with pytest.raises(LayerError, match="returned 2"):
        net.eval(INPUTS)


def random_net(rng):
    """A random network of chains that branch, join, repeat and share parameters."""
    net = DagNN()
    variables = ["x", "y"]
    for i in range(40):
        kind = rng.choice(["times", "times", "times", "observe", "plus", "split"])
        recent = variables[-6:]
        source = recent[rng.integers(len(recent))]
        outputs = [f"v{i}"]
        if kind == "times":
            net.add_layer(f"layer{i}", Times(), source, outputs, f"w{rng.integers(3)}")
        elif kind == "observe":
            net.add_layer(f"layer{i}", Observe(), source, outputs, f"m{rng.integers(2)}")
        elif kind == "plus":
            other = variables[rng.integers(len(variables))]
            net.add_layer(f"layer{i}", Plus(), [source, other], outputs)
        else:
            outputs.append(f"u{i}")
            net.add_layer(f"layer{i}", Split(), source, outputs)
        variables += outputs
    for parameter in net.params:
        parameter.value = rng.uniform(0.5, 1.0, 1)
        if parameter.name.startswith("m"):
            parameter.train_method = "average"
    for variable in net.vars:
        variable.precious = bool(rng.random() < 0.1)
    return net


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_give_the_same_fused_and_in_turn(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    net.workers = 1 + seed % 2
    inputs = {name: rng.uniform(0.5, 1, 3) for name in net.get_inputs()}
    ends = [v.name for v in net.vars if v.fanout == 0]
    ders = {name: rng.standard_normal(3) for name in ends}
    for mode in ("normal", "test"):
        net.mode = mode
        plain = results(net, inputs, ders, plan=False)
        planned = results(net, inputs, ders)
        for names in net.plan().aliases:
            # The derivative by variables that were merged is the sum over them.
            for v in names if len(names) > 1 else ():
                plain.pop(f"der of {net.vars[v].name}", None)
                planned.pop(f"der of {net.vars[v].name}", None)
        # In test mode the toy's observation is no derivative: merged ones would not add up.
        skipped = {f"der of m{i}" for i in range(2)} if mode == "test" else set()
        plain, planned = (
            {name: value for name, value in found.items() if name not in skipped}
            for found in (plain, planned)
        )
        assert_same(plain, planned)
