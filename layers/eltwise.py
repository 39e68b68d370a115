"""Eltwise: product, sum or maximum of two arrays cell by cell; the mask that leaves background out.

The supplement's Eltwise layer makes ``Gbar_t`` of the search patch ``G_t``, the patch with its
background weighted down, from which ``W`` is learned. The public code's ``Mul.m`` is the product
with a constant window (``opts.saliency_window`` of ``fcnet_init.m``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import ElementWise, ShapeError, get_array_module, register_layer, to_device
from dagnet.backend import array_like

from .window import hamming, hann

OPERATIONS = ("prod", "sum", "max")


def background_mask(size: int = 255, exemplar_size: int = 127) -> np.ndarray:
    """The window of the public code that turns ``G_t`` into ``Gbar_t``.

    ``hamming(size)`` down the rows times ``hann(size)`` along the columns (not the same window in
    both directions: so it is there) times ``exp(-d^2 / (2 (100 exemplar_size)^2))``, divided by the
    maximum. ``d`` is the distance in pixels to cell ``floor(size/2)`` counted from 1. The Gaussian
    is so wide that it is practically 1.

    Returns
    -------
    float32 array (size, size), values in [0, 1]
    """
    offset = np.arange(1, size + 1) - size // 2
    distance2 = offset[:, None] ** 2 + offset[None, :] ** 2
    sigma = 100 * exemplar_size
    mask = np.outer(hamming(size), hann(size)) * np.exp(-0.5 / sigma**2 * distance2)
    return (mask / mask.max()).astype(np.float32)


@register_layer("Eltwise")
@dataclass(eq=False, kw_only=True)
class Eltwise(ElementWise):
    """``A . B``, ``A + B`` or ``max(A, B)``, cell by cell.

    Inputs: ``A`` (N, C, H, W), and ``B`` of the same shape unless ``constant`` stands for it.

    Settings
    --------
    operation : 'prod', 'sum' or 'max'
        Where the two operands of ``max`` are equal, the derivative goes to the first.
    constant : array, optional
        The second operand, of any shape that broadcasts to that of ``A``: (H, W), (C, H, W),
        (1, 1, H, W). It has no derivative, and is used in the dtype of ``A``.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (1, 2)

    operation: str = "prod"
    constant: Any = None

    def __post_init__(self):
        if self.operation not in OPERATIONS:
            raise ValueError(f"operation must be one of {OPERATIONS}, received {self.operation!r}")
        if self.constant is not None and not hasattr(self.constant, "shape"):
            self.constant = np.asarray(self.constant)

    @property
    def backward_uses_inputs(self) -> bool:
        return self.operation == "prod" and self.constant is None

    def _operands(self, inputs: Any) -> tuple[Any, Any]:
        wanted = 2 if self.constant is None else 1
        if len(inputs) != wanted:
            raise ShapeError(
                f"expected {wanted} input(s) {'without' if wanted == 2 else 'with'} the setting "
                f"constant, received {len(inputs)}"
            )
        a = inputs[0]
        if self.constant is None:
            if inputs[1].shape != a.shape:
                raise ShapeError(
                    f"both inputs must have the same shape, received {a.shape} and "
                    f"{inputs[1].shape}",
                    input=1,
                )
            return a, inputs[1].astype(a.dtype, copy=False)
        shape = tuple(self.constant.shape)
        fits = len(shape) <= a.ndim and all(c in (1, s) for c, s in zip(shape[::-1], a.shape[::-1]))
        if not fits:
            raise ShapeError(
                f"the setting constant, of shape {shape}, does not broadcast to the input's "
                f"{a.shape}",
                input=0,
            )
        return a, array_like(self.constant, a)

    def weigh(self, input_weights, num_outputs):
        # Of a product with a constant B: sum w (B . G) = sum (w B) . G.
        weight = input_weights[0]
        if weight is None or self.operation != "prod" or self.constant is None:
            return [None]
        return [self.constant if np.ndim(weight) == 0 and weight == 1 else weight * self.constant]

    def forward(self, inputs, params, context):
        a, b = self._operands(inputs)
        if self.operation == "prod":
            return [a * b], None
        if self.operation == "sum":
            return [a + b], None
        first = a >= b
        return [get_array_module(a).where(first, a, b)], first

    def backward(self, inputs, params, der_outputs, saved, context):
        """``dL/dA = B . G`` and ``dL/dB = A . G`` of a product, ``G`` of a sum, ``G`` where the
        operand was chosen (and 0 elsewhere) of a maximum; ``G = dL/dY``."""
        der = der_outputs[0]
        two = self.constant is None
        if self.operation == "prod":
            if two:
                a, b = self._operands(inputs)
                return [der * b, der * a], []
            return [der * array_like(self.constant, der)], []
        if self.operation == "sum":
            return [der, der] if two else [der], []
        return [der * saved, der * ~saved] if two else [der * saved], []

    def saved_bytes(self, input_sizes):
        # Which operand of a maximum was chosen, a byte a cell.
        return input_sizes[0].count if self.operation == "max" else 0.0

    def move(self, device):
        self.constant = to_device(self.constant, device)
