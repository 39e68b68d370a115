"""Errors of layers, told with the layer's name, its variables and their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import LayerError, LayerMemoryError, ShapeError
from .layer import Context
from .records import LayerRecord
from .shortage import gpu_memory, is_of_gpu, memory_shortage, requested_bytes

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
    if memory_shortage(exc) is not None:
        return _lack_of_memory(exc, where, arrays)
    return LayerError(f"{where}: {type(exc).__name__}: {exc}{arrays}")


def explain_chains(
    exc: Exception, net: DagNN, plan: Plan, unit: Unit, inputs: list, direction: str
) -> Exception:
    """As ``explain``, for chains of layers: which layer it was shows when they run in turn.

    Where memory lacks they are not run again, and all are named.
    """
    names = [f"{net.layers[c[0]].name!r} to {net.layers[c[-1]].name!r}" for c in unit.chains]
    inputs_read = [net.vars[v].name for v in unit.inputs]
    where = f"layers {', '.join(names)}, {direction}"
    if memory_shortage(exc) is not None:
        return _lack_of_memory(exc, where, "; inputs " + _shapes(inputs_read, inputs))
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
    return LayerError(
        f"{where}: {type(exc).__name__}: {exc}; inputs {_shapes(inputs_read, inputs)}; with "
        "plan=False they are run in turn"
    )


def _lack_of_memory(exc: Exception, where: str, arrays: str) -> LayerMemoryError:
    """The error of layers that lacked memory, with what is known of it."""
    requested, used, total = requested_bytes(exc), None, None
    words = f"out of memory ({memory_shortage(exc)})"
    if requested is not None:
        words = f"out of memory, {requested:,} bytes asked for"
    if is_of_gpu(exc):
        used, total = gpu_memory()
    if total is not None:
        words += f", {used:,} of the GPU's {total:,} bytes in use"
    return LayerMemoryError(
        f"{where}: {words}; a smaller batch, fewer frames or a memory budget takes less{arrays}",
        requested=requested,
        used=used,
        total=total,
    )


def _shapes(names: list[str], arrays: list) -> str:
    return ", ".join(
        f"{name} {'freed' if a is None else tuple(getattr(a, 'shape', ()))}"
        for name, a in zip(names, arrays)
    )
