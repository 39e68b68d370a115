"""Tests of dsiam_net.patches."""

import numpy as np
import pytest
from PIL import Image

from dsiam_net.patches import ExactPatches, as_frame, cut
from golden import assert_passes, golden


@golden("matlab_round")
def test_rounds_half_away_from_zero_as_matlab(case):
    assert_passes(case)


@golden("siamfc_subwindow_noresize", lambda name: name != "image")
def test_cuts_and_pads_as_get_subwindow_tracking(case):
    assert_passes(case)


@golden("siamfc_subwindow_noresize", lambda name: name == "image")
def test_a_square_box_cut_around_its_centre_gives_a_copy_of_its_pixels(case):
    image = case.tensor("im")[0]
    x, y, side = 5, 4, 3
    patch = cut(image, (y + side / 2, x + side / 2), side, np.zeros(3))
    assert np.array_equal(patch, image[:, y - 1 : y - 1 + side, x - 1 : x - 1 + side])
    patch[:] = -1
    assert image.min() >= 0


@golden("siamfc_crops_matlab")
def test_crops_as_the_original(case):
    assert_passes(case)


@golden("siamfc_pyramid_matlab")
def test_pyramid_as_the_original(case):
    assert_passes(case)


@golden("frames_first")
def test_average_colour_is_near_the_exact_mean(case):
    frame = case.matlab("im")[:, :, :, 0]
    patches = ExactPatches()
    colour = patches.average_colour(patches.image(frame))
    assert colour.dtype == np.float32
    np.testing.assert_allclose(colour, frame.mean(axis=(0, 1)), rtol=1e-5)


def test_a_patch_has_its_size_even_where_the_ratio_rounds_up():
    patches, image = ExactPatches(), np.full((3, 80, 70), 5.0, np.float32)
    for side in range(1, 300):
        for size in (127, 255):
            patch = patches.crop(image, (40, 30), side, size, np.full(3, 5.0))
            assert patch.shape == (3, size, size)
        np.testing.assert_allclose(patch, 5.0, rtol=1e-6)


def test_a_patch_beyond_the_image_is_the_fill_colour():
    image = np.zeros((3, 20, 30), np.float32)
    for centre in ((-50, 10), (90, 10), (10, -50), (10, 90)):
        patch = cut(image, centre, 11, np.array([1.0, 2.0, 3.0]))
        assert (patch == np.float32([1, 2, 3])[:, None, None]).all()


def test_the_average_image_is_subtracted_after_resizing(rng):
    patches = ExactPatches()
    image = rng.uniform(0, 255, (3, 50, 60)).astype(np.float32)
    colour, mean = np.zeros(3), np.float32([10, 20, 30])[:, None, None]
    arguments = (image, (25, 30), 21.0, 33, colour)
    difference = patches.crop(*arguments) - patches.crop(*arguments, average_image=mean)
    np.testing.assert_allclose(difference, np.broadcast_to(mean, difference.shape), atol=1e-4)
    sides = [20.0, 21.0, 22.0]
    plain = patches.pyramid(image, (25, 30), sides, 33, colour)
    moved = patches.pyramid(image, (25, 30), sides, 33, colour, mean)
    np.testing.assert_allclose(
        plain - moved, np.broadcast_to(mean, (3, *mean.shape[:1], 33, 33)), atol=1e-4
    )


def test_frames_may_be_grey_or_pil_images(rng):
    grey = rng.integers(0, 256, (12, 15), dtype=np.uint8)
    expected = np.stack([grey] * 3, axis=2)
    for image in (grey, grey[:, :, None], Image.fromarray(grey), Image.fromarray(expected)):
        assert np.array_equal(as_frame(image), expected)


@pytest.mark.parametrize(
    "image", [np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3)), np.zeros((2, 9), np.uint8), 3]
)
def test_anything_else_is_not_a_frame(image):
    with pytest.raises(ValueError, match="a frame must"):
        as_frame(image)
