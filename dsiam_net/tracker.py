"""The trackers: SiamFC, and DSiam with one feature layer or two.

A tracker is two methods, as got10k's: ``init(image, box)`` and ``update(image) -> box``, with boxes
``(x, y, w, h)`` in frame pixels, 1-based: ``(1, 1)`` is the upper left corner of the frame, as in
OTB's files and got10k's. Sources: ``tracker.m`` of SiamFC, ``run_DSiam.m`` and ``fcnet_init.m``
of DSiam.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagnet import DagNN
from dagnet.backend import limit_blas_threads
from layers import background_mask

from .branches import FEATURES, PREFIXES, feature_variables
from .patches import ExactPatches, as_frame
from .patches_fast import FastPatches
from .peak import Peak, find_peak
from .settings import TrackerSettings, get_preset
from .target import (
    Target,
    check_target,
    dsiam_target,
    exemplar_side,
    overlaps_frame,
    search_side,
    siamfc_target,
    tall_rate,
)
from .tracking_net import TrackingNet, learn_together, respond_together

# What cuts and resizes: as the public code does, or by OpenCV.
PATCHES: dict[str, type] = {"exact": ExactPatches, "fast": FastPatches}

NO_PEAK = (
    "a response map has no peak: it is the same everywhere, as of a frame of one colour, or not "
    "finite, as of a network with weights that are not; the box is not where the target is"
)
OUTSIDE = "the box has left the frame: the target is lost, and may not be found again"


class TrackingWarning(UserWarning):
    """A tracker goes on, but its box means little."""


@dataclass(frozen=True)
class TrackResult:
    """What a tracker found in a frame.

    Attributes
    ----------
    box : float64 array (4,)
        ``(x, y, w, h)``, 1-based, frame pixels.
    score : float
        Greatest value of the enlarged response maps (after the penalty on a change of scale).
    scale : int
        Place of the best scale, 0-based from the smallest.
    lost : bool
        Whether the target counts as lost: the next search is wider and without transformations.
        Always False for SiamFC, which has no such test.
    centre : float64 array (2,)
        ``(y, x)`` of the target as it was found, before a restart at the frame's centre.
    responses : float32 array (S, h, w)
        The network's response maps, one a scale.
    peak : Peak
        The best scale's map, enlarged and windowed, and the peak's cell in it.
    """

    box: np.ndarray
    score: float
    scale: int
    lost: bool
    centre: np.ndarray
    responses: np.ndarray
    peak: Peak


class Lesson(NamedTuple):
    """What the transformations are learned from: arguments of ``TrackingNet.learn``."""

    target: np.ndarray | None
    regions: tuple[np.ndarray, np.ndarray] | None


class Tracker:
    """SiamFC's tracker, with any odd number of scales.

    Parameters
    ----------
    network : TrackingNet
    settings : TrackerSettings
    patches : ExactPatches, FastPatches or an object with their methods
        How patches are cut, resized and rounded.

    Attributes
    ----------
    target : Target or None
        Centre and size of the target as they are now; None before ``init``.
    side : float
        Of the search region at the middle scale, frame pixels.
    last : TrackResult or None
        Of the last ``update``.
    """

    def __init__(
        self,
        network: TrackingNet,
        settings: TrackerSettings,
        patches: ExactPatches | FastPatches,
    ):
        self.network = network
        self.settings = settings
        self.patches = patches
        self.target: Target | None = None
        self.side = float("nan")
        self.last: TrackResult | None = None

    @property
    def box(self) -> np.ndarray:
        """The present box (x, y, w, h), 1-based: after ``init`` that which the tracker starts from.

        DSiam starts from whole pixels within the frame. RuntimeError before ``init``.
        """
        self._check_started()
        return self.target.box

    def init(self, image: Any, box: Sequence[float]) -> None:
        """Take the target in the first frame.

        Parameters
        ----------
        image : uint8 array (H, W, 3), RGB, or (H, W), grey, or a PIL image
        box : 4 numbers (x, y, w, h), 1-based, or 8 (x1, y1, ..., x4, y4): a polygon's corners

        Raises
        ------
        ValueError
            If the image is not a frame or the box not a region in it.
        """
        frame = as_frame(image)
        self.last = None
        self._first_frame_size = frame.shape[:2]
        target = self._first_target(box)
        check_target(target, self._first_frame_size)
        self.target = target
        side_z = exemplar_side(self._measured_size(), self.settings)
        self.side = search_side(side_z, self.settings)
        self._side_limits = (
            self.settings.min_side_ratio * self.side,
            self.settings.max_side_ratio * self.side,
        )
        with limit_blas_threads(1):
            image = self.patches.image(frame)
            self._colour = self.patches.average_colour(image)
            self.network.set_template(self._exemplar(image, self.target.centre, side_z))

    def update(self, image: Any) -> np.ndarray:
        """Find the target in the next frame.

        Parameters
        ----------
        image : as in ``init``
            May differ from the first frame in size.

        Returns
        -------
        float64 array (4,) : the box (x, y, w, h), 1-based. More is in ``last``.

        Raises
        ------
        RuntimeError
            If ``init`` was not called.
        ValueError
            If the image is not a frame.
        """
        (box,) = update_together([self], image)
        return box

    def _search_patches(self, image: Any) -> np.ndarray:
        """The patches that the target is searched in, (S, 3, H, W)."""
        return self.patches.pyramid(
            image,
            self.target.centre,
            [self.side * scale for scale in self.settings.scales],
            self.settings.instance_size,
            self._colour,
            self.network.average_image,
        )

    def _move(
        self, image: Any, frame_size: tuple[int, int], responses: np.ndarray
    ) -> Lesson | None:
        """Move the target to where the responses are highest; what is to be learned there."""
        settings = self.settings
        peak = find_peak(responses, settings)
        centre = self.target.centre + self.patches.move(
            peak, self.patches.side(self.side), settings
        )
        side = self.side * settings.scales[peak.scale]
        lesson = self._adapt(image, frame_size, centre, peak, side)
        self.last = TrackResult(
            self.target.box, peak.score, peak.scale, self._is_lost(), centre, responses, peak
        )
        return lesson

    # What trackers differ in

    def _first_target(self, box: Sequence[float]) -> Target:
        return siamfc_target(box)

    def _measured_size(self) -> np.ndarray:
        """The size (height, width) that context is measured from, frame pixels."""
        return self.target.size

    def _is_lost(self) -> bool:
        return False

    def _adapt(
        self,
        image: Any,
        frame_size: tuple[int, int],
        centre: np.ndarray,
        peak: Peak,
        side: float,
    ) -> Lesson | None:
        """Take over the new place, and let size and search side follow the best scale.

        ``frame_size`` is (height, width), ``side`` that of the best scale's square, frame pixels.
        Returns what is to be learned there, if anything.
        """
        self.side = self._follow(side)
        self.target = Target(centre, self._scaled(self.target.size, peak))
        return None

    # Shared steps

    def _check_started(self) -> None:
        if self.target is None:
            raise RuntimeError("the tracker has no target yet: call init(image, box) first")

    def _exemplar(self, image: Any, centre: np.ndarray, side: float) -> np.ndarray:
        return self.patches.crop(
            image,
            centre,
            side,
            self.settings.exemplar_size,
            self._colour,
            self.network.average_image,
        )

    def _scaled(self, size: np.ndarray, peak: Peak) -> np.ndarray:
        """``size`` moved by ``scale_lr`` towards its multiple by the best scale.

        It stays where it would have a side of less than a pixel or of more than twice the frame,
        unless it starts beyond. The originals, which limit the search side alone, let it go on
        to nothing or everything when the target is long gone.
        """
        rate = self.settings.scale_lr
        scaled = (1 - rate) * size + rate * (size * self.settings.scales[peak.scale])
        shrinks_away = scaled.min() < min(1, size.min())
        outgrows = scaled.max() > max(2 * max(self._first_frame_size), size.max())
        return size if shrinks_away or outgrows else scaled

    def _follow(self, side: float) -> float:
        """The search side moved by ``scale_lr`` towards ``side``, within its limits."""
        rate = self.settings.scale_lr
        return self._limited((1 - rate) * self.side + rate * side)

    def _limited(self, side: float) -> float:
        return max(self._side_limits[0], min(self._side_limits[1], side))


class DSiamTracker(Tracker):
    """DSiam: SiamFC whose features two transformations adapt after each frame.

    With one feature layer in ``network`` it is the paper's DSiam (the public code's '0res'), with
    two its DSiamM ('1res').

    In a frame with a score above ``lost_score``, V is learned from the first template's features
    and those of the target where it was found, W from features of the surroundings there and of
    the same with all but the target darkened. Otherwise the target is lost: both are switched
    off until they are learned again, size stays, and the search side grows. The frame after a
    loss takes the search side that belongs to the size again.

    Two oddities of the public code are kept. The patch that W is learned from never has the
    average image subtracted, although those of V and of the search have. And a target whose
    lower right corner lies outside the frame is lost too, whatever its score; the second time
    (not in a row) the search goes on at the centre of the frame.
    """

    def init(self, image, box):
        super().init(image, box)
        self.network.forget()
        self._lost = False
        self._frames_outside = 0
        self._mask = background_mask(self.settings.instance_size, self.settings.exemplar_size)

    def _first_target(self, box):
        target = dsiam_target(box, self._first_frame_size)
        self._tall_rate = tall_rate(target.size, self.settings)
        return target

    def _measured_size(self):
        return self.target.size * self._tall_rate

    def _is_lost(self):
        return self._lost

    def _adapt(self, image, frame_size, centre, peak, side):
        size, lesson = self._measured_size(), None
        if peak.score > self.settings.lost_score:
            side_z = exemplar_side(size, self.settings)
            lesson = self._lesson(image, centre, side_z, side)
            if self._lost:
                self.side = search_side(side_z, self.settings)
                self._lost = False
            else:
                self.side = self._follow(side)
                size = self._scaled(size, peak)
        else:
            self._lost = True
            self.side = self._limited(self.side * self.settings.lost_growth)
        centre = self._inside(frame_size, centre, size)
        self.target = Target(centre, size / self._tall_rate)
        return lesson

    def _lesson(self, image: Any, centre: np.ndarray, side_z: float, side: float) -> Lesson:
        """What V and W learn at ``centre``: squares of ``side_z`` and ``side`` frame pixels."""
        target = regions = None
        if self.settings.v_lr > 0:
            target = self._exemplar(image, centre, side_z)
        if self.settings.w_lr > 0:
            surroundings = self.patches.crop(
                image, centre, side, self.settings.instance_size, self._colour
            )
            regions = surroundings, surroundings * self._mask
        return Lesson(target, regions)

    def _inside(
        self, frame_size: tuple[int, int], centre: np.ndarray, size: np.ndarray
    ) -> np.ndarray:
        """``centre``, or that of the frame if the target was outside too often."""
        corner = centre + size / 2
        if (corner >= 0).all() and (corner <= self._first_frame_size).all():
            return centre
        self._lost = True
        self._frames_outside += 1
        if self._frames_outside < self.settings.max_frames_outside:
            return centre
        self._frames_outside = 0
        return np.array(frame_size) / 2


def update_together(trackers: Sequence[Tracker], image: Any) -> list[np.ndarray]:
    """Find the targets of several trackers in the next frame, as ``Tracker.update`` finds each.

    Their networks are siblings and evaluated together; settings and patches are the same ones.
    ``TrackerGroup`` makes such trackers.

    Returns
    -------
    list of float64 arrays (4,) : the boxes (x, y, w, h), 1-based

    Raises
    ------
    RuntimeError, ValueError
        As ``Tracker.update``.
    """
    for tracker in trackers:
        tracker._check_started()
    frame = as_frame(image)
    size = frame.shape[:2]
    # Small products: BLAS's threads would cost more than they bring, and wait on a core that
    # the network's layers need.
    with limit_blas_threads(1):
        image = trackers[0].patches.image(frame)
        maps = respond_together(
            [tracker.network for tracker in trackers],
            [tracker._search_patches(image) for tracker in trackers],
        )
        lessons = [tracker._move(image, size, found) for tracker, found in zip(trackers, maps)]
        _learn(trackers, lessons)
    for tracker in trackers:
        if tracker._is_lost():
            tracker.network.forget()
        if tracker.last.peak.flat:
            warnings.warn(NO_PEAK, TrackingWarning, stacklevel=3)
        if not overlaps_frame(tracker.target, size):
            warnings.warn(OUTSIDE, TrackingWarning, stacklevel=3)
    return [tracker.last.box for tracker in trackers]


def _learn(trackers: Sequence[Tracker], lessons: Sequence[Lesson | None]) -> None:
    """Let the networks learn; what is switched off is so in all lessons, by the settings."""
    pairs = [(t.network, lesson) for t, lesson in zip(trackers, lessons) if lesson is not None]
    if not pairs:
        return
    networks, lessons = zip(*pairs)
    parts = (
        None if lessons[0][place] is None else [lesson[place] for lesson in lessons]
        for place in range(2)
    )
    learn_together(networks, *parts)


# Name -> (class, number of feature layers, preset).
TRACKERS: dict[str, tuple[type[Tracker], int, str]] = {
    "siamfc": (Tracker, 1, "siamfc"),
    "dsiam": (DSiamTracker, 1, "released"),
    "dsiamm": (DSiamTracker, 2, "released"),
}


def known_features(net: DagNN) -> tuple[str, ...]:
    """The feature layers that a network is meant to be used with, the outermost first.

    Those that an unrolled network was built with, or those of SiamFC or VGG-19.

    Raises
    ------
    ValueError
        If the network is none of these.
    """
    if "unrolled" in net.meta:
        return tuple(net.meta["unrolled"]["features"])
    for features in FEATURES.values():
        if any(feature_variables(net, features, prefix) for prefix in PREFIXES):
            return features
    raise ValueError(
        "the network has the feature layers of neither SiamFC nor VGG-19; name its own (features)"
    )


def create_tracker(
    name: str,
    net: DagNN,
    settings: TrackerSettings | None = None,
    *,
    features: Sequence[str] | None = None,
    fusion_map: np.ndarray | None = None,
    patches: ExactPatches | FastPatches | str = "exact",
    device: str = "cpu",
) -> Tracker:
    """Make a tracker.

    Parameters
    ----------
    name : 'siamfc', 'dsiam' (one feature layer) or 'dsiamm' (two)
    net : DagNN
        With weights; see ``TrackingNet``.
    settings : TrackerSettings, optional
        By default those of the public code of the tracker (``siamfc`` or ``released``). Values
        that the network brings are used in their place: its parameters, and
        ``net.meta['scale_penalty']`` of a file of ``dsiam_net.shipped``.
    features : sequence of str, optional
        Layers whose features are compared; the first one or two are used. By default
        ``known_features(net)``.
    fusion_map : array (h, w), optional
        In place of the network's ``sumweights`` or the settings' ``fusion_weight``; two feature
        layers only.
    patches : 'exact', 'fast' or an object
        How patches are cut, resized and rounded: ``ExactPatches``, ``FastPatches``, or an object
        with their methods.
    device : 'cpu' or 'gpu'

    Raises
    ------
    ValueError
        For an unknown name of a tracker or of patches, or too few features.
    """
    if name not in TRACKERS:
        raise ValueError(f"tracker must be one of {', '.join(TRACKERS)}; received {name!r}")
    kind, levels, preset = TRACKERS[name]
    settings = get_preset(preset) if settings is None else settings
    if "scale_penalty" in net.meta:
        settings = settings.replace(scale_penalty=net.meta["scale_penalty"])
    features = known_features(net) if features is None else features
    if len(features) < levels:
        raise ValueError(f"tracker {name!r} compares {levels} feature layers, received {features}")
    if isinstance(patches, str):
        if patches not in PATCHES:
            raise ValueError(f"patches must be one of {', '.join(PATCHES)}; received {patches!r}")
        patches = PATCHES[patches]()
    network = TrackingNet(net, features[:levels], settings, device, fusion_map=fusion_map)
    return kind(network, settings, patches)
