"""Tests of matlab_import with files of the original code, and with a trained network."""

import json

import numpy as np
import pytest

from dsiam_net.fidelity import GoldenFolder
from dsiam_net.fidelity.checks.networks import axes_of_listing, check_layer_listing
from golden import GOLDENS, SHARED, assert_passes, golden
from mat_networks import load_without_warning
from matlab_import import load_network, load_training, read_mat

VERSIONS = ("v6", "v7", "v73")
SMALL = "net_siamfc_small"


def small(version):
    return GOLDENS / f"{SMALL}_{version}.mat"


needs_small = pytest.mark.skipif(not small("v7").is_file(), reason="golden files not found")


def by_file(comparisons, version):
    """The comparisons with the network of one version of the files."""
    found = [c for c in comparisons if small(version).name in c.what]
    assert found and all(c.passed for c in found), found
    return found


@pytest.mark.golden
@needs_small
@pytest.mark.parametrize("version", VERSIONS)
def test_the_layers_are_those_of_the_listing(version):
    path = GOLDENS / f"{SMALL}_layers.json"
    listing = json.loads(path.read_text())
    assert len(listing) == 35
    found = by_file(check_layer_listing(GoldenFolder(GOLDENS), path, listing), version)
    assert len(found) == sum(4 + len(axes_of_listing(layer["block"])) for layer in listing)


@golden(f"{SMALL}_probe")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_parameters_are_those_of_the_probe(case, version):
    found = by_file(assert_passes(case).comparisons, version)
    equal = {c.what.split()[0] for c in found if c.allowed == 0}
    assert equal == {"variables", "parameters", *(f"param_{p}" for p in case.options["params"])}


@golden(f"{SMALL}_probe")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_forward_pass_equals_the_probe(case, version):
    found = by_file(assert_passes(case).comparisons, version)
    assert [c.what.split()[0] for c in found if c.allowed] == ["a_feat", "b_feat", "score"]


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
