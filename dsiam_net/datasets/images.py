"""Image files: reading one, and the numbered frames of a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np

from dagnet import memory_shortage

from .errors import SequenceError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm",
)  # fmt: skip


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as (H, W, 3) uint8, RGB.

    Grey is repeated for the three channels, CMYK converted, transparency left out, and of 16 bits
    the upper 8 are taken. An orientation noted in the file is ignored, as boxes refer to the
    pixels stored.

    Raises
    ------
    SequenceError
        If the file cannot be read, or is not an image that OpenCV decodes.
    MemoryError
        If there is no memory for it.
    """
    # OpenCV opens no path with other than ASCII characters on every system; NumPy does.
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as exc:
        raise SequenceError(f"cannot read image {path}: {exc.strerror or exc}") from exc
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(content, flags) if content.size else None
    except cv2.error as exc:
        if memory_shortage(exc):
            # No fault of the image, which must not be left out for it.
            raise MemoryError(f"image {path}: {exc.err}") from exc
        raise SequenceError(f"cannot decode image {path}: {exc.err}") from exc
    if image is None:
        raise SequenceError(
            f"cannot decode image {path} ({content.size} bytes): it is damaged, or of a format "
            "that OpenCV does not read"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def natural(path: Path) -> list:
    """Sort key by which 2.jpg comes before 10.jpg."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdigit() else part for part in parts]


def is_image(path: Path) -> bool:
    """Whether a path has the name of an image that is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."


def list_images(folder: Path) -> list[Path]:
    """The images in a folder, in the order of the numbers in their names; none if no folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if is_image(path)), key=natural)


def images_in(folder: Path) -> list[Path]:
    """As ``list_images``, but a folder that is missing or has none is a SequenceError."""
    if not folder.is_dir():
        raise SequenceError(
            f"{folder.parent}: expected a folder {folder.name} with the frames, and there is none"
        )
    images = list_images(folder)
    if not images:
        raise SequenceError(
            f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}), received a folder "
            f"without any"
        )
    return images


def with_gaps_filled(images: list[Path]) -> list[Path]:
    """The same paths, and those that are missing between the first number and the last.

    Only where names are numbers of one width and suffix; else they are returned as they are.
    """
    first = images[0]
    if any(not p.stem.isdecimal() or p.suffix != first.suffix for p in images):
        return images
    numbers = range(int(first.stem), int(images[-1].stem) + 1)
    names = [f"{number:0{len(first.stem)}d}{first.suffix}" for number in numbers]
    if not {p.name for p in images} <= set(names):
        return images
    return [first.with_name(name) for name in names]
