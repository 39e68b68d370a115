"""Tests of DagNN.eval: values, derivatives, memory, late inputs and errors."""

import numpy as np
import pytest

from dagnet import DagNN, DagNNError, LayerError, ShapeError, UnknownNameError
from layers import BatchNorm, Crop, ReLU
from toy_layers import Observe, Plus, Split, Times, array


def shared_parameter():
    """z = w (w x): a parameter used twice."""
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "w")
    net.get_param("w").value = array(3.0)
    return net


def diamond():
    """z = relu(x) + w x: a variable read twice."""
    net = DagNN()
    net.add_layer("relu", ReLU(), "x", "p")
    net.add_layer("times", Times(), "x", "q", "w")
    net.add_layer("plus", Plus(), ["p", "q"], "z")
    net.get_param("w").value = array(5.0)
    return net


def test_derivatives_of_a_shared_parameter_add_up():
    net = shared_parameter()
    net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_param("w").der == 2 * 3.0 * 2.0  # d(w^2 x)/dw
    assert net.get_var("x").der == 9.0


def test_derivatives_of_a_variable_read_twice_add_up():
    net = diamond()
    net.eval({"x": array(2.0, -2.0)}, {"z": array(1.0, 10.0)})
    assert net.get_var("x").der.tolist() == [1 + 5, 50]


def test_a_derivative_given_within_the_graph_adds_to_what_comes_back():
    net = shared_parameter()
    net.get_var("y").precious = True
    net.eval({"x": array(2.0)}, {"z": 1, "y": 10})
    assert net.get_var("y").der == 3 + 10
    assert net.get_param("w").der == 6 + 13 * 2


def test_the_callers_arrays_are_not_written_to():
    net = DagNN()
    net.add_layer("plus", Plus(), ["x", "x"], "y")
    net.add_layer("again", Plus(), ["y", "y"], "z")
    given, x = array(1.0), array(4.0)
    net.eval({"x": x}, {"z": given})
    assert given == 1.0 and x == 4.0
    assert net.get_var("x").der == 4.0


def test_parameter_derivatives_are_replaced_or_accumulated():
    net = shared_parameter()
    for _ in range(2):
        net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_param("w").der == 12
    net.accumulate_param_ders = True
    net.eval({"x": array(1.0)}, {"z": 1})
    assert net.get_param("w").der == 12 + 6


def test_a_parameter_that_a_pass_does_not_reach_keeps_no_earlier_derivative():
    net = shared_parameter()
    net.add_layer("other", Times(), "u", "v", "w2")
    net.get_param("w2").value = array(1.0)
    net.eval({"x": array(2.0), "u": array(7.0)}, {"z": 1, "v": 1})
    assert net.get_param("w2").der == 7
    net.get_var("u").value = None
    net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_param("w2").der is None and net.get_param("w").der == 12


def test_three_derivatives_of_one_variable_add_up_in_place_without_touching_the_first():
    net = DagNN()
    net.add_layer("a", Plus(), ["x", "x"], "p")
    net.add_layer("b", Plus(), ["x", "p"], "z")
    given = array(1.0, 2.0)
    net.eval({"x": array(1.0, 1.0)}, {"z": given})
    assert net.get_var("x").der.tolist() == [3, 6] and given.tolist() == [1, 2]


def test_values_are_freed_at_their_last_use_and_precious_ones_kept():
    net = shared_parameter()
    net.eval({"x": array(2.0)})
    assert net.get_var("x").value is None and net.get_var("y").value is None
    assert net.get_var("z").value == 18
    net.get_var("y").precious = True
    net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_var("y").value == 6 and net.get_var("y").der == 3
    assert net.get_var("z").value is None


def test_without_conserve_memory_everything_is_kept():
    net = diamond()
    net.conserve_memory = False
    net.eval({"x": array(2.0)}, {"z": 1})
    assert all(v.value is not None and v.der is not None for v in net.vars)


def test_a_value_that_no_backward_reads_is_freed_in_forward():
    seen = {}

    class Watch(ReLU):
        def forward(self, inputs, params, context):
            seen["p"] = net.get_var("p").value
            return super().forward(inputs, params, context)

    net = DagNN()
    net.add_layer("first", ReLU(), "x", "p")
    net.add_layer("second", ReLU(), "p", "q")
    net.add_layer("third", Watch(), "q", "z")
    net.eval({"x": array(1.0)}, {"z": 1})
    assert seen == {"p": None}
    assert net.get_var("x").der == 1


def test_a_layer_without_an_input_is_skipped_with_all_after_it():
    net = shared_parameter()
    net.add_layer("other", Times(), "u", "v", "w")
    net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_var("v").value is None
    assert net.get_param("w").der == 12
    assert net.get_layer("other").forward_time is None
    net.eval({"x": array(2.0), "u": array(1.0)}, {"z": 1})
    assert net.get_layer("other").forward_time > 0 and net.get_layer("a").backward_time > 0
    net.get_var("u").value = None
    net.eval({"x": array(2.0)})
    assert net.get_layer("other").forward_time is None is net.get_layer("a").backward_time


def test_values_of_an_earlier_evaluation_do_not_pass_for_new_ones():
    net = shared_parameter()
    net.conserve_memory = False
    net.eval({"x": array(2.0)})
    net.get_var("x").value = None
    net.eval({})
    assert net.get_var("y").value is None and net.get_var("z").value is None


def test_a_variable_within_the_graph_can_be_given():
    net = shared_parameter()
    net.eval({"y": array(4.0)})
    assert net.get_var("z").value == 12


def test_late_inputs_come_once_everything_else_has_run():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("join", Plus(), ["y", "label"], "z")
    net.add_layer("b", Times(), "y", "q", "w")
    net.get_param("w").value = array(3.0)
    calls = []

    def late(values):
        calls.append((values["q"], values["z"], "label" in values))
        return {"label": 10 * values["q"]}

    net.eval({"x": array(1.0)}, {"z": 1}, late_inputs=late)
    assert calls == [(9.0, None, True)]
    assert net.get_param("w").der == 1  # d(w x + const)/dw: late inputs are constants
    assert net.get_var("label").der is None


def test_late_inputs_of_one_evaluation_are_not_those_of_the_next():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("join", Plus(), ["y", "label"], "z")
    net.get_param("w").value = array(3.0)
    for conserve in (True, False):
        net.conserve_memory = conserve
        for x in (1.0, 2.0):
            late = {"label": array(10 * x)}
            net.get_var("z").precious = True
            net.eval({"x": array(x)}, {"z": 1}, late_inputs=lambda values, late=late: late)
            assert net.get_var("z").value == 13 * x
    net.eval({"x": array(1.0)})
    assert net.get_var("z").value is None


def test_late_inputs_that_nobody_knows_are_refused():
    net = shared_parameter()
    with pytest.raises(UnknownNameError, match="no variable 'lable'"):
        net.eval({}, late_inputs=lambda values: {"lable": array(1.0)})


def test_a_layer_with_two_outputs_runs_backward_from_either():
    net = DagNN()
    net.add_layer("split", Split(), "x", ["same", "square"])
    net.eval({"x": array(3.0)}, {"square": 1})
    assert net.get_var("x").der == 6
    net.eval({"x": array(3.0)}, {"same": 1, "square": 1})
    assert net.get_var("x").der == 7


def test_the_same_layer_object_can_stand_in_two_places(rng):
    block = ReLU()
    net = DagNN()
    net.add_layer("a", block, "x", "p")
    net.add_layer("b", block, "y", "q")
    net.add_layer("plus", Plus(), ["p", "q"], "z")
    net.eval({"x": array(1.0, -1.0), "y": array(-1.0, 1.0)}, {"z": array(1.0, 1.0)})
    assert net.get_var("x").der.tolist() == [1, 0]
    assert net.get_var("y").der.tolist() == [0, 1]


def test_observations_of_an_average_parameter_add_up_over_its_uses():
    net = DagNN()
    net.add_layer("a", Observe(), "x", "y", "m")
    net.add_layer("b", Observe(), "y", "z", "m")
    parameter = net.get_param("m")
    parameter.value = array(0.0)
    net.eval({"x": array(2.0, 4.0)}, {"z": 1})
    assert (parameter.train_method, parameter.learning_rate) == ("average", 0.1)
    assert parameter.der == 3 + 3


def test_the_mode_reaches_the_layers():
    net = DagNN()
    net.add_layer("a", Observe(), "x", "y", "m")
    net.get_param("m").value = array(0.0)
    net.mode = "test"
    net.eval({"x": array(1.0)})
    assert net.get_var("y").value == 101
    net.mode = "train"
    assert net.mode == "normal"
    with pytest.raises(ValueError, match="mode must be"):
        net.mode = "evaluate"


class Server:
    def __init__(self):
        self.pushed = []

    def push(self, name, der):
        self.pushed.append((name, float(der[0])))


def test_the_parameter_server_gets_whole_derivatives_once_and_not_on_hold():
    net = shared_parameter()
    server = Server()
    net.set_parameter_server(server)
    net.eval({"x": array(2.0)}, {"z": 1}, hold_on=True)
    assert server.pushed == [] and net.get_param("w").der == 12
    net.accumulate_param_ders = True
    net.eval({"x": array(2.0)}, {"z": 1})
    assert server.pushed == [("w", 24.0)] and net.get_param("w").der is None


def test_a_parameter_without_derivative_is_not_pushed():
    net = shared_parameter()
    net.add_layer("other", Times(), "x", "v", "w2")
    net.get_param("w2").value = array(1.0)
    server = Server()
    net.set_parameter_server(server)
    net.eval({"x": array(2.0)}, {"z": 1})
    assert server.pushed == [("w", 12.0)]
    net.clear_parameter_server()
    net.eval({"x": array(2.0)}, {"z": 1})
    assert len(server.pushed) == 1 and net.get_param("w").der == 12


def test_derivatives_that_nobody_reads_are_not_asked_for():
    asked = {}

    class Watch(Times):
        def backward(self, inputs, params, der_outputs, saved, context):
            asked["needs"] = context.needs
            return super().backward(inputs, params, der_outputs, saved, context)

    def crop_net(mode):
        net = DagNN()
        inputs = ["image", "score", "center", "sides", "color"]
        net.add_layer("crop", Crop(size=3, mode=mode), inputs, ["patch", "moved"])
        net.add_layer("times", Watch(), "patch", "y", "w")
        net.get_param("w").value = array(1.0)
        given = {
            "image": np.zeros((1, 3, 9, 9)),
            "score": np.zeros((1, 1, 3, 3)),
            "center": array(4, 4)[None],
            "sides": array(2, 4)[None],
            "color": array(0, 0, 0)[None],
        }
        net.eval(given, {"y": np.ones((1, 3, 3, 3))})
        return net

    net = crop_net("none")
    assert asked["needs"] == (False,) and net.get_var("score").der is None
    net = crop_net("pool")
    assert asked["needs"] == (True,) and net.get_var("score").der.sum() == 27


def test_reset_forgets_values_and_derivatives_but_not_parameters():
    net = diamond()
    net.conserve_memory = False
    net.eval({"x": array(2.0)}, {"z": 1})
    net.reset()
    assert all(v.value is None and v.der is None for v in net.vars)
    assert net.get_param("w").value == 5 and net.get_param("w").der is None


def test_init_params_draws_a_shared_parameter_once_and_by_seed():
    net = shared_parameter()
    net.init_params(7, dtype=np.float64)
    first = net.get_param("w").value
    net.init_params(np.random.default_rng(7), dtype=np.float64)
    assert first == net.get_param("w").value == np.random.default_rng(7).standard_normal(1)


def test_parameters_that_cannot_be_drawn_name_their_layer():
    net = DagNN()
    net.add_layer("bn1", BatchNorm(), "x", "y", ["m", "b", "s"])
    with pytest.raises(LayerError, match=r"layer 'bn1' \(dagnn\.BatchNorm\): .* num_channels"):
        net.init_params()


def test_late_inputs_see_every_variable_and_change_none():
    net = shared_parameter()
    net.add_layer("wait", Plus(), ["z", "late"], "sum")
    seen = {}

    def late(values):
        seen.update(values)
        with pytest.raises(TypeError):
            values["z"] = array(0.0)
        assert len(values) == 5 and "missing" not in values
        return {"late": array(1.0)}

    net.eval({"x": array(2.0)}, late_inputs=late)
    assert list(seen) == ["x", "y", "z", "late", "sum"] and net.get_var("sum").value == 19


def test_errors_name_layer_variable_and_shapes():
    net = DagNN()
    inputs = ["image", "score", "center", "sides", "color"]
    net.add_layer("crop", Crop(), inputs, ["patch", "moved"])
    given = dict.fromkeys(inputs, np.zeros((1, 2)))
    given["image"] = np.zeros((1, 3, 9, 9))
    with pytest.raises(
        ShapeError, match=r"layer 'crop' \(Crop\), forward, input 'score'.*\(1, 2\)"
    ):
        net.eval(given)


def test_errors_name_the_parameter_that_does_not_fit():
    class Picky(Times):
        def forward(self, inputs, params, context):
            raise ShapeError("expected two numbers", param=0)

    net = DagNN()
    net.add_layer("a", Picky(), "x", "y", "w")
    net.get_param("w").value = array(1.0)
    with pytest.raises(
        ShapeError, match=r"'a' .*, forward, parameter 'w': expected two .* w \(1,\)"
    ):
        net.eval({"x": array(1.0)})


def test_any_failure_of_a_layer_names_it():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    with pytest.raises(LayerError, match=r"layer 'a'.*parameter 'w' has no value"):
        net.eval({"x": array(1.0)})
    net.get_param("w").value = "three"
    with pytest.raises(LayerError, match=r"layer 'a' \(test.Times\), forward: .*x \(1,\)"):
        net.eval({"x": array(1.0)})


def test_names_that_do_not_exist_are_refused_before_anything_runs():
    net = shared_parameter()
    with pytest.raises(UnknownNameError, match="no variable 'xx'"):
        net.eval({"xx": array(1.0)})
    with pytest.raises(UnknownNameError, match="no variable 'objective'"):
        net.eval({"x": array(1.0)}, {"objective": 1})


def test_matlabs_lists_of_names_and_values_are_refused():
    net = shared_parameter()
    with pytest.raises(TypeError, match=r"inputs must be a dict .* received list"):
        net.eval(["x", array(2.0)])
    with pytest.raises(TypeError, match=r"der_outputs must be a dict .* received tuple"):
        net.eval({"x": array(2.0)}, ("z", 1))


def test_a_derivative_of_another_shape_than_its_variable_is_refused():
    net = shared_parameter()
    with pytest.raises(ShapeError, match=r"by variable 'z' .* of shape \(2,\), received \(3,\)"):
        net.eval({"x": array(2.0, 1.0)}, {"z": array(1.0, 1.0, 1.0)})


def test_a_derivative_from_a_variable_that_was_not_computed_is_refused():
    net = shared_parameter()
    with pytest.raises(DagNNError, match="'z', which was not computed"):
        net.eval({}, {"z": 1})


def test_a_layer_that_returns_the_wrong_number_of_derivatives_is_named():
    class Broken(Times):
        def backward(self, *arguments):
            return [], [array(0.0)]

    net = DagNN()
    net.add_layer("a", Broken(), "x", "y", "w")
    net.get_param("w").value = array(1.0)
    with pytest.raises(LayerError, match=r"'a'.*returned 0 derivatives by inputs, expected 1"):
        net.eval({"x": array(1.0)}, {"y": 1})


def test_a_machine_without_cupy_says_what_to_install():
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(DagNNError, match="needs CuPy"):
            diamond().move("gpu")
    else:
        pytest.skip("CuPy is installed here")


@pytest.mark.gpu
def test_a_round_trip_through_the_gpu_keeps_parameters():
    net = diamond()
    net.move("gpu")
    assert type(net.get_param("w").value).__module__.startswith("cupy")
    net.move("cpu")
    assert net.get_param("w").value.tolist() == [5.0]
