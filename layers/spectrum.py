"""Half spectra of real planes, and what RLR and CirConv do alike around them.

A real plane of width ``W`` has a Hermitian spectrum: ``rfft2`` keeps its columns ``0 .. W//2``.
Every formula of the two layers that acts frequency by frequency holds on these alone; only a sum
over all frequencies must count each column once or twice, as ``column_weights`` says.
"""

from __future__ import annotations

from typing import Any

from dagnet import ShapeError, get_array_module, get_fft_module

from .window import WINDOWS, hann_plane


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
    w = xp.asarray(hann_plane(*x.shape[-2:]))
    return xp.multiply(x, w, out=xp.empty_like(x))


def rfft2(x: Any) -> Any:
    """Half spectrum of real planes (..., H, W): complex (..., H, W//2 + 1), unnormalised."""
    return get_fft_module(x).rfft2(x)


def irfft2(spectrum: Any, size: tuple[int, int]) -> Any:
    """Real planes of ``size`` (H, W) from their half spectrum, divided by H*W."""
    return get_fft_module(spectrum).irfft2(spectrum, s=size)


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
