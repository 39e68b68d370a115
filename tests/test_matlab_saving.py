"""Tests of writing networks as MatConvNet's .mat files."""

import numpy as np
import pytest
import scipy.io

from dagnet import DagNN, layer_class
from dsiam_net.branches import siamfc_branch
from dsiam_net.siamfc import make_siamfc
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from golden import GOLDENS, SHARED
from layers import Conv, Eltwise, Loss, Pooling, ReLU
from mat_compare import assert_same_mat
from mat_networks import number, small_network, training_file
from mat_writers import WRITERS, write_mat5
from matlab_import import (
    MatFileError,
    load_network,
    load_training,
    read_mat,
    save_network,
    save_simplenn,
)
from matlab_import.values import Cell
from tiny import CHANNELS

VERSIONS = {"v6": "6", "v7": "7", "v73": "7.3"}
FILES = {
    "net_siamfc_small": save_network,
    "simplenn_old": save_simplenn,
    "simplenn_new": save_simplenn,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.mat"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.mat"


def assert_same(found, expected, where="net"):
    """The same containers, and arrays of the same shape and dtype with the same values."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_same(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected) and len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), where
        assert np.array_equal(found, expected), where
    else:
        assert found == expected, where


def content(net):
    """What a network holds, without the notes on its file."""
    found = net.to_dict()
    return {**found, "meta": {k: v for k, v in found["meta"].items() if k != "matlab"}}


# Files of the original code


def golden(name):
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip("golden files not found")
    return path


@pytest.mark.golden
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_load_and_save_give_the_original_file_field_by_field(file, version, out):
    original = golden(f"{file}_{version}.mat")
    net, state, stats = load_training(original)
    FILES[file](net, out, VERSIONS[version], state=state, stats=stats)
    assert_same_mat(out, original)


@pytest.mark.golden
def test_a_simplenn_of_37_layers_is_written_as_it_was(out):
    original = golden("track_vggmini_net.mat")
    save_simplenn(load_network(original), out)
    assert_same_mat(out, original)


@pytest.mark.golden
def test_the_development_network_is_written_as_it_was(out):
    original = SHARED / "weights" / "siamfc_dev.mat"
    if not original.is_file():
        pytest.skip("the trained network was not found")
    save_network(load_network(original), out, "6")
    assert_same_mat(out, original)


@pytest.mark.golden
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_load_save_load_gives_the_same_network_in_every_version(file, version, out):
    net, state, stats = load_training(golden(f"{file}_v7.mat"))
    FILES[file](net, out, VERSIONS[version], state=state, stats=stats)
    again = load_training(out)
    assert_same(again.net.to_dict(), net.to_dict())
    assert_same(again.stats, stats)
    assert_same(again.state, state)


@pytest.mark.golden
def test_weights_of_single_arrays_fill_a_network_that_survives(out):
    arrays = scipy.io.loadmat(golden("track_net_weights.mat"), mat_dtype=True)
    for name in [n for n in arrays if n.endswith("_q")]:
        scale = arrays[name.replace("_q", "_scale")].astype(np.float32)
        arrays[name.removesuffix("_q")] = arrays[name].astype(np.float32) * scale
    net = make_siamfc(siamfc_branch())
    net.init_params(0)
    for parameter in net.params:
        array = arrays[parameter.name]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        parameter.value = array.reshape(parameter.value.shape).astype(np.float32)
    save_network(net, out, "6")
    for entry in read_mat(out)["net"]["params"]:
        wanted = arrays[entry["name"]]
        assert entry["value"].shape == wanted.shape and entry["value"].dtype == np.float32
        assert np.array_equal(entry["value"], wanted)
    assert_same(content(load_network(out)), content(net))


@pytest.mark.golden
def test_notes_on_a_file_survive_the_native_format(tmp_path, out):
    original = golden("simplenn_old_v7.mat")
    native = tmp_path / "net.npz"
    load_network(original).save(native)
    save_simplenn(DagNN.load(native), out)
    assert_same_mat(out, original)


# Small files


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rows_unknown_properties_and_unused_parameters_are_written_back(path, out, rng, version):
    network = small_network(rng)
    network["layers"][2]["block"]["colour"] = "red"
    network["author"] = "somebody"
    network["params"].append({**network["params"][0], "name": "old"})
    for entry in network["params"]:
        entry["trainMethod"] = "average" if entry["name"] == "bx" else "gradient"
        entry["fanout"] = number(entry["name"] != "old")
    WRITERS[version](path, training_file(network))
    net, state, stats = load_training(path)
    save_network(net, out, "7.3" if "7.3" in version else "7", state=state, stats=stats)
    assert_same(read_mat(out), read_mat(path))


def test_what_was_changed_is_written_and_the_rest_keeps_its_form(path, out, rng):
    write_mat5(path, {"net": small_network(rng)})
    net = load_network(path)
    net.get_param("bb").value = net.get_param("bb").value + 1  # a row in the file
    net.get_layer("c2").block.stride = (2, 2)  # one number in the file, as pad is
    net.get_layer("pool").block.method = "avg"
    net.get_param("c1f").learning_rate = 0.5
    save_network(net, out)
    found = read_mat(out)["net"]
    params = {p["name"]: p for p in found["params"]}
    blocks = {entry["name"]: entry["block"] for entry in found["layers"]}
    assert params["bb"]["value"].shape == (1, 4)
    assert np.array_equal(params["bb"]["value"].ravel(), net.get_param("bb").value)
    assert params["c1f"]["learningRate"].item() == 0.5
    assert blocks["c2"]["stride"].tolist() == [[2, 2]] and blocks["c2"]["pad"].tolist() == [[0]]
    assert blocks["pool"]["method"] == "avg"
    again = load_network(out)
    assert_same(content(again), content(net))


def test_layers_can_be_added_removed_and_renamed_between_load_and_save(path, out, rng):
    write_mat5(path, {"net": small_network(rng)})
    net = load_network(path)
    net.remove_layer("c2")
    net.rename_param("bm", "scale")
    net.add_layer("relu2", ReLU(leak=0.1), "x4", "y")
    save_network(net, out)
    found = read_mat(out)["net"]
    assert [entry["name"] for entry in found["layers"]] == ["c1", "bn", "relu", "pool", "relu2"]
    assert list(found["layers"][4]["block"]) == ["useShortCircuit", "leak", "opts"]
    assert_same(content(load_network(out)), content(net))


def test_types_of_a_struct_array_and_sizes_are_matlabs(out):
    net = DagNN()
    net.add_layer("c", Conv(size=(1, 1, 1, 1)), "x", "y", ["f", "b"])
    net.add_layer("l", Loss(loss="logistic", instance_weights=np.ones((5, 3))), ["y", "t"], "o")
    net.get_param("f").value = np.ones((1, 1, 1, 1))
    net.get_param("b").value = np.array([2.0], np.float32)
    net.get_var("y").precious = True
    save_network(net, out)
    found = scipy.io.loadmat(out, mat_dtype=True)["net"][0, 0]
    assert found["layers"].shape == (1, 2) and found["vars"].shape == (1, 4)
    assert found["layers"].dtype.names == ("name", "type", "inputs", "outputs", "params", "block")
    assert found["params"].dtype.names == ("name", "value", "learningRate", "weightDecay")
    conv, loss = found["layers"][0]
    assert conv["type"][0] == "dagnn.Conv" and conv["params"].shape == (1, 2)
    assert conv["inputs"].dtype == object and conv["inputs"][0, 0][0] == "x"
    assert loss["params"].shape == (0, 0) and loss["params"].dtype == object
    block = conv["block"][0, 0]
    assert block.dtype.names == ("size", "hasBias", "opts", "pad", "stride", "dilate")
    assert block["size"].tolist() == [[1, 1, 1, 1]] and block["size"].dtype == float
    assert block["hasBias"].dtype == bool and block["hasBias"].shape == (1, 1)
    assert block["opts"].shape == (0, 0) and block["opts"].dtype == object
    weights = loss["block"][0, 0]["opts"]
    assert weights.shape == (1, 2) and weights[0, 0][0] == "instanceWeights"
    assert weights[0, 1].shape == (5, 3)
    f, b = found["params"][0]
    assert (f["value"].shape, f["value"].dtype) == ((1, 1), np.float64)
    assert (b["value"].shape, b["value"].dtype) == ((1, 1), np.float32)
    assert found["vars"][0, 1]["precious"].item() is True
    assert found["meta"].shape == (0, 0)


def test_filters_and_their_momenta_have_matlabs_axes(out, rng):
    net = DagNN()
    net.add_layer("c", Conv(size=(4, 3, 2, 5)), "x", "y", ["f", "b"])
    net.init_params(0)
    f = net.get_param("f").value
    momentum = rng.standard_normal(f.shape).astype(np.float32)
    adam = {"m": momentum[:, 0, 0, 0], "v": momentum[:, 1, 0, 0], "t": 3}
    save_network(net, out, state={"solver_state": {"f": momentum, "b": adam}})
    found = read_mat(out)
    value, state = found["net"]["params"][0]["value"], found["state"]["solverState"]
    assert value.shape == state[0].shape == (2, 5, 3, 4)
    for i in np.ndindex(4, 3, 2, 5):
        assert value[i[2], i[3], i[1], i[0]] == f[i]
        assert state[0][i[2], i[3], i[1], i[0]] == momentum[i]
    assert state[1]["m"].shape == (4, 1) and state[1]["t"].tolist() == [[3.0]]
    (first, second) = load_training(out).state["solver_state"]
    assert np.array_equal(first, momentum) and np.array_equal(second["v"], adam["v"])


def test_a_parameter_without_state_has_zero_as_in_matlab(out):
    net = DagNN()
    net.add_layer("c", Conv(size=(1, 1, 1, 1)), "x", "y", ["f", "b"])
    net.init_params(0)
    save_network(net, out, state={"solver_state": {}}, stats={"train": [], "val": []})
    found = read_mat(out)
    assert [s.tolist() for s in found["state"]["solverState"]] == [[[0.0]], [[0.0]]]
    assert load_training(out).state["solver_state"] == [None, None]


@pytest.mark.parametrize("version", VERSIONS.values())
def test_the_unrolled_network_comes_back_with_its_settings(out, version):
    net = build_unrolled(siamfc_branch(CHANNELS), UnrolledSettings(frames=2))
    net.init_params(0)
    save_network(net, out, version)
    again = load_network(out)
    assert len(again.layers) == 188
    assert "matlab" not in again.meta  # written as MATLAB would, all that was read is understood
    assert_same(again.to_dict(), net.to_dict())
    assert type(again.meta["unrolled"]["frames"]) is int
    types = {entry["type"] for entry in read_mat(out)["net"]["layers"]}
    assert {"Mul", "Sum_w", "CirConv", "XCorr", "centerThrErr", "MaxScoreErr", "Crop"} <= types


# A setting away from its default, for types with settings.
SETTINGS = {
    "dagnn.Conv": {"size": (4, 3, 2, 5), "has_bias": False, "pad": (1, 2, 3, 4), "stride": (2, 3),
                   "dilate": (2, 1), "opts": ("CudnnWorkspaceLimit", 1073741824)},
    "dagnn.ConvTranspose": {"size": (4, 3, 2, 5), "upsample": (2, 3), "crop": (1, 0, 1, 0),
                            "num_groups": 2},
    "dagnn.BatchNorm": {"num_channels": 7, "epsilon": 1e-4},
    "dagnn.Pooling": {"pool_size": (3, 2), "method": "avg", "pad": (1, 0, 1, 0), "stride": (2, 1)},
    "dagnn.ReLU": {"leak": 0.25},
    "dagnn.LRN": {"param": (3, 1.0, 0.5, 0.75)},
    "dagnn.Loss": {"loss": "topkerror", "top_k": 3, "instance_weights": np.ones((2, 1, 4, 3)),
                   "opts": ("normalise", False)},
    "dagnn.Concat": {"dim": 2},
    "dagnn.DropOut": {"rate": 0.25, "frozen": True},
    "dagnn.Scale": {"size": (1, 6, 1, 1), "has_bias": False},
    "dagnn.NormOffset": {"param": (2.0, 0.25)},
    "dagnn.SpatialNorm": {"param": (3, 3, 5.0, 1.5)},
    "dagnn.PDist": {"p": 1, "aggregate": False, "no_root": True, "epsilon": 1e-4},
    "dagnn.ROIPooling": {"method": "avg", "subdivisions": (3, 4), "flatten": True},
    "dagnn.AffineGridGenerator": {"ho": 5, "wo": 7},
    "dagnn.UniformScalingGridGenerator": {"ho": 5, "wo": 7},
    "dagnn.Crop": {"crop": (1, 2)},
    "dagnn.Sum": {},
    "dagnn.Sigmoid": {},
    "dagnn.SoftMax": {},
    "dagnn.BilinearSampler": {},
    "CropMargin": {"margin": 2},
    "MulConst": {},
    "CorrFilter": {"lambda_": 10.0, "window": "cos", "bias": False},
    "IOUErrorScore": {"stride": 4},
    "LogisticLoss": {"ignore_average": True},
    "centerThrErr": {"total_stride": 4},
    "XCorr": {"weight": np.ones((3, 4)), "bias": True},
    "CirConv": {"enable": False, "is_rep": True, "sum_channels": True},
    "Crop": {"size": 127, "side": "exemplar", "mode": "soft", "temperature": 0.5},
    "RLR": {"sum_channels": True},
    "Elefusion": {"num_maps": 3},
    "Eltwise": {"operation": "max"},
}  # fmt: skip


def block_of(kind, settings):
    try:
        return layer_class(kind)(**settings)
    except ValueError as exc:
        pytest.fail(f"{kind}: {exc}")


def one_layer(block):
    """A network of one layer, wired with as many variables and parameters as it needs."""
    inputs = [f"x{i}" for i in range(max(block.num_inputs[0], getattr(block, "num_maps", 1)))]
    params = [f"p{i}" for i in range(block.num_params[0])]
    outputs = [f"y{i}" for i in range(block.num_outputs[0])]
    net = DagNN()
    net.add_layer("layer", block, inputs, outputs, params)
    return net


@pytest.mark.parametrize("changed", (False, True), ids=("defaults", "settings"))
@pytest.mark.parametrize("kind", SETTINGS)
def test_every_layer_comes_back_with_its_settings(kind, changed, out):
    net = one_layer(block_of(kind, SETTINGS[kind] if changed else {}))
    save_network(net, out)
    again = load_network(out)
    found, expected = again.layers[0].block.save(), net.layers[0].block.save()
    assert again.layers[0].type == kind
    assert_same(found, {n: v for n, v in expected.items()}, kind)


def test_the_mask_of_the_background_is_the_public_codes_mul(out, rng):
    mask = rng.uniform(size=(3, 7, 5)).astype(np.float32)
    net = one_layer(Eltwise(constant=mask))
    save_network(net, out)
    entry = read_mat(out)["net"]["layers"]
    assert entry["type"] == "Mul" and list(entry["block"]) == ["saliencywindow"]
    assert np.array_equal(entry["block"]["saliencywindow"], mask.transpose(1, 2, 0))
    assert np.array_equal(load_network(out).layers[0].block.constant, mask)


def test_a_setting_that_the_originals_class_lacks_is_written_with_a_warning(out):
    net = one_layer(layer_class("CirConv")(window="none"))
    with pytest.warns(UserWarning, match=r"'layer'.*CirConv has no property for window"):
        save_network(net, out)
    assert load_network(out).layers[0].block.window == "none"


def test_meta_keeps_pythons_types(out):
    net = one_layer(ReLU())
    net.meta = {
        "inputs": [{"name": "x", "size": (127, 127, 3)}],
        "none": None,
        "number": np.float32(0.5),
        "mixed": [1, 2.5, True, "text", ()],
        "array": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "nested": {"flag": False, "list": [{"a": 1}, {"a": 2}]},
    }
    save_network(net, out)
    found = load_network(out).meta
    assert_same(found, net.meta)
    assert type(found["mixed"][0]) is int and type(found["number"]) is np.float32
    # What was changed in MATLAB wins over what it was in Python.
    content = read_mat(out)
    content["net"]["meta"]["none"] = "something"
    write_mat5(out, content)
    assert load_network(out).meta["none"] == "something"


@pytest.mark.filterwarnings("ignore:meta.*2nd:UserWarning")
def test_a_key_that_is_no_name_in_matlab_is_changed_with_a_warning(out):
    net = one_layer(ReLU())
    net.meta = {"per cent": 1, "2nd": "x"}
    with pytest.warns(UserWarning, match="'per cent' cannot be the name of a field"):
        save_network(net, out)
    assert list(read_mat(out)["net"]["meta"])[:2] == ["per_cent", "x2nd"]
    assert load_network(out).meta == net.meta


# SimpleNN


def chain():
    net = DagNN()
    net.add_layer(
        "conv1", Conv(size=(4, 3, 3, 3), pad=(1, 1, 1, 1)), "x0", "x1", ["conv1f", "conv1b"]
    )
    net.add_layer("bn1", layer_class("dagnn.BatchNorm")(num_channels=4), "x1", "x2",
                  ["bn1m", "bn1b", "bn1x"])  # fmt: skip
    net.add_layer("relu1", ReLU(), "x2", "x3")
    net.add_layer("pool1", Pooling(pool_size=(2, 2), stride=(2, 2)), "x3", "x4")
    net.add_layer("fc", Conv(size=(2, 4, 1, 1), has_bias=False), "x4", "x5", ["fcf"])
    net.add_layer("loss", Loss(), ["x5", "label"], "x6")
    net.init_params(0)
    return net


@pytest.mark.parametrize("version", VERSIONS.values())
def test_a_chain_is_written_as_a_simplenn_and_comes_back(out, version):
    net = chain()
    net.get_param("conv1f").learning_rate = 0.25
    net.get_var("x1").precious = True
    save_simplenn(net, out, version)
    raw = read_mat(out)
    assert isinstance(raw["layers"], Cell) and raw["layers"].shape == (1, 6)
    assert [entry["type"] for entry in raw["layers"]] == [
        *("conv", "bnorm", "relu", "pool", "conv", "softmaxloss")
    ]
    assert raw["layers"][0]["learningRate"].tolist() == [[0.25, 1.0]]
    assert raw["layers"][4]["weights"][1].shape == (0, 0)
    assert_same(content(load_network(out)), content(net))


def branched():
    net = chain()
    net.add_layer("other", ReLU(), "x1", "y")
    return net


def shared():
    net = chain()
    net.remove_layer("loss")
    net.add_layer("again", Conv(size=(2, 4, 1, 1), has_bias=False), "x5", "x6", ["fcf"])
    return net


def foreign():
    net = DagNN()
    net.add_layer("sum", layer_class("dagnn.Sum")(), ["a", "b"], "c")
    return net


def another_loss():
    net = DagNN()
    net.add_layer("loss", Loss(loss="logistic"), ["a", "b"], "c")
    return net


def weighted():
    net = DagNN()
    net.add_layer("loss", Loss(instance_weights=np.ones((3, 3))), ["a", "b"], "c")
    return net


@pytest.mark.parametrize(
    ("make", "words"),
    (
        (branched, "'other'.*reads 'x1', not 'x6'.*not a chain"),
        (shared, "'fc'.*use its parameter 'fcf'"),
        (foreign, "'sum'.*no layer like it"),
        (another_loss, "'loss'.*no layer like it"),
        (weighted, "'loss'.*no field for instance_weights"),
    ),
)
def test_what_is_no_chain_is_refused(make, words, out):
    with pytest.raises(MatFileError, match=words):
        save_simplenn(make(), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    (
        (lambda net: net.meta.update(f=print), r"meta\.f: a builtin_function"),
        (lambda net: setattr(net.get_param("fcf"), "value", np.zeros((1,) * 5)), "'fcf': expected"),
    ),
)
def test_what_a_file_cannot_hold_is_named(change, words, out):
    net = chain()
    change(net)
    with pytest.raises(MatFileError, match=words):
        save_network(net, out)
