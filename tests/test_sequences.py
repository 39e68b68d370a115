"""Tests of dsiam_net.sequences."""

import warnings

import cv2
import numpy as np
import pytest

from dsiam_net.boxes import polygon_to_box
from dsiam_net.sequences import (
    Sequence,
    SequenceError,
    SequenceWarning,
    find_sequences,
    read_image,
    read_otb,
    read_regions,
)
from golden import SHARED, golden

SEQUENCES = SHARED / "sequences"
needs_sequences = pytest.mark.skipif(not SEQUENCES.is_dir(), reason="shared sequences not found")


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, image)[1].tofile(path)


@pytest.fixture
def folder(tmp_path):
    """A sequence of four small frames, each of its own grey level, without boxes."""
    for i in range(4):
        write_image(tmp_path / "Toy" / "img" / f"{i + 1:04d}.png", np.full((6, 8, 3), 10 * i))
    return tmp_path / "Toy"


def boxes_of(count):
    return "".join(f"{i},2,3,4\n" for i in range(1, count + 1))


@needs_sequences
def test_all_shared_sequences_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sequences = {s.name: s for s in find_sequences(SEQUENCES)}
    assert len(sequences) == 23 and "Jogging.2" in sequences  # 22 folders, one with two targets
    for sequence in sequences.values():
        assert len(sequence) == len(sequence.boxes) > 0 and sequence.present[0]
        frame = sequence.frame(0)
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        x, y, w, h = sequence.boxes[0]
        assert x + w / 2 < frame.shape[1] and y + h / 2 < frame.shape[0]
    assert sequences["vot15_bag"].polygons.shape == (196, 8)
    assert sequences["Jogging"].boxes[0].tolist() == [111, 98, 25, 101]
    assert sequences["Jogging.2"].boxes[0].tolist() == [180, 79, 37, 114]


@needs_sequences
@golden("frames_first")
def test_frames_are_decoded_as_by_the_originals(case):
    name = {"s": "Skiing", "b": "vot15_bag"}[case.name[0]]
    frame = read_otb(SEQUENCES / name).frame(0)
    field = next(iter(case.arrays))
    np.testing.assert_array_equal(frame, case.matlab(field)[..., 0])


def test_frames_and_boxes_are_read_in_order(folder):
    (folder / "groundtruth_rect.txt").write_text("1,2,3,4\n5\t6\t7\t8\n9 10 11 12\n1.5, 2 ,3,4\n\n")
    sequence = read_otb(folder)
    assert (sequence.name, len(sequence)) == ("Toy", 4)
    assert sequence.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [1.5, 2, 3, 4]]
    assert [int(sequence.frame(i)[0, 0, 0]) for i in range(4)] == [0, 10, 20, 30]


def test_numbers_in_file_names_are_sorted_as_numbers(tmp_path):
    for i in (1, 2, 10):
        write_image(tmp_path / "img" / f"{i}.png", np.full((4, 4, 3), i))
    (tmp_path / "groundtruth_rect.txt").write_text(boxes_of(3))
    assert [p.name for p in read_otb(tmp_path).paths] == ["1.png", "2.png", "10.png"]


def test_channels_are_red_green_blue_and_grey_is_repeated(tmp_path):
    color = tmp_path / "color.png"
    write_image(color, np.full((4, 5, 3), (30, 20, 10), np.uint8))  # OpenCV writes blue first
    assert read_image(color)[0, 0].tolist() == [10, 20, 30]
    grey = tmp_path / "grey.png"
    write_image(grey, np.arange(20, dtype=np.uint8).reshape(4, 5))
    image = read_image(grey)
    assert image.shape == (4, 5, 3) and image[3, 4].tolist() == [19, 19, 19]


def test_a_path_may_have_any_characters(tmp_path):
    path = tmp_path / "日本 Ünï,cödé" / "img" / "1.png"
    write_image(path, np.full((4, 4, 3), 7))
    (path.parent.parent / "groundtruth_rect.txt").write_text("1,1,2,2\n")
    (sequence,) = find_sequences(tmp_path)
    assert sequence.frame(0)[0, 0, 0] == 7


def test_a_target_that_is_absent_has_no_box(folder):
    (folder / "groundtruth_rect.txt").write_text("1,2,3,4\nNaN,NaN,NaN,NaN\nnan,2,3,4\n1,2,0,4\n")
    sequence = read_otb(folder)
    assert sequence.present.tolist() == [True, False, False, False]
    assert np.isnan(sequence.boxes[1:3]).all()


def test_polygons_give_boxes_and_are_kept(folder):
    polygon = "246.5,232,270,232,270,209,246.5,209\n"
    (folder / "groundtruth_poly.txt").write_text(polygon * 4)
    sequence = read_otb(folder)
    np.testing.assert_array_equal(sequence.boxes, polygon_to_box(sequence.polygons))
    (folder / "groundtruth_rect.txt").write_text(boxes_of(4))
    both = read_otb(folder)
    assert both.boxes[3].tolist() == [4, 2, 3, 4]
    np.testing.assert_array_equal(both.polygons, sequence.polygons)
    (folder / "groundtruth_rect.txt").write_text(polygon * 4)
    np.testing.assert_array_equal(read_otb(folder).polygons, sequence.polygons)


def test_every_target_of_a_folder_is_found(folder):
    (folder / "groundtruth_rect.1.txt").write_text(boxes_of(4))
    (folder / "groundtruth_rect.2.txt").write_text("7,7,7,7\n" * 4)
    (folder.parent / "other").mkdir()
    for path in (folder, folder.parent, [str(folder)]):
        first, second = find_sequences(path)
        assert (first.name, second.name) == ("Toy", "Toy.2")
        assert second.boxes[0].tolist() == [7, 7, 7, 7]


def test_frames_without_boxes_are_left_out_with_a_warning(folder):
    (folder / "groundtruth_rect.txt").write_text(boxes_of(3))
    with pytest.warns(SequenceWarning, match="3 boxes for 4 frames"):
        assert len(read_otb(folder)) == 3


def test_otbs_david_begins_at_frame_300(tmp_path):
    for i in range(1, 303):
        write_image(tmp_path / "David" / "img" / f"{i:04d}.png", np.zeros((2, 2, 3)))
    (tmp_path / "David" / "groundtruth_rect.txt").write_text(boxes_of(3))
    assert read_otb(tmp_path / "David").paths[0].name == "0300.png"


def refused(match, function, *arguments):
    with pytest.raises(SequenceError, match=match):
        function(*arguments)


def test_what_a_sequence_lacks_is_named(folder, tmp_path):
    refused("groundtruth_rect.txt or groundtruth_poly.txt", read_otb, folder)
    refused(r"groundtruth_rect\.3\.txt", read_otb, folder, 3)
    (folder / "groundtruth_rect.txt").write_text(boxes_of(5))
    refused("groundtruth_rect.txt: expected at most 4 boxes.*received 5", read_otb, folder)
    (folder / "groundtruth_poly.txt").write_text("1,2,3,4,5,6,7,8\n")
    refused("groundtruth_poly.txt: expected 5 polygons.*received 1", read_otb, folder)
    refused("none: expected the folder", read_otb, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refused("folder img", read_otb, tmp_path / "empty")
    refused("found none", find_sequences, tmp_path / "empty")
    refused("none", find_sequences, [tmp_path / "none"])
    (tmp_path / "empty" / "img").mkdir()
    refused("without any", read_otb, tmp_path / "empty")


@pytest.mark.parametrize(
    "text, match",
    [
        ("1,2,3,4\n1,2,3\n", "line 2: expected 4 numbers, received '1,2,3'"),
        ("1,2,3\n", "line 1: expected 4 or 8 numbers"),
        ("x,y,w,h\n", "line 1: expected 4 or 8 numbers, received 'x,y,w,h'"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2"),
        ("\n", "empty file"),
    ],
)
def test_lines_that_are_no_boxes_are_named(tmp_path, text, match):
    path = tmp_path / "boxes.txt"
    path.write_text(text)
    refused(f"boxes.txt.*{match}", read_regions, path)


def test_images_that_cannot_be_read_are_named(tmp_path):
    refused("missing.jpg", read_image, tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    refused(r"empty.jpg \(0 bytes\)", read_image, tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not an image")
    refused("cannot decode image .*text.jpg", read_image, tmp_path / "text.jpg")
    refused("missing.txt", read_regions, tmp_path / "missing.txt")


def test_a_sequence_needs_one_box_a_frame(tmp_path):
    two, three = (tmp_path,) * 2, np.ones((3, 4))
    refused(r"2 frames need boxes of shape \(2, 4\)", Sequence, "s", two, three)
