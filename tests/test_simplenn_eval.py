"""Tests of dagnet.simplenn_eval: evaluation with the options and results of ``vl_simplenn``."""

import numpy as np
import pytest

from dagnet import DagNN, DagNNError
from dagnet.simplenn import from_simple_nn
from dagnet.simplenn_eval import simple_nn
from golden import SINGLE, golden, golden_path
from layers import ReLU
from mat_networks import load_without_warning
from toy_layers import Drop, Observe, Plus, Times, array


def chain():
    """y = relu(w x) u, with w = 2, u = 3."""
    net = DagNN()
    net.add_layer("first", Times(), "x0", "x1", "w")
    net.add_layer("relu", ReLU(), "x1", "x2")
    net.add_layer("last", Times(), "x2", "x3", "u")
    net.get_param("w").value, net.get_param("u").value = array(2.0), array(3.0)
    return net


def ders(res):
    return [[float(der[0]) for der in result.dzdw] for result in res]


def test_results_stand_along_the_chain():
    res = simple_nn(chain(), array(1.0, -5.0), array(1.0, 1.0))
    assert [r.x.tolist() for r in res] == [[1, -5], [2, -10], [2, 0], [6, 0]]
    assert [r.dzdx.tolist() for r in res] == [[6, 0], [3, 0], [3, 3], [1, 1]]
    # Of the layer that reads the value, as in vl_simplenn: dz/dw = u x, dz/du = relu(w x).
    assert ders(res) == [[3], [], [2], []]
    assert all(r.time > 0 and r.backward_time > 0 for r in res[:-1])
    assert res[-1].time is None is res[-1].backward_time


def test_a_derivative_of_one_number_counts_for_every_element():
    assert ders(simple_nn(chain(), array(1.0, 2.0), 10)) == [[90], [], [60], []]


def test_a_forward_pass_leaves_no_derivatives():
    res = simple_nn(chain(), array(1.0))
    assert all(r.dzdx is None and r.dzdw == [] and r.backward_time is None for r in res)


def test_the_network_is_left_as_it_was():
    net = chain()
    net.mode, net.accumulate_param_ders = "test", True
    for conserve in (True, False):
        simple_nn(net, array(1.0), 1, conserve_memory=conserve)
        assert (net.mode, net.conserve_memory, net.accumulate_param_ders) == ("test", True, True)
        assert all(v.value is None and v.der is None and not v.precious for v in net.vars)
        assert all(p.der is None for p in net.params)


def test_an_error_leaves_the_options_as_they_were():
    net = chain()
    net.get_param("u").value = None
    with pytest.raises(DagNNError, match="parameter 'u' has no value"):
        simple_nn(net, array(1.0), 1, mode="test")
    assert net.mode == "normal" and not net.get_var("x3").precious
    net.get_param("u").value = array(3.0)
    assert float(simple_nn(net, array(1.0))[-1].x[0]) == 6


def test_it_computes_what_the_network_computes(rng):
    convolution = {"type": "conv", "weights": [rng.standard_normal((4, 3, 3, 3)), np.ones(4)]}
    norm = {"type": "bnorm", "weights": [np.ones(4), np.zeros(4), np.ones((4, 2))]}
    layers = [convolution, norm, {"type": "relu"}, {"type": "softmaxloss"}]
    net = from_simple_nn(layers)
    x, labels = rng.standard_normal((2, 3, 6, 5)), rng.integers(1, 5, (2, 1, 4, 3)).astype(float)
    for mode in ("normal", "test"):
        res = simple_nn(net, x, 1, labels=labels, mode=mode)
        other = net.copy()
        other.mode = mode
        other.eval({"x0": x, "label": labels}, {"x4": 1})
        assert np.allclose(res[0].dzdx, other.get_var("x0").der, rtol=1e-12)
        found = [der for result in res for der in result.dzdw]
        assert len(found) == len(other.params) == 5
        for der, parameter in zip(found, other.params):
            assert np.allclose(der, parameter.der, rtol=1e-12, atol=1e-14)


def test_the_third_derivative_of_a_batch_norm_are_its_moments():
    net = from_simple_nn(
        [{"type": "bnorm", "weights": [np.ones(1), np.zeros(1)], "epsilon": 7.0}, {"type": "relu"}]
    )
    x = np.array([2.0, 4.0, 8.0, 2.0]).reshape(2, 1, 2, 1)
    res = simple_nn(net, x, 1)
    # Mean 4, variance (4 + 0 + 16 + 4) / 4 = 6.
    assert np.allclose(res[0].dzdw[2], [[4, np.sqrt(6 + 7)]])


def test_derivatives_by_parameters_accumulate_on_those_of_an_earlier_result():
    net = chain()
    res = simple_nn(net, array(1.0), 1)
    sum_of_two = simple_nn(net, array(4.0), 1, res, accumulate=True)
    assert ders(sum_of_two) == [[3 + 12], [], [2 + 8], []]
    assert ders(res) == [[3], [], [2], []]
    assert sum_of_two[0].dzdx == 6
    assert ders(simple_nn(net, array(4.0), 1, res)) == [[12], [], [8], []]
    assert ders(simple_nn(net, array(4.0), 1, accumulate=True)) == [[12], [], [8], []]


@pytest.mark.parametrize(
    "depth, expected", [(1, [[], [], [2], []]), (2, [[], [], [2], []]), (3, [[3], [], [2], []])]
)
def test_derivatives_are_those_of_so_many_layers(depth, expected):
    net = chain()
    res = simple_nn(net, array(1.0), 1, back_prop_depth=depth)
    assert ders(res) == expected
    assert [r.dzdx is None for r in res] == [i < 3 - depth for i in range(4)]
    assert all(r.x is not None for r in res)
    lean = simple_nn(net, array(1.0), 1, back_prop_depth=depth, conserve_memory=True)
    assert ders(lean) == expected
    kept = [i for i, r in enumerate(lean) if r.x is not None]
    assert kept == ([0, 3] if depth == 3 else [3])


def test_a_precious_variable_at_the_depth_is_kept():
    net = chain()
    net.get_var("x2").precious = True
    res = simple_nn(net, array(1.0), 1, back_prop_depth=1, conserve_memory=True)
    assert res[2].x == 2 and res[2].dzdx == 3


def test_more_layers_than_there_are_is_all_of_them():
    assert ders(simple_nn(chain(), array(1.0), 1, back_prop_depth=9)) == [[3], [], [2], []]


def test_backward_without_forward_uses_the_values_of_the_result():
    net = chain()
    for dzdy in (None, 1):
        res = simple_nn(net, array(1.0), dzdy)
        net.get_param("u").value = array(100.0)
        again = simple_nn(net, None, 10, res, skip_forward=True)
        assert [r.x.tolist() for r in again] == [[1], [2], [2], [6]]
        assert ders(again) == [[1000], [], [20], []]
        assert [r.time for r in again] == [r.time for r in res]
        net.get_param("u").value = array(3.0)


def test_dropout_keeps_its_mask_for_a_later_backward_pass():
    net = DagNN()
    net.add_layer("drop", Drop(), "x0", "x1")
    x = np.ones(64)
    res = simple_nn(net, x)
    assert set(res[1].x) == {0, 2} and np.array_equal(res[1].aux, res[1].x)
    again = simple_nn(net, x, 1, res, skip_forward=True)
    assert np.array_equal(again[0].dzdx, res[1].x)
    assert not np.array_equal(simple_nn(net, x)[1].x, res[1].x)
    assert np.array_equal(simple_nn(net, x, mode="test")[1].x, x)
    assert simple_nn(net, x, 1, conserve_memory=True)[1].aux is None


def test_the_parameter_server_gets_derivatives_and_the_result_none():
    class Server:
        def __init__(self):
            self.pushed = {}

        def push(self, name, der):
            self.pushed[name] = float(der[0])

    net, server = chain(), Server()
    held = simple_nn(net, array(1.0), 1, parameter_server=server, hold_on=True)
    assert server.pushed == {} and ders(held) == [[3], [], [2], []]
    res = simple_nn(net, array(1.0), 1, held, accumulate=True, parameter_server=server)
    assert server.pushed == {"w": 6, "u": 4} and ders(res) == [[], [], [], []]
    assert net.parameter_server is None


def test_observations_in_test_mode_are_the_layers_own():
    net = DagNN()
    net.add_layer("a", Observe(), "x0", "x1", "m")
    net.get_param("m").value = array(0.0)
    assert simple_nn(net, array(1.0), mode="test")[1].x == 101


def branched():
    net = chain()
    net.add_layer("plus", Plus(), ["x3", "x1"], "x4")
    return net


def out_of_line():
    net = chain()
    net.add_layer("other", ReLU(), "x1", "x4")
    return net


@pytest.mark.parametrize(
    "make, words",
    [
        (DagNN, "no layers"),
        (branched, "'plus' .* reads x3, x1 and writes x4: in a SimpleNN .* here 'x3'"),
        (out_of_line, "'other' .* reads x1"),
    ],
)
def test_what_is_no_chain_is_refused(make, words):
    with pytest.raises(DagNNError, match=words):
        simple_nn(make(), array(1.0))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"back_prop_depth": 0}, "back_prop_depth must be at least 1, received 0"),
        ({"skip_forward": True}, "skip_forward leaves nothing to do"),
        ({"skip_forward": True, "dzdy": 1}, "skip_forward needs the values"),
        ({"res": [], "accumulate": True}, "one result more than the 3 layers, received 0"),
        ({"mode": "training"}, "mode must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        simple_nn(chain(), array(1.0), **options)


def test_a_result_whose_values_were_freed_cannot_be_gone_through_again():
    net = chain()
    res = simple_nn(net, array(1.0), 1, conserve_memory=True)
    with pytest.raises(ValueError, match="made without conserve_memory"):
        simple_nn(net, array(1.0), 1, res, skip_forward=True)


def test_labels_are_as_many_as_the_losses_read():
    two = from_simple_nn([{"type": "softmaxloss"}, {"type": "relu"}])
    x = np.log([[1.0, 3.0]])[:, :, None, None]
    for labels in (np.array([1.0]), [np.array([1.0])]):
        assert np.isclose(simple_nn(two, x, labels=labels)[-1].x, np.log(4))
    with pytest.raises(DagNNError, match=r"reads 1 inputs beside 'x0' \(label\), received 0"):
        simple_nn(two, x)
    with pytest.raises(DagNNError, match=r"reads 0 inputs beside 'x0' \(none\), received 1"):
        simple_nn(chain(), x, labels=np.array([1.0]))


@golden("simplenn_probe")
@pytest.mark.parametrize("form", ["new", "old"])
def test_each_result_is_the_originals(case, form):
    """Up to the normalisation, whose powers are approximate there."""
    net = load_without_warning(golden_path(f"simplenn_{form}_v7.mat"))
    res = simple_nn(net, case.tensor("x0"), mode="test")
    assert len(res) == len(net.layers) + 1 == 9
    for i in range(6):
        expected = case.tensor(f"x{i}")
        error = np.abs(res[i].x - expected).max() / np.abs(expected).max()
        assert res[i].x.dtype == np.float32 and error <= SINGLE
