"""Windows that slide over a plane: how many fit, and which cells they meet."""

from __future__ import annotations

from typing import Any

from dagnet import ShapeError


def check_features(x: Any) -> None:
    """Raise unless ``x``, a layer's first input, is a filled float array ``(N, C, H, W)``."""
    if x.ndim != 4:
        raise ShapeError(
            f"expected features (N, C, H, W), received shape {tuple(x.shape)}", input=0
        )
    if x.size == 0:
        raise ShapeError(f"expected features, received none: shape {tuple(x.shape)}", input=0)
    if x.dtype.kind != "f":
        raise TypeError(f"features must be float32 or float64, received {x.dtype}; convert them")


def output_size(
    size: tuple[int, int],
    extent: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int, int, int],
) -> tuple[int, int]:
    """Height and width of the output of a sliding window.

    Parameters
    ----------
    size : (H, W) of the input
    extent : (vertical, horizontal) cells from the window's first to its last, dilation included
    stride : (vertical, horizontal)
    pad : (top, bottom, left, right)

    Raises
    ------
    ShapeError
        If the window is larger than the padded input.
    """
    padded = (size[0] + pad[0] + pad[1], size[1] + pad[2] + pad[3])
    if extent[0] > padded[0] or extent[1] > padded[1]:
        raise ShapeError(
            f"the window covers {extent[0]}x{extent[1]} cells, the input with its padding only "
            f"{padded[0]}x{padded[1]}; enlarge the input or the padding",
            input=0,
        )
    return (padded[0] - extent[0]) // stride[0] + 1, (padded[1] - extent[1]) // stride[1] + 1


def check_der_y(der_y: Any, shape: tuple[int, ...]) -> None:
    """Raise unless a derivative has the shape of the output that it belongs to."""
    if tuple(der_y.shape) != tuple(shape):
        raise ShapeError(
            f"the derivative by the output has shape {tuple(der_y.shape)}, the output has "
            f"{tuple(shape)}"
        )


def span(offset: int, length: int, count: int, stride: int, before: int) -> tuple[slice, slice]:
    """Windows whose cell ``offset`` lies inside the input, along one axis.

    Window ``r`` of ``count`` has its cell ``offset`` at input cell ``r * stride + offset -
    before``. Returns the slice of the windows for which that is one of the ``length`` cells of
    the input, and the slice of those cells.
    """
    first = max(0, -((offset - before) // stride))
    last = min(count - 1, (length - 1 + before - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset - before
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)
