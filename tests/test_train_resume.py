"""Tests of going on from checkpoints: the numbers are those of a run that was not interrupted."""

import numpy as np
import pytest

from dagnet import (
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    Batch,
    Callback,
    CheckpointError,
    DagNN,
    LayerError,
    RMSProp,
    TrainOptions,
    find_last_checkpoint,
    load_checkpoint,
    register_layer,
    save_checkpoint,
    train_dag,
)
from dagnet.checkpoint import PARTIAL, epoch_path, set_aside
from layers import BatchNorm, Conv, Loss, ReLU
from toy_layers import Drop, Times
from toy_training import bytes_of, get_batch, options, plain, toy_net

EPOCHS, TRAIN, VAL, BATCH = 3, range(7), range(7, 10), 2
STEPS, VAL_STEPS = 4, 2
IMAGES = np.random.default_rng(5).standard_normal((10, 2, 6, 5)).astype(np.float32)
LABELS = np.sign(np.random.default_rng(6).standard_normal((10, 1, 4, 3))).astype(np.float32)


def conv_net():
    """Batch norm with moments, dropout, a loss with a running average, momentum to come."""
    net = DagNN()
    net.add_layer("norm", BatchNorm(num_channels=2), "x", "n", ["m", "b", "s"])
    net.add_layer("conv", Conv(size=(3, 2, 2, 2)), "n", "p", ["f1", "b1"])
    net.add_layer("relu", ReLU(leak=0.1), "p", "r")
    net.add_layer("drop", Drop(), "r", "d")
    net.add_layer("last", Conv(size=(1, 3, 2, 2)), "d", "y", ["f2", "b2"])
    net.add_layer("loss", Loss(loss="logistic"), ["y", "c"], "objective")
    net.init_params(3)
    # Validation divides by the stored sigma.
    net.get_param("s").value[:, 1] = 1
    return net


def image_batch(indexes, mode, epoch):
    return Batch({"x": IMAGES[indexes], "c": LABELS[indexes]})


def train(folder, callbacks=(), solver=None, every=None, batch=image_batch, **changes):
    chosen = TrainOptions(
        exp_dir=folder,
        batch_size=BATCH,
        num_epochs=EPOCHS,
        learning_rate=[0.1, 0.05, 0.01],
        weight_decay=1e-3,
        solver=SGD(0.9) if solver is None else solver,
        checkpoint_every=every,
        settings={"note": "a", "rates": (1, 2)},
        **changes,
    )
    return train_dag(conv_net(), batch, TRAIN, VAL, options=chosen, callbacks=callbacks)


def without_times(stats):
    return {
        mode: [{k: v for k, v in figures.items() if k != "time"} for figures in epochs]
        for mode, epochs in stats.items()
    }


def assert_same_run(first, second):
    """Two results of train_dag, or two checkpoints, are equal bit for bit."""
    (net, state), (other_net, other) = first, second
    assert [p.name for p in net.params] == [p.name for p in other_net.params]
    assert bytes_of(net) == bytes_of(other_net)
    assert plain(state.solver_state) == plain(other.solver_state)
    assert without_times(state.stats) == without_times(other.stats)
    for name in ("epoch", "step", "settings", "running"):
        assert getattr(state, name) == getattr(other, name), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was not interrupted."""
    return train(tmp_path_factory.mktemp("whole"))


class Interrupt(Callback):
    """Ctrl-C after a step, an update or an epoch."""

    def __init__(self, *moment):
        self.moment, self.updates = moment, 0

    def _at(self, *moment):
        if moment == self.moment:
            raise KeyboardInterrupt

    def after_update(self, net):
        self.updates += 1
        self._at("update", self.updates)

    def after_step(self, mode, epoch, step, steps, stats):
        self._at(mode, epoch, step)

    def after_epoch(self, net, state):
        self._at("epoch", state.epoch)


MOMENTS = [
    *(("train", e, s) for e in range(1, EPOCHS + 1) for s in range(1, STEPS + 1)),
    *(("val", e, s) for e in (1, EPOCHS) for s in range(1, VAL_STEPS + 1)),
    *(("update", n) for n in (1, 6, EPOCHS * STEPS)),
    *(("epoch", e) for e in range(1, EPOCHS + 1)),
]


@pytest.mark.parametrize("every", [None, 1, 3])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda m: "-".join(map(str, m)))
def test_a_run_interrupted_at_any_moment_goes_on_to_equal_bits(moment, every, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt(*moment)], every=every)
    found = train(tmp_path, every=every)
    assert_same_run(found, whole)
    assert_same_run(load_checkpoint(epoch_path(tmp_path, EPOCHS)), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"net-epoch-{e}.npz" for e in range(1, EPOCHS + 1)
    ]


def test_a_run_interrupted_after_every_single_step_ends_at_equal_bits(whole, tmp_path):
    for _ in range(EPOCHS * STEPS - 1):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, [Interrupt("update", 2)], every=1)
    assert_same_run(train(tmp_path, [Interrupt("update", 2)], every=1), whole)


def test_a_step_has_no_checkpoint_before_all_callbacks_know_of_it(tmp_path):
    # Else the log of a run that is killed in between would lack the step for ever.
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("train", 2, 3)], every=1)
    _, state = load_checkpoint(find_last_checkpoint(tmp_path))
    assert (state.epoch, state.step) == (2, 2)


def test_a_run_interrupted_while_a_batch_is_made_goes_on_to_equal_bits(whole, tmp_path):
    calls = []

    def failing(indexes, mode, epoch):
        calls.append(mode)
        if len(calls) == STEPS + VAL_STEPS + 3:
            raise OSError("disk gone")
        return image_batch(indexes, mode, epoch)

    with pytest.raises(OSError, match="disk gone"):
        train(tmp_path, batch=failing, every=1)
    assert find_last_checkpoint(tmp_path).name == PARTIAL
    assert_same_run(train(tmp_path, every=1), whole)


@pytest.mark.parametrize(
    "solver", [SGD(0.5, nesterov=True), Adam(), AdaGrad(), AdaDelta(), RMSProp()], ids=repr
)
@pytest.mark.parametrize("changes", [{}, {"num_sub_batches": 2}, {"epoch_size": 5}], ids=str)
def test_other_solvers_and_batches_go_on_to_equal_bits(solver, changes, tmp_path):
    straight = train(tmp_path / "straight", solver=solver, **changes)
    for moment in (("train", 2, 1), ("epoch", 2)):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "broken", [Interrupt(*moment)], solver=solver, every=1, **changes)
    assert_same_run(train(tmp_path / "broken", solver=solver, every=1, **changes), straight)


@pytest.mark.parametrize("moment", [("train", 2, 1), ("epoch", 1)], ids=str)
def test_a_solver_of_another_kind_begins_without_the_state_of_the_first(moment, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt(*moment)], every=1)
    path = find_last_checkpoint(tmp_path)
    net, state = load_checkpoint(path)
    assert state.solver == "SGD" and state.solver_state
    # By hand: the same checkpoint without anything of a solver.
    state.solver_state, state.solver = {}, ""
    save_checkpoint(tmp_path / "by hand" / path.name, net, state)
    found = train(tmp_path, solver=Adam(), every=1)
    assert_same_run(found, train(tmp_path / "by hand", solver=Adam(), every=1))
    assert found[1].solver == "Adam"


def test_the_same_kind_of_solver_goes_on_with_the_state_of_a_checkpoint_that_does_not_name_it(
    whole, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("epoch", 1)])
    net, state = load_checkpoint(epoch_path(tmp_path, 1))
    state.solver = ""
    save_checkpoint(epoch_path(tmp_path, 1), net, state)
    assert_same_run(train(tmp_path), whole)


@pytest.mark.parametrize("every", [None, 1])
@pytest.mark.parametrize("moment", [("train", 2, 1), ("epoch", 1), ("epoch", 2)], ids=str)
def test_without_its_state_kept_every_epoch_begins_a_solver_anew(moment, every, tmp_path):
    changes = {"save_solver_state": False, "every": every}
    straight = train(tmp_path / "straight", **changes)
    assert straight[1].solver_state == {}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", [Interrupt(*moment)], **changes)
    assert_same_run(train(tmp_path / "broken", **changes), straight)


def fall_by_figures(net, options, state):
    """A tenth of the rate after the second epoch, and the end after the third."""
    return {1: None, 2: 0.01, 3: 0}[state.epoch]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_rate_that_post_epoch_sets_stays_when_a_run_goes_on(epoch, tmp_path):
    def run(folder, callbacks=()):
        chosen = options(tmp_path / folder, num_epochs=5, solver=SGD(0.5))
        return train_dag(
            toy_net(),
            get_batch,
            range(8),
            options=chosen,
            post_epoch=fall_by_figures,
            callbacks=callbacks,
        )

    straight = run("straight")
    assert straight[1].epoch == 3 and straight[1].learning_rate == 0
    with pytest.raises(KeyboardInterrupt):
        run("broken", [Interrupt("epoch", epoch)])
    assert_same_run(run("broken"), straight)


class TimesSquares(Times):
    """``y = x sum(w^2)``: the sum's rounding depends on the order of w in memory."""

    def forward(self, inputs, params, context):
        return [inputs[0] * np.sum(params[0] ** 2)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        der = der_outputs[0]
        der_w = 2 * params[0] * np.sum(inputs[0] * der)
        return [der * np.sum(params[0] ** 2)], [der_w]


def test_an_order_in_memory_that_no_file_keeps_makes_no_difference(tmp_path):
    register_layer("test.TimesSquares")(TimesSquares)

    def run(folder, epochs):
        net = toy_net()
        net.add_layer("squares", TimesSquares(), "y", "q", "matrix")
        net.set_layer_inputs("see again", "q")
        matrix = np.random.default_rng(2).uniform(0, 0.01, (2, 97, 89)).astype(np.float32)
        held = net.get_param("matrix")
        held.value, held.learning_rate, held.weight_decay = matrix.transpose(1, 2, 0), 0, 0
        return train_dag(net, get_batch, range(8), options=options(folder, num_epochs=epochs))

    straight = run(tmp_path / "straight", 4)
    for epochs in range(1, 5):
        found = run(tmp_path / "broken", epochs)
    assert_same_run(found, straight)


def test_only_what_is_missing_is_run_again(tmp_path):
    class Count(Callback):
        def __init__(self):
            self.seen = []

        def on_start(self, net, state):
            self.seen.append(("start", state.epoch, state.step))

        def after_step(self, mode, epoch, step, steps, stats):
            self.seen.append((mode, epoch, step))

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("train", 3, 3)], every=2)
    count = Count()
    train(tmp_path, [count], every=2)
    assert count.seen[:3] == [("start", 3, 2), ("train", 3, 3), ("train", 3, 4)]
    count = Count()
    train(tmp_path, [count])
    assert count.seen == [("start", 3, -1)]


def test_training_can_be_prolonged(whole, tmp_path):
    chosen = {"batch_size": BATCH, "learning_rate": [0.1, 0.05, 0.01], "weight_decay": 1e-3}
    chosen |= {"exp_dir": tmp_path, "settings": {"note": "a", "rates": (1, 2)}}
    for epochs in (1, EPOCHS):
        found = train_dag(
            conv_net(), image_batch, TRAIN, VAL, options=TrainOptions(num_epochs=epochs, **chosen)
        )
    assert_same_run(found, whole)


def test_the_continued_network_keeps_the_place_and_ways_of_the_one_given(tmp_path):
    class Server:
        num_workers = 1

        def __init__(self):
            self.held = {}

        def push(self, name, der):
            self.held[name] = der

        def sync(self):
            pass

        def pull(self, name):
            return self.held.pop(name, None)

    train_dag(toy_net(), get_batch, [0], options=options(tmp_path))
    net, server = toy_net(), Server()
    net.set_parameter_server(server)
    net.conserve_memory = False
    net.get_var("y").precious = True
    found, _ = train_dag(net, get_batch, [0], options=options(tmp_path, num_epochs=2))
    assert found is not net and found.parameter_server is server
    assert found.conserve_memory is False and found.get_var("y").precious
    assert found.get_param("w").der is None


def test_what_was_kept_of_an_epoch_that_is_whole_is_removed(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("train", EPOCHS, STEPS)], every=1)
    kept = (tmp_path / PARTIAL).read_bytes()
    train(tmp_path, every=1)
    # As a kill leaves it between the checkpoint of the epoch and the removal.
    (tmp_path / PARTIAL).write_bytes(kept)
    assert_same_run(train(tmp_path, every=1), whole)
    assert not (tmp_path / PARTIAL).exists()


# Beginning anew


def test_a_run_that_does_not_continue_sets_older_checkpoints_aside(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("train", 3, 2)], every=1, random_seed=9)
    # Interrupted too, and earlier: it must go on from its own checkpoint, not from epoch 3.
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [Interrupt("train", 2, 1)], continue_=False)
    assert [p.name for p in tmp_path.glob("*.npz")] == ["net-epoch-1.npz"]
    aside = sorted(p.name for p in (tmp_path / "earlier-1").iterdir())
    assert aside == ["net-epoch-1.npz", "net-epoch-2.npz", PARTIAL]
    assert_same_run(train(tmp_path), whole)
    train(tmp_path, continue_=False)
    assert len(list((tmp_path / "earlier-2").iterdir())) == EPOCHS


def test_there_may_be_nothing_to_set_aside(tmp_path):
    assert set_aside(tmp_path) is None
    (tmp_path / "net-epoch-best.npz").write_bytes(b"not of the loop")
    assert set_aside(tmp_path) is None and find_last_checkpoint(tmp_path) is None


# What cannot be continued


@pytest.mark.parametrize(
    "settings, difference",
    [
        ({"a": 1, "b": [1, 2]}, None),
        ({"a": np.int64(1), "b": np.array([1, 2])}, None),
        ({"a": 2, "b": (1, 2)}, r"\(a was 1, is 2\)"),
        ({"a": 1, "b": (1, 3)}, r"\(b was \(1, 2\), is \(1, 3\)\)"),
        ({"b": (1, 2)}, r"\(a was 1, is not set\)"),
        ({"a": 1, "b": (1, 2), "c": {"d": None}}, r"\(c was not set, is {'d': None}\)"),
        ({"a": 0, "b": 0}, r"\(a was 1, is 0; b was \(1, 2\), is 0\)"),
    ],
)
def test_a_run_of_other_settings_is_not_continued(settings, difference, tmp_path):
    train_dag(toy_net(), get_batch, [0], options=options(tmp_path, settings={"a": 1, "b": (1, 2)}))
    chosen = options(tmp_path, settings=settings, num_epochs=2)
    if difference is None:
        assert train_dag(toy_net(), get_batch, [0], options=chosen)[1].epoch == 2
        return
    with pytest.raises(CheckpointError, match=rf"net-epoch-1\.npz belongs to .* {difference}"):
        train_dag(toy_net(), get_batch, [0], options=chosen)


@pytest.mark.parametrize(
    "change, difference",
    [
        ({"batch_size": 3}, "batch_size was 1, is 3"),
        ({"random_seed": 1}, "random_seed was 0, is 1"),
        ({"epoch_size": 3}, "epoch_size was None, is 3"),
        ({"num_sub_batches": 2}, "num_sub_batches was 1, is 2"),
        ({"train": [0, 1, 3]}, "number of training elements was 4, is 3"),
        ({"train": [0, 1, 3, 2]}, "checksum of training elements was"),
    ],
)
def test_within_an_epoch_the_steps_must_be_the_same(change, difference, tmp_path):
    train = change.get("train", range(4))
    chosen = {"batch_size": 1, "checkpoint_every": 1} | change
    chosen.pop("train", None)
    with pytest.raises(KeyboardInterrupt):
        train_dag(
            toy_net(),
            get_batch,
            range(4),
            options=options(tmp_path, batch_size=1, checkpoint_every=1),
            callbacks=[Interrupt("train", 1, 2)],
        )
    with pytest.raises(CheckpointError, match=rf"{PARTIAL} belongs to .*{difference}"):
        train_dag(toy_net(), get_batch, train, options=options(tmp_path, **chosen))


def test_between_epochs_they_may_change(tmp_path):
    train_dag(toy_net(), get_batch, range(4), options=options(tmp_path))
    chosen = options(tmp_path, num_epochs=2, batch_size=2, random_seed=3, learning_rate=0.5)
    assert train_dag(toy_net(), get_batch, range(5), options=chosen)[1].epoch == 2


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_damaged_newest_checkpoint_is_named(tmp_path):
    train_dag(toy_net(), get_batch, [0], options=options(tmp_path, num_epochs=2))
    damage(tmp_path / "net-epoch-2.npz")
    with pytest.raises(CheckpointError, match=r"net-epoch-2\.npz: not a file .* or truncated"):
        train_dag(toy_net(), get_batch, [0], options=options(tmp_path, num_epochs=3))
    (tmp_path / "net-epoch-2.npz").unlink()
    _, state = train_dag(toy_net(), get_batch, [0], options=options(tmp_path, num_epochs=3))
    assert state.epoch == 3


def test_a_damaged_partial_checkpoint_is_named(tmp_path):
    train_dag(toy_net(), get_batch, [0], options=options(tmp_path))
    (tmp_path / PARTIAL).write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"{PARTIAL}: not a file"):
        train_dag(toy_net(), get_batch, [0], options=options(tmp_path, num_epochs=2))


def test_late_labels_are_those_of_the_step_after_going_on_too(tmp_path):
    def late_batch(indexes, mode, epoch):
        return Batch({"x": IMAGES[indexes]}, lambda values: {"c": LABELS[indexes]})

    straight = train(tmp_path / "a", batch=late_batch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", [Interrupt("train", 2, 3)], batch=late_batch, every=1)
    assert_same_run(train(tmp_path / "b", batch=late_batch, every=1), straight)


def test_a_parameter_without_value_is_named_at_the_first_step(tmp_path):
    net = toy_net()
    net.add_layer("more", Times(), "z", "more", "w2")
    with pytest.raises(LayerError, match="'w2' has no value; load weights or call init_params"):
        train_dag(net, get_batch, [0], options=options(tmp_path))
    assert list(tmp_path.iterdir()) == []
