"""CropMargin, ``CropMargin.m`` of the SiamFC and CFNet code: a margin cut off all four sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dagnet import Layer, ReceptiveField, Size, register_layer

from .crop_like import cut_borders, cut_borders_backward


@register_layer("CropMargin")
@dataclass(eq=False, kw_only=True)
class CropMargin(Layer):
    """Cut ``margin`` rows and columns off each side.

    Input: features (N, C, H, W). Output: (N, C, H - 2 margin, W - 2 margin). CFNet learns its
    correlation filter on a patch as large as the search region, and cuts the template out of the
    filter's middle.

    Settings
    --------
    margin : int
        Cells. The original has no default.
    """

    backward_uses_inputs: ClassVar[bool] = False

    margin: int = 0

    def __post_init__(self):
        (margin,) = np.ravel(self.margin)
        if int(margin) != margin or margin < 0:
            raise ValueError(f"margin must be a non-negative integer, received {self.margin!r}")
        self.margin = int(margin)

    def forward(self, inputs, params, context):
        return [cut_borders(inputs[0], (self.margin,) * 4)], inputs[0].shape[2:]

    def backward(self, inputs, params, der_outputs, saved, context):
        return [cut_borders_backward(der_outputs[0], (self.margin,) * 4, saved)], []

    def get_output_sizes(self, input_sizes):
        n, c, h, w = input_sizes[0]
        # np.maximum leaves NaN, what is not known.
        return [Size(n, c, *(float(np.maximum(s - 2 * self.margin, 0)) for s in (h, w)))]

    def get_receptive_fields(self, num_inputs, num_outputs):
        offset = (1 + self.margin, 1 + self.margin)
        return [[ReceptiveField((1, 1), (1, 1), offset)]]

    def saved_bytes(self, input_sizes):
        return 0.0
