"""Every layer, parameter and variable of SiamFC as MatConvNet lists them, number by number.

The network is made twice: from the listing's own layers, which shows the engine alone, and by the
builder of this project.
"""

import json
import math
import operator

import numpy as np
import pytest

from dagnet import DagNN, ReceptiveField, layer_class
from dagnet.simplenn import from_simple_nn
from dsiam_net.branches import siamfc_branch
from dsiam_net.pretraining import draw_filters
from dsiam_net.siamfc import add_losses, make_siamfc
from golden import GOLDENS
from matlab_import import read_mat, save_simplenn
from matlab_import.settings import python_name

pytestmark = pytest.mark.golden
LISTING = GOLDENS / "siamfc_full_listing.json"
NETWORKS = ("instance239", "instance255")
SMALL = ("vid_create_net_small1", "vid_create_net_small2", "vid_create_net_small3")
# Sizes in MATLAB, (H, W, C, N), from ours.
MATLAB = operator.itemgetter(2, 3, 1, 0)


def read(name):
    if not LISTING.is_file():
        pytest.skip("golden file siamfc_full_listing.json not found (set DSIAM_SHARED)")
    return json.loads(LISTING.read_text())[name]


def settings_of(block):
    """Settings of a layer of the listing in our names and axes, those with a meaning here."""
    settings = {python_name(name): value for name, value in block.items()}
    settings.pop("opts", None)
    if "size" in settings:
        height, width, channels, filters = settings["size"]
        settings["size"] = (filters, channels, height, width)
    if settings.get("num_channels") == []:
        del settings["num_channels"]  # fromSimpleNN leaves it empty
    return {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}


def from_listing(listing):
    """The network of the listing's layers; score maps have weights of one."""
    net = DagNN()
    for entry in listing["layers"]:
        settings = settings_of(entry["block"])
        if entry["type"] == "dagnn.BatchNorm":
            (multipliers,) = (p for p in listing["params"] if p["name"] == entry["params"][0])
            settings["num_channels"] = multipliers["size"][0]
        block = layer_class(entry["type"])(**settings)
        net.add_layer(entry["name"], block, entry["inputs"], entry["outputs"], entry["params"])
    for entry in listing["params"]:
        parameter = net.get_param(entry["name"])
        parameter.learning_rate = entry["learningRate"]
        parameter.weight_decay = entry["weightDecay"]
    return net


def from_builder(listing):
    # The listing's MatConvNet has a smaller epsilon than the one that SiamFC was written for.
    branch = siamfc_branch(epsilon=1e-5)
    draw_filters(branch, 0)
    net = make_siamfc(branch)
    add_losses(net, np.ones(listing["resp_sz"]), stride=listing["resp_stride"])
    return net


BUILDERS = {"listing": from_listing, "builder": from_builder}


@pytest.fixture(scope="module", params=[(n, b) for n in NETWORKS for b in BUILDERS], ids="-".join)
def both(request):
    """A listing, and the network made by one of the ways."""
    name, way = request.param
    listing = read(name)
    return listing, BUILDERS[way](listing)


def known(value):
    """What the listing's null stands for: NaN and infinity are equal in JSON."""
    return None if not math.isfinite(value) else value


def test_layers(both):
    listing, net = both
    found = [
        {"name": r.name, "type": r.type, "inputs": r.inputs, "outputs": r.outputs}
        | {"params": r.params}
        for r in net.layers
    ]
    assert found == [{k: v for k, v in e.items() if k != "block"} for e in listing["layers"]]
    assert len(found) == 35


def test_settings_of_layers(both):
    listing, net = both
    compared = 0
    for record, entry in zip(net.layers, listing["layers"]):
        own = record.block.save()
        for name, value in settings_of(entry["block"]).items():
            # The loss of centerThrErr and MaxScoreErr is a property that they inherit and ignore.
            if name == "loss" and entry["type"] != "dagnn.Loss":
                continue
            assert own[name] == value, (record.name, name)
            compared += 1
    # 11 convolutions of 5, 8 batch norms of 1, 8 ReLUs of 2, 4 poolings of 5, 3 losses of 2 or 3.
    assert compared == 11 * 5 + 8 + 8 * 2 + 4 * 5 + 3 * 2 + 1


def test_order_of_execution(both):
    listing, net = both
    assert [i + 1 for i in net.get_layer_execution_order()] == listing["executionOrder"]


def test_parameters(both):
    listing, net = both
    names = ("name", "learningRate", "weightDecay", "trainMethod", "fanout")
    found = [[getattr(p, python_name(name)) for name in names] for p in net.params]
    assert found == [[entry[name] for name in names] for entry in listing["params"]]
    assert len(found) == 24


def test_sizes_of_parameters():
    for listing in map(read, NETWORKS):
        net = from_builder(listing)
        for parameter, entry in zip(net.params, listing["params"]):
            size = list(parameter.value.shape)
            if len(size) == 4:
                filters, channels, height, width = size
                size = [height, width, channels, filters]
                while len(size) > 2 and size[-1] == 1:
                    size.pop()  # as MATLAB does
            size += [1] * (2 - len(size))
            assert size == entry["size"], entry["name"]
            assert parameter.value.dtype == np.float32 and entry["class"] == "single"


def test_filters_are_drawn_with_the_originals_deviation():
    for listing in map(read, NETWORKS):
        net = from_builder(listing)
        for parameter, entry in zip(net.params, listing["params"]):
            # The deviation of n drawn numbers is within a few 1 / sqrt(2 n) of the true one.
            allowed = 6 / math.sqrt(2 * parameter.value.size) * max(entry["std"], 1e-12)
            assert abs(float(parameter.value.std()) - entry["std"]) <= allowed, entry["name"]


def test_variables(both):
    listing, net = both
    found = [(v.name, v.fanin, v.fanout) for v in net.vars]
    assert found == [(e["name"], e["fanin"], e["fanout"]) for e in listing["vars"]]
    assert len(found) == 39
    inputs = {e["name"] for e in listing["vars"] if not e["fanin"]}
    assert set(net.get_inputs()) == inputs
    assert set(net.get_outputs()) == {e["name"] for e in listing["vars"] if not e["fanout"]}


def test_sizes_of_every_variable(both):
    listing, net = both
    listed = {e["name"]: e["size"] for e in listing["vars"]}
    # MATLAB's sizes are (H, W, C, N); a row of labels is given as one of four axes here.
    given = {n: tuple(listed[n][i] for i in (3, 2, 0, 1)) for n in net.get_inputs()}
    sizes = net.get_var_sizes(given)
    assert {name: list(MATLAB(size)) for name, size in sizes.items()} == listed
    assert listed["score"][:2] == listing["resp_sz"]


@pytest.mark.parametrize("source", ["exemplar", "instance"])
def test_receptive_fields_of_every_variable(both, source):
    listing, net = both
    fields = net.get_var_receptive_fields(source)
    assert len(fields) == len(listing["vars"]) == 39
    reached = 0
    for entry in listing["vars"]:
        expected, field = entry[f"rf_{source}"], fields[entry["name"]]
        if field is None:
            assert expected == {"size": [], "stride": [], "offset": []}, entry["name"]
            continue
        found = {part: [known(v) for v in getattr(field, part)] for part in ReceptiveField._fields}
        assert found == expected, entry["name"]
        reached += 1
    # A stream's sixteen variables and what is behind the correlation.
    assert reached == 16 + 5
    score = fields["score"]
    assert score.stride == (listing["resp_stride"],) * 2 and math.isinf(score.size[0])


def test_the_written_branch_has_the_fields_of_the_originals_simplenn(tmp_path):
    branch = siamfc_branch()
    branch.init_params(0)
    save_simplenn(branch, tmp_path / "net.mat")
    entries = read_mat(tmp_path / "net.mat")["layers"]
    expected = read("branch_simplenn")
    assert [(e["name"], e["type"]) for e in entries] == [(e["name"], e["type"]) for e in expected]
    assert [set(e) for e in entries] == [set(e["fields"]) for e in expected]


@pytest.mark.parametrize("name", SMALL)
def test_smaller_networks_have_the_geometry_of_the_large_one(name):
    layers = []
    for entry in read(name):
        fields = {"type": entry["type"], "name": entry["name"]}
        if entry["type"] == "conv":
            height, width, channels, filters = entry["wsize"]
            values = np.zeros((filters, channels, height, width), np.float32)
            fields |= {"weights": [values, np.zeros(filters, np.float32)]}
        elif entry["type"] == "bnorm":
            fields |= {"weights": [np.ones(entry["wsize"][0]), np.zeros(entry["wsize"][0])]}
        elif entry["type"] == "pool":
            fields |= {"pool": 3, "method": "max"}
        layers.append(fields | ({"stride": entry["stride"]} if "stride" in entry else {}))
    net = from_simple_nn(layers)
    sizes = net.get_var_sizes({"x0": (8, 3, 127, 127)})
    fields = net.get_var_receptive_fields("x0")
    listed = {e["name"]: e for e in read("instance255")["vars"]}
    ours = [v.name for v in net.vars]
    theirs = ["exemplar", *(f"a_x{i}" for i in range(1, 15)), "a_feat"]
    assert len(ours) == len(theirs) == 16
    for own, other in zip(ours, theirs):
        assert [sizes[own].h, sizes[own].w] == listed[other]["size"][:2]
        field = {part: list(getattr(fields[own], part)) for part in ReceptiveField._fields}
        assert field == listed[other]["rf_exemplar"]
    channels = [sizes[v].c for v in ours]
    assert channels[1] == 48 and channels[-1] == read(name)[-1]["wsize"][3]
