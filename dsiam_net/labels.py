"""Labels of response maps: SiamFC's, and those that follow the target of a video.

SiamFC's labels are one map for all pairs, with the target in its centre. DSiam's unrolled network
cuts its crops where the responses before led it, so the target lies elsewhere in each map:
``target_cell`` tells where, ``target_labels`` makes the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dagnet import get_array_module
from dagnet.backend import constant_like

WEIGHTINGS = ("uniform", "balanced", "gaussian", "neutral_area")


def _map_size(size: int | Sequence[int]) -> tuple[int, int]:
    values = tuple(int(v) for v in np.atleast_1d(size))
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or min(values) < 1:
        raise ValueError(f"a map's size must be one or two positive integers, received {size!r}")
    return values


def create_logistic_loss_label(size: int | Sequence[int], r_pos: float, r_neg: float) -> np.ndarray:
    """A map of labels around its centre cell, ``create_logisticloss_label.m``.

    Parameters
    ----------
    size : int or (height, width), cells
        The centre of an even side is the lower one, ``(side - 1) // 2``.
    r_pos : float
        Up to this distance from the centre, in cells, a label is +1.
    r_neg : float
        From there up to this distance it is 0, beyond it -1.

    Returns
    -------
    float32 array (height, width)
    """
    height, width = _map_size(size)
    rows, columns = np.ogrid[:height, :width]
    distance = np.sqrt((rows - (height - 1) // 2) ** 2 + (columns - (width - 1) // 2) ** 2)
    label = np.where(distance <= r_pos, 1, np.where(distance <= r_neg, 0, -1))
    return label.astype(np.float32)


def gaussian_weight(size: int | Sequence[int], sigma: float) -> np.ndarray:
    """Weights that grow with the distance from the centre, ``gaussian_weight.m``.

    ``1 - exp(-d^2 / (2 sigma^2))``, and 1 in the centre itself: what is wrong far from the
    target costs more.

    Parameters
    ----------
    size : int or (height, width), cells
    sigma : float, cells

    Returns
    -------
    float64 array (height, width)
    """
    height, width = _map_size(size)
    center = (height - 1) // 2, (width - 1) // 2
    rows, columns = np.ogrid[:height, :width]
    squared = (rows - center[0]) ** 2 + (columns - center[1]) ** 2
    weight = 1 - np.exp(-squared / (2 * sigma**2))
    weight[center] = 1
    return weight


def create_labels(
    size: int | Sequence[int], weighting: str = "balanced", r_pos: float = 2, r_neg: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """SiamFC's labels and instance weights, ``create_labels.m``.

    Parameters
    ----------
    size : int or (height, width), cells
        Odd, so that there is a centre cell.
    weighting : 'uniform', 'balanced', 'gaussian' or 'neutral_area'
        ``uniform``: 1 / (number of labels that are not 0). ``balanced``: 0.5 / (how often the
        sign occurs), the published choice. ``gaussian``: only the centre is positive, the weights
        are those of ``gaussian_weight`` with sum 1. ``neutral_area``: only the centre is
        positive, cells up to 2 cells from it weigh nothing, the others are balanced.
    r_pos, r_neg : float, cells
        As in ``create_logistic_loss_label``; for ``uniform`` and ``balanced``.

    Returns
    -------
    label : float32 array (height, width)
    weight : float64 array (height, width)
        Where a label is 0, ``balanced`` leaves a weight of 1, as the original does: the loss
        ignores these cells.

    Raises
    ------
    ValueError
        If a side is even or the weighting is not known.
    """
    height, width = _map_size(size)
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"labels need odd sides, received {height}x{width}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {WEIGHTINGS}, received {weighting!r}")
    if weighting in ("uniform", "balanced"):
        label = create_logistic_loss_label(size, r_pos, r_neg)
    else:
        label = create_logistic_loss_label(size, 0, 0)
    if weighting == "uniform":
        return label, np.full(label.shape, 1 / np.count_nonzero(label))
    if weighting == "gaussian":
        weight = gaussian_weight(size, height / 2)
        return label, weight / weight.sum()
    weight = np.ones(label.shape)
    if weighting == "neutral_area":
        weight[create_logistic_loss_label(size, 0, 2) == 0] = 0
    for sign in (1, -1):
        chosen = (label == sign) & (weight == 1)
        weight[chosen] = 0.5 / max(np.count_nonzero(chosen), 1)
    return label, weight


def target_cell(
    box_center: Any,
    crop_center: Any,
    search_side: Any,
    stride: float = 8,
    search_size: float = 255,
    map_size: int | Sequence[int] = 17,
) -> Any:
    """Where the target lies in the response map of a search region.

    ``(map_size - 1) / 2 + (box_center - crop_center) search_size / (stride search_side)``.

    Parameters
    ----------
    box_center, crop_center : arrays (..., 2)
        Centre (y, x) of the target's box and of the search region; frame pixels, 0-based.
    search_side : number, or array that broadcasts to (..., 1)
        Side of the search region, frame pixels.
    stride : float
        Pixels of the resized search region a cell.
    search_size : float
        Side of the resized search region, its pixels.
    map_size : int or (height, width), cells

    Returns
    -------
    array (..., 2)
        (row, column), cells, 0-based, not rounded; outside the map where the target is.
    """
    xp = get_array_module(box_center, crop_center, search_side)
    middle = constant_like(crop_center, _middle, _map_size(map_size))
    offset = xp.asarray(box_center) - xp.asarray(crop_center)
    return middle + offset * (search_size / (stride * xp.asarray(search_side)))


def _middle(map_size: tuple[int, int]) -> np.ndarray:
    """The middle of a map, cells."""
    return (np.array(map_size) - 1) / 2


def target_labels(
    position: Any,
    map_size: int | Sequence[int] = 17,
    radius_cells: float = 2.0,
    dtype: Any = np.float32,
) -> Any:
    """Maps of labels around targets: +1 within ``radius_cells`` of the target, -1 elsewhere.

    Parameters
    ----------
    position : array (N, 2)
        (row, column) of each target, cells, 0-based, not rounded. A target outside the map
        leaves only the cells within its radius positive, which may be none; NaN, for a target
        that is absent, leaves none.
    map_size : int or (height, width), cells
    radius_cells : float
        The published 16 pixels of the search region are 2 cells.
    dtype : dtype of the result

    Returns
    -------
    array (N, 1, height, width) of +1 and -1
    """
    xp = get_array_module(position)
    position = xp.asarray(position, dtype=np.float64)
    if position.ndim != 2 or position.shape[1] != 2:
        raise ValueError(f"positions must be (N, 2), row and column, received {position.shape}")
    height, width = _map_size(map_size)
    rows = xp.arange(height)[None, :, None] - position[:, 0, None, None]
    columns = xp.arange(width)[None, None, :] - position[:, 1, None, None]
    near = xp.sqrt(rows**2 + columns**2) <= radius_cells
    return xp.where(near, 1, -1).astype(dtype)[:, None]
