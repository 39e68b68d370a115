"""What the executor of feature chains asks of a convolution's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .geometry import ConvGeometry
from .maps import MapLayout


class ConvKernel:
    """A convolution without its bias, at one geometry and in one precision.

    Kernels of one class for the same filters understand one another's weights and parts, whatever
    the height and width of their inputs: those are prepared once for an evaluation, and the
    derivatives by filters added up over all of it.

    Attributes
    ----------
    geometry : ConvGeometry
    dtype : numpy.dtype
    input_layout : MapLayout
        What the input must look like. Its cells outside the features are zero.
    output_layout : MapLayout
        What ``y`` looks like: in the convolution's own groups, at the top left of the plane.
        Beyond the features ``forward`` leaves anything.
    """

    geometry: ConvGeometry
    dtype: np.dtype
    input_layout: MapLayout
    output_layout: MapLayout

    def prepare(self, filters: np.ndarray) -> Any:
        """Filters (out, C / groups, kh, kw) in the form that ``forward`` and ``backward`` take."""
        raise TypeError(f"{type(self).__name__} does not define prepare")

    def forward(self, maps: np.ndarray, weights: Any, y: np.ndarray) -> None:
        """Fill ``y`` (of ``output_layout``) from ``maps`` (of ``input_layout``)."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def backward(
        self, maps: np.ndarray, weights: Any, der_y: np.ndarray, der_maps: np.ndarray | None
    ) -> Any:
        """Derivatives of ``sum(der_y * y)``.

        ``der_y`` is zero beyond the features. Fills those of ``der_maps`` (of ``input_layout``),
        unless it is None, and returns the derivative by the filters in a form of its own, which
        adds up with ``+``.
        """
        raise TypeError(f"{type(self).__name__} does not define backward")

    def finish(self, part: Any) -> np.ndarray:
        """Derivative by the filters (out, C / groups, kh, kw) from a sum of parts."""
        raise TypeError(f"{type(self).__name__} does not define finish")
