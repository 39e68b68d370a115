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
* Equal layers are run once, and chains of layers as one (``dagnet.plan``, ``dagnet.fusion``). The
  derivative by a variable that was merged into another is the sum over all that were.
* Layers that do not depend on one another run side by side (``dagnet.scheduling``), with the
  numbers of running them in turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import blas_threads, limit_blas_threads
from .errors import DagNNError, LayerError
from .explaining import explain, explain_chains
from .family import Family, Rest
from .layer import Context
from .plan import Plan, Unit, take_apart
from .records import LayerRecord
from .requirements import noting
from .scheduling import OrderedSum, run_tasks
from .sources import Sources, find_sources
from .values import Values, draw_entropy, spread

if TYPE_CHECKING:
    from .net import DagNN

# A network whose layers write less than this on average is run by one thread (measured: the
# unrolled network with 2 to 4 channels takes 1.4 times as long on two).
LEAST_LAYER_BYTES = 16 << 10

LateInputs = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Evaluation:
    """One evaluation of a network: forward, and backward where derivatives are asked for."""

    def __init__(self, net: DagNN, plan: Plan, der_outputs: Mapping[str, Any]):
        self.net = net
        self.plan = plan
        self.der_outputs = der_outputs
        self.computing_derivative = bool(der_outputs)
        self.units = dict(enumerate(plan.units))
        self.order = list(self.units)
        self.saved: dict[int, Any] = {}
        self.late: set[int] = set()
        self.pending_reads = list(plan.reads)
        self.lock = threading.Lock()
        self.families: dict[int, Family] = {}
        for unit in plan.units:
            if unit.family is not None and unit.family not in self.families:
                self.families[unit.family] = Family(unit.block)
        # Layers that draw numbers have a generator each, whatever the order in which they run.
        self.entropy = draw_entropy(net.rng)
        for record in net.layers:
            record.forward_time = record.backward_time = None
        self.kept_for_backward = set(self._noted("kept", self._find_kept)) if der_outputs else set()
        self.workers = self._count_workers()
        # What most layers are told is the same: it is made once.
        self.contexts: dict[Any, Context] = {}

    # Forward

    def forward(self, late_inputs: LateInputs | None) -> None:
        """Run every unit whose inputs exist, then those that late inputs make possible."""
        net, waiting = self.net, set()

        def run(place: int) -> None:
            if not self._run(place):
                waiting.add(place)

        self._run_tasks(self.order, dict(enumerate(self.plan.needs)), run)
        if waiting and late_inputs is not None:
            for name, value in late_inputs(Values(net)).items():
                variable = net.get_var(name)
                variable.value = value
                net.late_variables.append(variable)
                leader = self._leader(name)
                net.vars[leader].value = value
                self.late.add(leader)
            order, needs = self._take_apart(sorted(waiting))
            self.order = [place for place in self.order if place not in waiting] + order
            self._run_tasks(order, needs, self._run)

    def _take_apart(self, waiting: list[int]) -> tuple[list[int], dict[int, set[int]]]:
        """Units that waited; chains layer by layer where a value came into the middle of one, or
        where some of a unit's chains stay without their input."""
        order: list[int] = []
        ready = {v for v, variable in enumerate(self.net.vars) if variable.value is not None}
        for place in waiting:
            unit = self.units[place]
            inner = {v for i in unit.layers for v in self.net.layers[i].output_indexes}
            inputs = [v in ready for v in unit.inputs]
            whole = unit.family is None or (
                (all(inputs) or not any(inputs)) and self.late.isdisjoint(inner)
            )
            for part in [unit] if whole else take_apart(self.plan, self.net, unit):
                if ready.issuperset(part.inputs):
                    ready.update(part.outputs)
                if whole:
                    order.append(place)
                    continue
                order.append(len(self.units))
                self.units[order[-1]] = part
                if self.computing_derivative:
                    self.kept_for_backward.update(part.inputs)
                for v in part.inputs:
                    self.pending_reads[v] += 1
            if not whole:
                for v in unit.inputs:
                    self.pending_reads[v] -= 1
        writer = {v: place for place in order for v in self.units[place].outputs}
        needs = {
            place: {writer[v] for v in self.units[place].inputs if v in writer} for place in order
        }
        return order, needs

    def _run(self, place: int) -> bool:
        """Run a unit forward; False if an input is missing."""
        net, unit = self.net, self.units[place]
        inputs = [net.vars[v].value for v in unit.inputs]
        for value in inputs:
            if value is None:
                return False
        params = self._param_values(unit)
        start = time.perf_counter()
        keep = self.computing_derivative and not unit.recompute
        try:
            if net.device == "cpu":
                outputs, saved = self._forward(unit, inputs, params, keep)
            else:
                with noting(net.requirements, net.layers[unit.layers[0]]):
                    outputs, saved = self._forward(unit, inputs, params, keep)
            _check_count("outputs", outputs, unit.outputs)
            unit.block.update_statistics(inputs, outputs)
        except Exception as exc:
            raise self._explain(exc, unit, inputs, params, "forward") from exc
        for v, value in zip(unit.outputs, outputs):
            self._hand_out(v, value)
        if self.computing_derivative:
            self.saved[place] = saved if keep else None
        del inputs, outputs, saved
        self._release(unit)
        net.layers[unit.layers[0]].forward_time = time.perf_counter() - start
        return True

    def _forward(self, unit: Unit, inputs: list, params: list, keep: bool) -> tuple[list, Any]:
        return unit.block.forward(inputs, params, self._forward_context(unit, params, keep))

    def _recall(self, unit: Unit, inputs: list, params: list) -> Any:
        """What a unit's forward keeps, made a second time."""
        context = self._forward_context(unit, params, True)
        if unit.family is None:
            return unit.block.forward(inputs, params, context)[1]
        return unit.block.recall(inputs, params, context)

    def _forward_context(self, unit: Unit, params: list, keep: bool) -> Context:
        random = unit.block.random
        common = unit.family is None and not random
        if common and keep in self.contexts:
            return self.contexts[keep]
        context = Context(
            mode=self.net.mode,
            rng=np.random.default_rng([self.entropy, unit.layers[0]]) if random else None,
            derivatives=keep,
            shared=self._shared(unit, params),
        )
        if common:
            self.contexts[keep] = context
        return context

    def _backward_context(self, place: int, unit: Unit, params: list, needs: tuple) -> Context:
        weights = tuple([self.weights[v] for v in unit.inputs])
        common = unit.family is None and not any([weight is not None for weight in weights])
        key = needs, unit.uses
        if common and key in self.contexts:
            return self.contexts[key]
        context = Context(
            mode=self.net.mode,
            needs=needs,
            weights=weights,
            uses=unit.uses,
            shared=self._shared(unit, params),
            rest=self._rest(place, unit),
        )
        if common:
            self.contexts[key] = context
        return context

    def _shared(self, unit: Unit, params: list) -> Any:
        """What the unit's family shares."""
        if unit.family is None:
            return None
        context = Context(mode=self.net.mode, derivatives=self.computing_derivative)
        return self.families[unit.family].begin(params, context)

    def _hand_out(self, v: int, value: Any) -> None:
        """Give a value to its variable, and to merged ones that are looked at afterwards."""
        variables = self.net.vars
        for alias in self.plan.aliases[v]:
            if alias == v or variables[alias].precious or variables[alias].fanout == 0:
                variables[alias].value = value

    def _release(self, unit: Unit) -> None:
        """Free the inputs that nothing reads any more."""
        with self.lock:
            for v in unit.inputs:
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
        """Variables whose value some layer's backward reads, or that backward begins with."""
        kept = {
            v
            for unit in self.plan.units
            if unit.block.backward_uses_inputs or unit.recompute
            for v in unit.inputs
        }
        return kept | {self._leader(name) for name in self.der_outputs}

    def _leader(self, name: str) -> int:
        """Index of the variable that holds the value of the one of this name."""
        return self.plan.shared[self.net.get_var_index(name)]

    # Backward

    def backward(self, hold_on: bool) -> None:
        """Run the units in reverse order, adding up derivatives of variables and parameters."""
        net = self.net
        given = self._given_ders()
        for variable in net.vars:
            variable.der = None
        if not net.accumulate_param_ders:
            # A parameter that this pass does not reach must not keep an earlier derivative.
            for parameter in net.params:
                parameter.der = None
        tasks = [place for place in reversed(self.order) if place in self.saved]
        self.wanted = self._noted("wanted", self._find_wanted)
        self.weights = self._noted("weights", self._find_weights)
        self.hold_on = hold_on
        sources = self._noted("sources", lambda: find_sources(self.units, tasks))
        if sources.tasks != tasks:  # another input is missing
            sources = find_sources(self.units, tasks)
        self._make_sums(sources, given)
        self._run_tasks(tasks, sources.needs, self._run_backward)
        # Sums by what a unit wrote are gone.
        for v, total in self.variable_sums.items():
            if self.wanted[v]:
                net.vars[v].der = total.total

    def _given_ders(self) -> dict[int, Any]:
        """Derivatives that the caller gives, by the variable that they belong to."""
        given: dict[int, Any] = {}
        for name, der in self.der_outputs.items():
            v = self._leader(name)
            variable = self.net.vars[v]
            if variable.value is None:
                raise DagNNError(
                    f"derivative asked for from variable {name!r}, which was not computed: give "
                    "the inputs that it depends on (inputs of the network: "
                    f"{', '.join(self.net.get_inputs())})"
                )
            der = spread(der, variable.value, name)
            given[v] = given[v] + der if v in given else der
        return given

    def _make_sums(self, sources: Sources, given: Mapping[int, Any]) -> None:
        """A sum for the derivative by each variable and parameter, over what reads it."""
        # One thread alone needs no lock for each.
        lock = self.lock if self.workers == 1 else None
        self.variable_sums = {v: OrderedSum((), der, lock=lock) for v, der in given.items()} | {
            v: OrderedSum(terms, given.get(v), lock=lock) for v, terms in sources.variables.items()
        }
        self.param_sums = {
            p: OrderedSum(terms, self.net.params[p].der, lock=lock)
            for p, terms in sources.params.items()
        }
        for family, places in sources.members.items():
            self.families[family].expect(places)

    def _run_backward(self, place: int) -> None:
        unit = self.units[place]
        saved = self.saved.pop(place)
        sums = [self.variable_sums.get(v) for v in unit.outputs]
        ders = [None if total is None else total.total for total in sums]
        if not any([der is not None for der in ders]):
            self._bring_inputs(place, unit, [None] * len(unit.inputs))
            self._bring_params(place, unit, [None] * len(unit.params), None)
            return
        inputs = [self.net.vars[v].value for v in unit.inputs]
        params = self._param_values(unit)
        for v, der in zip(unit.outputs, ders):
            self._settle_output(v, der)
            self.variable_sums.pop(v, None)
        del sums
        start = time.perf_counter()
        needs = tuple([self.wanted[v] for v in unit.inputs])
        try:
            # What is required of values was looked at, or noted, in forward.
            with nullcontext() if self.net.device == "cpu" else noting([], None):
                saved = self._recall(unit, inputs, params) if unit.recompute else saved
                context = self._backward_context(place, unit, params, needs)
                der_inputs, der_params = unit.block.backward(inputs, params, ders, saved, context)
            _check_count("derivatives by inputs", der_inputs, unit.inputs)
            if unit.family is None:
                _check_count("derivatives by parameters", der_params, unit.params)
        except Exception as exc:
            raise self._explain(exc, unit, inputs, params, "backward") from exc
        del saved, ders
        try:
            self._bring_inputs(
                place, unit, [der if want else None for der, want in zip(der_inputs, needs)]
            )
            self._bring_params(place, unit, der_params, params)
        except MemoryError as exc:
            raise self._explain(exc, unit, inputs, params, "backward") from exc
        self.net.layers[unit.layers[0]].backward_time = time.perf_counter() - start

    def _settle_output(self, v: int, der: Any) -> None:
        """Free value and derivative of an output, or let those that stay be seen."""
        for alias in self.plan.aliases[v]:
            variable = self.net.vars[alias]
            if variable.precious or not self.net.conserve_memory:
                variable.der = der
            else:
                variable.value = variable.der = None

    def _bring_inputs(self, place: int, unit: Unit, ders: list) -> None:
        """Add a unit's derivatives by its inputs to the sums."""
        for i, (v, der) in enumerate(zip(unit.inputs, ders)):
            self.variable_sums[v].add((place, i), der)

    def _bring_params(self, place: int, unit: Unit, ders: Any, params: list | None) -> None:
        """Add derivatives by parameters to the sums; hand over those that are then complete."""
        source: Any = place
        if unit.family is not None:
            family = self.families[unit.family]
            part = None if params is None else ders
            if not family.add(place, part):
                return
            context = Context(mode=self.net.mode)
            ders = family.finish(self._param_values(unit), context)
            _check_count("derivatives by parameters", ders, unit.params)
            source = ("family", unit.family)
        elif unit.uses[0] > 1:
            ders = [self._observations(p, der, unit.uses[0]) for p, der in zip(unit.params, ders)]
        handed = () if unit.family is None else self.families[unit.family].handed
        for i, der in enumerate(ders):
            if i not in handed:
                self._settle_param(unit.params[i], (source, i), der)

    def _settle_param(self, p: int, source: Any, der: Any) -> None:
        """Add a derivative by a parameter to its sum; hand that over when it is complete."""
        net, parameter = self.net, self.net.params[p]
        if not self.param_sums[p].add(source, der):
            return
        parameter.der = self.param_sums[p].total
        if net.parameter_server is not None and not self.hold_on and parameter.der is not None:
            net.parameter_server.push(parameter.name, parameter.der)
            parameter.der = None

    def _rest(self, place: int, unit: Unit) -> Rest | None:
        """By what a family's last call hands over derivatives while it runs, if they are sent."""
        if unit.family is None or self.net.parameter_server is None or self.hold_on:
            return None
        source = ("family", unit.family)
        return self.families[unit.family].rest(
            place, lambda i, der: self._settle_param(unit.params[i], (source, i), der)
        )

    def _observations(self, p: int, der: Any, uses: int) -> Any:
        """What a merged layer brings to a parameter: as many observations as uses.

        A derivative is that of all uses already.
        """
        observed = self.net.params[p].train_method == "average" and self.net.mode == "normal"
        return der * uses if observed and der is not None else der

    def _noted(self, what: str, find: Callable[[], Any]) -> Any:
        """What ``find`` returns, kept with the plan that it follows from."""
        if len(self.units) != len(self.plan.units):  # some were taken apart
            return find()
        key = what, self.net.conserve_memory, frozenset(self.late)
        if key not in self.plan.notes:
            self.plan.notes[key] = find()
        return self.plan.notes[key]

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
        for unit in (self.units[place] for place in self.order):
            passes = unit.block.differentiable_inputs(len(unit.inputs))
            if unit.params or any(can and wanted[v] for can, v in zip(passes, unit.inputs)):
                for v in unit.outputs:
                    wanted[v] = True
        return wanted

    def _find_weights(self) -> list[Any]:
        """For each variable the weighting of its derivative, where only a weighted sum is used.

        That by an input of the network or a precious variable is used as it is.
        """
        net = self.net
        weights: list[Any] = [None] * len(net.vars)
        if not net.conserve_memory:
            return weights
        for unit in (self.units[place] for place in self.order):
            own = unit.block.weigh([weights[v] for v in unit.inputs], len(unit.outputs))
            for v, weight in zip(unit.outputs, own):
                if weight is None:
                    continue
                if not any(net.vars[alias].precious for alias in self.plan.aliases[v]):
                    weights[v] = weight
        return weights

    # Both

    def _count_workers(self) -> int:
        """Worker threads: as many as BLAS would use alone; the layers then share them.

        One where layers are so small that Python's work, which threads cannot share, prevails.
        """
        if self.net.device != "cpu":
            return 1
        if self.net.workers is not None:
            return max(1, self.net.workers)
        return 1 if self.plan.layer_bytes < LEAST_LAYER_BYTES else max(1, blas_threads())

    def _run_tasks(self, order: list[int], needs: Mapping[int, set[int]], run: Callable) -> None:
        if self.workers == 1 and not self.plan.layer_bytes < LEAST_LAYER_BYTES:
            run_tasks(order, needs, run, 1)
            return
        with limit_blas_threads(1):
            run_tasks(order, needs, run, self.workers)

    def _param_values(self, unit: Unit) -> list[Any]:
        if not unit.params:
            return []
        params = [self.net.params[p] for p in unit.params]
        for parameter in params:
            if parameter.value is None:
                record = self._user(unit, parameter.name)
                raise LayerError(
                    f"layer {record.name!r} ({record.type}): parameter {parameter.name!r} has no "
                    "value; load weights or call init_params()"
                )
        return [parameter.value for parameter in params]

    def _user(self, unit: Unit, parameter: str) -> LayerRecord:
        records = [self.net.layers[index] for index in unit.layers]
        return next(record for record in records if parameter in record.params)

    def _explain(
        self, exc: Exception, unit: Unit, inputs: list, params: list, direction: str
    ) -> Exception:
        """An error that names the layer, its arrays and their shapes."""
        net = self.net
        if unit.family is None:
            return explain(exc, net.layers[unit.layers[0]], inputs, params, direction)
        return explain_chains(exc, net, self.plan, unit, inputs, direction)


def _check_count(what: str, received: list, expected: Sequence) -> None:
    if len(received) != len(expected):
        raise LayerError(f"returned {len(received)} {what}, expected {len(expected)}")
