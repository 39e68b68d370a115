"""Tests of sizes and receptive fields: dagnet.geometry, Filter, and DagNN's methods."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from dagnet import (
    POINT,
    UNKNOWN,
    UNKNOWN_SIZE,
    DagNN,
    DagNNError,
    Filter,
    Layer,
    ReceptiveField,
    Size,
    UnknownNameError,
)
from dagnet.geometry import compose, join
from dsiam_net.fidelity.checks.networks import check_siamfc_listing
from golden import GOLDENS
from layers import Conv, Crop, Pooling, XCorr
from toy_layers import Plus, Split, Times

NAN = math.nan


def field(size, stride, offset):
    return ReceptiveField((size, size), (stride, stride), (offset, offset))


# Composition and joining, worked out by hand


def test_a_point_changes_nothing():
    other = ReceptiveField((3, 5), (2, 1), (0.5, 2))
    assert compose(POINT, other) == other == compose(other, POINT)


def test_a_window_over_a_window_of_stride_two():
    # Two windows of 3 cells, 2 apart, span 5; the pair's centre is between their centres 1 and 3.
    assert compose(field(3, 2, 1), field(2, 2, 1.5)) == field(5, 4, 2)


def test_the_unknown_stays_unknown():
    assert not compose(UNKNOWN, field(3, 2, 1)).known
    assert not compose(field(3, 2, 1), UNKNOWN).known
    assert not Size(1, 2, NAN, 4).known and Size(1, 2, 3, 4).known
    assert Size(2, 3, 4, 5).count == 120 and math.isnan(UNKNOWN_SIZE.count)


def test_two_ways_are_covered_by_the_smallest_window_over_both():
    # Cells 0 to 2 and 1 to 6 of the input: 0 to 6.
    assert join([field(3, 1, 1), field(6, 1, 3.5)]) == field(7, 1, 3)
    one = ReceptiveField((1, 3), (2, 2), (1, 1))
    other = ReceptiveField((5, 1), (2, 2), (1, 4))
    assert join([one, other]) == ReceptiveField((5, 5), (2, 2), (1, 2))


def test_ways_of_different_strides_have_no_common_window():
    assert not join([field(3, 2, 1), field(3, 1, 1)]).known
    assert not join([field(3, 2, 1), ReceptiveField((3, 3), (2, 1), (1, 1))]).known


def test_a_join_with_the_unknown_is_unknown_and_of_nothing_is_none():
    assert not join([UNKNOWN, POINT]).known and not join([POINT, UNKNOWN]).known
    assert join([]) is None


def test_the_whole_plane_covers_every_window_and_keeps_its_centre():
    whole = field(math.inf, 8, 44)
    assert join([whole, whole]) == whole
    assert join([field(3, 8, 1), whole]) == whole
    assert compose(whole, field(3, 2, 2)) == field(math.inf, 16, 52)


# Networks: what the derivative of one cell reaches is its receptive field

WINDOWS = {
    "plain": [Conv(size=(1, 1, 3, 3))],
    "uneven padding": [Conv(size=(1, 1, 5, 3), pad=(1, 3, 0, 2))],
    "stride and padding": [Conv(size=(1, 1, 3, 2), stride=(2, 3), pad=(1, 0, 2, 1))],
    "dilation": [Conv(size=(1, 1, 3, 2), dilate=(2, 3), pad=2)],
    "chain": [
        Conv(size=(1, 1, 3, 4), stride=2, pad=1),
        Pooling(pool_size=(2, 3), method="avg", stride=2),
        Conv(size=(1, 1, 2, 2), dilate=2, pad=(0, 1, 2, 0)),
    ],
    "even windows": [
        Pooling(pool_size=2, method="avg", stride=1),
        Pooling(pool_size=4, method="avg", stride=(1, 2), pad=1),
    ],
}


def chain(blocks):
    net = DagNN()
    for i, block in enumerate(blocks):
        params = [f"f{i}", f"b{i}"] if isinstance(block, Conv) else []
        net.add_layer(f"layer{i}", block, f"x{i}", f"x{i + 1}", params)
        if params:
            net.get_param(params[0]).value = np.ones(block.size)
            net.get_param(params[1]).value = np.zeros(block.size[0])
    return net


def reach(net, output, cell, plane):
    """First and last cell (1-based, both axes) of the input whose change reaches ``cell``."""
    net.get_var("x0").precious = True
    net.conserve_memory = False
    x = np.ones((1, 1, *plane))
    net.eval({"x0": x})
    der = np.zeros(net.get_var(output).value.shape)
    der[0, 0, cell[0], cell[1]] = 1
    net.eval({"x0": x}, {output: der})
    rows, columns = np.nonzero(net.get_var("x0").der[0, 0])
    return (rows.min() + 1, rows.max() + 1), (columns.min() + 1, columns.max() + 1)


def expected_reach(field, cell):
    """First and last cell, for a field that lies within the plane."""
    centres = [field.stride[axis] * cell[axis] + field.offset[axis] for axis in (0, 1)]
    halves = [(size - 1) / 2 for size in field.size]
    return tuple((centre - half, centre + half) for centre, half in zip(centres, halves))


@pytest.mark.parametrize("cell", [(3, 4), (4, 3)])
@pytest.mark.parametrize("name", WINDOWS)
def test_a_receptive_field_is_what_the_derivative_of_a_cell_reaches(name, cell):
    net = chain(WINDOWS[name])
    last = net.get_outputs()[0]
    found = net.get_var_receptive_fields("x0")[last]
    assert reach(net, last, cell, (41, 45)) == expected_reach(found, cell)


@pytest.mark.parametrize("name", WINDOWS)
def test_sizes_are_those_of_an_evaluation(name):
    net = chain(WINDOWS[name])
    net.conserve_memory = False
    for plane in ((23, 29), (24, 31)):
        net.eval({"x0": np.ones((2, 1, *plane))})
        sizes = net.get_var_sizes({"x0": (2, 1, *plane)})
        assert sizes == {v.name: v.value.shape for v in net.vars}


def two_ways(first, second):
    net = DagNN()
    for name, block in (("p", first), ("q", second)):
        net.add_layer(name, block, "x0", name, [f"{name}f", f"{name}b"])
        net.get_param(f"{name}f").value = np.ones(block.size)
        net.get_param(f"{name}b").value = np.zeros(1)
    net.add_layer("plus", Plus(), ["p", "q"], "z")
    return net


def test_ways_of_the_same_stride_join_in_a_network():
    # Windows of rows 1 to 3 and 0 to 2 for the first cell: 0 to 3.
    net = two_ways(
        Conv(size=(1, 1, 3, 3), pad=(0, 2, 1, 1)), Conv(size=(1, 1, 3, 3), pad=(1, 1, 1, 1))
    )
    found = net.get_var_receptive_fields("x0")["z"]
    assert found == ReceptiveField((4, 3), (1, 1), (1.5, 1))
    assert reach(net, "z", (2, 2), (9, 9)) == expected_reach(found, (2, 2))


def test_ways_of_different_strides_are_unknown_from_there_on():
    net = two_ways(Conv(size=(1, 1, 3, 3), stride=2), Conv(size=(1, 1, 3, 3)))
    net.add_layer("after", Times(), "z", "end", "w")
    fields = net.get_var_receptive_fields("x0")
    assert fields["p"].stride == (2, 2) and fields["q"].stride == (1, 1)
    assert not fields["z"].known and not fields["end"].known


def test_fields_exist_only_behind_the_variable():
    net = DagNN()
    net.add_layer("a", Times(), "x", "y", "w")
    net.add_layer("b", Times(), "y", "z", "w")
    net.add_layer("c", Times(), "u", "v", "w")
    fields = net.get_var_receptive_fields("y")
    assert fields == {"x": None, "y": POINT, "z": POINT, "u": None, "v": None}
    with pytest.raises(UnknownNameError, match="no variable 'q'"):
        net.get_var_receptive_fields("q")


def test_a_layer_that_tells_no_field_makes_it_unknown():
    net = DagNN()
    net.add_layer("split", Split(), "x", ["a", "b"])
    fields = net.get_var_receptive_fields("x")
    assert not fields["a"].known and not fields["b"].known


def test_correlation_of_a_map_with_itself_sees_the_whole_plane():
    net = chain(WINDOWS["plain"])
    net.add_layer("xcorr", XCorr(), ["x1", "x1"], "score")
    found = net.get_var_receptive_fields("x0")["score"]
    assert found.size == (math.inf, math.inf) and not any(map(math.isnan, found.offset))


def test_what_is_not_known_of_an_input_is_not_known_behind_it():
    net = chain(WINDOWS["plain"])
    unknown = net.get_var_sizes({})["x1"]
    assert math.isnan(unknown.n) and math.isnan(unknown.h) and not unknown.known
    partly = net.get_var_sizes({"x0": (NAN, 1, 7, 8)})["x1"]
    assert math.isnan(partly.n) and partly[1:] == (1, 5, 6)


def test_the_size_of_any_variable_can_be_given():
    net = chain(WINDOWS["chain"])
    sizes = net.get_var_sizes({"x1": (2, 1, 11, 12)})
    assert not sizes["x0"].known and sizes["x1"] == (2, 1, 11, 12)
    assert sizes["x2"] == (2, 1, 5, 5)


def test_sizes_that_make_no_sense_are_refused():
    net = chain(WINDOWS["plain"])
    with pytest.raises(DagNNError, match=r"'x0' must be \(N, C, H, W\), received \(3, 7, 8\)"):
        net.get_var_sizes({"x0": (3, 7, 8)})
    with pytest.raises(UnknownNameError, match="no variable 'data'"):
        net.get_var_sizes({"data": (1, 3, 7, 8)})


def test_outputs_of_several_sizes():
    net = DagNN()
    inputs = ["image", "score", "center", "sides", "color"]
    net.add_layer("crop", Crop(size=127), inputs, ["patch", "moved"])
    sizes = net.get_var_sizes({"image": (4, 3, 240, 320)})
    assert sizes["patch"] == (4, 3, 127, 127)


# Filter's settings


@dataclass(eq=False, kw_only=True)
class Window(Filter):
    """A window of one cell."""


@pytest.mark.parametrize(
    "given, pad", [(2, (2, 2, 2, 2)), ((1, 3), (1, 1, 3, 3)), ([1, 2, 3, 4], (1, 2, 3, 4))]
)
def test_padding_of_one_two_or_four_numbers(given, pad):
    block = Window(pad=given)
    assert block.pad == pad
    top, bottom, left, right = pad
    assert block.get_output_sizes([Size(1, 1, 5, 5)]) == [
        (1, 1, 5 + top + bottom, 5 + left + right)
    ]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pad": (1, 2, 3)}, r"pad must be .* received \(1, 2, 3\)"),
        ({"pad": -1}, r"pad must be .* received -1"),
        ({"stride": 0}, "stride must be one or two positive integers, received 0"),
        ({"dilate": (1, 1, 1)}, r"dilate must be .* received \(1, 1, 1\)"),
    ],
)
def test_windows_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Window(**settings)


def test_the_base_layer_passes_its_first_size_on():
    assert Layer().get_output_sizes([Size(1, 2, 3, 4), Size(5, 6, 7, 8)]) == [(1, 2, 3, 4)]


# Every variable of SiamFC, as MatConvNet lists it

LISTING = GOLDENS / "siamfc_full_listing.json"


@pytest.mark.golden
@pytest.mark.parametrize("name", ["instance239", "instance255"])
def test_sizes_and_fields_of_every_variable_are_matconvnets(name):
    if not LISTING.is_file():
        pytest.skip("golden file siamfc_full_listing.json not found (set DSIAM_SHARED)")
    listing = json.loads(LISTING.read_text())[name]
    found = check_siamfc_listing(listing)
    assert [c for c in found if not c.passed] == []
    compared = {c.what for c in found}
    for variable in (v["name"] for v in listing["vars"]):
        assert variable == "label" or f"size of {variable}" in compared
        assert f"receptive field of {variable} in exemplar" in compared
        assert f"receptive field of {variable} in instance" in compared
