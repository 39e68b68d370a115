"""Tests of dsiam_net.patches_fast, against SciPy's interpolation and ExactPatches."""

import numpy as np
import pytest
import scipy.ndimage

from dsiam_net.patches import ExactPatches
from dsiam_net.patches_fast import FastPatches
from dsiam_net.peak import Peak, displacement, find_peak
from dsiam_net.settings import get_preset
from golden import golden

GREY_LEVELS = 1.0  # OpenCV interpolates 8 bits in 1/32 of a pixel, and rounds


@pytest.fixture
def frame(rng):
    """Smooth random colours, (70, 90, 3)."""
    noise = rng.uniform(0, 255, (70, 90, 3))
    return np.uint8(scipy.ndimage.gaussian_filter(noise, (3, 3, 0)) * 4 % 256)


def sampled(frame, centre, side, size, colour):
    """What a patch should be: bilinear samples at the middles of its pixels."""
    offsets = (np.arange(size) + 0.5) / size * side - side / 2
    y, x = (c + offsets - 1.5 for c in centre)
    grid = np.meshgrid(y, x, indexing="ij")
    channels = [
        scipy.ndimage.map_coordinates(
            frame[:, :, c].astype(float), grid, order=1, mode="grid-constant", cval=colour[c]
        )
        for c in range(3)
    ]
    return np.stack(channels)


@pytest.mark.parametrize(
    "centre, side, size",
    [((30.2, 41.7), 33.3, 127), ((35, 45), 60.5, 51), ((3.1, 88.4), 40, 64), ((-5, 20), 31, 33)],
)
def test_a_patch_is_sampled_at_the_middles_of_its_pixels(frame, centre, side, size):
    patches, colour = FastPatches(), np.float32([10, 120, 250])
    patch = patches.crop(patches.image(frame), centre, side, size, colour)
    assert patch.dtype == np.float32 and patch.shape == (3, size, size)
    expected = sampled(frame, centre, side, size, colour)
    steep = 255 / 32  # how much a 32nd of a pixel is worth at the steepest edge
    assert np.abs(patch - expected).mean() < GREY_LEVELS
    assert np.abs(patch - expected).max() < GREY_LEVELS + steep


def test_a_square_of_whole_pixels_is_copied(frame):
    patches = FastPatches()
    x, y, side = 12, 7, 21
    patch = patches.crop(frame, (y + side / 2, x + side / 2), side, side, np.zeros(3))
    expected = frame[y - 1 : y - 1 + side, x - 1 : x - 1 + side]
    assert np.array_equal(patch, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("ratio", [3, 5, 5.7])
def test_a_great_square_is_averaged_not_skipped_through(rng, ratio):
    size = 24
    smooth = 128 + 2000 * scipy.ndimage.gaussian_filter(
        rng.uniform(-0.5, 0.5, (200, 240, 3)), (3 * ratio, 3 * ratio, 0)
    )
    noise = rng.uniform(-60, 60, smooth.shape)
    frame = np.uint8(np.clip(smooth + noise, 0, 255))
    arguments = ((101.3, 120.9), size * ratio, size, np.zeros(3))
    patch = FastPatches().crop(frame, *arguments)
    truth = sampled(smooth, *arguments)
    skipping = sampled(frame, *arguments)
    assert np.abs(patch - truth).mean() < 0.6 * np.abs(skipping - truth).mean()


def test_any_side_and_place_gives_a_patch(frame):
    patches, colour = FastPatches(), np.float32([1, 2, 3])
    for side in (1e-3, 0.7, 1, 255, 5e3, 6e4, 1e6):
        for centre in ((1, 1), (35.5, 45.5), (1e4, -1e4), (-1e9, 1e9)):
            patch = patches.crop(frame, centre, side, 127, colour)
            assert patch.shape == (3, 127, 127) and np.isfinite(patch).all()
    assert (patches.crop(frame, (1e6, 1e6), 50, 9, colour) == colour[:, None, None]).all()


def test_a_pyramid_is_its_crops_and_the_average_image_is_subtracted(frame):
    patches, colour = FastPatches(), np.zeros(3)
    sides = [30.1, 33.0, 36.2]
    pyramid = patches.pyramid(frame, (30, 40), sides, 45, colour)
    for patch, side in zip(pyramid, sides):
        assert np.array_equal(patch, patches.crop(frame, (30, 40), side, 45, colour))
    mean = np.float32([10, 20, 30])[:, None, None]
    moved = patches.pyramid(frame, (30, 40), sides, 45, colour, mean)
    np.testing.assert_allclose(pyramid - moved, np.broadcast_to(mean, pyramid.shape), atol=1e-4)


def test_the_average_colour_is_the_mean(frame):
    colour = FastPatches().average_colour(frame)
    assert colour.dtype == np.float32
    np.testing.assert_allclose(colour, frame.mean(axis=(0, 1)), rtol=1e-6)


@golden("frames_first")
def test_patches_are_near_the_exact_ones(case):
    frame = case.matlab("im")[:, :, :, 0]
    centre, side = (frame.shape[0] / 2, frame.shape[1] / 2), 101
    crops = []
    for patches in (ExactPatches(), FastPatches()):
        image = patches.image(frame)
        colour = patches.average_colour(image)
        # A centre for which the exact square is not moved by rounding.
        crops.append(patches.crop(image, np.floor(centre) + 0.5, side, 127, colour))
    assert np.abs(crops[0] - crops[1]).mean() < 3


def test_the_middle_of_the_map_is_no_move():
    settings = get_preset("siamfc")
    maps = np.zeros((1, 17, 17), np.float32)
    maps[0, 8, 8] = 1
    peak = find_peak(maps, settings)
    # The enlarged map has two equal middle cells; the first of them is half a cell before.
    half_a_cell = 0.5 * settings.total_stride / settings.response_up * 100 / settings.instance_size
    np.testing.assert_allclose(FastPatches().move(peak, 100, settings), [-half_a_cell] * 2)
    exact = ExactPatches().move(peak, 100, settings)
    assert np.array_equal(exact, displacement(peak, 100, settings))


def test_a_map_without_a_peak_is_no_move():
    settings = get_preset("siamfc")
    for value in (0.0, -3.0, np.nan):
        flat = np.full((272, 272), value, np.float32)
        peak = Peak(1, value, 9, 9, flat, flat)
        assert FastPatches().move(peak, 100, settings).tolist() == [0, 0]
