"""Tests of matlab_import.siamfc_pth; those that need PyTorch skip without it."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from dagnet import DagNN, relative_error
from golden import GOLDENS, SINGLE
from matlab_import import MatFileError, load_siamfc_pth, siamfc_from_state_dict
from matlab_import.__main__ import main

CHANNELS = (12, 16, 24, 24, 16)
# kernel, stride, groups, pooled
STAGES = ((11, 2, 1, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 2, False), (3, 1, 2, False))
# Places of the convolutions where the network is one sequence.
SEQUENCE = (0, 4, 8, 11, 14)

without_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="PyTorch is installed"
)


def backbone(stage):
    return f"backbone.conv{stage + 1}.0.", f"backbone.conv{stage + 1}.1."


def one_sequence(name):
    return lambda stage: (f"{name}.{SEQUENCE[stage]}.", f"{name}.{SEQUENCE[stage] + 1}.")


# name of the layout -> prefixes of a stage's convolution and batch norm, and epsilon
LAYOUTS = {
    "backbone": (backbone, 1e-6),
    "feature": (one_sequence("feature"), 1e-6),
    "features": (one_sequence("features"), 1e-5),
}


def state_dict(rng, layout="backbone", channels=CHANNELS):
    """Arrays as a network of this layout has them, with all batch norms unlike the identity."""
    prefixes, _ = LAYOUTS[layout]
    arrays, before = {}, 3
    for stage, (out, (kernel, _, groups, _)) in enumerate(zip(channels, STAGES)):
        conv, norm = prefixes(stage)
        fan = before // groups * kernel**2
        arrays[conv + "weight"] = rng.standard_normal((out, before // groups, kernel, kernel))
        arrays[conv + "weight"] /= np.sqrt(fan)
        arrays[conv + "bias"] = rng.standard_normal(out)
        if stage < len(STAGES) - 1:
            arrays[norm + "weight"] = rng.uniform(0.5, 2, out)
            arrays[norm + "bias"] = rng.standard_normal(out)
            arrays[norm + "running_mean"] = rng.standard_normal(out)
            # Some as small as epsilon, so that a wrong one shows.
            arrays[norm + "running_var"] = rng.uniform(1e-6, 1e-4, out)
            arrays[norm + "num_batches_tracked"] = np.array(7)
        before = out
    return {name: value.astype(np.float32) for name, value in arrays.items()}


# The mapping


@pytest.mark.parametrize("layout", LAYOUTS)
def test_filters_biases_and_batch_norms_find_their_parameters(rng, layout):
    arrays = state_dict(rng, layout)
    prefixes, epsilon = LAYOUTS[layout]
    net = siamfc_from_state_dict(arrays)
    value = {p.name: p.value for p in net.params}
    for stage in range(5):
        conv, norm = prefixes(stage)
        assert np.array_equal(value[f"conv{stage + 1}f"], arrays[conv + "weight"])
        assert np.array_equal(value[f"conv{stage + 1}b"], arrays[conv + "bias"])
        if stage < 4:
            assert np.array_equal(value[f"bn{stage + 1}m"], arrays[norm + "weight"])
            assert np.array_equal(value[f"bn{stage + 1}b"], arrays[norm + "bias"])
            mean, sigma = value[f"bn{stage + 1}x"].T
            assert np.array_equal(mean, arrays[norm + "running_mean"])
            variance = arrays[norm + "running_var"].astype(np.float64) + epsilon
            assert relative_error(sigma, np.sqrt(variance)) < 1e-6
            assert net.get_layer(f"a_bn{stage + 1}").block.epsilon == epsilon
    assert value["adjust_f"].tolist() == [[[[np.float32(1e-3)]]]]
    assert value["adjust_b"].tolist() == [0]
    assert all(v.dtype == np.float32 for v in value.values())


def test_the_epsilon_can_be_given(rng):
    arrays = state_dict(rng)
    sigma = siamfc_from_state_dict(arrays, epsilon=1e-2).get_param("bn1x").value[:, 1]
    variance = arrays["backbone.conv1.1.running_var"]
    assert relative_error(sigma, np.sqrt(variance + np.float32(1e-2))) < 1e-6


def test_a_bias_of_the_correlation_is_the_adjustments(rng):
    arrays = {**state_dict(rng, "features"), "corr_bias": np.array([0.25])}
    assert siamfc_from_state_dict(arrays).get_param("adjust_b").value.tolist() == [0.25]


@pytest.mark.parametrize("prefix", ["module.", "net.", "module.net."])
def test_prefixes_of_wrapped_networks_are_dropped(rng, prefix):
    arrays = {prefix + name: value for name, value in state_dict(rng).items()}
    net = siamfc_from_state_dict(arrays)
    first = arrays[f"{prefix}backbone.conv1.0.weight"]
    assert np.array_equal(net.get_param("conv1f").value, first)


@pytest.mark.golden
def test_the_network_is_wired_as_the_original(rng):
    path = GOLDENS / "net_siamfc_small_layers.json"
    if not path.is_file():
        pytest.skip("golden files not found")
    net = siamfc_from_state_dict(state_dict(rng))
    listing = json.loads(path.read_text())
    assert len(net.layers) == len(listing) == 35
    for record, expected in zip(net.layers, listing):
        for field in ("name", "type", "inputs", "outputs", "params"):
            assert getattr(record, field) == expected[field], expected["name"]
        for field in ("pad", "stride", "dilate"):
            if field in expected["block"]:
                assert getattr(record.block, field) == tuple(expected["block"][field])
        if record.type == "dagnn.Conv":
            h, w, i, o = expected["block"]["size"]
            assert tuple(record.block.size) == (o, i, h, w)
    attributes = json.loads((GOLDENS / "siamfc_full_listing.json").read_text())
    assert [(p.name, p.learning_rate, p.weight_decay, p.train_method) for p in net.params] == [
        (p["name"], p["learningRate"], p["weightDecay"], p["trainMethod"])
        for p in attributes["instance255"]["params"]
    ]


def test_the_network_runs_and_is_saved(rng, tmp_path):
    net = siamfc_from_state_dict(state_dict(rng))
    net.mode = "test"
    images = {
        "exemplar": rng.uniform(0, 255, (1, 3, 127, 127)).astype(np.float32),
        "instance": rng.uniform(0, 255, (2, 3, 135, 143)).astype(np.float32),
    }
    net.eval(images)
    score = net.get_var("score").value
    assert score.shape == (2, 1, 2, 3)
    net.save(tmp_path / "net.npz")
    again = DagNN.load(tmp_path / "net.npz")
    again.mode = "test"
    again.eval(images)
    assert np.array_equal(again.get_var("score").value, score)


# Refusals


def drop(name):
    return lambda arrays: arrays.pop(name)


def put(name, *shape):
    return lambda arrays: arrays.update({name: np.ones(shape)})


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda arrays: arrays.clear(), "expected the state dict of a SiamFC network .*nothing"),
        (drop("backbone.conv3.0.bias"), "found no backbone.conv3.0.bias"),
        (drop("backbone.conv2.1.running_var"), "found no backbone.conv2.1.running_var"),
        (put("backbone.conv2.0.weight", 16, 12, 3, 3), "expected filters of 5 x 5"),
        (put("backbone.conv5.1.weight", 16), "batch norm after conv5 .*AlexNetV3"),
    ],
)
def test_a_state_dict_of_another_network_is_refused(rng, change, words):
    arrays = state_dict(rng)
    change(arrays)
    with pytest.raises(MatFileError, match=words):
        siamfc_from_state_dict(arrays)


def test_alexnet_v2_is_refused_because_its_stride_differs(rng):
    with pytest.raises(MatFileError, match="32 filters in conv5, as AlexNetV2"):
        siamfc_from_state_dict(state_dict(rng, channels=(96, 256, 384, 384, 32)))


@without_torch
def test_without_pytorch_the_error_says_how_to_get_it(tmp_path):
    path = tmp_path / "siamfc.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(MatFileError, match="needs PyTorch, which is not installed: pip install"):
        load_siamfc_pth(path)


def test_a_missing_file_is_an_os_error_with_pytorch_and_without(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_siamfc_pth(tmp_path / "none.pth")


def test_the_command_takes_pth_files_by_their_name_or_when_told(tmp_path, capsys, monkeypatch):
    read = []

    def refuse(path):
        read.append(path.name)
        raise MatFileError(f"{path}: enough")

    monkeypatch.setattr(sys.modules["matlab_import.__main__"], "load_siamfc_pth", refuse)
    for name, *flags in (["a.pth"], ["b.pth.tar"], ["c.weights", "--pth"]):
        assert main(["convert", str(tmp_path / name), str(tmp_path / "o.npz"), *flags]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert read == ["a.pth", "b.pth.tar", "c.weights"]


# With PyTorch


def torch_branch(torch, arrays, layout):
    """The branch as PyTorch's own layers compute it, in eval mode."""
    nn = torch.nn
    prefixes, epsilon = LAYOUTS[layout]
    modules, before = [], 3
    for stage, (out, (kernel, stride, groups, pooled)) in enumerate(zip(CHANNELS, STAGES)):
        conv, norm = prefixes(stage)
        layer = nn.Conv2d(before, out, kernel, stride, groups=groups)
        layer.load_state_dict(
            {name: torch.from_numpy(arrays[conv + name]) for name in ("weight", "bias")}
        )
        modules.append(layer)
        if stage < len(STAGES) - 1:
            batch_norm = nn.BatchNorm2d(out, eps=epsilon)
            batch_norm.load_state_dict(
                {
                    n: torch.from_numpy(np.asarray(arrays[norm + n]))
                    for n in ("weight", "bias", "running_mean", "running_var")
                },
                strict=False,
            )
            modules += [batch_norm, nn.ReLU()]
        if pooled:
            modules.append(nn.MaxPool2d(3, 2))
        before = out
    return nn.Sequential(*modules).eval()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_features_and_responses_equal_pytorchs(tmp_path, rng, layout, wrapped):
    torch = pytest.importorskip("torch")
    arrays = state_dict(rng, layout)
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
    path = tmp_path / "siamfc.pth"
    torch.save({"state_dict": tensors, "epoch": 50} if wrapped else tensors, path)
    net = load_siamfc_pth(path)
    net.mode = "test"
    names = ("a_feat", "b_feat", "score")
    for name in names:
        net.get_var(name).precious = True
    z, x = (rng.uniform(0, 255, (1, 3, side, side)).astype(np.float32) for side in (127, 175))
    net.eval({"exemplar": z, "instance": x})
    with torch.no_grad():
        branch = torch_branch(torch, arrays, layout)
        fz, fx = branch(torch.from_numpy(z)), branch(torch.from_numpy(x))
        expected = (fz, fx, torch.nn.functional.conv2d(fx, fz) * 1e-3)
    for name, value in zip(names, expected):
        error = relative_error(net.get_var(name).value, value.numpy())
        assert error <= SINGLE, f"{name}: {error:.2e}"


@pytest.mark.parametrize(
    "content, words",
    [
        (b"not a network", "a file that it cannot read"),
        (b"", "a file that it cannot read"),
    ],
)
def test_a_file_that_pytorch_cannot_read_is_refused(tmp_path, content, words):
    pytest.importorskip("torch")
    path = tmp_path / "siamfc.pth"
    path.write_bytes(content)
    with pytest.raises(MatFileError, match=words) as error:
        load_siamfc_pth(path)
    assert str(path) in str(error.value)


def test_a_file_with_something_else_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "siamfc.pth"
    torch.save([torch.ones(3)], path)
    with pytest.raises(MatFileError, match="expected a state dict saved by PyTorch, found list"):
        load_siamfc_pth(path)


def test_code_in_a_file_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    path, trace = tmp_path / "siamfc.pth", tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return open, (str(trace), "w")

    torch.save({"state_dict": Payload()}, path)
    with pytest.raises(MatFileError, match="a file that it cannot read"):
        load_siamfc_pth(path)
    assert not trace.exists()
