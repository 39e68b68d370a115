"""Tables and graphs of a network in text, after MatConvNet's ``DagNN.print``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from .cells import (
    BYTES,
    UNKNOWN_CELL,
    dims_cell,
    format_memory,
    format_seconds,
    setting_cell,
    shape_cells,
)
from .dot import dot_text, render_dot
from .errors import UnknownNameError
from .geometry import Size
from .records import LayerRecord, Parameter

if TYPE_CHECKING:
    import networkx

    from .net import DagNN

FORMATS = ("ascii", "latex", "csv", "dot", "digraph")
# Which records to list: all, by names or places, or none.
Choice = Iterable[str | int] | str | int | None

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def print_network(
    net: DagNN,
    input_sizes: Mapping[str, Sequence[int]] | None = None,
    *,
    format: str = "ascii",
    all: bool = False,
    layers: Choice = "*",
    parameters: Choice = None,
    variables: Choice = None,
    memory: bool = True,
    dependencies: bool | None = None,
    times: bool = False,
    max_num_columns: int = 18,
    figure_path: str | os.PathLike | None = None,
    dot_args: str | Sequence[str] = (),
) -> str | networkx.DiGraph:
    """Describe a network as text, or as a graph.

    Parameters
    ----------
    input_sizes : dict of name to (N, C, H, W), optional
        With it, sizes and memory of variables are known, and variables are listed.
    format : 'ascii', 'latex', 'csv', 'dot' or 'digraph'
        Tables, or the whole network as a graph: for Graphviz, or as ``digraph`` gives it.
    layers, parameters, variables : '*', names, places in the network's lists, or None
        What to list.
    all : bool
        List everything, receptive fields too.
    memory : bool
        Add the memory that parameters and variables take in single precision.
    dependencies : bool
        Add receptive fields in every input (default: with ``all``).
    times : bool
        Add the time that each listed layer took in the last evaluation, and the sums by type of
        layer. What ran for several layers is noted at the first of them (``plan=False`` runs each
        by itself).
    max_num_columns : int
        Layers (variables, parameters) a table.
    figure_path : path, optional
        With the format ``dot``: let Graphviz draw the graph too (``render_dot``).
    dot_args : str or list of str
        Further arguments of its program ``dot``.

    Returns
    -------
    str, or networkx.DiGraph with the format ``digraph``

    Raises
    ------
    ValueError
        If the format is not known, ``max_num_columns`` is not positive, or a figure is asked for
        with another format than ``dot``.
    UnknownNameError
        If a name or place is not one of the network's.
    DagNNError
        If the figure cannot be drawn.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}, received {format!r}")
    if max_num_columns < 1:
        raise ValueError(f"max_num_columns must be positive, received {max_num_columns}")
    if figure_path is not None and format != "dot":
        raise ValueError(f"figure_path goes with the format 'dot', received format {format!r}")
    sizes = net.get_var_sizes(input_sizes or {})
    if format == "digraph":
        return digraph(net, sizes)
    if format == "dot":
        text = dot_text(net, sizes)
        if figure_path is not None:
            render_dot(text, figure_path, dot_args)
        return text
    if all:
        parameters = variables = "*"
    elif input_sizes and variables is None:
        variables = "*"
    tables = []
    if layers is not None:
        tables.append(_layer_columns(_chosen("layer", net.layers, layers, net.get_layer)))
    if parameters is not None:
        tables.append(
            _parameter_columns(_chosen("parameter", net.params, parameters, net.get_param))
        )
    if variables is not None:
        chosen = _chosen("variable", net.vars, variables, net.get_var)
        tables.append(_variable_columns(chosen, sizes))
    blocks = [block for table in tables for block in _chunks(table, max_num_columns, format)]
    if memory:
        blocks.append(_table(_memory_rows(net, sizes), format))
    if all if dependencies is None else dependencies:
        for name in net.get_inputs():
            blocks += _chunks(_field_columns(net, name), max_num_columns, format)
    if times:
        timed = _chosen("layer", net.layers, "*" if layers is None else layers, net.get_layer)
        blocks += _chunks(_time_columns(timed), max_num_columns, format)
        blocks += _chunks(_type_columns(timed), max_num_columns, format)
    return "\n".join(blocks)


def digraph(net: DagNN, sizes: Mapping[str, Size]) -> networkx.DiGraph:
    """The graph that MatConvNet's format ``digraph`` plots, of variables and layers.

    It is ``DagNN.to_networkx()``, and has for each edge the ``weight``, the height of the variable
    at its end (1 where it is not known), and for each variable ``channels`` (0 where not known).
    """
    graph = net.to_networkx()
    for kind, name in graph.nodes:
        if kind == "var":
            size = sizes[name]
            graph.nodes[kind, name]["channels"] = _known(size.c, 0)
    for first, second in graph.edges:
        variable = first if first[0] == "var" else second
        graph.edges[first, second]["weight"] = _known(sizes[variable[1]].h, 1)
    return graph


def _known(value: float, default: int) -> int:
    # NaN is not equal to itself.
    return int(value) if value == value else default


def parameter_memory(net: DagNN) -> float:
    """Bytes of all parameters that have a value, in single precision."""
    return sum(BYTES * p.value.size for p in net.params if p.value is not None)


def variable_memory(sizes: Mapping[str, Size]) -> float:
    """Bytes of all variables of known size, in single precision."""
    return sum(BYTES * size.count for size in sizes.values() if size.known)


def _chosen(kind: str, records: Sequence[Any], which: Choice, find: Callable[[str], Any]) -> list:
    """Records of these names or places, in the network's order."""
    if isinstance(which, str) and which == "*":
        return list(records)
    if isinstance(which, (str, Integral)):
        which = (which,)
    names = set()
    for one in which:
        if isinstance(one, Integral):
            if not 0 <= one < len(records):
                raise UnknownNameError(
                    f"no {kind} at place {one}: the network's places are 0 to {len(records) - 1}"
                )
            names.add(records[one].name)
        else:
            names.add(find(one).name)
    return [record for record in records if record.name in names]


def _type(record: LayerRecord) -> str:
    return record.type.removeprefix("dagnn.")


def _layer_columns(records: Iterable[LayerRecord]) -> list[list[str]]:
    columns = [["func", "-", "type", "inputs", "outputs", "params", "pad", "stride"]]
    for record in records:
        columns.append(
            [
                record.name,
                "-",
                _type(record),
                " ".join(record.inputs),
                " ".join(record.outputs),
                " ".join(record.params),
                setting_cell(record.block, "pad"),
                setting_cell(record.block, "stride"),
            ]
        )
    return columns


def _parameter_columns(records: Iterable[Parameter]) -> list[list[str]]:
    columns = [["param", "-", "dims", "mem", "fanout"]]
    for p in records:
        shape = None if p.value is None else p.value.shape
        columns.append([p.name, "-", *shape_cells(shape), str(p.fanout)])
    return columns


def _variable_columns(records: Iterable[Any], sizes: Mapping[str, Size]) -> list[list[str]]:
    columns = [["var", "-", "dims", "mem", "fanin", "fanout"]]
    for v in records:
        columns.append([v.name, "-", *shape_cells(sizes[v.name]), str(v.fanin), str(v.fanout)])
    return columns


def _field_columns(net: DagNN, name: str) -> list[list[str]]:
    columns = [[f"rf in '{name}'", "-", "size", "stride", "offset"]]
    for variable, field in net.get_var_receptive_fields(name).items():
        cells = [UNKNOWN_CELL] * 3 if field is None else [dims_cell(part) for part in field]
        columns.append([variable, "-", *cells])
    return columns


def _memory_rows(net: DagNN, sizes: Mapping[str, Size]) -> list[list[str]]:
    parameters, variables = parameter_memory(net), variable_memory(sizes)
    return [
        ["params", "vars", "total"],
        [format_memory(m) for m in (parameters, variables, parameters + variables)],
    ]


def _time_columns(records: Iterable[LayerRecord]) -> list[list[str]]:
    columns = [["time", "-", "forward", "backward"]]
    for record in records:
        cells = [format_seconds(s) for s in (record.forward_time, record.backward_time)]
        columns.append([record.name, "-", *cells])
    return columns


def _type_columns(records: Iterable[LayerRecord]) -> list[list[str]]:
    """Times by type of layer, the longest first, and in all; layers without a time count not."""
    by_type: dict[str, list[LayerRecord]] = {}
    for record in records:
        if record.forward_time is not None:
            by_type.setdefault(_type(record), []).append(record)

    def seconds(group: list[LayerRecord]) -> tuple[float, float]:
        return sum(r.forward_time for r in group), sum(r.backward_time or 0.0 for r in group)

    groups = sorted(by_type.items(), key=lambda item: -sum(seconds(item[1])))
    groups.append(("total", [record for _, group in groups for record in group]))
    columns = [["time by type", "-", "layers", "forward", "backward"]]
    for name, group in groups:
        forward, backward = seconds(group)
        ran_backward = any(record.backward_time is not None for record in group)
        cells = [format_seconds(forward), format_seconds(backward if ran_backward else None)]
        columns.append([name, "-", str(len(group)), *cells])
    return columns


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
            cells = ("".join(_LATEX.get(sign, sign) for sign in cell) for cell in row)
            lines.append(r"\hline" if rule else " & ".join(cells) + r" \\")
        lines.append(r"\end{tabular}")
    else:
        lines = [
            ",".join('"' + cell.replace('"', '""') + '"' for cell in row)
            for row, rule in zip(rows, rules)
            if not rule
        ]
    return "\n".join(lines) + "\n"
