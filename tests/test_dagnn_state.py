"""Tests of a DagNN's state: what is transient, what reset and move do, and what changes keep."""

import numpy as np
import pytest

from dagnet import BackendError, DagNN, UnknownNameError
from layers import BatchNorm, DropOut, Loss
from toy_layers import HalfSquare, Plus, Times, array

TRANSIENT = {
    "mode": "normal",
    "conserve_memory": True,
    "accumulate_param_ders": False,
    "parameter_server": None,
    "device": "cpu",
    "workers": None,
}


class Server:
    """Takes derivatives and forgets them."""

    num_workers = 1

    def push(self, name, der):
        pass


def regression():
    """The loss (w x - c)^2 / (2 N)."""
    net = DagNN()
    net.add_layer("times", Times(), "x", "y", "w")
    net.add_layer("loss", HalfSquare(), ["y", "c"], "l")
    net.get_param("w").value = array(3.0)
    return net


GIVEN = {"x": array(1.0, 2.0), "c": array(1.0, 1.0)}


def changed():
    """The network after an evaluation, with every transient property away from its default."""
    net = regression()
    net.eval(GIVEN, {"l": 1})
    net.mode, net.conserve_memory, net.accumulate_param_ders, net.workers = "test", False, True, 2
    net.get_var("y").precious = True
    net.eval(GIVEN, {"l": 1})
    net.set_parameter_server(Server())
    return net


def nothing_computed(net):
    values = all(v.value is None and v.der is None for v in net.vars)
    return values and all(p.der is None for p in net.params)


def test_a_new_network_has_matconvnets_defaults():
    net = DagNN()
    assert (net.layers, net.vars, net.params, net.meta) == ([], [], [], {})
    assert {name: getattr(net, name) for name in TRANSIENT} == TRANSIENT


def test_new_variables_and_parameters_have_matconvnets_defaults():
    net = regression()
    y, w = net.get_var("y"), net.get_param("w")
    assert (y.value, y.der, y.precious) == (None, None, False)
    assert (w.der, w.train_method, w.learning_rate, w.weight_decay) == (None, "gradient", 1, 1)
    record = net.get_layer("loss")
    assert (record.forward_time, record.backward_time) == (None, None)
    places = (record.input_indexes, record.output_indexes, record.param_indexes)
    assert places == ([1, 2], [3], [])
    assert net.get_layer("times").param_indexes == [0]


def test_a_batch_norms_moments_are_averaged_from_the_start():
    net = DagNN()
    net.add_layer("bn", BatchNorm(num_channels=2), "x", "y", ["m", "b", "s"])
    assert [p.train_method for p in net.params] == ["gradient", "gradient", "average"]


@pytest.mark.parametrize("carry", ["copy", "save", "dict"])
def test_transient_state_is_neither_copied_nor_saved(carry, tmp_path):
    net = changed()
    if carry == "save":
        net.save(tmp_path / "net.npz")
        other = DagNN.load(tmp_path / "net.npz")
    else:
        other = net.copy() if carry == "copy" else DagNN.from_dict(net.to_dict())
    assert {name: getattr(other, name) for name in TRANSIENT} == TRANSIENT
    assert nothing_computed(other)
    assert other.get_var("y").precious
    assert other.get_layer("loss").block.average == 0
    assert other.get_layer("times").forward_time is None
    # The original is not reset by it, as MatConvNet's is.
    assert net.get_var("y").value is not None and net.get_param("w").der is not None


def test_reset_forgets_what_was_computed_and_the_server_and_keeps_the_rest():
    net = changed()
    block = net.get_layer("loss").block
    assert block.average > 0
    net.reset()
    assert nothing_computed(net) and block.average == 0 and net.parameter_server is None
    assert (net.mode, net.conserve_memory, net.accumulate_param_ders) == ("test", False, True)
    assert net.get_param("w").value == 3 and net.get_var("y").precious


def test_a_frozen_mask_of_dropout_is_drawn_anew_after_a_reset():
    net = DagNN()
    net.add_layer("drop", DropOut(rate=0.5, frozen=True), "x", "y")
    x = np.ones((1, 1, 16, 16))
    masks = []
    for reset in (False, False, True):
        if reset:
            net.reset()
        net.eval({"x": x})
        masks.append(net.get_var("y").value)
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[1], masks[2])


def test_moving_resets_too():
    net = changed()
    net.move("cpu")
    assert nothing_computed(net) and net.parameter_server is None and net.device == "cpu"
    assert net.get_param("w").value == 3


def test_a_move_that_cannot_be_made_changes_nothing():
    net = changed()
    with pytest.raises(BackendError, match="device must be one of"):
        net.move("tpu")
    assert not nothing_computed(net) and net.device == "cpu"


@pytest.mark.gpu
def test_constants_move_with_the_network():
    net = DagNN()
    weights = np.ones((3, 3))
    net.add_layer("loss", Loss(loss="logistic", instance_weights=weights), ["x", "c"], "l")
    net.add_layer("times", Times(), "l", "y", "w")
    net.init_params(0)
    net.move("gpu")
    assert net.device == "gpu"
    assert type(net.get_param("w").value).__module__.startswith("cupy")
    net.move("cpu")
    assert isinstance(net.get_param("w").value, np.ndarray)
    assert isinstance(net.get_layer("loss").block.instance_weights, np.ndarray)


def test_what_is_not_precious_any_more_is_freed_again():
    net = regression()
    net.get_var("y").precious = True
    net.eval(GIVEN)
    assert net.get_var("y").value is not None
    net.get_var("y").precious = False
    net.eval(GIVEN)
    assert net.get_var("y").value is None


def test_times_are_those_of_the_last_evaluation():
    net = regression()
    net.eval(GIVEN, {"l": 1})
    assert all(r.forward_time > 0 and r.backward_time > 0 for r in net.layers)
    net.eval(GIVEN)
    assert all(r.forward_time > 0 and r.backward_time is None for r in net.layers)


def test_a_renamed_parameter_keeps_value_and_attributes():
    net = regression()
    parameter = net.get_param("w")
    parameter.learning_rate, parameter.weight_decay, parameter.train_method = 0.5, 0.0, "average"
    net.rename_param("w", "weight")
    assert net.get_param("weight") is parameter
    assert (parameter.value, parameter.learning_rate, parameter.weight_decay) == (3, 0.5, 0.0)
    assert (parameter.train_method, parameter.fanout) == ("average", 1)


def test_a_renamed_variable_stays_precious_and_at_its_place():
    net = regression()
    net.get_var("y").precious = True
    net.rename_var("y", "product")
    assert [v.name for v in net.vars] == ["x", "product", "c", "l"]
    assert net.get_var("product").precious and net.get_var("product").fanin == 1
    net.eval(GIVEN)
    assert net.get_var("product").value.tolist() == [3, 6]


def test_a_renamed_layer_stays_at_its_place_and_runs():
    net = regression()
    net.rename_layer("times", "scale")
    assert [r.name for r in net.layers] == ["scale", "loss"]
    assert net.get_layer_index("times") is None and net.get_layer_index("scale") == 0
    net.eval(GIVEN)
    assert net.get_var("l").value == (4 + 25) / 4


def test_rewiring_keeps_values_of_what_stays_and_drops_what_nobody_names():
    net = regression()
    net.add_layer("other", Times(), "u", "v", "w2")
    net.get_param("w2").value = array(7.0)
    net.set_layer_params("times", "w2")
    assert [p.name for p in net.params] == ["w2"] and net.get_param("w2").fanout == 2
    net.set_layer_inputs("loss", ["v", "c"])
    assert net.get_outputs() == ["y", "l"]
    net.set_layer_outputs("loss", "objective")
    assert net.get_var_index("l") is None
    net.eval({"x": array(1.0), "u": array(2.0), "c": array(4.0)})
    assert (net.get_var("y").value, net.get_var("objective").value) == (7, 50)


def test_a_rewired_layer_wants_its_own_attributes_of_new_parameters():
    net = DagNN()
    net.add_layer("bn", BatchNorm(num_channels=2), "x", "y", ["m", "b", "s"])
    net.set_layer_params("bn", ["m2", "b2", "s2"])
    assert [(p.name, p.train_method) for p in net.params] == [
        ("m2", "gradient"),
        ("b2", "gradient"),
        ("s2", "average"),
    ]


@pytest.mark.parametrize("method", ["set_layer_inputs", "set_layer_outputs", "set_layer_params"])
def test_a_layer_that_is_not_there_is_not_rewired(method):
    with pytest.raises(UnknownNameError, match=r"no layer 'tims'.* did you mean times"):
        getattr(regression(), method)("tims", "z")


def test_several_layers_are_removed_at_once():
    net = regression()
    net.add_layer("plus", Plus(), ["l", "l"], "p")
    net.remove_layer(["times", "plus"])
    assert [r.name for r in net.layers] == ["loss"] and net.params == []
    assert net.get_inputs() == ["y", "c"]
    with pytest.raises(UnknownNameError, match="no layer 'plus'"):
        net.remove_layer(["loss", "plus"])
    assert [r.name for r in net.layers] == ["loss"]
