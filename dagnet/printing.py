"""Tables and graphs of a network in text, after MatConvNet's ``DagNN.print``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .geometry import Size
from .layer import Layer
from .records import Parameter

if TYPE_CHECKING:
    from .net import DagNN

FORMATS = ("ascii", "latex", "csv", "dot")
# Bytes of one element of a variable or parameter in single precision.
BYTES = 4


def print_network(
    net: DagNN,
    input_sizes: Mapping[str, Sequence[int]] | None = None,
    *,
    format: str = "ascii",
    all: bool = False,
    layers: Iterable[str] | str | None = "*",
    parameters: Iterable[str] | str | None = None,
    variables: Iterable[str] | str | None = None,
    memory: bool = True,
    dependencies: bool | None = None,
    max_num_columns: int = 18,
) -> str:
    """Describe a network as text.

    Parameters
    ----------
    input_sizes : dict of name to (N, C, H, W), optional
        With it, sizes and memory of variables are known, and variables are listed.
    format : 'ascii', 'latex', 'csv' or 'dot'
    layers, parameters, variables : '*', names, or None
        What to list.
    all : bool
        List everything, receptive fields too.
    memory : bool
        Add the memory that parameters and variables take in single precision.
    dependencies : bool
        Add receptive fields in every input (default: with ``all``).
    max_num_columns : int
        Layers (variables, parameters) a table.

    Raises
    ------
    ValueError
        If the format is not known, or ``max_num_columns`` is not positive.
    UnknownNameError
        If a name is not one of the network's.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}, received {format!r}")
    if max_num_columns < 1:
        raise ValueError(f"max_num_columns must be positive, received {max_num_columns}")
    sizes = net.get_var_sizes(input_sizes or {})
    if format == "dot":
        return _dot(net, sizes)
    if all:
        parameters = variables = "*"
    elif input_sizes and variables is None:
        variables = "*"
    blocks = []
    if layers is not None:
        blocks += _chunks(_layer_columns(net, layers), max_num_columns, format)
    if parameters is not None:
        blocks += _chunks(_parameter_columns(net, parameters), max_num_columns, format)
    if variables is not None:
        blocks += _chunks(_variable_columns(net, sizes, variables), max_num_columns, format)
    if memory:
        blocks.append(_table(_memory_rows(net, sizes), format))
    if all if dependencies is None else dependencies:
        for name in net.get_inputs():
            blocks += _chunks(_field_columns(net, name), max_num_columns, format)
    return "\n".join(blocks)


def format_memory(count: float) -> str:
    """Bytes as text with a unit: ``'23MB'``."""
    if math.isnan(count):
        return "NaN"
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.0f}GB" if count >= 10 else f"{count:.1f}GB"


def parameter_memory(net: DagNN) -> float:
    """Bytes of all parameters that have a value, in single precision."""
    return sum(BYTES * p.value.size for p in net.params if p.value is not None)


def variable_memory(sizes: Mapping[str, Size]) -> float:
    """Bytes of all variables of known size, in single precision."""
    return sum(BYTES * size.count for size in sizes.values() if size.known)


def _dims(values: Sequence[float]) -> str:
    if any(math.isnan(v) for v in values):
        return "n/a"
    if len(set(values)) == 1:
        return f"{values[0]:.4g}"
    return "x".join(f"{v:.4g}" for v in values)


def _setting(block: Layer, name: str) -> str:
    """A setting of one or several numbers."""
    return _dims(np.atleast_1d(getattr(block, name)).tolist()) if hasattr(block, name) else "n/a"


def _shape(values: Sequence[float] | None) -> tuple[str, str]:
    """A size in full, as (N, C, H, W) with x between, and its memory; None is not known."""
    if values is None or any(math.isnan(v) for v in values):
        return "n/a", "NaN"
    # An array of shape () is one number.
    text = "x".join(f"{v:.0f}" for v in values) or "1"
    return text, format_memory(BYTES * math.prod(values))


def _shape_of(parameter: Parameter) -> Sequence[int] | None:
    return None if parameter.value is None else parameter.value.shape


def _chosen(
    records: Sequence[Any], which: Iterable[str] | str, find: Callable[[str], Any]
) -> list[Any]:
    """Records of these names, in the network's order."""
    if isinstance(which, str):
        if which == "*":
            return list(records)
        which = (which,)
    names = {find(name).name for name in which}
    return [record for record in records if record.name in names]


def _layer_columns(net: DagNN, which: Iterable[str] | str) -> list[list[str]]:
    columns = [["func", "-", "type", "inputs", "outputs", "params", "pad", "stride"]]
    for record in _chosen(net.layers, which, net.get_layer):
        columns.append(
            [
                record.name,
                "-",
                record.type.removeprefix("dagnn."),
                " ".join(record.inputs),
                " ".join(record.outputs),
                " ".join(record.params),
                _setting(record.block, "pad"),
                _setting(record.block, "stride"),
            ]
        )
    return columns


def _parameter_columns(net: DagNN, which: Iterable[str] | str) -> list[list[str]]:
    columns = [["param", "-", "dims", "mem", "fanout"]]
    for p in _chosen(net.params, which, net.get_param):
        columns.append([p.name, "-", *_shape(_shape_of(p)), str(p.fanout)])
    return columns


def _variable_columns(
    net: DagNN, sizes: Mapping[str, Size], which: Iterable[str] | str
) -> list[list[str]]:
    columns = [["var", "-", "dims", "mem", "fanin", "fanout"]]
    for v in _chosen(net.vars, which, net.get_var):
        columns.append([v.name, "-", *_shape(sizes[v.name]), str(v.fanin), str(v.fanout)])
    return columns


def _field_columns(net: DagNN, name: str) -> list[list[str]]:
    columns = [[f"rf in '{name}'", "-", "size", "stride", "offset"]]
    for variable, field in net.get_var_receptive_fields(name).items():
        cells = ["n/a"] * 3 if field is None else [_dims(part) for part in field]
        columns.append([variable, "-", *cells])
    return columns


def _memory_rows(net: DagNN, sizes: Mapping[str, Size]) -> list[list[str]]:
    parameters, variables = parameter_memory(net), variable_memory(sizes)
    return [
        ["params", "vars", "total"],
        [format_memory(m) for m in (parameters, variables, parameters + variables)],
    ]


def _chunks(columns: list[list[str]], most: int, format: str) -> list[str]:
    head, *rest = columns
    return [
        _table([list(row) for row in zip(head, *rest[i : i + most])], format)
        for i in range(0, len(rest), most)
    ]


def _table(rows: list[list[str]], format: str) -> str:
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    rules = [all(cell == "-" for cell in row) for row in rows]
    if format == "ascii":
        lines = [
            "".join(("-" * w if rule else cell.rjust(w)) + "|" for cell, w in zip(row, widths))
            for row, rule in zip(rows, rules)
        ]
    elif format == "latex":
        lines = [r"\begin{tabular}{" + "c" * len(widths) + "}"]
        for row, rule in zip(rows, rules):
            cells = (cell.replace("\\", "\\\\").replace("_", r"\_") for cell in row)
            lines.append(r"\hline" if rule else " & ".join(cells) + r" \\")
        lines.append(r"\end{tabular}")
    else:
        lines = [
            ",".join('"' + cell.replace('"', '""') + '"' for cell in row)
            for row, rule in zip(rows, rules)
            if not rule
        ]
    return "\n".join(lines) + "\n"


def _dot(net: DagNN, sizes: Mapping[str, Size]) -> str:
    font = 'fontsize=12 fontname="helvetica"'
    lines = ["digraph DagNN {", "\tfontsize=12"]
    for v in net.vars:
        dims, memory = _shape(sizes[v.name])
        label = f"{{{{{v.name}}} | {{{dims} | {memory} }}}}"
        lines.append(
            f'\t"var_{v.name}" [label="{label}" shape=record style="solid,rounded,filled" '
            f"color=cornsilk4 fillcolor=beige {font}]"
        )
    for p in net.params:
        dims, memory = _shape(_shape_of(p))
        label = f"{{{{{p.name}}} | {{{dims} | {memory} }}}}"
        lines.append(
            f'\t"par_{p.name}" [label="{label}" shape=record style="solid,rounded,filled" '
            f"color=lightsteelblue4 fillcolor=lightsteelblue {font}]"
        )
    graph = net.to_networkx()
    for node, about in graph.nodes(data=True):
        kind, name = node
        if kind != "layer":
            continue
        lines.append(
            f'\t"{name}" [label="{{ {name} | {about["type"]} }}" shape=record '
            f'style="bold,filled" color="tomato4" fillcolor="tomato" {font}]'
        )
        lines += [f'\t"var_{v}"->"{name}" [weight=10]' for _, v in graph.predecessors(node)]
        lines += [f'\t"{name}"->"var_{v}" [weight=10]' for _, v in graph.successors(node)]
        lines += [f'\t"par_{p}"->"{name}" [weight=1]' for p in about["params"]]
    lines.append("}")
    return "\n".join(lines) + "\n"
