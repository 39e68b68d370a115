"""A layer some of whose inputs are given, for checks of the derivatives by the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dagnet import Layer, get_array_module


@dataclass(eq=False, kw_only=True)
class Given(Layer):
    """``layer`` with its first input alone; the others are ``given``, NumPy arrays.

    They are used in the precision and on the device of the first.
    """

    layer: Any
    given: list = field(default_factory=list)

    def _all(self, inputs):
        x = inputs[0]
        return [x, *(get_array_module(x).asarray(g, dtype=x.dtype) for g in self.given)]

    def forward(self, inputs, params, context):
        return self.layer.forward(self._all(inputs), params, context)

    def backward(self, inputs, params, der_outputs, saved, context):
        ders, _ = self.layer.backward(self._all(inputs), params, der_outputs, saved, context)
        return ders[:1], []
