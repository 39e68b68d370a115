"""Tests of matlab_import with files of the original code, and with a trained network."""

import json

import numpy as np
import pytest

from golden import GOLDENS, SHARED, SINGLE, assert_close, golden
from mat_networks import load_without_warning
from matlab_import import load_network, load_training, read_mat
from matlab_import.settings import python_name

VERSIONS = ("v6", "v7", "v73")
SMALL = "net_siamfc_small"


def small(version):
    return GOLDENS / f"{SMALL}_{version}.mat"


needs_small = pytest.mark.skipif(not small("v7").is_file(), reason="golden files not found")


def axes_of_listing(settings):
    """The blocks of the listing (MATLAB's names and axes) in ours."""
    ours = {python_name(name): value for name, value in settings.items()}
    if "size" in ours:
        h, w, i, o = ours["size"]
        ours["size"] = (o, i, h, w)
    options = ours.pop("opts", [])
    if options[:1] == ["instanceWeights"]:
        ours["instance_weights"] = np.array(options[1])[None, None]
        options = []
    return {**ours, "opts": options}


@pytest.mark.golden
@needs_small
@pytest.mark.parametrize("version", VERSIONS)
def test_the_layers_are_those_of_the_listing(version):
    listing = json.loads((GOLDENS / f"{SMALL}_layers.json").read_text())
    net = load_without_warning(small(version))
    assert len(net.layers) == len(listing) == 35
    for record, expected in zip(net.layers, listing):
        for field in ("name", "type", "inputs", "outputs", "params"):
            assert getattr(record, field) == expected[field], expected["name"]
        found = record.block.save()
        for name, value in axes_of_listing(expected["block"]).items():
            if name == "num_channels":  # empty in the file, filled in from the multipliers
                value = len(net.get_param(record.params[0]).value)
            where = f"{record.name}, {name}"
            if isinstance(value, np.ndarray):
                assert np.array_equal(found[name], value), where
            else:
                value = tuple(value) if isinstance(value, list) else value
                assert found[name] == value, where


@golden(f"{SMALL}_probe")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_parameters_are_those_of_the_probe(case, version):
    net = load_network(small(version))
    assert [p.name for p in net.params] == case.options["params"]
    assert [v.name for v in net.vars] == case.options["vars"]
    for parameter in net.params:
        field = f"param_{parameter.name}"
        expected = case.tensor(field)
        if parameter.name[:2] == "bn" or parameter.name.endswith("b"):
            expected = case.matlab(field)[:, :, 0, 0]
            expected = expected if parameter.name.endswith("x") else expected[:, 0]
        assert parameter.value.dtype == np.float32
        assert np.array_equal(parameter.value, expected), parameter.name


@golden(f"{SMALL}_probe")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_forward_pass_equals_the_probe(case, version):
    net = load_network(small(version))
    net.mode = "test"
    names = ("a_feat", "b_feat", "score")
    for name in names:
        net.get_var(name).precious = True
    net.eval(
        {
            "exemplar": case.tensor("z"),
            "instance": case.tensor("x").astype(np.float32),
        }
    )
    for name in names:
        value = net.get_var(name).value
        assert_close(value, case.tensor(name), SINGLE, case, f"{name} ({version})")


@pytest.mark.golden
@needs_small
def test_training_attributes_are_those_of_the_listing():
    listing = json.loads((GOLDENS / "siamfc_full_listing.json").read_text())
    net = load_network(small("v7"))
    expected = [
        (p["name"], p["learningRate"], p["weightDecay"], p["trainMethod"], p["fanout"])
        for p in listing["instance255"]["params"]
    ]
    assert expected == [
        (p.name, p.learning_rate, p.weight_decay, p.train_method, p.fanout) for p in net.params
    ]


@pytest.mark.golden
@needs_small
@pytest.mark.parametrize("version", VERSIONS)
def test_state_and_statistics_of_the_training_file_arrive(version):
    net, state, stats = load_training(small(version))
    entries = read_mat(small("v6"))["state"]["solverState"]
    for parameter, found, raw in zip(net.params, state["solver_state"], entries, strict=True):
        if parameter.train_method == "average":
            assert found is None and raw.item() == 0
        else:
            assert found.shape == parameter.value.shape
            assert np.array_equal(np.sort(found, axis=None), np.sort(raw, axis=None))
    assert np.array_equal(state["solver_state"][0][7, 2], entries[0][:, :, 2, 7])
    assert stats["train"] == state["stats"]["train"] or stats["train"] == [state["stats"]["train"]]
    (train,) = stats["train"]
    assert (train["num"], train["errdisp"]) == (4, 82.125)


# The network trained for development


@pytest.mark.golden
def test_the_development_network_is_imported_and_runs(rng):
    path = SHARED / "weights" / "siamfc_dev.mat"
    if not path.is_file():
        pytest.skip("the trained network was not found")
    net = load_without_warning(path)
    assert (len(net.layers), len(net.params)) == (35, 24)
    net.mode = "test"
    # A textured square in noise is found where it is: correlation peaks at its place.
    image = rng.uniform(100, 150, (1, 3, 255, 255)).astype(np.float32)
    blob = np.kron(rng.uniform(0, 255, (3, 8, 8)), np.ones((8, 8)))
    row, column = 96 + 3 * 8, 96 - 4 * 8
    image[0, :, row : row + 64, column : column + 64] = blob
    exemplar = image[:, :, row - 32 : row + 95, column - 32 : column + 95]
    net.eval({"exemplar": np.ascontiguousarray(exemplar), "instance": image})
    score = net.get_var("score").value
    assert score.shape == (1, 1, 17, 17) and score.dtype == np.float32
    assert np.unravel_index(score.argmax(), (17, 17)) == (8 + 3, 8 - 4)
