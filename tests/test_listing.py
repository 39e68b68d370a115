"""Tests of dsiam_net.listing."""

import json
import math
import re

import numpy as np
import pytest

from dsiam_net.branches import siamfc_branch, vgg19_branch
from dsiam_net.listing import (
    branch_of,
    describe_network,
    feature_names,
    frame_layers,
    parameter_roles,
    parameter_shapes,
    summary,
    write_listing,
)
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from tiny import CHANNELS


@pytest.fixture(scope="module")
def net():
    return build_unrolled(siamfc_branch())


@pytest.fixture(scope="module")
def small():
    branch = siamfc_branch(CHANNELS)
    branch.init_params(0)
    return build_unrolled(branch, UnrolledSettings(frames=2))


def rows(text: str, head: str) -> list[list[str]]:
    """The cells after ``head`` in the lines of tables that begin with it."""
    lines = [line for line in text.splitlines() if re.match(re.escape(head) + r"\s", line)]
    return [line.removeprefix(head).split() for line in lines]


def row(text: str, head: str) -> list[str]:
    """The same where one line alone begins so."""
    (cells,) = rows(text, head)
    return cells


def test_the_numbers_of_layers_and_parameters_end_the_summary(net):
    assert summary(net).splitlines()[-2:] == ["layers 940", "parameters 33"]


def test_layers_are_counted_by_type_in_a_frame_and_in_all(net):
    text = summary(net)
    # Names tell the types of a frame's layers: the count does not use the layers' own.
    names = [layer["name"] for layer in describe_network(net)["layers"]]
    for kind, pattern in {
        "Conv": r"_(conv\d|adjust)$",
        "BatchNorm": r"_bn\d$",
        "ReLU": r"_relu\d$",
        "Pooling": r"_pool\d$",
        "Crop": r"_crop_",
        "RLR": r"_rlr\d\d$",
        "CirConv": r"_cir\d\d$",
        "XCorr": r"_xcorr\d$",
        "Elefusion": r"_fuse$",
        "Eltwise": r"_mask$",
        "Loss": r"_objective$",
        "centerThrErr": r"_errdisp$",
        "MaxScoreErr": r"_errmax$",
    }.items():
        total = sum(bool(re.search(pattern, name)) for name in names)
        assert row(text, kind) == [str(total // 10), str(total)]
    assert ["94", "940"] in rows(text, "total")


def test_parameters_are_listed_by_what_they_are(net):
    roles = parameter_roles(net)
    # The table of 33 parameters in section 5 of the design.
    assert {role: len(names) for role, names in roles.items()} == {
        "filters": 5,
        "biases": 5,
        "batch norm": 12,
        "adjust": 2,
        "learning rates": 4,
        "lambdas": 4,
        "fusion": 1,
    }
    assert sorted(roles["lambdas"]) == ["v1_lambda", "v_lambda", "w1_lambda", "w_lambda"]
    assert sorted(name for names in roles.values() for name in names) == sorted(
        p.name for p in net.params
    )
    text = summary(net)
    for name, size in (("conv2f", "256x48x5x5"), ("bn4x", "384x2"), ("sumweights", "17x17")):
        assert re.search(rf"\b{name} {size}\b", text)
    # 96 x 3 x 11 x 11 and so on: SiamFC's filters.
    filters = 96 * 363 + 256 * 1200 + 384 * 2304 + 384 * 1728 + 256 * 1728
    assert row(text, "filters")[:2] == ["5", f"{filters:,}"]


def test_sizes_and_receptive_fields_of_features_are_siamfcs(net):
    text = summary(net)
    assert row(text, "o1") == ["1x3x127x127", "1x256x6x6", "1x384x8x8"]
    assert row(text, "z") == ["1x3x255x255", "1x256x22x22", "1x384x24x24"]
    # The table of the SiamFC paper: stride 8; the field of conv5 is 87 pixels.
    assert row(text, "receptive field, crop pixels") == ["87", "71"]
    assert row(text, "stride, crop pixels") == ["8", "8"]
    assert row(text, "centre of the first, from 1") == ["44", "36"]


def test_the_summary_fits_two_screens(net):
    lines = summary(net).splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


def test_memory_is_that_of_the_variables(small):
    text = summary(small, (100, 120))
    # Template, two frames, three maps (score0, labels), center0, sides, color, two targets.
    count = 3 * 127**2 + 2 * 3 * 100 * 120 + 3 * 17**2 + 2 + 2 + 3 + 2 * 2
    inputs = row(text, "inputs, of frames of 100x120 pixels")
    assert inputs == [f"{4 * count / 1024:.0f}KB"]


def test_json_gives_back_what_was_described(small, tmp_path):
    path = tmp_path / "folder" / "net.json"
    write_listing(small, path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read == describe_network(small)
    assert read["settings"] == small.meta["unrolled"]
    assert read["counts"] == {
        "layers": 188,
        "variables": len(small.vars),
        "parameters": 33,
    }
    assert sum(read["types"].values()) == 188
    assert [layer["name"] for layer in read["layers"]] == [r.name for r in small.layers]
    for entry, parameter in zip(read["params"], small.params):
        assert entry["name"] == parameter.name
        assert tuple(entry["shape"]) == parameter.value.shape
        assert entry["train_method"] == parameter.train_method
        assert entry["learning_rate"] == parameter.learning_rate
        assert entry["weight_decay"] == parameter.weight_decay


def test_what_the_listing_says_of_wires_is_a_network(small):
    """Every variable that is read is an input or written, and once."""
    listing = describe_network(small)
    written = [v for layer in listing["layers"] for v in layer["outputs"]]
    read = {v for layer in listing["layers"] for v in layer["inputs"]}
    assert len(written) == len(set(written))
    assert read - set(written) == set(listing["inputs"])
    assert set(written) - read == set(listing["outputs"])


def test_numbers_of_numpy_become_json(small):
    net = small.copy()
    net.meta["unrolled"] = {"frames": np.int64(2), "map_size": np.array([17, 17])}
    assert json.loads(json.dumps(describe_network(net)))["settings"]["map_size"] == [17, 17]


def test_a_network_without_values_has_the_shapes_its_layers_draw(small):
    empty = build_unrolled(siamfc_branch(CHANNELS), UnrolledSettings(frames=2))
    assert empty.get_param("conv1f").value is None
    assert parameter_shapes(empty) == {p.name: p.value.shape for p in small.params}


def test_other_networks_are_told_apart():
    branch = siamfc_branch(CHANNELS)
    assert describe_network(branch)["settings"] is None
    with pytest.raises(ValueError, match="build_unrolled"):
        summary(branch)


def test_a_frame_of_another_network_is_found_whole():
    net = build_unrolled(vgg19_branch(), UnrolledSettings(frames=11, features=("x36", "x27")))
    # 36 layers a branch, 3 + 1 around them, 4 RLR, 4 CirConv, 2 XCorr, fusion, adjust, 3 losses.
    assert [len(frame_layers(net, t)) for t in (1, 11)] == [5 * 36 + 19] * 2
    assert feature_names(net, 11) == ["x36", "x27"]
    assert branch_of("f11_gbar_relu1_1", 11) == "gbar"
    assert branch_of("f11_objective", 11) is None
    assert summary(net).splitlines()[-2:] == [f"layers {11 * 199}", "parameters 43"]


def test_a_single_feature_layer_is_summed_up():
    settings = UnrolledSettings(frames=1, features=("feat",))
    net = build_unrolled(siamfc_branch(CHANNELS), settings)
    text = summary(net)
    assert "fusion" not in text
    assert text.splitlines()[-2:] == ["layers 88", "parameters 28"]
    # Sum of the parameters' sizes, by hand: conv, batch norm, adjust, rates, lambdas.
    conv = [(12, 3, 11), (16, 6, 5), (24, 16, 3), (24, 12, 3), (16, 12, 3)]
    values = sum(out * (math.prod((c, k, k)) + 1) for out, c, k in conv)
    values += 4 * (12 + 16 + 24 + 24) + 2 + 2 + 2
    assert ["28", f"{values:,}"] in rows(text, "total")
