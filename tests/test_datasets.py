"""Tests of dsiam_net.datasets: small trees in the layouts of the public data sets."""

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from dsiam_net.datasets.recognise import PLAIN, recognise
from dsiam_net.datasets.uav123 import PARTS, read_uav123
from dsiam_net.sequences import (
    SequenceError,
    SequenceWarning,
    find_sequences,
    read_image,
    read_sequence,
)


def write_frames(folder, count, name="{:08d}.jpg", first=1):
    """Frames of one grey level each, which tells their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        image = np.full((6, 8, 3), number % 256, np.uint8)
        cv2.imencode(folder.joinpath(name.format(number)).suffix, image)[1].tofile(
            folder / name.format(number)
        )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def levels(sequence):
    return [int(sequence.frame(i)[0, 0, 0]) for i in range(len(sequence))]


def read_without_warning(path, target=1):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_sequence(path, target)


# Layouts


def test_vot_up_to_2017_has_frames_beside_polygons(tmp_path):
    write_frames(tmp_path / "bag", 3)
    polygon = "334.02,128.36,438.19,188.78,396.39,260.83,292.23,200.41"
    write(tmp_path / "bag" / "groundtruth.txt", f"{polygon}\n" * 3)
    write(tmp_path / "bag" / "camera_motion.tag", "0\n0\n0\n")
    sequence = read_without_warning(tmp_path / "bag")
    assert recognise(tmp_path / "bag").name == "VOT"
    assert sequence.name == "bag" and levels(sequence) == [1, 2, 3]
    assert sequence.polygons[0].tolist() == [float(v) for v in polygon.split(",")]
    assert sequence.present.all() and sequence.truth is sequence.polygons


def test_vot_from_2018_has_frames_in_color(tmp_path):
    write_frames(tmp_path / "ants1" / "color", 2)
    write(tmp_path / "ants1" / "groundtruth.txt", "1,2,3,4\r\n2,3,4,5\r\n")
    write(tmp_path / "ants1" / "sequence", "channels.color=color/%08d.jpg\n")
    sequence = read_without_warning(tmp_path / "ants1")
    assert recognise(tmp_path / "ants1").name == "VOT"
    assert sequence.boxes.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert sequence.polygons is None and levels(sequence) == [1, 2]


def test_votlt_has_no_box_where_the_target_is_absent(tmp_path):
    write_frames(tmp_path / "nissan" / "color", 3)
    write(tmp_path / "nissan" / "groundtruth.txt", "1,2,3,4\nnan,nan,nan,nan\n2,3,4,5\n")
    assert read_without_warning(tmp_path / "nissan").present.tolist() == [True, False, True]


def test_masks_of_vot_2020_are_refused_by_line(tmp_path):
    write_frames(tmp_path / "agility" / "color", 1)
    write(tmp_path / "agility" / "groundtruth.txt", "m642,120,35,90,12,4,31,4\n")
    with pytest.raises(SequenceError, match="line 1: expected 4 or 8 numbers, received 'm642"):
        read_sequence(tmp_path / "agility")


def test_got10k_leaves_out_boxes_of_absent_and_covered_targets(tmp_path):
    folder = tmp_path / "GOT-10k_Val_000001"
    write_frames(folder, 4)
    write(folder / "groundtruth.txt", "347.0,443.0,429.0,272.0\n" * 4)
    write(folder / "absence.label", "0\n0\n1\n0\n")
    write(folder / "cover.label", "8\n0\n3\n5\n")
    write(folder / "cut_by_image.label", "0\n0\n0\n0\n")
    write(folder / "meta_info.ini", "[METAINFO]\nurl: https://example.org\n")
    sequence = read_without_warning(folder)
    assert recognise(folder).name == "GOT-10k"
    assert sequence.present.tolist() == [True, False, False, True]
    assert sequence.boxes[0].tolist() == [347, 443, 429, 272]


def test_got10ks_test_set_has_the_first_box_alone(tmp_path):
    folder = tmp_path / "GOT-10k_Test_000001"
    write_frames(folder, 3)
    write(folder / "groundtruth.txt", "532.0000,313.0000,117.0000,82.0000\n")
    sequence = read_without_warning(folder)
    assert recognise(folder).name == "GOT-10k"
    assert len(sequence) == 3 and sequence.present.tolist() == [True, False, False]


def test_lasot_leaves_out_boxes_of_hidden_targets(tmp_path):
    folder = tmp_path / "airplane-1"
    write_frames(folder / "img", 4)
    write(folder / "groundtruth.txt", "367,101,41,16\n366,103,45,16\n364,108,53,15\n0,0,0,0\n")
    write(folder / "full_occlusion.txt", "0,1,0,0")
    write(folder / "out_of_view.txt", "0,0,0,1\n")
    write(folder / "nlp.txt", "white airplane landing on ground")
    sequence = read_without_warning(folder)
    assert recognise(folder).name == "LaSOT"
    assert sequence.present.tolist() == [True, False, True, False]
    write(folder / "full_occlusion.txt", "0,1,0")
    with pytest.raises(SequenceError, match=r"full_occlusion\.txt: expected 4 numbers.*received 3"):
        read_sequence(folder)
    write(folder / "full_occlusion.txt", "0,1,0,x")
    with pytest.raises(SequenceError, match=r"full_occlusion\.txt: expected whole numbers"):
        read_sequence(folder)


def uav123(tmp_path, name, count, *annotations):
    folder = tmp_path / "UAV123" / "data_seq" / "UAV123" / name
    write_frames(folder, count, "{:06d}.jpg")
    for file, text in annotations:
        write(tmp_path / "UAV123" / "anno" / "UAV123" / f"{file}.txt", text)
    return folder


def test_uav123_has_boxes_in_a_tree_of_their_own(tmp_path):
    folder = uav123(tmp_path, "bike1", 3, ("bike1", "1,2,3,4\nNaN,NaN,NaN,NaN\n5,6,7,8\n"))
    sequence = read_without_warning(folder)
    assert recognise(folder).name == "UAV123"
    assert sequence.name == "bike1" and sequence.present.tolist() == [True, False, True]
    (again,) = find_sequences(folder.parent)
    assert again.boxes[2].tolist() == [5, 6, 7, 8]


def test_uav123_divides_long_videos(tmp_path):
    first, last = PARTS["truck4"][1]
    boxes = [("truck4_1", "1,1,2,2\n" * 577), ("truck4_2", "3,3,2,2\n" * (last - first + 1))]
    folder = uav123(tmp_path, "truck4", 0, *boxes)
    for number in (1, 577, 578, 1261, 1300):
        write_frames(folder, 1, "{:06d}.jpg", number)
    with pytest.warns(SequenceWarning, match="are missing"):
        part = read_sequence(folder, 2)
    assert part.name == "truck4_2" and len(part) == 685
    assert [part.paths[0].name, part.paths[-1].name] == ["000577.jpg", "001261.jpg"]
    file = tmp_path / "UAV123" / "anno" / "UAV123" / "truck4_2.txt"
    with pytest.warns(SequenceWarning):
        assert read_uav123(file).paths == part.paths
    with pytest.raises(SequenceError, match=r"part 3 .* there are of 1, 2"):
        read_sequence(folder, 3)


def test_a_part_of_a_uav123_video_needs_its_frames(tmp_path):
    folder = uav123(tmp_path, "truck4", 5, ("truck4_2", "1,1,2,2\n" * 3))
    with pytest.raises(SequenceError, match=r"numbers 577 to 1261, .* none among 5 images"):
        read_sequence(folder, 2)


def test_tlp_has_numbers_of_frames_and_flags_of_loss(tmp_path):
    folder = tmp_path / "CarChase2"
    write_frames(folder / "img", 3, "{:05d}.jpg")
    write(folder / "groundtruth_rect.txt", "1,10,20,30,40,0\n2,11,20,30,40,1\n3,12,20,30,40,0\n")
    sequence = read_without_warning(folder)
    assert recognise(folder).name == "TLP"
    assert sequence.boxes[0].tolist() == [10, 20, 30, 40]
    assert sequence.present.tolist() == [True, False, True]
    write(folder / "groundtruth_rect.txt", "1,10,20,30,40,0\n3,12,20,30,40,0\n")
    with pytest.raises(SequenceError, match="line 2: expected frame 2, received 3"):
        read_sequence(folder)


def test_a_folder_of_images_is_a_sequence_without_boxes(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b" / "img", tmp_path / "c" / "color"):
        write_frames(folder, 2, "frame {}.png")
    for name in "abc":
        assert PLAIN.matches(tmp_path / name) and recognise(tmp_path / name) is None
        sequence = read_without_warning(tmp_path / name)
        assert sequence.name == name and levels(sequence) == [1, 2]
        assert not sequence.present.any()


def test_what_is_no_sequence_is_told_what_was_looked_for(tmp_path):
    with pytest.raises(SequenceError) as error:
        read_sequence(tmp_path)
    for name in ("OTB", "VOT", "GOT-10k", "LaSOT", "UAV123", "TLP", "plain"):
        assert f"{name}: " in str(error.value)
    write_frames(tmp_path / "bag", 1)
    write(tmp_path / "bag" / "groundtruth.txt", "1,2,3,4\n")
    with pytest.raises(SequenceError, match=r"a folder of 1; name one of them, such as .*bag"):
        read_sequence(tmp_path)
    with pytest.raises(SequenceError, match="has one target, asked for 2"):
        read_sequence(tmp_path / "bag", 2)
    with pytest.raises(SequenceError, match="there is none"):
        read_sequence(tmp_path / "none")


def test_sequences_of_several_layouts_are_found_together(tmp_path):
    write_frames(tmp_path / "bag", 1)
    write(tmp_path / "bag" / "groundtruth.txt", "1,2,3,4\n")
    write_frames(tmp_path / "Deer" / "img", 1)
    write(tmp_path / "Deer" / "groundtruth_rect.txt", "1,2,3,4\n")
    write_frames(tmp_path / "only frames", 1)
    assert [sequence.name for sequence in find_sequences(tmp_path)] == ["Deer", "bag"]


# Oddities


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\r\n5,6,7,8\r\n",
        "1\t2\t3\t4\n5\t6\t7\t8",
        "\ufeff1, 2, 3, 4,\n5 6  7 8 \n\n",
        "1;2;3;4\r5;6;7;8\r",
    ],
    ids=["CRLF", "tabs", "byte order mark and stray commas", "CR"],
)
def test_boxes_may_be_written_in_many_ways(tmp_path, text):
    write_frames(tmp_path / "Deer" / "img", 2)
    write(tmp_path / "Deer" / "groundtruth_rect.txt", text)
    assert read_without_warning(tmp_path / "Deer").boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_frame_that_is_missing_is_named_and_has_no_box(tmp_path):
    folder = tmp_path / "Deer"
    write_frames(folder / "img", 4, "{:04d}.jpg")
    (folder / "img" / "0002.jpg").unlink()
    write(folder / "groundtruth_rect.txt", "1,2,3,4\n" * 4)
    with pytest.warns(SequenceWarning, match=r"frames 0002\.jpg are missing"):
        sequence = read_sequence(folder)
    assert sequence.present.tolist() == [True, False, True, True]
    frames = list(sequence.frames())
    assert [frame.image is None for frame in frames] == [False, True, False, False]
    assert "0002.jpg" in str(frames[1].error)


def test_counts_that_do_not_match_are_told_apart(tmp_path):
    folder = tmp_path / "Deer"
    write_frames(folder / "img", 4, "{:04d}.jpg")
    (folder / "img" / "0002.jpg").unlink()
    write(folder / "groundtruth_rect.txt", "1,2,3,4\n" * 9)
    message = r"at most 3 boxes, one a frame in .*img \(0002\.jpg missing\), received 9"
    with pytest.raises(SequenceError, match=message):
        read_sequence(folder)
    write(folder / "groundtruth_rect.txt", "1,2,3,4\n" * 2)
    with pytest.warns(SequenceWarning, match="2 boxes for 3 frames"):
        assert len(read_sequence(folder)) == 2


# Images


COLOURS = np.uint8([[[250, 10, 20], [20, 240, 30]], [[10, 30, 230], [128, 128, 128]]])


def picture():
    """Four squares of plain colours, large enough to survive JPEG."""
    return COLOURS.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm"])
def test_colours_survive_in_every_format(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8 and image.shape == (32, 32, 3)
    np.testing.assert_allclose(image[8::16, 8::16], COLOURS, atol=30 if suffix == ".webp" else 6)


def test_cmyk_is_converted(tmp_path):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[8::16, 8::16], COLOURS, atol=8)


def test_transparency_is_left_out(tmp_path):
    image = Image.fromarray(picture())
    image.putalpha(77)
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())
    image = Image.fromarray(picture()[:, :, 0]).convert("LA")
    image.save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png")[:, :, 2], picture()[:, :, 0])


def test_a_palette_is_looked_up(tmp_path):
    Image.fromarray(picture()).quantize(8).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[8::16, 8::16], COLOURS, atol=2)


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path):
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + np.uint16(100)
    cv2.imencode(".png", grey)[1].tofile(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.stack([np.arange(256).reshape(16, 16)] * 3, axis=2))


def test_one_bit_is_black_and_white(tmp_path):
    Image.fromarray(picture()[:, :, 0] > 100).save(tmp_path / "a.png")
    assert set(np.unique(read_image(tmp_path / "a.png"))) == {0, 255}


def test_a_cut_off_file_is_refused_or_read_but_never_breaks_down(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    whole = path.read_bytes()
    for length in (0, 1, 8, 20, 40, len(whole) // 2):
        path.write_bytes(whole[:length])
        try:
            assert read_image(path).shape == (32, 32, 3)
        except SequenceError as error:
            assert "a.png" in str(error)
