"""Contact sheets: a picture of pairs with their targets marked, to be looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from dagnet import atomic_write

from .pairs import Pair, PairSource

# Space between crops, pixels, and colours, RGB.
GAP = 4
BACKGROUND, TARGET, OTHER = (255, 255, 255), (255, 220, 0), (255, 0, 60)


def contact_sheet(pairs: Sequence[Pair], columns: int = 4) -> np.ndarray:
    """Pairs side by side, each the exemplar and, right of it, the instance.

    The box around the target is drawn, yellow, and a cross on its middle; that of an instance
    with another target than the exemplar's is red.

    Parameters
    ----------
    pairs : sequence of Pair
    columns : int
        Pairs in a row.

    Returns
    -------
    uint8 array (H, W, 3), RGB

    Raises
    ------
    ValueError
        If there is no pair.
    """
    if not pairs:
        raise ValueError("expected at least one pair for a contact sheet, received none")
    cells = [_cell(pair) for pair in pairs]
    height, width = (max(cell.shape[axis] for cell in cells) + 2 * GAP for axis in (0, 1))
    columns = max(1, min(columns, len(cells)))
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * height, columns * width, 3), BACKGROUND, np.uint8)
    for number, cell in enumerate(cells):
        top, left = (number // columns) * height + GAP, (number % columns) * width + GAP
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def write_contact_sheet(
    source: PairSource,
    path: str | os.PathLike,
    *,
    pairs: int = 32,
    columns: int = 4,
    epoch: int = 0,
    mode: str = "train",
) -> None:
    """Write the first pairs of an epoch as a PNG file.

    Parameters
    ----------
    source : PairSource
    path : path
    pairs, columns : int
    epoch : int
    mode : 'train' or 'val'
    """
    sheet = contact_sheet([source.pair(epoch, k, mode) for k in range(pairs)], columns)
    _, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _cell(pair: Pair) -> np.ndarray:
    colour = TARGET if pair.positive else OTHER
    exemplar = _marked(pair.exemplar, pair.exemplar_offset, pair.exemplar_target, TARGET)
    instance = _marked(pair.instance, pair.offset, pair.instance_target, colour)
    height = max(exemplar.shape[0], instance.shape[0])
    width = exemplar.shape[1] + GAP + instance.shape[1]
    cell = np.full((height, width, 3), BACKGROUND, np.uint8)
    cell[: exemplar.shape[0], : exemplar.shape[1]] = exemplar
    cell[: instance.shape[0], exemplar.shape[1] + GAP :] = instance
    return cell


def _marked(
    crop: np.ndarray, offset: np.ndarray, target: np.ndarray, colour: tuple[int, int, int]
) -> np.ndarray:
    """A crop (3, S, S) as (S, S, 3) of uint8 with a target of (height, width) marked."""
    picture = np.ascontiguousarray(
        np.clip(crop, 0, 255).round().astype(np.uint8).transpose(1, 2, 0)
    )
    middle = (crop.shape[1] - 1) / 2 + offset
    corners = [np.round(middle + sign * target / 2).astype(int)[::-1].tolist() for sign in (-1, 1)]
    cv2.rectangle(picture, *corners, colour)
    y, x = np.round(middle).astype(int).tolist()
    cv2.drawMarker(picture, (x, y), colour, cv2.MARKER_CROSS, 7)
    return picture
