"""Forward and backward through a network: MatConvNet's ``DagNN.eval``, ``forwardAdvanced`` and
``backwardAdvanced``.

What differs from the original, and why:

* What a layer's backward needs travels in ``saved``, from its forward to its own backward, and
  never on the layer.
* A derivative given for a variable that layers read as well is added to theirs; the original
  overwrites it.
* A layer with several outputs is run backward as soon as one of them has a derivative; the
  original asks for all.
* Derivatives that nobody reads (those by inputs of a layer that cannot pass them on) are not
  computed.
* Equal layers are run once (``dagnet.plan``). The derivative by a variable that was merged into
  another is the sum over all that were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .backend import get_array_module
from .errors import DagNNError, LayerError, ShapeError
from .layer import Context
from .plan import Plan
from .records import LayerRecord, Variable

if TYPE_CHECKING:
    from .net import DagNN

LateInputs = Callable[[Mapping[str, Any]], Mapping[str, Any]]


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


class Evaluation:
    """One evaluation of a network: forward, and backward where derivatives are asked for."""

    def __init__(self, net: DagNN, plan: Plan, computing_derivative: bool):
        self.net = net
        self.plan = plan
        self.computing_derivative = computing_derivative
        self.saved: dict[int, Any] = {}
        self.late: set[int] = set()
        self.pending_reads = list(plan.reads)
        for record in net.layers:
            record.forward_time = record.backward_time = None
        self.kept_for_backward = self._find_kept() if computing_derivative else set()

    # Forward

    def forward(self, late_inputs: LateInputs | None) -> None:
        """Run every layer whose inputs exist, then those that late inputs make possible."""
        net = self.net
        waiting = [index for index in self.plan.order if not self._run(index)]
        if waiting and late_inputs is not None:
            for name, value in late_inputs(Values(net)).items():
                variable = net.get_var(name)
                variable.value = value
                net.late_variables.append(variable)
                leader = self.plan.shared[net.get_var_index(name)]
                net.vars[leader].value = value
                self.late.add(leader)
            for index in waiting:
                self._run(index)

    def _run(self, index: int) -> bool:
        """Run a layer forward; False if an input is missing."""
        net, record = self.net, self.net.layers[index]
        inputs = self._input_values(record)
        if any(value is None for value in inputs):
            return False
        params = self._param_values(record)
        start = time.perf_counter()
        context = Context(mode=net.mode, rng=net.rng)
        try:
            outputs, saved = record.block.forward(inputs, params, context)
            _check_count(record, "outputs", outputs, record.outputs)
            record.block.update_statistics(inputs, outputs)
        except Exception as exc:
            raise self._explain(exc, record, inputs, params, "forward") from exc
        for v, value in zip(record.output_indexes, outputs):
            net.vars[v].value = value
        self._hand_out(index)
        if self.computing_derivative:
            self.saved[index] = saved
        self._release(record)
        record.forward_time = time.perf_counter() - start
        return True

    def _hand_out(self, index: int) -> None:
        """Give the outputs to merged layers' variables that are looked at after the evaluation."""
        net = self.net
        for copy in self.plan.copies[index][1:]:
            net.layers[copy].forward_time = 0.0
            for v in net.layers[copy].output_indexes:
                variable = net.vars[v]
                if variable.precious or variable.fanout == 0:
                    variable.value = net.vars[self.plan.shared[v]].value

    def _release(self, record: LayerRecord) -> None:
        """Free the inputs that nothing reads any more."""
        for v in self._inputs(record):
            self.pending_reads[v] -= 1
            variable = self.net.vars[v]
            if (
                self.pending_reads[v] == 0
                and variable.fanout > 0  # else it is an output, whatever reads its copies
                and self.net.conserve_memory
                and not variable.precious
                and v not in self.kept_for_backward
            ):
                variable.value = None

    def _find_kept(self) -> set[int]:
        """Variables whose value some layer's backward reads."""
        layers = (self.net.layers[index] for index in self.plan.order)
        return {
            v
            for record in layers
            if record.block.backward_uses_inputs
            for v in self._inputs(record)
        }

    # Backward

    def backward(self, der_outputs: Mapping[str, Any], hold_on: bool) -> None:
        """Run the layers in reverse order, adding up derivatives of variables and parameters."""
        net = self.net
        for variable in net.vars:
            variable.der = None
        self.owned: set[int] = set()
        for name, der in der_outputs.items():
            variable = net.get_var(name)
            if variable.value is None:
                raise DagNNError(
                    f"derivative asked for from variable {name!r}, which was not computed: give "
                    "the inputs that it depends on (inputs of the network: "
                    f"{', '.join(net.get_inputs())})"
                )
            self._add_variable_der(
                self.plan.shared[net.get_var_index(name)], _spread(der, variable)
            )
        self.pending_uses = list(self.plan.uses)
        if not net.accumulate_param_ders:
            # A parameter that this pass does not reach must not keep an earlier derivative.
            for parameter in net.params:
                parameter.der = None
        wanted = self._find_wanted()
        for index in reversed(self.plan.order):
            if index in self.saved:
                self._run_backward(index, wanted, hold_on)

    def _run_backward(self, index: int, wanted: list[bool], hold_on: bool) -> None:
        net, record = self.net, self.net.layers[index]
        saved = self.saved.pop(index)
        ders = [net.vars[v].der for v in record.output_indexes]
        copies = self.plan.copies[index]
        if all(der is None for der in ders):
            self._count_uses(record, len(copies), hold_on)
            return
        inputs = self._input_values(record)
        params = self._param_values(record)
        for copy in copies:
            self._settle_outputs(net.layers[copy], ders)
        start = time.perf_counter()
        context = Context(
            mode=net.mode,
            needs=tuple(wanted[v] for v in self._inputs(record)),
            rng=net.rng,
        )
        try:
            der_inputs, der_params = record.block.backward(inputs, params, ders, saved, context)
            _check_count(record, "derivatives by inputs", der_inputs, record.inputs)
            _check_count(record, "derivatives by parameters", der_params, record.params)
        except Exception as exc:
            raise self._explain(exc, record, inputs, params, "backward") from exc
        del saved, ders
        for v, der in zip(self._inputs(record), der_inputs):
            if der is not None and wanted[v]:
                self._add_variable_der(v, der)
        for p, der in zip(record.param_indexes, der_params):
            if der is not None:
                self._add_param_der(p, der, len(copies))
        self._count_uses(record, len(copies), hold_on)
        record.backward_time = time.perf_counter() - start

    def _settle_outputs(self, record: LayerRecord, ders: list) -> None:
        """Free values and derivatives of a layer's outputs, or let those that stay be seen."""
        for v, der in zip(record.output_indexes, ders):
            variable = self.net.vars[v]
            if variable.precious or not self.net.conserve_memory:
                variable.der = der
            else:
                variable.value = variable.der = None

    def _add_variable_der(self, v: int, der: Any) -> None:
        variable = self.net.vars[v]
        if variable.der is None:
            variable.der = der
        elif v in self.owned:
            variable.der += der
        else:
            # The first term may be an array of the caller's or of another variable.
            variable.der = variable.der + der
            self.owned.add(v)

    def _add_param_der(self, p: int, der: Any, copies: int) -> None:
        parameter = self.net.params[p]
        observed = parameter.train_method == "average" and self.net.mode == "normal"
        if copies > 1 and observed:
            # Not a derivative: every merged use would have made the same observation.
            der = der * copies
        if parameter.der is None:
            # Taken over, and added to in place later: it must not alias what a layer keeps.
            parameter.der = der.copy()
        else:
            parameter.der += der

    def _count_uses(self, record: LayerRecord, copies: int, hold_on: bool) -> None:
        """Hand a parameter's derivative to the parameter server once all uses are in."""
        net = self.net
        for p in record.param_indexes:
            self.pending_uses[p] -= copies
            if self.pending_uses[p] > 0 or net.parameter_server is None or hold_on:
                continue
            parameter = net.params[p]
            if parameter.der is not None:
                net.parameter_server.push(parameter.name, parameter.der)
                parameter.der = None

    def _find_wanted(self) -> list[bool]:
        """Whether anybody reads the derivative by each variable.

        The caller reads those of the network's inputs and of precious variables; layers with
        parameters read those of their outputs, and so does a layer that can pass a derivative on
        to an input that is wanted.
        """
        net = self.net
        wanted = [False] * len(net.vars)
        for v, leader in enumerate(self.plan.shared):
            looked_at = net.vars[v].fanin == 0 or net.vars[v].precious
            if looked_at and leader not in self.late:
                wanted[leader] = True
        for index in self.plan.order:
            record = net.layers[index]
            passes = record.block.differentiable_inputs(len(record.inputs))
            if record.params or any(
                can and wanted[v] for can, v in zip(passes, self._inputs(record))
            ):
                for v in record.output_indexes:
                    wanted[v] = True
        return wanted

    # Both

    def _inputs(self, record: LayerRecord) -> list[int]:
        """Indexes of the variables whose values a layer reads."""
        return [self.plan.shared[v] for v in record.input_indexes]

    def _input_values(self, record: LayerRecord) -> list[Any]:
        return [self.net.vars[v].value for v in self._inputs(record)]

    def _param_values(self, record: LayerRecord) -> list[Any]:
        params = [self.net.params[p] for p in record.param_indexes]
        for parameter in params:
            if parameter.value is None:
                raise LayerError(
                    f"layer {record.name!r} ({record.type}): parameter {parameter.name!r} has no "
                    "value; load weights or call init_params()"
                )
        return [parameter.value for parameter in params]

    def _explain(
        self, exc: Exception, record: LayerRecord, inputs: list, params: list, direction: str
    ) -> Exception:
        """An error that names the layer, its arrays and their shapes."""
        where = f"layer {record.name!r} ({record.type}), {direction}"
        arrays = "; inputs " + _shapes(record.inputs, inputs)
        if params:
            arrays += "; parameters " + _shapes(record.params, params)
        if isinstance(exc, ShapeError):
            culprit = ""
            if exc.input is not None and exc.input < len(record.inputs):
                culprit = f", input {record.inputs[exc.input]!r}"
            elif exc.param is not None and exc.param < len(record.params):
                culprit = f", parameter {record.params[exc.param]!r}"
            return ShapeError(f"{where}{culprit}: {exc}{arrays}", input=exc.input, param=exc.param)
        return LayerError(f"{where}: {type(exc).__name__}: {exc}{arrays}")


def _shapes(names: list[str], arrays: list) -> str:
    return ", ".join(
        f"{name} {'freed' if a is None else tuple(getattr(a, 'shape', ()))}"
        for name, a in zip(names, arrays)
    )


def _spread(der: Any, variable: Variable) -> Any:
    """A derivative that the caller gives, in dtype and shape of the variable's value."""
    value = variable.value
    xp = get_array_module(value)
    der = xp.asarray(der, dtype=value.dtype)
    try:
        return der if der.shape == value.shape else xp.broadcast_to(der, value.shape)
    except ValueError:
        raise ShapeError(
            f"the derivative by variable {variable.name!r} must be a number or an array of shape "
            f"{value.shape}, received {der.shape}"
        ) from None


def _check_count(record: LayerRecord, what: str, received: list, names: list[str]) -> None:
    if len(received) != len(names):
        raise LayerError(f"returned {len(received)} {what}, expected {len(names)}")
