"""A network as a graph of Graphviz, after the format ``dot`` of MatConvNet's ``DagNN.print``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cells import shape_cells
from .errors import DagNNError
from .geometry import Size

if TYPE_CHECKING:
    from .net import DagNN

PROGRAM = "dot"
_FONT = 'fontsize=12 fontname="helvetica"'


def dot_text(net: DagNN, sizes: Mapping[str, Size]) -> str:
    """The graph as text: a node for each variable, parameter and layer, an edge for each use."""
    lines = ["digraph DagNN {", "\tfontsize=12"]
    for v in net.vars:
        lines.append(_array_node("var", v.name, sizes[v.name], "cornsilk4", "beige"))
    for p in net.params:
        shape = None if p.value is None else p.value.shape
        lines.append(_array_node("par", p.name, shape, "lightsteelblue4", "lightsteelblue"))
    graph = net.to_networkx()
    for node, about in graph.nodes(data=True):
        kind, name = node
        if kind != "layer":
            continue
        lines.append(
            f'\t{_id(name)} [label="{{ {_label(name)} | {about["type"]} }}" shape=record '
            f'style="bold,filled" color="tomato4" fillcolor="tomato" {_FONT}]'
        )
        edges = [(_id(f"var_{v}"), _id(name), 10) for _, v in graph.predecessors(node)]
        edges += [(_id(name), _id(f"var_{v}"), 10) for _, v in graph.successors(node)]
        edges += [(_id(f"par_{p}"), _id(name), 1) for p in about["params"]]
        lines += [f"\t{source}->{target} [weight={weight}]" for source, target, weight in edges]
    lines.append("}")
    return "\n".join(lines) + "\n"


def render_dot(text: str, path: str | os.PathLike, args: str | Sequence[str] = ()) -> Path:
    """Let Graphviz draw a graph; the text is written beside the figure, as ``.dot``.

    Parameters
    ----------
    text : str
        From ``dot_text``.
    path : path
        Of the figure; its suffix says the format (``.pdf`` if it has none).
    args : str or list of str
        Further arguments of the program ``dot``: ``'-Gsize=7'``.

    Returns
    -------
    Path of the figure.

    Raises
    ------
    DagNNError
        If Graphviz is not installed, or refuses; the text is written all the same.
    """
    figure = Path(path)
    figure = figure if figure.suffix else figure.with_suffix(".pdf")
    source = figure.with_suffix(".dot")
    source.write_text(text, encoding="utf-8")
    if figure == source:
        return source
    program = shutil.which(PROGRAM)
    if program is None:
        raise DagNNError(
            f"the figure {figure} needs Graphviz, whose program {PROGRAM!r} was not found; the "
            f"graph is in {source}"
        )
    args = shlex.split(args) if isinstance(args, str) else list(args)
    command = [program, f"-T{figure.suffix[1:]}", *args, "-o", str(figure), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DagNNError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")
    return figure


def _array_node(
    prefix: str, name: str, shape: Sequence[float] | None, color: str, fill: str
) -> str:
    dims, memory = shape_cells(shape)
    return (
        f'\t{_id(f"{prefix}_{name}")} [label="{{{{{_label(name)}}} | {{{dims} | {memory} }}}}" '
        f'shape=record style="solid,rounded,filled" color={color} fillcolor={fill} {_FONT}]'
    )


def _id(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _label(name: str) -> str:
    """A name within the label of a record, where braces, bars and angles mean something."""
    return re.sub(r'([\\"{}|<>])', r"\\\1", name)
