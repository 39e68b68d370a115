"""Pictures of tracking: boxes, score and response drawn on a frame, and videos of such frames."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dagnet import OutputError, explain_writing

from .patches import as_frame
from .tracker import TrackResult

TRACKED = (255, 60, 40)  # RGB, 0 to 255
LOST = (255, 200, 0)
TRUTH = (60, 220, 80)
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi")
INSET = 0.28  # side of the response's inset, as a fraction of the frame's shorter side


def draw_box(frame: np.ndarray, box: Sequence[float], colour: Sequence[int]) -> None:
    """Draw the outline of a box into ``frame`` (H, W, 3), in place.

    Parameters
    ----------
    box : (x, y, w, h), 1-based, or (x1, y1, ..., x4, y4)
        Nothing is drawn if a number is not finite.
    colour : (red, green, blue)
    """
    values = np.asarray(box, dtype=np.float64)
    if not np.isfinite(values).all():
        return
    line = cv2.LINE_AA
    if values.size == 4:
        line = cv2.LINE_8  # upright lines need no smoothing, which would widen them
        x, y, w, h = values
        values = np.array([x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1])
    # Far beyond the frame nothing is seen, and OpenCV's integers overflow.
    corners = np.clip(values.reshape(-1, 1, 2) - 1, -1e5, 1e5).round().astype(np.int32)
    thickness = max(1, round(min(frame.shape[:2]) / 180))
    cv2.polylines(frame, [corners], True, tuple(colour), thickness, line)


def draw_text(frame: np.ndarray, text: str, place: tuple[int, int]) -> None:
    """Write white text with a dark rim into ``frame``, in place; ``place`` (x, y) is its base."""
    scale = min(frame.shape[:2]) / 500
    width = max(1, round(2 * scale))

    def write(x: int, y: int, colour: tuple[int, int, int]) -> None:
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(frame, text, (x, y), font, scale, colour, width, cv2.LINE_AA)

    # The rim is the text itself, moved: a thicker one has wider letters in OpenCV 5.
    for dx, dy in itertools.product((-width, 0, width), repeat=2):
        write(place[0] + dx, place[1] + dy, (0, 0, 0))
    write(*place, (255, 255, 255))


def draw_response(frame: np.ndarray, result: TrackResult) -> None:
    """Draw the best scale's enlarged response into the upper right corner, in place.

    Dark is the map's least value, bright its greatest; the cross is the peak after windowing.
    """
    side = max(8, round(INSET * min(frame.shape[:2])))
    fine = result.peak.fine
    low, high = float(fine.min()), float(fine.max())
    grey = np.uint8(255 * (fine - low) / (high - low)) if high > low else np.uint8(fine * 0)
    inset = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    inset = cv2.resize(inset, (side, side), interpolation=cv2.INTER_AREA)
    peak = tuple(
        round((place - 0.5) / cells * side)
        for place, cells in zip((result.peak.column, result.peak.row), fine.shape[::-1])
    )
    cv2.drawMarker(inset, peak, TRACKED, cv2.MARKER_CROSS, max(5, side // 8), 1, cv2.LINE_AA)
    cv2.rectangle(inset, (0, 0), (side - 1, side - 1), (255, 255, 255), 1)
    frame[:side, -side:] = inset


def draw_tracking(
    image: np.ndarray,
    box: Sequence[float],
    truth: Sequence[float] | None = None,
    result: TrackResult | None = None,
    number: int | None = None,
) -> np.ndarray:
    """A copy of a frame with the tracked box and what else is known.

    Parameters
    ----------
    image : uint8 array (H, W, 3), RGB, or (H, W), grey
    box : (x, y, w, h), 1-based
        Red; yellow if ``result`` says that the target is lost.
    truth : box or polygon, optional
        Green, under the tracked box.
    result : TrackResult, optional
        Adds the score and the response map.
    number : int, optional
        Of the frame, written with the score.

    Returns
    -------
    uint8 array (H, W, 3), RGB
    """
    frame = np.ascontiguousarray(as_frame(image)).copy()
    if result is not None:
        draw_response(frame, result)  # below the boxes, which may lie in its corner
    if truth is not None:
        draw_box(frame, truth, TRUTH)
    draw_box(frame, box, LOST if result is not None and result.lost else TRACKED)
    words = [] if number is None else [f"#{number}"]
    if result is not None:
        words += [f"score {result.score:.3g}"] + (["lost"] if result.lost else [])
    if words:
        margin = min(frame.shape[:2]) // 20
        draw_text(frame, "  ".join(words), (margin // 2, margin + 2))
    return frame


class VideoWriter:
    """Writes frames as an H.264 video, under a temporary name until it is complete.

    A context manager: ``with VideoWriter('out.mp4', fps=25) as video: video.add(frame)``. The
    file appears when the block is left, unless it is by an exception, or nothing was added.
    Missing folders are made.

    Parameters
    ----------
    path : path ending in one of ``VIDEO_SUFFIXES``
    fps : float
        Frames a second.

    Raises
    ------
    ValueError
        For another suffix.
    """

    def __init__(self, path: str | os.PathLike, fps: float = 25.0):
        self.path = Path(path)
        if self.path.suffix not in VIDEO_SUFFIXES:
            raise ValueError(
                f"{self.path}: the suffix of a video must be one of {', '.join(VIDEO_SUFFIXES)}"
            )
        self.fps = fps
        self._part: Path | None = None
        self._stream = None
        self._size: tuple[int, ...] = ()  # of the first frame, (width, height)
        self._count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 (H, W, 3), RGB; one of another size than the first is resized.

        Raises
        ------
        OutputError
            If the video cannot be written, or not go on.
        """
        # H.264 with colour at half resolution wants even sides: the last line of odd ones goes.
        if self._stream is None:
            self._size = frame.shape[1::-1]
            self._open()
        if frame.shape[1::-1] != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        width, height = (n // 2 * 2 for n in self._size)
        try:
            self._stream.send(np.ascontiguousarray(frame[:height, :width]))
        except OSError as exc:  # FFmpeg has ended; its own words are many lines
            raise self._stopped() from exc
        self._count += 1

    def _open(self) -> None:
        # Imported here since only videos need it, and it is slow to import.
        import imageio_ffmpeg

        with explain_writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: another run may be writing the same video.
            handle, part = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{self.path.stem}.", suffix=self.path.suffix
            )
        os.close(handle)
        self._part = Path(part)
        self._stream = imageio_ffmpeg.write_frames(
            part,
            tuple(n // 2 * 2 for n in self._size),
            fps=self.fps,
            macro_block_size=2,
            quality=7,
            ffmpeg_log_level="error",
        )
        self._stream.send(None)

    def _stopped(self) -> OutputError:
        return OutputError(
            f"{self.path}: FFmpeg could not write the video to its end: is the disk full? What was "
            "there before is as it was"
        )

    def __exit__(self, kind, value, trace) -> None:
        if self._stream is None:
            return
        try:
            self._stream.close()
            if kind is None:
                # FFmpeg tells nobody when it fails at the end.
                if self._frames_written() != self._count:
                    raise self._stopped()
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(self._part, 0o666 & ~umask)
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)

    def _frames_written(self) -> int:
        """Frames that the finished file announces; 0 if it is no video."""
        capture = cv2.VideoCapture(str(self._part))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return count
