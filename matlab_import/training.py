"""What ``cnn_train_dag`` saves beside the network: the solver's state and the statistics."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dagnet import DagNN

from . import forms
from .axes import Convert, by_shape
from .errors import MatFileError
from .from_python import from_python
from .mat_file import read_mat
from .network import (
    build_network,
    is_dag,
    keep_notes,
    parameter_converters,
    parameter_entries,
)
from .saving import state_struct, stats_struct
from .values import is_empty, kind, structs, to_python


class TrainingFile(NamedTuple):
    """Content of a file that MatConvNet's ``cnn_train_dag`` saves after an epoch.

    Attributes
    ----------
    net : DagNN
    state : dict
        ``solver_state`` is a list with one entry for each of ``net.params``: None where nothing
        is kept (MATLAB's 0), an array of the parameter's shape (momentum), or a dict of such
        arrays and numbers (Adam, AdaDelta). Other fields keep their names. Empty for a file
        without ``state``.
    stats : dict
        ``train`` and ``val``: lists of dicts of numbers, one an epoch. Empty for a file without.
    """

    net: DagNN
    state: dict[str, Any]
    stats: dict[str, Any]


def load_training(path: str | PathLike) -> TrainingFile:
    """Read a network with the solver's state and the statistics of its training.

    Parameters, and errors, as of ``load_network``. The solver's state is converted for DagNN
    files; that of a SimpleNN file stays as it is, one entry a layer, with MATLAB's axes.
    """
    path = Path(path)
    variables = read_mat(path)
    net, struct = build_network(variables, path)
    state = _optional_struct(variables, "state", path)
    if "solverState" in state and is_dag(struct):
        entries = state.pop("solverState")
        state["solver_state"] = _solver_state(entries, struct, net, path)
    stats = {
        part: to_python(structs(epochs, f"{path}: stats.{part}"))
        for part, epochs in _optional_struct(variables, "stats", path).items()
    }
    converted = {k: v if k == "solver_state" else to_python(v) for k, v in state.items()}
    _note_training(net, struct, variables, converted, stats)
    return TrainingFile(net, converted, stats)


def _note_training(
    net: DagNN,
    struct: Mapping[str, Any],
    variables: Mapping[str, Any],
    state: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> None:
    """Keep how state and statistics of the file differ from what would be written."""
    layout = "dagnn" if is_dag(struct) else "simplenn"
    notes = {}
    if state:
        written = state_struct(net, state) if is_dag(struct) else from_python(state, "state")
        notes["state"] = forms.differences(written, dict(variables["state"]))
    if stats:
        notes["stats"] = forms.differences(stats_struct(stats), dict(variables["stats"]))
    keep_notes(net, layout, notes)


def _optional_struct(variables: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = variables.get(name, {})
    if is_empty(value):
        return {}
    if not isinstance(value, dict):
        raise MatFileError(f"{path}: {name}: expected a struct, found {kind(value)}")
    return dict(value)


def _solver_state(entries: Any, struct: Mapping[str, Any], net: DagNN, path: Path) -> list[Any]:
    """The entries in the order of ``net.params``; in the file they are in that of ``params``."""
    names = list(parameter_entries(struct))
    if not isinstance(entries, list) or len(entries) != len(names):
        raise MatFileError(
            f"{path}: state.solverState: expected a cell with one entry for each of the "
            f"{len(names)} parameters, found {kind(entries)}"
        )
    converters = parameter_converters(struct)
    by_name = {
        name: _entry(entry, converters.get(name, by_shape)) for name, entry in zip(names, entries)
    }
    return [by_name.get(parameter.name) for parameter in net.params]


def _entry(entry: Any, convert: Convert) -> Any:
    if isinstance(entry, dict):
        return {
            name: convert(value)
            if isinstance(value, np.ndarray) and value.size > 1
            else to_python(value)
            for name, value in entry.items()
        }
    if is_empty(entry) or (entry.size == 1 and not entry.item()):
        return None
    return convert(entry)
