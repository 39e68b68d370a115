"""The moving parts of a synthetic video: objects, what hides them, the background and the light.

Places are ``(x, y)`` in frame pixels, 0-based, whole numbers at centres of pixels, as OpenCV's
``warpAffine`` takes them. Each part draws from its own generator, a fixed count of numbers a
frame, so that a longer video begins like a shorter one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

# Corners of an outline, and how much finer than the texture its mask is drawn before it is
# averaged: both give the mask's edge a precision below a tenth of a pixel.
CORNERS = 120
SUPERSAMPLING = 4
# An object is drawn once, this much larger than its usual size, and shrunk into each frame.
TEXTURE_SCALE = 1.5
SCALE_RANGE = (0.7, 1.4)
# Part of a motion's speed and acceleration that is kept from a frame to the next.
INERTIA = 0.92
# A cut-out with copies of half, a quarter ... of its size is drawn from the smallest that is at
# least this much larger than what is drawn: bilinear sampling leaves out pixels from twice on.
LEAST_SURPLUS = 1.25


def random_outline(rng: np.random.Generator) -> np.ndarray:
    """A closed outline around the origin within the unit circle, float64 (CORNERS, 2).

    A superellipse, from ellipse to rounded rectangle, with bulges of two to four waves.
    """
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    exponent = 2 ** rng.uniform(1, 3)
    flatness = rng.uniform(0.5, 1)
    across, along = np.abs(np.cos(angle)), np.abs(np.sin(angle)) / flatness
    radius = (across**exponent + along**exponent) ** (-1 / exponent)
    for waves in (2, 3, 4):
        radius *= 1 + rng.uniform(0, 0.12) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return outline / np.hypot(*outline.T).max()


def rectangle_outline(height: float, width: float) -> np.ndarray:
    """A rectangle around the origin, float64 (4, 2)."""
    h, w = height / 2, width / 2
    return np.array([(-w, -h), (w, -h), (w, h), (-w, h)])


class Cutout:
    """A piece of texture with an outline, drawn into frames at any place, size and angle.

    Parameters
    ----------
    texture : array (S, S, 3) of uint8
        The outline's unit square, from -1 to 1, covers it.
    outline : array (K, 2)
        Within the unit square.
    copies : bool
        Keep smaller copies too, for a cut-out that shrinks to less than half.
    """

    def __init__(self, texture: np.ndarray, outline: np.ndarray, copies: bool = False):
        self.texture = texture
        self.outline = outline
        side = texture.shape[0]
        fine = side * SUPERSAMPLING
        # In fillPoly's coordinates whole numbers are centres of pixels; 4 bits are a fraction.
        corners = np.round(((outline + 1) * (fine / 2) - 0.5) * 16).astype(np.int32)
        mask = np.zeros((fine, fine), np.uint8)
        cv2.fillPoly(mask, [corners], 255, shift=4)
        self.mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
        self._copies = [(self.texture, self.mask)]
        while copies and side >= 8:
            side = (side + 1) // 2
            last = self._copies[-1]
            self._copies.append(
                tuple(cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA) for a in last)
            )

    def corners(
        self, center: np.ndarray, size: float, angle: float, narrowing: float = 1.0
    ) -> np.ndarray:
        """The outline in the frame, (K, 2): unit circle of diameter ``size``, turned.

        ``narrowing`` is a factor on its width, before it is turned.
        """
        return center + turned(self.outline, angle, narrowing) * (size / 2)

    def draw(
        self,
        image: np.ndarray,
        center: np.ndarray,
        size: float,
        angle: float,
        gain: float = 1.0,
        narrowing: float = 1.0,
        smear: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw into ``image`` (H, W, 3) uint8, in place.

        Parameters
        ----------
        image : uint8 array (H, W, 3)
        center : (x, y)
        size : float
            Diameter of the outline's unit circle, pixels.
        angle : float
            Radians, from the x axis towards the y axis.
        gain : float
            Factor on the colours.
        narrowing : float
            Factor on the width before it is turned.
        smear : (x, y), optional
            The way that it goes while the frame is exposed, pixels, half of it before ``center``.

        Returns
        -------
        uint8 array (H, W)
            How much of each pixel the cut-out covers, 0 to 255.
        """
        height, width = image.shape[:2]
        cover = np.zeros((height, width), np.uint8)
        corners = self.corners(center, size, angle, narrowing)
        if smear is not None and np.abs(smear).max() >= 1:
            corners = np.concatenate([corners - smear / 2, corners + smear / 2])
        else:
            smear = None
        left, top = np.maximum(np.floor(corners.min(axis=0)) - 1, 0).astype(int)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
        right, bottom = min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return cover
        texture, whole = self._copy_for(size)
        side = texture.shape[0]
        scale = size / side
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        middle = (side - 1) / 2
        cn, sn = c * narrowing, s * narrowing
        matrix = np.array(
            [
                [cn, -s, center[0] - left - (cn - s) * middle],
                [sn, c, center[1] - top - (sn + c) * middle],
            ]
        )
        shape = (int(right - left), int(bottom - top))
        mask = cv2.warpAffine(whole, matrix, shape, flags=cv2.INTER_LINEAR)
        paint = cv2.warpAffine(
            texture, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        part = image[top:bottom, left:right]
        alpha = (mask.astype(np.float32) / 255)[:, :, None]
        paint = np.minimum(paint * np.float32(gain), 255)
        if smear is None:
            mixed = part + (paint - part) * alpha
        else:
            kernel = line_kernel(smear)
            covered = cv2.filter2D(alpha, -1, kernel, borderType=cv2.BORDER_CONSTANT)[:, :, None]
            paint = cv2.filter2D(paint * alpha, -1, kernel, borderType=cv2.BORDER_CONSTANT)
            mixed = np.clip(paint + part * (1 - covered), 0, 255)
        part[:] = np.round(mixed)
        cover[top:bottom, left:right] = mask
        return cover

    def _copy_for(self, size: float) -> tuple[np.ndarray, np.ndarray]:
        """Texture and mask of the size that ``size`` is drawn from."""
        for texture, mask in reversed(self._copies):
            if texture.shape[0] >= LEAST_SURPLUS * size:
                return texture, mask
        return self._copies[0]


def turned(outline: np.ndarray, angle: float, narrowing: float) -> np.ndarray:
    """``outline`` (K, 2), its width times ``narrowing``, then turned by ``angle``."""
    c, s = math.cos(angle), math.sin(angle)
    return (outline * [narrowing, 1.0]) @ np.array([[c, s], [-s, c]])


def line_kernel(way: np.ndarray) -> np.ndarray:
    """Blur along a straight way (x, y) in pixels: float32 (h, w), odd sides, sum 1."""
    half_x, half_y = (int(np.ceil(abs(v) / 2)) for v in way)
    kernel = np.zeros((2 * half_y + 1, 2 * half_x + 1), np.float32)
    # Bilinear shares of points twice as dense as pixels.
    for t in np.linspace(-0.5, 0.5, 2 * int(np.ceil(np.abs(way).max())) + 1):
        x, y = half_x + t * way[0], half_y + t * way[1]
        column, row = min(int(x), 2 * half_x), min(int(y), 2 * half_y)
        right, down = x - column, y - row
        for i, share_y in ((row, 1 - down), (row + 1, down)):
            for j, share_x in ((column, 1 - right), (column + 1, right)):
                if share_x * share_y > 0:
                    kernel[i, j] += share_x * share_y
    return kernel / kernel.sum()


@dataclass(frozen=True, kw_only=True)
class Course:
    """In what a motion differs from the usual one.

    Attributes
    ----------
    pace : float
        Factor on speed and its changes.
    longest_step : float
        Of the smooth motion in a frame, by the object's size.
    turn : float
        Radians a frame, beside the random turning.
    growth : float
        Factor on the changes of size.
    scales : (low, high)
        Limits of the size, by the usual one.
    narrowest : float
        Factor on the width to which it falls and from which it rises again, as that of a flat
        thing that turns away and back.
    period, phase : float
        Of that, frames and radians.
    """

    pace: float = 1.0
    longest_step: float = math.inf
    turn: float = 0.0
    growth: float = 1.0
    scales: tuple[float, float] = SCALE_RANGE
    narrowest: float = 1.0
    period: float = 1.0
    phase: float = 0.0


@dataclass
class Motion:
    """How an object goes through the frame: smooth changes of velocity, turn and size, and jumps.

    ``jumpiness`` is the chance of a jump in a frame, ``course`` in what it differs from the usual
    motion. After ``advance`` the fields hold where the object is now.
    """

    rng: np.random.Generator
    frame: tuple[int, int]
    usual_size: float
    outline: np.ndarray
    jumpiness: float
    course: Course = Course()

    def __post_init__(self):
        rng = self.rng
        self.time = 0
        height, width = self.frame
        self.center = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
        self.speed = rng.uniform(0.2, 1) * self.course.pace
        self.turning = rng.choice([0.0, 0.3, 1.0])
        self.angle = rng.uniform(-0.4, 0.4) if self.turning < 1 else rng.uniform(-np.pi, np.pi)
        self.log_scale = rng.uniform(-0.2, 0.2)
        direction = rng.uniform(0, 2 * np.pi)
        self.velocity = (
            0.06 * self.speed * self.size * np.array([np.cos(direction), np.sin(direction)])
        )
        self.spin = 0.0
        self.growth = 0.0
        self._stay_inside()

    @property
    def size(self) -> float:
        """Diameter of the outline's unit circle, frame pixels."""
        return self.usual_size * math.exp(self.log_scale)

    @property
    def narrowing(self) -> float:
        """Factor on the outline's width."""
        wave = 0.5 + 0.5 * math.sin(
            2 * math.pi * self.time / self.course.period + self.course.phase
        )
        return 1 - (1 - self.course.narrowest) * wave

    def advance(self) -> None:
        """Go on to the next frame."""
        self.time += 1
        pushes = self.rng.standard_normal(4)
        chance, direction, distance = self.rng.random(3)
        self.velocity = INERTIA * self.velocity + 0.02 * self.speed * self.size * pushes[:2]
        step, longest = math.hypot(*self.velocity), self.course.longest_step * self.size
        if step > longest:
            self.velocity *= longest / step
        self.center = self.center + self.velocity
        if chance < self.jumpiness:
            jump = (0.3 + 0.4 * distance) * self.size
            turn = 2 * np.pi * direction
            self.center = self.center + jump * np.array([np.cos(turn), np.sin(turn)])
        self.spin = INERTIA * self.spin + 0.02 * self.turning * pushes[2]
        self.angle += self.spin + self.course.turn
        self.growth = INERTIA * self.growth + 0.004 * self.course.growth * pushes[3]
        low, high = np.log(self.course.scales)
        self.log_scale += self.growth
        if not low <= self.log_scale <= high:
            self.log_scale = float(np.clip(self.log_scale, low, high))
            self.growth = -self.growth
        self._stay_inside()

    def _stay_inside(self) -> None:
        """Bounce off the frame's borders: the whole outline stays in the frame."""
        corners = turned(self.outline, self.angle, self.narrowing) * (self.size / 2)
        low = -corners.min(axis=0)
        high = np.array(self.frame[::-1]) - 1 - corners.max(axis=0)
        inside = np.clip(self.center, low, high)
        toward = np.sign(inside - self.center)
        self.velocity = np.where(toward == 0, self.velocity, np.abs(self.velocity) * toward)
        self.center = inside


class Occluder:
    """A bar or a blob that passes before the target from time to time, and hides a part of it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws when, how fast and from where.
    texture : array (S, S, 3) of uint8
    usual_size : float
        Of the target, frame pixels.
    across : float
        The target's smallest diameter, as a fraction of its usual size: a bar is at most 0.6 of
        it broad, a blob 0.8.
    """

    def __init__(
        self, rng: np.random.Generator, texture: np.ndarray, usual_size: float, across: float
    ):
        self.usual_size = usual_size
        self.period = int(rng.integers(25, 50))
        self.middle = int(rng.integers(0, self.period))
        self.direction = rng.uniform(0, 2 * np.pi)
        # Lengths from here on are fractions of the target's usual size, speed is one a frame.
        self.speed = rng.uniform(0.08, 0.2)
        self.aside = 0.0
        if rng.random() < 0.5:
            self.diameter = 2.5
            outline = rectangle_outline(2, 2 * rng.uniform(0.35, 0.6) * across / self.diameter)
        else:
            self.diameter = rng.uniform(0.65, 0.9) * across
            self.aside = rng.uniform(-0.3, 0.3) * across
            outline = random_outline(rng)
        self.cutout = Cutout(texture, outline)

    def draw(self, image: np.ndarray, frame: int, center: np.ndarray) -> np.ndarray | None:
        """Draw at the time ``frame`` before a target at ``center``; its cover, or None."""
        phase = (frame - self.middle + self.period // 2) % self.period - self.period // 2
        away = phase * self.speed
        if abs(away) > 2:
            return None
        c, s = math.cos(self.direction), math.sin(self.direction)
        offset = np.array([away * c - self.aside * s, away * s + self.aside * c])
        place, size = center + offset * self.usual_size, self.diameter * self.usual_size
        return self.cutout.draw(image, place, size, self.direction)


class Background:
    """A texture larger than the frame that drifts, turns and breathes behind everything.

    ``drift`` is a factor on how far it drifts.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        texture: np.ndarray,
        frame: tuple[int, int],
        drift: float = 1.0,
    ):
        self.texture = texture
        self.frame = frame
        self.drift = rng.uniform(0, 0.1, 2) * np.array(frame[::-1]) * drift
        self.turn = rng.uniform(0, 0.08)
        self.zoom = rng.uniform(0, 0.08)
        self.periods = rng.uniform(40, 160, 4)
        self.phases = rng.uniform(0, 2 * np.pi, 4)

    def draw(self, frame: int) -> np.ndarray:
        """The background at the time ``frame``, (H, W, 3) uint8, a new array."""
        waves = np.sin(2 * np.pi * frame / self.periods + self.phases)
        x, y = self.drift * waves[:2]
        angle, scale = self.turn * waves[2], 1 + self.zoom * waves[3]
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        height, width = self.frame
        texture_height, texture_width = self.texture.shape[:2]
        middle = (texture_width - 1) / 2, (texture_height - 1) / 2
        matrix = np.array(
            [
                [c, -s, (width - 1) / 2 + x - c * middle[0] + s * middle[1]],
                [s, c, (height - 1) / 2 + y - s * middle[0] - c * middle[1]],
            ]
        )
        return cv2.warpAffine(
            self.texture,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )


class Light:
    """Changes of brightness and colour over the whole frame, a slight blur, and noise.

    ``defocus`` is added to the standard deviation of the blur, pixels.
    """

    def __init__(self, rng: np.random.Generator, frame: tuple[int, int], defocus: float = 0.0):
        self.rng = rng
        self.strength = rng.uniform(0, 0.3)
        self.tint = rng.uniform(0, 0.1, 3)
        self.periods = rng.uniform(15, 80, 4)
        self.phases = rng.uniform(0, 2 * np.pi, 4)
        self.blur = rng.uniform(0.3, 1.1) + defocus
        level = rng.uniform(0, 5)
        # One field of noise, read from a new place in each frame.
        self.margin = 32
        shape = [side + self.margin for side in frame]
        self.noise = np.round(level * rng.standard_normal((*shape, 3))).astype(np.int16)

    def shine(self, image: np.ndarray, frame: int) -> np.ndarray:
        """``image`` (H, W, 3) uint8 as it looks at the time ``frame``, a new array."""
        waves = np.sin(2 * np.pi * frame / self.periods + self.phases)
        gains = (1 + self.strength * waves[0]) * (1 + self.tint * waves[1:])
        table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table.reshape(1, 256, 3))
        image = cv2.GaussianBlur(image, (0, 0), self.blur)
        height, width = image.shape[:2]
        y, x = self.rng.integers(0, self.margin, 2)
        return cv2.add(image, self.noise[y : y + height, x : x + width], dtype=cv2.CV_8U)
