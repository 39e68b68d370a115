"""CropLike: one variable cut to the size of another, MatConvNet's ``dagnn.Crop``; ``vl_nncrop``.

Not to be confused with ``layers.Crop`` (type ``Crop``, in ``layers/crop.py``), DSiam's, which cuts
a patch out of a frame around the peak of a response. This one has the type name ``dagnn.Crop``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import (
    Layer,
    ReceptiveField,
    ShapeError,
    Size,
    get_array_module,
    register_layer,
)

from .kernels.windows import check_der_y, check_features


def cut_borders(x: Any, crop: tuple[int, int, int, int]) -> Any:
    """Cut rows and columns off, ``vl_nncrop``.

    Parameters
    ----------
    x : array (N, C, H, W)
    crop : (top, bottom, left, right)
        How many of each.

    Returns
    -------
    array (N, C, H - top - bottom, W - left - right)

    Raises
    ------
    ShapeError
        If nothing is left.
    """
    check_features(x)
    return get_array_module(x).ascontiguousarray(x[_inside(x.shape[2:], crop)])


def cut_borders_backward(der_y: Any, crop: tuple[int, int, int, int], size: tuple[int, int]) -> Any:
    """Derivative of ``cut_borders`` by its input of ``size`` (H, W).

    What was kept has the derivative of its cell in the output; what was cut off has none: 0.
    """
    rows_columns = _inside(size, crop)
    height, width = (size[0] - crop[0] - crop[1], size[1] - crop[2] - crop[3])
    check_der_y(der_y, (*der_y.shape[:2], height, width))
    der_x = get_array_module(der_y).zeros((*der_y.shape[:2], *size), der_y.dtype)
    der_x[rows_columns] = der_y
    return der_x


def _inside(size: tuple[int, int], crop: tuple[int, int, int, int]) -> tuple[slice, ...]:
    """What is left of features (N, C, H, W)."""
    top, bottom, left, right = crop
    if min(crop) < 0 or top + bottom >= size[0] or left + right >= size[1]:
        raise ShapeError(
            f"cannot cut {tuple(crop)} (top, bottom, left, right) off {size[0]}x{size[1]} cells",
            input=0,
        )
    return (Ellipsis, slice(top, size[0] - bottom), slice(left, size[1] - right))


@register_layer("dagnn.Crop")
@dataclass(eq=False, kw_only=True)
class CropLike(Layer):
    """Cut the first input to the height and width of the second.

    Not DSiam's ``Crop``: this is ``dagnn.Crop``, of fully convolutional networks (FCN), where
    what was upsampled is cut to the size of what it is compared with.

    Inputs: features (N, C, H, W), and an array (., ., h, w) of which only the size matters, no
    larger than the first. Output: (N, C, h, w).

    Settings
    --------
    crop : int or (top, left)
        How many rows and columns to cut off at the top and at the left, and the rest at the
        bottom and at the right; where less than that is to be cut, all of it at the top and left.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (2, 2)
    backward_uses_inputs: ClassVar[bool] = False

    crop: Any = (0, 0)

    def __post_init__(self):
        crop = tuple(int(c) for c in np.atleast_1d(self.crop))
        crop *= 2 if len(crop) == 1 else 1
        if len(crop) != 2 or min(crop) < 0:
            raise ValueError(
                f"crop must be one or two non-negative integers (top, left), received {self.crop!r}"
            )
        self.crop = crop

    def get_adapted_crops(
        self, size: tuple[int, int], reference: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) that take ``size`` (H, W) to ``reference`` (h, w)."""
        crops = []
        for length, wanted, first in zip(size, reference, self.crop):
            rest = max(0, length - wanted - first)
            crops += [length - wanted - rest, rest]
        return tuple(crops)

    def forward(self, inputs, params, context):
        x, reference = inputs
        check_features(x)
        size, wanted = x.shape[2:], reference.shape[2:]
        if reference.ndim != 4 or wanted[0] > size[0] or wanted[1] > size[1]:
            raise ShapeError(
                f"expected an array (N, C, H, W) no larger than the first input, of "
                f"{size[0]}x{size[1]} cells, received shape {tuple(reference.shape)}",
                input=1,
            )
        crops = self.get_adapted_crops(size, wanted)
        return [cut_borders(x, crops)], (size, crops)

    def backward(self, inputs, params, der_outputs, saved, context):
        size, crops = saved
        der_x = None
        if context.needs_input(0):
            der_x = cut_borders_backward(der_outputs[0], crops, size)
        return [der_x, None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False)

    def get_output_sizes(self, input_sizes):
        x, reference = input_sizes
        return [Size(x.n, x.c, reference.h, reference.w)]

    def get_receptive_fields(self, num_inputs, num_outputs):
        """A cell; the second input's values are not seen at all."""
        field = ReceptiveField((1, 1), (1, 1), (1 + self.crop[0], 1 + self.crop[1]))
        return [[field], [None]]

    def saved_bytes(self, input_sizes):
        return 0.0
