"""Which kernels a stage of a feature chain runs on: the one place where that is decided.

Compiled kernels (``layers.kernels.compiled``) where Numba is installed, the precision is single
and the channels suit them, unless the environment variable ``DSIAM_NUMBA`` is ``0``; else NumPy's.
Both keep feature maps alike, so that a stage may mix them.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from . import winograd
from .activation import Activation, RowActivation
from .conv_kernel import ConvKernel
from .geometry import ConvGeometry
from .maps import MapLayout
from .rows import RowsConv

# With fewer channels than this in a group, in or out, transformations cost more than they save.
WINOGRAD_CHANNELS = 8


@cache
def choose_conv(geometry: ConvGeometry, dtype: np.dtype) -> ConvKernel:
    """The convolution kernel for a geometry.

    Its class depends on the filters and how they slide, not on the height and width of the input.
    """
    least = min(geometry.group_channels, geometry.group_out)
    if winograd.fits(geometry) and least >= WINOGRAD_CHANNELS:
        return winograd.WinogradConv(geometry, dtype)
    return RowsConv(geometry, dtype)


@cache
def choose_activation(
    dtype: np.dtype, layout_y: MapLayout, layout_maps: MapLayout, activation: Activation
) -> RowActivation:
    """The kernel for what follows a convolution."""
    return RowActivation()
