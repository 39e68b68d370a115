"""Solvers: how a derivative changes a parameter. SGD, and those of MatConvNet's ``+solver``.

Each keeps, for each parameter, what it has to remember, under the names of the originals
(``g_sqr``, ``m``, ``v`` ...): a checkpoint holds it, and a run goes on with it. Numbers are
computed in the parameter's precision, on its device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .backend import get_array_module


class Solver(Protocol):
    """What the training loop asks of a solver.

    A run that goes on with a solver of another class begins with no state.
    """

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        """Return the parameter's new value and new state.

        Parameters
        ----------
        value, der : arrays
            The parameter, and its derivative with weight decay added.
        state : any
            What the last call returned for this parameter; None at the first.
        rate : float, or array of shape () and double precision on a device
            Learning rate. Nothing else may change from step to step but in arrays of the state:
            a step on a GPU is captured once and repeated.
        """


def _check_share(name: str, value: float, one: bool = False) -> None:
    if not (0 <= value < 1 or (one and value == 1)):
        bounds = "[0, 1]" if one else "[0, 1)"
        raise ValueError(f"{name} must lie in {bounds}, received {value!r}")


def _check_epsilon(value: float, name: str = "epsilon") -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be above 0 and finite, received {value!r}")


def _factor(rate: Any, value: Any) -> Any:
    """A rate as it multiplies ``value``, whose type it does not change: rounded to that."""
    return rate.astype(value.dtype) if hasattr(rate, "dtype") else rate


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, ``cnn_train_dag``'s default.

    ``m = momentum * m - der``, ``value = value + rate * m``; with ``nesterov`` the step is
    ``momentum * m - der`` with the new ``m``. The state is ``m``.
    """

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self):
        _check_share("momentum", self.momentum)

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        previous = xp.zeros_like(value) if state is None else state
        momentum = self.momentum * previous - der
        step = self.momentum * momentum - der if self.nesterov else momentum
        return value + _factor(rate, value) * step, momentum


@dataclass(frozen=True)
class AdaGrad:
    """AdaGrad (``adagrad.m``): steps over the root of the sum of all squared derivatives.

    ``g_sqr = rho * g_sqr + der^2``, ``value = value - rate * der / (sqrt(g_sqr) + epsilon)``.
    With ``rho`` below 1 old derivatives are forgotten, and steps do not shrink to nothing. The
    state is ``g_sqr``.
    """

    epsilon: float = 1e-10
    rho: float = 1.0

    def __post_init__(self):
        _check_epsilon(self.epsilon)
        _check_share("rho", self.rho, one=True)

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        g_sqr = der * der if state is None else self.rho * state + der * der
        return value - _factor(rate, value) * der / (xp.sqrt(g_sqr) + self.epsilon), g_sqr


@dataclass(frozen=True)
class RMSProp:
    """RMSProp (``rmsprop.m``): steps over the root of a running mean of squared derivatives.

    ``g_sqr = rho * g_sqr + (1 - rho) * der^2``,
    ``value = value - rate * der / (sqrt(g_sqr) + epsilon)``. The state is ``g_sqr``, from 0.
    """

    epsilon: float = 1e-8
    rho: float = 0.99

    def __post_init__(self):
        _check_epsilon(self.epsilon)
        _check_share("rho", self.rho)

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        g_sqr = (1 - self.rho) * (der * der)
        if state is not None:
            g_sqr = self.rho * state + g_sqr
        return value - _factor(rate, value) * der / (xp.sqrt(g_sqr) + self.epsilon), g_sqr


@dataclass(frozen=True)
class AdaDelta:
    """AdaDelta (``adadelta.m``): steps in units of earlier steps; it has no learning rate.

    ``g_sqr = rho * g_sqr + (1 - rho) * der^2``,
    ``step = -sqrt((delta_sqr + epsilon) / (g_sqr + epsilon)) * der``,
    ``delta_sqr = rho * delta_sqr + (1 - rho) * step^2``, ``value = value + step``. The state is
    a dict of ``g_sqr`` and ``delta_sqr``, from 0.

    As in the original the rate is not used, be it the run's or a parameter's own: a parameter
    whose rate is 0 stays only if its weight decay is 0 too (the training loop leaves it alone).
    """

    epsilon: float = 1e-6
    rho: float = 0.9

    def __post_init__(self):
        _check_epsilon(self.epsilon)
        _check_share("rho", self.rho)

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        if state is None:
            state = {"g_sqr": xp.zeros_like(value), "delta_sqr": xp.zeros_like(value)}
        g_sqr = self.rho * state["g_sqr"] + (1 - self.rho) * (der * der)
        step = -xp.sqrt((state["delta_sqr"] + self.epsilon) / (g_sqr + self.epsilon)) * der
        delta_sqr = self.rho * state["delta_sqr"] + (1 - self.rho) * (step * step)
        return value + step, {"g_sqr": g_sqr, "delta_sqr": delta_sqr}


@dataclass(frozen=True)
class Adam:
    """Adam (``adam.m``; Kingma and Ba, 2014, algorithm 1 in the order of its section 2).

    ``m = beta1 * m + (1 - beta1) * der``, ``v = beta2 * v + (1 - beta2) * der^2``,
    ``t = t + 1``, ``value = value - rate_t * m / (sqrt(v) + eps)`` with
    ``rate_t = rate * sqrt(1 - beta2^t) / (1 - beta1^t)``. The state is a dict of ``m`` and ``v``,
    from 0, and the number ``t`` of steps; on a device that is an array, too.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self):
        _check_share("beta1", self.beta1)
        _check_share("beta2", self.beta2)
        _check_epsilon(self.eps, "eps")

    def update(self, value: Any, state: Any, der: Any, rate: float) -> tuple[Any, Any]:
        xp = get_array_module(value)
        if state is None:
            state = {"m": xp.zeros_like(value), "v": xp.zeros_like(value), "t": 0}
        on_device = xp is not np
        if not on_device:
            t = int(state["t"]) + 1
        elif get_array_module(state["t"]) is np:
            t = xp.full((), int(state["t"]) + 1, np.int64)
        else:
            t = state["t"] + 1
        m = self.beta1 * state["m"] + (1 - self.beta1) * der
        v = self.beta2 * state["v"] + (1 - self.beta2) * (der * der)
        root = xp.sqrt if on_device else math.sqrt
        rate_t = _factor(rate * root(1 - self.beta2**t) / (1 - self.beta1**t), value)
        return value - rate_t * m / (xp.sqrt(v) + self.eps), {"m": m, "v": v, "t": t}


# By the names of the originals' functions, solver.adam and so on.
SOLVERS: dict[str, type[Solver]] = {
    "sgd": SGD,
    "adam": Adam,
    "adagrad": AdaGrad,
    "adadelta": AdaDelta,
    "rmsprop": RMSProp,
}
