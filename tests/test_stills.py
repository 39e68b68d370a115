"""Tests of ``python -m dsiam_net.data images`` and what it is made of."""

import json

import cv2
import numpy as np
import pytest
import scipy.io

from dsiam_net.boxes import iou
from dsiam_net.crops import CropStore
from dsiam_net.data import main
from dsiam_net.preparation.still_boxes import (
    StillLimits,
    choose_boxes,
    random_squares,
    read_coco_boxes,
    read_segmentations,
    read_text_boxes,
    read_xml_boxes,
    segment_boxes,
    texture,
)
from dsiam_net.preparation.stills import Still, find_stills, still_tracks
from dsiam_net.sequences import SequenceError, SequenceWarning

ANY = StillLimits(0, 1, 100, 4, 0, 0, 1)


def write_image(path, rng, size=(100, 120)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return image


def write_segmentations(path, *segmentations):
    """As BSDS500 has them: a row of structs in cells, each with Segmentation and Boundaries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(segmentations)), object)
    for k, segmentation in enumerate(segmentations):
        cells[0, k] = {
            "Segmentation": segmentation.astype(np.uint16),
            "Boundaries": np.zeros(segmentation.shape, np.uint8),
        }
    scipy.io.savemat(path, {"groundTruth": cells})


def rectangle(shape, *boxes):
    """A segmentation: 1, and from 2 on the boxes (x, y, w, h), 1-based."""
    segmentation = np.ones(shape, int)
    for label, (x, y, w, h) in enumerate(boxes, 2):
        segmentation[y - 1 : y - 1 + h, x - 1 : x - 1 + w] = label
    return segmentation


# Boxes


def test_the_boxes_of_regions_are_those_around_them():
    boxes = [[11, 21, 30, 20], [61, 41, 12, 25]]
    segmentation = rectangle((100, 120), *boxes)
    np.testing.assert_array_equal(segment_boxes(segmentation, StillLimits()), boxes)


def test_two_regions_of_one_label_are_two():
    segmentation = rectangle((100, 120), (11, 21, 20, 20))
    segmentation[60:80, 60:80] = 2
    found = segment_boxes(segmentation, StillLimits())
    np.testing.assert_array_equal(found, [[11, 21, 20, 20], [61, 61, 20, 20]])


@pytest.mark.parametrize(
    "box, limits",
    [
        ((11, 21, 6, 6), {}),  # 36 of 12000 pixels are less than 0.5 %
        ((11, 21, 60, 60), {}),  # 3600 are more than 25 %
        ((1, 1, 20, 20), {}),  # touches two borders
        ((101, 81, 20, 20), {}),
        ((1, 41, 20, 20), {"max_borders": 0}),
    ],
)
def test_regions_beyond_the_limits_are_left_out(box, limits):
    segmentation = rectangle((100, 120), box)
    assert not len(segment_boxes(segmentation, StillLimits(**limits)))
    assert [list(box)] in segment_boxes(segmentation, ANY)


def test_a_region_at_one_border_is_a_target():
    np.testing.assert_array_equal(
        segment_boxes(rectangle((100, 120), (1, 41, 20, 20)), StillLimits()), [[1, 41, 20, 20]]
    )


def test_a_thin_frame_fills_too_little_of_its_box():
    segmentation = rectangle((100, 120), (31, 31, 40, 40))
    segmentation[33:68, 33:68] = 0  # no region
    assert not len(segment_boxes(segmentation, StillLimits()))
    assert len(segment_boxes(segmentation, StillLimits(min_fill=0.1))) == 1


def test_boxes_without_texture_or_too_long_are_not_chosen(rng):
    image = rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)
    image[:, 60:] = 90
    boxes = np.array([[5, 5, 30, 30], [70, 5, 30, 30], [5, 50, 50, 10.0]])
    chosen = choose_boxes(boxes, image, StillLimits(), 5, rng)
    np.testing.assert_array_equal(chosen, boxes[:1])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert texture(grey, boxes[0]) == grey[4:34, 4:34].std()
    assert texture(grey, boxes[1]) == 0 and texture(grey, (300, 1, 5, 5)) == 0


def test_of_boxes_on_one_another_one_is_chosen(rng):
    image = rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)
    boxes = np.array([[5, 5, 30, 30], [7, 6, 30, 30], [60, 50, 30, 30.0]])
    chosen = choose_boxes(boxes, image, StillLimits(), 5, rng)
    assert len(chosen) == 2 and iou(*chosen) == 0
    assert len(choose_boxes(boxes, image, StillLimits(), 1, rng)) == 1


def test_squares_lie_where_there_is_texture_half_near_the_middle(rng):
    image = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    image[:, :60] = 128
    near = 0
    for _ in range(60):
        squares = random_squares(image, StillLimits(), 4, rng)
        assert len(squares) == 4 and (squares[:, 2] == squares[:, 3]).all()
        assert (squares[:, :2] >= 1).all()
        assert (squares[:, 0] + squares[:, 2] <= 301).all()
        assert (squares[:, 1] + squares[:, 3] <= 201).all()
        assert (squares[:, 0] + squares[:, 2] > 61).all()
        assert 0.12 * 200 - 1 <= squares[:, 2].min() and squares[:, 2].max() <= 0.4 * 200 + 1
        middles = squares[:, :2] - 1 + squares[:, 2:] / 2
        near += (np.abs(middles / [300, 200] - 0.5) < 0.25).all(axis=1).sum()
    # Those near the middle are nearly all within two deviations; of the others some are too.
    assert 0.5 < near / 240 < 0.8
    assert not len(random_squares(np.zeros((50, 50, 3), np.uint8), StillLimits(), 3, rng))


# Files


def test_voc_corners_are_pixels_the_last_ones_included(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(
        "<annotation><object><name>dog</name><bndbox><xmin>5</xmin><ymin>7</ymin>"
        "<xmax>14</xmax><ymax>26</ymax></bndbox></object></annotation>"
    )
    np.testing.assert_array_equal(read_xml_boxes(path), [[5, 7, 10, 20]])
    path.write_text("<annotation></annotation>")
    assert read_xml_boxes(path).shape == (0, 4)


@pytest.mark.parametrize(
    "content, text",
    [
        ("<annotation><object></annotation>", "expected an annotation"),
        ("<annotation><object><bndbox/></object></annotation>", "expected an annotation"),
        ("<!DOCTYPE a><annotation/>", "document type"),
    ],
)
def test_what_is_no_annotation_is_refused(tmp_path, content, text):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(SequenceError, match=text):
        read_xml_boxes(tmp_path / "a.xml")


def test_text_has_a_box_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("# x, y, w, h\n1,2,3,4\n\n5.5 6 7 8\n")
    np.testing.assert_array_equal(read_text_boxes(path), [[1, 2, 3, 4], [5.5, 6, 7, 8]])
    for content, text in (("1,2,3", "x, y, w, h in each line"), ("1,2,0,4", "above 0")):
        path.write_text(content)
        with pytest.raises(SequenceError, match=text):
            read_text_boxes(path)


def coco(path, **changes):
    """A file of COCO's instances: three boxes of a.png, one of them a crowd's, none of b.png."""
    boxes = [
        ([10, 20, 30, 20], 0),
        ([0.5, 1, 25, 24.25], 0),
        ([0, 0, 40, 40], 1),
        ([3, 3, 0, 9], 0),
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 7, "bbox": box, "iscrowd": crowd, "category_id": 1} for box, crowd in boxes
        ],
    }
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_boxes_of_coco_count_from_one_without_crowds(tmp_path):
    found = read_coco_boxes(coco(tmp_path / "instances.json"))
    np.testing.assert_array_equal(found["a.png"], [[11, 21, 30, 20], [1.5, 2, 25, 24.25]])
    assert found["b.png"].shape == (0, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": None},
        {"annotations": [{"image_id": 8, "bbox": [1, 2, 3, 4]}]},
        {"annotations": [{"image_id": 7, "bbox": [1, 2, 3]}]},
        {"annotations": [{"image_id": 7}]},
    ],
)
def test_what_is_none_of_cocos_files_is_refused(tmp_path, changes):
    with pytest.raises(SequenceError, match="expected COCO's instances"):
        read_coco_boxes(coco(tmp_path / "instances.json", **changes))


def test_with_instances_only_the_images_that_they_name_are_taken(tmp_path, rng, capsys):
    folder = tmp_path / "images"
    for name in ("train/a", "b", "c"):
        write_image(folder / f"{name}.png", rng)
    file = coco(tmp_path / "instances.json")
    assert [(s.name, s.kind) for s in find_stills(folder, [file])] == [
        ("b", "coco"), ("train/a", "coco"),
    ]  # fmt: skip
    arguments = ["images", str(folder), "--coco", str(file), "--out", str(tmp_path / "out")]
    main([*arguments, "--jobs", "1"])
    assert "coco: 2 images, 2 targets" in capsys.readouterr().out
    other = coco(tmp_path / "other.json", images=[{"id": 7, "file_name": "z.png"}])
    with pytest.raises(SequenceError, match=r"none of its 3 images is named in .*other\.json"):
        find_stills(folder, [other])


def test_segmentations_of_bsds_are_read(tmp_path):
    segmentation = rectangle((20, 30), (3, 4, 5, 6))
    write_segmentations(tmp_path / "a.mat", segmentation, segmentation * 0 + 1)
    found = read_segmentations(tmp_path / "a.mat")
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], segmentation)
    scipy.io.savemat(tmp_path / "b.mat", {"other": 1})
    with pytest.raises(SequenceError, match=r"b\.mat: expected groundTruth"):
        read_segmentations(tmp_path / "b.mat")
    with pytest.raises(SequenceError, match="cannot read"):
        read_segmentations(tmp_path / "c.mat")


# Folders


@pytest.fixture
def bsds(tmp_path, rng):
    """Three images in BSDS500's layout, the last without segmentations, and files that are none."""
    folder = tmp_path / "BSDS500"
    for name in ("train/100", "train/20", "val/30"):
        write_image(folder / "images" / f"{name}.jpg", rng)
    for name in ("train/100", "train/20"):
        segmentation = rectangle((100, 120), (11, 21, 30, 20), (61, 41, 12, 25))
        write_segmentations(folder / "groundTruth" / f"{name}.mat", segmentation, segmentation)
    (folder / "images" / "train" / "Thumbs.db").write_bytes(b"x")
    return folder


def test_images_are_found_with_what_tells_their_targets(bsds, rng):
    for folder in (bsds, bsds / "images"):
        stills = find_stills(folder)
        assert [(s.name.removeprefix("images/"), s.kind) for s in stills] == [
            ("train/20", "segments"), ("train/100", "segments"), ("val/30", "squares"),
        ]  # fmt: skip
    assert stills[0].boxes == bsds / "groundTruth" / "train" / "20.mat"
    write_image(bsds / "voc" / "JPEGImages" / "1.jpg", rng)
    (bsds / "voc" / "Annotations").mkdir()
    (bsds / "voc" / "Annotations" / "1.xml").write_text("<annotation/>")
    write_image(bsds / "voc" / "2.png", rng)
    (bsds / "voc" / "2.txt").write_text("1,2,30,40")
    kinds = {s.name: s.kind for s in find_stills(bsds / "voc")}
    assert kinds == {"JPEGImages/1": "xml", "2": "text"}


def test_two_images_of_one_name_keep_their_suffixes(tmp_path, rng):
    write_image(tmp_path / "a.jpg", rng)
    write_image(tmp_path / "a.png", rng)
    assert [s.name for s in find_stills(tmp_path)] == ["a.jpg", "a.png"]


def test_targets_follow_from_seed_and_name_alone(bsds):
    stills = find_stills(bsds)
    found = still_tracks(stills, StillLimits(), 3, seed=5, jobs=1)
    assert found.counts == {"segments": (2, 4), "squares": (1, 3)} and not found.wrong
    alone = still_tracks(stills[2:], StillLimits(), 3, seed=5, jobs=1)
    for a, b in zip(found.tracks[4:], alone.tracks, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
    other = still_tracks(stills[2:], StillLimits(), 3, seed=6, jobs=1)
    assert not np.array_equal(alone.tracks[0].boxes, other.tracks[0].boxes)


def test_an_image_that_cannot_be_read_is_told(tmp_path, rng):
    write_image(tmp_path / "a.png", rng)
    write_segmentations(tmp_path / "a.mat", np.ones((5, 5), int))
    broken = Still("b", tmp_path / "b.png", "squares", None)
    found = still_tracks([*find_stills(tmp_path), broken], StillLimits(), jobs=1)
    assert not found.tracks and len(found.wrong) == 2
    assert "segmentations of 100x120 pixels" in found.wrong[0] and "b.png" in found.wrong[1]
    with pytest.raises(ValueError, match="at least one target"):
        still_tracks([], StillLimits(), 0)


def test_annotated_boxes_keep_within_the_limits(tmp_path, rng):
    write_image(tmp_path / "a.png", rng)
    (tmp_path / "a.txt").write_text("11,21,30,20\n1,1,20,20\n5,5,3,3\n11,11,90,80\n")
    found = still_tracks(find_stills(tmp_path), StillLimits(), jobs=1)
    np.testing.assert_array_equal([t.boxes[0] for t in found.tracks], [[11, 21, 30, 20]])


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(SequenceError, match="there is none"):
        find_stills(tmp_path / "no")
    with pytest.raises(SequenceError, match="without any"):
        find_stills(tmp_path)


@pytest.mark.parametrize("settings", [{"min_area": 0.5}, {"max_aspect": 0.5}, {"max_borders": 5}])
def test_limits_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).partition("_")[2]):
        StillLimits(**settings)


# The command


def test_the_command_writes_a_store_and_a_contact_sheet(bsds, tmp_path, capsys):
    (bsds / "images" / "train" / "1.jpg").write_bytes(b"no image")
    arguments = ["images", str(bsds), "--out", str(tmp_path / "out"), "--jobs", "1"]
    sheet = tmp_path / "pairs.png"
    with pytest.warns(SequenceWarning, match="1 images were left out"):
        main([*arguments, "--crop-size", "351", "--sheet", str(sheet)])
    text = capsys.readouterr().out
    assert "segments: 2 images, 4 targets" in text and "squares: 2 images, 5 targets" in text
    store = CropStore(tmp_path / "out" / "crops")
    assert len(store) == len(store.tracks) == 9 and store.size == 351
    assert len({t.video for t in store.tracks}) == 3
    assert cv2.imread(str(sheet)).shape[1] == 4 * (127 + 239 + 12)
