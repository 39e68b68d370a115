"""Tests of matlab_import: normalisation, distances, regions and resampling."""

import numpy as np
import pytest

from mat_networks import layer, load_without_warning, number, row
from mat_writers import WRITERS
from matlab_import import MatFileError, load_network

FALSE, TRUE = np.array([[False]]), np.array([[True]])
LOSS = {"loss": "pdist", "ignoreAverage": FALSE, "normalise": TRUE}


def network():
    """A spatial transformer, two distances, and pooling of regions."""
    layers = [
        layer("grid", "dagnn.AffineGridGenerator", ["t"], ["g"], Ho=number(5), Wo=number(4)),
        layer("zoom", "dagnn.UniformScalingGridGenerator", ["z"], ["gz"], Ho=number(5),
              Wo=number(4)),
        layer("sample", "dagnn.BilinearSampler", ["x", "g"], ["s"]),
        layer("again", "dagnn.BilinearSampler", ["x", "gz"], ["sz"]),
        layer("offset", "dagnn.NormOffset", ["s"], ["o"], param=row(0.5, 1)),
        layer("norm", "dagnn.SpatialNorm", ["o"], ["n"], param=row(3, 2, 0.5, 2)),
        layer("map", "dagnn.PDist", ["n", "sz"], ["d"], p=number(3), aggregate=FALSE,
              noRoot=TRUE, epsilon=number(1e-3), **LOSS, opts=[]),
        layer("sum", "dagnn.PDist", ["n", "sz"], ["l"], p=number(1), aggregate=TRUE,
              noRoot=FALSE, epsilon=number(1e-6), **LOSS,
              opts=["InstanceWeights", np.arange(20.0).reshape(5, 4), "noRoot", TRUE]),
        layer("pool", "dagnn.ROIPooling", ["x", "rois"], ["flat"], method="avg",
              subdivisions=row(2, 3), transform=np.array([[0.0, 1, 0], [0.5, 0, 1]]),
              flatten=TRUE),
        layer("coarse", "dagnn.ROIPooling", ["x", "rois"], ["q"], method="max",
              subdivisions=row(1, 1), transform=number(1 / 16), flatten=FALSE),
    ]  # fmt: skip
    return {"layers": layers, "params": [], "vars": [], "meta": {}}


@pytest.mark.parametrize("version", WRITERS)
def test_layers_and_settings_arrive(tmp_path, version):
    WRITERS[version](tmp_path / "net.mat", {"net": network()})
    net = load_without_warning(tmp_path / "net.mat")
    block = {record.name: record.block for record in net.layers}
    assert (block["grid"].ho, block["grid"].wo) == (block["zoom"].ho, block["zoom"].wo) == (5, 4)
    assert block["offset"].param == (0.5, 1) and block["norm"].param == (3, 2, 0.5, 2)
    distance = block["map"]
    assert (distance.p, distance.aggregate, distance.no_root) == (3, False, True)
    assert (distance.epsilon, distance.opts, distance.instance_weights) == (1e-3, (), None)
    # Options go before the properties.
    assert block["sum"].aggregate and block["sum"].no_root and block["sum"].opts == ()
    np.testing.assert_array_equal(block["sum"].instance_weights[0, 0].ravel(), np.arange(20))
    pool = block["pool"]
    assert (pool.method, pool.subdivisions, pool.flatten) == ("avg", (2, 3), True)
    np.testing.assert_array_equal(pool.transform, [[0, 1, 0], [0.5, 0, 1]])
    assert (block["coarse"].transform, block["coarse"].method) == (1 / 16, "max")


def test_the_network_computes_what_its_settings_say(tmp_path, rng):
    WRITERS["version 7"](tmp_path / "net.mat", {"net": network()})
    net = load_network(tmp_path / "net.mat")
    net.conserve_memory = False
    x = rng.standard_normal((1, 2, 5, 4))
    identity = np.array([1.0, 0, 0, 1, 0, 0]).reshape(1, 6, 1, 1)
    zoom = np.array([-1.0, 0, 0]).reshape(1, 3, 1, 1)
    # u' = v and v' = u/2 + 1: from u = 2 to 8 rows 2 to 5, from v = 1 to 4 columns 1 to 4.
    rois = np.array([[1.0, 2, 1, 8, 4]])
    net.eval({"x": x, "t": identity, "z": zoom, "rois": rois})

    def value(name):
        return net.get_var(name).value

    np.testing.assert_allclose(value("s"), x, atol=1e-12)
    np.testing.assert_allclose(value("sz"), x[:, :, ::-1, ::-1], atol=1e-12)
    offset = x - 0.5 * (x**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value("o"), offset, atol=1e-12)
    difference = abs(value("n") - value("sz"))
    np.testing.assert_allclose(value("d"), (difference**3).sum(axis=1, keepdims=True))
    weighted = difference * np.arange(20.0).reshape(5, 4)
    np.testing.assert_allclose(value("l"), weighted.sum())
    # Rows 2 to 5 in two tiles, columns 1 to 4 in three that overlap; MATLAB's order when flat.
    tiles = np.array(
        [[x[0, :, 1 + i : 3 + i, j : j + 2].mean(axis=(1, 2)) for i in (0, 2)] for j in (0, 1, 2)]
    )
    np.testing.assert_allclose(value("flat").ravel(), tiles.transpose(2, 0, 1).ravel())
    assert value("q").shape == (1, 2, 1, 1)


def test_an_option_that_a_distance_does_not_have_is_refused(tmp_path):
    content = network()
    content["layers"][7]["block"]["opts"] = ["exponent", number(2)]
    WRITERS["version 7"](tmp_path / "net.mat", {"net": content})
    with pytest.raises(MatFileError, match=r"'sum'.*options of a distance are its settings"):
        load_network(tmp_path / "net.mat")
