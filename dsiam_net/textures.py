"""Textures for synthetic videos: made by a few recipes, or taken from photographs.

Every texture is a function of the generator that is handed in.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

# Photographs that scikit-image has in its package, so that none is ever downloaded.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "rocket.jpg",
)


def fractal(rng: np.random.Generator, height: int, width: int, coarsest: int = 3) -> np.ndarray:
    """Fractal noise: octaves of smooth noise, each twice as fine and half as strong.

    Parameters
    ----------
    rng : numpy.random.Generator
    height, width : int, pixels
    coarsest : int
        Cells of the coarsest octave along the longer side.

    Returns
    -------
    float32 array (height, width), 0 to 1 with both reached
    """
    field = np.zeros((height, width), np.float32)
    longer, cells, strength = max(height, width), coarsest, 1.0
    while cells <= longer / 3:
        shape = [max(2, round(cells * side / longer) + 1) for side in (height, width)]
        grid = rng.random(shape, dtype=np.float32)
        field += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, strength = cells * 2, strength * 0.55
    field -= field.min()
    return field / max(field.max(), np.float32(1e-6))


def _rotated(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along two perpendicular directions, one a random one, in shorter sides."""
    angle = rng.uniform(0, np.pi)
    y, x = np.ogrid[:height, :width]
    y, x = (v.astype(np.float32) / min(height, width) for v in (y, x))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def _edge(wave: np.ndarray, sharpness: float) -> np.ndarray:
    """A wave of -1 to 1 as 0 to 1, with steeper flanks."""
    return np.clip(0.5 + 0.5 * np.float32(sharpness) * wave, 0, 1)


def _stripes(rng, height, width):
    u, _ = _rotated(rng, height, width)
    bend = fractal(rng, height, width, 2) * np.float32(rng.uniform(0, 2.5))
    count = rng.uniform(4, 10)
    return _edge(np.sin(np.float32(2 * np.pi * count) * u + bend), rng.uniform(1, 6))


def _checks(rng, height, width):
    u, v = _rotated(rng, height, width)
    count = np.float32(np.pi * rng.uniform(3, 7))
    return _edge(np.sin(count * u) * np.sin(count * v), rng.uniform(4, 12))


def _blobs(rng, height, width):
    field = cv2.GaussianBlur(
        rng.standard_normal((height, width), dtype=np.float32),
        (0, 0),
        min(height, width) * rng.uniform(0.03, 0.08),
        borderType=cv2.BORDER_REFLECT_101,
    )
    return _edge(field / field.std(), rng.uniform(1.5, 5))


def _clouds(rng, height, width):
    return fractal(rng, height, width, int(rng.integers(2, 7)))


RECIPES = (_clouds, _stripes, _checks, _blobs)


def procedural(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A texture by a random recipe in random colours, (height, width, 3) uint8.

    A pattern picks colours from a palette; fractal noise shades it.
    """
    field = RECIPES[rng.integers(len(RECIPES))](rng, height, width)
    colors = rng.uniform(0, 255, (rng.integers(2, 5), 3))
    grey = colors.mean(axis=1, keepdims=True)
    colors = grey + rng.uniform(0.2, 1) * (colors - grey)
    steps = np.linspace(0, 255, len(colors))
    palette = np.stack([np.interp(np.arange(256), steps, c) for c in colors.T], axis=1)
    image = palette.astype(np.float32)[(255 * field).astype(np.uint8)]
    shade = 1 + np.float32(rng.uniform(0.1, 0.5)) * (fractal(rng, height, width, 4) - 0.5)
    return np.clip(image * shade[:, :, None], 0, 255).astype(np.uint8)


def photographs_installed() -> bool:
    """Whether scikit-image, which brings the photographs, is installed."""
    return importlib.util.find_spec("skimage") is not None


def load_photographs() -> list[np.ndarray]:
    """The photographs, (H, W, 3) uint8, RGB, in the order of ``PHOTOGRAPHS``.

    Raises
    ------
    RuntimeError
        If scikit-image is not installed, or has not all of them.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "photographs as textures need scikit-image, which is not installed; install it "
            "(pip install scikit-image), or do without photographs"
        )
    folder = Path(spec.origin).parent / "data"
    images = []
    for name in PHOTOGRAPHS:
        path = folder / name
        content = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        if image is None:
            raise RuntimeError(
                f"photographs as textures: the installed scikit-image has no {path} that can be "
                "read; install another version, or do without photographs"
            )
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return images


def from_photograph(
    rng: np.random.Generator,
    photographs: Sequence[np.ndarray],
    height: int,
    width: int,
    least_part: float = 0.5,
) -> np.ndarray:
    """A random cut-out of a random photograph, mirrored or not, (height, width, 3) uint8.

    Its sides are at least ``least_part`` of the largest that the photograph has.
    """
    photograph = photographs[int(rng.integers(len(photographs)))]
    limits = photograph.shape[0] / height, photograph.shape[1] / width
    scale = min(limits) * rng.uniform(least_part, 1)
    rows, columns = (max(2, int(side * scale)) for side in (height, width))
    top = int(rng.integers(photograph.shape[0] - rows + 1))
    left = int(rng.integers(photograph.shape[1] - columns + 1))
    part = photograph[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    shrinks = scale > 1
    return cv2.resize(
        part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
