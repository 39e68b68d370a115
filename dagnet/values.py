"""What an evaluation is asked with: values by name, given derivatives, random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import array_like, get_array_module
from .errors import ShapeError

if TYPE_CHECKING:
    from .net import DagNN


class Values(Mapping):
    """Read-only view of a network's variables: name to present value."""

    def __init__(self, net: DagNN):
        self._net = net

    def __getitem__(self, name: str) -> Any:
        return self._net.get_var(name).value

    def __iter__(self) -> Iterator[str]:
        return (v.name for v in self._net.vars)

    def __len__(self) -> int:
        return len(self._net.vars)


def draw_entropy(rng: np.random.Generator) -> int:
    """The number that all random numbers of an evaluation follow from; each draws one."""
    return int(rng.integers(2**63))


def spread(der: Any, value: Any, name: str) -> Any:
    """A derivative that the caller gives for variable ``name``, in dtype and shape of its value."""
    xp = get_array_module(value)
    der = array_like(der, value)
    try:
        return der if der.shape == value.shape else xp.broadcast_to(der, value.shape)
    except ValueError:
        raise ShapeError(
            f"the derivative by variable {name!r} must be a number or an array of shape "
            f"{value.shape}, received {der.shape}"
        ) from None


class Results:
    """What an evaluation left in a network's variables and parameters, to be shown again.

    A captured step that is launched writes to the same arrays, but Python's part of the evaluation
    is not run.
    """

    def __init__(self, net: DagNN):
        self._variables = [(variable.value, variable.der) for variable in net.vars]
        self._ders = [parameter.der for parameter in net.params]
        self._late = net.late_variables

    def show(self, net: DagNN) -> None:
        """Let the network have them; nothing is fetched of them yet."""
        for variable, (value, der) in zip(net.vars, self._variables):
            variable.value, variable.der = value, der
        for parameter, der in zip(net.params, self._ders):
            parameter.der = der
        net.late_variables, net.fetched, net.requirements = self._late, {}, []
