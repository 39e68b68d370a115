"""ReLU, MatConvNet's ``dagnn.ReLU`` and ``vl_nnrelu``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import ElementWise, get_array_module, register_layer


def relu(x: Any, leak: float = 0.0) -> Any:
    """``max(x, 0) + leak * min(x, 0)``, in the dtype of ``x`` (any shape)."""
    xp = get_array_module(x)
    if leak == 0:
        return xp.maximum(x, 0)
    return xp.where(x > 0, x, x * x.dtype.type(leak))


def relu_backward(y: Any, der_y: Any, leak: float = 0.0) -> Any:
    """Derivative of ``relu`` by its input, from its output ``y``.

    ``y > 0`` exactly where ``x > 0`` (for ``0 <= leak < 1``), so the input is not needed. At
    ``x = 0`` the derivative is ``leak * der_y``, as ``vl_nnrelu`` has it.
    """
    xp = get_array_module(y)
    if leak == 0:
        return der_y * (y > 0)
    return xp.where(y > 0, der_y, der_y * der_y.dtype.type(leak))


@register_layer("dagnn.ReLU")
@dataclass(eq=False, kw_only=True)
class ReLU(ElementWise):
    """Rectified linear unit, ``y = max(x, 0) + leak * min(x, 0)``.

    Settings
    --------
    leak : float
        Slope for negative inputs, in ``[0, 1)``.
    use_short_circuit : bool
        MatConvNet's ``useShortCircuit``. There it lets the engine drop the input early; here
        every ReLU needs its output alone in backward, so it changes nothing and is kept for
        saved networks.
    opts : tuple
        Options of MatConvNet's back-ends, kept for saved networks, without effect.
    """

    backward_uses_inputs: ClassVar[bool] = False

    use_short_circuit: bool = True
    leak: float = 0.0
    opts: tuple = ()

    def __post_init__(self):
        if not 0 <= self.leak < 1:
            raise ValueError(f"leak must lie in [0, 1), received {self.leak!r}")

    def forward(self, inputs, params, context):
        y = relu(inputs[0], self.leak)
        return [y], y

    def backward(self, inputs, params, der_outputs, saved, context):
        return [relu_backward(saved, der_outputs[0], self.leak)], []
