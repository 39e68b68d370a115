"""Tests of dsiam_net.crops: published crops, writing and reading of crop stores."""

import json

import cv2
import numpy as np
import pytest

from dsiam_net import crop_writing
from dsiam_net.crops import (
    CropError,
    CropStore,
    Track,
    crop_scale,
    get_crops,
    get_objects_extent,
    get_square,
    write_crops,
)
from dsiam_net.sequences import SequenceWarning
from golden import assert_passes, golden


@golden("siamfc_save_crops")
def test_equals_save_crops(case):
    assert_passes(case)


@golden("siamfc_augment", lambda name: name.startswith("ext"))
def test_equals_get_objects_extent(case):
    assert_passes(case)


# Crops


def test_a_square_whose_side_is_the_crops_is_cut_pixel_for_pixel(rng):
    """A box of 20 x 20 with its context is 40 x 40: nothing is resized."""
    image = rng.integers(0, 256, (200, 180, 3), dtype=np.uint8)
    square = get_square(image, (81, 91, 20, 20), size=80, exemplar_size=40)
    np.testing.assert_array_equal(square.image, image[60:140, 50:130])
    np.testing.assert_array_equal(square.box, [30, 30, 20, 20])
    # Left and top pads are 0, and the 1 that the original adds stays.
    np.testing.assert_array_equal(square.pad, [1, 1, 80, 79])


def test_what_lies_outside_has_the_mean_colour_of_the_frame(rng):
    image = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    square = get_square(image, (1, 1, 20, 20), size=40, exemplar_size=40)
    mean = np.floor(image.reshape(-1, 3).mean(axis=0) + 0.5)
    # The first pixel is round(11 - 20.5), -10: a half is rounded away from zero.
    assert (square.image[:11] == mean).all() and (square.image[:, :11] == mean).all()
    np.testing.assert_array_equal(square.image[11:, 11:], image[:29, :29])
    np.testing.assert_array_equal(square.pad, [12, 12, 29, 28])


def test_exemplar_and_instance_have_one_scale():
    """The instance's middle shows what the exemplar shows: a ramp has the same values there."""
    x = np.broadcast_to(np.linspace(0, 255, 640), (480, 640))
    image = np.repeat(np.round(x)[:, :, None], 3, axis=2).astype(np.uint8)
    exemplar, instance = get_crops(image, (290, 210, 60, 60))
    middle = instance.image[64:191, 64:191].astype(float)
    assert np.abs(exemplar.image.astype(float) - middle).max() <= 2


def test_the_scale_is_that_of_the_exemplars_side():
    # s_z = sqrt((30 + 25) (20 + 25)) = 49.749
    assert crop_scale(30, 20) == pytest.approx(127 / np.sqrt(55 * 45), rel=1e-15)
    boxes = get_objects_extent((1, 1, 30, 20), (5, 5, 20, 20), 127, 239)
    np.testing.assert_allclose(boxes[0][2:], np.array([30, 20]) * 127 / np.sqrt(55 * 45))
    np.testing.assert_allclose(boxes[1], [119.5 - 31.75, 119.5 - 31.75, 63.5, 63.5])


@pytest.mark.parametrize("box", [(1, 1, 0, 5), (1, 1, 5, -2), (np.nan, 1, 5, 5), (1, 1, 5)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="box x, y, w, h with an area"):
        get_square(np.zeros((20, 20, 3), np.uint8), box)


@pytest.mark.parametrize("shape, dtype", [((20, 20), "uint8"), ((20, 20, 3), "float32")])
def test_what_is_no_image_is_refused(shape, dtype):
    with pytest.raises(ValueError, match="image of uint8"):
        get_square(np.zeros(shape, dtype), (1, 1, 5, 5))


# Stores


def video(folder, frames, rng, size=(90, 120)):
    """Frames as PNG files, and their paths."""
    folder.mkdir(parents=True)
    paths = []
    for k in range(frames):
        image = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), size[::-1])
        paths.append(folder / f"{k + 1:04d}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def boxes(frames, side=20.0):
    return np.array([[30.0 + k, 25.0, side, side] for k in range(frames)])


@pytest.fixture
def tracks(tmp_path, rng):
    first = video(tmp_path / "frames" / "a", 6, rng)
    second = video(tmp_path / "frames" / "b", 4, rng)
    return [
        Track("dog", "a", first, boxes(6)),
        Track("cat", "a", first, boxes(6, 12.0)),
        Track("dog", "train/b", second, boxes(4)),
    ]


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_store_gives_the_crops_that_were_cut(tmp_path, tracks):
    seen = []
    store = write_crops(
        tracks, tmp_path / "crops", size=255, quality=100, progress=lambda *n: seen.append(n)
    )
    assert [(t.video, t.name, len(t)) for t in store.tracks] == [
        ("a", "dog", 6), ("a", "cat", 6), ("train/b", "dog", 4),
    ]  # fmt: skip
    assert seen == [(1, 2), (2, 2)] and len(store) == 16
    assert store.tracks[1].files[2] == "cat.000003.jpg"
    assert (tmp_path / "crops" / "train" / "b" / "dog.000001.jpg").is_file()
    crop = store.read(1, 2)
    image = cv2.cvtColor(cv2.imread(str(tracks[1].paths[2])), cv2.COLOR_BGR2RGB)
    expected = get_crops(image, tracks[1].boxes[2]).instance.image
    assert crop.shape == (255, 255, 3) and crop.dtype == np.uint8
    assert np.abs(crop.astype(float) - expected).mean() < 2
    np.testing.assert_allclose(store.tracks[1].sizes[2], [63.5, 63.5])
    again = CropStore(tmp_path / "crops")
    assert (again.size, again.exemplar_size, len(again)) == (255, 127, 16)


def test_frames_without_target_have_no_crop_and_numbers_stay(tmp_path, tracks):
    track = tracks[0]
    track.boxes[1] = np.nan
    track.boxes[2, 2] = 0
    track.boxes[4, 0] = 500  # outside the frame
    store = write_crops([track], tmp_path / "crops", size=127)
    np.testing.assert_array_equal(store.tracks[0].frames, [1, 4, 6])
    # Frame 5 has a box, so it has a place in the list although it has no crop.
    np.testing.assert_array_equal(store.tracks[0].positions, [0, 1, 3])


def test_thinning_takes_every_third_and_at_most_so_many(tmp_path, tracks):
    every = write_crops(tracks[:1], tmp_path / "every", every=3)
    np.testing.assert_array_equal(every.tracks[0].frames, [1, 4])
    np.testing.assert_array_equal(every.tracks[0].positions, [0, 3])
    most = write_crops(tracks[:1], tmp_path / "most", max_per_track=3)
    np.testing.assert_array_equal(most.tracks[0].frames, [1, 3, 6])


def test_statistics_are_those_of_the_crops(tmp_path, tracks):
    """Every video counts the same, whatever its number of crops."""
    store = write_crops(tracks, tmp_path / "crops", size=301)
    for kind, side in (("exemplar", 127), ("instance", 255)):
        inner = slice((301 - side) // 2, (301 + side) // 2)
        means, products = [], []
        for which in ((0, 1), (2,)):
            crops = [store.read(t, k) for t in which for k in range(len(store.tracks[t]))]
            pixels = np.concatenate([c[inner, inner].reshape(-1, 3) for c in crops]).astype(float)
            means.append(pixels.mean(axis=0))
            products.append(pixels.T @ pixels / len(pixels))
        mean = np.mean(means, axis=0)
        np.testing.assert_allclose(store.statistics[kind].mean, mean)
        expected = np.mean(products, axis=0) - np.outer(mean, mean)
        np.testing.assert_allclose(store.statistics[kind].covariance, expected, rtol=1e-9)


def test_threads_write_what_one_writes(tmp_path, tracks):
    write_crops(tracks, tmp_path / "one", workers=1)
    write_crops(tracks, tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_a_run_that_was_stopped_goes_on(tmp_path, tracks, monkeypatch):
    write_crops(tracks, tmp_path / "whole")
    square, cuts = crop_writing.get_square, []

    def stopped(*args):
        cuts.append(args)
        if len(cuts) > 14:
            raise KeyboardInterrupt
        return square(*args)

    monkeypatch.setattr(crop_writing, "get_square", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_crops(tracks, tmp_path / "crops", workers=1)
    with pytest.raises(CropError, match="was not written to its end"):
        CropStore(tmp_path / "crops")
    cuts.clear()
    write_crops(tracks, tmp_path / "crops", workers=1)
    assert len(cuts) == 4  # video a was whole
    assert content(tmp_path / "crops") == content(tmp_path / "whole")
    cuts.clear()
    write_crops(tracks, tmp_path / "crops")
    assert not cuts


def test_other_settings_or_boxes_write_the_crops_anew(tmp_path, tracks, monkeypatch):
    write_crops(tracks, tmp_path / "crops")
    assert write_crops(tracks, tmp_path / "crops", size=127).read(0, 0).shape == (127, 127, 3)
    square, cuts = crop_writing.get_square, []
    monkeypatch.setattr(
        crop_writing, "get_square", lambda *args: [cuts.append(args), square(*args)][1]
    )
    tracks[2].boxes[0, 0] += 1
    write_crops(tracks, tmp_path / "crops", size=127)
    assert len(cuts) == 4


def test_a_store_that_is_rewritten_is_not_read_half(tmp_path, tracks, monkeypatch):
    write_crops(tracks, tmp_path / "crops")

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(crop_writing, "get_square", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_crops(tracks, tmp_path / "crops", size=127)
    with pytest.raises(CropError, match=r"no index\.json"):
        CropStore(tmp_path / "crops")


def test_a_frame_that_cannot_be_read_is_left_out(tmp_path, tracks):
    tracks[0].paths[3].write_bytes(b"no image")
    with pytest.warns(SequenceWarning, match=r"1 frames were left out.*0004\.png"):
        store = write_crops(tracks, tmp_path / "crops")
    np.testing.assert_array_equal(store.tracks[0].frames, [1, 2, 3, 5, 6])
    assert len(store.tracks[2]) == 4


def test_names_that_no_file_can_have_are_changed(tmp_path, tracks):
    odd = [
        Track("a:b?", "../x", tracks[0].paths, tracks[0].boxes),
        Track("a*b?", "../x", tracks[0].paths, tracks[0].boxes),
        Track("t", "x y", tracks[0].paths, tracks[0].boxes),
        Track("t", "x_y", tracks[2].paths, tracks[2].boxes),
    ]
    store = write_crops(odd, tmp_path / "crops", size=127)
    assert [t.name for t in store.tracks] == ["a:b?", "a*b?", "t", "t"]
    paths = {store.path(t, k) for t in range(4) for k in range(len(store.tracks[t]))}
    assert len(paths) == 22
    assert all(p.resolve().is_relative_to(tmp_path / "crops") for p in paths)
    assert store.tracks[2].folder != store.tracks[3].folder


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"size": 254}, "odd"),
        ({"size": 101}, "smaller than an exemplar"),
        ({"every": 0}, "every"),
        ({"max_per_track": 0}, "max_per_track"),
        ({"quality": 101}, "quality"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, tracks, settings, text):
    with pytest.raises(CropError, match=text):
        write_crops(tracks, tmp_path / "crops", **settings)


def test_tracks_that_give_no_crop_are_refused(tmp_path, tracks):
    with pytest.raises(CropError, match="at least one track"):
        write_crops([], tmp_path / "crops")
    tracks[0].boxes[:] = np.nan
    with pytest.raises(CropError, match="no frame of the tracks"):
        write_crops(tracks[:1], tmp_path / "crops")
    with pytest.raises(CropError, match="two tracks of the name 'dog'"):
        write_crops([tracks[0], tracks[0]], tmp_path / "crops")
    with pytest.raises(CropError, match="a box x, y, w, h for each of 6 frames"):
        Track("dog", "a", tracks[0].paths, np.zeros((5, 4)))


def test_a_damaged_store_says_what_is_wrong(tmp_path, tracks):
    folder = tmp_path / "crops"
    with pytest.raises(CropError, match=r"no index\.json"):
        CropStore(folder)
    store = write_crops(tracks, folder)
    index = folder / "index.json"
    whole = json.loads(index.read_text())
    for change, text in (
        ({"format": "other"}, "not the index of a crop store"),
        ({"version": 2}, "expected version 1, received 2"),
        ({"tracks": []}, "has no tracks"),
        ({"statistics": {}}, "is damaged"),
        ({"tracks": [{**whole["tracks"][0], "frames": [1]}]}, "lists of one length"),
    ):
        index.write_text(json.dumps({**whole, **change}))
        with pytest.raises(CropError, match=text):
            CropStore(folder)
    index.write_text(json.dumps(whole)[:-40])
    with pytest.raises(CropError, match=r"cannot read .*index\.json"):
        CropStore(folder)
    store.path(0, 1).write_bytes(b"")
    with pytest.raises(CropError, match=r"dog\.000002\.jpg.*again"):
        store.read(0, 1)
    cv2.imwrite(str(store.path(0, 1)), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(CropError, match="expected a crop of 255x255 pixels, received 100x100"):
        store.read(0, 1)
    assert write_crops(tracks, folder).read(0, 1).shape == (255, 255, 3)
    store.path(2, 0).unlink()
    assert write_crops(tracks, folder).read(2, 0).shape == (255, 255, 3)
