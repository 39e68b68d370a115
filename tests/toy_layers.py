"""Small layers for tests of the engine: their derivatives are plain to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dagnet import ElementWise, Layer, register_layer
from layers import AveragedLoss


@register_layer("test.Times")
@dataclass(eq=False, kw_only=True)
class Times(ElementWise):
    """``y = w x`` with a parameter ``w`` of one element."""

    num_params: ClassVar = (1, 1)

    def forward(self, inputs, params, context):
        return [inputs[0] * params[0]], None

    def backward(self, inputs, params, der_outputs, saved, context):
        (der,) = der_outputs
        return [params[0] * der], [np.sum(inputs[0] * der).reshape(1)]

    def init_params(self, rng, dtype=np.float32):
        return [rng.standard_normal(1).astype(dtype)]


@register_layer("test.Plus")
@dataclass(eq=False, kw_only=True)
class Plus(ElementWise):
    """``y = a + b``; hands the same array to both inputs."""

    num_inputs: ClassVar = (2, 2)

    def forward(self, inputs, params, context):
        return [inputs[0] + inputs[1]], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0], der_outputs[0]], []


@register_layer("test.Split")
@dataclass(eq=False, kw_only=True)
class Split(Layer):
    """Two outputs, ``x`` and ``x ** 2``."""

    num_outputs: ClassVar = (2, 2)

    def forward(self, inputs, params, context):
        return [inputs[0], inputs[0] ** 2], None

    def backward(self, inputs, params, der_outputs, saved, context):
        der = 0
        if der_outputs[0] is not None:
            der = der + der_outputs[0]
        if der_outputs[1] is not None:
            der = der + 2 * inputs[0] * der_outputs[1]
        return [der], []


@register_layer("test.Observe")
@dataclass(eq=False, kw_only=True)
class Observe(ElementWise):
    """Passes its input through; its parameter, of method ``average``, observes the mean."""

    num_params: ClassVar = (1, 1)

    def forward(self, inputs, params, context):
        return [inputs[0] + (100 if context.mode == "test" else 0)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0]], [np.mean(inputs[0]).reshape(1)]

    def param_attributes(self):
        return [{"train_method": "average", "learning_rate": 0.1}]


@register_layer("test.Drop")
@dataclass(eq=False, kw_only=True)
class Drop(ElementWise):
    """Dropout with rate 1/2, from the evaluation's generator; passes through in test mode."""

    random: ClassVar = True

    def forward(self, inputs, params, context):
        if context.mode == "test":
            return [inputs[0]], None
        mask = 2.0 * (context.rng.random(inputs[0].shape) < 0.5)
        return [mask * inputs[0]], mask

    def backward(self, inputs, params, der_outputs, saved, context):
        return [der_outputs[0] if saved is None else saved * der_outputs[0]], []


@register_layer("test.HalfSquare")
@dataclass(eq=False, kw_only=True)
class HalfSquare(AveragedLoss):
    """Loss ``sum((x - c)^2) / (2 N)`` of ``x`` and a constant ``c``, (N,) each; averaged."""

    def forward(self, inputs, params, context):
        x, c = inputs
        return [np.sum((x - c) ** 2) / (2 * len(x))], None

    def backward(self, inputs, params, der_outputs, saved, context):
        x, c = inputs
        return [der_outputs[0] * (x - c) / len(x), None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False)

    def update_statistics(self, inputs, outputs):
        self.accumulate(float(outputs[0]) * len(inputs[0]), len(inputs[0]))


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)
