"""Half spectra of real planes, and what RLR and CirConv do alike around them.

A real plane of width ``W`` has a Hermitian spectrum: ``rfft2`` keeps its columns ``0 .. W//2``.
Every formula of the two layers that acts frequency by frequency holds on these alone; only a sum
over all frequencies must count each column once or twice, as ``column_weights`` says.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from dagnet import ShapeError, Size, get_array_module, get_fft_module
from dagnet.backend import constant_like

from .window import WINDOWS, hann, hann_plane

# Up to this width NumPy transforms rows by a product with the matrix of their DFT: with the window
# in it, it beats the FFT of real rows, and errs no more. Milliseconds of rfft2, single precision,
# one core with AVX-512: 6x6x256 0.042 and 0.024, 22x22x256 0.38 and 0.23, 24x24x384 0.46 and 0.38;
# at 32x32x512 they are even.
PRODUCT_UP_TO = 24
# Planes of up to this many cells are transformed by one product with the matrix of their whole DFT.
# Microseconds of rfft2, rows by a product and whole: 3x3x2 10 and 2, 6x6x256 33 and 10, 8x8x384 59
# and 26. With more cells it errs more: at 7x6 one and a half times as much.
CELLS_BY_PRODUCT = 36


def check_window(window: str) -> None:
    """Raise ValueError unless ``window`` is a window that the layers know."""
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {WINDOWS}, received {window!r}")


def windowed(x: Any, window: str) -> Any:
    """``w . x`` for real planes x (..., H, W); the map is its own adjoint.

    The window stays double, so that single features are rounded once: with the public lambda of
    1e-5, RLR magnifies what is lost here up to a hundred times.
    """
    if window == "none":
        return x
    xp = get_array_module(x)
    return xp.multiply(x, constant_like(x, hann_plane, *x.shape[-2:]), out=xp.empty_like(x))


def rfft2(x: Any, window: str = "none") -> Any:
    """Half spectrum of the planes ``w . x``, ``x`` (..., H, W) real.

    Complex (..., H, W//2 + 1), unnormalised, in C order, and nobody else's.
    """
    *lead, height, width = x.shape
    if _as_one(x, height, width):
        matrix = _plane_dft(height, width, x.dtype.char, window, False)
        half = (x.reshape(-1, height * width) @ matrix).view(np.result_type(x.dtype, np.complex64))
        return half.reshape(*lead, height, -1)
    if not _by_product(x, width):
        return get_fft_module(x).rfft2(windowed(x, window))
    rows = x.reshape(-1, width) @ _row_dft(width, x.dtype.char, window, False)
    rows = rows.reshape(*lead, height, -1)
    if window != "none":
        rows *= _column(height, x.dtype.char)
    half = rows.view(np.result_type(x.dtype, np.complex64))
    return get_fft_module(x).fft(half, axis=-2, overwrite_x=True)


def irfft2(spectrum: Any, size: tuple[int, int], window: str = "none") -> Any:
    """Real planes of ``size`` (H, W), times ``w``, from their half spectrum; divided by H*W.

    ``spectrum`` (..., H, W//2 + 1), complex, is used up: its memory may be overwritten.
    """
    height, width = size
    if _as_one(spectrum, height, width):
        lead = spectrum.shape[:-2]
        parts = spectrum.reshape(-1, height * (width // 2 + 1)).view(spectrum.real.dtype)
        planes = parts @ _plane_dft(height, width, parts.dtype.char, window, True)
        return planes.reshape(*lead, height, width)
    fft = get_fft_module(spectrum)
    if not _by_product(spectrum, width):
        return windowed(fft.irfft2(spectrum, s=size, overwrite_x=True), window)
    rows = fft.ifft(spectrum, axis=-2, overwrite_x=True)
    parts = rows.view(rows.real.dtype).reshape(-1, 2 * rows.shape[-1])
    planes = parts @ _row_dft(width, parts.dtype.char, window, True)
    planes = planes.reshape(*rows.shape[:-1], width)
    if window != "none":
        planes *= _column(height, planes.dtype.char)
    return planes


def _by_product(array: Any, width: int) -> bool:
    return width <= PRODUCT_UP_TO and get_array_module(array) is np


def _as_one(array: Any, height: int, width: int) -> bool:
    return height * width <= CELLS_BY_PRODUCT and get_array_module(array) is np


def _dft(length: int) -> np.ndarray:
    """The matrix of a DFT."""
    cells = np.arange(length)
    # The angle within one turn, where the exponential is most exact.
    return np.exp(-2j * np.pi * (np.outer(cells, cells) % length / length))


def _half_dft(width: int) -> np.ndarray:
    return _dft(width)[:, : width // 2 + 1]


def _as_real(matrix: np.ndarray, dtype: str, scale: np.ndarray | None) -> np.ndarray:
    """A complex matrix as a real one, read-only (it is cached); with ``scale`` its inverse's.

    A row of numbers times it has real and imaginary part of each result in turn, as complex
    numbers lie in memory. The inverse is ``sum_k c_k Re(s_k exp(2 pi i j k / W)) / W``, ``c`` the
    column weights: the transposed matrix, scaled by ``c / W``.
    """
    if scale is not None:
        matrix = matrix * scale
    matrix = np.ascontiguousarray(matrix).view(np.float64).astype(dtype)
    matrix = matrix if scale is None else np.ascontiguousarray(matrix.T)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def _row_dft(width: int, dtype: str, window: str, inverse: bool) -> np.ndarray:
    """The DFT of windowed rows as a real matrix (W, 2 (W//2 + 1)), or its inverse's, (.., W)."""
    matrix = _half_dft(width)
    if window != "none":
        matrix = matrix * hann(width)[:, None]
    return _as_real(matrix, dtype, column_weights(width, matrix) / width if inverse else None)


@lru_cache(maxsize=64)
def _plane_dft(height: int, width: int, dtype: str, window: str, inverse: bool) -> np.ndarray:
    """As ``_row_dft``, of planes whose rows stand one after the other: (H W, 2 H (W//2 + 1))."""
    matrix = np.kron(_dft(height), _half_dft(width))
    if window != "none":
        matrix *= hann_plane(height, width).reshape(-1, 1)
    weights = np.tile(column_weights(width, matrix), height) / (height * width)
    return _as_real(matrix, dtype, weights if inverse else None)


@lru_cache(maxsize=64)
def _column(height: int, dtype: str) -> np.ndarray:
    """The window down the rows, (H, 1), read-only (it is cached)."""
    column = hann(height)[:, None].astype(dtype)
    column.flags.writeable = False
    return column


def column_weights(width: int, like: Any) -> Any:
    """How often each column of a half spectrum stands in the whole one.

    Column 0 stands once, and so does column W/2 of an even width; the others have a mirror image.
    The weights have the real dtype of ``like``.
    """
    xp = get_array_module(like)
    weights = xp.full(width // 2 + 1, 2, like.real.dtype)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return weights


def real_product(a: Any, b: Any) -> Any:
    """``real(conj(a) . b)``."""
    return a.real * b.real + a.imag * b.imag


def real_sum(a: Any, b: Any, width: int) -> Any:
    """Sum of ``real(conj(a) . b)`` over whole spectra of which ``a`` and ``b`` are the halves.

    Shape (), double precision: great sums of terms that cancel. ``a`` and ``b`` are of one shape
    and in C order; ``width`` is that of the planes.
    """
    xp = get_array_module(a)
    weights = xp.repeat(column_weights(width, a), 2)
    return _sum_rows(a.view(weights.dtype) * b.view(weights.dtype), weights)


def double_sum(products: Any) -> Any:
    """Sum of all ``products`` (..., W) in double precision, shape ()."""
    xp = get_array_module(products)
    return _sum_rows(products, xp.ones(products.shape[-1], products.dtype))


def _sum_rows(products: Any, weights: Any) -> Any:
    """Sum of the weighted rows of ``products``.

    Few enough stand in a row to be added in their own precision, as a product with a vector.
    """
    return (products.reshape(-1, weights.size) @ weights).sum(dtype="float64")


def spectrum_bytes(size: Size) -> float:
    """Bytes of the half spectrum of features of a known size, in single precision."""
    return 8.0 * size.n * size.c * size.h * (size.w // 2 + 1)


def power(a: Any) -> Any:
    """``|a|^2``."""
    return a.real**2 + a.imag**2


def scalar_param(value: Any, place: int, name: str, dtype: Any) -> Any:
    """A parameter of one element as an array of shape () and type ``dtype``.

    Raises
    ------
    ShapeError
        If it has not one element.
    """
    if value.size != 1:
        raise ShapeError(
            f"{name} must be one number, of shape () or (1,), received shape {value.shape}",
            param=place,
        )
    return value.reshape(()).astype(dtype, copy=False)


def check_features(place: int, array: Any, like: tuple[int, ...] | None = None) -> None:
    """Raise ShapeError unless ``array`` has four axes and, where given, the shape ``like``."""
    if array.ndim != 4:
        raise ShapeError(
            f"expected features (N, C, H, W), received shape {array.shape}; "
            "a vector is one plane of H x 1 or 1 x W",
            input=place,
        )
    if like is not None and tuple(array.shape) != tuple(like):
        raise ShapeError(f"expected shape {tuple(like)}, received {array.shape}", input=place)
