"""MATLAB's axes and those of this project.

MATLAB keeps ``(H, W, C, N)`` and filters ``(h, w, in, out)``, drops trailing axes of length 1 and
has no vectors; here it is ``(N, C, H, W)`` and ``(out, in, h, w)``, C order, and vectors are
vectors. What an array is cannot be seen from its shape (a 1 x 1 filter bank of one filter arrives
as a scalar), so it is decided by the layer that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from .errors import MatFileError
from .values import kind

Convert = Callable[[np.ndarray], np.ndarray]


def tensor(array: np.ndarray) -> np.ndarray:
    """(H, W, C, N) to (N, C, H, W), and (h, w, in, out) to (out, in, h, w).

    Axes that MATLAB dropped at the end are put back.
    """
    if array.ndim > 4:
        raise MatFileError(f"expected at most four axes, found a {kind(array)}")
    array = array.reshape(array.shape + (1,) * (4 - array.ndim))
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1))


def vector(array: np.ndarray) -> np.ndarray:
    """A row, a column or a scalar to shape (n,)."""
    if array.size != max(array.shape):
        raise MatFileError(f"expected a vector, found a {kind(array)}")
    return np.ascontiguousarray(array.reshape(-1))


def plane(array: np.ndarray) -> np.ndarray:
    """A map (H, W), as it is."""
    if array.ndim != 2:
        raise MatFileError(f"expected a map (H, W), found a {kind(array)}")
    return np.ascontiguousarray(array)


def moments(array: np.ndarray) -> np.ndarray:
    """Batch-norm moments (C, 2), mean and standard deviation, as they are."""
    if array.ndim != 2 or array.shape[1] != 2:
        raise MatFileError(f"expected moments of shape (C, 2), found a {kind(array)}")
    return np.ascontiguousarray(array)


def by_shape(array: np.ndarray) -> np.ndarray:
    """For parameters of layers that are not listed: the likeliest reading of a shape.

    Three or four axes are a ``tensor``, a row or column a ``vector``, else it is a ``plane``.
    """
    if array.ndim > 2:
        return tensor(array)
    return vector(array) if 1 in array.shape else plane(array)


# What the parameters of a layer are, in their order.
PARAMETERS: Mapping[str, tuple[Convert, ...]] = MappingProxyType(
    {
        "dagnn.Conv": (tensor, vector),
        "dagnn.ConvTranspose": (tensor, vector),
        "dagnn.BatchNorm": (vector, vector, moments),
        "dagnn.Scale": (tensor, tensor),
        "MulConst": (tensor,),
    }
)

# Layers whose parameters are maps, however many.
FUSIONS = ("Sum_w", "Elefusion")


def parameter_axes(type_name: str, place: int) -> Convert:
    """How to convert the parameter at ``place`` (0-based) of a layer of this type."""
    if type_name in FUSIONS:
        return plane
    known = PARAMETERS.get(type_name, ())
    return known[place] if place < len(known) else by_shape


def size4(values: tuple[int, ...]) -> tuple[int, int, int, int]:
    """MATLAB's ``size``, two to four numbers (h, w, in, out), to (out, in, h, w)."""
    h, w, i, o = (*values, 1, 1)[:4]
    return (o, i, h, w)
