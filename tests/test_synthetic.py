"""Tests of dsiam_net.synthetic, dsiam_net.scene and dsiam_net.textures."""

import importlib.util
from itertools import islice

import cv2
import numpy as np
import pytest

from dsiam_net import textures
from dsiam_net.boxes import box_to_center
from dsiam_net.scene import Cutout, random_outline, rectangle_outline
from dsiam_net.synthetic import LEAST_CONTRAST, SyntheticVideos
from dsiam_net.textures import fractal, load_photographs, procedural

needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed"
)
PHOTOGRAPHS = [False, pytest.param(True, marks=needs_photographs)]


def box_of_mask(mask):
    rows, columns = np.nonzero(mask >= 128)
    x, y = columns.min() + 1, rows.min() + 1
    return np.array([x, y, columns.max() + 2 - x, rows.max() + 2 - y])


def edges(box):
    return np.concatenate([box[:2], box[:2] + box[2:]])


@pytest.mark.parametrize("photographs", PHOTOGRAPHS)
def test_a_video_depends_on_seed_and_index_alone(photographs):
    def make(seed):
        return SyntheticVideos(seed, (64, 80), photographs=photographs)

    asked = make(4)
    frames, boxes = asked.video(2, 5)
    assert frames.shape == (5, 64, 80, 3) and frames.dtype == np.uint8
    assert boxes.shape == (5, 4) and boxes.dtype == np.float64
    asked.video(0, 2)
    for source in (asked, make(4)):
        again, boxes_again = source.video(2, 5)
        assert np.array_equal(again, frames) and np.array_equal(boxes_again, boxes)
    assert not np.array_equal(asked.video(3, 5)[0], frames)
    assert not np.array_equal(make(5).video(2, 5)[0], frames)


def test_a_longer_video_begins_like_a_shorter_one():
    videos = SyntheticVideos(1, (64, 80))
    short, long = videos.video(0, 4), videos.video(0, 9)
    assert all(np.array_equal(a, b[:4]) for a, b in zip(short, long))


@pytest.mark.parametrize("photographs", PHOTOGRAPHS)
def test_the_box_is_that_of_the_targets_mask(photographs):
    videos = SyntheticVideos(7, (120, 160), photographs=photographs)
    for index in range(8):
        for frame in islice(videos.frames(index), 0, 40, 4):
            difference = edges(frame.box) - edges(box_of_mask(frame.target))
            assert np.abs(difference).max() < 1, (index, difference)
            # The whole target lies in the frame.
            x0, y0, x1, y1 = edges(frame.box)
            assert x0 > 0 and y0 > 0 and x1 < 162 and y1 < 122


def test_the_box_of_a_cutout_of_known_size_is_exact():
    cutout = Cutout(np.full((60, 60, 3), 255, np.uint8), rectangle_outline(1, 2))
    image = np.zeros((50, 70, 3), np.uint8)
    # 40 pixels wide and 20 high around pixel edges: columns 10 to 49, rows 15 to 34.
    cover = cutout.draw(image, np.array([29.5, 24.5]), 40, 0.0)
    assert box_of_mask(cover).tolist() == [11, 16, 40, 20]
    assert image[16:34, 11:49].min() == 255 and image[:14].max() == 0
    corners = cutout.corners(np.array([29.5, 24.5]), 40, 0.0)
    assert corners.min(axis=0).tolist() == [9.5, 14.5]
    turned = cutout.draw(image, np.array([35.0, 25.0]), 30, np.pi / 2)
    assert box_of_mask(turned)[2:].tolist() == pytest.approx([15, 30], abs=1)


def test_a_cutout_outside_the_frame_leaves_it():
    cutout = Cutout(np.full((20, 20, 3), 255, np.uint8), rectangle_outline(2, 2))
    image = np.zeros((30, 30, 3), np.uint8)
    assert not cutout.draw(image, np.array([-40.0, 10.0]), 20, 0.3).any() and not image.any()
    partly = cutout.draw(image, np.array([0.0, 29.0]), 10, 0.0)
    assert partly[29, 0] == 255 and (partly > 0).sum() == 36


def test_the_target_moves_turns_grows_and_jumps():
    videos = SyntheticVideos(3, (96, 128), jumpiness=0.1)
    steps, ratios = [], []
    for index in range(10):
        _, boxes = videos.video(index, 60)
        center, size = box_to_center(boxes)
        step = np.hypot(*np.diff(center, axis=0).T) / np.sqrt(size.prod(axis=1))[1:]
        steps.append(step)
        areas = size.prod(axis=1)
        ratios.append(areas.max() / areas.min())
    steps = np.concatenate(steps)
    assert 0.01 < np.median(steps) < 0.15
    assert 0.3 < steps.max() < 1.2  # a jump, which stays within a search region
    assert max(ratios) > 1.5


def test_a_video_without_jumps_is_smooth():
    videos = SyntheticVideos(3, (96, 128), jumpiness=0)
    for index in range(6):
        center, size = box_to_center(videos.video(index, 60)[1])
        step = np.hypot(*np.diff(center, axis=0).T) / np.sqrt(size.prod(axis=1))[1:]
        assert step.max() < 0.4


def test_occlusion_is_partial_and_can_be_left_out():
    def hidden(videos):
        return np.array([[f.hidden for f in islice(videos.frames(i), 40)] for i in range(12)])

    shares = hidden(SyntheticVideos(0, (64, 80), occlusion=1))
    assert shares.max() < 0.85
    assert (shares.max(axis=1) > 0.05).mean() > 0.8
    assert ((shares > 0.02).mean(axis=1) < 0.6).all()
    assert hidden(SyntheticVideos(0, (64, 80), occlusion=0)).max() == 0


def test_the_target_differs_from_what_is_behind_it():
    for index in range(12):
        frame = next(SyntheticVideos(2, (64, 80), distractors=0, occlusion=0).frames(index))
        inside, outside = frame.image[frame.target > 250], frame.image[frame.target == 0]
        texture_differs = inside.std(axis=0).max() > 8
        mean_differs = abs(inside.mean() - outside.mean()) > LEAST_CONTRAST / 3
        assert texture_differs or mean_differs


def test_distractors_leave_the_target_as_it_is():
    alone, among = (SyntheticVideos(1, (64, 80), distractors=d, occlusion=0) for d in (0, 3))
    frames = [next(v.frames(5)) for v in (alone, among)]
    np.testing.assert_array_equal(frames[0].box, frames[1].box)
    np.testing.assert_array_equal(frames[0].target, frames[1].target)


def test_clips_are_videos_of_their_own():
    videos = SyntheticVideos(9, (64, 80), length=3)
    clip = videos.clip(0, 1)
    assert clip.frames.shape == (3, 3, 64, 80) and clip.frames.dtype == np.float32
    assert clip.boxes.shape == (3, 4) and 0 <= clip.frames.min() and clip.frames.max() <= 255
    again = SyntheticVideos(9, (64, 80), length=3).clip(0, 1)
    assert np.array_equal(clip.frames, again.frames) and np.array_equal(clip.boxes, again.boxes)
    others = [videos.clip(1, 1), videos.clip(0, 2), SyntheticVideos(8, (64, 80), 3).clip(0, 1)]
    assert not any(np.array_equal(clip.frames, other.frames) for other in others)


def test_outlines_lie_within_the_unit_circle_and_do_not_cross_themselves(rng):
    for _ in range(20):
        outline = random_outline(rng)
        assert np.hypot(*outline.T).max() == pytest.approx(1)
        angles = np.unwrap(np.arctan2(outline[:, 1], outline[:, 0]))
        assert (np.diff(angles) > 0).all()
        assert np.ptp(outline, axis=0).min() > 0.6


def test_textures_have_the_size_asked_for_and_structure(rng):
    for _ in range(20):
        image = procedural(rng, 40, 56)
        assert image.shape == (40, 56, 3) and image.dtype == np.uint8
        assert image.std(axis=(0, 1)).max() > 2
    field = fractal(rng, 30, 20)
    assert (field.min(), field.max()) == (0, 1)


@needs_photographs
def test_photographs_are_those_of_the_package(monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("socket.socket.connect", no_network)
    images = load_photographs()
    assert len(images) == len(textures.PHOTOGRAPHS)
    assert all(image.ndim == 3 and image.shape[2] == 3 for image in images)
    monkeypatch.setattr(textures, "PHOTOGRAPHS", ("none.png",))
    with pytest.raises(RuntimeError, match=r"none\.png"):
        load_photographs()


def test_photographs_without_scikit_image_are_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="scikit-image, which is not installed"):
        SyntheticVideos(photographs=True)


def test_the_number_of_threads_changes_nothing():
    videos = SyntheticVideos(6, (240, 320))
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one, _ = videos.video(0, 2)
        cv2.setNumThreads(4)
        four, _ = videos.video(0, 2)
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize(
    "settings",
    [{"size": (20, 320)}, {"length": 0}, {"distractors": -1}, {"occlusion": 2}, {"jumpiness": -1}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        SyntheticVideos(**settings)
