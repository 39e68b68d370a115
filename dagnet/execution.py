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
* Layers that do not depend on one another run side by side (``dagnet.scheduling``), with the
  numbers of running them in turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import blas_threads, get_array_module, limit_blas_threads
from .errors import DagNNError, LayerError, ShapeError
from .layer import Context
from .plan import Plan
from .records import LayerRecord, Variable
from .scheduling import OrderedSum, run_tasks

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
        self.lock = threading.Lock()
        # Layers that draw numbers have a generator each, whatever the order in which they run.
        self.entropy = int(net.rng.integers(2**63))
        for record in net.layers:
            record.forward_time = record.backward_time = None
        self.kept_for_backward = self._find_kept() if computing_derivative else set()
        self.workers, self.blas_threads = self._share_threads()

    # Forward

    def forward(self, late_inputs: LateInputs | None) -> None:
        """Run every layer whose inputs exist, then those that late inputs make possible."""
        net, waiting = self.net, set()

        def run(index: int) -> None:
            if not self._run(index):
                waiting.add(index)

        self._run_tasks(self.plan.order, self.plan.needs, run)
        if waiting and late_inputs is not None:
            for name, value in late_inputs(Values(net)).items():
                variable = net.get_var(name)
                variable.value = value
                net.late_variables.append(variable)
                leader = self.plan.shared[net.get_var_index(name)]
                net.vars[leader].value = value
                self.late.add(leader)
            order = [index for index in self.plan.order if index in waiting]
            needs = {index: self.plan.needs[index] & waiting for index in order}
            self._run_tasks(order, needs, self._run)

    def _run(self, index: int) -> bool:
        """Run a layer forward; False if an input is missing."""
        net, record = self.net, self.net.layers[index]
        inputs = self._input_values(record)
        if any(value is None for value in inputs):
            return False
        params = self._param_values(record)
        start = time.perf_counter()
        rng = np.random.default_rng([self.entropy, index]) if record.block.random else None
        context = Context(mode=net.mode, rng=rng)
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
        del inputs, outputs, saved
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
        with self.lock:
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
        given = self._given_ders(der_outputs)
        for variable in net.vars:
            variable.der = None
        if not net.accumulate_param_ders:
            # A parameter that this pass does not reach must not keep an earlier derivative.
            for parameter in net.params:
                parameter.der = None
        tasks = [index for index in reversed(self.plan.order) if index in self.saved]
        self.wanted = self._find_wanted()
        self.hold_on = hold_on
        self._make_sums(tasks, given)
        written = {v: index for index in tasks for v in net.layers[index].output_indexes}
        needs: dict[int, set[int]] = {index: set() for index in tasks}
        for index in tasks:
            for v in self._inputs(net.layers[index]):
                if v in written:
                    needs[written[v]].add(index)
        self._run_tasks(tasks, needs, self._run_backward)
        for v, total in self.variable_sums.items():
            if v not in written and self.wanted[v]:
                net.vars[v].der = total.total

    def _given_ders(self, der_outputs: Mapping[str, Any]) -> dict[int, Any]:
        """Derivatives that the caller gives, by the variable that they belong to."""
        given: dict[int, Any] = {}
        for name, der in der_outputs.items():
            variable = self.net.get_var(name)
            if variable.value is None:
                raise DagNNError(
                    f"derivative asked for from variable {name!r}, which was not computed: give "
                    "the inputs that it depends on (inputs of the network: "
                    f"{', '.join(self.net.get_inputs())})"
                )
            v = self.plan.shared[self.net.get_var_index(name)]
            der = _spread(der, variable)
            given[v] = given[v] + der if v in given else der
        return given

    def _make_sums(self, tasks: list[int], given: Mapping[int, Any]) -> None:
        """A sum for the derivative by each variable and parameter, over what reads it."""
        readers: dict[int, list] = {v: [] for v in given}
        users: dict[int, list] = {}
        for index in tasks:
            record = self.net.layers[index]
            for place, v in enumerate(self._inputs(record)):
                readers.setdefault(v, []).append((index, place))
            for place, p in enumerate(record.param_indexes):
                users.setdefault(p, []).append((index, place))
        self.variable_sums = {
            v: OrderedSum(sources, given.get(v)) for v, sources in readers.items()
        }
        self.param_sums = {
            p: OrderedSum(sources, self.net.params[p].der) for p, sources in users.items()
        }

    def _run_backward(self, index: int) -> None:
        net, record = self.net, self.net.layers[index]
        saved = self.saved.pop(index)
        sums = [self.variable_sums.get(v) for v in record.output_indexes]
        ders = [None if total is None else total.total for total in sums]
        if all(der is None for der in ders):
            self._bring(index, [None] * len(record.inputs), [None] * len(record.params))
            return
        inputs = self._input_values(record)
        params = self._param_values(record)
        copies = self.plan.copies[index]
        for copy in copies:
            self._settle_outputs(net.layers[copy], ders)
        for v in record.output_indexes:
            self.variable_sums.pop(v, None)
        del sums
        start = time.perf_counter()
        needs = tuple(self.wanted[v] for v in self._inputs(record))
        context = Context(mode=net.mode, needs=needs)
        try:
            der_inputs, der_params = record.block.backward(inputs, params, ders, saved, context)
            _check_count(record, "derivatives by inputs", der_inputs, record.inputs)
            _check_count(record, "derivatives by parameters", der_params, record.params)
        except Exception as exc:
            raise self._explain(exc, record, inputs, params, "backward") from exc
        del saved, ders
        der_inputs = [der if want else None for der, want in zip(der_inputs, needs)]
        if len(copies) > 1:
            der_params = [
                self._observations(p, der, len(copies))
                for p, der in zip(record.param_indexes, der_params)
            ]
        self._bring(index, der_inputs, der_params)
        record.backward_time = time.perf_counter() - start

    def _settle_outputs(self, record: LayerRecord, ders: list) -> None:
        """Free values and derivatives of a layer's outputs, or let those that stay be seen."""
        for v, der in zip(record.output_indexes, ders):
            variable = self.net.vars[v]
            if variable.precious or not self.net.conserve_memory:
                variable.der = der
            else:
                variable.value = variable.der = None

    def _observations(self, p: int, der: Any, copies: int) -> Any:
        """What a merged layer brings to a parameter: as many observations as uses.

        A derivative is that of all uses already.
        """
        observed = self.net.params[p].train_method == "average" and self.net.mode == "normal"
        return der * copies if observed and der is not None else der

    def _bring(self, index: int, der_inputs: list, der_params: list) -> None:
        """Add a layer's derivatives to the sums; hand over those that are then complete."""
        net, record = self.net, self.net.layers[index]
        for place, (v, der) in enumerate(zip(self._inputs(record), der_inputs)):
            self.variable_sums[v].add((index, place), der)
        for place, (p, der) in enumerate(zip(record.param_indexes, der_params)):
            total, parameter = self.param_sums[p], net.params[p]
            if not total.add((index, place), der):
                continue
            parameter.der = total.total
            if net.parameter_server is not None and not self.hold_on and parameter.der is not None:
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

    def _share_threads(self) -> tuple[int, int]:
        """Worker threads, and threads that BLAS may use in each.

        As many as BLAS would use alone, first for layers that can run side by side: on average
        as many as the plan is wide.
        """
        if self.net.device != "cpu":
            return 1, 0
        threads = blas_threads() if self.net.workers is None else self.net.workers
        workers = max(1, min(threads, int(self.plan.width)))
        return workers, max(1, threads // workers)

    def _run_tasks(self, order: list[int], needs: Mapping[int, set[int]], run: Callable) -> None:
        if self.workers == 1:
            run_tasks(order, needs, run, 1)
            return
        with limit_blas_threads(self.blas_threads):
            run_tasks(order, needs, run, self.workers)

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
