"""Tests of dsiam_net.cfnet, and of reading the networks of the CFNet code."""

from dataclasses import replace

import numpy as np
import pytest

from dagnet import Size
from dsiam_net.cfnet import VARIANTS, CFNetSettings, add_losses, make_cfnet
from dsiam_net.labels import create_labels
from layers import gaussian_response
from mat_networks import layer, load_without_warning, number, param, row
from mat_writers import WRITERS
from matlab_import import read_mat, save_network

FALSE, TRUE = np.array([[False]]), np.array([[True]])
LOSS = {"loss": "softmaxlog", "ignoreAverage": FALSE, "opts": []}
# Kernels of 3 x 3 in the file written by hand; exemplar and instance of 15 x 15.
SIDE, MARGIN = 7, 2


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def written_by_hand(rng):
    """A network after one epoch, of the layout of cfnet-conv1 and its losses; two channels."""
    values = {
        "br_conv1f": draw(rng, 3, 3, 3, 2),
        "br_conv1b": draw(rng, 2, 1),
        "br_bn1m": draw(rng, 2, 1),
        "br_bn1b": draw(rng, 2, 1),
        "br_bn1x": np.abs(draw(rng, 2, 2)) + 0.5,
        "join_window": np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32),
        "join_cf_target": gaussian_response((SIDE, SIDE), 2.0).astype(np.float32),
        "fin_adjustf": draw(rng, 1, 1),
        "fin_adjustb": draw(rng, 1, 1),
    }
    factors = {"br_conv1b": (2, 0), "br_bn1x": (0.05, 0), "join_window": (0, 1)}
    factors["join_cf_target"] = (0, 1)
    conv = {"hasBias": TRUE, "opts": ["CudnnWorkspaceLimit", number(1024**3)]}

    def stream(prefix, source):
        p = prefix
        return [
            layer(p + "conv1", "dagnn.Conv", [source], [p + "x1"], ["br_conv1f", "br_conv1b"],
                  size=row(3, 3, 3, 2), **conv, pad=row(0, 0, 0, 0), stride=row(2, 2),
                  dilate=row(1, 1)),
            layer(p + "bn1", "dagnn.BatchNorm", [p + "x1"], [p + "x2"],
                  ["br_bn1m", "br_bn1b", "br_bn1x"], numChannels=np.zeros((0, 0)),
                  epsilon=number(1e-5), opts=["NoCuDNN"]),
            layer(p + "relu1", "dagnn.ReLU", [p + "x2"], [p + "out"], useShortCircuit=TRUE,
                  leak=number(0), opts=[]),
        ]  # fmt: skip

    layers = [
        *stream("br1_", "exemplar"),
        *stream("br2_", "instance"),
        layer("join_cf_window", "MulConst", ["br1_out"], ["join_cf_example"], ["join_window"]),
        layer("join_cf", "CorrFilter", ["join_cf_example"], ["join_tmpl"], ["join_cf_target"],
              **{"lambda": number(10)}, window="", bias=FALSE),
        layer("join_crop_z", "CropMargin", ["join_tmpl"], ["join_tmpl_cropped"],
              margin=number(MARGIN)),
        layer("join_xcorr", "XCorr", ["join_tmpl_cropped", "br2_out"], ["join_out"],
              bias=FALSE, opts=["cuDNN"]),
        layer("fin_adjust", "dagnn.Conv", ["join_out"], ["score"], ["fin_adjustf", "fin_adjustb"],
              size=row(1, 1), **conv, pad=row(0, 0, 0, 0), stride=row(1, 1), dilate=row(1, 1)),
        layer("objective", "LogisticLoss", ["score", "eltwise_label", "eltwise_weight"],
              ["objective"], **LOSS),
        layer("errdisp", "centerThrErr", ["score", "label"], ["errdisp"], stride=number(4), **LOSS),
        layer("iou", "IOUErrorScore", ["score", "label", "exemplar_size", "instance_size"],
              ["iou"], stride=number(4), **LOSS),
    ]  # fmt: skip
    params = [param(name, v, *factors.get(name, (1, 1))) for name, v in values.items()]
    return {"layers": layers, "params": params, "vars": [], "meta": {}}


@pytest.mark.parametrize("version", WRITERS)
def test_a_network_of_the_originals_layout_is_read(tmp_path, rng, version):
    WRITERS[version](tmp_path / "net.mat", {"net": written_by_hand(rng)})
    net = load_without_warning(tmp_path / "net.mat")
    block = {record.name: record.block for record in net.layers}
    cf = block["join_cf"]
    assert (cf.lambda_, cf.window, cf.bias) == (10.0, "", False)
    assert block["join_crop_z"].margin == MARGIN and block["join_xcorr"].bias is False
    assert block["errdisp"].total_stride == block["iou"].stride == 4
    assert net.get_param("join_cf_target").value.shape == (SIDE, SIDE)
    assert net.get_param("join_window").learning_rate == 0
    assert net.get_param("br_conv1b").learning_rate == 2
    # Written in the original's layout, with what it has and nothing else.
    save_network(net, tmp_path / "again.mat")
    entries = {e["name"]: e for e in read_mat(tmp_path / "again.mat")["net"]["layers"]}
    assert list(entries["join_cf"]["block"]) == ["lambda", "window", "bias"]
    assert list(entries["errdisp"]["block"]) == ["stride", *LOSS]
    assert list(entries["join_xcorr"]["block"]) == ["bias", "opts"]
    assert list(entries["join_cf_window"]["block"]) == []


def by_hand(content, z, x):
    """The score in MATLAB's axes, by whole spectra and one cell at a time; (N, 1, h, w)."""
    value = {p["name"]: p["value"].astype(float) for p in content["params"]}

    def features(image):
        f = value["br_conv1f"]
        side = (image.shape[0] - 3) // 2 + 1
        y = np.zeros((side, side, 2, image.shape[3]))
        for i, j in np.ndindex(side, side):
            patch = image[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            y[i, j] = np.einsum("ijcn,ijck->kn", patch, f)
        y = y + value["br_conv1b"].reshape(1, 1, 2, 1)
        mean, sigma = (value["br_bn1x"][:, i].reshape(1, 1, 2, 1) for i in (0, 1))
        y = (y - mean) / sigma * value["br_bn1m"].reshape(1, 1, 2, 1)
        return np.maximum(y + value["br_bn1b"].reshape(1, 1, 2, 1), 0)

    example = features(z) * value["join_window"][:, :, None, None]
    xf = np.fft.fft2(example, axes=(0, 1))
    yf = np.fft.fft2(value["join_cf_target"])[:, :, None, None]
    n = SIDE * SIDE
    k = (np.abs(xf) ** 2).sum(axis=2, keepdims=True) / n + 10
    template = np.real(np.fft.ifft2(np.conj(yf / (n * k)) * xf, axes=(0, 1)))
    template = template[MARGIN:-MARGIN, MARGIN:-MARGIN]
    search, side = features(x), SIDE - len(template) + 1
    score = np.zeros((z.shape[3], 1, side, side))
    for s, _, i, j in np.ndindex(*score.shape):
        patch = search[i : i + len(template), j : j + len(template), :, s]
        score[s, 0, i, j] = (patch * template[..., s]).sum()
    return score * value["fin_adjustf"].item() + value["fin_adjustb"].item()


def test_the_network_computes_what_its_values_say(tmp_path, rng):
    content = written_by_hand(rng)
    WRITERS["version 7"](tmp_path / "net.mat", {"net": content})
    net = load_without_warning(tmp_path / "net.mat")
    net.mode, net.conserve_memory = "test", False
    z, x = draw(rng, 15, 15, 3, 2), draw(rng, 15, 15, 3, 2)
    label, weight = (np.tile(a, (2, 1, 1, 1)).astype(np.float32) for a in create_labels(5))
    inputs = {
        "exemplar": z.transpose(3, 2, 0, 1).copy(),
        "instance": x.transpose(3, 2, 0, 1).copy(),
        "eltwise_label": label,
        "eltwise_weight": weight,
        "label": np.ones(2),
        "exemplar_size": np.full((2, 2), 40.0),
        "instance_size": np.full((2, 2), 40.0),
    }
    net.eval(inputs, {"objective": 1.0})
    expected = by_hand(content, z.astype(float), x.astype(float))
    score = net.get_var("score").value
    assert np.abs(score - expected).max() <= 1e-5 * np.abs(expected).max()
    losses = weight * np.log1p(np.exp(-label * expected))
    assert net.get_var("objective").value == pytest.approx(losses.sum(), rel=1e-5)
    assert 0 < net.get_var("iou").value <= 2
    sizes = net.get_var_sizes({name: Size(*a.shape) for name, a in inputs.items() if a.ndim == 4})
    for variable in ("join_tmpl", "join_tmpl_cropped", "join_out", "score"):
        assert tuple(sizes[variable]) == net.get_var(variable).value.shape
    # Through the filter the example has a part in the derivative, and so has the target.
    assert np.abs(net.get_param("join_cf_target").der).max() > 0
    assert np.abs(net.get_param("join_window").der).max() > 0


def test_a_template_is_computed_from_the_example_alone(tmp_path, rng):
    """As the original's tracker does it, with the other stream's inputs missing."""
    WRITERS["version 7"](tmp_path / "net.mat", {"net": written_by_hand(rng)})
    net = load_without_warning(tmp_path / "net.mat")
    net.mode = "test"
    net.get_var("join_tmpl_cropped").precious = True
    net.eval({"exemplar": draw(rng, 1, 3, 15, 15)}, outputs=["join_tmpl_cropped"])
    assert net.get_var("join_tmpl_cropped").value.shape == (1, 2, 3, 3)


def test_the_network_that_is_built_is_the_one_that_is_read(tmp_path, rng):
    WRITERS["version 7"](tmp_path / "net.mat", {"net": written_by_hand(rng)})
    read = load_without_warning(tmp_path / "net.mat")
    net = make_cfnet(CFNetSettings(channels=(2,), conv1_stride=2, margin=MARGIN))
    add_losses(net)
    assert [(r.name, r.type, r.inputs, r.outputs, r.params) for r in net.layers] == [
        (r.name, r.type, r.inputs, r.outputs, r.params) for r in read.layers
    ]
    assert [p.name for p in net.params] == [p.name for p in read.params]
    for record in net.layers:
        kept = read.get_layer(record.name).block.save()
        for name in ("stride", "lambda_", "bias", "margin", "total_stride", "epsilon"):
            assert record.block.save().get(name) == kept.get(name), (record.name, name)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("version", ("7", "7.3"))
def test_a_network_that_is_built_goes_into_a_file_and_back(tmp_path, name, version):
    channels = (4,) * len(VARIANTS[name].channels)
    net = make_cfnet(replace(VARIANTS[name], channels=channels))
    add_losses(net)
    save_network(net, tmp_path / "net.mat", version)
    again = load_without_warning(tmp_path / "net.mat")
    assert [(r.name, r.type, r.block.save()) for r in again.layers] == [
        (r.name, r.type, r.block.save()) for r in net.layers
    ]
    for parameter in net.params:
        found = again.get_param(parameter.name)
        np.testing.assert_array_equal(np.squeeze(found.value), np.squeeze(parameter.value))
        assert found.learning_rate == parameter.learning_rate
        assert found.weight_decay == parameter.weight_decay
        assert found.train_method == parameter.train_method


# Features of exemplar and instance, template, score, pixels a cell: the original's tracker.m
# speaks of 30, 33 and 4 for conv1, and of a template of 17 for conv5.
GEOMETRY = {
    "cfnet-conv1": (62, 62, 30, 33),
    "cfnet-conv2": (57, 57, 25, 33),
    "cfnet-conv5": (49, 49, 17, 33),
    "baseline-conv5": (17, 49, 17, 33),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_papers_networks_have_the_papers_sizes(name):
    z, x, template, score = GEOMETRY[name]
    net = make_cfnet(name)
    side = VARIANTS[name].exemplar_size
    sizes = net.get_var_sizes({"exemplar": Size(8, 3, side, side), "instance": (8, 3, 255, 255)})
    assert tuple(sizes["br1_out"]) == (8, 32, z, z) and tuple(sizes["br2_out"]) == (8, 32, x, x)
    if "cfnet" in name:
        assert tuple(sizes["join_tmpl_cropped"]) == (8, 32, template, template)
        assert net.get_param("join_cf_target").value.shape == (z, z)
        assert net.get_param("join_window").value[0].max() == 0
        np.testing.assert_allclose(
            net.get_param("join_cf_target").value, gaussian_response((z, z), 2), atol=1e-7
        )
    assert tuple(sizes["score"]) == (8, 1, score, score)
    assert net.get_var_receptive_fields("instance")["score"].stride == (4, 4)
    assert all(p.value is not None for p in net.params)


def test_it_finds_what_it_has_seen_and_learns_to(rng):
    """A step along the derivative lowers the loss; the two streams share their filters."""
    settings = CFNetSettings((16,), conv1_stride=4, exemplar_size=63, margin=4, lambda_=0.1)
    net = make_cfnet(settings)
    add_losses(net)
    images = rng.uniform(0, 255, (2, 3, 63, 63)).astype(np.float32)
    label, weight = (np.tile(a, (2, 1, 1, 1)).astype(np.float32) for a in create_labels(9))
    inputs = {
        "exemplar": images,
        "instance": images,
        "eltwise_label": label,
        "eltwise_weight": weight,
        "label": np.ones(2),
        "exemplar_size": np.full((2, 2), 16.0),
        "instance_size": np.full((2, 2), 16.0),
    }
    net.conserve_memory = False
    net.eval(inputs, {"objective": 1.0})
    before = float(net.get_var("objective").value)
    peak = np.unravel_index(net.get_var("score").value[0, 0].argmax(), (9, 9))
    assert peak == (4, 4)
    for parameter in net.params:
        if parameter.train_method == "gradient" and parameter.name.startswith("br_"):
            step = 1e-3 / np.abs(parameter.der).max()
            parameter.value = parameter.value - step * parameter.der
    net.eval(inputs)
    assert float(net.get_var("objective").value) < before


def test_what_makes_no_network_is_refused():
    with pytest.raises(ValueError, match="no network 'cfnet-conv3'"):
        make_cfnet("cfnet-conv3")
    for channels in ((), (4,) * 6):
        with pytest.raises(ValueError, match="one to five"):
            make_cfnet(CFNetSettings(channels=channels))
