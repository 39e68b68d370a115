"""Tests of dsiam_net.augmentation: SiamFC's augmentation."""

import numpy as np
import pytest

from dsiam_net.augmentation import (
    Published,
    Source,
    acquire_augment,
    linspace,
    not_augmented,
    rgb_variance,
    to_grey,
)
from dsiam_net.crops import ColourStatistics
from golden import assert_passes, golden


@golden("siamfc_augment", lambda name: name.startswith("aug"))
def test_equals_acquire_augment(case):
    assert_passes(case)


@golden("siamfc_augment", lambda name: name == "rgb")
def test_equals_load_stats(case):
    assert_passes(case)


@golden("siamfc_augment", lambda name: name == "lr")
def test_equals_experiments_learning_rates(case):
    assert_passes(case)


def source(exemplar, instance, covariance=None):
    statistics = ColourStatistics(np.zeros(3), np.eye(3) if covariance is None else covariance)
    return Source(
        exemplar,
        instance,
        np.array([60.0, 40.0]),
        np.array([60.0, 40.0]),
        {"exemplar": statistics, "instance": statistics},
        False,
        lambda: instance,
    )


@pytest.fixture
def crop(rng):
    return rng.integers(0, 256, (301, 301, 3), dtype=np.uint8)


def test_places_are_counted_from_both_ends():
    """So places that are mirrored at 0 are each other's negative to the last digit."""
    places = linspace(-3.3, 3.3, 9)
    assert places[0] == -3.3 and places[4] == 0
    np.testing.assert_array_equal(places, -places[::-1])
    np.testing.assert_allclose(places, np.linspace(-3.3, 3.3, 9), rtol=1e-15, atol=1e-15)
    assert linspace(9.5, 136.5, 128)[64] == 136.5 - 63


def test_without_any_augmentation_the_middle_is_taken(rng, crop):
    plain = Published(stretch=False, translate=False, color=False)
    made = plain.pair(source(crop, crop), 127, 239, rng)
    expected = not_augmented(source(crop, crop), 127, 239)
    np.testing.assert_array_equal(made.exemplar, expected.exemplar)
    np.testing.assert_array_equal(made.instance, expected.instance)
    np.testing.assert_array_equal(made.instance, crop[31:-31, 31:-31].transpose(2, 0, 1))


def test_shifts_reach_four_pixels_either_way(rng):
    """Of a crop whose pixels tell their places."""
    row, column = np.indices((255, 255))
    crop = np.stack([row, column, 0 * row], axis=2).astype(np.uint8)
    settings = Published(stretch=False, color=False)
    corners = set()
    for _ in range(600):
        made, place = acquire_augment(crop, 239, np.eye(3), settings, rng)
        corner = tuple(made[0, 0, :2].astype(int).tolist())
        corners.add(corner)
        np.testing.assert_array_equal(place.first - 1, corner)
        np.testing.assert_array_equal(made, crop[corner[0] :, corner[1] :][:239, :239])
    assert corners == {(8 + y, 8 + x) for y in range(-4, 5) for x in range(-4, 5)}


def test_an_exemplar_is_shifted_only_as_far_as_stretching_leaves_room(rng):
    settings = Published(color=False)
    for _ in range(100):
        _, place = acquire_augment(np.zeros((127, 127, 3), np.uint8), 127, None, settings, rng)
        assert (place.size <= 127).all() and (place.first >= 1).all()
        assert (place.first + place.size - 1 <= 127).all()


def test_offsets_follow_stretch_and_shift_where_asked(rng):
    """A dot in the middle of the stored crop is found at the offset, to a pixel's rounding."""
    crop = np.zeros((255, 255, 3), np.uint8)
    crop[126:129, 126:129] = 255
    settings = Published(color=False, max_stretch=0.1, max_translate=6, labels_follow=True)
    for _ in range(50):
        made = settings.pair(source(crop, crop), 127, 239, rng)
        at = np.argwhere(made.instance[0] > 0).mean(axis=0)
        assert np.abs(at - 119 - made.instance_offset).max() <= 1
    assert (Published().pair(source(crop, crop), 127, 239, rng).instance_offset == 0).all()


def test_colours_get_the_shifts_of_the_eigenvalues():
    """Independent shifts with the eigenvalues' variances, in the order of the channels."""
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    covariance = q @ np.diag([100.0, 400.0, 2500.0]) @ q.T
    variance = rgb_variance(covariance)
    np.testing.assert_allclose(variance @ variance.T, np.diag([1.0, 4.0, 25.0]), atol=1e-10)


def test_grey_pairs_are_grey_both_and_as_often_as_asked(rng, crop):
    settings = Published(grayscale=0.3)
    grey = 0
    for _ in range(200):
        made = settings.pair(source(crop, crop), 127, 239, rng)
        both = [np.ptp(c, axis=0).max() == 0 for c in (made.exemplar, made.instance)]
        assert both[0] == both[1]
        grey += both[0]
    assert grey / 200 == pytest.approx(0.3, abs=0.1)
    image = np.zeros((1, 1, 3), np.float32) + np.float32([255, 0, 0])
    assert to_grey(image)[0, 0, 0] == pytest.approx(0.298936021293776 * 255)


@pytest.mark.parametrize(
    "settings", [{"max_stretch": 1.0}, {"grayscale": 1.5}, {"max_translate": -1}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Published(**settings)


def test_crops_that_are_too_small_are_refused(rng, crop):
    with pytest.raises(ValueError, match="no middle of 303 pixels"):
        Published().pair(source(crop, crop), 127, 303, rng)
    with pytest.raises(ValueError, match="a crop of 311 pixels"):
        acquire_augment(crop, 311, None, Published(stretch=False, color=False), rng)
