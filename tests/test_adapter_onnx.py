"""ONNX export of feature branches: onnxruntime's results against ``eval``."""

import sys

import numpy as np
import pytest

from analysing import tiny_net
from dagnet import DagNN
from dsiam_net.adapters.onnx import (
    BOUND,
    OnnxError,
    compare_onnx,
    import_onnx,
    save_onnx,
    to_onnx,
)
from dsiam_net.branches import FEATURES, extract_branch, siamfc_branch
from dsiam_net.export_onnx import main
from errors import record_error
from layers import LRN, BatchNorm, Conv, DropOut, Pooling, ReLU, Sigmoid

REASON = "onnx and onnxruntime are not installed (pip install onnx onnxruntime)"


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime", reason=REASON)
    return pytest.importorskip("onnx", reason=REASON)


def filled(net, rng):
    """A network with parameters of which none is special: moments too."""
    net.init_params(0)
    for parameter in net.params:
        value = parameter.value
        if value.ndim < 4:
            value = rng.normal(0.3, 0.5, value.shape)
        if parameter.train_method == "average":  # mean, and a deviation above 0
            value = np.column_stack([value[:, 0], rng.uniform(0.2, 3, len(value))])
        parameter.value = value.astype(np.float32)
    return net


def chain(*layers):
    """Layers one after the other, from ``input`` to ``x1``, ``x2``, ..."""
    net, source = DagNN(), "input"
    for number, block in enumerate(layers, start=1):
        # As many parameters as the layer has at least and at most.
        count = {Conv: 1 + getattr(block, "has_bias", 0), BatchNorm: 3}.get(type(block), 0)
        params = [f"p{number}_{k}" for k in range(count)]
        net.add_layer(f"layer{number}", block, source, f"x{number}", params)
        source = f"x{number}"
    return net


def worst(net, outputs, images, tmp_path):
    """The greatest error of an export of ``net``, over its outputs."""
    path = tmp_path / "net.onnx"
    save_onnx(to_onnx(net, outputs), path)
    errors = compare_onnx(path, net, outputs, images)
    assert list(errors) == list(outputs)
    return max(errors.values())


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([Conv(size=(6, 3, 3, 2), stride=(2, 1), pad=(1, 0, 2, 1))], id="pads"),
        pytest.param([Conv(size=(4, 3, 3, 3), dilate=(2, 3), has_bias=False)], id="dilated"),
        pytest.param([Conv(size=(6, 3, 1, 1)), Conv(size=(9, 2, 3, 3))], id="three groups"),
        pytest.param([Conv(size=(4, 3, 3, 3)), BatchNorm(num_channels=4)], id="batch norm"),
        pytest.param([Conv(size=(4, 3, 3, 3)), ReLU(leak=0.1)], id="leaky"),
        pytest.param(
            [Conv(size=(4, 3, 1, 1)), Pooling(pool_size=(3, 2), stride=(2, 3), pad=(1, 2, 0, 1))],
            id="max pooling",
        ),
        pytest.param(
            [Conv(size=(4, 3, 1, 1)), Pooling(method="avg", pool_size=3, stride=2, pad=1)],
            id="average pooling",
        ),
        pytest.param([Conv(size=(8, 3, 1, 1)), LRN(param=(5, 2, 1e-1, 0.75))], id="lrn"),
        pytest.param([Conv(size=(8, 3, 1, 1)), DropOut(rate=0.5)], id="dropout"),
    ],
)
def test_each_layer_computes_the_same(onnx, layers, rng, tmp_path):
    net = filled(chain(*layers), rng)
    images = rng.normal(0, 1, (2, 3, 13, 17)).astype(np.float32)
    assert worst(net, [f"x{len(layers)}"], images, tmp_path) < 1e-6


def test_axes_are_free_and_intermediate_features_are_outputs(onnx, rng, tmp_path):
    net = filled(siamfc_branch((8, 12, 12, 12, 8)), rng)
    features = list(FEATURES["siamfc"])
    model = to_onnx(net, features)
    save_onnx(model, tmp_path / "net.onnx")
    for shape in ((1, 3, 127, 127), (3, 3, 255, 231), (2, 3, 96, 140)):
        images = rng.uniform(0, 255, shape).astype(np.float32)
        errors = compare_onnx(tmp_path / "net.onnx", net, features, images)
        assert max(errors.values()) < BOUND
        for name, error in errors.items():
            record_error("ONNX export", name, error, str(shape))
    names = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
             for v in (*model.graph.input, *model.graph.output)]  # fmt: skip
    assert names == [
        ["N", 3, "H", "W"],
        ["N", 8, "H_feat", "W_feat"],
        ["N", 12, "H_x14", "W_x14"],
    ]
    assert {"conv1f", "conv5b", "bn4m", "bn4x_mean"} <= {i.name for i in model.graph.initializer}


def test_batch_norm_is_that_of_mode_test_whatever_the_networks_mode(onnx, rng, tmp_path):
    net = filled(chain(Conv(size=(4, 3, 3, 3)), BatchNorm(num_channels=4)), rng)
    net.mode = "normal"
    save_onnx(to_onnx(net, ["x2"]), tmp_path / "net.onnx")
    assert net.mode == "normal"
    images = rng.normal(0, 1, (2, 3, 9, 9)).astype(np.float32)
    assert compare_onnx(tmp_path / "net.onnx", net, ["x2"], images)["x2"] < 1e-6


def test_what_cannot_be_exported_is_named(onnx, rng):
    with pytest.raises(OnnxError, match=r"'layer2' \(Sigmoid\) cannot be exported: .*Conv, Batch"):
        to_onnx(filled(chain(Conv(size=(2, 3, 1, 1)), Sigmoid()), rng), ["x2"])
    with pytest.raises(OnnxError, match="LRN over 4 channels cannot be exported: an odd"):
        to_onnx(filled(chain(Conv(size=(2, 3, 1, 1)), LRN(param=(4, 1, 1, 1))), rng), ["x2"])
    with pytest.raises(OnnxError, match="parameter 'p1_0' has no value"):
        to_onnx(chain(Conv(size=(2, 3, 1, 1))), ["x1"])
    with pytest.raises(OnnxError, match="'layer1' is the first, and a convolution is expected"):
        to_onnx(chain(ReLU()), ["x1"])
    wrong = filled(chain(Conv(size=(4, 3, 1, 1)), Conv(size=(2, 3, 1, 1))), rng)
    with pytest.raises(OnnxError, match=r"\(2, 3, 1, 1\) do not divide 4 channels into groups"):
        to_onnx(wrong, ["x2"])


def test_the_command_exports_the_branch_of_a_network_and_says_how_near_it_is(
    onnx, tmp_path, capsys
):
    tiny_net().save(tmp_path / "tiny.npz")
    out = tmp_path / "branch.onnx"
    main(["--weights", str(tmp_path / "tiny.npz"), "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out}: input (N, 3, H, W) -> feat, x14"
    errors = [float(line.split()[6]) for line in lines[1:]]
    assert len(errors) == 2 and max(errors) < BOUND
    names = extract_branch(tiny_net(), ["conv2"])[1]
    main(["--weights", str(tmp_path / "tiny.npz"), "--feature-layers", "conv2", "--no-check",
          "--out", str(out)])  # fmt: skip
    assert [v.name for v in onnx.load(out).graph.output] == names


def test_the_command_without_onnx_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs the package onnx .*pip install 'dsiam\[onnx\]'"):
        import_onnx()
    with pytest.raises(ImportError):
        main(["--random-weights", "--out", str(tmp_path / "x.onnx")])
    assert not list(tmp_path.iterdir())
