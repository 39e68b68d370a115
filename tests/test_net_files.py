"""Tests of DagNN.save, load and copy."""

import json

import numpy as np
import pytest

import layers
from dagnet import CheckpointError, DagNN, DagNNError, load_checkpoint, registered_layers
from dagnet.storage import load_tree, save_tree
from toy_layers import Times, array

WEIGHTS = np.array([[0.25, 0.5], [0.0, 0.25]])
MASK = np.arange(6.0).reshape(1, 1, 2, 3)

# One or more blocks of each type, with settings that are not the defaults, and how many inputs,
# outputs and parameters it is given.
BLOCKS = {
    "conv": (layers.Conv(size=(4, 2, 3, 5), pad=(0, 1, 2, 3), stride=2, dilate=(1, 2)), 1, 1, 2),
    "conv without bias": (layers.Conv(size=(4, 2, 3, 5), has_bias=False, opts=("cuDNN",)), 1, 1, 1),
    "pooling": (
        layers.Pooling(pool_size=(3, 2), method="avg", stride=2, pad=(0, 1, 0, 1)),
        1,
        1,
        0,
    ),
    "batch norm": (layers.BatchNorm(num_channels=8, epsilon=1e-4, moments="stored"), 1, 1, 3),
    "batch norm of unknown size": (layers.BatchNorm(), 1, 1, 3),
    "relu": (layers.ReLU(leak=0.125, use_short_circuit=False), 1, 1, 0),
    "lrn": (layers.LRN(param=(3, 2, 1e-3, 0.5)), 1, 1, 0),
    "softmax": (layers.SoftMax(), 1, 1, 0),
    "loss of weighted cells": (
        layers.Loss(loss="logistic", instance_weights=WEIGHTS, opts=("normalise", False)),
        2,
        1,
        0,
    ),
    "balanced loss": (layers.Loss(loss="logistic", instance_weights="balanced"), 2, 1, 0),
    "center error": (layers.CenterThresholdError(radius_in_pixel=40, total_stride=4), 3, 1, 0),
    "max score error": (layers.MaxScoreError(ignore_average=True), 2, 1, 0),
    "xcorr": (layers.XCorr(expect=[[17, 17]]), 2, 1, 0),
    "rlr": (layers.RLR(window="none", lambda_scale="1", sum_channels=True), 2, 2, 1),
    "cir conv": (layers.CirConv(enable=False, is_rep=True), 2, 1, 1),
    "eltwise with a constant": (layers.Eltwise(operation="prod", constant=MASK), 1, 1, 0),
    "eltwise of two": (layers.Eltwise(operation="max"), 2, 1, 0),
    "elefusion": (layers.Elefusion(num_maps=3), 3, 1, 2),
    "crop": (layers.Crop(size=31, side="exemplar", mode="soft", temperature=0.5), 5, 2, 0),
    "norm offset": (layers.NormOffset(param=(0.25, 0.75)), 1, 1, 0),
    "spatial norm": (layers.SpatialNorm(param=(3, 2, 0.5, 0.75)), 1, 1, 0),
    "normalisation by a norm": (layers.NormalizeLp(p=4, dimensions=(0, 2)), 1, 1, 0),
    "distance": (layers.PDist(p=3, no_root=True, instance_weights=WEIGHTS), 2, 1, 0),
    "roi pooling": (
        layers.ROIPooling(method="avg", subdivisions=2, transform=[[0, 1, 0], [1, 0, 0]]),
        2,
        1,
        0,
    ),
    "affine grid": (layers.AffineGridGenerator(ho=3, wo=4), 1, 1, 0),
    "scaling grid": (layers.UniformScalingGridGenerator(ho=3, wo=4), 1, 1, 0),
}


def net_of(*names):
    """A network with these blocks in a row, each with variables and parameters of its own."""
    net = DagNN()
    for i, name in enumerate(names):
        block, inputs, outputs, params = BLOCKS[name]
        net.add_layer(
            f"layer{i}",
            block,
            [f"in{i}_{k}" for k in range(inputs)],
            [f"out{i}_{k}" for k in range(outputs)],
            [f"param{i}_{k}" for k in range(params)],
        )
    return net


def small_net():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "w")
    net.add_layer("loss", layers.Loss(loss="logistic", instance_weights=WEIGHTS), ["z", "c"], "l")
    net.get_param("w").value = array(3.0)
    net.meta = {"inputs": [{"name": "x", "mean": np.ones(3)}], "classes": ("cat", "dog")}
    return net


def saved_and_loaded(net, folder):
    net.save(folder / "net.npz")
    return DagNN.load(folder / "net.npz")


def structure(net):
    return (
        [(r.name, r.type, r.inputs, r.outputs, r.params) for r in net.layers],
        [(v.name, v.fanin, v.fanout, v.precious) for v in net.vars],
        [(p.name, p.fanout, p.train_method, p.learning_rate, p.weight_decay) for p in net.params],
        net.get_layer_execution_order(),
    )


def test_every_layer_of_the_package_is_tried_here():
    known = {name for name, cls in registered_layers().items() if cls.__module__[:7] == "layers."}
    missing = known - {block.type_name for block, *_ in BLOCKS.values()}
    # A layer without settings or with plain numbers needs no case of its own.
    for name in missing:
        settings = registered_layers()[name]().save().values()
        assert not any(isinstance(value, np.ndarray) for value in settings), name


@pytest.mark.parametrize("carry", [saved_and_loaded, lambda net, _: net.copy()])
@pytest.mark.parametrize("name", BLOCKS)
def test_settings_of_every_layer_are_kept(name, carry, tmp_path):
    net = net_of(name)
    found = carry(net, tmp_path)
    assert structure(found) == structure(net)
    before, after = net.layers[0].block.save(), found.layers[0].block.save()
    assert type(found.layers[0].block) is type(net.layers[0].block)
    assert list(before) == list(after)
    for setting, value in before.items():
        assert type(after[setting]) is type(value), setting
        if isinstance(value, np.ndarray):
            assert value.dtype == after[setting].dtype and np.array_equal(value, after[setting])
            assert not np.shares_memory(value, after[setting])
        else:
            assert after[setting] == value, setting


@pytest.mark.parametrize("carry", [saved_and_loaded, lambda net, _: net.copy()])
def test_parameters_precious_variables_and_meta_are_kept(carry, tmp_path):
    net = net_of("batch norm", "conv")
    for i, parameter in enumerate(net.params):
        parameter.value = np.arange(i, i + 6, dtype=(np.float32, np.float64)[i % 2]).reshape(2, 3)
        parameter.learning_rate, parameter.weight_decay = 0.5 * i, 2.0 * i
        parameter.train_method = "average" if i == 2 else "gradient"
    net.params[3].value = None
    net.params[4].value = np.float32([[1, 2], [3, 4]]).T
    net.get_var("out0_0").precious = True
    net.meta = {"normalization": {"average": np.zeros((1, 1, 3)), "note": "rgb"}, "t": (1, None)}
    found = carry(net, tmp_path)
    assert structure(found) == structure(net)
    for before, after in zip(net.params, found.params):
        if before.value is None:
            assert after.value is None
        else:
            assert before.value.dtype == after.value.dtype
            assert np.array_equal(before.value, after.value)
            assert after.value.flags.c_contiguous
    assert found.meta["t"] == (1, None) and found.meta["normalization"]["note"] == "rgb"
    assert found.meta["normalization"]["average"].shape == (1, 1, 3)


def test_a_loaded_network_computes_the_same_bits(rng, tmp_path):
    net = DagNN()
    net.add_layer("conv", layers.Conv(size=(4, 3, 3, 3)), "x", "y", ["f", "b"])
    net.add_layer("norm", layers.BatchNorm(num_channels=4), "y", "z", ["m", "n", "s"])
    net.init_params(1)
    x = rng.standard_normal((2, 3, 7, 6)).astype(np.float32)
    net.eval({"x": x})
    for other in (net.copy(), saved_and_loaded(net, tmp_path)):
        other.eval({"x": x})
        assert np.array_equal(other.get_var("z").value, net.get_var("z").value)


def test_running_values_are_not_saved(tmp_path):
    net = small_net()
    net.conserve_memory = False
    net.mode = "test"
    given = {"x": np.ones((1, 1, 2, 2)), "c": np.ones((1, 1, 2, 2))}
    net.eval(given, {"l": 1})
    assert net.get_layer("loss").block.average > 0
    for found in (net.copy(), saved_and_loaded(net, tmp_path)):
        assert all(v.value is None and v.der is None for v in found.vars)
        assert found.get_param("w").der is None
        assert found.get_layer("loss").block.average == 0
        assert (found.mode, found.conserve_memory, found.device) == ("normal", True, "cpu")


def test_a_copy_shares_nothing_with_its_original():
    net = small_net()
    other = net.copy()
    other.get_param("w").value[0] = 7
    other.get_layer("loss").block.instance_weights[0, 0] = 9
    other.meta["inputs"][0]["mean"][0] = 5
    other.meta["inputs"][0]["name"] = "renamed"
    other.get_layer("a").inputs[0] = "elsewhere"
    other.rebuild()
    other.add_layer("c", Times(), "l", "m", "w2")
    other.remove_layer("b")
    assert net.get_param("w").value == 3
    assert net.get_layer("loss").block.instance_weights[0, 0] == 0.25
    assert net.meta["inputs"][0]["mean"][0] == 1 and net.meta["inputs"][0]["name"] == "x"
    assert [r.name for r in net.layers] == ["a", "b", "loss"]
    assert net.get_layer("a").inputs == ["x"]
    blocks = {id(r.block) for r in net.layers}
    assert blocks.isdisjoint(id(r.block) for r in other.layers)


def test_a_network_built_from_containers_does_not_share_their_arrays():
    content = small_net().to_dict()
    net = DagNN.from_dict(content)
    content["params"][0]["value"][0] = 7
    content["layers"][2]["block"]["instance_weights"][0, 0] = 9
    content["meta"]["inputs"][0]["mean"][0] = 5
    assert net.get_param("w").value == 3
    assert net.get_layer("loss").block.instance_weights[0, 0] == 0.25
    assert net.meta["inputs"][0]["mean"][0] == 1


def test_an_empty_network_is_saved_and_loaded(tmp_path):
    found = saved_and_loaded(DagNN(), tmp_path)
    assert (found.layers, found.vars, found.params, found.meta) == ([], [], [], {})


def test_an_object_in_meta_is_refused_with_its_place(tmp_path):
    net = small_net()
    net.meta["loader"] = print
    with pytest.raises(TypeError, match=r"tree\.net\.meta\.loader: cannot save an object of type"):
        net.save(tmp_path / "net.npz")
    assert not (tmp_path / "net.npz").exists()


def changed(folder, change):
    """The file of a small network with something changed in its tree."""
    path = folder / "net.npz"
    small_net().save(path)
    tree = load_tree(path)
    change(tree)
    save_tree(path, tree)
    return path


def test_a_file_of_a_later_version_is_refused(tmp_path):
    path = changed(tmp_path, lambda tree: tree.update(version=2))
    with pytest.raises(CheckpointError, match=r"net\.npz: written by a later version \(format 2"):
        DagNN.load(path)


@pytest.mark.parametrize("version", [None, "1", 1.5])
def test_a_file_without_a_version_is_refused(version, tmp_path):
    path = changed(tmp_path, lambda tree: tree.update(version=version))
    with pytest.raises(CheckpointError, match=r"net\.npz: expected a file of format dagnet"):
        DagNN.load(path)


def test_a_network_is_no_checkpoint_and_a_list_is_neither(tmp_path):
    path = tmp_path / "net.npz"
    small_net().save(path)
    with pytest.raises(CheckpointError, match=r"format dagnet\.checkpoint, found dagnet\.DagNN"):
        load_checkpoint(path)
    save_tree(path, [1, 2])
    with pytest.raises(CheckpointError, match=r"format dagnet\.DagNN or .* found None"):
        DagNN.load(path)


def test_a_layer_that_is_not_registered_is_named(tmp_path):
    path = changed(tmp_path, lambda tree: tree["net"]["layers"][1].update(type="dagnn.Convolve"))
    with pytest.raises(DagNNError, match=r"layer 'b' \(dagnn\.Convolve\): no layer type .* known"):
        DagNN.load(path)


def test_a_setting_that_the_layer_does_not_know_is_named(tmp_path):
    path = changed(tmp_path, lambda tree: tree["net"]["layers"][0]["block"].update(depth=3))
    with pytest.raises(DagNNError, match=r"layer 'a' \(test\.Times\): .*'depth'"):
        DagNN.load(path)


def test_the_file_is_an_archive_that_other_tools_read(tmp_path):
    small_net().save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:
        tree = json.loads(str(archive["tree"]))
        arrays = [archive[name] for name in archive.files if name != "tree"]
    assert tree["dict"]["format"] == "dagnet.DagNN" and tree["dict"]["version"] == 1
    assert any(np.array_equal(a, WEIGHTS) for a in arrays)
