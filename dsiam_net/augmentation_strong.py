"""Stronger augmentation of training pairs: an addition of ours, not SiamFC's.

What SiamFC's training shows of a target is sharp, upright and of constant size; what a tracker
meets is also turned, blurred, partly hidden and, for a small target, enlarged from a few pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from .augmentation import GREY_WEIGHTS, Augmented, Source, channels_first

# Values that a look-up table has for an 8-bit picture.
LEVELS = np.arange(256, dtype=np.float32)
# Rows and columns of the field of normal numbers that noise is cut from.
NOISE_FIELD = (1024, 2048)


@dataclass(frozen=True)
class Strong:
    """Random views of a target and its surroundings, and how the pictures were taken.

    Differences between the two of a pair are drawn once and shared out, half to either; those of a
    still image, whose two crops are the same picture, are greater by ``still_factor``.
    ``max_*`` and ``*_range`` are limits of even distributions, other numbers without a unit
    shares of pairs.

    Attributes
    ----------
    max_rotation : float
        Of the one against the other, degrees either way.
    large_rotation, max_large_rotation : float
        Share of pairs that may be rotated more, and by how much, degrees.
    max_scale : float
        Size of the one against the other: a factor between ``1 / (1 + max_scale)`` and
        ``1 + max_scale``, even in its logarithm.
    max_aspect : float
        The same for width against height.
    max_shift : float
        Of the target from the instance's middle, pixels either way for rows and columns.
    max_exemplar_shift : float
        The same for the exemplar.
    flip : float
        Both mirrored, left for right.
    brightness : float
        Grey levels either way; half of it for both, half for each by itself, as all colours here.
    contrast, gamma, saturation : float
        Factors, as for ``max_scale``.
    color : float
        Standard deviation along each principal colour of the crops, in parts of theirs.
    grayscale : float
        Both in grey.
    blur : float
        Share of crops that are blurred, half of them as by motion.
    blur_range : (float, float)
        Standard deviation of the blur, pixels.
    motion_range : (float, float)
        Length of the motion, pixels.
    low_resolution : float
        Share of pairs of which the one, the other or (half of them) both have been small: shrunk
        and enlarged again.
    low_resolution_range : (float, float)
        By what factor.
    noise : float
        Share of crops with noise.
    noise_range : (float, float)
        Standard deviation, grey levels.
    occlusion : float
        Share of instances whose target is partly hidden by a piece of another crop.
    occlusion_range : (float, float)
        How much of the target's box is hidden.
    still_factor : float
        Differences of rotation, size, aspect and colours of still images are greater by this.
    """

    max_rotation: float = 15.0
    large_rotation: float = 0.15
    max_large_rotation: float = 60.0
    max_scale: float = 0.2
    max_aspect: float = 0.08
    max_shift: float = 32.0
    max_exemplar_shift: float = 4.0
    flip: float = 0.5
    brightness: float = 40.0
    contrast: float = 0.3
    gamma: float = 0.25
    saturation: float = 0.4
    color: float = 0.1
    grayscale: float = 0.25
    blur: float = 0.3
    blur_range: tuple[float, float] = (0.6, 2.0)
    motion_range: tuple[float, float] = (3.0, 11.0)
    low_resolution: float = 0.3
    low_resolution_range: tuple[float, float] = (1.5, 4.0)
    noise: float = 0.2
    noise_range: tuple[float, float] = (2.0, 12.0)
    occlusion: float = 0.15
    occlusion_range: tuple[float, float] = (0.1, 0.4)
    still_factor: float = 1.5

    def __post_init__(self):
        shares = ("large_rotation", "flip", "grayscale", "blur", "low_resolution", "noise")
        for name in (*shares, "occlusion"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], received {getattr(self, name)}")
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, tuple):
                if len(value) != 2 or not 0 <= value[0] <= value[1]:
                    raise ValueError(
                        f"{setting.name} must be two numbers, the least first, received {value}"
                    )
            elif not 0 <= value < np.inf:
                raise ValueError(f"{setting.name} must be at least 0, received {value}")
        if self.low_resolution_range[0] < 1 or self.occlusion_range[1] > 1:
            raise ValueError(
                "low_resolution_range must be at least 1 and occlusion_range at most 1, received "
                f"{self.low_resolution_range} and {self.occlusion_range}"
            )

    def pair(
        self,
        source: Source,
        exemplar_size: int,
        instance_size: int,
        rng: np.random.Generator,
    ) -> Augmented:
        """Augment one pair; arguments and result as of ``Published.pair``."""
        more = self.still_factor if source.still else 1.0
        views = self._views(rng, more)
        pictures = self._pictures(rng, more, source)
        exemplar, target_z = warp(source.exemplar, exemplar_size, views[0], source.exemplar_target)
        instance, target_x = warp(source.instance, instance_size, views[1], source.instance_target)
        if rng.random() < self.occlusion:
            instance = hide_part(
                instance, views[1].offset, target_x, source.other, self.occlusion_range, rng
            )
        return Augmented(
            channels_first(pictures[0].take(exemplar, rng)),
            channels_first(pictures[1].take(instance, rng)),
            views[0].offset,
            views[1].offset,
            target_z,
            target_x,
        )

    def _views(self, rng: np.random.Generator, more: float) -> tuple[View, View]:
        large = rng.random() < self.large_rotation
        rotation = self.max_large_rotation if large else self.max_rotation * more
        angle = np.deg2rad(rng.uniform(-rotation, rotation)) / 2
        scale, aspect = (
            more * rng.uniform(-1, 1) * np.log1p(most) / 2
            for most in (self.max_scale, self.max_aspect)
        )
        mirrored = rng.random() < self.flip
        return tuple(
            View(
                sign * angle,
                np.exp(sign * (scale + aspect / 2)),
                np.exp(sign * (scale - aspect / 2)),
                mirrored,
                rng.uniform(-shift, shift, 2),
            )
            for sign, shift in ((-1, self.max_exemplar_shift), (1, self.max_shift))
        )

    def _pictures(
        self, rng: np.random.Generator, more: float, source: Source
    ) -> tuple[Picture, Picture]:
        joint = rng.uniform(-1, 1, 4) / 2
        own = more * rng.uniform(-1, 1, (2, 4)) / 2
        grey = rng.random() < self.grayscale
        joint_color = rng.standard_normal(3)
        small = self._low_resolution(rng)
        pictures = []
        for which, kind in enumerate(("exemplar", "instance")):
            bright, contrast, gamma, saturation = joint + own[which]
            values, vectors = np.linalg.eigh(source.statistics[kind].covariance)
            along = joint_color + more * rng.standard_normal(3)
            # Two independent shares of one variance in two.
            deviation = self.color * np.sqrt(np.maximum(values, 0) / 2)
            blurred = rng.random() < self.blur
            moved = blurred and rng.random() < 0.5
            noisy = rng.random() < self.noise
            pictures.append(
                Picture(
                    saturation=0.0 if grey else float((1 + self.saturation) ** (2 * saturation)),
                    contrast=float((1 + self.contrast) ** (2 * contrast)),
                    gamma=float((1 + self.gamma) ** (2 * gamma)),
                    shift=self.brightness * bright + vectors @ (deviation * along) * (not grey),
                    small=small[which],
                    blur=rng.uniform(*self.blur_range) if blurred and not moved else 0.0,
                    motion=rng.uniform(*self.motion_range) if moved else 0.0,
                    direction=rng.uniform(0, np.pi) if moved else 0.0,
                    noise=rng.uniform(*self.noise_range) if noisy else 0.0,
                )
            )
        return tuple(pictures)

    def _low_resolution(self, rng: np.random.Generator) -> tuple[float, float]:
        """By what factors exemplar and instance are shrunk, 1 for not at all."""
        if rng.random() >= self.low_resolution:
            return 1.0, 1.0
        factor, which = rng.uniform(*self.low_resolution_range), rng.random()
        return (factor if which < 0.75 else 1.0), (factor if which >= 0.25 else 1.0)


class View(NamedTuple):
    """How a crop is seen.

    Attributes
    ----------
    angle : float
        Rotation around the target's middle, rad, from the columns towards the rows.
    width, height : float
        Factors of the target's size, before it is rotated.
    mirrored : bool
        Left for right, before it is rotated.
    offset : float64 array (2,)
        Row and column of the target's middle from that of the crop, pixels.
    """

    angle: float
    width: float
    height: float
    mirrored: bool
    offset: np.ndarray


def warp(
    crop: np.ndarray, size: int, view: View, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """See a crop anew: one bilinear warp.

    With ``A = R(angle) diag(+-width, height)``, the middle ``m`` of the stored crop and ``c`` of
    the new one, the new crop's pixel at ``u`` is the stored one's at
    ``m + A^-1 (u - c - offset)``; ``u = (column, row)``. So the target's middle lies at
    ``c + offset``. What lies outside the stored crop has its mean colour.

    Parameters
    ----------
    crop : uint8 array (S, S, 3)
    size : int
    view : View
    target : array (2,)
        Height and width of the target, crop pixels.

    Returns
    -------
    uint8 array (size, size, 3), and the height and width (2,) of the upright box around the
    target's in it, pixels
    """
    cosine, sine = np.cos(view.angle), np.sin(view.angle)
    width = -view.width if view.mirrored else view.width
    forward = np.array(
        [[cosine * width, -sine * view.height], [sine * width, cosine * view.height]]
    )
    inverse = np.linalg.inv(forward)
    middle = (np.array(crop.shape[1::-1]) - 1) / 2
    place = (size - 1) / 2 + view.offset[::-1]
    matrix = np.column_stack([inverse, middle - inverse @ place])
    seen = cv2.warpAffine(
        crop,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=cv2.mean(crop),
    )
    return seen, (np.abs(forward) @ np.asarray(target, np.float64)[::-1])[::-1]


class Picture(NamedTuple):
    """How a picture is taken: colours, resolution, blur and noise.

    Attributes
    ----------
    saturation : float
        1 leaves colours as they are, 0 makes them grey.
    contrast, gamma : float
        1 for none.
    shift : float64 array (3,)
        Added to R, G, B; grey levels.
    small : float
        Shrunk by this factor and enlarged again.
    blur : float
        Standard deviation of a Gaussian, pixels; 0 for none.
    motion : float
        Length of a motion along ``direction`` (rad), pixels; 0 for none.
    direction : float
    noise : float
        Standard deviation, grey levels.
    """

    saturation: float
    contrast: float
    gamma: float
    shift: np.ndarray
    small: float
    blur: float
    motion: float
    direction: float
    noise: float

    def take(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture of an image (H, W, 3) of uint8, as float32 between 0 and 255.

        Light comes first, then what the optics and the sensor make of it: colours, blur,
        resolution, noise.
        """
        if self.saturation != 1:
            image = cv2.transform(image, _saturation(self.saturation))
        if self.motion:
            image = cv2.filter2D(image, -1, motion_kernel(self.motion, self.direction))
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.small > 1:
            image = shrunk_and_enlarged(image, self.small)
        picture = cv2.LUT(image, self._table(float(np.mean(cv2.mean(image)[:3]))))
        if self.noise:
            lines = picture.reshape(len(picture), -1)
            lines += np.float32(self.noise) * noise(rng, lines.shape)
            np.clip(picture, 0, 255, out=picture)
        return picture

    def _table(self, mean: float) -> np.ndarray:
        """What becomes of each level of each channel: (1, 256, 3) float32.

        Contrast and gamma leave the image's mean level as it is, so that a dark image does not
        turn black, nor a bright one white.
        """
        curve = 255 * (LEVELS / 255) ** self.gamma
        levels = mean + self.contrast * (curve - np.interp(mean, LEVELS, curve))
        table = np.clip(levels[:, None] + np.float32(self.shift), 0, 255)
        return table.astype(np.float32)[None]


def _saturation(amount: float) -> np.ndarray:
    """Matrix that brings colours nearer to their grey value, or away from it (above 1)."""
    return (amount * np.eye(3) + (1 - amount) * GREY_WEIGHTS[None, :]).astype(np.float32)


def motion_kernel(length: float, direction: float) -> np.ndarray:
    """A straight line through the middle, of this length (pixels) and direction (rad).

    Its sum is 1 and its centre of mass the middle, so nothing is moved.
    """
    half = int(np.ceil(length / 2))
    along = np.linspace(-length / 2, length / 2, 8 * half + 1)
    x, y = along * np.cos(direction), along * np.sin(direction)
    places = np.arange(-half, half + 1)
    weights_x = np.maximum(1 - np.abs(places[:, None] - x), 0)
    weights_y = np.maximum(1 - np.abs(places[:, None] - y), 0)
    kernel = weights_y @ weights_x.T
    return (kernel / kernel.sum()).astype(np.float32)


def shrunk_and_enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """An image as it looks after having been smaller by a factor; of the same size."""
    height, width = image.shape[:2]
    small = (max(2, round(width / factor)), max(2, round(height / factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _noise_field() -> np.ndarray:
    """Drawn once: normal numbers take longer to draw than all the rest of a pair."""
    return np.random.default_rng(0).standard_normal(NOISE_FIELD, dtype=np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal numbers, float32 of ``shape``: a random part of one field, or drawn if it is less."""
    if shape[0] > NOISE_FIELD[0] or shape[1] > NOISE_FIELD[1]:
        return rng.standard_normal(shape, dtype=np.float32)
    row, column = (int(rng.integers(n - m + 1)) for n, m in zip(NOISE_FIELD, shape, strict=True))
    return _noise_field()[row : row + shape[0], column : column + shape[1]]


def hide_part(
    image: np.ndarray,
    offset: np.ndarray,
    target: np.ndarray,
    other: Callable[[], np.ndarray],
    share: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Put a rectangle or an ellipse of another crop before a part of the target.

    Parameters
    ----------
    image : uint8 array (S, S, 3)
    offset, target : arrays (2,)
        Where the target's middle is, row and column from the image's, and its height and width.
    other : callable () -> uint8 array (S', S', 3)
    share : (float, float)
        Limits of the part of the target's box that is covered.
    rng : numpy.random.Generator

    Returns
    -------
    uint8 array (S, S, 3), a new one
    """
    round_one = rng.random() < 0.5
    covered = min(1.0, rng.uniform(*share) * (4 / np.pi if round_one else 1.0))
    # The piece's height and width in parts of the target's: their product is the part covered.
    height = np.clip(np.sqrt(covered) * np.exp(rng.uniform(-0.7, 0.7)), covered, 1.0)
    size = np.maximum(1, np.round(np.array([height, covered / height]) * target)).astype(int)
    middle = (image.shape[0] - 1) / 2 + offset + rng.uniform(-0.5, 0.5, 2) * (target - size)
    top, left = np.round(middle - (size - 1) / 2).astype(int)
    crop = other()
    size = np.minimum(size, crop.shape[:2])
    y, x = (int(rng.integers(n - m + 1)) for n, m in zip(crop.shape[:2], size, strict=True))
    rows = slice(max(top, 0), min(top + size[0], image.shape[0]))
    columns = slice(max(left, 0), min(left + size[1], image.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return image.copy()
    inside = np.ones(size, bool)
    if round_one:
        v, u = (2 * (np.arange(n) + 0.5) / n - 1 for n in size)
        inside = v[:, None] ** 2 + u**2 <= 1
    part = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    piece = crop[y : y + size[0], x : x + size[1]][part]
    hidden = image.copy()
    hidden[rows, columns] = np.where(inside[part][:, :, None], piece, hidden[rows, columns])
    return hidden
