"""One step of the parameters: ``accumulateGradients`` of ``cnn_train_dag.m``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .backend import get_array_module
from .checkpoint import TrainState
from .errors import DagNNError
from .net import DagNN
from .records import TRAIN_METHODS, Parameter
from .requirements import Requirement
from .train_options import TrainOptions, rate_of_epoch


class NonFiniteError(DagNNError, ArithmeticError):
    """A loss or a derivative is infinite or not a number; training stopped before the update."""


def accumulate_gradients(
    net: DagNN,
    state: TrainState,
    options: TrainOptions,
    epoch: int,
    *,
    evaluations: int | None = None,
) -> None:
    """Update all parameters from their derivatives (``accumulateGradients``).

    A parameter of method ``average`` moves to the mean of what its uses observed; one of method
    ``gradient`` by the solver, with weight decay, unless its learning rate and decay are both 0.
    A parameter that no evaluated layer used has no derivative and stays. Parameters keep their
    dtype; on a GPU they, and the solver's state, are changed in place.

    Parameters
    ----------
    evaluations : int, optional
        How many evaluations' derivatives are added up, those of all workers; by default
        ``num_sub_batches`` of each.

    Raises
    ------
    NonFiniteError
        If a derivative is not finite. No parameter is changed then.
    DagNNError
        If a parameter's train method is not known; likewise.
    """
    server = net.parameter_server
    if evaluations is None:
        evaluations = options.num_sub_batches * (1 if server is None else server.num_workers)
    if server is not None:
        for parameter in net.params:
            # Of an earlier sub-batch, where the last one did not use the parameter.
            if parameter.der is not None:
                server.push(parameter.name, parameter.der)
                parameter.der = None
        server.sync()
    updates = find_updates(net)
    rates = learning_rates(net, state, options, epoch)
    if net.device == "cpu":
        for parameter, der in updates:
            if not np.isfinite(der).all():
                raise _not_finite(parameter, epoch)
        for parameter, der in updates:
            changed = _change(parameter, der, state, options, rates[parameter.name], evaluations)
            if changed is not None:
                _assign(parameter, changed[0])
                if parameter.train_method == "gradient":
                    state.solver_state[parameter.name] = changed[1]
        return
    if not updates:
        return
    require_finite(net, updates, lambda: epoch)
    package = net.pack(())
    there = rates_on_device(net, rates)
    update_in_place(net, updates, state, options, rates, there, evaluations, package.all_hold())
    net.take(package)


def find_updates(net: DagNN) -> list[tuple[Parameter, Any]]:
    """The parameters that have a derivative, and those.

    Raises
    ------
    DagNNError
        If a parameter's train method is not known.
    """
    server = net.parameter_server
    updates = []
    for parameter in net.params:
        der = parameter.der if server is None else server.pull(parameter.name)
        if der is None:
            continue
        if parameter.train_method not in TRAIN_METHODS:
            raise DagNNError(
                f"parameter {parameter.name!r}: train_method must be one of {TRAIN_METHODS}, "
                f"received {parameter.train_method!r}"
            )
        updates.append((parameter, der))
    return updates


def learning_rates(
    net: DagNN, state: TrainState, options: TrainOptions, epoch: int
) -> dict[str, float]:
    """The rate of each parameter of method ``gradient`` in an epoch."""
    chosen = state.learning_rate
    rate = options.rate(epoch) if chosen is None else rate_of_epoch(chosen, epoch)
    return {p.name: float(rate * p.learning_rate) for p in net.params}


# On a device: nothing waits for it, and all that lives on is written in place, so that a captured
# step can be launched again.


def rates_on_device(net: DagNN, rates: Mapping[str, float]) -> Any:
    """The rates of all parameters as an array of double precision on the device."""
    xp = get_array_module(*(parameter.value for parameter in net.params))
    return xp.asarray(np.array([rates[p.name] for p in net.params], dtype=np.float64))


def require_finite(
    net: DagNN, updates: Sequence[tuple[Parameter, Any]], epoch: Callable[[], int]
) -> None:
    """Note that all derivatives must be finite; ``DagNN.take`` raises NonFiniteError if not."""
    for parameter, der in updates:
        holds = get_array_module(der).isfinite(der).all()
        complain = partial(_complain, parameter, epoch)
        net.requirements.append(Requirement(holds, complain))


def update_in_place(
    net: DagNN,
    updates: Sequence[tuple[Parameter, Any]],
    state: TrainState,
    options: TrainOptions,
    rates: Mapping[str, float],
    rates_there: Any,
    evaluations: int,
    allowed: Any,
) -> None:
    """Update parameters and the solver's state on a device, where they lie.

    Parameters
    ----------
    rates, rates_there
        The learning rates here, which tell which parameters stay, and on the device, which are
        used: the same numbers.
    allowed : array of bool, shape ()
        If it is False nothing is changed.
    """
    places = {parameter.name: place for place, parameter in enumerate(net.params)}
    for parameter, der in updates:
        place = places[parameter.name]
        rate = rates_there[place : place + 1].reshape(())
        changed = _change(parameter, der, state, options, rates[parameter.name], evaluations, rate)
        if changed is None:
            continue
        value, solver_state = changed
        _keep(parameter.value, value, allowed)
        if parameter.train_method == "gradient":
            before = state.solver_state.get(parameter.name)
            state.solver_state[parameter.name] = _keep(before, solver_state, allowed)


def state_arrays(tree: Any) -> list[Any]:
    """The arrays of a solver's state."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, (list, tuple)):
        return [array for entry in tree for array in state_arrays(entry)]
    return [tree] if hasattr(tree, "dtype") else []


def _keep(before: Any, now: Any, allowed: Any) -> Any:
    """``now``, written to the arrays of ``before`` where there are such and it is allowed."""
    if isinstance(now, dict):
        before = {} if before is None else before
        return {name: _keep(before.get(name), entry, allowed) for name, entry in now.items()}
    if isinstance(now, (list, tuple)):
        before = [None] * len(now) if before is None else before
        return type(now)(_keep(b, entry, allowed) for b, entry in zip(before, now))
    xp = get_array_module(before)
    if xp is np:
        return now
    xp.copyto(before, now, where=allowed)
    return before


def _not_finite(parameter: Parameter, epoch: int) -> NonFiniteError:
    return NonFiniteError(
        f"the derivative by parameter {parameter.name!r} is not finite in epoch {epoch}: no "
        "parameter was changed by this step; lower the learning rate, or look at the inputs "
        "of this step"
    )


def _complain(parameter: Parameter, epoch: Callable[[], int]) -> NonFiniteError:
    return _not_finite(parameter, epoch())


def _change(
    parameter: Parameter,
    der: Any,
    state: TrainState,
    options: TrainOptions,
    rate: float,
    evaluations: int,
    rate_there: Any = None,
) -> tuple[Any, Any] | None:
    """The new value of a parameter and, of method ``gradient``, the solver's new state; None if it
    stays. ``rate_there`` is the rate on a device."""
    if parameter.train_method == "average":
        part = float(parameter.learning_rate)
        share = part / evaluations / parameter.fanout
        return (1 - part) * parameter.value + share * der, None
    # float: a factor of NumPy's double type would turn single precision into double.
    decay = float(options.weight_decay * parameter.weight_decay)
    if rate <= 0 and decay <= 0:
        return None
    return options.solver.update(
        parameter.value,
        state.solver_state.get(parameter.name),
        der / evaluations + decay * parameter.value,
        rate if rate_there is None else rate_there,
    )


def _assign(parameter: Parameter, value: Any) -> None:
    """A new value in the parameter's dtype, and an array where arithmetic made a number of it."""
    parameter.value = np.asarray(value, dtype=parameter.value.dtype)
