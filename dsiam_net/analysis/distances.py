"""Distances between features with and without the transformations V and W, over a sequence.

Figure 4 of the supplement. ``V`` is to turn the features of the first template ``O_1`` into those
of the target ``O_t``; ``W`` those of its surroundings ``G_t`` into those of ``Gbar_t``, the same
patch with its background darkened. With ``w`` the Hann window, ``*`` the circular convolution
and ``eta`` the share of the transformed feature,

    T(x, R) = R * (w.x),                   Y(x, R) = (1 - eta) x + eta T

are compared with the feature ``y`` that is wanted: ``|T - y|`` and ``|Y - y|`` as the
cross-correlation sees them, and, with the window on everything, ``|T - w.y|`` and
``|(1 - eta) w.x + eta T - w.y|``. ``T`` carries the window already: ``|T - w.y|`` is what the
filter is learned to make small. Without transformation it is ``|x - y|`` and ``|w.x - w.y|``.

The filter is that of frame ``t`` itself, as the text under the figure has it, or that of frame
``t - 1``, which is what a tracker has in frame ``t``. Only the second says whether the
transformations help: the first is learned from what it is then compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dagnet import asnumpy
from layers import cir_conv, rlr
from layers.spectrum import windowed

from ..tracking_net import TrackingNet
from ..unrolled import lambda_name, rate_name
from .patches import FramePatches

ROLES = ("V", "W")


class Variant(NamedTuple):
    """One way to compare.

    Attributes
    ----------
    learned : 'none', 't' or 't-1'
        From which frame the transformation was learned.
    share : 'none', 'alone' or 'mixed'
        The transformed feature alone, or mixed with the feature by the learning rate. Mixed
        without transformation is ``(1 - eta) x``: what making the feature smaller does by itself.
    window : 'hann' or 'none'
        On the features that are compared.
    """

    learned: str
    share: str
    window: str

    @property
    def base(self) -> Variant:
        """The comparison without transformation that this one is to be held against."""
        return Variant("none", "none", self.window)


# What the cross-correlation gets in the tracker: the one that the claim is made on.
TRACKERS = Variant("t-1", "mixed", "none")
VARIANTS = tuple(
    Variant(learned, share, window)
    for window in ("hann", "none")
    for learned, share in (
        ("none", "none"),
        ("none", "mixed"),
        ("t-1", "alone"),
        ("t-1", "mixed"),
        ("t", "alone"),
        ("t", "mixed"),
    )
)


class Pair(NamedTuple):
    """Features of one role and level: ``x``, to be transformed, and ``y``, what is wanted."""

    x: Any
    y: Any


def transformed_distances(
    pair: Pair, now: Any, before: Any | None, rate: float
) -> dict[Variant, float]:
    """All variants' Euclidean distances, over channels and cells.

    Parameters
    ----------
    pair : Pair of real arrays (1, C, H, W)
    now, before : arrays (1, C, H, W)
        Filters learned in this frame and in the one before; without the latter its variants
        are NaN.
    rate : float
        Share of the transformed feature where it is mixed, 0 to 1.
    """
    planes = {"none": pair, "hann": Pair(*(windowed(f, "hann") for f in pair))}
    alone = {
        learned: None if r is None else cir_conv(pair.x, r, pair.x.dtype.type(1))[0]
        for learned, r in (("t", now), ("t-1", before))
    }
    alone["none"] = pair.x.dtype.type(0)
    found = {}
    for variant in VARIANTS:
        x, y = planes[variant.window]
        t = alone[variant.learned]
        if t is None:
            found[variant] = float("nan")
            continue
        share = x.dtype.type({"none": 0, "alone": 1, "mixed": rate}[variant.share])
        found[variant] = _norm((1 - share) * x + share * t - y)
    return found


def _norm(difference: Any) -> float:
    """Euclidean norm; squares are added in double precision."""
    return float(np.sqrt((asnumpy(difference).astype(np.float64) ** 2).sum()))


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of a sequence.

    Attributes
    ----------
    values : float64 array (T, roles, levels, variants)
        Order of ``ROLES`` and ``VARIANTS``; feature layers from the outermost. NaN where the frame
        has no target, or nothing was learned before.
    """

    values: np.ndarray

    @property
    def levels(self) -> int:
        """Number of feature layers."""
        return self.values.shape[2]

    def series(self, role: str, level: int, variant: Variant) -> np.ndarray:
        """Distance in each frame, (T,); ``level`` counts from 1."""
        return self.values[:, ROLES.index(role), level - 1, VARIANTS.index(variant)]

    def ratios(self, role: str, level: int, variant: Variant) -> np.ndarray:
        """Distance with transformation over that without, (frames that have both,).

        Frames in which it is 0 without, as that of the first template to itself, are left out.
        """
        with_it, without = (self.series(role, level, v) for v in (variant, variant.base))
        there = np.isfinite(with_it) & (without > 0)
        return with_it[there] / without[there]


class Learner:
    """Learns V and W of one frame after the other and measures what they do.

    Parameters
    ----------
    network : TrackingNet
        Gives features, lambdas and shares.
    """

    def __init__(self, network: TrackingNet):
        self.network = network
        self._template: list | None = None
        self._filters: dict[tuple[str, int], Any] = {}

    def measure(self, patches: FramePatches | None) -> np.ndarray:
        """Distances of the next frame, float64 (roles, levels, variants).

        The first frame with patches gives the template ``O_1``. None, for a frame without target,
        gives NaN, and so do the previous frame's transformations in the frame after it.
        """
        levels = self.network.levels
        values = np.full((len(ROLES), len(levels), len(VARIANTS)), np.nan)
        if patches is None:
            self._filters = {}
            return values
        target = self.network.features(patches.target[None])
        both = self.network.features(np.stack([patches.surroundings, patches.masked]))
        first = self._template is None
        if first:
            self._template = target
        learned = {}
        for level in levels:
            i = level - 1
            pairs = {
                "V": Pair(self._template[i], target[i]),
                "W": Pair(both[i][:1], both[i][1:]),
            }
            for role, pair in pairs.items():
                # The public code divides the power spectrum by the number of cells.
                lam = self.network.lambdas[lambda_name(role.lower(), level)]
                now, _ = rlr(*pair, pair.x.dtype.type(lam * pair.x[0, 0].size))
                found = transformed_distances(
                    pair, now, self._filters.get((role, level)), rate(self.network, role, level)
                )
                values[ROLES.index(role), i] = [found[variant] for variant in VARIANTS]
                learned[role, level] = now
        # As in the tracker, which learns from the second frame on, the first one it has tracked.
        self._filters = {} if first else learned
        return values


def rate(network: TrackingNet, role: str, level: int) -> float:
    """Share of the transformed feature that a network mixes in; ``role`` is 'V' or 'W'."""
    parameter = network.search.get_param(rate_name(level, 1 + ROLES.index(role)))
    return float(asnumpy(parameter.value).item())


def rows(distances: Distances) -> Iterator[dict[str, Any]]:
    """The distances as rows of a table, one a frame (from 1), role, feature layer and variant."""
    for t, frame in enumerate(distances.values, start=1):
        for role, levels in zip(ROLES, frame):
            for level, values in enumerate(levels, start=1):
                for variant, value in zip(VARIANTS, values):
                    yield {
                        "frame": t,
                        "transformation": role,
                        "layer": level,
                        **variant._asdict(),
                        "distance": float(value),
                    }
