"""Which kernels a stage of a feature chain runs on: the one place where that is decided.

Compiled kernels (``layers.kernels.compiled``) where Numba is installed, the precision is single
and the channels suit them, unless the environment variable ``DSIAM_NUMBA`` is ``0``; else NumPy's.
Both keep feature maps alike, so that a stage may mix them.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from . import winograd
from .activation import Activation, RowActivation
from .conv_kernel import ConvKernel
from .geometry import ConvGeometry
from .maps import MapLayout
from .rows import RowsConv

# Set to 0, this variable leaves everything to NumPy.
SWITCH = "DSIAM_NUMBA"
# With fewer channels than this in a group, in or out, transformations cost about what they save
# (measured, forward and backward, 3x3: 24; 5x5: 16), and they round more.
WINOGRAD_CHANNELS = 24


@cache
def choose_conv(geometry: ConvGeometry, dtype: np.dtype) -> ConvKernel:
    """The convolution kernel for a geometry.

    Its class depends on the filters and how they slide, not on the height and width of the input.
    """
    compiled = _compiled()
    if compiled:
        for kernel in (compiled.CompiledWinograd, compiled.DirectConv):
            if kernel.takes(geometry, dtype):
                return kernel(geometry, dtype)
    least = min(geometry.group_channels, geometry.group_out)
    # Half precision has too few digits for transformations.
    precise = np.dtype(dtype).itemsize >= 4
    if precise and winograd.fits(geometry) and least >= WINOGRAD_CHANNELS:
        return winograd.WinogradConv(geometry, dtype)
    return RowsConv(geometry, dtype)


@cache
def choose_activation(
    dtype: np.dtype, layout_y: MapLayout, layout_maps: MapLayout, activation: Activation
) -> RowActivation:
    """The kernel for what follows a convolution."""
    compiled = _compiled()
    if compiled and compiled.CompiledActivation.takes(dtype, layout_y, layout_maps):
        return compiled.CompiledActivation()
    return RowActivation()


@cache
def _compiled() -> ModuleType | None:
    """The package of compiled kernels, or None where it cannot or must not be used."""
    if os.environ.get(SWITCH) == "0" or find_spec("numba") is None:
        return None
    from . import compiled

    try:
        compiled.load()
    except Exception as exc:
        # Whatever a compiler may have against this computer, there is another way.
        warnings.warn(
            f"the compiled kernels cannot be used, NumPy's are ({exc}); {SWITCH}=0 asks for that",
            stacklevel=2,
        )
        return None
    return compiled
