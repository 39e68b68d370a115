"""Tests of dsiam_net.variety, and of the hard cases that dsiam_net.scene and synthetic draw."""

import dataclasses
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest

from dsiam_net.boxes import box_to_center
from dsiam_net.pictures import Pictures
from dsiam_net.scene import Course, Cutout, Motion, line_kernel, rectangle_outline
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.variety import HARD, SIZE_RANGE, Variety
from test_pictures import RED, write_segmented
from test_synthetic import box_of_mask, edges

CIRCLE = np.stack([np.cos(np.arange(60) * np.pi / 30), np.sin(np.arange(60) * np.pi / 30)], 1)


def motion(rng, course, frame=(300, 400), size=40.0):
    return Motion(rng, frame, size, CIRCLE, 0.0, course)


def states(way, count=300):
    """Center, size, angle and narrowing, frame after frame."""
    found = []
    for _ in range(count):
        found.append((way.center.copy(), way.size, way.angle, way.narrowing))
        way.advance()
    return found


def smooth_videos(variety, size=(240, 320), **settings):
    return SyntheticVideos(
        5, size, photographs=False, occlusion=0, jumpiness=0, distractors=0, variety=variety,
        **settings,
    )  # fmt: skip


def test_without_settings_no_video_has_a_difficulty():
    for seed in range(50):
        trials = Variety().trials(np.random.default_rng(seed))
        course = dataclasses.replace(trials.course, period=1.0, phase=0.0)
        assert course == Course() and trials.sizes == SIZE_RANGE
        assert (trials.exposure, trials.faint, trials.defocus, trials.drift) == (0, 0, 0, 1)


def test_difficulties_are_drawn_in_their_shares():
    drawn = [HARD.trials(np.random.default_rng(seed)) for seed in range(2000)]
    small = np.mean([t.sizes == HARD.small_sizes for t in drawn])
    fast = np.mean([t.course.pace > 1 for t in drawn])
    faint = np.mean([t.faint > 0 for t in drawn])
    # Three standard deviations of a share of 2000.
    assert abs(small - HARD.small) < 0.032 and abs(fast - HARD.fast) < 0.032
    assert abs(faint - HARD.faint) < 0.029
    assert max(t.exposure for t in drawn) <= HARD.exposure


def test_a_fast_motion_keeps_to_its_longest_step():
    def steps(course):
        found = states(motion(np.random.default_rng(1), course, (2000, 2000)))
        return [np.hypot(*(b[0] - a[0])) / a[1] for a, b in pairwise(found)]

    fast, usual = steps(Course(pace=8.0, longest_step=0.8)), steps(Course())
    # Sizes change by a few hundredths from a frame to the next.
    assert max(fast) <= 0.85
    assert 4 * np.median(usual) < np.median(fast) and max(usual) < 0.4


def test_a_target_turns_round(rng):
    angles = [s[2] for s in states(motion(rng, Course(turn=0.2)), 100)]
    assert abs(angles[-1] - angles[0]) > 2 * np.pi


def test_a_target_grows_and_shrinks_within_its_limits(rng):
    sizes = np.array([s[1] for s in states(motion(rng, Course(growth=4.0, scales=(0.4, 2.4))))])
    assert sizes.min() >= 0.4 * 40 - 1e-9 and sizes.max() <= 2.4 * 40 + 1e-9
    assert sizes.max() / sizes.min() > 3


def test_a_target_turns_away_and_back(rng):
    course = Course(narrowest=0.4, period=30.0)
    widths = np.array([s[3] for s in states(motion(rng, course), 60)])
    assert widths.min() == pytest.approx(0.4, abs=0.01) and widths.max() == pytest.approx(
        1, abs=0.01
    )
    cutout = Cutout(np.full((40, 40, 3), 255, np.uint8), rectangle_outline(1, 1))
    corners = cutout.corners(np.array([30.0, 30.0]), 40, 0.0, 0.5)
    assert np.ptp(corners, axis=0).tolist() == [10, 20]
    image = np.zeros((60, 60, 3), np.uint8)
    cover = cutout.draw(image, np.array([29.5, 29.5]), 40, 0.0, narrowing=0.5)
    assert box_of_mask(cover).tolist() == [26, 21, 10, 20]


def test_what_moves_while_a_frame_is_exposed_is_smeared():
    cutout = Cutout(np.full((60, 60, 3), 255, np.uint8), rectangle_outline(2, 2))
    sharp, smeared = np.zeros((2, 60, 90, 3), np.uint8)
    center = np.array([44.5, 29.5])
    cover = cutout.draw(sharp, center, 30, 0.0)
    again = cutout.draw(smeared, center, 30, 0.0, smear=np.array([12.0, 0.0]))
    # The box is that of the middle of the exposure.
    assert np.array_equal(cover, again)
    row = smeared[30, :, 0].astype(float)
    # Columns 30 to 59 are covered; along 12 pixels brightness rises in a straight line, half of
    # it outside, and nothing is lost.
    assert row[30:60].sum() + row[:30].sum() + row[60:].sum() == pytest.approx(30 * 255, rel=0.01)
    assert row[36:54].min() == 255 and row[:23].max() == 0 and row[67:].max() == 0
    np.testing.assert_allclose(row[24:36], 255 * (np.arange(12) + 0.5) / 12, atol=255 / 12)
    assert np.array_equal(smeared[:14], sharp[:14])


def test_blur_along_a_way_is_even_and_has_its_length():
    kernel = line_kernel(np.array([8.0, 0.0]))
    assert kernel.shape == (1, 9) and kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel[0, 1:-1], kernel[0, 4], rtol=1e-5)
    slanted = line_kernel(np.array([6.0, -4.0]))
    assert slanted.shape == (5, 7) and slanted.sum() == pytest.approx(1)
    np.testing.assert_allclose(slanted, slanted[::-1, ::-1], atol=1e-6)
    y, x = np.mgrid[-2:3, -3:4]
    assert (slanted * x * y).sum() < 0  # down while it goes left


def test_a_cutout_that_shrinks_much_shows_the_mean_of_its_texture():
    texture = np.zeros((160, 160, 3), np.uint8)
    texture[:, ::2] = 200
    spread = []
    for copies in (False, True):
        image = np.zeros((30, 30, 3), np.uint8)
        cutout = Cutout(texture, rectangle_outline(2, 2), copies)
        cutout.draw(image, np.array([14.6, 14.5]), 19.7, 0.1)
        inner = image[8:22, 8:22].astype(float)
        spread.append(inner.std())
        if copies:
            assert inner.mean() == pytest.approx(100, abs=3)
    assert spread[1] < 5 < spread[0]


def test_small_targets_are_small():
    videos = SyntheticVideos(1, (360, 480), photographs=False, variety=Variety(small=1.0))
    for index in range(6):
        size = next(videos.frames(index)).box[2:]
        # A circle of 0.06 to 0.12 of 360 pixels, by 0.7 to 1.4, and the outlines' flatness.
        assert 8 < size.min() and size.max() < 61


def test_faint_targets_have_nearly_the_colour_of_the_background():
    def contrast(variety):
        found = []
        for index in range(8):
            frame = next(smooth_videos(variety).frames(index))
            inside, outside = frame.image[frame.target > 250], frame.image[frame.target == 0]
            found.append(abs(inside.mean() - outside.mean()))
        return np.median(found)

    assert contrast(Variety(faint=1.0)) < 0.6 * contrast(Variety())


def test_defocused_videos_are_blurred():
    def sharpness(variety):
        frames = [next(smooth_videos(variety).frames(i)).image for i in range(5)]
        return np.mean([cv2.Laplacian(f, cv2.CV_64F).std() for f in frames])

    # Two pixels of blur; noise, which is added after it, stays.
    assert sharpness(Variety(defocused=1.0, defocus=(2.0, 2.0))) < 0.8 * sharpness(Variety())


def test_the_box_of_a_hard_video_is_that_of_the_targets_mask(tmp_path):
    pictures = Pictures([write_segmented(tmp_path)])
    videos = SyntheticVideos(3, (180, 240), pictures=pictures, variety=HARD)
    for index in range(10):
        for frame in islice(videos.frames(index), 0, 30, 5):
            difference = edges(frame.box) - edges(box_of_mask(frame.target))
            assert np.abs(difference).max() < 1.5, (index, difference)
            x0, y0, x1, y1 = edges(frame.box)
            assert x0 > 0 and y0 > 0 and x1 < 242 and y1 < 182


def test_targets_are_things_cut_out_of_pictures(tmp_path):
    pictures = Pictures([write_segmented(tmp_path)])
    variety = Variety(photographs=1.0, segments=1.0)
    videos = smooth_videos(variety, (120, 160), pictures=pictures)
    for index in range(5):
        frame = next(videos.frames(index))
        # A red disc; light and glow change its colours a little.
        inside = frame.image[frame.target > 250].astype(float)
        assert inside[:, 0].mean() > 2 * inside[:, 1:].mean() and RED[0] > 2 * RED[1]
        assert 0.9 < frame.box[2] / frame.box[3] < 1.1
        _, size = box_to_center(frame.box[None])
        assert (frame.target > 127).sum() == pytest.approx(np.pi / 4 * size.prod(), rel=0.1)


def test_hard_videos_depend_on_seed_and_index_alone(tmp_path):
    pictures = Pictures([write_segmented(tmp_path)])

    def make(seed):
        return SyntheticVideos(seed, (96, 128), pictures=pictures, variety=HARD)

    frames, boxes = make(2).video(1, 6)
    again, boxes_again = make(2).video(1, 4)
    assert np.array_equal(frames[:4], again) and np.array_equal(boxes[:4], boxes_again)
    assert not np.array_equal(make(3).video(1, 6)[0], frames)


@pytest.mark.parametrize(
    "settings",
    [
        {"small": 1.5}, {"exposure": -0.1}, {"paces": (3.0, 2.0)}, {"drift": 0.0},
        {"scales": (0.4, 4.0)}, {"small_sizes": (0.1, 0.5)}, {"defocus": (1.0, 2.0, 3.0)},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        Variety(**settings)
