"""What a network consists of as plain containers and arrays, which files of it hold."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import to_device, tree_to_device
from .errors import CheckpointError, DagNNError
from .layer import Layer, layer_class

if TYPE_CHECKING:
    from .net import DagNN

FORMAT = "dagnet.DagNN"
# Written by dagnet.checkpoint: a network with the state of its training.
CHECKPOINT_FORMAT = "dagnet.checkpoint"
FORMAT_VERSION = 1


def to_dict(net: DagNN) -> dict[str, Any]:
    """``DagNN.to_dict``."""
    return {
        "layers": [
            {
                "name": record.name,
                "type": record.type,
                "inputs": record.inputs,
                "outputs": record.outputs,
                "params": record.params,
                "block": tree_to_device(record.block.save(), "cpu"),
            }
            for record in net.layers
        ],
        "vars": [{"name": v.name, "precious": v.precious} for v in net.vars],
        "params": [
            {
                "name": p.name,
                "value": to_device(p.value, "cpu"),
                "train_method": p.train_method,
                "learning_rate": p.learning_rate,
                "weight_decay": p.weight_decay,
            }
            for p in net.params
        ],
        "meta": net.meta,
    }


def fill(net: DagNN, content: Mapping[str, Any]) -> DagNN:
    """``DagNN.from_dict``, into a network without layers; returns it."""
    for layer in content["layers"]:
        net.add_layer(
            layer["name"],
            _make_block(layer),
            layer["inputs"],
            layer["outputs"],
            layer["params"],
            skip_rebuild=True,
        )
    net.rebuild()
    for entry in content["params"]:
        parameter = net.get_param(entry["name"])
        value = entry["value"]
        parameter.value = None if value is None else np.array(value, order="C")
        parameter.train_method = entry["train_method"]
        parameter.learning_rate = entry["learning_rate"]
        parameter.weight_decay = entry["weight_decay"]
    for entry in content["vars"]:
        net.get_var(entry["name"]).precious = entry["precious"]
    net.meta = copy.deepcopy(dict(content["meta"]))
    return net


def _make_block(layer: Mapping[str, Any]) -> Layer:
    """A layer from its type and settings."""
    try:
        return layer_class(layer["type"])(**copy.deepcopy(layer["block"]))
    except (DagNNError, TypeError, ValueError, OverflowError) as exc:
        raise DagNNError(f"layer {layer['name']!r} ({layer['type']}): {exc}") from exc


def check_format(path: str | os.PathLike, content: Any, *expected: str) -> dict[str, Any]:
    """Return ``content`` if it is a tree of a format ``expected`` that this version can read."""
    found = content.get("format") if isinstance(content, dict) else None
    if found not in expected or not isinstance(content.get("version"), int):
        raise CheckpointError(
            f"{os.fspath(path)}: expected a file of format {' or '.join(expected)}, found {found}"
        )
    if content["version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{os.fspath(path)}: written by a later version (format {content['version']}, this "
            f"version reads up to {FORMAT_VERSION}); update this software"
        )
    return content
