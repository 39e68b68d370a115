"""Options of the solver: the same for ``train`` and ``pretrain``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping

from dagnet import SOLVERS, Solver

DEFAULT = "sgd"
# Fields of solvers whose options have another name: one option serves several solvers.
_OPTIONS = {("adam", "eps"): "epsilon"}
_HELP = {
    "momentum": "share of the last step that a step keeps",
    "nesterov": "Nesterov's momentum, one step ahead",
    "beta1": "share of the past in the mean of derivatives",
    "beta2": "share of the past in the mean of their squares",
    "epsilon": "added to the root of what a derivative is divided by",
    "rho": "share of the past in the mean of squared derivatives; 1 is their sum",
}
# As in checkpoints of the time when there was one solver: these are not named there.
LATER_OPTIONS = {"solver": DEFAULT, "nesterov": False} | dict.fromkeys(
    ("beta1", "beta2", "epsilon", "rho")
)


def _settings(solver: str) -> dict[str, dataclasses.Field]:
    """The fields of a solver, by the names of their options."""
    fields = dataclasses.fields(SOLVERS[solver])
    return {_OPTIONS.get((solver, field.name), field.name): field for field in fields}


def add_solver_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--solver`` and the settings of all solvers to a group.

    ``complete_solver`` tells which of them belong to the one that was chosen.
    """
    group.add_argument(
        "--solver",
        choices=tuple(SOLVERS),
        default=DEFAULT,
        help="how derivatives change parameters; each needs learning rates of its own, adadelta "
        "uses none",
    )
    for name, text in _HELP.items():
        defaults = [
            f"{solver} {settings[name].default:g}"
            for solver, settings in ((s, _settings(s)) for s in SOLVERS)
            if name in settings
        ]
        flag = {"action": "store_true"} if name == "nesterov" else {"type": float}
        of = "sgd" if name == "nesterov" else f"default: {', '.join(defaults)}"
        group.add_argument(f"--{name}", default=None, help=f"{text} ({of})", **flag)


def complete_solver(options: argparse.Namespace) -> None:
    """Fill in the solver's settings that were not given.

    Raises
    ------
    ValueError
        If a setting of another solver was given, or one that is out of its range.
    """
    settings = _settings(options.solver)
    for name in _HELP:
        given = getattr(options, name)
        if name in settings:
            setattr(options, name, settings[name].default if given is None else given)
        elif given is not None:
            owners = ", ".join(solver for solver in SOLVERS if name in _settings(solver))
            has = ", ".join(f"--{n}" for n in settings)
            raise ValueError(
                f"--{name} is a setting of {owners}, not of --solver {options.solver}, which has "
                f"{has}: leave it out, or choose its solver"
            )
    make_solver(options)


def make_solver(options: argparse.Namespace) -> Solver:
    """The solver that completed options describe.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    """
    settings = _settings(options.solver)
    values = {field.name: getattr(options, name) for name, field in settings.items()}
    return SOLVERS[options.solver](**values)


def without_later(kept: Mapping[str, object], later: Mapping[str, object]) -> dict[str, object]:
    """Options for a checkpoint: those that came later only where they are not as they were.

    A run that was begun before there was an option goes on with its default.
    """
    return {n: value for n, value in kept.items() if n not in later or value != later[n]}
