"""Tests of dagnet.train_dag: what is not finite, and options that make no sense."""

import numpy as np
import pytest

from dagnet import (
    SGD,
    Callback,
    DagNNError,
    NonFiniteError,
    TrainOptions,
    TrainState,
    UnknownNameError,
    accumulate_gradients,
    load_checkpoint,
    train_dag,
)
from toy_layers import Times, array
from toy_training import C, X, bytes_of, get_batch, options, toy_net


class Snapshots(Callback):
    """Parameters after each update."""

    def __init__(self):
        self.seen = []

    def after_update(self, net):
        self.seen.append(bytes_of(net))


def poisoned_batch(indexes, mode, epoch):
    batch = get_batch(indexes, mode, epoch)
    if epoch == 2 and 3 in indexes:
        batch.inputs["c"][indexes.index(3)] = np.nan
    return batch


@pytest.mark.parametrize("parts", [1, 4])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, parts):
    net, snapshots = toy_net(), Snapshots()
    chosen = options(tmp_path, num_epochs=3, num_sub_batches=parts, checkpoint_every=1)
    with pytest.raises(NonFiniteError, match=r"objective is nan in epoch 2, step [12]: no param"):
        train_dag(net, poisoned_batch, range(8), options=chosen, callbacks=[snapshots])
    assert bytes_of(net) == snapshots.seen[-1]
    found, state = load_checkpoint(tmp_path / "net-epoch-1.npz")
    assert bytes_of(found) == snapshots.seen[1] and state.epoch == 1
    assert not list(tmp_path.glob("*.tmp"))


class BadDerivative(Times):
    """A finite value and a derivative that is infinite."""

    def backward(self, inputs, params, der_outputs, saved, context):
        ders, _ = super().backward(inputs, params, der_outputs, saved, context)
        return ders, [np.array([np.inf])]


@pytest.mark.parametrize("last", [True, False])
def test_a_derivative_that_is_not_finite_changes_no_parameter(tmp_path, last):
    net = toy_net()
    inputs, outputs = ("y", "bad") if last else ("seen", "bad")
    net.add_layer("bad", BadDerivative(), inputs, outputs, "w2")
    net.set_layer_inputs("see again" if last else "times", "bad")
    net.get_param("w2").value = array(1.0)
    before = bytes_of(net)
    with pytest.raises(NonFiniteError, match="by parameter 'w2' is not finite in epoch 1: no par"):
        train_dag(net, get_batch, range(8), options=options(tmp_path))
    assert bytes_of(net) == before


def test_an_unknown_train_method_is_refused_before_anything_changes():
    net = toy_net()
    net.eval({"x": X, "c": C}, {"objective": 1})
    net.get_param("w").train_method = "gradeint"
    before = bytes_of(net)
    with pytest.raises(DagNNError, match=r"'w': train_method must be one of .* 'gradeint'"):
        accumulate_gradients(net, TrainState(), TrainOptions(exp_dir="."), epoch=1)
    assert bytes_of(net) == before


def test_a_loss_that_the_network_lacks_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match="no variable 'loss'"):
        train_dag(toy_net(), get_batch, [0], options=options(tmp_path, der_outputs={"loss": 1}))


def test_an_empty_training_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="training set is empty"):
        train_dag(toy_net(), get_batch, [], options=options(tmp_path))


def test_training_without_anything_to_minimise_is_refused(tmp_path):
    with pytest.raises(ValueError, match="der_outputs must name what is minimised"):
        train_dag(toy_net(), get_batch, [0], options=options(tmp_path, der_outputs={}))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, received 0"),
        ({"batch_size": 1.5}, "batch_size must be an integer"),
        ({"num_sub_batches": 0}, "num_sub_batches must be an integer of at least 1"),
        ({"num_epochs": -1}, "num_epochs must be an integer of at least 0"),
        ({"epoch_size": 0}, "epoch_size must be an integer of at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be an integer of at least 1"),
        ({"learning_rate": []}, r"learning_rate must be finite and not negative, received \[\]"),
        ({"learning_rate": [0.1, np.nan]}, "learning_rate must be finite"),
        ({"weight_decay": -1e-4}, "weight_decay must be finite and not negative"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainOptions(exp_dir=".", **change)


def test_defaults_are_those_of_cnn_train_dag():
    chosen = TrainOptions(exp_dir="data/exp")
    assert (chosen.batch_size, chosen.num_sub_batches, chosen.num_epochs) == (256, 1, 300)
    assert (chosen.learning_rate, chosen.weight_decay, chosen.epoch_size) == (0.001, 0.0005, None)
    assert (chosen.solver, chosen.random_seed, chosen.continue_) == (SGD(0.9, False), 0, True)
    assert chosen.der_outputs == {"objective": 1}
    assert chosen.save_solver_state
