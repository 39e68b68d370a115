"""Grids of scaling and translation, MatConvNet's ``dagnn.UniformScalingGridGenerator``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagnet import get_array_module, register_layer

from .affine_grid_generator import GridGenerator, check_transforms, plane_axes
from .kernels.windows import check_der_y


def uniform_scaling_grid(transforms: Any, size: tuple[int, int]) -> Any:
    """Grid for ``bilinear_sampler``: the places of a plane's cells, scaled and moved.

    With ``(s, t_v, t_u)`` the numbers of a sample, place ``(v, u)`` goes to
    ``(s v + t_v, s u + t_u)``.

    Parameters
    ----------
    transforms : array (N, 3, 1, 1)
    size : (H', W')

    Returns
    -------
    array (N, 2, H', W') of the dtype of ``transforms``, vertical and horizontal places
    """
    check_transforms(transforms, 3)
    v, u = plane_axes(size, transforms)
    t = transforms[:, :, 0, 0, None, None]
    grid = get_array_module(transforms).empty((len(transforms), 2, *size), transforms.dtype)
    grid[:, 0] = t[:, 0] * v + t[:, 1]
    grid[:, 1] = t[:, 0] * u + t[:, 2]
    return grid


def uniform_scaling_grid_backward(der_y: Any, size: tuple[int, int]) -> Any:
    """Derivative of ``uniform_scaling_grid`` by its transforms, (N, 3, 1, 1).

    It is linear in them: ``ds = sum (dy_1 v + dy_2 u)``, ``dt_v = sum dy_1``,
    ``dt_u = sum dy_2`` over the plane.
    """
    check_der_y(der_y, (len(der_y), 2, *size))
    v, u = plane_axes(size, der_y)
    vertical, horizontal = der_y[:, 0], der_y[:, 1]
    parts = (vertical * v + horizontal * u, vertical, horizontal)
    sums = [part.sum(axis=(1, 2)) for part in parts]
    return get_array_module(der_y).stack(sums, axis=1)[:, :, None, None]


@register_layer("dagnn.UniformScalingGridGenerator")
@dataclass(eq=False, kw_only=True)
class UniformScalingGridGenerator(GridGenerator):
    """Grids (N, 2, ho, wo) of ``(s, t_v, t_u)`` (N, 3, 1, 1); see ``uniform_scaling_grid``.

    Settings are those of ``GridGenerator``.
    """

    def forward(self, inputs, params, context):
        return [uniform_scaling_grid(inputs[0], self.size)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [uniform_scaling_grid_backward(der_outputs[0], self.size)], []
