"""Tests of layers.chain.recognise: which layers of a network become chains."""

import numpy as np
import pytest

from dagnet import DagNN, Surroundings
from dagnet import net as planning
from feature_chains import fuse_everything
from layers import BatchNorm, Conv, Pooling, ReLU, XCorr
from layers.chain import FeatureChain, PlainChain, find_feature_chains, recognise


@pytest.fixture(autouse=True)
def few_filters(monkeypatch):
    """The networks here are small."""
    fuse_everything(monkeypatch)


def surroundings(net, visible=(), given=()):
    """All layers run, and what nobody reads is looked at."""
    order = net.get_layer_execution_order()
    readers = {}
    for index in order:
        for v in net.layers[index].input_indexes:
            readers.setdefault(v, []).append(index)
    seen = {v for v, variable in enumerate(net.vars) if variable.fanout == 0}
    seen |= {net.get_var_index(name) for name in visible}
    given = {net.get_var_index(name) for name in given}
    return Surroundings(net, order, list(range(len(net.vars))), readers, seen | given, given)


def found(net, **options):
    """Names of layers, outputs and parameters of each chain."""
    return [
        (
            [net.layers[i].name for i in chain.layers],
            [net.vars[v].name for v in chain.outputs],
            [net.params[p].name for p in chain.params],
        )
        for chain in find_feature_chains(surroundings(net, **options))
    ]


def network():
    """Two stages: conv, norm, relu, pool; conv, relu."""
    net = DagNN()
    net.add_layer("conv1", Conv(size=(8, 3, 3, 3)), "x", "a", ["f1", "b1"])
    net.add_layer("norm1", BatchNorm(num_channels=8), "a", "b", ["m", "c", "s"])
    net.add_layer("relu1", ReLU(), "b", "c")
    net.add_layer("pool1", Pooling(pool_size=3, stride=2), "c", "d")
    net.add_layer("conv2", Conv(size=(4, 8, 3, 3), has_bias=False), "d", "e", "f2")
    net.add_layer("relu2", ReLU(), "e", "y")
    return net


ALL = ["conv1", "norm1", "relu1", "pool1", "conv2", "relu2"]
FIRST = ["f1", "b1", "m", "c", "s"]


def test_stages_in_a_row_are_one_chain():
    assert found(network()) == [(ALL, ["y"], [*FIRST, "f2"])]
    (chain,) = find_feature_chains(surroundings(network()))
    first, second = chain.block.stages
    assert first.activation.relu and first.activation.pool == ((3, 3), (2, 2))
    assert first.norm is not None and first.has_bias and not first.visible
    assert second.norm is None and second.activation.pool is None and not second.has_bias


@pytest.mark.parametrize(("least", "kind"), [(8, FeatureChain), (9, PlainChain)])
def test_chains_whose_stages_all_have_few_filters_run_by_their_layers(monkeypatch, least, kind):
    monkeypatch.setattr(recognise, "LEAST_FILTERS", least)
    (chain,) = find_feature_chains(surroundings(network()))
    assert type(chain.block) is kind


def test_a_stages_output_may_be_looked_at_and_read_by_others():
    assert found(network(), visible=["d"]) == [(ALL, ["d", "y"], [*FIRST, "f2"])]
    net = network()
    net.add_layer("other", XCorr(), ["y", "d"], "z")
    assert found(net) == [(ALL, ["d", "y"], [*FIRST, "f2"])]


@pytest.mark.parametrize(
    ("name", "layers"), [("a", 1), ("b", 2), ("c", 3)], ids=["conv", "norm", "relu"]
)
def test_a_stage_ends_where_somebody_looks(name, layers):
    chains = found(network(), visible=[name])
    assert chains[0][0] == ALL[:layers] and chains[0][1] == [name]
    assert chains[1][0] == ["conv2", "relu2"]


def test_a_chain_ends_where_a_value_is_given():
    assert [chain[0] for chain in found(network(), given=["d"])] == [ALL[:4], ALL[4:]]
    assert [chain[0] for chain in found(network(), given=["e"])] == [ALL[:5]]


def test_two_convolutions_of_one_variable_begin_chains_of_their_own():
    net = network()
    net.add_layer("conv3", Conv(size=(4, 8, 1, 1), has_bias=False), "d", "z", "f3")
    assert found(net) == [
        (ALL[:4], ["d"], FIRST),
        (["conv2", "relu2"], ["y"], ["f2"]),
        (["conv3"], ["z"], ["f3"]),
    ]


@pytest.mark.parametrize("pool", [{"method": "avg"}, {"pad": 1}])
def test_pooling_that_averages_or_pads_is_left_alone(pool):
    net = network()
    net.layers[3].block = Pooling(pool_size=3, stride=2, **pool)
    assert [chain[0] for chain in found(net)] == [ALL[:3], ALL[4:]]


def test_a_network_is_planned_once_for_evaluations_alike(rng, monkeypatch):
    planned, make_plan = [], planning.make_plan

    def counted(*args, **options):
        planned.append(args)
        return make_plan(*args, **options)

    monkeypatch.setattr(planning, "make_plan", counted)
    net = network()
    net.init_params(rng)
    for _ in range(3):
        net.eval({"x": rng.standard_normal((1, 3, 16, 16))})
    # Twice, if the first time made the chain's layer.
    assert len(planned) <= 2


class Doubled(ReLU):
    """A layer of a user's own."""


def test_layers_of_derived_classes_are_left_alone():
    net = network()
    net.layers[5].block = Doubled()
    assert [chain[0] for chain in found(net)] == [ALL[:5]]


def test_convolutions_without_work_are_left_alone():
    net = DagNN()
    net.add_layer("subsample", Conv(stride=2, has_bias=False), "x", "a", "empty")
    net.add_layer("adjust", Conv(size=(1, 1, 1, 1)), "a", "y", ["f", "b"])
    assert found(net) == []


def test_filters_of_another_size_than_the_setting_are_left_alone():
    net = network()
    net.get_param("f2").value = np.zeros((4, 8, 5, 5))
    assert [chain[0] for chain in found(net)] == [ALL[:4]]
    net.get_param("f2").value = np.zeros((4, 8, 3, 3))
    assert [chain[0] for chain in found(net)] == [ALL]


@pytest.mark.parametrize("side, block", [(9, PlainChain), (29, FeatureChain), (None, FeatureChain)])
def test_small_images_run_by_the_layers_functions(monkeypatch, side, block):
    """5x5x2x3 filters at 5x5 and 25x25 places: 3,750 and 93,750 products."""
    monkeypatch.setattr(recognise, "LEAST_PRODUCTS", 50_000)
    net = DagNN()
    net.add_layer("conv", Conv(size=(3, 2, 5, 5), has_bias=False), "x", "y", ["f"])
    net.add_layer("relu", ReLU(), "y", "z")
    sizes = None if side is None else {"x": (4, 2, side, side)}
    (unit,) = net.plan(input_sizes=sizes).units
    assert type(unit.block) is block
