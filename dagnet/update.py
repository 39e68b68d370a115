"""One step of the parameters: ``accumulateGradients`` of ``cnn_train_dag.m``."""

from __future__ import annotations

from typing import Any

from .backend import get_array_module
from .checkpoint import TrainState
from .errors import DagNNError
from .net import DagNN
from .records import TRAIN_METHODS, Parameter
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
    dtype.

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
    updates = []
    for parameter in net.params:
        der = parameter.der if server is None else server.pull(parameter.name)
        if der is not None:
            _check_update(parameter, der, epoch)
            updates.append((parameter, der))
    for parameter, der in updates:
        if parameter.train_method == "average":
            rate = float(parameter.learning_rate)
            share = rate / evaluations / parameter.fanout
            _assign(parameter, (1 - rate) * parameter.value + share * der)
        else:
            _descend(parameter, der / evaluations, state, options, epoch)


def _check_update(parameter: Parameter, der: Any, epoch: int) -> None:
    if parameter.train_method not in TRAIN_METHODS:
        raise DagNNError(
            f"parameter {parameter.name!r}: train_method must be one of {TRAIN_METHODS}, received "
            f"{parameter.train_method!r}"
        )
    if not bool(get_array_module(der).isfinite(der).all()):
        raise NonFiniteError(
            f"the derivative by parameter {parameter.name!r} is not finite in epoch {epoch}: no "
            "parameter was changed by this step; lower the learning rate, or look at the inputs "
            "of this step"
        )


def _descend(
    parameter: Parameter, der: Any, state: TrainState, options: TrainOptions, epoch: int
) -> None:
    # float: a factor of NumPy's double type would turn single precision into double.
    decay = float(options.weight_decay * parameter.weight_decay)
    chosen = state.learning_rate
    rate = options.rate(epoch) if chosen is None else rate_of_epoch(chosen, epoch)
    rate = float(rate * parameter.learning_rate)
    if rate <= 0 and decay <= 0:
        return
    value, state.solver_state[parameter.name] = options.solver.update(
        parameter.value,
        state.solver_state.get(parameter.name),
        der + decay * parameter.value,
        rate,
    )
    _assign(parameter, value)


def _assign(parameter: Parameter, value: Any) -> None:
    """A new value in the parameter's dtype, and an array where arithmetic made a number of it."""
    before = parameter.value
    parameter.value = get_array_module(before).asarray(value, dtype=before.dtype)
