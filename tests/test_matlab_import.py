"""Tests of matlab_import: networks of files that are made here, in every version."""

import numpy as np
import pytest

from dagnet import DagNN
from golden import SINGLE
from mat_networks import (
    by_name,
    layer,
    load_without_warning,
    number,
    param,
    row,
    small_network,
    training_file,
)
from mat_writers import WRITERS, Opaque, write_mat5, write_mat73
from matlab_import import MatFileError, load_network, load_training


@pytest.fixture
def network(rng):
    return small_network(rng)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.mat"


# Networks made here, in every version


@pytest.mark.parametrize("version", WRITERS)
def test_layers_and_settings_arrive(path, network, version):
    WRITERS[version](path, {"net": network})
    net = load_without_warning(path)
    assert [(r.name, r.type, r.inputs, r.outputs, r.params) for r in net.layers] == [
        ("c1", "dagnn.Conv", ["in"], ["x1"], ["c1f", "c1b"]),
        ("bn", "dagnn.BatchNorm", ["x1"], ["x2"], ["bm", "bb", "bx"]),
        ("relu", "dagnn.ReLU", ["x2"], ["x3"], []),
        ("pool", "dagnn.Pooling", ["x3"], ["x4"], []),
        ("c2", "dagnn.Conv", ["x4"], ["out"], ["c2f", "c2b"]),
    ]
    c1, bn, relu, pool, c2 = (record.block for record in net.layers)
    assert (c1.size, c1.pad, c1.stride, c1.opts) == ((4, 2, 3, 2), (1, 0, 2, 1), (1, 1), ("cuDNN",))
    assert c1.has_bias is True
    assert (bn.num_channels, bn.epsilon, bn.opts) == (4, 1e-4, ("NoCuDNN",))
    assert (relu.leak, relu.use_short_circuit) == (0, True)
    assert (pool.method, pool.pool_size, pool.stride) == ("max", (3, 2), (2, 1))
    assert c2.size == (1, 4, 1, 1)


@pytest.mark.parametrize("version", WRITERS)
def test_parameters_arrive_in_our_axes(path, network, version):
    WRITERS[version](path, {"net": network})
    net = load_network(path)
    value = {p.name: p.value for p in net.params}
    assert {n: v.shape for n, v in value.items()} == {
        "c1f": (4, 2, 3, 2),
        "c1b": (4,),
        "bm": (4,),
        "bb": (4,),
        "bx": (4, 2),
        "c2f": (1, 4, 1, 1),
        "c2b": (1,),
    }
    assert all(v.dtype == np.float32 and v.flags.c_contiguous for v in value.values())
    filters = by_name(network, "c1f")
    for h, w, i, o in np.ndindex(filters.shape):
        assert value["c1f"][o, i, h, w] == filters[h, w, i, o]
    assert value["c2f"][0, :, 0, 0].tolist() == by_name(network, "c2f")[0, 0].tolist()
    assert value["bb"].tolist() == by_name(network, "bb")[0].tolist()
    assert np.array_equal(value["bx"], by_name(network, "bx"))


@pytest.mark.parametrize("version", WRITERS)
def test_training_attributes_precious_and_meta_arrive(path, network, version):
    WRITERS[version](path, {"net": network})
    net = load_network(path)
    bias, moments = net.get_param("c1b"), net.get_param("bx")
    assert (bias.learning_rate, bias.weight_decay, bias.train_method) == (2, 0, "gradient")
    assert (moments.learning_rate, moments.weight_decay) == (0.05, 0)
    assert moments.train_method == "average"  # the layer's wish: it is not in the file
    assert [v.name for v in net.vars if v.precious] == ["x3"]
    assert net.meta["classes"] == ["a", "b"]
    assert net.meta["normalization"]["averageImage"].shape == (1, 1, 3)


@pytest.mark.parametrize("version", WRITERS)
def test_a_network_of_one_layer_and_a_single_filter_is_no_scalar(path, version):
    content = {
        "layers": layer("adjust", "dagnn.Conv", "x", "y", ["f", "b"], size=row(1, 1)),
        "params": [param("f", np.array([[0.5]], np.float32)), param("b", np.zeros((1, 1)))],
        "vars": {"name": "x", "precious": np.array([[False]])},
        "meta": np.zeros((0, 0)),
    }
    WRITERS[version](path, {"net": content})
    net = load_without_warning(path)
    assert net.get_param("f").value.shape == (1, 1, 1, 1)
    assert net.get_param("b").value.shape == (1,)
    assert net.get_layer("adjust").block.size == (1, 1, 1, 1)
    assert set(net.meta) <= {"matlab"}
    net.eval({"x": np.full((2, 1, 3, 3), 4, np.float32)})
    assert np.array_equal(net.get_var("y").value, np.full((2, 1, 3, 3), 2, np.float32))


def test_the_forward_pass_is_that_of_the_formulas(path, network, rng):
    write_mat5(path, {"net": network})
    net = load_network(path)
    net.mode, net.conserve_memory = "test", False
    x = rng.standard_normal((2, 2, 6, 5)).astype(np.float32)
    net.eval({"in": x})
    filters, bias = by_name(network, "c1f"), by_name(network, "c1b")
    padded = np.pad(x.transpose(2, 3, 1, 0), ((1, 0), (2, 1), (0, 0), (0, 0)))
    c1 = np.empty((5, 7, 4, 2))
    for i, j, o, n in np.ndindex(c1.shape):
        c1[i, j, o, n] = (padded[i : i + 3, j : j + 2, :, n] * filters[..., o]).sum() + bias[o, 0]
    moments = by_name(network, "bx")
    multipliers, biases = by_name(network, "bm")[:, 0], by_name(network, "bb")[0]
    scale = (multipliers / moments[:, 1])[:, None]
    relu = np.maximum((c1 - moments[:, :1]) * scale + biases[:, None], 0)
    pooled = np.empty((2, 6, 4, 2))
    for i, j in np.ndindex(2, 6):
        pooled[i, j] = relu[2 * i : 2 * i + 3, j : j + 2].max(axis=(0, 1))
    out = np.einsum("ijcn,c->ijn", pooled, by_name(network, "c2f")[0, 0])
    out = out + by_name(network, "c2b")[0, 0]
    found = net.get_var("out").value[:, 0].transpose(1, 2, 0)
    assert np.abs(found - out).max() <= SINGLE * np.abs(out).max()


def test_instance_weights_leave_the_options_of_a_loss(path):
    weights = np.arange(6.0).reshape(2, 3)
    content = {
        "layers": layer(
            "objective",
            "dagnn.Loss",
            ["score", "label"],
            "objective",
            loss="logistic",
            normalise=np.array([[True]]),
            ignoreAverage=np.array([[False]]),
            opts=["instanceWeights", weights, "normalise", np.array([[False]])],
        ),
    }
    write_mat73(path, {"net": content})
    block = load_without_warning(path).get_layer("objective").block
    assert np.array_equal(block.instance_weights, weights[None, None])
    assert block.opts == ("normalise", False)


def test_options_of_a_loss_become_its_settings(path):
    opts = ["TopK", np.array([[3.0]]), "classWeights", np.ones((1, 4)), "loss", "topkerror"]
    content = {
        "layers": layer(
            "error", "dagnn.Loss", ["score", "label"], "error", loss="softmaxlog", opts=opts
        ),
    }
    write_mat73(path, {"net": content})
    block = load_without_warning(path).get_layer("error").block
    # The later pair wins in the original: vl_nnloss is called with the property first.
    assert (block.loss, block.top_k, block.opts) == ("topkerror", 3, ())


def test_the_fusion_layer_of_the_original_is_elefusion(path, rng):
    weights = rng.random((3, 4)).astype(np.float32)
    content = {
        "layers": layer("sumw", "Sum_w", ["s1", "s2"], "s", ["sumweights"]),
        "params": param("sumweights", weights),
    }
    write_mat5(path, {"net": content})
    net = load_without_warning(path)
    assert net.get_layer("sumw").type == "Elefusion"
    assert np.array_equal(net.get_param("sumweights").value, weights)
    s1, s2 = rng.random((2, 1, 1, 3, 4)).astype(np.float32)
    net.eval({"s1": s1, "s2": s2})
    expected = weights * s1 + (1 - weights) * s2
    assert np.allclose(net.get_var("s").value, expected, rtol=1e-6)


def test_the_fields_of_older_correlation_layers_are_known(path):
    content = {
        "layers": layer(
            "xcorr",
            "XCorr",
            ["z", "x"],
            "y",
            opts=["cuDNN"],
            expect=row(15, 15, 1),
            visualization_active=np.array([[False]]),
            visualization_grid_sz=number(8),
        ),
    }
    write_mat5(path, {"net": content})
    block = load_without_warning(path).get_layer("xcorr").block
    assert (block.expect, block.visualization_grid_sz) == ((15, 15, 1), 8)


# What cannot be used is kept


def test_a_setting_that_is_not_known_is_kept_with_a_warning(path, network):
    network["layers"][2]["block"]["colour"] = "red"
    write_mat5(path, {"net": network})
    with pytest.warns(UserWarning, match=r"layer 'relu' \(dagnn.ReLU\): colour is not known here"):
        net = load_network(path)
    assert net.meta["unused"] == {"relu": {"colour": "red"}}


def test_a_setting_that_is_not_known_but_unset_is_no_news(path, network):
    network["layers"][2]["block"]["colour"] = np.zeros((0, 0))
    write_mat5(path, {"net": network})
    assert "unused" not in load_without_warning(path).meta


def test_a_parameter_that_no_layer_uses_is_kept_with_a_warning(path, network):
    network["params"].append(param("old", np.ones((2, 2))))
    write_mat5(path, {"net": network})
    with pytest.warns(UserWarning, match="parameter 'old', which no layer uses: value"):
        net = load_network(path)
    assert net.get_param_index("old") is None
    assert np.array_equal(net.meta["unused"]["old"]["value"], np.ones((2, 2)))


def test_more_fields_of_network_and_parameters_are_kept_with_a_warning(path, network):
    network["author"] = "somebody"
    network["params"] = [{**p, "momentum": number(0.9)} for p in network["params"]]
    write_mat5(path, {"net": network})
    with pytest.warns(UserWarning) as caught:
        net = load_network(path)
    assert len(caught) == 1 + len(network["params"])
    assert net.meta["unused"]["net"] == {"author": "somebody"}
    assert net.meta["unused"]["c1f"] == {"momentum": 0.9}


def test_what_was_kept_survives_the_native_format(path, network, tmp_path):
    network["layers"][2]["block"]["colour"] = "red"
    write_mat5(path, {"net": network})
    with pytest.warns(UserWarning):
        net = load_network(path)
    net.save(tmp_path / "net.npz")
    again = DagNN.load(tmp_path / "net.npz")
    assert again.meta["unused"] == {"relu": {"colour": "red"}}
    assert [r.name for r in again.layers] == [r.name for r in net.layers]
    for a, b in zip(again.params, net.params):
        assert np.array_equal(a.value, b.value) and a.learning_rate == b.learning_rate
        assert a.train_method == b.train_method


def test_a_train_method_in_the_file_goes_before_the_layers(path, network):
    network["params"] = [{**p, "trainMethod": "gradient"} for p in network["params"]]
    write_mat5(path, {"net": network})
    assert load_network(path).get_param("bx").train_method == "gradient"


def test_a_parameter_without_value_stays_unset(path, network):
    network["params"][0]["value"] = np.zeros((0, 0))
    write_mat5(path, {"net": network})
    assert load_network(path).get_param("c1f").value is None


# Files that hold no network, or one that cannot be built


def change_layer(field, value):
    def change(network):
        network["layers"][0][field] = value

    return change


def drop_type(network):
    for entry in network["layers"]:
        del entry["type"]


def wrong_moments(network):
    network["params"][4]["value"] = np.ones((4, 3))


def wrong_method(network):
    network["params"] = [{**p, "trainMethod": "magic"} for p in network["params"]]


@pytest.mark.parametrize(
    "change, words",
    [
        (change_layer("type", "dagnn.Nothing"), "layer 'c1' .*no layer type 'dagnn.Nothing'"),
        (change_layer("name", "bn"), "already a layer 'bn'"),
        (change_layer("params", []), "layer 'c1' .* takes"),
        (change_layer("inputs", number(3)), "inputs: expected a cell of char arrays"),
        (change_layer("block", "text"), "block: expected a struct, found char 'text'"),
        (change_layer("block", {"size": "big"}), "layer 'c1' .*expected a size"),
        (change_layer("block", {"pad": row(-1, 0)}), "layer 'c1' .*pad must be"),
        (drop_type, "layer 1 lacks the field type"),
        (wrong_moments, r"parameter 'bx': expected moments of shape \(C, 2\), found a 4 x 3"),
        (wrong_method, "parameter 'c1f': trainMethod must be one of"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_name(path, network, change, words):
    change(network)
    write_mat73(path, {"net": network})
    with pytest.raises(MatFileError, match=words) as error:
        load_network(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"sumw": np.ones((3, 3))}, r"expected a network .*found sumw \(3 x 3 array of float64\)"),
        ({"net": "siamfc"}, r"expected a network .*found net \(char 'siamfc'\)"),
        ({"net": Opaque("dagnn.DagNN")}, r"class dagnn.DagNN, which only MATLAB .*saveobj"),
        ({"a": {"layers": []}, "b": {"layers": []}}, "expected one network, or one called net"),
    ],
)
def test_a_file_without_a_network_is_refused(path, variables, words):
    write_mat73(path, variables)
    with pytest.raises(MatFileError, match=words) as error:
        load_network(path)
    assert str(path) in str(error.value)


def test_a_network_under_another_name_is_found(path, network):
    write_mat5(path, {"note": "trained", "siamfc": network})
    assert len(load_network(path).layers) == 5


# Training files


@pytest.mark.parametrize("version", WRITERS)
def test_state_and_statistics_arrive(path, network, version):
    WRITERS[version](path, training_file(network))
    net, state, stats = load_training(path)
    solver = dict(zip((p.name for p in net.params), state["solver_state"], strict=True))
    assert solver["bx"] is None
    assert np.array_equal(solver["c1f"], 2 * net.get_param("c1f").value)
    assert solver["c2f"].shape == (1, 4, 1, 1)
    assert set(solver["c1b"]) == {"m", "v", "t"} and solver["c1b"]["t"] == 7
    assert np.array_equal(solver["c1b"]["m"], 2 * net.get_param("c1b").value)
    assert state["learningRate"] == 0.01
    assert stats == {
        "train": [{"num": 10.0, "objective": 1.0}, {"num": 10.0, "objective": 0.5}],
        "val": [{"num": 10.0, "objective": 1.0}],
    }


def test_the_state_follows_the_parameters_not_their_order_in_the_file(path, network):
    content = training_file(network)
    network["params"].reverse()
    content["state"]["solverState"].reverse()
    write_mat5(path, content)
    net, state, _ = load_training(path)
    place = net.get_param_index("c1f")
    assert np.array_equal(state["solver_state"][place], 2 * net.params[place].value)


def test_a_file_without_state_gives_none(path, network):
    write_mat5(path, {"net": network})
    _, state, stats = load_training(path)
    assert (state, stats) == ({}, {})


def test_a_state_of_another_network_is_refused(path, network):
    content = training_file(network)
    content["state"]["solverState"].pop()
    write_mat5(path, content)
    with pytest.raises(MatFileError, match="one entry for each of the 7 parameters"):
        load_training(path)
