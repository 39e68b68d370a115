"""Tests of dagnet.plan: equal layers run once, with the results of running each."""

import numpy as np
import pytest

from dagnet import DagNN, UnknownNameError
from dsiam_net.branches import siamfc_branch
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import build_unrolled, objectives
from layers import ReLU
from tiny import smooth_clip, tiny_unrolled
from toy_layers import Observe, Plus, Split, Times, array


def twins():
    """Two equal chains on x, of which the sum is taken: z = 2 w relu(x)."""
    net = DagNN()
    for side in "ab":
        net.add_layer(f"relu_{side}", ReLU(), "x", f"p_{side}")
        net.add_layer(f"times_{side}", Times(), f"p_{side}", f"q_{side}", "w")
    net.add_layer("plus", Plus(), ["q_a", "q_b"], "z")
    net.get_param("w").value = array(5.0)
    return net


def names(net, indexes):
    return [net.layers[i].name for i in indexes]


def test_equal_layers_are_run_once_and_so_is_what_follows_them():
    net = twins()
    plan = net.plan()
    assert names(net, plan.merged) == ["relu_b", "times_b"]
    assert names(net, plan.order) == ["relu_a", "times_a", "plus"]
    assert str(plan).startswith("layers 5: 3 are run, 2 are merged")


def test_derivatives_of_merged_layers_are_those_of_all():
    net = twins()
    net.eval({"x": array(2.0, -1.0)}, {"z": array(1.0, 1.0)})
    assert net.get_param("w").der == 2 * 2.0
    assert net.get_var("x").der.tolist() == [10.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net.get_layer("relu_b").block, "leak", 0.1),
        lambda net: net.set_layer_inputs("relu_b", "y"),
        lambda net: setattr(net.get_layer("relu_b").block, "mergeable", False),
    ],
    ids=["settings", "inputs", "not mergeable"],
)
def test_layers_that_differ_are_not_merged(change):
    net = twins()
    change(net)
    assert net.plan().merged == []


def test_layers_with_parameters_of_their_own_are_not_merged():
    net = twins()
    net.set_layer_params("times_b", "u")
    assert names(net, net.plan().merged) == ["relu_b"]


@pytest.mark.of_plan
def test_values_of_merged_variables_are_there_where_they_are_looked_at():
    net = twins()
    net.get_var("q_b").precious = True
    net.add_layer("end", ReLU(), "q_b", "last")
    net.add_layer("end_too", ReLU(), "q_a", "last_too")
    net.eval({"x": array(2.0)})
    assert net.get_var("q_b").value == 10
    assert net.get_var("last").value == net.get_var("last_too").value == 10
    net.eval({"x": array(2.0)}, {"z": 1, "q_b": 3})
    # Of variables that were merged the derivative is the sum over all of them.
    assert net.get_var("q_b").der == 1 + 1 + 3


def test_without_conserve_memory_every_layer_runs():
    net = twins()
    net.conserve_memory = False
    net.eval({"x": array(2.0)}, {"z": 1})
    assert net.get_var("q_a").der == net.get_var("q_b").der == 1


def test_a_variable_that_the_caller_gives_is_not_taken_from_another():
    net = twins()
    net.eval({"p_b": array(4.0), "p_a": array(1.0)})
    assert net.get_var("z").value == 25


def test_observations_count_as_often_as_they_stood():
    def observed(plan):
        net = DagNN()
        for side in "ab":
            net.add_layer(f"observe_{side}", Observe(), "x", f"y_{side}", "m")
        net.add_layer("plus", Plus(), ["y_a", "y_b"], "z")
        net.get_param("m").value = array(0.0)
        net.eval({"x": array(2.0, 4.0)}, {"z": array(1.0, 1.0)}, plan=plan)
        return net.get_param("m").der

    assert observed(True) == observed(False) == 6


def test_layers_that_nothing_asked_for_depends_on_are_not_run():
    net = twins()
    net.add_layer("aside", ReLU(), "x", "nobody")
    net.add_layer("more", ReLU(leak=0.2), "q_a", "other")
    plan = net.plan(outputs=["q_a"])
    assert names(net, plan.order) == ["relu_a", "times_a"]
    assert sorted(names(net, plan.pruned)) == ["aside", "more", "plus", "relu_b", "times_b"]
    net.eval({"x": array(2.0)}, outputs=["q_a"])
    assert net.get_var("q_a").value == 10 and net.get_var("other").value is None
    net.eval({"x": array(2.0)}, {"z": 1}, outputs=[])
    assert net.get_param("w").der == 4 and net.get_var("nobody").value is None
    with pytest.raises(UnknownNameError, match="no variable 'qq'"):
        net.plan(outputs=["qq"])


def test_the_template_is_computed_once_and_the_first_frames_regions_too():
    net = build_unrolled(siamfc_branch())
    plan = net.plan()
    # The template's branch of nine frames; and in frame 1 the crops g and z are one, with their
    # branches.
    assert len(plan.merged) == 9 * 15 + 15 + 1
    merged = names(net, plan.merged)
    assert "f2_o1_conv1" in merged and "f10_o1_conv5" in merged and "f1_o1_conv1" not in merged
    assert not any(name.startswith(("f2_g", "f2_z")) for name in merged)


def random_net(rng):
    """A random network in which some layers repeat others."""
    net = DagNN()
    variables, written = ["x", "y"], []
    for i in range(30):
        if written and rng.random() < 0.35:
            _, make, inputs, outputs, params = written[rng.integers(len(written))]
            outputs = [f"{v}_again{i}" for v in outputs]
        else:
            kind = rng.integers(5)
            make, count, outs = [
                (lambda: ReLU(leak=0.1), 1, 1),
                (lambda: ReLU(leak=0.3), 1, 1),
                (Times, 1, 1),
                (Plus, 2, 1),
                (Split, 1, 2),
            ][kind]
            inputs = [variables[rng.integers(len(variables))] for _ in range(count)]
            outputs = [f"v{i}_{j}" for j in range(outs)]
            params = [f"w{rng.integers(3)}"] if make is Times else []
        net.add_layer(f"layer{i}", make(), inputs, outputs, params)
        written.append((f"layer{i}", make, inputs, outputs, params))
        variables += outputs
    for parameter in net.params:
        parameter.value = rng.uniform(0.5, 1.5, 1)
    return net


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_give_the_same_with_and_without_the_plan(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    inputs = {name: rng.uniform(-1, 1, 4) for name in net.get_inputs()}
    ends = [name for name in net.get_outputs() if name not in inputs]
    found = {}
    for plan in (True, False):
        net.eval(inputs, plan=plan)
        values = {name: net.get_var(name).value.copy() for name in ends}
        net.eval(inputs, dict.fromkeys(ends, 1.0), plan=plan)
        ders = {name: net.get_var(name).der for name in inputs}
        params = {p.name: p.der for p in net.params}
        found[plan] = (values, ders, params)
    for with_plan, without in zip(found[True], found[False]):
        assert with_plan.keys() == without.keys()
        for name, value in without.items():
            assert np.allclose(with_plan[name], value, rtol=1e-12, atol=1e-12), name


@pytest.mark.parametrize("mode", ["normal", "test"])
@pytest.mark.parametrize("crop_gradient", ["pool", "soft"])
def test_the_unrolled_network_gives_the_same_with_and_without_the_plan(mode, crop_gradient):
    found = {}
    for plan in (True, False):
        rng = np.random.default_rng(3)
        net = tiny_unrolled(rng, crop_gradient=crop_gradient)
        net.mode = mode
        batch = clip_batch(net, [smooth_clip(rng)], np.float64)
        ones = dict.fromkeys(objectives(net), 1)
        net.eval(batch.inputs, ones, late_inputs=batch.late_inputs, plan=plan)
        scores = {f"score{t}": net.get_var(f"score{t}").value for t in (1, 2, 3)}
        centers = {f"center{t}": net.get_var(f"center{t}").value for t in (1, 2, 3)}
        ders = {p.name: p.der for p in net.params}
        averages = {r.name: r.block.statistics() for r in net.layers if r.block.statistics()}
        found[plan] = ({**scores, **centers}, ders, averages)
    values, ders, averages = found[True]
    for name, value in found[False][0].items():
        assert np.allclose(values[name], value, rtol=1e-12, atol=1e-12), name
    for name, der in found[False][1].items():
        # What cancels to noise is compared with the derivative by the same layer's filters.
        cancelled = name.startswith("conv") and name.endswith("b")
        scale = np.abs(found[False][1][name[:-1] + "f"] if cancelled else der).max()
        assert np.abs(ders[name] - der).max() <= 1e-9 * scale, name
    for name, average in found[False][2].items():
        assert averages[name] == pytest.approx(average, rel=1e-12), name
