"""Pairs of crops, exemplar and instance, which a Siamese network is trained on.

Sources: ``vid_get_random_batch.m`` (``choose_pos_pair``) and ``choose_val_set`` in
``experiment.m``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from .augmentation import Augmented, Published, Source, not_augmented
from .crop_store import CropError, CropStore, StoredTrack
from .patches import whole

MODES = ("train", "val")


class Augmentation(Protocol):
    """What makes a pair of crops of its own: ``Published``, ``Strong`` or another."""

    def pair(
        self, source: Source, exemplar_size: int, instance_size: int, rng: np.random.Generator
    ) -> Augmented: ...


@dataclass(frozen=True, eq=False)
class Pair:
    """What the network is shown, and where the target is.

    Attributes
    ----------
    exemplar : float32 array (3, 127, 127), RGB, 0 to 255
    instance : float32 array (3, S, S), RGB, 0 to 255
    offset : float64 array (2,)
        Row and column of the target in the instance from its middle, instance pixels.
    positive : bool
        Whether both show the same target.
    exemplar_offset : float64 array (2,)
        The same in the exemplar.
    exemplar_target, instance_target : float64 array (2,)
        Height and width of the upright box around the target, pixels.
    name : str
        Video, track and frames, to say where a pair is from.
    """

    exemplar: np.ndarray
    instance: np.ndarray
    offset: np.ndarray
    positive: bool
    exemplar_offset: np.ndarray
    exemplar_target: np.ndarray
    instance_target: np.ndarray
    name: str


class Place(NamedTuple):
    """One crop: store, track and crop of the track, each counted from 0."""

    store: int
    track: int
    k: int


class Choice(NamedTuple):
    """The crops that a pair is made of."""

    exemplar: Place
    instance: Place


def choose_val_set(count: int, validation: float) -> np.ndarray:
    """Which of ``count`` videos, or pairs, are for validation: the last, ``choose_val_set``.

    Parameters
    ----------
    count : int
    validation : float
        Share for validation, from 0 to 1.

    Returns
    -------
    bool array (count,)
        Of videos, ``round(validation * count)`` are for validation; the original counts the rest
        of its pairs instead, see ``count_pairs``.
    """
    return np.arange(count) >= count - whole(validation * count)


def count_pairs(pairs: int, validation: float) -> tuple[int, int]:
    """How many of an epoch's pairs are for training and for validation, ``choose_val_set``."""
    training = whole(pairs * (1 - validation))
    return training, pairs - training


def choose_pos_pair(
    positions: np.ndarray, frame_range: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Exemplar and instance among the crops of a track, ``choose_pos_pair``.

    Parameters
    ----------
    positions : int array (K,), increasing
        Places of the crops' frames in the list of those that show the target.
    frame_range : int
        The instance is at most so many places from the exemplar, and not the exemplar, unless
        the track has no other crop so near.
    rng : numpy.random.Generator

    Returns
    -------
    two int, from 0 to K - 1
    """
    exemplar = int(rng.integers(len(positions)))
    place = positions[exemplar]
    first = int(np.searchsorted(positions, place - frame_range, "left"))
    end = int(np.searchsorted(positions, place + frame_range, "right"))
    others = end - first - 1
    if others == 0:
        return exemplar, exemplar
    instance = first + int(rng.integers(others))
    return exemplar, instance + (instance >= exemplar)


class PairSource:
    """Random pairs from crop stores: the same pair whenever it is asked for, from any thread.

    A store is drawn by its weight, one of its tracks with equal chances, one of the track's crops
    as the exemplar, and another near it in time as the instance. (The original draws a video, none
    twice in a batch, then one of its tracks.) A track with one crop, of a still image, has that
    for both. Training and validation have different videos: in each store the last videos are
    for validation, as in the original. Pairs of validation are not augmented.

    OpenCV is set to use no threads of its own, in the whole process: pairs are read by threads
    side by side.

    Parameters
    ----------
    stores : CropStore or sequence of CropStore
    weights : sequence of float, optional
        One for each store; by default all the same.
    augmentation : Augmentation, optional
        By default ``Published()``.
    exemplar_size, instance_size : int
        Pixels. 239 leaves the published augmentation 8 pixels on each side of crops of 255.
    frame_range : int
        Most frames with the target between exemplar and instance.
    validation : float
        Share of each store's videos that is for validation.
    negatives : float
        Share of pairs whose exemplar is that of another video's track, in validation too.
    seed : int

    Raises
    ------
    CropError
        If a store does not fit: its exemplars are of another size, or its crops are smaller than
        the instance.
    ValueError
        For a setting out of its range.
    """

    def __init__(
        self,
        stores: CropStore | Sequence[CropStore],
        weights: Sequence[float] | None = None,
        *,
        augmentation: Augmentation | None = None,
        exemplar_size: int = 127,
        instance_size: int = 239,
        frame_range: int = 100,
        validation: float = 0.1,
        negatives: float = 0.0,
        seed: int = 0,
    ):
        self.stores = [stores] if isinstance(stores, CropStore) else list(stores)
        self.augmentation = Published() if augmentation is None else augmentation
        self.exemplar_size = exemplar_size
        self.instance_size = instance_size
        self.frame_range = frame_range
        self.negatives = negatives
        self.seed = seed
        self._check(validation)
        given = np.ones(len(self.stores)) if weights is None else np.asarray(weights, float)
        if given.shape != (len(self.stores),) or not (given >= 0).all() or not 0 < given.sum():
            raise ValueError(
                f"expected a weight, at least 0, for each of {len(self.stores)} stores, and one "
                f"above 0, received {weights!r}"
            )
        self._weights = given
        self._tracks = {mode: [] for mode in MODES}
        for store in self.stores:
            videos = list(dict.fromkeys(track.video for track in store.tracks))
            held_out = choose_val_set(len(videos), validation)
            of_video = dict(zip(videos, held_out, strict=True))
            chosen = np.array([of_video[track.video] for track in store.tracks])
            self._tracks["train"].append(np.flatnonzero(~chosen))
            self._tracks["val"].append(np.flatnonzero(chosen))
        cv2.setNumThreads(1)

    def _check(self, validation: float) -> None:
        if not self.stores:
            raise ValueError("expected at least one crop store, received none")
        if self.frame_range < 1:
            raise ValueError(f"frame_range must be at least 1, received {self.frame_range}")
        if not (0 <= validation < 1 and 0 <= self.negatives <= 1):
            raise ValueError(
                "validation must lie in [0, 1) and negatives in [0, 1], received "
                f"{validation} and {self.negatives}"
            )
        for size in (self.exemplar_size, self.instance_size):
            if size < 3 or size % 2 == 0:
                raise ValueError(
                    "sizes of exemplar and instance must be odd, so that a pixel is in the "
                    f"middle, received {size}"
                )
        for store in self.stores:
            if store.exemplar_size != self.exemplar_size or store.size < self.instance_size:
                raise CropError(
                    f"crop store {store.folder}: expected exemplars of {self.exemplar_size} "
                    f"pixels in crops of {self.instance_size} at least, received "
                    f"{store.exemplar_size} and {store.size}; write the crops again"
                )

    def tracks(self, mode: str = "train") -> list[StoredTrack]:
        """The tracks that pairs of a mode are drawn from, of all stores."""
        chosen = zip(self.stores, self._of(mode), strict=True)
        return [store.tracks[i] for store, tracks in chosen for i in tracks]

    def _of(self, mode: str) -> list[np.ndarray]:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, received {mode!r}")
        return self._tracks[mode]

    def choose(self, epoch: int, index: int, mode: str = "train") -> Choice:
        """The crops of a pair, without reading any; arguments as of ``pair``."""
        return self._choose(self._rng(epoch, index, mode), mode)

    def pair(self, epoch: int, index: int, mode: str = "train") -> Pair:
        """Pair ``index`` of an epoch, both counted from 0.

        Parameters
        ----------
        epoch, index : int
        mode : 'train' or 'val'

        Returns
        -------
        Pair
            What is drawn follows from the seed, the mode, epoch and index alone.

        Raises
        ------
        CropError
            If a crop cannot be read, or no video is for this mode.
        """
        rng = self._rng(epoch, index, mode)
        choice = self._choose(rng, mode)
        z, x = choice
        instance = self._read(x)
        still = z == x
        source = Source(
            exemplar=instance if still else self._read(z),
            instance=instance,
            exemplar_target=self._track(z).sizes[z.k],
            instance_target=self._track(x).sizes[x.k],
            statistics=self.stores[x.store].statistics,
            still=still,
            other=lambda: self._read(self._any(rng, mode)),
        )
        if mode == "train":
            made = self.augmentation.pair(source, self.exemplar_size, self.instance_size, rng)
        else:
            made = not_augmented(source, self.exemplar_size, self.instance_size)
        return Pair(
            exemplar=made.exemplar,
            instance=made.instance,
            offset=made.instance_offset,
            positive=(z.store, z.track) == (x.store, x.track),
            exemplar_offset=made.exemplar_offset,
            exemplar_target=made.exemplar_target,
            instance_target=made.instance_target,
            name=f"{self._name(z)} - {self._name(x)}",
        )

    def _rng(self, epoch: int, index: int, mode: str) -> np.random.Generator:
        self._of(mode)
        return np.random.default_rng([self.seed, MODES.index(mode), epoch, index])

    def _track(self, place: Place) -> StoredTrack:
        return self.stores[place.store].tracks[place.track]

    def _name(self, place: Place) -> str:
        track = self._track(place)
        return f"{track.video}/{track.name} {track.frames[place.k]}"

    def _read(self, place: Place) -> np.ndarray:
        return self.stores[place.store].read(place.track, place.k)

    def _any_track(self, rng: np.random.Generator, mode: str) -> tuple[int, int]:
        """A store by its weight, and one of its tracks."""
        tracks = self._of(mode)
        weights = self._weights * [len(t) > 0 for t in tracks]
        if not weights.sum():
            raise CropError(
                f"no video of the crop stores is for {mode}: there are too few for the share "
                "that is held out for validation"
            )
        store = int(rng.choice(len(tracks), p=weights / weights.sum()))
        return store, int(rng.choice(tracks[store]))

    def _any(self, rng: np.random.Generator, mode: str) -> Place:
        """Any crop at all."""
        store, track = self._any_track(rng, mode)
        return Place(store, track, int(rng.integers(len(self.stores[store].tracks[track]))))

    def _choose(self, rng: np.random.Generator, mode: str) -> Choice:
        store, track = self._any_track(rng, mode)
        positions = self.stores[store].tracks[track].positions
        z, x = choose_pos_pair(positions, self.frame_range, rng)
        instance = Place(store, track, x)
        if rng.random() < self.negatives:
            return Choice(self._of_another_video(instance, rng, mode), instance)
        return Choice(Place(store, track, z), instance)

    def _of_another_video(self, place: Place, rng: np.random.Generator, mode: str) -> Place:
        """A crop of a track of another video; of the same video's tracks some may be alike."""
        video = (place.store, self._track(place).video)
        for _ in range(100):
            other = self._any(rng, mode)
            if (other.store, self._track(other).video) != video:
                return other
        raise CropError(
            f"expected crops of two videos for {mode}, to pair targets that differ; found hardly "
            f"any but those of {video[1]}"
        )
