"""Tests of dsiam_net.digraph_plot."""

import re

import pytest

from dagnet import DagNN
from dsiam_net.digraph_plot import draw_digraph
from layers import Conv, ReLU


def graph():
    net = DagNN()
    net.add_layer("conv", Conv(size=(8, 3, 3, 3)), "x", "y", ["f", "b"])
    net.add_layer("relu", ReLU(), "y", "z")
    return net.print({"x": (1, 3, 12, 9)}, format="digraph")


def test_every_variable_and_layer_has_its_name_in_the_picture(tmp_path):
    path = tmp_path / "net.svg"
    draw_digraph(graph(), path)
    found = re.findall(r">([^<>\n]+)</text>", path.read_text())
    assert sorted(found) == ["conv", "relu", "x", "y", "z"]


def test_lines_are_as_wide_as_variables_are_high(tmp_path):
    path = tmp_path / "net.svg"
    draw_digraph(graph(), path)
    widths = [float(w) for w in re.findall(r"stroke-width: ([0-9.]+)", path.read_text())]
    # Heights 12, 10, 10, 10 of x, y, y, z against 12, the greatest.
    for width in (5.0, 5 * 10 / 12):
        assert any(abs(found - width) < 1e-3 for found in widths), widths


def test_a_network_without_layers_and_sizes_is_drawn(tmp_path):
    draw_digraph(DagNN().print(format="digraph"), tmp_path / "net.png")
    with pytest.raises(ValueError, match="suffix"):
        draw_digraph(graph(), tmp_path / "net.gif")
