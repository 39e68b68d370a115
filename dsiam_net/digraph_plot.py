"""A network as a picture of its graph, as MatConvNet's ``DagNN.print`` plots a ``digraph``."""

from __future__ import annotations

import os

import matplotlib
import networkx
from matplotlib.figure import Figure

from .figures import save_figure

# As there: the widest line, and squares of these sides (points) for layers and variables.
WIDEST, LAYER_SIDE, VARIABLE_SIDE = 5.0, 8.0, 5.0
LAYER_COLOR = "#0072B2"
# Inches of the figure's sides for the square root of a node, and their least.
SIDE_OF_NODE, LEAST_SIDE = 1.2, 4.0
LABEL_POINTS = 7


def draw_digraph(graph: networkx.DiGraph, path: str | os.PathLike) -> None:
    """Write the picture of ``net.print(input_sizes, format='digraph')``.

    Lines are as wide as their variables are high, at most five points; variables are the darker
    the fewer channels they have, and layers blue. Nodes lie where springs would pull them.

    Parameters
    ----------
    graph : networkx.DiGraph
    path : path ending in .svg, .png or .pdf

    Raises
    ------
    ValueError
        For another suffix.
    """
    side = max(LEAST_SIDE, SIDE_OF_NODE * len(graph) ** 0.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    places = networkx.spring_layout(graph, seed=0)
    channels = networkx.get_node_attributes(graph, "channels")
    colors = matplotlib.colormaps["copper"]
    most = max([*channels.values(), 1])
    variables, layers = list(channels), [node for node in graph if node not in channels]
    for nodes, points, color in (
        (variables, VARIABLE_SIDE, [colors(channels[node] / most) for node in variables]),
        (layers, LAYER_SIDE, LAYER_COLOR),
    ):
        networkx.draw_networkx_nodes(
            graph, places, nodes, node_size=points**2, node_color=color, node_shape="s", ax=axes
        )
    weights = [weight for _, _, weight in graph.edges.data("weight")]
    widest = max([*weights, WIDEST])
    widths = [WIDEST * weight / widest for weight in weights]
    networkx.draw_networkx_edges(
        graph, places, width=widths, edge_color="#999999", node_size=LAYER_SIDE**2, ax=axes
    )
    labels = {node: node[1] for node in graph}
    networkx.draw_networkx_labels(
        graph, places, labels, font_size=LABEL_POINTS, verticalalignment="bottom", ax=axes
    )
    save_figure(figure, path)
