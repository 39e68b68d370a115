"""Tests of dagnet.device_steps: captured steps give the numbers of plain ones, bit for bit."""

import dataclasses
import warnings
from collections import Counter

import numpy as np
import pytest

import simulated_cuda
from dagnet import (
    SGD,
    SOLVERS,
    Batch,
    Callback,
    DagNN,
    LayerError,
    NonFiniteError,
    TrainOptions,
    asnumpy,
    get_array_module,
    to_device,
    train_dag,
)
from dagnet.arena import aligned
from dagnet.device_steps import DeviceSteps
from dsiam_net.training import KeepLambdasPositive, clip_batch, frame_stats
from dsiam_net.unrolled import objectives
from layers import BatchNorm, Conv, DropOut, Loss, Pooling, ReLU
from simulated_cupy import installed
from tiny import smooth_clip, tiny_unrolled


@pytest.fixture
def transfers():
    with installed() as count:
        yield count


@pytest.fixture
def launches(monkeypatch):
    """How many nodes each launched graph had, launch after launch."""
    done, launch = [], simulated_cuda.Graph.launch

    def noted(self, stream=None):
        launch(self, stream)
        done.append(len(self))

    monkeypatch.setattr(simulated_cuda.Graph, "launch", noted)
    return done


@pytest.fixture(autouse=True)
def _strict():
    """A capture that failed would be told by a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def small_net(dtype=np.float32, dropout=False):
    """Convolution, batch norm, ReLU, pooling, a linear classifier and its loss and error."""
    net = DagNN()
    net.add_layer("conv", Conv(size=(4, 2, 3, 3)), "x", "a", ["f", "b"])
    net.add_layer("norm", BatchNorm(num_channels=4), "a", "n", ["g", "c", "m"])
    net.add_layer("relu", ReLU(), "n", "r")
    net.add_layer("pool", Pooling(method="max", pool_size=2, stride=2), "r", "p")
    last = "p"
    if dropout:
        net.add_layer("drop", DropOut(rate=0.5), "p", "d")
        last = "d"
    net.add_layer("score", Conv(size=(3, 4, 3, 3)), last, "score", ["w", "v"])
    net.add_layer("loss", Loss(), ["score", "label"], "objective")
    net.add_layer("error", Loss(loss="classerror"), ["score", "label"], "error")
    net.init_params(np.random.default_rng(1), dtype)
    net.move("gpu")
    return net


def get_batch(indexes, mode, epoch):
    """Other images in each step, epoch and set."""
    rng = np.random.default_rng([epoch, mode == "val", *indexes])
    x = rng.standard_normal((len(indexes), 2, 8, 8)).astype(np.float32)
    labels = rng.integers(1, 4, (len(indexes), 1, 1, 1)).astype(np.float32)
    return Batch({"x": to_device(x, "gpu"), "label": to_device(labels, "gpu")})


class Log(Callback):
    """Figures of each step, and the epochs that they are of."""

    def __init__(self):
        self.rows = []

    def after_step(self, mode, epoch, step, steps, stats):
        self.rows.append((mode, epoch, step, {k: v for k, v in stats.items() if k != "time"}))


def trained(folder, capture, net=None, callbacks=(), elements=18, **changes):
    """Figures, parameters and solver state of a short training, as bytes where they are arrays."""
    log, net = Log(), small_net() if net is None else net
    settings = {
        "batch_size": 3,
        "num_epochs": 3,
        "learning_rate": [0.1, 0.05, 0.01],
        "weight_decay": 0.01,
        "continue_": False,
        "capture": capture,
        **changes,
    }
    options = TrainOptions(exp_dir=folder, **settings)
    net, state = train_dag(
        net,
        get_batch,
        range(elements),
        range(4),
        options=options,
        callbacks=[*callbacks, log],
    )
    return log.rows, [asnumpy(p.value).tobytes() for p in net.params], flat(state.solver_state)


def flat(tree):
    if isinstance(tree, dict):
        return {key: flat(entry) for key, entry in sorted(tree.items())}
    return asnumpy(tree).tobytes()


@pytest.mark.parametrize("solver", [*SOLVERS.values(), lambda: SGD(nesterov=True)])
def test_captured_steps_are_plain_ones(transfers, launches, tmp_path, solver):
    plain = trained(tmp_path / "plain", False, solver=solver())
    assert not launches
    captured = trained(tmp_path / "captured", True, solver=solver())
    assert captured == plain
    # 18 steps of training, the third and those after it by a launch; validation's two batches are
    # of different sizes, and come three times each.
    assert sorted(Counter(launches).values()) == [2, 16]


def test_rates_change_without_another_capture(transfers, launches, tmp_path):
    """Three rates in one graph; a rate of 0 is another step, which leaves parameters alone."""
    rates = [0.1, 0.05, 0.0, 0.2]
    given = {"num_epochs": 4, "learning_rate": rates, "weight_decay": 0.0}
    plain = trained(tmp_path / "plain", False, **given)
    assert trained(tmp_path / "captured", True, **given) == plain
    assert len(launches) == 4 + 6 + 4 + 6 + 2 * 2


def test_a_last_batch_that_is_smaller_has_a_graph_of_its_own(transfers, launches, tmp_path):
    plain = trained(tmp_path / "plain", False, elements=17, num_epochs=4)
    assert trained(tmp_path / "captured", True, elements=17, num_epochs=4) == plain
    assert len(launches) == (4 * 5 - 2) + 2 + 2 * 2


def test_a_run_that_goes_on_is_one_that_was_not_interrupted(transfers, tmp_path):
    whole = trained(tmp_path / "whole", True, solver=SOLVERS["adam"]())
    given = {"solver": SOLVERS["adam"](), "continue_": True}
    trained(tmp_path / "parts", True, num_epochs=1, **given)
    parts = trained(tmp_path / "parts", True, **given)
    assert parts[1:] == whole[1:] and parts[0] == whole[0][-len(parts[0]) :]


def test_the_solver_may_begin_anew_in_each_epoch(transfers, tmp_path):
    plain = trained(tmp_path / "plain", False, save_solver_state=False)
    assert trained(tmp_path / "captured", True, save_solver_state=False) == plain


class Shrink(Callback):
    """Gives parameters new arrays."""

    def __init__(self, on_device):
        self.on_device = on_device

    def after_update(self, net):
        for parameter in net.params:
            xp = get_array_module(parameter.value)
            parameter.value = xp.minimum(parameter.value, 0.3)


@pytest.mark.parametrize("on_device", [False, True])
def test_callbacks_may_change_parameters(transfers, launches, tmp_path, on_device):
    plain = trained(tmp_path / "plain", False, callbacks=[Shrink(False)])
    assert trained(tmp_path / "captured", True, callbacks=[Shrink(on_device)]) == plain
    assert len(launches) == 18
    assert plain[1] != trained(tmp_path / "without", False)[1]


def step_of(net, capture=True, **changes):
    """A step object, and its training state."""
    from dagnet import TrainState

    for name in changes.get("der_outputs", ["objective"]):
        net.get_var(name).precious = True
    settings = {"batch_size": 3, "learning_rate": 0.1, "capture": capture, **changes}
    state = TrainState()
    state.epoch = 1
    options = TrainOptions(exp_dir=".", **settings)
    told = lambda name: NonFiniteError(f"{name} is not finite")  # noqa: E731
    return DeviceSteps(net, state, options, [], told)


def test_a_step_makes_the_host_wait_once_and_sends_nothing(transfers, launches):
    steps, batches = step_of(small_net()), [get_batch([i], "train", 1) for i in range(6)]
    for batch in batches:
        before = dataclasses.replace(transfers)
        steps.train(batch, 1)
        steps.net.fetch(["objective"])
        assert transfers.to_host == before.to_host + 1
    assert len(launches) == 4 and transfers.to_device == before.to_device


def test_derivatives_that_are_not_finite_change_nothing(transfers, launches):
    net = small_net()
    steps = step_of(net)
    for i in range(5):
        steps.train(get_batch([i], "train", 1), 1)
    before = [asnumpy(p.value) for p in net.params]
    states = flat(steps.state.solver_state)
    bad = get_batch([7], "train", 1)
    bad.inputs["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="objective is not finite"):
        steps.train(bad, 1)
    assert len(launches) == 4
    assert [asnumpy(p.value).tobytes() for p in net.params] == [b.tobytes() for b in before]
    assert flat(steps.state.solver_state) == states
    steps.train(get_batch([8], "train", 1), 1)


def test_a_condition_of_a_layer_is_told_and_changes_nothing(transfers, launches):
    """Stored moments with a sigma of 0."""
    net = small_net()
    net.get_layer("norm").block.moments = "stored"
    net.get_param("m").value[...] = 1.0
    net.get_param("m").learning_rate = 0.0
    steps = step_of(net)
    for i in range(4):
        steps.train(get_batch([i], "train", 1), 1)
    net.get_param("m").value[...] = 0.0
    before = asnumpy(net.get_param("f").value)
    with pytest.raises(LayerError, match=r"layer 'norm' .*were never trained"):
        steps.train(get_batch([5], "train", 1), 1)
    assert asnumpy(net.get_param("f").value).tobytes() == before.tobytes()
    assert len(launches) == 3


def test_settings_that_changed_capture_again(transfers, launches):
    net = small_net()
    steps = step_of(net)

    def three():
        for i in range(3):
            steps.train(get_batch([i], "train", 1), 1)
        return len(launches)

    assert three() == 1
    changes = [
        lambda: setattr(net.get_var("p"), "precious", True),
        lambda: setattr(net.get_param("f"), "weight_decay", 0.0),
        lambda: setattr(net.get_param("f"), "learning_rate", 0.0),
        lambda: setattr(net.get_param("m"), "learning_rate", 0.5),
        lambda: setattr(net.get_layer("relu").block, "leak", 0.1),
    ]
    for count, change in enumerate(changes, start=2):
        change()
        assert three() == count
    assert asnumpy(net.get_var("p").der).shape == (1, 4, 3, 3)


def test_what_cannot_be_captured_runs_plainly_and_says_so_once(transfers, launches):
    steps = step_of(small_net(dropout=True))
    with pytest.warns(UserWarning, match="layer 'drop' draws random numbers") as told:
        for i in range(4):
            steps.train(get_batch([i], "train", 1), 1)
    assert len(told) == 1 and not launches
    for i in range(4):
        steps.validate(get_batch([i], "val", 1))
    assert len(launches) == 2  # nothing is drawn in mode 'test'
    steps = step_of(small_net())
    late = lambda values: {}  # noqa: E731
    with pytest.warns(UserWarning, match="a function that is no dataclass"):
        steps.train(dataclasses.replace(get_batch([1], "train", 1), late_inputs=late), 1)


class Waits(ReLU):
    """A layer that looks at values."""

    def forward(self, inputs, params, context):
        float(inputs[0].sum())
        return super().forward(inputs, params, context)


def test_a_capture_that_fails_is_told_and_the_run_goes_on(transfers, launches, tmp_path):
    def net():
        changed = small_net()
        changed.remove_layer("relu")
        changed.add_layer("relu", Waits(), "n", "r")
        return changed

    plain = trained(tmp_path / "plain", False, net=net())
    with pytest.warns(UserWarning, match=r"could not be captured .*waiting for values") as told:
        captured = trained(tmp_path / "captured", True, net=net())
    assert captured == plain and len(told) == 1 and not launches


def test_the_arena_is_what_is_in_use_at_one_time(transfers):
    steps = step_of(small_net())
    for i in range(3):
        steps.train(get_batch([i], "train", 1), 1)
    (plan,) = steps.graphs.plans()
    assert plan.peak <= plan.size <= 1.1 * plan.peak
    assert plan.size < 0.5 * sum(aligned(r.size) for r in plan.requests)


def test_graphs_of_training_and_validation_share_memory(transfers):
    steps = step_of(small_net())
    for i in range(6):
        steps.train(get_batch([i], "train", 1), 1)
        steps.validate(get_batch([i], "val", 1))
    kept = [step.captured for step in steps.graphs._steps.values()]
    assert len({id(graph.arena.block) for graph in kept}) == 1 and len(kept) == 2


@pytest.mark.parametrize(
    "crops", [pytest.param("response", marks=pytest.mark.slow), "ground-truth"]
)
def test_captured_steps_of_the_unrolled_network_are_plain_ones(
    transfers, launches, tmp_path, crops
):
    """Labels follow from where the crops fell; their centres are read where the graph has them."""
    found = []
    for capture in (False, True):
        settings = {"crops": crops, "crop_gradient": "none"} if crops != "response" else {}
        net = tiny_unrolled(np.random.default_rng(3), np.float64, frames=2, **settings)
        net.move("gpu")
        log = Log()

        def batch(indexes, mode, epoch, net=net):
            clips = [smooth_clip(np.random.default_rng(i), frames=2) for i in indexes]
            return clip_batch(net, clips, np.float64)

        options = TrainOptions(
            exp_dir=tmp_path / str(capture),
            batch_size=1,
            num_epochs=2,
            learning_rate=[1e-3, 1e-4],
            der_outputs=dict.fromkeys(objectives(net), 1),
            capture=capture,
        )
        net, _ = train_dag(
            net,
            batch,
            range(3),
            options=options,
            extract_stats=frame_stats,
            callbacks=[KeepLambdasPositive(), log],
        )
        found.append((log.rows, [asnumpy(p.value).tobytes() for p in net.params]))
    assert found[0] == found[1]
    assert len(launches) == 4


def test_a_network_that_is_only_evaluated_needs_no_losses(transfers, launches, tmp_path):
    net = small_net()
    net.remove_layer("loss")
    net.get_param("m").value[...] = 1.0
    options = TrainOptions(exp_dir=tmp_path, batch_size=1, num_epochs=1)
    _, state = train_dag(net, get_batch, [], range(5), options=options)
    assert set(state.stats["val"][0]) == {"num", "error", "time"} and len(launches) == 3


def test_sub_batches_are_updated_on_the_device_too(transfers, launches, tmp_path):
    """Without a capture; the numbers are those of the CPU, and a bad derivative changes nothing."""
    found = {}
    for device in ("cpu", "gpu"):
        net = small_net(np.float64)
        net.move(device)

        def batch(indexes, mode, epoch, device=device):
            given = get_batch(indexes, mode, epoch).inputs
            return Batch(
                {n: to_device(asnumpy(v).astype(np.float64), device) for n, v in given.items()}
            )

        given = {"batch_size": 4, "num_sub_batches": 2, "num_epochs": 2, "learning_rate": 0.1}
        options = TrainOptions(exp_dir=tmp_path / device, **given)
        train_dag(net, batch, range(8), options=options)
        found[device] = [asnumpy(p.value) for p in net.params]
    for here, there in zip(found["cpu"], found["gpu"]):
        np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-12)
    assert not launches
