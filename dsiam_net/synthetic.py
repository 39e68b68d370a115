"""Videos made by a program: as many as wanted, each with the exact box of its target.

A textured object moves over a textured background: smoothly, now and then with a jump; it turns,
grows and shrinks. The light changes, objects that look alike pass behind it, bars and blobs pass
before it and hide a part. What trains or tests a tracker is then there without any file.

Where there are photographs, backgrounds and textures come from them, and things that people have
outlined in them are targets with their own shape. ``Variety`` says how hard the videos are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .clips import Clip, frames_to_array
from .pictures import Pictures
from .scene import (
    TEXTURE_SCALE,
    Background,
    Cutout,
    Light,
    Motion,
    Occluder,
    random_outline,
)
from .textures import from_photograph, load_photographs, photographs_installed, procedural
from .variety import Trials, Variety

# Least difference of the mean grey levels of the target and the background.
LEAST_CONTRAST = 35.0
# Beside the numbers of a video's key: what the difficulties and cut-out things are drawn from.
TRIALS_KEY = (2**16,)
# A photograph behind the scene is shown nearly whole, so that it is little enlarged.
BACKGROUND_PART = 0.85


@dataclass(frozen=True, eq=False)
class SyntheticFrame:
    """A frame and what is known of it.

    Attributes
    ----------
    image : uint8 array (H, W, 3), RGB
    box : float64 array (4,)
        x, y, w, h around the whole target, also where it is hidden; frame pixels, 1-based.
    target : uint8 array (H, W)
        How much of each pixel the target would cover if nothing hid it, 0 to 255.
    hidden : float
        Share of the target that is hidden, 0 to 1.
    """

    image: np.ndarray
    box: np.ndarray
    target: np.ndarray
    hidden: float


class SyntheticVideos:
    """An endless, seeded collection of synthetic videos, and a source of clips.

    Parameters
    ----------
    seed : int
    size : (height, width)
        Of the frames, pixels; at least 64 each.
    length : int
        Frames a clip.
    photographs : bool, optional
        Take textures from the photographs in scikit-image's package too. By default where that
        package is installed and there are no ``pictures``; the videos are others then.
    distractors : int
        Most objects that look like the target.
    occlusion : float
        Share of videos in which something passes before the target.
    jumpiness : float
        Chance of a jump in a frame.
    pictures : Pictures, optional
        Photographs to take textures and things from, in place of scikit-image's.
    variety : Variety
        How hard the videos are.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    RuntimeError
        If ``photographs`` is asked for and scikit-image is not installed.
    """

    def __init__(
        self,
        seed: int = 0,
        size: tuple[int, int] = (240, 320),
        length: int = 10,
        *,
        photographs: bool | None = None,
        distractors: int = 2,
        occlusion: float = 0.6,
        jumpiness: float = 0.04,
        pictures: Pictures | None = None,
        variety: Variety = Variety(),  # noqa: B008  (frozen)
    ):
        if len(size) != 2 or min(size) < 64:
            raise ValueError(f"size must be (height, width), 64 pixels at least, received {size!r}")
        if length < 1 or distractors < 0:
            raise ValueError(
                "length must be at least 1 and distractors at least 0, received "
                f"{length!r} and {distractors!r}"
            )
        if not (0 <= occlusion <= 1 and 0 <= jumpiness <= 1):
            raise ValueError(
                f"occlusion and jumpiness must lie in [0, 1], received {occlusion!r} and "
                f"{jumpiness!r}"
            )
        self.seed = seed
        self.size = (int(size[0]), int(size[1]))
        self.length = length
        self.distractors = distractors
        self.occlusion = occlusion
        self.jumpiness = jumpiness
        self.variety = variety
        self._pictures = pictures
        wanted = photographs_installed() if photographs is None else photographs
        self._photographs = pictures or (load_photographs() if wanted else [])

    def video(self, index: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Video ``index``: the same whenever it is asked for, and a longer one begins like it.

        Returns
        -------
        frames : uint8 array (length, H, W, 3), RGB
        boxes : float64 array (length, 4)
            x, y, w, h; frame pixels, 1-based.
        """
        return self._collect([self.seed, 0, index], length)

    def clip(self, epoch: int, index: int) -> Clip:
        """Clip ``index`` of an epoch (both 0-based), from a video of its own."""
        frames, boxes = self._collect([self.seed, 1, epoch, index], self.length)
        return Clip(frames_to_array(frames), boxes)

    def frames(self, index: int) -> Iterator[SyntheticFrame]:
        """The frames of video ``index`` with all that is known of them, without end."""
        return self._frames([self.seed, 0, index])

    def _collect(self, key: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
        made = [frame for _, frame in zip(range(length), self._frames(key))]
        return np.stack([f.image for f in made]), np.stack([f.box for f in made])

    def _texture(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        if self._photographs and rng.random() < self.variety.photographs:
            return from_photograph(rng, self._photographs, height, width)
        return procedural(rng, height, width)

    def _backdrop(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        if self._pictures and rng.random() < self.variety.photographs:
            return from_photograph(rng, self._pictures, height, width, BACKGROUND_PART)
        return self._texture(rng, height, width)

    def _thing(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """Texture and outline of something cut out of a picture, in a share of the cases."""
        if self._pictures and rng.random() < self.variety.segments:
            return self._pictures.segment(rng)
        return None

    def _frames(self, key: list[int]) -> Iterator[SyntheticFrame]:
        layout, *parts = (
            np.random.default_rng(s)
            for s in np.random.SeedSequence(key).spawn(5 + self.distractors)
        )
        for_trials = np.random.default_rng(np.random.SeedSequence(key, spawn_key=TRIALS_KEY))
        trials = self.variety.trials(for_trials)
        for_background, for_light, for_target, for_occluder, *for_distractors = parts
        wide = [int(1.3 * side) for side in self.size]
        behind = self._backdrop(layout, *wide)
        background = Background(for_background, behind, self.size, trials.drift)
        light = Light(for_light, self.size, trials.defocus)

        usual_size = layout.uniform(*trials.sizes) * min(self.size)
        thing = self._thing(for_trials)
        target = self._target(layout, thing, background.texture, usual_size, trials)
        motion = self._motion(for_target, usual_size, target.outline, trials)
        glow = layout.uniform(0, 0.2), layout.uniform(20, 60), layout.uniform(0, 2 * np.pi)

        others = [
            self._distractor(rng, target, thing is not None, usual_size, trials)
            for rng in for_distractors[: int(layout.integers(self.distractors + 1))]
        ]
        occluder = None
        if layout.random() < self.occlusion:
            occluder = self._occluder(for_occluder, target.outline, usual_size, trials)

        frame = 0
        while True:
            image = background.draw(frame)
            for cutout, way in others:
                _draw(cutout, image, way, trials.exposure)
            strength, period, phase = glow
            gain = 1 + strength * np.sin(2 * np.pi * frame / period + phase)
            cover = _draw(target, image, motion, trials.exposure, gain)
            before = occluder.draw(image, frame, motion.center) if occluder else None
            hidden = 0.0
            if before is not None:
                weights = cover.astype(np.float64)
                hidden = float((weights * before).sum() / (255 * weights.sum()))
            corners = target.corners(motion.center, motion.size, motion.angle, motion.narrowing)
            low, high = corners.min(axis=0), corners.max(axis=0)
            # A box (x, y, w, h) reaches from x - 1.5 to x - 1.5 + w in 0-based pixel centres.
            box = np.concatenate([low + 1.5, high - low])
            yield SyntheticFrame(light.shine(image, frame), box, cover, hidden)
            for way in (motion, *(way for _, way in others)):
                way.advance()
            frame += 1

    def _target(
        self,
        layout: np.random.Generator,
        thing: tuple[np.ndarray, np.ndarray] | None,
        background: np.ndarray,
        usual_size: float,
        trials: Trials,
    ) -> Cutout:
        outline = random_outline(layout)
        side = int(np.ceil(max(TEXTURE_SCALE, trials.course.scales[1]) * usual_size))
        if thing is not None:
            texture, outline = _resized(thing[0], side), thing[1]
        else:
            texture = self._texture(layout, side, side)
        if trials.faint:
            texture = _faded(texture, background, trials.faint)
        elif thing is None:
            texture = _set_off(texture, background)
        return Cutout(texture if thing else _shaded(texture), outline, trials.shrinks)

    def _motion(
        self,
        rng: np.random.Generator,
        usual_size: float,
        outline: np.ndarray,
        trials: Trials,
    ) -> Motion:
        return Motion(rng, self.size, usual_size, outline, self.jumpiness, trials.course)

    def _distractor(
        self,
        rng: np.random.Generator,
        target: Cutout,
        is_thing: bool,
        usual_size: float,
        trials: Trials,
    ) -> tuple[Cutout, Motion]:
        """An object with the target's texture in other colours, its outline, both, or neither.

        What was cut out of a picture is recoloured in its own outline, since the texture beyond
        it is of something else.
        """
        side = target.texture.shape[0]
        same_texture, same_outline = rng.random(2) < 0.5
        thing = None if same_texture else self._thing(rng)
        if same_texture:
            # Darker too: a grey texture stays the same if its channels change places.
            channels = np.roll(target.texture, rng.integers(1, 3), axis=2)
            texture = (channels * rng.uniform(0.5, 0.8)).astype(np.uint8)
        elif thing is not None:
            texture = _resized(thing[0], side)
        else:
            texture = _shaded(self._texture(rng, side, side))
        same_outline |= is_thing and same_texture
        outline = target.outline if same_outline else random_outline(rng)
        if thing is not None:
            outline = thing[1]
        motion = self._motion(rng, usual_size, outline, trials)
        return Cutout(texture, outline, trials.shrinks), motion

    def _occluder(
        self, rng: np.random.Generator, outline: np.ndarray, usual_size: float, trials: Trials
    ) -> Occluder:
        """What passes before a target of this outline without hiding all of it."""
        turns = np.linspace(0, np.pi, 36, endpoint=False)
        extents = np.ptp(outline @ np.stack([np.cos(turns), np.sin(turns)]), axis=0)
        # The unit circle's diameter of 2 is the target's size, which may shrink.
        across = float(extents.min()) / 2 * trials.course.scales[0] * trials.course.narrowest
        side = int(np.ceil(TEXTURE_SCALE * usual_size))
        return Occluder(rng, self._texture(rng, side, side), usual_size, across)


def _draw(
    cutout: Cutout, image: np.ndarray, way: Motion, exposure: float, gain: float = 1.0
) -> np.ndarray:
    """Draw a cut-out where its motion has it, smeared along its velocity."""
    smear = exposure * way.velocity if exposure else None
    return cutout.draw(image, way.center, way.size, way.angle, gain, way.narrowing, smear)


def _resized(texture: np.ndarray, side: int) -> np.ndarray:
    """A square texture with sides of ``side`` pixels."""
    shrinks = texture.shape[0] > side
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(texture, (side, side), interpolation=interpolation)


def _faded(texture: np.ndarray, background: np.ndarray, share: float) -> np.ndarray:
    """``texture`` with mean and contrast moved by ``share`` to the mean and less contrast."""
    means, others = (a.mean(axis=(0, 1)) for a in (texture, background))
    contrast = 1 - 0.4 * share
    wanted = means + share * (others - means)
    return np.clip(wanted + contrast * (texture - means), 0, 255).astype(np.uint8)


def _set_off(texture: np.ndarray, background: np.ndarray) -> np.ndarray:
    """``texture`` made brighter or darker where its mean is too near that of the background."""
    mean, other = float(texture.mean()), float(background.mean())
    if abs(mean - other) >= LEAST_CONTRAST:
        return texture
    wanted = other + LEAST_CONTRAST if other < 128 else other - LEAST_CONTRAST
    # An exponent leaves black and white where they are and moves what lies between.
    exponent = np.log(wanted / 255) / np.log(np.clip(mean, 1, 254) / 255)
    table = 255 * (np.arange(256) / 255) ** exponent
    return table.astype(np.uint8)[texture]


def _shaded(texture: np.ndarray) -> np.ndarray:
    """``texture`` (S, S, 3) darker towards the edge of the unit circle, as a round body is."""
    side = texture.shape[0]
    y, x = (np.ogrid[:side, :side][axis] * (2 / (side - 1)) - 1 for axis in (0, 1))
    shade = 1.1 - 0.45 * np.minimum(x * x + y * y, 1.2)
    return np.clip(texture * shade[:, :, None], 0, 255).astype(np.uint8)
