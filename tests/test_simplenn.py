"""Tests of dagnet.simplenn, and of the import of SimpleNN files."""

import numpy as np
import pytest

import dagnet.layer
import layers
from dagnet import DagNN, DagNNError
from dagnet.simplenn import from_simple_nn
from golden import GOLDENS, SINGLE, assert_passes, golden
from mat_networks import load_without_warning, number, row
from mat_writers import WRITERS, Cell, write_mat73
from matlab_import import MatFileError, load_network, load_training, save_simplenn
from matlab_import.mat_file import read_mat

VERSIONS = ("v6", "v7", "v73")


@pytest.fixture
def conv(rng):
    filters = rng.standard_normal((4, 3, 3, 2)).astype(np.float32)
    return {"type": "conv", "name": "conv1", "weights": [filters, np.ones(4, np.float32)]}


# Names and structure


def test_variables_are_numbered_and_parameters_named_after_their_layer(conv):
    norm = {"type": "bnorm", "name": "bn1", "weights": [np.ones(4), np.zeros(4)]}
    net = from_simple_nn([conv, norm, {"type": "relu"}, {"type": "softmaxloss", "name": "loss"}])
    assert [(r.name, r.inputs, r.outputs, r.params) for r in net.layers] == [
        ("conv1", ["x0"], ["x1"], ["conv1f", "conv1b"]),
        ("bn1", ["x1"], ["x2"], ["bn1m", "bn1b", "bn1x"]),
        ("layer3", ["x2"], ["x3"], []),
        ("loss", ["x3", "label"], ["x4"], []),
    ]
    assert net.get_param("conv1f").value is conv["weights"][0]
    assert np.array_equal(net.get_param("bn1x").value, np.zeros((4, 2)))
    assert net.get_layer("bn1").block.num_channels == 4
    assert net.get_layer("loss").block.loss == "softmaxlog"


def test_the_network_class_makes_them_too(conv):
    net = DagNN.from_simple_nn([conv, {"type": "softmax"}], canonical_names=True)
    assert [v.name for v in net.vars] == ["input", "prediction", "prob"]


def test_a_second_loss_reads_a_second_label():
    net = from_simple_nn([{"type": "softmaxloss"}, {"type": "softmaxloss"}])
    assert [r.inputs[1] for r in net.layers] == ["label", "label1"]


def test_canonical_names_say_what_variables_are(conv):
    net = from_simple_nn(
        [conv, {"type": "softmax"}, {"type": "softmaxloss"}],
        {"inputs": [{"name": "data", "size": (10, 3, 16, 16)}]},
        canonical_names=True,
    )
    assert [(r.inputs, r.outputs) for r in net.layers] == [
        (["input"], ["prediction"]),
        (["prediction"], ["prob"]),
        (["prob", "label"], ["objective"]),
    ]
    assert net.meta["inputs"][0]["name"] == "input"


def test_a_loss_without_softmax_reads_the_prediction(conv):
    net = from_simple_nn([conv, {"type": "softmaxloss"}], canonical_names=True)
    assert net.layers[-1].inputs == ["prediction", "label"]


def test_further_softmaxes_and_losses_get_numbered_names(conv):
    last = {"type": "softmaxloss"}
    layers = [conv, {"type": "softmax"}, {"type": "relu"}, {"type": "softmax"}, {**last}, {**last}]
    net = from_simple_nn(layers, canonical_names=True)
    # By the original's rules one after another: what a loss writes is the next one's prediction.
    # It has no name but "objective" for what the second one writes.
    assert [(r.inputs, r.outputs) for r in net.layers] == [
        (["input"], ["prediction"]),
        (["prediction"], ["prob"]),
        (["prob"], ["prediction1"]),
        (["prediction1"], ["prob1"]),
        (["prob1", "label"], ["prediction2"]),
        (["prediction2", "label1"], ["objective1"]),
    ]


def test_a_softmax_at_the_start_reads_the_prediction_and_any_first_variable_was_input():
    net = from_simple_nn([{"type": "softmax"}, {"type": "relu"}], canonical_names=True)
    assert [v.name for v in net.vars] == ["prediction", "prob", "x2"]
    net = from_simple_nn([{"type": "relu"}, {"type": "sigmoid"}], canonical_names=True)
    assert [v.name for v in net.vars] == ["input", "x1", "x2"]


def test_the_input_in_meta_gets_the_name_of_the_variable(conv):
    meta = {"inputs": {"name": "data", "size": (1, 3, 8, 8)}, "classes": ["a"]}
    net = from_simple_nn([conv], meta)
    assert net.meta == {"inputs": {"name": "x0", "size": (1, 3, 8, 8)}, "classes": ["a"]}
    assert meta["inputs"]["name"] == "data"


# Types that vl_simplenn knows and fromSimpleNN does not


def test_a_loss_is_the_softmax_loss_as_vl_nnloss_has_it_by_default():
    net = from_simple_nn([{"type": "loss"}], canonical_names=True)
    assert net.layers[0].inputs == ["prediction", "label"]
    assert net.get_outputs() == ["objective"]
    net.eval({"prediction": np.log([[1.0, 3.0]])[:, :, None, None], "label": np.array([2.0])})
    assert np.isclose(net.get_var("objective").value, -np.log(3 / 4))


def test_normalisations_have_their_parameters():
    layers = [{"type": "noffset", "param": (0.5, 0.5)}, {"type": "spnorm", "param": (1, 1, 3, 0.5)}]
    net = from_simple_nn(layers)
    # Less half the norm of (3, 4), (3^2 + 4^2)^0.5 = 5. Then x / sqrt(1 + 3 x^2).
    net.eval({"x0": np.array([3.0, 4.0]).reshape(1, 2, 1, 1)})
    y = np.array([0.5, 1.5])
    assert np.allclose(net.get_var("x2").value.ravel(), y / np.sqrt(1 + 3 * y**2))
    for layer in layers:
        with pytest.raises(DagNNError, match=f"type '{layer['type']}', lacks param"):
            from_simple_nn([{"type": layer["type"]}])


def test_a_distance_reads_its_target_and_has_the_defaults_of_vl_simplenn_tidy():
    net = from_simple_nn([{"type": "relu"}, {"type": "pdist"}])
    assert net.layers[1].inputs == ["x1", "label"]
    block = net.layers[1].block
    assert (block.p, block.no_root, block.aggregate, block.epsilon) == (2, False, False, 1e-3)
    assert block.instance_weights is None
    x = np.array([3.0, 4.0, 1.0, -1.0]).reshape(1, 2, 1, 2)
    net.eval({"x0": x, "label": np.zeros((1, 2, 1, 1))})
    # Columns (3, 1) and (4, 0).
    assert np.allclose(net.get_var("x2").value.ravel(), [np.sqrt(10), 4])
    given = {"p": 1, "no_root": True, "aggregate": True, "instance_weights": 2.0, "epsilon": 0.5}
    block = from_simple_nn([{"type": "pdist", **given}]).layers[0].block
    assert {name: getattr(block, name) for name in given} == given


@pytest.mark.parametrize("version", WRITERS)
def test_such_a_chain_is_written_and_read(tmp_path, rng, version):
    weights = rng.random((1, 1, 3, 2))
    net = from_simple_nn(
        [
            {"type": "noffset", "name": "off", "param": (0.5, 2)},
            {"type": "spnorm", "name": "norm", "param": (3, 2, 0.5, 0.75)},
            {"type": "pdist", "name": "dist", "p": 3, "instance_weights": weights},
        ]
    )
    path = tmp_path / "net.mat"
    save_simplenn(net, path)
    entry = read_mat(path)["layers"][2]
    assert entry["type"] == "pdist" and entry["instanceWeights"].shape == (3, 2)
    assert np.array_equal(entry["instanceWeights"], weights[0, 0])
    WRITERS[version](path, {"layers": Cell([{**entry, "weights": []}]), "meta": {"a": "b"}})
    block = load_without_warning(path).layers[0].block
    assert np.array_equal(block.instance_weights, weights)
    assert (block.p, block.aggregate, block.no_root, block.epsilon) == (3, False, False, 1e-3)
    single = from_simple_nn([{"type": "pdist", "name": "d", "instance_weights": 2.0}])
    for one, value in ((single, 2.0), (from_simple_nn([{"type": "pdist", "name": "d"}]), None)):
        save_simplenn(one, path)
        assert load_without_warning(path).layers[0].block.instance_weights == value


# Settings


def test_settings_left_out_have_the_defaults_of_vl_simplenn_tidy(conv):
    net = from_simple_nn(
        [
            conv,
            {"type": "pool", "pool": 2},
            {"type": "relu"},
            {"type": "lrn"},
            {"type": "bnorm", "weights": [np.ones(4), np.zeros(4)]},
        ]
    )
    c, pool, relu, lrn, norm = (r.block for r in net.layers)
    assert (c.size, c.pad, c.stride, c.dilate) == ((4, 3, 3, 2), (0,) * 4, (1, 1), (1, 1))
    assert (pool.method, pool.pool_size, pool.pad, pool.stride) == ("max", (2, 2), (0,) * 4, (1, 1))
    assert relu.leak == 0
    assert lrn.param == (5, 1, 0.0001 / 5, 0.75)
    assert norm.epsilon == 1e-5


def test_settings_given_are_used(conv):
    net = from_simple_nn(
        [
            {**conv, "pad": (1, 2, 0, 3), "stride": (2, 1), "dilate": 2, "opts": ("cuDNN",)},
            {"type": "pool", "pool": (3, 2), "method": "avg", "stride": 2, "pad": (0, 1, 0, 1)},
            {"type": "relu", "leak": 0.1},
            {"type": "normalize", "param": (3, 2, 0.5, 0.75)},
            {"type": "bnorm", "weights": [np.ones(4), np.zeros(4)], "epsilon": 1e-4},
        ]
    )
    c, pool, relu, lrn, norm = (r.block for r in net.layers)
    assert (c.pad, c.stride, c.dilate, c.opts) == ((1, 2, 0, 3), (2, 1), (2, 2), ("cuDNN",))
    assert (pool.method, pool.pool_size, pool.stride, pool.pad) == (
        "avg",
        (3, 2),
        (2, 2),
        (0, 1, 0, 1),
    )
    assert (relu.leak, lrn.param, norm.epsilon) == (0.1, (3, 2, 0.5, 0.75), 1e-4)


def test_learning_rates_and_weight_decays_go_to_the_parameters(conv):
    norm = {
        "type": "bnorm",
        "name": "bn1",
        "learning_rate": (2, 1, 0.05),
        "weight_decay": (0, 0),
        "weights": [np.ones(4), np.zeros(4), np.ones((4, 2))],
    }
    net = from_simple_nn([{**conv, "learning_rate": (1, 2), "weight_decay": (1, 0)}, norm])
    assert [(p.name, p.learning_rate, p.weight_decay, p.train_method) for p in net.params] == [
        ("conv1f", 1, 1, "gradient"),
        ("conv1b", 2, 0, "gradient"),
        ("bn1m", 2, 0, "gradient"),
        ("bn1b", 1, 0, "gradient"),
        ("bn1x", 0.05, 0, "average"),
    ]


@pytest.mark.parametrize("weights", [lambda f: [f], lambda f: [f, None]])
def test_a_convolution_without_biases_has_one_parameter(conv, weights):
    net = from_simple_nn([{**conv, "weights": weights(conv["weights"][0])}])
    assert [p.name for p in net.params] == ["conv1f"]
    assert net.get_layer("conv1").block.has_bias is False


def test_the_older_form_of_weights_is_understood(conv):
    filters, biases = conv.pop("weights")
    net = from_simple_nn([{**conv, "filters": filters, "biases": biases}])
    assert net.get_param("conv1f").value is filters
    assert net.get_param("conv1b").value is biases


def test_the_output_of_a_precious_layer_is_precious(conv):
    net = from_simple_nn([{**conv, "precious": True}, {"type": "relu"}])
    assert [v.name for v in net.vars if v.precious] == ["x1"]


def test_fields_without_effect_are_kept_with_a_warning(conv):
    with pytest.warns(UserWarning, match=r"'conv1' .*: filtersMomentum, note has no effect"):
        net = from_simple_nn([{**conv, "filtersMomentum": 0.9, "note": "x"}])
    assert net.meta["unused"] == {"conv1": {"filtersMomentum": 0.9, "note": "x"}}


# Refusals


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"type": "custom", "name": "mine"}, r"layer 1 .'mine'. has type 'custom', .*bnorm, conv"),
        ({"name": "mine"}, "has type None"),
        ({"type": "pool"}, r"layer 1 .'layer1'., type 'pool', lacks pool"),
        ({"type": "conv"}, "lacks weights"),
        ({"type": "conv", "weights": [None, np.ones(2)]}, "lacks weights"),
        ({"type": "conv", "weights": [np.ones((1, 1, 1, 1))] * 3}, "at most 2 weights"),
        ({"type": "relu", "leak": 7}, r"layer 1 .'layer1'., type 'relu': leak must lie"),
        ({"type": "pool", "pool": [np.inf, 2]}, r"layer 1 .'layer1'., type 'pool': .*infinity"),
    ],
)
def test_a_layer_that_cannot_be_converted_is_refused_by_name(fields, words):
    with pytest.raises(DagNNError, match=words):
        from_simple_nn([fields])


def test_a_layer_that_is_not_registered_is_refused_by_the_registry(monkeypatch):
    monkeypatch.delitem(dagnet.layer._REGISTRY, "dagnn.ReLU")
    with pytest.raises(DagNNError, match=r"no layer type 'dagnn.ReLU' is registered"):
        from_simple_nn([{"type": "relu"}])


# Files


def matlab_conv(rng, name, shape, **fields):
    filters = rng.standard_normal(shape).astype(np.float32)
    biases = rng.standard_normal((1, filters.shape[-1] if filters.ndim == 4 else 1))
    return {"type": "conv", "name": name, "weights": [filters, biases.astype(np.float32)], **fields}


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("inside", [False, True])
def test_a_file_is_read_with_the_network_at_top_level_or_inside_net(tmp_path, rng, version, inside):
    content = {
        "layers": Cell(
            [
                matlab_conv(
                    rng,
                    "conv1",
                    (3, 2, 5, 4),
                    pad=row(1, 1, 0, 1),
                    stride=number(2),
                    learningRate=row(1, 2),
                    weightDecay=row(1, 0),
                    opts=[],
                ),
                {"type": "relu", "name": "relu1", "weights": [], "precious": np.array([[True]])},
                {"type": "pool", "name": "pool1", "method": "avg", "pool": row(2, 1)},
                # One filter of one channel: MATLAB leaves no more than a matrix.
                matlab_conv(rng, "conv2", (1, 1, 4), dilate=number(1)),
            ]
        ),
        "meta": {"inputs": {"name": "data", "size": row(9, 9, 5, 1)}},
    }
    path = tmp_path / "net.mat"
    WRITERS[version](path, {"net": content} if inside else content)
    net = load_without_warning(path)
    assert [r.type for r in net.layers] == [
        "dagnn.Conv",
        "dagnn.ReLU",
        "dagnn.Pooling",
        "dagnn.Conv",
    ]
    conv1, _, pool1, conv2 = (r.block for r in net.layers)
    assert (conv1.size, conv1.pad, conv1.stride) == ((4, 5, 3, 2), (1, 1, 0, 1), (2, 2))
    assert (pool1.method, pool1.pool_size) == ("avg", (2, 1))
    assert conv2.size == (1, 4, 1, 1)
    filters = content["layers"][0]["weights"][0]
    for h, w, i, o in np.ndindex(filters.shape):
        assert net.get_param("conv1f").value[o, i, h, w] == filters[h, w, i, o]
    assert net.get_param("conv1b").value.shape == (4,)
    assert net.get_param("conv1b").learning_rate == 2
    assert net.get_var("x2").precious
    assert net.meta["inputs"]["name"] == "x0"


def test_an_older_file_gets_the_meta_of_a_newer_one(tmp_path, rng):
    path = tmp_path / "net.mat"
    filters, biases = matlab_conv(rng, "conv1", (3, 3, 1, 2))["weights"]
    write_mat73(
        path,
        {
            "layers": Cell(
                [{"type": "conv", "name": "conv1", "filters": filters, "biases": biases}]
            ),
            "classes": {"name": ["a", "b"]},
            "normalization": {"imageSize": row(224, 200, 3), "border": row(32, 50)},
        },
    )
    net = load_without_warning(path)
    assert net.meta["classes"] == {"name": ["a", "b"]}
    normalization = net.meta["normalization"]
    assert normalization["cropSize"].tolist() == [[224 / 256, 200 / 250]]
    assert [p.name for p in net.params] == ["conv1f", "conv1b"]


@pytest.mark.parametrize(
    "entries, words",
    [
        (["conv", "relu"], "layer 1: expected a struct with a type, found char 'conv'"),
        ([{"name": "a"}], "layer 1: expected a struct with a type, found struct with fields name"),
        ([{"type": "conv", "weights": ["a", "b"]}], "layer 1, weights: expected arrays"),
        ([{"type": "mystery"}], "type 'mystery', which has no counterpart"),
        (number(3), "expected a cell of structs"),
    ],
)
def test_a_file_with_something_else_in_layers_is_refused(tmp_path, entries, words):
    path = tmp_path / "net.mat"
    write_mat73(path, {"net": {"layers": entries, "meta": {"a": "b"}}})
    with pytest.raises(MatFileError, match=words) as error:
        load_network(path)
    assert str(path) in str(error.value)


def test_a_training_file_keeps_its_state(tmp_path, rng):
    path = tmp_path / "net.mat"
    momentum = np.ones((3, 3, 1, 2))
    write_mat73(
        path,
        {
            "net": {"layers": Cell([matlab_conv(rng, "conv1", (3, 3, 1, 2))]), "meta": {"a": "b"}},
            "state": {"solverState": [[momentum, number(0)]]},
            "stats": {"train": {"objective": number(2)}},
        },
    )
    net, state, stats = load_training(path)
    assert isinstance(net, DagNN)
    assert np.array_equal(state["solverState"][0][0], momentum)
    assert stats == {"train": [{"objective": 2.0}]}


# The goldens


@golden("simplenn_probe")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["new", "old"])
def test_the_network_computes_what_the_original_computes(case, form, version):
    """Up to the normalisation; behind it within the original's approximate powers, and exactly
    from the original's own x6 on."""
    path = GOLDENS / f"simplenn_{form}_{version}.mat"
    load_without_warning(path)
    found = {c.what: c for c in assert_passes(case).comparisons if path.name in c.what}
    names = ["variables", "parameters", *(f"x{i}" for i in range(1, 9))]
    expected = [*names, "x7 from x6", "x8 from x6"]
    assert list(found) == [f"{name} ({path.name})" for name in expected]
    bounds = {what.split(" (")[0]: c.allowed for what, c in found.items()}
    assert all(bounds[f"x{i}"] == SINGLE for i in range(1, 6))
    assert bounds["x7 from x6"] == bounds["x8 from x6"] == SINGLE


@golden("simplenn_probe")
def test_the_last_variable_is_what_the_original_s_own_dagnn_had(case):
    assert [c.what for c in assert_passes(case).comparisons][-1] == "dag_last"
    assert np.array_equal(case.tensor("dag_last"), case.tensor("x8"))


@pytest.mark.golden
def test_the_mini_vgg19_is_imported():
    path = GOLDENS / "track_vggmini_net.mat"
    if not path.is_file():
        pytest.skip("golden files not found")
    net = load_without_warning(path)
    assert len(net.layers) == 37
    assert net.get_var_sizes({"x0": (1, 3, 224, 224)})["x37"][2:] == (7, 7)
    assert layers.Conv is type(net.layers[0].block)
