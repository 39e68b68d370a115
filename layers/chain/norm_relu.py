"""Batch norm and the ReLU behind it as one layer, for networks on a GPU: a launch each way.

What batch norm gives is not kept: backward computes it again from its input and the moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dagnet import Chain, FusedLayer, Surroundings, register_finder
from layers.batch_norm import (
    BatchNorm,
    batch_norm,
    batch_norm_backward,
    batch_norm_stored,
    batch_norm_stored_backward,
    check_params,
)
from layers.kernels import Kernel, choose, register
from layers.kernels.windows import check_der_y
from layers.relu import ReLU, relu, relu_backward

from .norm import uses_stored
from .stages import REMEMBERED, Norm


def _forward(x: Any, multipliers: Any, biases: Any, epsilon: float, leak: float) -> Any:
    y, moments = batch_norm(x, multipliers, biases, epsilon)
    return relu(y, leak), moments


def _backward(x: Any, multipliers: Any, der_y: Any, moments: Any, leak: float, biases: Any) -> Any:
    y = batch_norm_stored(x, multipliers, biases, moments)
    return batch_norm_backward(x, multipliers, relu_backward(y, der_y, leak), moments)


def _forward_stored(x: Any, multipliers: Any, biases: Any, moments: Any, leak: float) -> Any:
    return relu(batch_norm_stored(x, multipliers, biases, moments), leak)


def _backward_stored(
    x: Any, multipliers: Any, der_y: Any, moments: Any, needs_x: bool, leak: float, biases: Any
) -> Any:
    y = batch_norm_stored(x, multipliers, biases, moments)
    der = relu_backward(y, der_y, leak)
    return batch_norm_stored_backward(x, multipliers, der, moments, needs_x=needs_x)


register("batch_norm_relu", Kernel("reference", _forward, _backward))
register("batch_norm_relu_stored", Kernel("reference", _forward_stored, _backward_stored))


@dataclass(eq=False, kw_only=True)
class NormRelu(FusedLayer):
    """Batch norm, then ReLU, on each input. Parameters and what is observed are ``BatchNorm``'s.

    Settings
    --------
    norm : Norm
    leak : float
        As of ``ReLU``.
    """

    norm: Norm
    leak: float = 0.0

    def key(self):
        return self.norm, self.leak

    def forward(self, inputs, params, context):
        """Outputs, and the moments of each input's batch.

        Raises
        ------
        ShapeError, TypeError, ValueError
            As ``BatchNorm`` does.
        """
        stored = uses_stored(self.norm, context.mode)
        outputs, observed = [], []
        for x in inputs:
            multipliers, biases, moments = check_params(x, *params, used=stored)
            if stored:
                kernel = choose("batch_norm_relu_stored", x)
                outputs.append(kernel.forward(x, multipliers, biases, moments, self.leak))
            else:
                kernel = choose("batch_norm_relu", x)
                given = (x, multipliers, biases, self.norm.epsilon, self.leak)
                y, moments = kernel.forward(*given)
                outputs.append(y)
                observed.append(moments)
        return outputs, observed

    def backward(self, inputs, params, der_outputs, saved, context):
        """Derivatives by the inputs, and by the parameters as the part.

        ``layers.batch_norm`` and ``layers.relu`` derive them. An input that no derivative reaches
        observes nothing.
        """
        der_inputs: list[Any] = [None] * len(inputs)
        total = None
        for branch, (x, der_y) in enumerate(zip(inputs, der_outputs)):
            if der_y is None:
                continue
            check_der_y(der_y, x.shape)
            multipliers, biases, moments = check_params(x, *params, used=not saved)
            if saved:
                moments, kernel = saved[branch], choose("batch_norm_relu", x)
                given = (x, multipliers, der_y, moments, self.leak, biases)
                der_x, *part = kernel.backward(*given)
                part.append(moments * context.uses[branch])
            else:
                kernel, needed = choose("batch_norm_relu_stored", x), context.needs_input(branch)
                given = (x, multipliers, der_y, moments, needed, self.leak, biases)
                der_x, *part = kernel.backward(*given)
            der_inputs[branch] = der_x
            total = part if total is None else self.add(total, part)
        return der_inputs, total

    def add(self, total, part):
        return [a + b for a, b in zip(total, part)]

    def finish(self, total, params, shared, context):
        return total


@lru_cache(REMEMBERED)
def _block(norm: Norm, leak: float) -> NormRelu:
    """The layer with these settings: always the same, for a new one puts plans out of date."""
    return NormRelu(norm=norm, leak=leak)


@register_finder("gpu")
def find_norm_relu(around: Surroundings) -> list[Chain]:
    """All batch norms whose output a ReLU alone reads, and nobody looks at, with that ReLU."""
    chains = []
    for index in around.order:
        record = around.net.layers[index]
        norm, (output,) = record.block, record.output_indexes[:1]
        readers = around.readers.get(output, [])
        if type(norm) is not BatchNorm or len(readers) != 1:
            continue
        follower = around.net.layers[readers[0]]
        if type(follower.block) is not ReLU or output in around.visible or output in around.given:
            continue
        settings = Norm(norm.epsilon, norm.moments == "stored")
        chains.append(
            Chain(
                layers=(index, readers[0]),
                block=_block(settings, follower.block.leak),
                input=around.shared[record.input_indexes[0]],
                outputs=tuple(follower.output_indexes),
                params=tuple(record.param_indexes),
            )
        )
    return chains
