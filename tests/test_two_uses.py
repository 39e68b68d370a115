"""One layer object in several places of one graph; in the original that breaks batch norm."""

import numpy as np
import pytest

from dagnet import Batch, DagNN, TrainOptions, accumulate_gradients, relative_error, train_dag
from dagnet.checkpoint import TrainState
from errors import record_error
from layers import BatchNorm, Conv, Loss, Pooling, ReLU

STEP = 1e-5
DERS = {"a_objective": 1.0, "b_objective": 0.5}
MODES = pytest.mark.parametrize("mode", ["normal", "test"])
PLANS = pytest.mark.parametrize("plan", [True, False], ids=["by plan", "layers in turn"])


def two_chains(shared):
    """conv, batch norm, ReLU, pool and a loss, on two inputs of two sizes.

    The parameters are the same for both and, where ``shared``, the layer objects are.
    """
    net, held = DagNN(), {}

    def block(name, kind, **settings):
        if not shared:
            return kind(**settings)
        if name not in held:
            held[name] = kind(**settings)
        return held[name]

    for a in "ab":
        conv = block("conv", Conv, size=(4, 2, 3, 3))
        net.add_layer(f"{a}_conv", conv, f"{a}_x", f"{a}_c", ["f", "fb"])
        norm = block("norm", BatchNorm, num_channels=4)
        net.add_layer(f"{a}_norm", norm, f"{a}_c", f"{a}_n", ["m", "b", "s"])
        net.add_layer(f"{a}_relu", block("relu", ReLU, leak=0.1), f"{a}_n", f"{a}_r")
        pool = block("pool", Pooling, pool_size=2, method="avg")
        net.add_layer(f"{a}_pool", pool, f"{a}_r", f"{a}_p")
        out = block("out", Conv, size=(1, 4, 1, 1))
        net.add_layer(f"{a}_out", out, f"{a}_p", f"{a}_y", ["g", "gb"])
        loss = block("loss", Loss, loss="logistic")
        net.add_layer(f"{a}_loss", loss, [f"{a}_y", f"{a}_label"], f"{a}_objective")
    return with_values(net)


def in_a_row(shared):
    """Two batch norms of three channels, one behind the other, with a ReLU between them."""
    net = DagNN()
    first = BatchNorm(num_channels=3)
    second = first if shared else BatchNorm(num_channels=3)
    net.add_layer("a_norm", first, "a_x", "a_n", ["m", "b", "s"])
    net.add_layer("relu", ReLU(leak=0.1), "a_n", "a_r")
    net.add_layer("b_norm", second, "a_r", "a_y", ["m2", "b2", "s"])
    net.add_layer("loss", Loss(loss="logistic"), ["a_y", "a_label"], "a_objective")
    return with_values(net)


def with_values(net):
    net.init_params(7, dtype=np.float64)
    rng = np.random.default_rng(8)
    for parameter in net.params:
        parameter.value = parameter.value + 0.1 * rng.standard_normal(parameter.value.shape)
        if parameter.name == "s":
            parameter.value[:, 1] = 1 + rng.random(len(parameter.value))
    for variable in net.vars:
        variable.precious = True
    return net


def inputs_of(net):
    rng = np.random.default_rng(9)
    channels = 3 if net.get_layer_index("b_norm") is not None and len(net.layers) == 4 else 2
    sizes = {"a": (2, 8, 7), "b": (3, 6, 9)}
    found = {}
    for a in ("a",) if channels == 3 else ("a", "b"):
        n, h, w = sizes[a]
        found[f"{a}_x"] = rng.standard_normal((n, channels, h, w))
        size = (n, 3, h, w) if channels == 3 else (n, 1, h - 3, w - 3)
        found[f"{a}_label"] = rng.choice([-1, 1], size).astype(np.float64)
    return found


def wanted(net):
    return {name: der for name, der in DERS.items() if net.get_var_index(name) is not None}


def objective(net, inputs):
    net.eval(inputs)
    return sum(der * float(net.get_var(name).value) for name, der in wanted(net).items())


BUILDERS = pytest.mark.parametrize("build", [two_chains, in_a_row])


@BUILDERS
@MODES
@PLANS
def test_derivatives_and_moments_are_those_of_two_objects(build, mode, plan):
    nets = [build(shared) for shared in (True, False)]
    for net in nets:
        net.mode = mode
        net.eval(inputs_of(net), wanted(net), plan=plan)
    one, two = nets
    for mine, other in zip(one.params, two.params):
        assert mine.der.tobytes() == other.der.tobytes(), mine.name
    for mine, other in zip(one.vars, two.vars):
        assert np.array_equal(mine.value, other.value), mine.name
        if mine.name.endswith("_x"):
            assert mine.der.tobytes() == other.der.tobytes(), mine.name


@BUILDERS
def test_the_moments_are_those_of_both_uses(build):
    net = build(True)
    net.eval(inputs_of(net), wanted(net))
    reads = [r.inputs[0] for r in net.layers if r.type == "dagnn.BatchNorm"]
    expected = 0.0
    for x in (net.get_var(name).value for name in reads):
        sigma = np.sqrt(x.var(axis=(0, 2, 3)) + 1e-5)
        expected = expected + np.stack([x.mean(axis=(0, 2, 3)), sigma], axis=1)
    parameter = net.get_param("s")
    assert relative_error(parameter.der, expected) < 1e-12
    # The update takes their mean, at a rate of a tenth of it.
    before = parameter.value
    accumulate_gradients(net, TrainState(), TrainOptions(exp_dir="."), epoch=1)
    rate = parameter.learning_rate
    assert relative_error(parameter.value, (1 - rate) * before + rate * expected / 2) < 1e-12


@BUILDERS
@MODES
def test_the_derivative_is_the_numerical_one(build, mode):
    net = build(True)
    net.mode, inputs = mode, inputs_of(net)
    net.eval(inputs, wanted(net))
    ders = {p.name: p.der for p in net.params if p.name != "s"}
    ders |= {name: net.get_var(name).der for name in inputs if name.endswith("_x")}
    rng = np.random.default_rng(10)
    for name, der in ders.items():
        way = rng.standard_normal(der.shape)
        ends = []
        for sign in (1, -1):
            moved = dict(inputs)
            if name in moved:
                moved[name] = moved[name] + sign * STEP * way
                ends.append(objective(net, moved))
                continue
            parameter = net.get_param(name)
            before = parameter.value
            parameter.value = before + sign * STEP * way
            ends.append(objective(net, moved))
            parameter.value = before
        numerical = (ends[0] - ends[1]) / (2 * STEP)
        if name == "fb" and mode == "normal":
            # The batch's moments take away what a bias before them adds.
            assert np.abs(der).max() < 1e-12 and abs(numerical) < 1e-9
            continue
        error = abs(np.vdot(der, way) - numerical) / np.linalg.norm(der)
        record_error("gradient", "one layer, two uses", error, f"{build.__name__} {name}")
        assert error < 1e-6, name


@PLANS
def test_training_is_that_of_two_objects(tmp_path, plan, monkeypatch):
    monkeypatch.setitem(DagNN.eval.__kwdefaults__, "plan", plan)
    found = []
    for shared in (True, False):
        net = two_chains(shared)
        batch = Batch(inputs_of(net))
        # It goes on from the checkpoint of the second epoch, where the objects are apart.
        for epochs in (2, 4):
            options = TrainOptions(
                exp_dir=tmp_path / str(shared),
                num_epochs=epochs,
                learning_rate=0.1,
                der_outputs=DERS,
            )
            net, _ = train_dag(net, lambda *_, batch=batch: batch, [0], options=options)
        found.append(net)
    one, two = found
    assert [p.value.tobytes() for p in one.params] == [p.value.tobytes() for p in two.params]


def test_a_loss_in_two_places_averages_over_both():
    net = two_chains(True)
    inputs = inputs_of(net)
    net.eval(inputs, DERS)
    cells = [
        np.log1p(np.exp(-inputs[f"{a}_label"] * net.get_var(f"{a}_y").value)).ravel() for a in "ab"
    ]
    layer = net.get_layer("a_loss").block
    assert layer is net.get_layer("b_loss").block
    assert layer.average == pytest.approx(np.concatenate(cells).mean(), rel=1e-12)
