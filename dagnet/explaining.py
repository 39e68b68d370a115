"""Errors of layers, told with the layer's name, its variables and their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import LayerError, ShapeError
from .layer import Context
from .records import LayerRecord

if TYPE_CHECKING:
    from .net import DagNN
    from .plan import Plan, Unit


def explain(
    exc: Exception, record: LayerRecord, inputs: list, params: list, direction: str
) -> Exception:
    """An error that names the layer that raised ``exc``, its arrays and their shapes."""
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


def explain_chains(
    exc: Exception, net: DagNN, plan: Plan, unit: Unit, inputs: list, direction: str
) -> Exception:
    """As ``explain``, for chains of layers: which layer it was shows when they run in turn."""
    for chain, x in zip(unit.chains, inputs):
        values = {plan.shared[net.layers[chain[0]].input_indexes[0]]: x}
        for index in chain:
            record = net.layers[index]
            own = [values[plan.shared[v]] for v in record.input_indexes]
            params = [net.params[p].value for p in record.param_indexes]
            try:
                outputs, _ = record.block.forward(own, params, Context(mode=net.mode))
            except Exception as error:
                return explain(error, record, own, params, direction)
            values.update(zip(record.output_indexes, outputs))
    names = [f"{net.layers[c[0]].name!r} to {net.layers[c[-1]].name!r}" for c in unit.chains]
    inputs_read = [net.vars[v].name for v in unit.inputs]
    return LayerError(
        f"layers {', '.join(names)}, {direction}: {type(exc).__name__}: {exc}; inputs "
        f"{_shapes(inputs_read, inputs)}; with plan=False they are run in turn"
    )


def _shapes(names: list[str], arrays: list) -> str:
    return ", ".join(
        f"{name} {'freed' if a is None else tuple(getattr(a, 'shape', ()))}"
        for name, a in zip(names, arrays)
    )
