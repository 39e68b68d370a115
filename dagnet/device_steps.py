"""Steps of training on a GPU, each by one launch of a CUDA graph once it was captured.

A step is: forward, labels, losses, backward, update, what callbacks compute on the device, and
bringing together the figures that are read. The host waits once, for these figures; where a loss,
a derivative or a layer's condition is not as it must be, the update changes nothing, and the host
finds that out with them.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .backend import get_array_module
from .checkpoint import TrainState
from .graph_capture import StepGraphs
from .net import DagNN
from .plan import condition
from .requirements import Package, Requirement
from .train_options import Batch, Callback, TrainOptions
from .update import (
    find_updates,
    learning_rates,
    rates_on_device,
    require_finite,
    state_arrays,
    update_in_place,
)
from .values import Results

# Precious values of up to so many elements are brought with the figures of a step.
MOST_FETCHED = 1 << 16


@dataclass(frozen=True)
class _Given:
    """What a step is given, taken apart: its arrays, and how to put a batch together of them."""

    names: tuple[str, ...]
    arrays: list[Any]
    late_names: tuple[str, ...]
    late: Any
    rest: Hashable

    def batch(self, arrays: Sequence[Any]) -> Batch:
        inputs = dict(zip(self.names, arrays))
        if not self.late_names:
            return Batch(inputs, self.late)
        changed = dict(zip(self.late_names, arrays[len(self.names) :]))
        return Batch(inputs, dataclasses.replace(self.late, **changed))


def _take_apart(given: Batch) -> _Given:
    """A batch's arrays, and those of its ``late_inputs``."""
    names, late, late_names, rest = tuple(given.inputs), given.late_inputs, (), ()
    if dataclasses.is_dataclass(late):
        fields = {f.name: getattr(late, f.name) for f in dataclasses.fields(late) if f.init}
        late_names = tuple(n for n, value in fields.items() if get_array_module(value) is not np)
        rest = (type(late), *((n, v) for n, v in fields.items() if n not in late_names))
    arrays = [*given.inputs.values(), *(getattr(late, name) for name in late_names)]
    return _Given(names, arrays, late_names, late, rest)


class DeviceSteps:
    """Training and validation steps of a network on a GPU, with one process.

    Parameters
    ----------
    net, state, options, callbacks
        As in ``train_dag``.
    loss_error : function (name) -> Exception
        The error if what is minimised is not finite.
    """

    def __init__(
        self,
        net: DagNN,
        state: TrainState,
        options: TrainOptions,
        callbacks: Sequence[Callback],
        loss_error: Callable[[str], Exception],
    ):
        self.net, self.state, self.options = net, state, options
        self.callbacks, self.loss_error = callbacks, loss_error
        self.graphs = StepGraphs() if options.capture else None
        # Parameters lie where they lay in the last step.
        self._values: list[Any] = [parameter.value for parameter in net.params]
        self._rates: dict[str, float] = {}
        self._rates_there: Any = None
        self._told: set[str] = set()

    def train(self, given: Batch, epoch: int) -> None:
        """A step of training; what it leaves is in the network, its figures can be fetched.

        Raises
        ------
        NonFiniteError
            If a loss or derivative is not finite. No parameter is changed then.
        """
        net, options = self.net, self.options
        net.mode, net.accumulate_param_ders = "normal", False
        self._set_rates(epoch)
        key = (
            tuple(options.der_outputs.items()),
            (options.memory_budget, options.weight_decay, options.solver),
            tuple([rate > 0 for rate in self._rates.values()]),
            tuple([_attributes(parameter) for parameter in net.params]),
        )
        states = [self.state.solver_state.get(parameter.name) for parameter in net.params]
        self._run("train", given, key, self._train, state_arrays(states))
        for callback in self.callbacks:
            if not callback.on_device:
                callback.after_update(net)

    def validate(self, given: Batch) -> None:
        """An evaluation without derivatives; its figures can be fetched."""
        self.net.mode = "test"
        self._run("val", given, (), self._validate, [])

    def _run(self, mode: str, given: Batch, key: tuple, step: Callable, states: list) -> None:
        net = self.net
        self._put_back()
        taken = _take_apart(given)
        work = partial(self._work, step, taken)
        reason = self._why_not(mode, given, taken)
        if self.graphs is None or reason is not None:
            self._tell(reason)
            package, _ = work(taken.arrays)
        else:
            fixed = [*self._values, *self._own_values(given), *states]
            fixed += [array for record in net.layers for array in record.block.device_state()]
            whole = (mode, condition(net), taken.names, taken.late_names, taken.rest, key)
            package, results = self.graphs.run(whole, taken.arrays, work, fixed)
            results.show(net)
        net.take(package)

    def _work(self, step: Callable, taken: _Given, arrays: Sequence[Any]) -> tuple:
        """A step from its arrays: the figures that it brings together, and what it leaves."""
        net = self.net
        # A capture that failed has left its own.
        net.requirements = []
        for parameter, value in zip(net.params, self._values):
            parameter.value = value
        package = step(taken.batch(arrays))
        self._put_back()
        return package, Results(net)

    def _train(self, batch: Batch) -> Package:
        net, options, state = self.net, self.options, self.state
        # What is not finite is noted, and named by whoever reads the figures.
        with np.errstate(invalid="ignore", over="ignore"):
            net.eval(
                batch.inputs,
                options.der_outputs,
                late_inputs=batch.late_inputs,
                memory_budget=options.memory_budget,
            )
        for name in options.der_outputs:
            value = net.get_var(name).value
            holds = get_array_module(value).isfinite(value).all()
            net.requirements.append(Requirement(holds, partial(self.loss_error, name)))
        updates = find_updates(net)
        require_finite(net, updates, lambda: state.epoch)
        package = net.pack(self._figures())
        allowed = package.all_hold()
        with np.errstate(invalid="ignore", over="ignore"):
            update_in_place(
                net, updates, state, options, self._rates, self._rates_there, 1, allowed
            )
        for callback in self.callbacks:
            if callback.on_device:
                callback.after_update(net)
        return package

    def _validate(self, batch: Batch) -> Package:
        self.net.eval(batch.inputs, late_inputs=batch.late_inputs)
        return self.net.pack(self._figures())

    def _figures(self) -> list[str]:
        """What is read after a step: what is minimised, and precious values that are small."""
        asked = self.options.der_outputs
        return [
            variable.name
            for variable in self.net.vars
            if variable.value is not None
            and (
                variable.name in asked
                or (variable.precious and 0 < variable.value.size <= MOST_FETCHED)
            )
        ]

    def _put_back(self) -> None:
        """New values of parameters, which callbacks may have set, where the old ones lie."""
        for place, (parameter, held) in enumerate(zip(self.net.params, self._values)):
            value = parameter.value
            if value is held:
                continue
            if _alike(value, held):
                held[...] = value
                parameter.value = held
            else:
                self._values[place] = value

    def _set_rates(self, epoch: int) -> None:
        rates = learning_rates(self.net, self.state, self.options, epoch)
        if self._rates_there is None:
            self._rates_there = rates_on_device(self.net, rates)
        elif rates != self._rates:
            self._rates_there[...] = rates_on_device(self.net, rates)
        self._rates = rates

    def _own_values(self, given: Batch) -> list[Any]:
        """Values that the network has for inputs that a batch does not give."""
        net = self.net
        late = [variable.name for variable in net.late_variables]
        own = [v for v in net.vars if not v.fanin and v.name not in (*given.inputs, *late)]
        return [variable.value for variable in own]

    def _why_not(self, mode: str, given: Batch, taken: _Given) -> str | None:
        """Why a step cannot be captured; None if it can."""
        net, late = self.net, given.late_inputs
        random = [r.name for r in net.layers if r.block.random] if mode == "train" else []
        if random:
            return f"layer {random[0]!r} draws random numbers"
        host = [n for n, value in given.inputs.items() if get_array_module(value) is np]
        if host:
            return f"input {host[0]!r} is not on the device"
        if late is not None and not dataclasses.is_dataclass(late):
            return "its late inputs come from a function that is no dataclass"
        if not _can_be_hashed(taken.rest):
            return "the settings of its late inputs cannot be hashed"
        if any(hasattr(der, "dtype") for der in self.options.der_outputs.values()):
            return "der_outputs holds arrays"
        return None

    def _tell(self, reason: str | None) -> None:
        if reason is not None and reason not in self._told:
            self._told.add(reason)
            warnings.warn(
                f"steps are not captured as CUDA graphs, their kernels are launched one by one: "
                f"{reason}",
                stacklevel=2,
            )


def _alike(a: Any, b: Any) -> bool:
    """Whether two values, arrays or None, are of one shape and type."""
    return a is not None and b is not None and (a.shape, a.dtype) == (b.shape, b.dtype)


def _can_be_hashed(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _attributes(parameter: Any) -> tuple:
    """What an update depends on besides value, derivative and rate."""
    average = parameter.learning_rate if parameter.train_method == "average" else None
    return parameter.train_method, average, parameter.weight_decay, parameter.fanout
