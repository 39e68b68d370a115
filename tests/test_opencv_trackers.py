"""Tests of OpenCV's trackers behind our interface."""

import cv2
import numpy as np
import pytest

from dsiam_net import opencv_trackers
from dsiam_net.metrics import overlaps
from dsiam_net.opencv_trackers import CLASSES, OpenCVTracker
from dsiam_net.synthetic import SyntheticVideos


class Recorder:
    """Stands for a tracker of OpenCV: keeps what it is given, answers what it is told."""

    def __init__(self, answer=(True, (10, 20, 30, 40))):
        self.answer, self.images, self.box = answer, [], None

    def init(self, image, box):
        self.images.append(image)
        self.box = box

    def update(self, image):
        self.images.append(image)
        return self.answer


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(opencv_trackers, "_maker", lambda name: lambda: made)
    return made


def frame(height=60, width=80):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 200
    return image


def test_boxes_are_one_based_here_and_zero_based_in_opencv(recorder):
    tracker = OpenCVTracker("csrt")
    tracker.init(frame(), (11, 21, 30, 25))
    assert recorder.box == (10, 20, 30, 25)
    assert tracker.update(frame()).tolist() == [11, 21, 30, 40]


def test_frames_are_rgb_here_and_bgr_in_opencv(recorder):
    tracker = OpenCVTracker("csrt")
    tracker.init(frame(), (11, 21, 30, 25))
    tracker.update(frame()[:, :, 0])
    colour, grey = recorder.images
    assert colour[0, 0].tolist() == [0, 0, 200] and grey[0, 0].tolist() == [200, 200, 200]


@pytest.mark.parametrize(
    "region, expected",
    [
        ((10.5, 20.4, 30, 25), (10, 19, 30, 25)),
        ((-5, 50, 20, 30), (0, 49, 14, 11)),
        ((5, 6, 25, 4, 27, 16, 7, 18), (4, 3, 22, 14)),
    ],
)
def test_opencv_gets_the_whole_pixels_of_the_frame(recorder, region, expected):
    OpenCVTracker("mil").init(frame(), region)
    assert recorder.box == expected


def test_a_lost_target_has_no_box(recorder):
    recorder.answer = (False, (0, 0, 0, 0))
    tracker = OpenCVTracker("mil")
    tracker.init(frame(), (11, 21, 30, 25))
    assert np.isnan(tracker.update(frame())).all()


def test_mil_is_always_there_and_follows_a_target():
    video, truth = SyntheticVideos(3, photographs=False, occlusion=0, distractors=0).video(0, 6)
    tracker = OpenCVTracker("mil")
    tracker.init(video[0], truth[0])
    boxes = np.array([tracker.update(image) for image in video[1:]])
    assert overlaps(boxes, truth[1:]).min() > 0.5


def test_what_is_missing_or_unknown_is_said(monkeypatch):
    with pytest.raises(ValueError, match=r"must be one of .*csrt.*'csr'"):
        OpenCVTracker("csr")
    monkeypatch.setattr(opencv_trackers, "_maker", lambda name: cv2 if name == "mil" else None)
    assert opencv_trackers.opencv_trackers() == ("mil",)
    for name in set(CLASSES) - {"mil"}:
        with pytest.raises(ValueError, match=rf"no tracker '{name}', only mil; opencv-contrib"):
            OpenCVTracker(name)


def test_use_before_init_and_boxes_outside_are_refused():
    tracker = OpenCVTracker("mil")
    with pytest.raises(RuntimeError, match="call init"):
        tracker.update(frame())
    with pytest.raises(ValueError, match="no whole pixel"):
        tracker.init(frame(), (200, 10, 20, 20))
    with pytest.raises(ValueError, match="frame"):
        tracker.init(np.zeros((5, 5)), (1, 1, 2, 2))
