"""Tests of dsiam_net.pictures: photographs in folders, and things cut out of them."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from dsiam_net.pictures import Pictures, cut_out, things_in
from dsiam_net.scene import Cutout
from dsiam_net.sequences import SequenceError

RED, GREY = (200, 30, 20), (90, 90, 90)


def disc(height=120, width=160, center=(70, 60), radius=25):
    """Labels: a disc of 2 in 1; ``center`` is (x, y)."""
    y, x = np.ogrid[:height, :width]
    inside = (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2
    return np.where(inside, 2, 1).astype(np.uint16)


def painted(labels):
    return np.where((labels == 2)[:, :, None], RED, GREY).astype(np.uint8)


def write_segmented(root, name="disc", labels=None, people=2):
    """One picture in BSDS500's layout, in which every person has outlined the same."""
    labels = disc() if labels is None else labels
    for folder in ("images/train", "groundTruth/train"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / "train" / f"{name}.png"), painted(labels)[:, :, ::-1])
    truth = np.empty((1, people), object)
    for person in range(people):
        truth[0, person] = {"Segmentation": labels, "Boundaries": np.zeros_like(labels)}
    savemat(root / "groundTruth" / "train" / f"{name}.mat", {"groundTruth": truth})
    return root


def test_images_of_all_depths_are_found_in_order(tmp_path):
    for name in ("b/2.png", "b/10.png", "a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((20, 30, 3), (0, 0, 255), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    pictures = Pictures([tmp_path])
    assert [path.name for path in pictures.paths] == ["a.jpg", "2.png", "10.png"]
    assert len(pictures) == 3 and not pictures.segmented
    assert pictures[1].shape == (20, 30, 3) and pictures[1][0, 0].tolist() == [255, 0, 0]
    assert pictures.segment(np.random.default_rng(0)) is None


def test_folders_that_are_missing_or_empty_are_refused(tmp_path):
    with pytest.raises(SequenceError, match="there is none"):
        Pictures([tmp_path / "nowhere"])
    with pytest.raises(SequenceError, match="without any"):
        Pictures([tmp_path])
    with pytest.raises(SequenceError, match="received none"):
        Pictures([])


def test_a_segment_is_cut_out_with_its_outline(tmp_path):
    pictures = Pictures([write_segmented(tmp_path)])
    assert len(pictures.segmented) == 1
    texture, outline = pictures.segment(np.random.default_rng(3))
    assert texture.shape[0] == texture.shape[1] and 51 <= texture.shape[0] <= 53
    # The disc fills the square; the texture is red exactly where the outline's mask is.
    assert np.hypot(*outline.T).min() > 0.9 and np.hypot(*outline.T).max() < 1.02
    red = (texture == RED).all(axis=2)
    mask = Cutout(texture, outline).mask
    assert red[mask > 200].all() and not red[mask == 0].any()
    assert mask[red].mean() > 240


def test_a_segment_at_the_border_of_its_picture_is_filled_up(tmp_path):
    labels = disc(center=(70, 26))
    contour = max(things_in(labels), key=len)
    texture, _ = cut_out(painted(labels), contour - [0, 1])
    assert texture.shape[0] == texture.shape[1]
    assert (texture[0] == texture[1]).all()


def bars(height, width, depth, teeth):
    """Labels: a comb of 2 in 1, ``teeth`` pixels wide with as wide gaps."""
    labels = np.ones((120, 160), int)
    labels[20 : 20 + height, 20 : 20 + width] = 2
    gaps = (np.arange(width) // teeth) % 2 == 1
    labels[20 : 20 + depth, 20 : 20 + width][:, gaps] = 1
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(disc(radius=5), id="a speck"),
        pytest.param(disc(radius=59), id="most of the picture"),
        pytest.param(disc(center=(0, 60)), id="cut off by the border"),
        pytest.param(bars(8, 100, 0, 1), id="a strip"),
        pytest.param(bars(80, 100, 70, 10), id="a comb"),
    ],
)
def test_what_is_hardly_a_thing_is_left_out(labels):
    # The background, label 1, is no thing either.
    assert things_in(labels) == []


def test_of_a_segment_in_pieces_the_largest_counts():
    labels = disc()
    labels[5:12, 140:150] = 2
    (contour,) = things_in(labels)
    assert contour.max() < 100


def test_segments_of_another_size_or_in_a_file_that_is_none_are_refused(tmp_path, rng):
    pictures = Pictures([write_segmented(tmp_path)])
    file = tmp_path / "groundTruth" / "train" / "disc.mat"
    cv2.imwrite(str(tmp_path / "images" / "train" / "disc.png"), np.zeros((50, 60), np.uint8))
    with pytest.raises(SequenceError, match=r"segments of 50x60 pixels.*received 120x160"):
        pictures.segment(rng)
    file.write_bytes(b"no mat file")
    with pytest.raises(SequenceError, match=r"disc\.mat: expected groundTruth"):
        pictures.segment(rng)
