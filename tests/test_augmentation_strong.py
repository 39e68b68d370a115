"""Tests of dsiam_net.augmentation_strong."""

from dataclasses import replace

import numpy as np
import pytest

from dsiam_net.augmentation import Source
from dsiam_net.augmentation_strong import (
    Picture,
    Strong,
    View,
    hide_part,
    motion_kernel,
    noise,
    shrunk_and_enlarged,
    warp,
)
from dsiam_net.crops import ColourStatistics

# Geometry alone: no photometric change, nothing blurred or hidden.
GEOMETRY = Strong(
    brightness=0, contrast=0, gamma=0, saturation=0, color=0, grayscale=0, blur=0,
    low_resolution=0, noise=0, occlusion=0,
)  # fmt: skip
NO_GEOMETRY = {
    "max_rotation": 0, "max_large_rotation": 0, "max_scale": 0, "max_aspect": 0,
    "max_shift": 0, "max_exemplar_shift": 0, "flip": 0,
}  # fmt: skip
PLAIN = Picture(1.0, 1.0, 1.0, np.zeros(3), 1.0, 0.0, 0.0, 0.0, 0.0)


def source(exemplar, instance=None, still=False, other=None):
    statistics = ColourStatistics(np.full(3, 120.0), np.diag([900.0, 900.0, 900.0]))
    instance = exemplar if instance is None else instance
    target = np.array([60.0, 40.0])
    statistics = {"exemplar": statistics, "instance": statistics}
    return Source(
        exemplar, instance, target, target, statistics, still, other or (lambda: instance)
    )


def dot(size=351):
    """A crop with a bright, round spot in its middle."""
    place = np.arange(size) - size // 2
    spot = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 2.0**2))
    return np.repeat(np.round(255 * spot)[:, :, None], 3, axis=2).astype(np.uint8)


def centre_of_mass(picture):
    weights = picture.astype(float)
    return np.array([(g * weights).sum() / weights.sum() for g in np.indices(picture.shape)])


# Geometry


@pytest.mark.parametrize("still", [False, True])
def test_the_target_lies_at_the_offset(rng, still):
    """A spot in the middle of the target, for 200 random warps, to 0.6 pixels."""
    crop = dot()
    for _ in range(200):
        made = GEOMETRY.pair(source(crop, still=still), 127, 255, rng)
        for picture, offset in (
            (made.exemplar[0], made.exemplar_offset),
            (made.instance[0], made.instance_offset),
        ):
            at = centre_of_mass(picture) - (picture.shape[0] - 1) / 2
            assert np.abs(at - offset).max() < 0.6


def test_the_target_stays_at_the_offset_through_blur_and_low_resolution(rng):
    settings = replace(GEOMETRY, blur=1.0, low_resolution=1.0)
    for _ in range(100):
        made = settings.pair(source(dot()), 127, 255, rng)
        at = centre_of_mass(made.instance[0]) - 127
        assert np.abs(at - made.instance_offset).max() < 0.6


def test_without_differences_the_middle_is_seen(rng):
    crop = rng.integers(0, 256, (301, 301, 3), dtype=np.uint8)
    made = replace(GEOMETRY, **NO_GEOMETRY).pair(source(crop), 127, 239, rng)
    np.testing.assert_array_equal(made.instance, crop[31:-31, 31:-31].transpose(2, 0, 1))
    np.testing.assert_array_equal(made.exemplar, crop[87:-87, 87:-87].transpose(2, 0, 1))


def test_a_quarter_turn_and_a_mirror_are_exact(rng):
    """Columns turn towards rows, clockwise in a picture; the mirror comes first."""
    crop = rng.integers(0, 256, (51, 51, 3), dtype=np.uint8)
    size = np.array([20.0, 10.0])
    turned, target = warp(crop, 51, View(np.pi / 2, 1.0, 1.0, False, np.zeros(2)), size)
    np.testing.assert_array_equal(turned, np.rot90(crop, -1))
    np.testing.assert_allclose(target, [10, 20])
    mirrored, _ = warp(crop, 51, View(0.0, 1.0, 1.0, True, np.zeros(2)), size)
    np.testing.assert_array_equal(mirrored, crop[:, ::-1])
    both, _ = warp(crop, 51, View(np.pi / 2, 1.0, 1.0, True, np.zeros(2)), size)
    np.testing.assert_array_equal(both, np.rot90(crop[:, ::-1], -1))


def test_shifts_move_the_target_by_so_many_pixels(rng):
    crop = rng.integers(0, 256, (61, 61, 3), dtype=np.uint8)
    seen, _ = warp(crop, 31, View(0.0, 1.0, 1.0, False, np.array([3.0, -5.0])), np.ones(2))
    np.testing.assert_array_equal(seen, crop[15 - 3 : 46 - 3, 15 + 5 : 46 + 5])


def test_a_target_of_twice_the_size_has_twice_the_size():
    """A rectangle of 20 x 40 pixels; the edges of warps are smooth, so areas are compared."""
    crop = np.zeros((201, 201, 3), np.uint8)
    crop[90:110, 80:120] = 255
    view = View(0.0, 1.5, 2.0, False, np.zeros(2))
    seen, target = warp(crop, 151, view, np.array([20.0, 40.0]))
    np.testing.assert_allclose(target, [40, 60])
    assert seen[:, :, 0].sum() / 255 == pytest.approx(40 * 60, rel=0.01)


def test_what_lies_outside_has_the_crops_mean_colour(rng):
    crop = rng.integers(0, 256, (51, 51, 3), dtype=np.uint8)
    seen, _ = warp(crop, 81, View(0.0, 1.0, 1.0, False, np.zeros(2)), np.ones(2))
    assert np.abs(seen[0, 0] - crop.mean(axis=(0, 1))).max() <= 1


def test_differences_of_a_pair_are_within_the_limits(rng):
    """Angle, size, aspect and shifts of 2000 pairs fill the ranges that are set."""
    views = [Strong()._views(rng, 1.0) for _ in range(2000)]
    angles = np.abs(np.rad2deg([x.angle - z.angle for z, x in views]))
    assert (angles > 15).mean() == pytest.approx(0.15 * 45 / 60, abs=0.03)
    assert 55 < angles.max() <= 60
    sizes = np.array([np.sqrt(x.width * x.height / (z.width * z.height)) for z, x in views])
    assert 1.19 < sizes.max() <= 1.2 + 1e-9 and 1 / (1.2 + 1e-9) <= sizes.min() < 1 / 1.19
    aspects = np.array([x.width / x.height * z.height / z.width for z, x in views])
    assert 1.07 < aspects.max() <= 1.08 + 1e-9
    shifts = np.array([x.offset for _, x in views])
    assert shifts.shape == (2000, 2) and 31 < np.abs(shifts).max() <= 32
    assert 3.8 < np.abs([z.offset for z, _ in views]).max() <= 4
    assert all(z.mirrored == x.mirrored for z, x in views)
    assert np.mean([x.mirrored for _, x in views]) == pytest.approx(0.5, abs=0.05)


def test_still_images_differ_more(rng):
    views = [Strong(large_rotation=0)._views(rng, 1.5) for _ in range(1000)]
    angles = np.abs(np.rad2deg([x.angle - z.angle for z, x in views]))
    assert 21 < angles.max() <= 22.5
    sizes = [np.sqrt(x.width * x.height / (z.width * z.height)) for z, x in views]
    assert 1.2**1.4 < max(sizes) <= 1.2**1.5 + 1e-9


# Pictures


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_a_picture_without_changes_is_the_image(rng, image):
    np.testing.assert_array_equal(PLAIN.take(image, rng), image)
    assert PLAIN.take(image, rng).dtype == np.float32


def test_colours_are_as_worked_out(rng):
    image = np.zeros((2, 2, 3), np.uint8) + np.uint8([100, 100, 100])
    image[0] = 200  # its mean level is 150
    contrasted = PLAIN._replace(contrast=0.5).take(image, rng)
    np.testing.assert_allclose(contrasted[:, 0, 0], [175, 125], rtol=1e-6)
    shifted = PLAIN._replace(shift=np.array([10.0, -5.0, 100.0])).take(image, rng)
    np.testing.assert_allclose(shifted[:, 0], [[210, 195, 255], [110, 95, 200]], rtol=1e-6)
    # 255 (v / 255)^2, less what the mean level loses
    squared = PLAIN._replace(gamma=2.0).take(image, rng)
    lost = 150**2 / 255 - 150
    expected = np.array([200**2, 100**2]) / 255 - lost
    np.testing.assert_allclose(squared[:, 0, 0], expected, rtol=1e-5)


def test_no_saturation_is_grey_and_all_is_as_it_was(rng, image):
    grey = PLAIN._replace(saturation=0.0).take(image, rng)
    assert np.ptp(grey, axis=2).max() == 0
    expected = image @ np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    # OpenCV's weights of 8-bit pictures are whole 1024ths, and its result is a whole number.
    assert np.abs(grey[:, :, 0] - expected).max() <= 0.5 + 3 * 255 * 0.5 / 1024


def test_motion_is_a_line_through_the_middle():
    for length, direction in ((5.0, 0.0), (8.0, 0.7), (11.0, np.pi / 2)):
        kernel = motion_kernel(length, direction)
        assert kernel.sum() == pytest.approx(1) and kernel.shape[0] % 2 == 1
        half = kernel.shape[0] // 2
        y, x = np.indices(kernel.shape) - half
        np.testing.assert_allclose([(kernel * y).sum(), (kernel * x).sum()], 0, atol=1e-6)
        # The variance of an even line is length^2 / 12 along it, and next to none across.
        along = x * np.cos(direction) + y * np.sin(direction)
        across = -x * np.sin(direction) + y * np.cos(direction)
        assert (kernel * along**2).sum() == pytest.approx(length**2 / 12, rel=0.25)
        assert (kernel * across**2).sum() < 0.4


def test_low_resolution_loses_what_is_finer(rng):
    place = np.arange(120)
    fine = np.repeat(np.where(place % 2, 255, 0)[None, :], 120, axis=0)
    coarse = np.repeat(127.5 + 127 * np.sin(place / 12)[None, :], 120, axis=0)
    fine, coarse = (
        np.repeat(p[:, :, None], 3, axis=2).round().astype(np.uint8) for p in (fine, coarse)
    )
    assert shrunk_and_enlarged(fine, 4.0).std() < 5
    difference = shrunk_and_enlarged(coarse, 4.0)[:, 8:-8].astype(float) - coarse[:, 8:-8]
    assert np.abs(difference).max() < 10


def test_noise_has_the_deviation_that_is_set(rng):
    grey = np.full((200, 200, 3), 128, np.uint8)
    picture = PLAIN._replace(noise=8.0).take(grey, rng)
    assert (picture - 128).std() == pytest.approx(8, rel=0.05)
    channels = (picture - 128).reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T)[np.triu_indices(3, 1)]).max() < 0.03
    assert noise(rng, (1500, 10)).shape == (1500, 10)


def test_shares_of_grey_blurred_small_and_noisy_pairs(rng):
    of = source(dot())
    made = [Strong()._pictures(rng, 1.0, of) for _ in range(3000)]
    share = {
        "grey": np.mean([z.saturation == 0 for z, _ in made]),
        "blurred": np.mean([(p.blur > 0) or (p.motion > 0) for pair in made for p in pair]),
        "moved": np.mean([p.motion > 0 for pair in made for p in pair]),
        "small": np.mean([max(z.small, x.small) > 1 for z, x in made]),
        "both small": np.mean([min(z.small, x.small) > 1 for z, x in made]),
        "noisy": np.mean([p.noise > 0 for pair in made for p in pair]),
    }
    expected = {
        "grey": 0.25, "blurred": 0.3, "moved": 0.15, "small": 0.3, "both small": 0.15, "noisy": 0.2,
    }  # fmt: skip
    assert share == pytest.approx(expected, abs=0.03)
    assert all((z.saturation == 0) == (x.saturation == 0) for z, x in made)


# Occlusion


def test_the_share_of_the_target_that_is_set_is_hidden(rng):
    image, other = np.zeros((101, 101, 3), np.uint8), np.full((80, 80, 3), 255, np.uint8)
    offset, target = np.array([5.0, -7.0]), np.array([40.0, 30.0])
    shares = []
    for _ in range(300):
        hidden = hide_part(image, offset, target, lambda: other, (0.1, 0.4), rng)[:, :, 0] > 0
        rows, columns = np.nonzero(hidden)
        assert 50 + 5 - 20.6 <= rows.min() and rows.max() <= 50 + 5 + 20.6
        assert 50 - 7 - 15.6 <= columns.min() and columns.max() <= 50 - 7 + 15.6
        shares.append(hidden.sum() / (40 * 30))
    assert 0.08 < min(shares) < 0.13 and 0.37 < max(shares) < 0.43
    assert not image.any()


def test_what_hides_a_target_outside_the_crop_is_cut(rng):
    image, other = np.zeros((51, 51, 3), np.uint8), np.full((80, 80, 3), 255, np.uint8)
    for offset in (np.array([-24.0, 24.0]), np.array([200.0, 0.0])):
        for _ in range(20):
            hidden = hide_part(image, offset, np.array([30.0, 30.0]), lambda: other, (1, 1), rng)
            assert hidden.shape == image.shape
    assert not hidden.any()


def test_a_target_is_hidden_in_the_instance_alone(rng):
    other = np.full((351, 351, 3), 255, np.uint8)
    settings = replace(GEOMETRY, **NO_GEOMETRY, occlusion=1.0)
    black = np.zeros((351, 351, 3), np.uint8)
    made = settings.pair(source(black, other=lambda: other), 127, 255, rng)
    assert made.instance.max() == 255 and made.exemplar.max() == 0


# Settings


@pytest.mark.parametrize(
    "setting, value",
    [
        ("flip", 1.5),
        ("max_rotation", -1.0),
        ("blur_range", (2.0, 1.0)),
        ("noise_range", (1.0,)),
        ("low_resolution_range", (0.5, 2.0)),
        ("occlusion_range", (0.1, 1.2)),
        ("max_scale", np.nan),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        Strong(**{setting: value})
