"""Solvers: how a derivative changes a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .backend import get_array_module


class Solver(Protocol):
    """What the training loop asks of a solver."""

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        """Return the parameter's new value and new state.

        Parameters
        ----------
        value, der : arrays
            The parameter, and its derivative with weight decay added.
        state : any
            What the last call returned for this parameter; None at the first.
        rate : float
            Learning rate.
        """


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, ``cnn_train_dag``'s default.

    ``m = momentum * m - der``, ``value = value + rate * m``; with ``nesterov`` the step is
    ``momentum * m - der`` with the new ``m``.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self):
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), received {self.momentum!r}")

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        previous = xp.zeros_like(value) if state is None else state
        momentum = self.momentum * previous - der
        step = self.momentum * momentum - der if self.nesterov else momentum
        return value + rate * step, momentum
