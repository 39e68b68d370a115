"""What the unrolled network is made of: as data (JSON), and as tables of text."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dagnet import DagNN, LayerRecord, Size, atomic_write
from dagnet.printing import BYTES, format_memory

from .unrolled import BRANCHES

# Columns of a terminal that the tables keep to.
WIDTH = 100
# Role of a parameter by the type of the layer that uses it and its place there, in the order of
# the summary.
ROLES = {
    ("dagnn.Conv", 0): "filters",
    ("dagnn.Conv", 1): "biases",
    ("dagnn.BatchNorm", 0): "batch norm",
    ("dagnn.BatchNorm", 1): "batch norm",
    ("dagnn.BatchNorm", 2): "batch norm",
    ("adjust", 0): "adjust",
    ("adjust", 1): "adjust",
    ("CirConv", 0): "learning rates",
    ("RLR", 0): "lambdas",
}


# Parts of an unrolled network


def unrolled_meta(net: DagNN) -> dict[str, Any]:
    """``net.meta['unrolled']`` as plain Python values.

    Raises
    ------
    ValueError
        If the network was not made by ``build_unrolled``.
    """
    try:
        return _plain(net.meta["unrolled"])
    except KeyError:
        raise ValueError(
            "expected an unrolled network (build_unrolled writes its meta['unrolled']), received "
            f"one of {len(net.layers)} layers without that"
        ) from None


def frame_layers(net: DagNN, t: int) -> list[LayerRecord]:
    """The layers of frame ``t`` (from 1), in the network's order."""
    return [record for record in net.layers if record.name.startswith(f"f{t}_")]


def branch_of(name: str, t: int) -> str | None:
    """The branch of frame ``t`` (a key of ``BRANCHES``) that a layer or variable belongs to.

    ``f2_gbar_x3`` belongs to ``gbar``; what stands outside the branches gives None.
    """
    return next((b for b in BRANCHES if name.startswith(f"f{t}_{b}_")), None)


def branch_layers(net: DagNN, t: int, branch: str) -> list[LayerRecord]:
    """The layers of one feature branch of frame ``t``."""
    return [r for r in frame_layers(net, t) if branch_of(r.name, t) == branch]


def frames_of_variables(
    net: DagNN,
) -> tuple[dict[str, int], dict[str, set[int]]]:
    """Frame that writes each variable (inputs are missing), and frames that read it."""
    writer: dict[str, int] = {}
    readers: dict[str, set[int]] = {variable.name: set() for variable in net.vars}
    for t in range(1, unrolled_meta(net)["frames"] + 1):
        for record in frame_layers(net, t):
            writer.update(dict.fromkeys(record.outputs, t))
            for variable in record.inputs:
                readers[variable].add(t)
    return writer, readers


def crop_frames(net: DagNN, t: int) -> list[str]:
    """The images that the crops of frame ``t`` are cut out of."""
    return _crop_inputs(net, t, slice(0, 1))


def crop_places(net: DagNN, t: int) -> list[str]:
    """What tells where the crops of frame ``t`` lie: a response and its centre, or a centre."""
    return _crop_inputs(net, t, slice(1, -2))


def _crop_inputs(net: DagNN, t: int, places: slice) -> list[str]:
    crops = [record for record in frame_layers(net, t) if record.type == "Crop"]
    return list(dict.fromkeys(name for crop in crops for name in crop.inputs[places]))


def feature_names(net: DagNN, t: int = 1) -> list[str]:
    """Feature variables of the branches, without prefix, outermost first: what RLR reads."""
    names = [
        variable.removeprefix(f"f{t}_{branch_of(variable, t)}_")
        for record in frame_layers(net, t)
        if record.type == "RLR"
        for variable in record.inputs
    ]
    return list(dict.fromkeys(names))


def input_sizes(net: DagNN, frame_size: Sequence[int] = (480, 640)) -> dict[str, Size]:
    """Sizes ``(N, C, H, W)`` of the network's inputs, for one clip.

    Positions, sides and colours, which are (N, 2) or (N, 3), count as maps of one cell.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``.
    frame_size : (height, width), pixels
    """
    meta = unrolled_meta(net)
    side, cells = meta["exemplar_size"], meta["map_size"]
    fixed = {
        "template": Size(1, 3, side, side),
        "center0": Size(1, 2, 1, 1),
        "sides": Size(1, 2, 1, 1),
        "color": Size(1, 3, 1, 1),
    }
    numbered = {
        "frame": Size(1, 3, *frame_size),
        "score": Size(1, 1, *cells),
        "label": Size(1, 1, *cells),
        "target": Size(1, 2, 1, 1),
        "given_center": Size(1, 2, 1, 1),
    }
    return {
        name: fixed[name] if name in fixed else numbered[name.rstrip("0123456789")]
        for name in net.get_inputs()
    }


def parameter_shapes(net: DagNN) -> dict[str, tuple[int, ...] | None]:
    """Shape of each parameter: its value's, or while it has none the one that its layer draws."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for record in net.layers:
        if all(name in shapes for name in record.params):
            continue
        values = [net.get_param(name).value for name in record.params]
        if any(value is None for value in values):
            drawn = record.block.init_params(np.random.default_rng(0))
            drawn += [None] * (len(values) - len(drawn))
            values = [d if v is None else v for v, d in zip(values, drawn)]
        for name, value in zip(record.params, values):
            shapes.setdefault(name, None if value is None else tuple(value.shape))
    return shapes


# As data


def describe_network(net: DagNN) -> dict[str, Any]:
    """Layers, parameters, inputs and outputs of a network as what JSON can hold.

    Returns
    -------
    dict
        ``settings`` (``meta['unrolled']``, or None), ``counts`` (of layers, variables and
        parameters), ``types`` (layers by type), ``inputs`` and ``outputs`` (names of variables),
        ``layers`` (name, type, inputs, outputs, params) and ``params`` (name, shape,
        learning_rate, weight_decay, train_method).
    """
    shapes = parameter_shapes(net)
    return {
        "settings": _plain(net.meta.get("unrolled")),
        "counts": {
            "layers": len(net.layers),
            "variables": len(net.vars),
            "parameters": len(net.params),
        },
        "types": dict(Counter(record.type for record in net.layers)),
        "inputs": net.get_inputs(),
        "outputs": net.get_outputs(),
        "params": [
            {
                "name": p.name,
                "shape": None if shapes[p.name] is None else list(shapes[p.name]),
                "learning_rate": float(p.learning_rate),
                "weight_decay": float(p.weight_decay),
                "train_method": p.train_method,
            }
            for p in net.params
        ],
        "layers": [
            {
                "name": record.name,
                "type": record.type,
                "inputs": list(record.inputs),
                "outputs": list(record.outputs),
                "params": list(record.params),
            }
            for record in net.layers
        ],
    }


def write_listing(net: DagNN, path: str | os.PathLike) -> None:
    """Write ``describe_network(net)`` as indented JSON in UTF-8."""
    text = json.dumps(describe_network(net), indent=1, ensure_ascii=False) + "\n"
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))


def _plain(value: Any) -> Any:
    """Containers of Python numbers and strings from those of NumPy's."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


# As text


def summary(net: DagNN, frame_size: Sequence[int] = (480, 640)) -> str:
    """Tables of layers, variables and parameters; the last two lines are the numbers of layers
    and of parameters.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``.
    frame_size : (height, width)
        Of the video, pixels: sizes and memory of the frames depend on it.
    """
    sizes = net.get_var_sizes(input_sizes(net, frame_size))
    shapes = parameter_shapes(net)
    parts = [
        _title(net),
        _layer_table(net),
        _variable_table(net),
        _size_table(net, sizes),
        _parameter_table(net, shapes),
        _memory_table(net, sizes, shapes, frame_size),
        f"layers {len(net.layers)}\nparameters {len(net.params)}",
    ]
    return "\n\n".join(parts)


def short_type(record: LayerRecord) -> str:
    """Type of a layer without MatConvNet's prefix: ``Conv``."""
    return record.type.removeprefix("dagnn.")


def shape_text(shape: Iterable[float] | None) -> str:
    """A shape with x between: ``96x3x11x11``."""
    if shape is None:
        return "?"
    return "x".join("?" if math.isnan(n) else f"{n:.0f}" for n in shape)


def _title(net: DagNN) -> str:
    meta = unrolled_meta(net)
    plural = "" if meta["frames"] == 1 else "s"
    text = (
        f"DSiam unrolled over {meta['frames']} frame{plural}: feature layers "
        f"{', '.join(meta['features'])}; template {meta['exemplar_size']}, search region "
        f"{meta['search_size']} pixels; response {shape_text(meta['map_size'])} cells of "
        f"{meta['stride']} pixels"
    )
    return textwrap.fill(text, WIDTH)


def _table(rows: Sequence[Sequence[Any]], left: int = 1, indent: str = "") -> str:
    """Rows in columns: the first ``left`` columns flush left, the others flush right."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))]
    lines = []
    for row in cells:
        parts = [
            cell.ljust(w) if j < left else cell.rjust(w)
            for j, (cell, w) in enumerate(zip(row, widths))
        ]
        lines.append((indent + "  ".join(parts)).rstrip())
    return "\n".join(lines)


def _layer_table(net: DagNN) -> str:
    frame = Counter(short_type(record) for record in frame_layers(net, 1))
    total = Counter(short_type(record) for record in net.layers)
    rows: list[Sequence[Any]] = [("layers", "a frame", "all frames")]
    rows += [(kind, frame[kind], count) for kind, count in total.items()]
    return _table([*rows, ("total", sum(frame.values()), sum(total.values()))])


def _variable_table(net: DagNN) -> str:
    first = {v for record in frame_layers(net, 1) for v in (*record.inputs, *record.outputs)}
    rows: list[Sequence[Any]] = [("variables", "of frame 1", "of all frames")]
    for kind, names in (
        ("inputs", net.get_inputs()),
        ("computed", [v.name for v in net.vars if v.fanin]),
        ("of these, read by no layer", net.get_outputs()),
    ):
        rows.append((kind, len(first.intersection(names)), len(names)))
    return _table(rows)


def _size_table(net: DagNN, sizes: dict[str, Size]) -> str:
    """Sizes of the crops and features of frame 1 and of its maps, and the features' fields."""
    features = feature_names(net)
    rows = [("sizes in frame 1", "crop", *features)]
    source = ""
    for branch in BRANCHES:
        source = branch_layers(net, 1, branch)[0].inputs[0]
        variables = [source, *(f"f1_{branch}_{feature}" for feature in features)]
        rows.append((branch, *(shape_text(sizes[v]) for v in variables)))
    fields = net.get_var_receptive_fields(source)
    for what, label in (
        ("size", "receptive field, crop pixels"),
        ("stride", "stride, crop pixels"),
        ("offset", "centre of the first, from 1"),
    ):
        values = [getattr(fields[f"f1_{BRANCHES[-1]}_{feature}"], what) for feature in features]
        row = [f"{v[0]:g}" if v[0] == v[1] else f"{v[0]:g}x{v[1]:g}" for v in values]
        rows.append((label, "", *row))
    maps = [
        (variable, shape_text(sizes[variable]))
        for record in frame_layers(net, 1)
        if record.type in ("RLR", "CirConv", "XCorr", "Elefusion") or record.outputs == ["score1"]
        for variable in record.outputs
    ]
    return _table(rows) + "\n" + _grid([f"{v.removeprefix('f1_')} {size}" for v, size in maps])


def _grid(entries: Sequence[str], indent: str = "  ") -> str:
    """Short texts in columns of one width."""
    width = max(len(entry) for entry in entries) + 2
    count = max(1, (WIDTH - len(indent)) // width)
    lines = [
        indent + "".join(entry.ljust(width) for entry in entries[i : i + count])
        for i in range(0, len(entries), count)
    ]
    return "\n".join(line.rstrip() for line in lines)


def parameter_roles(net: DagNN) -> dict[str, list[str]]:
    """Names of parameters by what they are: filters, biases, batch norm, adjust, learning rates,
    lambdas, fusion; of other layers by the layer's type."""
    roles: dict[str, list[str]] = {role: [] for role in dict.fromkeys((*ROLES.values(), "fusion"))}
    known = set()
    for record in net.layers:
        for place, name in enumerate(record.params):
            if name in known:
                continue
            known.add(name)
            adjust = any(v.startswith("score") for v in record.outputs)
            kind = "adjust" if adjust else record.type
            role = "fusion" if kind == "Elefusion" else ROLES.get((kind, place), short_type(record))
            roles.setdefault(role, []).append(name)
    return {role: names for role, names in roles.items() if names}


def _parameter_table(net: DagNN, shapes: dict[str, tuple[int, ...] | None]) -> str:
    def values(names: Iterable[str]) -> int:
        return sum(math.prod(shapes[name]) for name in names if shapes[name] is not None)

    roles = parameter_roles(net)
    rows = [("parameters", "number", "values")]
    rows += [(role, len(names), values(names)) for role, names in roles.items()]
    rows.append(("total", len(net.params), values(shapes)))
    heads = _table(rows).split("\n")
    lines = [heads[0]]
    for head, names in zip(heads[1:-1], roles.values()):
        words = [f"{name} {shape_text(shapes[name])}" for name in names]
        indent = " " * (len(heads[0]) + 3)
        # A name and its shape stay on one line.
        text = ", ".join(word.replace(" ", "\0") for word in words)
        filled = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
        lines.append(head + filled[len(head) :].replace("\0", " "))
    return "\n".join([*lines, heads[-1]])


def _memory_table(
    net: DagNN,
    sizes: dict[str, Size],
    shapes: dict[str, tuple[int, ...] | None],
    frame_size: Sequence[int],
) -> str:
    def variables(names: Iterable[str]) -> str:
        return format_memory(BYTES * sum(sizes[name].count for name in names))

    computed = [v.name for v in net.vars if v.fanin]
    frame = [v for record in frame_layers(net, 1) for v in record.outputs]
    values = sum(math.prod(shape) for shape in shapes.values() if shape is not None)
    height, width = frame_size
    return _table(
        [
            ("memory in single precision, nothing freed or merged", ""),
            ("parameters", format_memory(BYTES * values)),
            (f"inputs, of frames of {height}x{width} pixels", variables(net.get_inputs())),
            ("variables that a frame computes", variables(frame)),
            ("variables that all frames compute", variables(computed)),
        ]
    )
