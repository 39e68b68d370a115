"""Frames without boxes: a folder of images, or one with a folder ``img`` or ``color`` of them."""

from __future__ import annotations

import os
from collections.abc import Sequence as Paths
from pathlib import Path

import numpy as np

from .images import images_in, list_images
from .sequence import Sequence

FOLDERS = (".", "img", "color")


def is_plain(directory: Path) -> bool:
    """Whether there are images here, in ``img`` or in ``color``."""
    return any(list_images(directory / name) for name in FOLDERS)


def read_plain(directory: str | os.PathLike) -> Sequence:
    """The images of a folder as a sequence without boxes.

    Raises
    ------
    SequenceError
        If there are none.
    """
    directory = Path(directory)
    folder = next((directory / n for n in FOLDERS if list_images(directory / n)), directory)
    return unlabelled(directory.resolve().name, images_in(folder))


def unlabelled(name: str, images: Paths[Path]) -> Sequence:
    """A sequence of images of which no box is known."""
    return Sequence(name, tuple(images), np.full((len(images), 4), np.nan))
