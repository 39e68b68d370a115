"""A tracker behind the TraX protocol, by which the VOT toolkit and others run trackers.

The protocol (Čehovin, TraX: The visual Tracking eXchange protocol and library, Neurocomputing
2017) has images as paths or pixels, and regions in pixels from 0; ours are from 1. The library
(``vot-trax``, ``pip install 'dsiam[vot]'``) is imported when it is first needed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..sequences import read_image

INSTALL = "pip install 'dsiam[vot]'"


class Tracker(Protocol):
    """What ``serve`` needs of a tracker: ``dsiam_net.tracker.Tracker`` is one."""

    last: Any
    box: np.ndarray

    def init(self, image: np.ndarray, box: Any) -> None:
        """Start."""

    def update(self, image: np.ndarray) -> np.ndarray:
        """The box, x, y, w, h, 1-based."""


def import_trax() -> ModuleType:
    """The package ``trax``; ImportError with what to do where it is not installed."""
    try:
        import trax
        import trax.server
    except ImportError as exc:
        raise ImportError(
            f"the TraX protocol needs the package vot-trax ({exc}): {INSTALL}"
        ) from exc
    return trax


def frame_of(image: Any) -> np.ndarray:
    """A TraX image, given as a path or as pixels in memory, as uint8 (H, W, 3) or (H, W), RGB.

    Of 16 bits the upper 8 are taken, as ``read_image`` does.

    Raises
    ------
    ValueError
        If it is given in another way, or the file cannot be read.
    """
    kind = image.type()
    if kind == "path":
        return read_image(image.path())
    if kind != "memory":
        raise ValueError(f"expected an image as a path or in memory, received a {kind}")
    pixels = image.array()
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def region_of(region: Any) -> np.ndarray:
    """A TraX region as our trackers take it: x, y, w, h, or the 8 numbers of four corners, 1-based.

    Polygons of other than four corners become the upright box around them.

    Raises
    ------
    ValueError
        If it is neither a rectangle nor a polygon.
    """
    if region.type == "rectangle":
        return np.add(region.bounds(), [1, 1, 0, 0])
    if region.type != "polygon":
        raise ValueError(f"expected a rectangle or a polygon, received a {region.type}")
    points = np.array([region.get(index) for index in range(region.size())]) + 1
    if len(points) == 4:
        return points.ravel()
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])


def open_server(name: str, description: str) -> Any:
    """A ``trax.server.Server`` on the standard streams (or ``$TRAX_SOCKET``), as a client wants it.

    It takes rectangles and polygons, and images as paths or in memory.

    Raises
    ------
    ImportError
        As ``import_trax``.
    """
    trax = import_trax()
    return trax.server.Server(
        [trax.Region.RECTANGLE, trax.Region.POLYGON],
        [trax.Image.PATH, trax.Image.MEMORY],
        ["color"],
        tracker_name=name,
        tracker_description=description,
        tracker_family="DSiam",
    )


def serve(tracker: Tracker, server: Any) -> int:
    """Answer a client until it ends the session; a session may start the tracker more than once.

    Each answer is a rectangle, with the tracker's score as the property ``confidence`` (but for
    the frame that it is started in).

    Parameters
    ----------
    tracker : Tracker
    server : trax.server.Server

    Returns
    -------
    int : frames tracked, those that the tracker was started in among them.

    Raises
    ------
    ValueError
        What the tracker or an image is refused for; the client is told it, and the session ended.
    ConnectionError
        If the client is there no more, or what it says is not TraX.
    """
    trax = import_trax()
    frames = 0
    while True:
        try:
            request = server.wait()
        except trax.TraxException as exc:
            raise ConnectionError(f"the TraX client went away without an end: {exc}") from exc
        if request.type == trax.TraxStatus.QUIT:
            return frames
        try:
            frame = frame_of(request.image["color"])
            if request.type == trax.TraxStatus.INITIALIZE:
                _start(tracker, frame, request.objects)
            else:
                tracker.update(frame)
        except Exception as exc:
            server.quit(reason=str(exc))
            raise
        x, y, w, h = (float(value) for value in tracker.box)
        result = None if request.type == trax.TraxStatus.INITIALIZE else tracker.last
        properties = {} if result is None else {"confidence": float(result.score)}
        server.status([(trax.Rectangle.create(x - 1, y - 1, w, h), properties)])
        frames += 1


def _start(tracker: Tracker, frame: np.ndarray, objects: list[tuple[Any, dict]]) -> None:
    if len(objects) != 1:
        raise ValueError(f"expected one target, received {len(objects)}")
    tracker.init(frame, region_of(objects[0][0]))
