"""How hard synthetic videos are: shares of videos with each difficulty, one setting a line."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import numpy as np

from .scene import SCALE_RANGE, Course

# The target's usual diameter, as fractions of the frame's shorter side.
SIZE_RANGE = (0.16, 0.36)


@dataclass(frozen=True)
class Trials:
    """The difficulties of one video.

    Attributes
    ----------
    sizes : (low, high)
        The target's usual diameter lies between, fractions of the frame's shorter side.
    course : Course
        What its motion has beyond the usual one.
    exposure : float
        Part of the time from a frame to the next in which what moves is smeared.
    faint : float
        How far the target's mean colour is moved to that of the background, 0 to 1; at 0 it is
        made to differ.
    defocus : float
        Further blur of the frame, standard deviation in pixels.
    drift : float
        Factor on how far the background drifts.
    """

    sizes: tuple[float, float] = SIZE_RANGE
    course: Course = field(default_factory=Course)
    exposure: float = 0.0
    faint: float = 0.0
    defocus: float = 0.0
    drift: float = 1.0

    @property
    def shrinks(self) -> bool:
        """Whether objects become so small that their textures need smaller copies."""
        return self.course.scales[0] < SCALE_RANGE[0]


@dataclass(frozen=True, kw_only=True)
class Variety:
    """Shares of videos (0 to 1) with each difficulty, and how far it goes.

    The defaults are gentle videos, with no difficulty but those that all videos have. Ranges are
    (least, greatest); a video draws its value from them. A distractor moves as the target does.
    """

    photographs: float = 0.5  # share of textures from photographs, where there are some
    segments: float = 0.0  # share of targets cut out of photographs, where those have segments
    small: float = 0.0  # share of videos with a small target
    small_sizes: tuple[float, float] = (0.06, 0.12)  # its diameter by the frame's shorter side
    fast: float = 0.0  # share with a fast one
    paces: tuple[float, float] = (3.0, 8.0)  # factor on its speed
    longest_step: float = 0.8  # of a fast target in a frame, by its size
    turning: float = 0.0  # share with one that turns round and round
    turns: tuple[float, float] = (0.03, 0.2)  # radians a frame
    scaling: float = 0.0  # share with one whose size changes much
    growth: float = 4.0  # factor on the changes of its size
    scales: tuple[float, float] = (0.4, 2.4)  # limits of its size, by the usual one
    narrowing: float = 0.0  # share with one that turns away, its width falling and rising
    narrowest: tuple[float, float] = (0.35, 0.8)  # the least width, by the whole one
    faint: float = 0.0  # share with one of nearly the background's colours
    defocused: float = 0.0  # share of blurred videos
    defocus: tuple[float, float] = (0.5, 2.0)  # standard deviation of that blur, pixels
    exposure: float = 0.0  # longest exposure by the time between frames: smears what moves
    drift: float = 1.0  # greatest factor on how far the background drifts

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            shares = ("photographs", "segments", "small", "fast", "turning", "scaling")
            if name in (*shares, "narrowing", "faint", "defocused", "exposure"):
                _require(0 <= value <= 1, name, "in [0, 1]", value)
            elif isinstance(value, tuple):
                ordered = len(value) == 2 and 0 < value[0] <= value[1]
                _require(ordered, name, "two numbers above 0, the lesser first", value)
            else:
                _require(value > 0, name, "greater than 0", value)
        _require(self.small_sizes[1] <= SIZE_RANGE[1], "small_sizes", "small", self.small_sizes)
        # The largest target must fit into the frame whichever way it is turned.
        _require(self.scales[1] * SIZE_RANGE[1] < 0.95, "scales", "below 2.6", self.scales)

    def trials(self, rng: np.random.Generator) -> Trials:
        """The difficulties of a video, always from the same count of random numbers."""
        chances = iter(rng.random(7))
        small, fast, turning, scaling, narrowing, faint, defocused = (
            next(chances) < share
            for share in (
                self.small, self.fast, self.turning, self.scaling, self.narrowing, self.faint,
                self.defocused,
            )
        )  # fmt: skip
        pace, turn, narrowest = (rng.uniform(*r) for r in (self.paces, self.turns, self.narrowest))
        side, phase = rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * math.pi)
        period, closeness, blur = (
            rng.uniform(20, 80),
            rng.uniform(0.5, 1),
            rng.uniform(*self.defocus),
        )
        exposure, drift = rng.uniform(0, self.exposure), rng.uniform(1, self.drift)
        course = Course(
            pace=pace if fast else 1.0,
            longest_step=self.longest_step if fast else math.inf,
            turn=side * turn if turning else 0.0,
            growth=self.growth if scaling else 1.0,
            scales=self.scales if scaling else SCALE_RANGE,
            narrowest=narrowest if narrowing else 1.0,
            period=period,
            phase=phase,
        )
        return Trials(
            sizes=self.small_sizes if small else SIZE_RANGE,
            course=course,
            exposure=exposure,
            faint=closeness if faint else 0.0,
            defocus=blur if defocused else 0.0,
            drift=drift,
        )


def _require(condition: bool, name: str, expected: str, received: object) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, received {received!r}")


# For training: what trackers lose, small and fast targets first of all, is common in it.
HARD = Variety(
    photographs=0.95,
    segments=0.75,
    small=0.35,
    fast=0.35,
    turning=0.2,
    scaling=0.3,
    narrowing=0.3,
    faint=0.25,
    defocused=0.25,
    exposure=0.6,
    drift=3.0,
)
