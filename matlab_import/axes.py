"""MATLAB's axes and those of this project.

MATLAB keeps ``(H, W, C, N)`` and filters ``(h, w, in, out)``, drops trailing axes of length 1 and
has no vectors; here it is ``(N, C, H, W)`` and ``(out, in, h, w)``, C order, and vectors are
vectors. What an array is cannot be seen from its shape (a 1 x 1 filter bank of one filter arrives
as a scalar), so it is decided by the layer that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .errors import MatFileError
from .values import kind


@dataclass(frozen=True)
class Convert:
    """What an array is: called, it converts from MATLAB's axes, and ``to_matlab`` back."""

    from_matlab: Callable[[np.ndarray], np.ndarray]
    to_matlab: Callable[[np.ndarray], np.ndarray]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        return self.from_matlab(array)


def matlab_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """What MATLAB keeps of a size: axes of length 1 at the end are dropped, down to two."""
    shape = tuple(int(n) for n in shape)
    shape += (1,) * (2 - len(shape))
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _read_tensor(array: np.ndarray) -> np.ndarray:
    """(H, W, C, N) to (N, C, H, W), and (h, w, in, out) to (out, in, h, w).

    Axes that MATLAB dropped at the end are put back.
    """
    if array.ndim > 4:
        raise MatFileError(f"expected at most four axes, found a {kind(array)}")
    array = array.reshape(array.shape + (1,) * (4 - array.ndim))
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1))


def _write_tensor(array: np.ndarray) -> np.ndarray:
    """(N, C, H, W) to (H, W, C, N); fewer axes are the last ones of these."""
    array = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(2, 3, 1, 0)
    return array.reshape(matlab_shape(array.shape), order="F")


def _read_vector(array: np.ndarray) -> np.ndarray:
    """A row, a column or a scalar to shape (n,)."""
    if array.size != max(array.shape):
        raise MatFileError(f"expected a vector, found a {kind(array)}")
    return np.ascontiguousarray(array.reshape(-1))


def _write_vector(array: np.ndarray) -> np.ndarray:
    """Shape (n,) to a column, as MatConvNet makes its parameters."""
    return array.reshape(-1, 1)


def _read_plane(array: np.ndarray) -> np.ndarray:
    """A map (H, W), as it is."""
    if array.ndim != 2:
        raise MatFileError(f"expected a map (H, W), found a {kind(array)}")
    return np.ascontiguousarray(array)


def _write_matrix(array: np.ndarray) -> np.ndarray:
    """A map or moments, as they are."""
    return array.reshape(matlab_shape(array.shape), order="F")


def _read_moments(array: np.ndarray) -> np.ndarray:
    """Batch-norm moments (C, 2), mean and standard deviation, as they are."""
    if array.ndim != 2 or array.shape[1] != 2:
        raise MatFileError(f"expected moments of shape (C, 2), found a {kind(array)}")
    return np.ascontiguousarray(array)


tensor = Convert(_read_tensor, _write_tensor)
vector = Convert(_read_vector, _write_vector)
plane = Convert(_read_plane, _write_matrix)
# A map of CorrFilter, which may have the axes of a tensor here.
response = Convert(_read_plane, _write_tensor)
moments = Convert(_read_moments, _write_matrix)


def _read_by_shape(array: np.ndarray) -> np.ndarray:
    """For parameters of layers that are not listed: the likeliest reading of a shape.

    Three or four axes are a ``tensor``, a row or column a ``vector``, else it is a ``plane``.
    """
    if array.ndim > 2:
        return tensor(array)
    return vector(array) if 1 in array.shape else plane(array)


def _write_by_shape(array: np.ndarray) -> np.ndarray:
    if array.ndim > 2:
        return tensor.to_matlab(array)
    return (plane if array.ndim == 2 else vector).to_matlab(array)


by_shape = Convert(_read_by_shape, _write_by_shape)


# What the parameters of a layer are, in their order.
PARAMETERS: Mapping[str, tuple[Convert, ...]] = MappingProxyType(
    {
        "dagnn.Conv": (tensor, vector),
        "dagnn.ConvTranspose": (tensor, vector),
        "dagnn.BatchNorm": (vector, vector, moments),
        "dagnn.Scale": (tensor, tensor),
        "MulConst": (tensor,),
        "CorrFilter": (response,),
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


def matlab_size(size: Sequence[int]) -> tuple[int, int, int, int]:
    """The way back: (out, in, h, w) to (h, w, in, out)."""
    o, i, h, w = (*size, 1, 1, 1)[:4]
    return (h, w, i, o)


# Axes of (N, C, H, W) by their number in MATLAB, counted from 1 in (H, W, C, N).
MATLAB_AXES = {2: 1, 3: 2, 1: 3, 0: 4}
