"""Several targets of one video, followed by one evaluation of the network a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .tracker import Tracker, update_together


class TrackerGroup:
    """As many trackers as there are targets; their patches go through the network together.

    Boxes are those of trackers that follow the targets one by one, but for what rounding in the
    products of greater batches can change. On a GPU, which one target's patches do not fill, it
    is much faster than that; on the CPU about as fast.

    Parameters
    ----------
    tracker : Tracker
        From ``create_tracker``. Its kind, settings, patches and network serve all targets; it
        follows none itself, and what it follows is left alone.

    Attributes
    ----------
    trackers : list of Tracker
        One for each target, in the order of the boxes: ``last`` of each says more.
    """

    def __init__(self, tracker: Tracker):
        self._model = tracker
        self.trackers: list[Tracker] = []

    @property
    def boxes(self) -> np.ndarray:
        """The present boxes, float64 (K, 4): (x, y, w, h), 1-based. RuntimeError before ``init``"""
        self._check_started()
        return np.array([tracker.box for tracker in self.trackers])

    def init(self, image: Any, boxes: Sequence[Sequence[float]]) -> None:
        """Take the targets in the first frame.

        Parameters
        ----------
        image : as ``Tracker.init`` takes it
        boxes : K regions, each as ``Tracker.init`` takes it

        Raises
        ------
        ValueError
            If there is no box, the image is not a frame or a box not a region in it.
        """
        if len(boxes) == 0:
            raise ValueError("there must be a target at least, received no boxes")
        model, trackers = self._model, []
        for box in boxes:
            tracker = type(model)(model.network.sibling(), model.settings, model.patches)
            tracker.init(image, box)
            trackers.append(tracker)
        self.trackers = trackers

    def update(self, image: Any) -> np.ndarray:
        """Find the targets in the next frame.

        Returns
        -------
        float64 array (K, 4) : the boxes (x, y, w, h), 1-based

        Raises
        ------
        RuntimeError
            If ``init`` was not called.
        ValueError
            If the image is not a frame.
        """
        self._check_started()
        return np.array(update_together(self.trackers, image))

    def _check_started(self) -> None:
        if not self.trackers:
            raise RuntimeError("the group has no targets yet: call init(image, boxes) first")
