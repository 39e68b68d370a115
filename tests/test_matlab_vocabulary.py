"""Tests of matlab_import: layers of MatConvNet's vocabulary beside those of SiamFC and DSiam."""

import numpy as np
import pytest

from dagnet import Size
from layers import conv_transpose
from mat_networks import layer, load_without_warning, number, param, row
from mat_writers import WRITERS, Cell
from matlab_import import load_network

FALSE, TRUE = np.array([[False]]), np.array([[True]])


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def network(rng):
    """Upsampling, cropping, scaling and joining, as in fully convolutional networks."""
    values = {
        "upf": draw(rng, 4, 3, 2, 6),
        "upb": draw(rng, 4, 1),
        "sa": draw(rng, 1, 1, 4),
        "sb": draw(rng, 1, 1, 4),
        "h": draw(rng, 4, 1),
    }
    layers = [
        layer("up", "dagnn.ConvTranspose", ["x"], ["u"], ["upf", "upb"],
              size=row(4, 3, 2, 6), hasBias=TRUE, upsample=row(2, 3), crop=row(1, 0, 0, 1),
              numGroups=number(2), opts=["cuDNN"]),
        layer("crop", "dagnn.Crop", ["u", "like"], ["c"], crop=row(1, 2)),
        layer("scale", "dagnn.Scale", ["c"], ["s"], ["sa", "sb"], size=row(1, 1, 4),
              hasBias=TRUE),
        layer("plain", "dagnn.Scale", ["s", "s"], ["p"], size=np.zeros((0, 0)), hasBias=FALSE),
        layer("margin", "CropMargin", ["p"], ["m"], margin=number(1)),
        layer("window", "MulConst", ["m"], ["w"], ["h"]),
        layer("sigmoid", "dagnn.Sigmoid", ["w"], ["g"]),
        layer("drop", "dagnn.DropOut", ["g"], ["d"], rate=number(0.25), frozen=FALSE),
        layer("sum", "dagnn.Sum", ["d", "g"], ["t"], numInputs=number(2)),
        layer("join", "dagnn.Concat", ["t", "g"], ["out"], dim=number(3), numInputs=number(2)),
        layer("below", "dagnn.Concat", ["t", "g"], ["tall"], dim=number(1)),
    ]  # fmt: skip
    params = [param(name, value) for name, value in values.items()]
    return {"layers": layers, "params": params, "vars": [], "meta": {}}


@pytest.mark.parametrize("version", WRITERS)
def test_layers_and_settings_arrive(tmp_path, rng, version):
    WRITERS[version](tmp_path / "net.mat", {"net": network(rng)})
    net = load_without_warning(tmp_path / "net.mat")
    block = {record.name: record.block for record in net.layers}
    up = block["up"]
    assert (up.size, up.upsample, up.crop) == ((6, 2, 4, 3), (2, 3), (1, 0, 0, 1))
    assert (up.num_groups, up.has_bias, up.opts) == (2, True, ("cuDNN",))
    assert block["crop"].crop == (1, 2) and block["margin"].margin == 1
    assert (block["scale"].size, block["scale"].has_bias) == ((1, 4, 1, 1), True)
    assert (block["plain"].size, block["plain"].has_bias) == (None, False)
    assert (block["drop"].rate, block["drop"].frozen) == (0.25, False)
    assert (block["join"].dim, block["below"].dim) == (1, 2)


def test_the_network_computes_what_its_values_say(tmp_path, rng):
    content = network(rng)
    WRITERS["version 7"](tmp_path / "net.mat", {"net": content})
    net = load_network(tmp_path / "net.mat")
    net.mode = "test"
    net.conserve_memory = False
    x = draw(rng, 2, 6, 5, 4)
    net.eval({"x": x, "like": draw(rng, 2, 1, 6, 7)})
    # In MATLAB's axes, one cell at a time; cells, channels and groups count from 0.
    value = {p["name"]: p["value"] for p in content["params"]}
    u = np.zeros((12, 12, 4, 2))
    for p, q, ch, n in np.ndindex(5, 4, 6, 2):
        for i, j, k in np.ndindex(4, 3, 2):
            product = value["upf"][i, j, k, ch] * x[n, ch, p, q]
            u[2 * p + i, 3 * q + j, ch // 3 * 2 + k, n] += product
    u += value["upb"].reshape(1, 1, 4, 1)
    u = u[1:12, 0:11]
    c = u[1:7, 2:9]
    s = c * value["sa"][..., None] + value["sb"][..., None]
    w = (s * s)[1:-1, 1:-1] * value["h"][:, :, None, None]
    g = 1 / (1 + np.exp(-w))
    out = np.concatenate([2 * g, g], axis=2)
    np.testing.assert_allclose(
        net.get_var("out").value, out.transpose(3, 2, 0, 1), rtol=1e-4, atol=1e-6
    )
    sizes = net.get_var_sizes({"x": Size(2, 6, 5, 4), "like": Size(2, 1, 6, 7)})
    for variable in net.vars:
        assert tuple(sizes[variable.name]) == variable.value.shape, variable.name


def test_weights_that_matlab_squeezed_get_their_axes_back(tmp_path, rng):
    """A filter bank of one 1 x 1 filter and a scale of one number are scalars in MATLAB."""
    content = {
        "layers": [
            layer("up", "dagnn.ConvTranspose", ["x"], ["u"], ["f"], size=row(1, 1), hasBias=FALSE,
                  upsample=number(2), crop=number(0)),
            layer("scale", "dagnn.Scale", ["u"], ["y"], ["a"], size=row(1, 1), hasBias=FALSE),
        ],
        "params": [param("f", draw(rng, 1, 1)), param("a", draw(rng, 1, 1))],
        "vars": [],
        "meta": {},
    }  # fmt: skip
    WRITERS["version 7"](tmp_path / "net.mat", {"net": content})
    net = load_without_warning(tmp_path / "net.mat")
    assert [p.value.shape for p in net.params] == [(1, 1, 1, 1), (1, 1, 1, 1)]
    x = draw(rng, 1, 1, 2, 2)
    net.eval({"x": x})
    y = net.get_var("y").value
    factor = content["params"][0]["value"] * content["params"][1]["value"]
    np.testing.assert_allclose(y[:, :, ::2, ::2], x * factor, rtol=1e-6)
    assert y.shape == (1, 1, 3, 3) and not y[:, :, 1].any()


@pytest.mark.parametrize("version", WRITERS)
def test_a_chain_of_simplenn_upsamples_and_drops(tmp_path, rng, version):
    filters, biases = draw(rng, 4, 4, 3, 2), draw(rng, 1, 3)
    chain = [
        {"type": "convt", "name": "up", "weights": Cell([filters, biases]), "upsample": number(2),
         "crop": row(1, 1, 1, 1)},
        {"type": "sigmoid", "name": "sig"},
        {"type": "dropout", "name": "drop", "rate": number(0.1)},
    ]  # fmt: skip
    WRITERS[version](tmp_path / "net.mat", {"net": {"layers": Cell(chain), "meta": {}}})
    net = load_without_warning(tmp_path / "net.mat")
    assert [r.type for r in net.layers] == ["dagnn.ConvTranspose", "dagnn.Sigmoid", "dagnn.DropOut"]
    assert net.get_layer("up").block.size == (2, 3, 4, 4)
    net.mode = "test"
    x = draw(rng, 1, 2, 3, 5)
    net.eval({"x0": x})
    up = conv_transpose(
        x, filters.transpose(3, 2, 0, 1), biases[0], upsample=(2, 2), crop=(1, 1, 1, 1)
    )
    np.testing.assert_allclose(net.get_var("x3").value, 1 / (1 + np.exp(-up)), rtol=1e-5)
    assert net.get_var("x3").value.shape == (1, 3, 6, 10)
