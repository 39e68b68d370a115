"""MulConst of the CFNet code: features times a constant.

Built from what the name says, as the original's file was not at hand; in CFNet (Valmadre et al.,
CVPR 2017) such a constant is the window on the features that a correlation filter is learned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dagnet import ElementWise, ShapeError, register_layer

from .kernels.windows import check_features


@register_layer("MulConst")
@dataclass(eq=False, kw_only=True)
class MulConst(ElementWise):
    """``h . x`` with a constant ``h``.

    Input: features (N, C, H, W). Parameter: the constant, of at most four axes that each, counted
    from the last, are as long as the features' or 1: (H, W) or (1, 1, H, W) for a window. It has
    no derivative and does not decay. ``Eltwise`` has the constant among its settings, and
    ``Scale`` learns it.
    """

    num_params: ClassVar[tuple[int, int | None]] = (1, 1)
    backward_uses_inputs: ClassVar[bool] = False

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
        return [x * constant.astype(x.dtype, copy=False)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        """``dx = h dy``: each cell of the output is one of the input, times a number."""
        (der_y,) = der_outputs
        return [der_y * params[0].astype(der_y.dtype, copy=False)], [None]

    def param_attributes(self):
        return [{"learning_rate": 0.0, "weight_decay": 0.0}]

    def saved_bytes(self, input_sizes):
        return 0.0
