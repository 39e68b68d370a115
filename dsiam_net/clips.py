"""Clips: short runs of consecutive frames with boxes, which the unrolled network is trained on.

A source of clips has ``clip(epoch, index)``, the same ``Clip`` whenever it is asked: what is
drawn depends on the seed, the epoch and the index alone, so that a run can be resumed, and shared
by several processes. Sources are ``ClipSampler``, ``ListedClips`` and
``dsiam_net.synthetic.SyntheticVideos``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from dagnet import atomic_write

from .boxes import valid_boxes
from .sequences import Sequence, SequenceError, read_image

HEADER = "# clip, frame, x, y, w, h (boxes in frame pixels, 1-based)\n"


@dataclass(frozen=True, eq=False)
class Clip:
    """A short video of one target.

    Attributes
    ----------
    frames : array (T, 3, H, W) of unsigned bytes or floating point
        RGB, 0 to 255. Clips that are read keep the bytes of their files, a fourth of what goes
        to a GPU; crops convert what they cut.
    boxes : float64 array (T, 4)
        x, y, w, h; frame pixels, 1-based.
    """

    frames: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def frames_to_array(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames (H, W, 3) of uint8 as one float32 array (T, 3, H, W)."""
    return np.stack([f.transpose(2, 0, 1) for f in frames]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ClipFiles:
    """A clip on disk: image files and boxes (T, 4)."""

    paths: tuple[Path, ...]
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def read(self) -> Clip:
        """Read the frames.

        Raises
        ------
        SequenceError
            If a frame cannot be read or has another size than the first.
        """
        frames = [read_image(path) for path in self.paths]
        for path, frame in zip(self.paths, frames):
            if frame.shape != frames[0].shape:
                (h, w), (h0, w0) = frame.shape[:2], frames[0].shape[:2]
                raise SequenceError(
                    f"{path}: expected a frame of {h0}x{w0} pixels, as the clip's first is "
                    f"({self.paths[0]}), received {h}x{w}"
                )
        return Clip(np.stack([frame.transpose(2, 0, 1) for frame in frames]), self.boxes)


class ClipSampler:
    """Random clips of sequences: a sequence, then a start, each with equal probability.

    Only runs of frames that all have a box are drawn.

    Parameters
    ----------
    sequences : iterable of Sequence
    length : int
        Frames a clip.
    seed : int

    Raises
    ------
    SequenceError
        If there is no sequence, or one has no ``length`` consecutive frames with a box.
    """

    def __init__(self, sequences: Iterable[Sequence], length: int = 10, seed: int = 0):
        if length < 1:
            raise ValueError(f"length must be at least 1, received {length!r}")
        self.sequences = list(sequences)
        self.length = length
        self.seed = seed
        if not self.sequences:
            raise SequenceError("expected at least one sequence to draw clips from, received none")
        self._starts = [self._possible_starts(s) for s in self.sequences]

    def _possible_starts(self, sequence: Sequence) -> np.ndarray:
        present = sequence.present
        longest = 0
        if len(sequence) >= self.length:
            runs = np.lib.stride_tricks.sliding_window_view(present, self.length)
            starts = np.flatnonzero(runs.all(axis=1))
            if len(starts):
                return starts
        for run in "".join("x" if p else " " for p in present).split():
            longest = max(longest, len(run))
        raise SequenceError(
            f"sequence {sequence.name}: expected {self.length} consecutive frames with a box, "
            f"received {longest} in a row of {len(sequence)} frames; leave it out, or take "
            "shorter clips"
        )

    def files(self, epoch: int, index: int) -> ClipFiles:
        """The clip's files and boxes, without reading a frame."""
        rng = np.random.default_rng([self.seed, epoch, index])
        which = int(rng.integers(len(self.sequences)))
        start = int(rng.choice(self._starts[which]))
        sequence, run = self.sequences[which], slice(start, start + self.length)
        return ClipFiles(sequence.paths[run], sequence.boxes[run])

    def clip(self, epoch: int, index: int) -> Clip:
        """Clip ``index`` of an epoch (both 0-based); errors as in ``ClipFiles.read``."""
        return self.files(epoch, index).read()


class ListedClips:
    """Clips named one by one: the same in every epoch, in their order.

    Of several lists, clips are taken in turn: the first of each, then the second of each that has
    one, and so on. However many are used, each list has an equal share as long as it lasts.

    Parameters
    ----------
    *lists : paths of files (see ``read_clips``), or iterables of ClipFiles

    Raises
    ------
    SequenceError
        As in ``read_clips``, or if there is no clip.
    """

    def __init__(self, *lists: str | os.PathLike | Iterable[ClipFiles]):
        read = [
            read_clips(clips) if isinstance(clips, (str, os.PathLike)) else list(clips)
            for clips in lists
        ]
        self.files = [clip for turn in zip_longest(*read) for clip in turn if clip is not None]
        if not self.files:
            raise SequenceError("expected at least one clip, received none")

    def __len__(self) -> int:
        return len(self.files)

    def clip(self, epoch: int, index: int) -> Clip:
        """Clip ``index``, 0-based; ``epoch`` changes nothing.

        Raises
        ------
        IndexError
            If there are not so many clips.
        SequenceError
            As in ``ClipFiles.read``.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} was asked for, and the list has {len(self)}")
        return self.files[index].read()


def write_clips(path: str | os.PathLike, clips: Iterable[ClipFiles]) -> None:
    """Write a list of clips as text, one line a frame: ``clip,frame,x,y,w,h``, under a temporary
    name first.

    Frames are named relative to the file's folder, with ``/``; where there is no such way (on
    another drive) by their whole path. ``read_clips`` gives the same numbers back.

    Raises
    ------
    SequenceError
        If a file's name has a line break in it.
    """
    path = Path(path)
    with atomic_write(path) as file:
        file.write(HEADER.encode())
        for number, clip in enumerate(clips):
            for frame, box in zip(clip.paths, clip.boxes, strict=True):
                name = _relative(frame, path.resolve().parent)
                if len(name.splitlines()) != 1:
                    raise SequenceError(f"{name!r}: a file with a line break cannot be listed")
                numbers = ",".join(np.format_float_positional(v, trim="-") for v in box)
                file.write(f"{number},{name},{numbers}\n".encode())


def _relative(frame: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(frame, folder)).as_posix()
    except ValueError:
        return Path(frame).resolve().as_posix()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SequenceError(f"cannot read list of clips {path}: {exc}") from exc
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def read_clips(path: str | os.PathLike) -> list[ClipFiles]:
    """Read what ``write_clips`` wrote. Lines that begin with ``#`` are comments.

    The frame's name stands between the first comma and the fourth but last, so it may have
    commas and spaces of its own.

    Raises
    ------
    SequenceError
        Names file and line: a line that is not ``clip,frame,x,y,w,h``, numbers of clips that do
        not count up from 0, a box without area, a frame that does not exist.
    """
    path = Path(path)
    clips: list[tuple[list[Path], list[list[float]]]] = []

    def wrong(number: int, expected: str, received: str) -> SequenceError:
        return SequenceError(f"{path}, line {number}: expected {expected}, received {received}")

    for number, line in _lines(path):
        index, _, rest = line.partition(",")
        name, *numbers = rest.rsplit(",", 4)
        try:
            clip, box = int(index), [float(v) for v in numbers]
        except ValueError:
            clip, box = -1, []
        if len(box) != 4 or not name.strip():
            raise wrong(number, "clip,frame,x,y,w,h", repr(line))
        possible = (len(clips) - 1, len(clips)) if clips else (0,)
        if clip not in possible:
            raise wrong(number, f"clip {' or '.join(map(str, possible))}", str(clip))
        if not valid_boxes(box):
            raise wrong(number, "a box with width and height above 0", repr(line))
        frame = path.parent / name.strip()
        if not frame.is_file():
            raise wrong(number, "the file of a frame", f"{frame}, which does not exist")
        if clip == len(clips):
            clips.append(([], []))
        clips[clip][0].append(frame)
        clips[clip][1].append(box)
    if not clips:
        raise SequenceError(f"{path}: expected at least one clip, received none")
    return [ClipFiles(tuple(paths), np.array(boxes)) for paths, boxes in clips]
