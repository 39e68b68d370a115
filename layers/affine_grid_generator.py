"""Grids of affine transformations, MatConvNet's ``dagnn.AffineGridGenerator``."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import Layer, ShapeError, Size, get_array_module, register_layer

from .kernels.windows import check_der_y, check_features


def plane_axes(size: tuple[int, int], like: Any) -> tuple[Any, Any]:
    """Vertical (H', 1) and horizontal (W',) places of a plane's cells, from -1 to 1.

    An axis of one cell lies at 1, as MATLAB's ``linspace`` has it. Of the dtype of ``like``.
    """
    xp = get_array_module(like)
    rows, columns = (
        xp.linspace(-1.0, 1.0, count).astype(like.dtype) if count > 1 else xp.ones(1, like.dtype)
        for count in size
    )
    return rows[:, None], columns


def check_transforms(transforms: Any, count: int) -> None:
    """Raise unless ``transforms`` are (N, count, 1, 1)."""
    check_features(transforms)
    if tuple(transforms.shape[1:]) != (count, 1, 1):
        raise ShapeError(
            f"expected {count} numbers a sample, (N, {count}, 1, 1), received shape "
            f"{tuple(transforms.shape)}",
            input=0,
        )


def affine_grid(transforms: Any, size: tuple[int, int]) -> Any:
    """Grid for ``bilinear_sampler``: the places of a plane's cells, transformed.

    With ``c`` the six numbers of a sample, place ``(v, u)`` goes to
    ``(c1 v + c2 u + c5, c3 v + c4 u + c6)``.

    Parameters
    ----------
    transforms : array (N, 6, 1, 1)
    size : (H', W')

    Returns
    -------
    array (N, 2, H', W') of the dtype of ``transforms``, vertical and horizontal places
    """
    check_transforms(transforms, 6)
    v, u = plane_axes(size, transforms)
    c = transforms[:, :, 0, 0, None, None]
    grid = get_array_module(transforms).empty((len(transforms), 2, *size), transforms.dtype)
    grid[:, 0] = c[:, 0] * v + c[:, 1] * u + c[:, 4]
    grid[:, 1] = c[:, 2] * v + c[:, 3] * u + c[:, 5]
    return grid


def affine_grid_backward(der_y: Any, size: tuple[int, int]) -> Any:
    """Derivative of ``affine_grid`` by its transforms, (N, 6, 1, 1).

    ``affine_grid`` is linear in them: ``dc1 = sum dy_1 v``, ``dc2 = sum dy_1 u``,
    ``dc3 = sum dy_2 v``, ``dc4 = sum dy_2 u``, ``dc5 = sum dy_1``, ``dc6 = sum dy_2`` over the
    plane.
    """
    check_der_y(der_y, (len(der_y), 2, *size))
    v, u = plane_axes(size, der_y)
    parts = [(d * along).sum(axis=(1, 2)) for d in (der_y[:, 0], der_y[:, 1]) for along in (v, u)]
    parts += [der_y[:, 0].sum(axis=(1, 2)), der_y[:, 1].sum(axis=(1, 2))]
    return get_array_module(der_y).stack(parts, axis=1)[:, :, None, None]


@dataclass(eq=False, kw_only=True)
class GridGenerator(Layer):
    """Base of layers that make grids (N, 2, ho, wo) from the numbers of transformations.

    Settings
    --------
    ho, wo : int
        Height and width of the grid, MatConvNet's ``Ho`` and ``Wo``. They have to be set; the 0
        of an unset one is refused in forward.
    """

    backward_uses_inputs: ClassVar[bool] = False

    ho: int = 0
    wo: int = 0

    def __post_init__(self):
        for name in ("ho", "wo"):
            value = operator.index(getattr(self, name))
            if value < 0:
                raise ValueError(f"{name} must be a number of cells, received {value}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid."""
        if not (self.ho and self.wo):
            raise ValueError(
                f"the grid has no size: ho is {self.ho} and wo is {self.wo}; set both to 1 or more"
            )
        return self.ho, self.wo

    def get_output_sizes(self, input_sizes):
        return [Size(input_sizes[0].n, 2, self.ho, self.wo)]


@register_layer("dagnn.AffineGridGenerator")
@dataclass(eq=False, kw_only=True)
class AffineGridGenerator(GridGenerator):
    """Grids (N, 2, ho, wo) of affine transformations (N, 6, 1, 1); see ``affine_grid``.

    Settings are those of ``GridGenerator``.
    """

    def forward(self, inputs, params, context):
        return [affine_grid(inputs[0], self.size)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [affine_grid_backward(der_outputs[0], self.size)], []
