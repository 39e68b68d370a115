"""Augmentation of training pairs as SiamFC was trained with (``vid_get_random_batch.m``).

An augmentation is an object with a method ``pair``. There are two: ``Published`` here, and
``dsiam_net.augmentation_strong.Strong``, which is an addition of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .crop_store import ColourStatistics
from .patches import matlab_round

# Of MATLAB's rgb2gray.
GREY_WEIGHTS = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])


class Source(NamedTuple):
    """What a pair is made of.

    Attributes
    ----------
    exemplar, instance : uint8 array (S, S, 3), RGB
        Stored crops with their targets in the middle.
    exemplar_target, instance_target : float array (2,)
        Height and width of the target, crop pixels.
    statistics : dict
        ``ColourStatistics`` of ``exemplar`` and ``instance``.
    still : bool
        Whether both are the same crop, that of a still image.
    other : callable () -> uint8 array (S', S', 3)
        A crop of another target, for what hides a target.
    """

    exemplar: np.ndarray
    instance: np.ndarray
    exemplar_target: np.ndarray
    instance_target: np.ndarray
    statistics: dict[str, ColourStatistics]
    still: bool
    other: Callable[[], np.ndarray]


class Augmented(NamedTuple):
    """Exemplar and instance as the network reads them.

    Attributes
    ----------
    exemplar, instance : float32 array (3, size, size), RGB, 0 to 255
    exemplar_offset, instance_offset : float64 array (2,)
        Row and column of the target's middle from the crop's, crop pixels.
    exemplar_target, instance_target : float64 array (2,)
        Height and width of the target, crop pixels.
    """

    exemplar: np.ndarray
    instance: np.ndarray
    exemplar_offset: np.ndarray
    instance_offset: np.ndarray
    exemplar_target: np.ndarray
    instance_target: np.ndarray


@dataclass(frozen=True)
class Published:
    """SiamFC's augmentation; the defaults are those of ``experiment.m``.

    Exemplar and instance are stretched and shifted each by itself, by choosing pixels (nearest
    neighbour), as ``acquire_augment`` does. It takes the exemplar for a crop of its own size, so
    there is no room to shift it unless it is shrunk. SiamFC's labels are those of a target in the
    middle, whatever the shift, so the offset of the target is given as 0.

    Attributes
    ----------
    stretch : bool
        Sides are drawn within ``1 +- max_stretch`` times the size wanted.
    max_stretch : float
    translate : bool
    max_translate : int or None
        Pixels either way; None for as far as the crop reaches.
    color : bool
        Add a colour to all pixels, see ``rgb_variance``.
    grayscale : float
        Share of pairs that are turned grey, both of a pair.
    crop_size : int
        The published crops' side: of greater stored crops the middle is used.
    labels_follow : bool
        Give the offsets that stretch and shift lead to, for labels that follow the target. An
        addition of ours.
    """

    stretch: bool = True
    max_stretch: float = 0.05
    translate: bool = True
    max_translate: int | None = 4
    color: bool = True
    grayscale: float = 0.0
    crop_size: int = 255
    labels_follow: bool = False

    def __post_init__(self):
        if not 0 <= self.max_stretch < 1 or not 0 <= self.grayscale <= 1:
            raise ValueError(
                "max_stretch must lie in [0, 1) and grayscale in [0, 1], received "
                f"{self.max_stretch} and {self.grayscale}"
            )
        if self.max_translate is not None and self.max_translate < 0:
            raise ValueError(f"max_translate must be at least 0, received {self.max_translate}")

    def pair(
        self,
        source: Source,
        exemplar_size: int,
        instance_size: int,
        rng: np.random.Generator,
    ) -> Augmented:
        """Augment one pair.

        Parameters
        ----------
        source : Source
        exemplar_size, instance_size : int
            Sides wanted, pixels.
        rng : numpy.random.Generator

        Returns
        -------
        Augmented
        """
        grey = rng.random() < self.grayscale
        crops, offsets, targets = [], [], []
        for kind, size, stored in (
            ("exemplar", exemplar_size, exemplar_size),
            ("instance", instance_size, max(self.crop_size, instance_size)),
        ):
            crop = centre(getattr(source, kind), stored)
            variance = rgb_variance(source.statistics[kind].covariance)
            crop, place = acquire_augment(crop, size, variance, self, rng)
            crops.append(to_grey(crop) if grey else crop)
            offsets.append(place.offset(stored, size) if self.labels_follow else np.zeros(2))
            targets.append(getattr(source, f"{kind}_target") * (size - 1) / (place.size - 1))
        return Augmented(*(channels_first(crop) for crop in crops), *offsets, *targets)


class Place(NamedTuple):
    """The part of a crop that is sampled: first pixel (row, column), 1-based, and size (2,)."""

    first: np.ndarray
    size: np.ndarray

    def offset(self, stored: int, size: int) -> np.ndarray:
        """Where the middle of a crop of ``stored`` pixels is, from that of the ``size`` pixels."""
        middle = (stored + 1) / 2
        return (middle - self.first) * (size - 1) / (self.size - 1) - (size - 1) / 2


def acquire_augment(
    image: np.ndarray,
    size: int,
    variance: np.ndarray,
    settings: Published,
    random: Any,
) -> tuple[np.ndarray, Place]:
    """Stretch, shift and colour one crop: ``acquire_augment``, draw for draw.

    Parameters
    ----------
    image : uint8 array (H, W, 3) or (H, W, 1)
    size : int
        Side of the result, pixels.
    variance : float array (3, 3)
        From ``rgb_variance``.
    settings : Published
    random : numpy.random.Generator
        Asked, in this order, for ``random(2)``, the stretch of rows and columns; for
        ``integers(low, high, endpoint=True)``, twice, the shift of columns, then of rows; for
        ``standard_normal(3)``, the colour. What is switched off is not asked for.

    Returns
    -------
    float32 array (size, size, 3), and the Place that it was taken from

    Raises
    ------
    ValueError
        If the image is smaller than what is to be taken from it.
    """
    limits = np.array(image.shape[:2])
    taken = np.array([size, size])
    if settings.stretch:
        scale = 1 + settings.max_stretch * (-1 + 2 * random.random(2))
        taken = matlab_round(np.minimum(taken * scale, limits)).astype(int)
    if (taken > limits).any():
        raise ValueError(f"expected a crop of {size} pixels at least, received {image.shape}")
    # A place between two pixels is possible: it is rounded for each pixel that is sampled.
    first = (limits + 1) / 2 - (taken - 1) / 2
    if settings.translate:
        for axis in (1, 0):
            free = int(limits[axis] - taken[axis])
            if settings.max_translate is None:
                first[axis] = random.integers(1, free + 1, endpoint=True)
            else:
                most = min(settings.max_translate, free // 2)
                first[axis] += random.integers(-most, most, endpoint=True)
    rows, columns = (
        matlab_round(linspace(f, f + n - 1, size)).astype(int) - 1 for f, n in zip(first, taken)
    )
    sampled = image.take(rows, axis=0).take(columns, axis=1).astype(np.float32)
    sampled = np.repeat(sampled, 3, axis=2) if sampled.shape[2] == 1 else sampled
    if settings.color:
        for channel, shift in enumerate(np.float32(variance @ random.standard_normal(3))):
            sampled[:, :, channel] -= shift
    return sampled, Place(first, taken)


def linspace(first: float, last: float, count: int) -> np.ndarray:
    """``count`` places from ``first`` to ``last``, symmetric to the last digit.

    They are counted up from the first and down from the last, towards the middle, as the original
    was run: places half way between two pixels are rounded by their last digit.
    """
    step = (last - first) / (count - 1)
    k = np.arange(count)
    places = np.where(k < count // 2, first + k * step, last - (count - 1 - k) * step)
    if count % 2:
        places[count // 2] = (first + last) / 2
    return places


def rgb_variance(covariance: np.ndarray) -> np.ndarray:
    """What makes a random colour of three normal numbers, (3, 3): ``load_stats``.

    ``0.1 sqrt(D) V'`` with the eigenvectors as the columns of ``V``. The rows of ``V'`` have unit
    length and are orthogonal, so red, green and blue get independent shifts, of a tenth of the
    root of the first, second and third eigenvalue. Shifts along the principal colours, which are
    most likely meant, are ``0.1 V sqrt(D)``; ``dsiam_net.augmentation_strong`` has those.
    """
    values, vectors = np.linalg.eigh(covariance)
    return 0.1 * np.sqrt(np.maximum(values, 0))[:, None] * vectors.T


def to_grey(image: np.ndarray) -> np.ndarray:
    """A float32 image (H, W, 3) in grey, MATLAB's ``rgb2gray``, repeated for the channels."""
    # rgb2gray limits its result to the range of an image.
    grey = np.clip(image @ np.float32(GREY_WEIGHTS), 0, 255)
    return np.repeat(grey[:, :, None], 3, axis=2)


def centre(image: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size, 3) of a square image, whose side is as odd or even.

    Raises
    ------
    ValueError
        If the image is smaller.
    """
    margin = image.shape[0] - size
    if margin < 0 or margin % 2:
        raise ValueError(
            f"stored crops of {image.shape[0]} pixels have no middle of {size} pixels; write "
            "greater ones, of an odd size"
        )
    first = margin // 2
    return image[first : first + size, first : first + size]


def channels_first(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) as float32 (3, H, W), C order."""
    # The type first: to change type and order at once takes NumPy several times as long.
    return np.ascontiguousarray(image.astype(np.float32, copy=False).transpose(2, 0, 1))


def not_augmented(source: Source, exemplar_size: int, instance_size: int) -> Augmented:
    """The middles of the crops as they are: what validation uses."""
    crops = (centre(source.exemplar, exemplar_size), centre(source.instance, instance_size))
    return Augmented(
        *(channels_first(crop) for crop in crops),
        np.zeros(2),
        np.zeros(2),
        np.asarray(source.exemplar_target, np.float64),
        np.asarray(source.instance_target, np.float64),
    )
