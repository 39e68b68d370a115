"""The index of ILSVRC-2015 VID: the layout with all of its oddities."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dsiam_net.preparation.index import build_index
from dsiam_net.preparation.vid_layout import find_vid_videos, look_at_vid_video
from dsiam_net.sequences import SequenceError
from vid_tree import PART, an_object, write_frame, write_image, write_video

VIDEO = f"{PART}/ILSVRC2015_train_00005003"


def index(root, out=None, sets=("train",), jobs=1):
    items = find_vid_videos(root, sets)
    path = (out or root) / "index.jsonl"
    return build_index(path, "vid", items, look_at_vid_video, root, jobs)[0]


def only(root):
    (video,) = index(root)
    return video


def test_train_in_its_parts_and_val_are_found_in_order(tmp_path):
    names = [
        "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000",
        "train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00033007",
        "train/ILSVRC2015_VID_train_0002/ILSVRC2015_train_00033008",
        "train/ILSVRC2015_VID_train_0003/ILSVRC2015_train_01000000",
        "val/ILSVRC2015_val_00000001",
        "val/ILSVRC2015_val_00030000",
    ]
    for name in reversed(names):
        write_frame(tmp_path, name, 0)
    videos = index(tmp_path, sets=("train", "val"))
    assert [video.name for video in videos] == names
    assert [video.group for video in videos] == [
        "ILSVRC2015_train_00000",
        "ILSVRC2015_train_00033",
        "ILSVRC2015_train_00033",
        "ILSVRC2015_train_01000",
        "ILSVRC2015_val_00000",
        "ILSVRC2015_val_00030",
    ]
    assert [video.name for video in index(tmp_path, sets=("val",))] == names[4:]


def test_boxes_count_from_one_and_have_their_last_pixels(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(0, 0, 159, 119)])
    write_frame(tmp_path, VIDEO, 1, [an_object(10, 20, 10, 29)])
    video = only(tmp_path)
    assert video.size == (160, 120)
    assert_array_equal(video.tracks[0].boxes, [[1, 1, 160, 120], [11, 21, 1, 10]])
    assert video.paths[1] == tmp_path / "Data" / "VID" / VIDEO / "000001.JPEG"
    assert video.paths[1].is_file()


def test_several_objects_are_tracks_with_their_own_frames_labels_and_flags(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 1, 9, 9, track=2, label="n2", occluded=1)])
    write_frame(tmp_path, VIDEO, 1)
    write_frame(
        tmp_path,
        VIDEO,
        2,
        [an_object(3, 1, 9, 9, track=2, label="n2"), an_object(5, 5, 8, 8, label="n1")],
    )
    write_frame(tmp_path, VIDEO, 3, [an_object(6, 5, 8, 8, label="n1", generated=1)])
    first, second = only(tmp_path).tracks
    assert [first.name, second.name] == [
        "ILSVRC2015_train_00005003.00",
        "ILSVRC2015_train_00005003.02",
    ]
    assert [first.label, second.label] == ["n1", "n2"]
    assert_array_equal(first.present, [0, 0, 1, 1])
    assert_array_equal(second.present, [1, 0, 1, 0])
    assert_array_equal(second.flags["occluded"], [1, 0, 0, 0])
    assert_array_equal(first.flags["generated"], [0, 0, 0, 1])
    assert not first.flags["occluded"].any()


def test_a_frame_without_image_has_no_box(tmp_path):
    for t in range(3):
        write_frame(tmp_path, VIDEO, t, [an_object(1, 1, 9, 9)], image=t != 1)
    video = only(tmp_path)
    assert_array_equal(video.tracks[0].present, [1, 0, 1])
    assert video.notes == {"frames without image": 1}


def test_a_frame_without_annotation_has_no_box(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 1, 9, 9)])
    write_image(tmp_path, VIDEO, 1)
    write_frame(tmp_path, VIDEO, 2, [an_object(1, 1, 9, 9)])
    video = only(tmp_path)
    assert_array_equal(video.tracks[0].present, [1, 0, 1])
    assert video.notes == {"frames without annotation": 1}


def test_a_frame_that_is_missing_altogether_keeps_its_place(tmp_path):
    for t in (4, 5, 7):
        write_frame(tmp_path, VIDEO, t, [an_object(1, 1, 9, 9)])
    video = only(tmp_path)
    assert list(video.frames) == [f"{t:06d}.JPEG" for t in (4, 5, 6, 7)]
    assert_array_equal(video.tracks[0].present, [1, 1, 0, 1])


def test_videos_without_annotations_or_without_frames_have_no_track(tmp_path):
    write_image(tmp_path, f"{PART}/ILSVRC2015_train_00000000", 0)
    write_frame(tmp_path, f"{PART}/ILSVRC2015_train_00001000", 0, [an_object(1, 1, 9, 9)], False)
    empty = tmp_path / "Annotations" / "VID" / PART / "ILSVRC2015_train_00002000"
    empty.mkdir()
    unannotated, unseen, nothing = index(tmp_path)
    assert unannotated.tracks == () and len(unannotated) == 1
    assert not unseen.tracks[0].present.any()
    assert nothing.tracks == () and len(nothing) == 0


def test_boxes_that_are_inverted_are_none(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(9, 1, 1, 9)])
    write_frame(tmp_path, VIDEO, 1, [an_object(9, 9, 8, 9)])
    write_frame(tmp_path, VIDEO, 2, [an_object(9, 9, 9, 9)])
    assert_array_equal(only(tmp_path).tracks[0].present, [0, 0, 1])


def test_boxes_in_a_frame_of_another_size_are_left_out_and_counted(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 1, 9, 9)])
    write_frame(tmp_path, VIDEO, 1, [an_object(1, 1, 9, 9)], size=(320, 240))
    video = only(tmp_path)
    assert_array_equal(video.tracks[0].present, [1, 0])
    assert video.notes == {"frames of another size": 1}


def test_of_two_objects_of_one_track_in_a_frame_the_first_is_taken(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 1, 9, 9), an_object(20, 1, 39, 9)])
    video = only(tmp_path)
    assert_array_equal(video.tracks[0].boxes, [[2, 2, 9, 9]])
    assert video.notes == {"objects with the track of another": 1}


def test_files_of_other_tools_are_not_seen(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 1, 9, 9)])
    for tree in ("Annotations", "Data"):
        (tmp_path / tree / "VID" / VIDEO / "000000.txt").write_text("3,3,3\n")
        (tmp_path / tree / "VID" / VIDEO / "._000000.xml").write_text("")
        (tmp_path / tree / "VID" / PART / ".DS_Store").write_text("")
    video = only(tmp_path)
    assert len(video) == 1 and video.notes == {}


def test_a_file_with_another_name_is_an_error(tmp_path):
    xml = write_frame(tmp_path, VIDEO, 0)
    xml.rename(xml.with_name("first.xml"))
    with pytest.raises(SequenceError, match=r"first\.xml: expected a name of six digits and \.xml"):
        index(tmp_path)


def test_a_damaged_annotation_is_named_and_what_was_read_is_kept(tmp_path):
    for number in range(4):
        write_video(tmp_path, f"{PART}/ILSVRC2015_train_0000{number}000", 3)
    bad = tmp_path / "Annotations" / "VID" / PART / "ILSVRC2015_train_00002000" / "000001.xml"
    good = bad.read_text()
    bad.write_text(good[:100])
    with pytest.raises(SequenceError, match=r"00002000.000001\.xml: damaged, or not XML"):
        index(tmp_path)
    assert len((tmp_path / "index.jsonl.part").read_text().splitlines()) == 3
    bad.write_text(good)
    items = find_vid_videos(tmp_path, ("train",))
    _, read = build_index(
        tmp_path / "index.jsonl", "vid", items, look_at_vid_video, tmp_path, jobs=1
    )
    assert read == 2


def test_a_video_in_two_parts_is_an_error(tmp_path):
    write_frame(tmp_path, "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000", 0)
    write_frame(tmp_path, "train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000000", 1)
    with pytest.raises(SequenceError, match=r"each video once, and .*0000/.* and .*0001/"):
        find_vid_videos(tmp_path, ("train",))


def test_snippets_of_a_video_in_two_parts_are_one_group(tmp_path):
    write_frame(tmp_path, "train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00007000", 0)
    write_frame(tmp_path, "train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00007001", 0)
    assert len({video.group for video in index(tmp_path)}) == 1


def test_other_folders_are_refused_with_what_was_expected(tmp_path):
    write_frame(tmp_path / "ILSVRC2015", VIDEO, 0)
    with pytest.raises(SequenceError, match=r"did you mean .*ILSVRC2015"):
        find_vid_videos(tmp_path)
    with pytest.raises(SequenceError, match=r"expected videos in Annotations/VID/val.*--sets"):
        find_vid_videos(tmp_path / "ILSVRC2015")
    with pytest.raises(SequenceError, match="expected the folder of ILSVRC-2015"):
        find_vid_videos(tmp_path / "nowhere")


def test_the_index_is_json_in_lines_and_plain_numbers(tmp_path):
    write_frame(tmp_path, VIDEO, 0, [an_object(1, 2, 10, 20)])
    index(tmp_path)
    header, line = (tmp_path / "index.jsonl").read_text().splitlines()
    assert json.loads(header) == {"format": "dsiam_net.data index", "version": 1, "layout": "vid"}
    record = json.loads(line)
    assert record["folder"] == f"Data/VID/{VIDEO}"
    assert record["tracks"] == [
        {
            "name": "ILSVRC2015_train_00005003.00",
            "label": "n02084071",
            "at": [0],
            "boxes": [2, 3, 10, 19],
        }
    ]
    assert np.array_equal(only(tmp_path).tracks[0].boxes, [[2, 3, 10, 19]])
