"""MulConst of the CFNet code: features times a parameter that is one for all samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dagnet import ElementWise, ShapeError, register_layer

from .kernels.windows import check_features
from .scale import scale, scale_backward


@register_layer("MulConst")
@dataclass(eq=False, kw_only=True)
class MulConst(ElementWise):
    """``h . x`` with a parameter ``h`` (``MulConst.m``, ``mul_const.m``).

    Input: features (N, C, H, W). Parameter: (H, W), as in CFNet, where it is the window on the
    features that a correlation filter is learned from, or any other of at most four axes that
    each, counted from the last, are as long as the features' or 1. It starts with learning rate 0
    and without weight decay, as ``make_net.m`` of CFNet trains it; set its ``learning_rate`` to
    learn it. ``Eltwise`` has the constant among its settings, and ``Scale`` has biases too.
    """

    num_params: ClassVar[tuple[int, int | None]] = (1, 1)

    def forward(self, inputs, params, context):
        (x,), (constant,) = inputs, params
        check_features(x)
        try:
            fits = np.broadcast_shapes(x.shape, constant.shape) == tuple(x.shape)
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"expected a constant that broadcasts to the features {tuple(x.shape)}, received "
                f"shape {tuple(constant.shape)}",
                param=0,
            )
        return [scale(x, constant.astype(x.dtype, copy=False))], None

    def backward(self, inputs, params, der_outputs, saved, context):
        """``dx = h dy``, and ``dh = x dy`` summed over the axes along which ``h`` is repeated.

        ``mul_const.m`` sums over channels and samples whatever the shape of ``h``: right for
        (H, W), and of another shape than ``h`` for others.
        """
        (x,), (constant,) = inputs, params
        same = constant.astype(x.dtype, copy=False)
        der_x, der_h, _ = scale_backward(x, same, None, der_outputs[0])
        return [der_x], [der_h.astype(constant.dtype, copy=False)]

    def param_attributes(self):
        return [{"learning_rate": 0.0, "weight_decay": 0.0}]
