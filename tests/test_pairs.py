"""Tests of dsiam_net.pairs and dsiam_net.pair_sheet."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from crop_stores import fake_store, make_store
from dsiam_net.augmentation import Published
from dsiam_net.augmentation_strong import Strong
from dsiam_net.crops import CropError
from dsiam_net.pair_sheet import contact_sheet, write_contact_sheet
from dsiam_net.pairs import PairSource, choose_pos_pair, choose_val_set, count_pairs
from golden import assert_passes, golden


@golden("siamfc_augment", lambda name: name.startswith("valset"))
def test_equals_choose_val_set(case):
    assert_passes(case)


# Choosing


def test_validation_has_the_last_videos():
    np.testing.assert_array_equal(choose_val_set(5, 0.4), [False, False, False, True, True])
    assert choose_val_set(25, 0.1).sum() == 3  # 2.5 is rounded away from zero
    assert count_pairs(25, 0.1) == (23, 2)  # and so are the pairs for training, 22.5


def test_instances_lie_within_the_frame_range_and_are_not_the_exemplar(rng):
    positions = np.array([0, 1, 5, 6, 7, 20])
    drawn = {choose_pos_pair(positions, 4, rng) for _ in range(2000)}
    near = {
        (z, x)
        for z in range(6)
        for x in range(6)
        if z != x and abs(positions[z] - positions[x]) <= 4
    }
    # The last has no other within the range: it is paired with itself.
    assert drawn == near | {(5, 5)}


def test_instances_of_an_exemplar_have_equal_chances(rng):
    drawn = [choose_pos_pair(np.arange(5), 10, rng) for _ in range(8000)]
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.transpose(drawn)), 1)
    assert (counts.diagonal() == 0).all()
    assert np.abs(counts[~np.eye(5, dtype=bool)] / 400 - 1).max() < 0.25


def choices(source, count, mode="train", epoch=0):
    return [source.choose(epoch, k, mode) for k in range(count)]


def test_stores_are_drawn_by_weight_and_their_tracks_alike(tmp_path):
    stores = [fake_store(tmp_path / "a", [3, 50]), fake_store(tmp_path / "b", [5] * 4)]
    source = PairSource(stores, weights=[3, 1], validation=0.0)
    drawn = choices(source, 4000)
    of_first = [c.instance for c in drawn if c.instance.store == 0]
    assert len(of_first) / 4000 == pytest.approx(0.75, abs=0.03)
    assert sum(p.track == 0 for p in of_first) / len(of_first) == pytest.approx(0.5, abs=0.04)
    assert all(c.exemplar[:2] == c.instance[:2] for c in drawn)


def test_videos_of_validation_are_not_trained_on(tmp_path):
    videos = ["a", "a", "b", "b", "c"]
    store = fake_store(tmp_path, [4] * 5, videos)
    source = PairSource(store, validation=0.34)
    assert {t.name for t in source.tracks("train")} == {"t0", "t1", "t2", "t3"}
    assert {t.name for t in source.tracks("val")} == {"t4"}
    assert {c.instance.track for c in choices(source, 100)} == {0, 1, 2, 3}
    assert {c.instance.track for c in choices(source, 20, "val")} == {4}


def test_a_still_image_is_paired_with_itself(tmp_path):
    source = PairSource(fake_store(tmp_path, [1, 1]), validation=0.0)
    assert all(c.exemplar == c.instance for c in choices(source, 20))


def test_negatives_are_of_another_video(tmp_path):
    store = fake_store(tmp_path, [3] * 4, ["a", "a", "b", "c"])
    source = PairSource(store, validation=0.0, negatives=0.3)
    drawn = choices(source, 3000)
    negative = [c for c in drawn if c.exemplar.track != c.instance.track]
    assert len(negative) / 3000 == pytest.approx(0.3, abs=0.03)
    videos = [t.video for t in store.tracks]
    assert all(videos[c.exemplar.track] != videos[c.instance.track] for c in negative)
    source = PairSource(fake_store(tmp_path, [3], ["a"]), validation=0.0, negatives=1.0)
    with pytest.raises(CropError, match="crops of two videos"):
        source.choose(0, 0)


# Pairs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"), "abcdefghij", size=301)


def assert_same(a, b):
    for name in ("exemplar", "instance", "offset", "exemplar_offset"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.instance_target, b.instance_target)
    assert (a.positive, a.name) == (b.positive, b.name)


@pytest.mark.parametrize("augmentation", [Published(grayscale=0.3), Strong()])
def test_pairs_are_arrays_as_the_network_reads_them(store, augmentation):
    source = PairSource(store, augmentation=augmentation, instance_size=255)
    for k in range(12):
        pair = source.pair(0, k)
        assert pair.exemplar.shape == (3, 127, 127) and pair.instance.shape == (3, 255, 255)
        assert pair.exemplar.dtype == pair.instance.dtype == np.float32
        assert pair.instance.flags.c_contiguous and pair.positive is True
        assert pair.offset.shape == (2,) and np.isfinite(pair.instance).all()


def test_a_pair_is_the_same_whenever_it_is_asked_for(store):
    """From threads side by side, in any order, and from another source of the same seed."""
    source = PairSource(store, augmentation=Strong(), negatives=0.2)
    first = [source.pair(2, k) for k in range(40)]
    with ThreadPoolExecutor(4) as pool:
        later = list(pool.map(lambda k: source.pair(2, k), reversed(range(40))))[::-1]
    other = PairSource(store, augmentation=Strong(), negatives=0.2)
    for k, (a, b) in enumerate(zip(first, later, strict=True)):
        assert_same(a, b)
        assert_same(a, other.pair(2, k))


def test_epoch_index_seed_and_mode_each_change_the_pair(store):
    source = PairSource(store, augmentation=Strong())
    seeds = PairSource(store, augmentation=Strong(), seed=1)
    pairs = [source.pair(0, 0), source.pair(0, 1), source.pair(1, 0), seeds.pair(0, 0)]
    pairs.append(source.pair(0, 0, "val"))
    for k, pair in enumerate(pairs):
        for other in pairs[:k]:
            assert not np.array_equal(pair.instance, other.instance)


def test_pairs_of_validation_are_the_middles_of_crops(store):
    source = PairSource(store, augmentation=Strong(), instance_size=239)
    pair, choice = source.pair(0, 3, "val"), source.choose(0, 3, "val")
    crop = store.read(choice.instance.track, choice.instance.k)
    np.testing.assert_array_equal(pair.instance, crop[31:-31, 31:-31].transpose(2, 0, 1))
    crop = store.read(choice.exemplar.track, choice.exemplar.k)
    np.testing.assert_array_equal(pair.exemplar, crop[87:-87, 87:-87].transpose(2, 0, 1))
    np.testing.assert_array_equal(pair.offset, [0, 0])
    np.testing.assert_allclose(pair.instance_target, store.tracks[0].sizes[0])


def test_negative_pairs_say_so(store):
    source = PairSource(store, negatives=1.0, validation=0.0)
    pair = source.pair(0, 0)
    assert pair.positive is False
    exemplar, instance = pair.name.split(" - ")
    assert exemplar.split("/")[0] != instance.split("/")[0]


def test_reading_leaves_opencv_without_threads_of_its_own(store):
    PairSource(store)
    assert cv2.getNumThreads() == 1


# Errors


def test_a_store_that_does_not_fit_is_refused(tmp_path, store):
    with pytest.raises(CropError, match="crops of 303 at least, received 127 and 301"):
        PairSource(store, instance_size=303)
    with pytest.raises(CropError, match="exemplars of 63"):
        PairSource(store, exemplar_size=63)


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"weights": [1, 1]}, "a weight"),
        ({"weights": [0]}, "a weight"),
        ({"frame_range": 0}, "frame_range"),
        ({"validation": 1.0}, "validation"),
        ({"negatives": -0.1}, "negatives"),
        ({"instance_size": 240}, "odd"),
    ],
)
def test_settings_out_of_range_are_refused(store, settings, text):
    with pytest.raises(ValueError, match=text):
        PairSource(store, **settings)


def test_a_mode_without_videos_says_so(tmp_path, store):
    with pytest.raises(ValueError, match="at least one crop store"):
        PairSource([])
    with pytest.raises(ValueError, match="mode must be one of train, val, received 'test'"):
        PairSource(store).pair(0, 0, "test")
    with pytest.raises(CropError, match="no video of the crop stores is for val"):
        PairSource(fake_store(tmp_path, [3, 3]), validation=0.1).pair(0, 0, "val")


# Contact sheets


def test_a_contact_sheet_shows_pairs_with_their_targets_marked(tmp_path, store):
    source = PairSource(store, validation=0.0)
    pairs = [source.pair(0, k) for k in range(5)]
    sheet = contact_sheet(pairs, columns=3)
    assert sheet.shape == (2 * (239 + 8), 3 * (127 + 239 + 12), 3) and sheet.dtype == np.uint8
    # The middle of the first instance: its cross is yellow.
    assert tuple(sheet[4 + 119, 4 + 127 + 4 + 119]) == (255, 220, 0)
    write_contact_sheet(source, tmp_path / "pairs.png", pairs=5, columns=3)
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "pairs.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read, sheet)
    with pytest.raises(ValueError, match="at least one pair"):
        contact_sheet([])
