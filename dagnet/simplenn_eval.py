"""A chain of layers evaluated as MatConvNet's ``vl_simplenn`` evaluates a SimpleNN.

The chain is a ``DagNN`` (``from_simple_nn`` makes it), and what runs is the engine's evaluation,
one layer at a time; this file has the options that ``DagNN.eval`` has not, and the results in a
list along the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import DagNNError
from .execution import Evaluation
from .net import DagNN
from .parameter_server import ParameterServer
from .plan import make_plan


@dataclass
class SimpleResult:
    """What an evaluation leaves at one place of the chain: its input, or the output of a layer.

    Attributes
    ----------
    x, dzdx : array or None
        The value, and the derivative by it.
    dzdw : list
        Derivatives by the parameters of the layer that reads ``x``, in order; empty where none
        were computed. Of a batch norm the third are the moments that it observed.
    aux : any
        What the layer that wrote ``x`` keeps for its backward (dropout's mask).
    time, backward_time : float or None
        Seconds of the layer that reads ``x``, forward and backward.
    """

    x: Any = None
    dzdx: Any = None
    dzdw: list = field(default_factory=list)
    aux: Any = None
    time: float | None = None
    backward_time: float | None = None


def simple_nn(
    net: DagNN,
    x: Any,
    dzdy: Any = None,
    res: Sequence[SimpleResult] | None = None,
    *,
    labels: Any = (),
    mode: str = "normal",
    conserve_memory: bool = False,
    accumulate: bool = False,
    back_prop_depth: int | None = None,
    skip_forward: bool = False,
    parameter_server: ParameterServer | None = None,
    hold_on: bool = False,
) -> list[SimpleResult]:
    """Evaluate a chain on ``x`` and, where ``dzdy`` is given, its derivatives.

    Options and results are those of ``vl_simplenn``. The network's own ``mode``,
    ``conserve_memory``, ``accumulate_param_ders`` and ``parameter_server`` are as before
    afterwards; values and derivatives are in the results alone.

    Parameters
    ----------
    net : DagNN
        A chain: each layer writes one variable and reads that of the layer before first.
    x : array (N, C, H, W)
        The input; with ``skip_forward`` it is not looked at.
    dzdy : array or number, optional
        Derivative of the scalar by the output of the last layer.
    res : list of SimpleResult, optional
        An earlier result, for ``accumulate`` and ``skip_forward``; it is not changed.
    labels : array, or list of arrays
        What the losses read beside their scores (``layer.class`` there): one array for each.
    mode : 'normal' or 'test'
    conserve_memory : bool
        Keep the last output, the outputs of precious layers, derivatives by parameters and, after
        a backward pass, the input and its derivative; everything else is freed on the way.
    accumulate : bool
        Add derivatives by parameters to those of ``res``.
    back_prop_depth : int, optional
        Derivatives of so many of the last layers alone.
    skip_forward : bool
        Compute derivatives from the values in ``res``.
    parameter_server, hold_on
        As of ``DagNN``.

    Returns
    -------
    list of SimpleResult
        One more than there are layers; the first has the input, the last the network's output.

    Raises
    ------
    DagNNError
        If the network is not a chain, or ``labels`` are not as many as its losses read.
    ValueError
        If an option asks for what is not there: ``skip_forward`` without ``dzdy`` or without the
        values in ``res``, a depth below 1, a ``res`` of another length.
    ShapeError, LayerError
        As ``DagNN.eval``.
    """
    names = _chain(net)
    first = _first_layer(net, back_prop_depth)
    _check_results(net, names, dzdy, res, skip_forward)
    inputs = {names[0]: x, **_labels(net, names[0], labels)}
    state = {
        "mode": mode,
        "conserve_memory": conserve_memory,
        "accumulate_param_ders": accumulate,
        "parameter_server": parameter_server,
    }
    last = net.get_var(names[-1])
    with _as(net, **state), _as(last, precious=True):
        evaluation = _evaluation(net, names[-1], dzdy, first)
        if accumulate and res is not None:
            _put_derivatives(net, res)
        if skip_forward:
            _put_values(net, names, res, evaluation, inputs)
        else:
            for name, value in inputs.items():
                net.get_var(name).value = value
            evaluation.forward(None)
        saved = dict(evaluation.saved)
        if dzdy is not None:
            evaluation.saved = {place: saved[place] for place in saved if place >= first}
            evaluation.backward(hold_on)
    results = _results(net, names, saved, res if skip_forward else None)
    if conserve_memory:
        for result in results:
            result.aux = None
        if dzdy is not None and first and not net.get_var(names[first]).precious:
            results[first].x = results[first].dzdx = None
    _clear(net)
    return results


def _chain(net: DagNN) -> list[str]:
    """Names of the variables along the chain, from the input to the last output."""
    if not net.layers:
        raise DagNNError("the network has no layers")
    names = [net.layers[0].inputs[0]]
    for record in net.layers:
        others = [v for v in record.inputs[1:] if net.get_var(v).fanin]
        if len(record.outputs) != 1 or record.inputs[0] != names[-1] or others:
            raise DagNNError(
                f"layer {record.name!r} ({record.type}) reads {', '.join(record.inputs)} and "
                f"writes {', '.join(record.outputs)}: in a SimpleNN each layer reads what the one "
                f"before it wrote, here {names[-1]!r}; use DagNN.eval"
            )
        names.append(record.outputs[0])
    return names


def _first_layer(net: DagNN, depth: int | None) -> int:
    """Index of the lowest layer that runs backward."""
    if depth is None:
        return 0
    if depth < 1:
        raise ValueError(f"back_prop_depth must be at least 1, received {depth}")
    return max(len(net.layers) - int(depth), 0)


def _check_results(
    net: DagNN,
    names: Sequence[str],
    dzdy: Any,
    res: Sequence[SimpleResult] | None,
    skip_forward: bool,
) -> None:
    if res is not None and len(res) != len(names):
        raise ValueError(
            f"res must have one result more than the {len(net.layers)} layers, received {len(res)}"
        )
    if not skip_forward:
        return
    if dzdy is None:
        raise ValueError("skip_forward leaves nothing to do without a derivative dzdy")
    if res is None or any(result.x is None for result in res):
        raise ValueError(
            "skip_forward needs the values of an evaluation in res, one that was made without "
            "conserve_memory"
        )


def _labels(net: DagNN, source: str, labels: Any) -> dict[str, Any]:
    names = [name for name in net.get_inputs() if name != source]
    labels = list(labels) if isinstance(labels, (list, tuple)) else [labels]
    if len(labels) != len(names):
        raise DagNNError(
            f"the network reads {len(names)} inputs beside {source!r} "
            f"({', '.join(names) or 'none'}), received {len(labels)} labels"
        )
    return dict(zip(names, labels))


@contextmanager
def _as(target: Any, **state: Any) -> Iterator[None]:
    """Attributes of ``target`` with other values for a while."""
    before = {name: getattr(target, name) for name in state}
    try:
        for name, value in state.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


def _evaluation(net: DagNN, last: str, dzdy: Any, first: int) -> Evaluation:
    """An evaluation of every layer in turn, its units in the order of the layers."""
    _clear(net)
    plan = make_plan(net, merge=False, device=net.device)
    der_outputs = {} if dzdy is None else {last: dzdy}
    if dzdy is None and not net.conserve_memory:
        # What backward needs is kept for a later one with skip_forward.
        der_outputs = {last: 1}
    evaluation = Evaluation(net, plan, der_outputs)
    if der_outputs:
        evaluation.kept_for_backward = {net.get_var_index(last)} | {
            v for u in plan.units[first:] if u.block.backward_uses_inputs for v in u.inputs
        }
    return evaluation


def _put_derivatives(net: DagNN, res: Sequence[SimpleResult]) -> None:
    for record, result in zip(net.layers, res):
        for name, der in zip(record.params, result.dzdw):
            net.get_param(name).der = der


def _put_values(
    net: DagNN,
    names: Sequence[str],
    res: Sequence[SimpleResult],
    evaluation: Evaluation,
    inputs: dict[str, Any],
) -> None:
    """The state after a forward pass, from its results."""
    for name, value in inputs.items():
        net.get_var(name).value = value
    for name, result in zip(names, res):
        net.get_var(name).value = result.x
    evaluation.saved = {place: result.aux for place, result in enumerate(res[1:])}


def _results(
    net: DagNN,
    names: Sequence[str],
    saved: dict[int, Any],
    forward: Sequence[SimpleResult] | None,
) -> list[SimpleResult]:
    variables = [net.get_var(name) for name in names]
    results = [SimpleResult(variable.value, variable.der) for variable in variables]
    for i, record in enumerate(net.layers):
        ders = [net.get_param(name).der for name in record.params]
        results[i].dzdw = [] if all(der is None for der in ders) else ders
        results[i].time = record.forward_time if forward is None else forward[i].time
        results[i].backward_time = record.backward_time
        results[i + 1].aux = saved.get(i)
    return results


def _clear(net: DagNN) -> None:
    """Forget values and derivatives, whose place is in the results."""
    for variable in net.vars:
        variable.value = variable.der = None
    for parameter in net.params:
        parameter.der = None
