"""Tests of dagnet.graph: building, changing and ordering a network."""

import json

import networkx
import pytest

from dagnet import DagNN, GraphError, UnknownNameError
from golden import GOLDENS
from layers import ReLU
from toy_layers import Plus, Split, Times


def chain(*names):
    """A chain of ReLUs of these names over variables v0, v1, ..."""
    net = DagNN()
    for i, name in enumerate(names):
        net.add_layer(name, ReLU(), f"v{i}", f"v{i + 1}")
    return net


def snapshot(net):
    return (
        [(r.name, r.inputs, r.outputs, r.params) for r in net.layers],
        [(v.name, v.fanin, v.fanout) for v in net.vars],
        [p.name for p in net.params],
        net.get_layer_execution_order(),
    )


def test_variables_and_parameters_appear_with_their_layers():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "w")
    assert [v.name for v in net.vars] == ["x", "y", "z"]
    assert [(v.fanin, v.fanout) for v in net.vars] == [(0, 1), (1, 1), (1, 0)]
    assert net.get_param("w").fanout == 2
    assert net.get_inputs() == ["x"] and net.get_outputs() == ["z"]


@pytest.mark.parametrize(
    "layer, message",
    [
        (("a", ReLU(), "v2", "v3"), "already a layer 'a'"),
        (("c", ReLU(), "v0", "v2"), "'v2' would be written by two layers, 'b' and 'c'"),
        (("c", ReLU(), "v2", "v0"), "cycle: .*'c' writes 'v0', which layer 'a' reads"),
        (("c", ReLU(), "v2", "v2"), "'c'.* would read and write v2"),
        (("c", Plus(), "v2", "v3"), "'c'.* takes 2 inputs, received 1: v2"),
        (("c", Times(), "v2", "v3"), "'c'.* takes 1 parameters, received 0"),
        (("c", Split(), "v2", ["v3", "v3"]), "'c'.* writes a variable twice"),
        (("", ReLU(), "v2", "v3"), "non-empty string"),
        (("c", ReLU(), "", "v3"), "names of inputs must be non-empty strings, received ''"),
        (("c", Times(), "v2", "v3", [5]), "names of parameters must be non-empty .* received 5"),
        (("c", ReLU, "v2", "v3"), "'c': block must be an instance of dagnet.Layer, received type"),
        (("c", "relu", "v2", "v3"), "'c': block must be .* received str"),
    ],
)
def test_an_impossible_layer_is_refused_and_changes_nothing(layer, message):
    net = chain("a", "b")
    before = snapshot(net)
    with pytest.raises(GraphError, match=message):
        net.add_layer(*layer)
    assert snapshot(net) == before


def test_a_long_cycle_built_without_rebuilds_is_named_at_the_rebuild():
    net = DagNN()
    net.add_layer("a", ReLU(), "x", "y", skip_rebuild=True)
    net.add_layer("b", ReLU(), "y", "z", skip_rebuild=True)
    net.add_layer("c", ReLU(), "z", "x", skip_rebuild=True)
    with pytest.raises(GraphError, match="'a' writes 'y', which layer 'b' reads"):
        net.rebuild()


def test_removing_a_layer_drops_what_nobody_uses_then():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "u")
    net.remove_layer("b")
    assert [v.name for v in net.vars] == ["x", "y"]
    assert [p.name for p in net.params] == ["w"]
    with pytest.raises(UnknownNameError, match="no layer 'b'"):
        net.get_layer("b")


def test_renaming_reaches_every_layer():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "w")
    net.rename_var("y", "middle")
    net.rename_param("w", "weight")
    net.rename_layer("a", "first")
    assert net.get_layer("first").outputs == ["middle"] == net.get_layer("b").inputs
    assert net.get_layer("b").params == ["weight"]
    assert net.get_var_index("y") is None and net.get_param_index("w") is None


@pytest.mark.parametrize("rename", ["rename_layer", "rename_var", "rename_param"])
def test_renaming_what_is_not_there_is_refused_or_quiet(rename):
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    before = snapshot(net)
    getattr(net, rename)("missing", "new", quiet=True)
    assert snapshot(net) == before
    with pytest.raises(UnknownNameError, match=r"no .* 'missing' in the network of"):
        getattr(net, rename)("missing", "new")


def test_a_parameter_is_not_renamed_onto_another():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "u")
    for name, message in (("u", "already a parameter 'u'"), ("", "must be a non-empty string")):
        before = snapshot(net)
        with pytest.raises(GraphError, match=message):
            net.rename_param("w", name)
        assert snapshot(net) == before


def test_renaming_a_variable_onto_another_joins_them():
    net = DagNN()
    net.add_layer("a", ReLU(), "x", "y")
    net.add_layer("b", ReLU(), "in", "z")
    net.rename_var("in", "y")
    assert net.get_layer("b").inputs == ["y"]
    assert net.get_inputs() == ["x"] and net.get_outputs() == ["z"]


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.rename_var("v1", "v2"),
        lambda net: net.set_layer_outputs("b", "v1"),
        lambda net: net.set_layer_inputs("a", "v2"),
        lambda net: net.set_layer_inputs("a", ["v0", "v2"]),
        lambda net: net.rename_layer("a", "b"),
        lambda net: net.rename_layer("a", ""),
        lambda net: net.rename_var("v1", None),
    ],
)
def test_an_impossible_change_is_refused_and_undone(change):
    net = chain("a", "b")
    before = snapshot(net)
    with pytest.raises(GraphError):
        change(net)
    assert snapshot(net) == before


def test_layers_can_be_rewired():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.set_layer_inputs("a", "p")
    net.set_layer_outputs("a", "q")
    net.set_layer_params("a", "u")
    record = net.get_layer("a")
    assert (record.inputs, record.outputs, record.params) == (["p"], ["q"], ["u"])
    assert [v.name for v in net.vars] == ["p", "q"] and [p.name for p in net.params] == ["u"]


def test_records_changed_by_hand_take_effect_at_the_rebuild():
    net = chain("a", "b")
    net.get_layer("b").inputs[0] = "elsewhere"
    net.get_layer("b").block = Times()
    net.get_layer("b").params.append("w")
    net.rebuild()
    assert net.get_inputs() == ["v0", "elsewhere"] and net.get_outputs() == ["v1", "v2"]
    assert net.get_param("w").fanout == 1


def test_an_unknown_name_is_answered_with_near_ones():
    net = chain("conv1", "conv2")
    with pytest.raises(UnknownNameError, match=r"no layer 'conv3'.* did you mean conv[12]"):
        net.get_layer("conv3")
    assert net.get_layer_index("conv3") is None


def test_the_order_respects_every_edge_and_breaks_ties_by_place():
    net = DagNN()
    net.add_layer("late", Plus(), ["p", "q"], "out")
    net.add_layer("left", ReLU(), "x", "p")
    net.add_layer("right", ReLU(), "x", "q")
    names = [net.layers[i].name for i in net.get_layer_execution_order()]
    assert names == ["left", "right", "late"]


@pytest.mark.golden
@pytest.mark.parametrize("network", ["instance239", "instance255"])
def test_the_order_is_matconvnets_on_siamfc(network):
    path = GOLDENS / "siamfc_full_listing.json"
    if not path.is_file():
        pytest.skip("golden file siamfc_full_listing.json not found (set DSIAM_SHARED)")
    listing = json.loads(path.read_text())[network]
    net = DagNN()
    for layer in listing["layers"]:
        block = type(
            "Any", (ReLU,), {k: (0, None) for k in ("num_inputs", "num_outputs", "num_params")}
        )
        net.add_layer(layer["name"], block(), layer["inputs"], layer["outputs"], layer["params"])
    assert [i + 1 for i in net.get_layer_execution_order()] == listing["executionOrder"]


def test_networkx_sees_layers_and_variables():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", ReLU(), "y", "z")
    graph = net.to_networkx()
    assert networkx.is_directed_acyclic_graph(graph)
    assert graph.nodes["layer", "a"] == {"type": "test.Times", "params": ["w"]}
    assert networkx.shortest_path(graph, ("var", "x"), ("var", "z")) == [
        ("var", "x"),
        ("layer", "a"),
        ("var", "y"),
        ("layer", "b"),
        ("var", "z"),
    ]
