"""Tests of dagnet.train_dag: steps worked out by hand, batches, figures, order of events."""

import numpy as np
import pytest

from dagnet import SGD, Batch, Callback, DagNN, accumulate_stats, train_dag
from toy_layers import Drop, HalfSquare, Times, array
from toy_training import C, X, get_batch, options, toy_net

# One step


def test_a_step_has_weight_decay_and_the_parameters_own_factors(tmp_path):
    net = toy_net()
    net.get_param("w").learning_rate, net.get_param("w").weight_decay = 3.0, 2.0
    train_dag(net, get_batch, [1], options=options(tmp_path, weight_decay=0.01))
    # x = 2, c = 1, w = 1: derivative (2 - 1) 2 = 2, decay 0.01 . 2 . 1; rate 0.1 . 3.
    assert net.get_param("w").value == pytest.approx(1 - 0.3 * (2 + 0.02), rel=1e-15)


def test_momentum_goes_from_step_to_step(tmp_path):
    net = toy_net()
    solver = SGD(momentum=0.5)
    _, state = train_dag(
        net, get_batch, [1], options=options(tmp_path, solver=solver, num_epochs=2)
    )
    # m = -2, w = 0.8; derivative (1.6 - 1) 2 = 1.2; m = -1 - 1.2 = -2.2, w = 0.8 - 0.22.
    assert net.get_param("w").value == pytest.approx(0.58, rel=1e-15)
    assert state.solver_state["w"] == pytest.approx(-2.2, rel=1e-15)
    assert list(state.solver_state) == ["w"]


def test_average_parameters_move_to_the_mean_over_their_uses(tmp_path):
    net = toy_net()
    train_dag(net, get_batch, [0, 1, 2, 3], options=options(tmp_path))
    # Both uses observe the mean of x, as w is 1: 0.625; the rate of Observe is 0.1.
    assert net.get_param("m").value == pytest.approx(0.1 * 0.625, rel=1e-15)


class Recorder:
    """A solver that notes what it is given and changes nothing."""

    def __init__(self):
        self.calls = []

    def update(self, value, state, der, rate):
        self.calls.append((float(value[0]), float(der[0]), rate))
        return value, state


def test_learning_rates_are_one_an_epoch_and_the_last_stays(tmp_path):
    solver = Recorder()
    chosen = options(tmp_path, solver=solver, learning_rate=[0.5, 0.25], num_epochs=4)
    train_dag(toy_net(), get_batch, [0], options=chosen)
    assert [rate for *_, rate in solver.calls] == [0.5, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    "learning_rate, weight_decay, called", [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)]
)
def test_the_solver_rests_where_rate_and_decay_are_both_zero(
    tmp_path, learning_rate, weight_decay, called
):
    net, solver = toy_net(), Recorder()
    net.get_param("w").learning_rate = learning_rate
    net.get_param("w").weight_decay = weight_decay
    _, state = train_dag(
        net, get_batch, [0], options=options(tmp_path, solver=solver, weight_decay=0.5)
    )
    assert len(solver.calls) == called == len(state.solver_state)


def test_a_parameter_that_no_evaluated_layer_uses_stays(tmp_path):
    net = toy_net()
    net.add_layer("other", Times(), "u", "v", "w2")
    net.get_param("w2").value = array(5.0)
    _, state = train_dag(net, get_batch, [0, 1], options=options(tmp_path, weight_decay=1.0))
    assert net.get_param("w2").value == 5 and "w2" not in state.solver_state


def test_single_precision_stays_single_whatever_the_factors_types(tmp_path):
    net = toy_net()
    for parameter in net.params:
        parameter.value = parameter.value.astype(np.float32)
        parameter.learning_rate = np.float64(0.5)
        parameter.weight_decay = np.float64(1)
    chosen = options(tmp_path, weight_decay=np.float64(0.1), learning_rate=np.array([0.1]))
    train_dag(net, get_batch, [0, 1], options=chosen)  # X is of double precision
    assert all(p.value.dtype == np.float32 for p in net.params)


def test_parameters_of_shape_0d_stay_arrays(tmp_path):
    class Scalar(Times):
        def backward(self, inputs, params, der_outputs, saved, context):
            ders, _ = super().backward(inputs, params, der_outputs, saved, context)
            return ders, [np.sum(inputs[0] * der_outputs[0])]

    net = DagNN()
    net.add_layer("times", Scalar(), "x", "y", "w")
    net.add_layer("loss", HalfSquare(), ["y", "c"], "objective")
    net.get_param("w").value = np.array(1.0)
    train_dag(net, get_batch, [1], options=options(tmp_path, num_epochs=2))
    value = net.get_param("w").value
    assert isinstance(value, np.ndarray) and value.shape == () and value == pytest.approx(0.68)


# Batches and sub-batches


@pytest.mark.parametrize("parts", [2, 4])
def test_sub_batches_equal_whole_batches(tmp_path, parts):
    values = []
    for number in (1, parts):
        net = toy_net()
        chosen = options(tmp_path / str(number), num_sub_batches=number, num_epochs=3)
        train_dag(net, get_batch, range(8), options=chosen)
        values.append([p.value[0] for p in net.params])
        assert net.accumulate_param_ders is False
    assert values[0] == pytest.approx(values[1], rel=1e-14)


def test_a_last_batch_smaller_than_the_sub_batches_counts_what_was_evaluated(tmp_path):
    values = []
    for parts in (1, 4):
        net = toy_net()
        train_dag(
            net, get_batch, [1], options=options(tmp_path / str(parts), num_sub_batches=parts)
        )
        values.append([p.value[0] for p in net.params])
    assert values[0] == values[1]


def seen_batches(folder, train=range(7), val=(), net=None, **changes):
    """The indexes that get_batch was asked for, with mode and epoch."""
    asked = []

    def watch(indexes, mode, epoch):
        assert all(type(i) is int for i in indexes)
        asked.append((mode, epoch, indexes))
        return get_batch(indexes, mode, epoch)

    train_dag(net or toy_net(), watch, train, val, options=options(folder, **changes))
    return asked


def epoch_of(asked, mode, epoch):
    return [i for m, e, indexes in asked if (m, e) == (mode, epoch) for i in indexes]


def test_an_epoch_is_a_permutation_that_follows_from_seed_and_epoch(tmp_path):
    runs = [
        seen_batches(tmp_path / f"{k}", val=[0, 3, 5], num_epochs=2, random_seed=seed)
        for k, seed in enumerate((1, 1, 2))
    ]
    assert runs[0] == runs[1]
    first, second = (epoch_of(runs[0], "train", e) for e in (1, 2))
    other = epoch_of(runs[2], "train", 1)
    assert sorted(first) == sorted(second) == sorted(other) == list(range(7))
    assert first != second and first != other
    assert sorted(epoch_of(runs[0], "val", 1)) == [0, 3, 5]


def test_batches_have_their_size_and_the_last_what_is_left(tmp_path):
    asked = seen_batches(tmp_path, batch_size=3)
    assert [len(indexes) for *_, indexes in asked] == [3, 3, 1]


def test_an_epoch_may_be_a_part_of_the_shuffled_set(tmp_path):
    whole = epoch_of(seen_batches(tmp_path / "a"), "train", 1)
    part = epoch_of(seen_batches(tmp_path / "b", epoch_size=5), "train", 1)
    assert part == whole[:5]
    assert epoch_of(seen_batches(tmp_path / "c", epoch_size=100), "train", 1) == whole


def test_sub_batches_take_every_nth_element_in_validation_too(tmp_path):
    whole = seen_batches(tmp_path / "a", val=range(3), batch_size=7)
    parts = seen_batches(tmp_path / "b", val=range(3), batch_size=7, num_sub_batches=2)
    (*_, train), (*_, val) = whole
    assert [indexes for *_, indexes in parts] == [train[::2], train[1::2], val[::2], val[1::2]]


# Validation, figures, callbacks


def test_validation_runs_in_test_mode_and_changes_nothing(tmp_path):
    class Watch(Callback):
        def __init__(self, net):
            self.net, self.seen = net, []

        def after_step(self, mode, epoch, step, steps, stats):
            held = [p.value[0] for p in self.net.params]
            self.seen.append((mode, self.net.mode, held))

    net = toy_net()
    watch = Watch(net)
    train_dag(net, get_batch, [0], [1, 2], options=options(tmp_path), callbacks=[watch])
    (mode, running, before), (val, testing, after) = watch.seen
    assert (mode, running, val, testing) == ("train", "normal", "val", "test")
    assert before == after


def test_figures_are_the_losses_running_averages(tmp_path):
    net = toy_net()
    net.get_param("w").learning_rate = 0
    net.get_param("m").learning_rate = 0
    _, state = train_dag(net, get_batch, range(6), [6, 7], options=options(tmp_path, num_epochs=2))
    train, val = state.stats["train"], state.stats["val"]
    assert [s["num"] for s in train] == [6, 6] and [s["num"] for s in val] == [2, 2]
    expected = np.mean((X[:6] - C[:6]) ** 2) / 2
    assert [s["objective"] for s in train] == pytest.approx([expected] * 2, rel=1e-14)
    # In test mode Observe adds 100, twice.
    expected = np.mean((X[6:] + 200 - C[6:]) ** 2) / 2
    assert [s["objective"] for s in val] == pytest.approx([expected] * 2, rel=1e-14)
    assert all(s["time"] > 0 for s in train + val)


def test_without_a_validation_set_there_are_no_figures_of_it(tmp_path):
    _, state = train_dag(toy_net(), get_batch, [0], options=options(tmp_path))
    assert state.stats["val"] == [] and len(state.stats["train"]) == 1


def test_figures_can_be_ones_own(tmp_path):
    def extract(stats, net):
        assert stats["num"] > 0
        return {**stats, "w": [*stats.get("w", []), float(net.get_param("w").value[0])]}

    net = toy_net()
    _, state = train_dag(net, get_batch, range(8), options=options(tmp_path), extract_stats=extract)
    figures = state.stats["train"][0]
    assert "objective" not in figures and len(figures["w"]) == 2
    assert figures["w"][-1] == net.get_param("w").value[0]


def test_figures_of_several_workers_are_weighted_by_their_elements():
    parts = [
        {"num": 1, "time": 4.0, "objective": 1.0},
        {"num": 3, "time": 2.0, "objective": 0.5},
    ]
    assert accumulate_stats(parts) == {"num": 4, "time": 2.5, "objective": 0.625}
    with pytest.raises(ValueError, match=r"same figures, received \['num'\] and \['num', 'e'\]"):
        accumulate_stats([{"num": 1}, {"num": 1, "e": 2.0}])
    for nobody in ([], [{"num": 0, "e": 0.0}]):
        with pytest.raises(ValueError, match="no worker saw an element"):
            accumulate_stats(nobody)


# After an epoch


def run_with_post_epoch(folder, answers, **changes):
    """The rates of a run's steps, one an epoch, and what ``post_epoch`` was given."""
    solver, seen = Recorder(), []

    def post_epoch(net, options, state):
        seen.append((options.num_epochs, state.epoch, len(state.stats["train"]), net.mode))
        return answers.get(state.epoch)

    chosen = options(folder, solver=solver, num_epochs=5, **changes)
    _, state = train_dag(toy_net(), get_batch, [0], [1], options=chosen, post_epoch=post_epoch)
    return [rate for *_, rate in solver.calls], seen, state


def test_what_is_to_be_done_after_an_epoch_sees_network_options_and_figures(tmp_path):
    rates, seen, _ = run_with_post_epoch(tmp_path, {})
    assert rates == [0.1] * 5
    assert seen == [(5, epoch, epoch, "test") for epoch in range(1, 6)]


def test_it_may_set_the_rate_of_the_epochs_to_come(tmp_path):
    rates, *_ = run_with_post_epoch(tmp_path / "a", {2: 0.5, 4: np.float32(0.25)})
    assert rates == [0.1, 0.1, 0.5, 0.5, 0.25]
    # Of several the epoch's own, as of the option: the first two are past.
    rates, *_ = run_with_post_epoch(tmp_path / "b", {2: [1.0, 2.0, 3.0, 4.0]})
    assert rates == [0.1, 0.1, 3, 4, 4]


def test_a_rate_of_zero_ends_the_training(tmp_path):
    rates, seen, state = run_with_post_epoch(tmp_path, {3: 0})
    assert len(rates) == len(seen) == state.epoch == 3
    assert (tmp_path / "net-epoch-3.npz").is_file()


@pytest.mark.parametrize("wrong", [-0.1, np.nan, []])
def test_a_rate_that_is_none_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="the learning rate that post_epoch returns must be"):
        run_with_post_epoch(tmp_path, {1: wrong})


# Evaluation


def test_without_training_elements_the_network_is_evaluated_alone(tmp_path):
    net, events = toy_net(), []
    before = [p.value.copy() for p in net.params]
    Log.folder = tmp_path
    tmp_path.joinpath("mine").touch()
    _, state = train_dag(
        net,
        get_batch,
        [],
        [6, 7],
        options=options(tmp_path, num_epochs=2, der_outputs={}),
        callbacks=[Log("a", events)],
    )
    assert [p.value for p in net.params] == before
    expected = np.mean((X[6:] + 200 - C[6:]) ** 2) / 2
    assert [s["objective"] for s in state.stats["val"]] == pytest.approx([expected] * 2, rel=1e-14)
    assert state.stats["train"] == []
    assert [e[1] for e in events] == ["start", "val", "epoch", "val", "epoch"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("continue_", [True, False])
def test_evaluation_leaves_checkpoints_where_they_are(tmp_path, continue_):
    trained, _ = train_dag(toy_net(), get_batch, range(8), options=options(tmp_path))
    net, _ = train_dag(
        toy_net(),
        get_batch,
        [],
        [0],
        options=options(tmp_path, num_epochs=2, continue_=continue_),
    )
    assert [p.name for p in tmp_path.iterdir()] == ["net-epoch-1.npz"]
    # What is evaluated is the checkpoint's network, or the one given.
    expected = trained if continue_ else toy_net()
    assert [p.value for p in net.params] == [p.value for p in expected.params]


# Callbacks


class Log(Callback):
    def __init__(self, name, events):
        self.name, self.events = name, events

    def on_start(self, net, state):
        self.events.append((self.name, "start", state.epoch, state.step))

    def after_update(self, net):
        self.events.append((self.name, "update"))

    def after_step(self, mode, epoch, step, steps, stats):
        self.events.append((self.name, mode, epoch, step, steps, stats["num"]))

    def after_epoch(self, net, state):
        written = sorted(p.name for p in self.folder.iterdir())
        self.events.append((self.name, "epoch", state.epoch, written, len(state.stats["train"])))


def test_callbacks_are_called_in_order(tmp_path):
    events = []
    Log.folder = tmp_path
    callbacks = [Log("a", events), Log("b", events)]
    train_dag(
        toy_net(),
        get_batch,
        range(6),
        [6],
        options=options(tmp_path, num_epochs=2),
        callbacks=callbacks,
    )
    alone = [event[1:] for event in events if event[0] == "a"]
    expected = [("start", 0, -1)]
    for epoch in (1, 2):
        files = [f"net-epoch-{e}.npz" for e in range(1, epoch + 1)]
        expected += [("update",), ("train", epoch, 1, 2, 4), ("update",), ("train", epoch, 2, 2, 6)]
        expected += [("val", epoch, 1, 1, 1), ("epoch", epoch, files, epoch)]
    assert alone == expected
    assert [event[0] for event in events] == ["a", "b"] * len(alone)


def test_a_callback_may_keep_parameters_within_bounds(tmp_path):
    class Bound(Callback):
        def after_update(self, net):
            parameter = net.get_param("w")
            parameter.value = np.minimum(parameter.value, 0.9)

    net = toy_net()
    train_dag(net, get_batch, [0], options=options(tmp_path), callbacks=[Bound()])
    assert net.get_param("w").value == 0.9


def test_layers_draw_from_the_seed_the_epoch_and_the_step(tmp_path):
    def run(folder, seed):
        net = toy_net()
        net.add_layer("drop", Drop(), "y", "dropped")
        net.set_layer_inputs("see again", "dropped")
        train_dag(net, get_batch, range(8), options=options(folder, random_seed=seed))
        return net.get_param("w").value[0]

    assert run(tmp_path / "a", 1) == run(tmp_path / "b", 1) != run(tmp_path / "c", 2)


def test_every_step_draws_anew(tmp_path):
    drawn = []

    class Watch(Times):
        random = True

        def forward(self, inputs, params, context):
            drawn.append(context.rng.random())
            return super().forward(inputs, params, context)

    net = toy_net()
    net.get_layer("times").block = Watch()
    train_dag(net, get_batch, range(8), options=options(tmp_path, batch_size=2, num_epochs=2))
    assert len(drawn) == 8 and len(set(drawn)) == 8


def test_late_inputs_come_with_the_batch_in_every_step(tmp_path):
    asked = []

    def late_batch(indexes, mode, epoch):
        def late(values):
            asked.append((mode, tuple(indexes)))
            return {"c": C[indexes] + 0 * values["z"]}

        return Batch({"x": X[indexes]}, late)

    nets = [toy_net(), toy_net()]
    for net, batch in zip(nets, (get_batch, late_batch)):
        folder = tmp_path / batch.__name__
        train_dag(net, batch, range(8), [0], options=options(folder, num_epochs=2))
    assert len(asked) == 6 and len(set(asked)) == 5  # the one batch of validation comes twice
    assert nets[0].get_param("w").value == nets[1].get_param("w").value


# A parameter server


class SumServer:
    """Stands for ``num_workers`` processes that all push the same."""

    def __init__(self, num_workers):
        self.num_workers = num_workers
        self.pushed, self.log = {}, []

    def push(self, name, der):
        assert name not in self.pushed, "pushed twice in a step"
        self.pushed[name] = der

    def sync(self):
        self.log.append(sorted(self.pushed))
        self.summed = {name: self.num_workers * der for name, der in self.pushed.items()}
        self.pushed = {}

    def pull(self, name):
        return self.summed.get(name)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_workers_that_see_the_same_change_nothing(tmp_path, workers, parts):
    nets = [toy_net(), toy_net()]
    server = SumServer(workers)
    nets[1].set_parameter_server(server)
    for k, net in enumerate(nets):
        chosen = options(tmp_path / f"{k}", num_sub_batches=parts, batch_size=4, num_epochs=2)
        train_dag(net, get_batch, range(5), options=chosen)  # the last batch is of one element
    for name in ("w", "m"):
        assert nets[0].get_param(name).value == pytest.approx(nets[1].get_param(name).value)
    assert server.log == [["m", "w"]] * 4
    assert all(p.der is None for p in nets[1].params)
