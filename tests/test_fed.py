# ruff: noqa: F811 (fixtures that another test module has too)
"""What else may be fed: videos, images, boxes, weights and paths that are not as they should be.

``docs/robustness.md`` lists these tests with those of other modules.
"""

import struct
import zlib

import cv2
import numpy as np
import pytest
import scipy.io

from dagnet import DagNN
from dsiam_net.build_unrolled import main as build
from dsiam_net.overlay import VideoWriter
from dsiam_net.sequences import SequenceError, SequenceWarning, read_image, read_regions
from dsiam_net.sources import VideoFile
from dsiam_net.track import main as track
from dsiam_net.weights import load_weights
from layers import Conv, ReLU, SoftMax
from matlab_import import save_network
from test_track_command import command, folder, weights  # noqa: F401

FRAMES = 8
LEVEL = 20  # grey levels by which a frame is brighter than the one before


# Videos


@pytest.fixture
def film(tmp_path, rng):
    """The bytes of a video of JPEG frames, and where each frame's begin and end."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 64))
    for number in range(FRAMES):
        frame = np.full((64, 80, 3), LEVEL * number, np.uint8)
        frame[20:40, 20:40] = rng.integers(0, 256, (20, 20, 3))
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    places, end = [], content.index(b"movi")
    for _ in range(FRAMES):
        start = content.index(b"00dc", end) + 8
        end = start + int.from_bytes(content[start - 4 : start], "little")
        places.append((start, end))
    return path, content, places


def test_a_video_with_broken_frames_goes_on_after_them(film, weights, tmp_path):
    path, content, places = film
    damaged = bytearray(content)
    for number in (2, 4, 5):
        start, end = places[number]
        damaged[start:end] = bytes(end - start)
    path.write_bytes(damaged)
    frames = list(VideoFile(path).frames())
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.image is None for frame in frames] == [n in (2, 4, 5) for n in range(FRAMES)]
    for frame in frames:
        if frame.image is None:
            assert f"cannot decode frame {frame.index + 1} of {path}" in str(frame.error)
        else:
            assert abs(int(frame.image[0, 0, 0]) - LEVEL * frame.index) < 5
    assert VideoFile(path).count() == FRAMES
    out = tmp_path / "boxes.txt"
    with pytest.warns(SequenceWarning, match="frame 3 takes the box of the frame before"):
        track(command(path, weights, "--init", "21,21,20,20", "--save-boxes", out, "--fast"))
    assert len(out.read_text().splitlines()) == FRAMES


def test_a_video_that_is_cut_off_gives_the_frames_that_are_there(film):
    path, content, places = film
    path.write_bytes(content[: places[5][0] + 10])
    source = VideoFile(path)
    with pytest.warns(SequenceWarning, match=r"ended after [45] frames, 8 were announced"):
        frames = list(source.frames())
    assert 4 <= len(frames) <= 5 and frames[3].image is not None


def test_a_video_of_which_no_frame_can_be_decoded_is_refused(film, weights):
    path, content, places = film
    damaged = bytearray(content)
    for start, end in places:
        damaged[start:end] = bytes(end - start)
    path.write_bytes(damaged)
    with pytest.raises(SequenceError, match="no frame of this video can be decoded"):
        track(command(path, weights, "--init", "21,21,20,20"))
    path.write_bytes(content[:100])
    with pytest.raises(SequenceError, match="damaged, or of another format"):
        VideoFile(path)
    path.write_bytes(b"")
    with pytest.raises(SequenceError, match="damaged, or of another format"):
        VideoFile(path)


def test_frames_that_change_size_are_tracked_and_fitted_into_one_video(folder, weights, tmp_path):
    image = cv2.imread(str(folder / "img" / "0003.png"))
    cv2.imwrite(str(folder / "img" / "0003.png"), cv2.resize(image, (60, 45)))
    out, film = tmp_path / "boxes.txt", tmp_path / "film.mp4"
    track(command(folder, weights, "--save-boxes", out, "--save-video", film))
    assert np.isfinite(np.loadtxt(out, delimiter=",")).all()
    sizes = {frame.image.shape for frame in VideoFile(film).frames()}
    assert sizes == {(90, 120, 3)}


# Images


def test_of_sixteen_bit_colours_the_upper_eight_are_taken(tmp_path):
    colours = np.uint16([[[10, 20, 30], [40, 50, 250]]]) * 256 + 77
    cv2.imencode(".png", colours)[1].tofile(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[30, 20, 10], [250, 50, 40]]]
    alpha = np.dstack([colours, np.full((1, 2), 9, np.uint16)])
    cv2.imencode(".png", alpha)[1].tofile(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").tolist() == [[[30, 20, 10], [250, 50, 40]]]


def png(width, height):
    """A PNG file that says it is of this size, and holds nothing."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(1_000_000, 1_000_000), (2**31 - 1, 1), (0, 5)])
def test_an_image_of_an_absurd_size_is_refused(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png(*size))
    with pytest.raises(SequenceError, match=r"cannot decode image .*a\.png"):
        read_image(tmp_path / "a.png")


def test_a_folder_with_the_name_of_an_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(SequenceError, match=r"cannot read image .*a\.jpg: Is a directory"):
        read_image(tmp_path / "a.jpg")


def test_an_image_that_there_is_no_memory_for_is_not_left_out(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3)))

    def refuse(*_):
        error = cv2.error("no memory")
        error.code, error.err = -4, "Failed to allocate 48 bytes"
        raise error

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(MemoryError, match=r"a\.png: Failed to allocate 48 bytes"):
        read_image(tmp_path / "a.png")


# Boxes


def test_boxes_in_another_encoding_or_infinite_are_told(tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_bytes("1,2,3,4\n".encode("utf-16"))
    with pytest.raises(SequenceError, match=r"boxes\.txt"):
        read_regions(path)
    path.write_text("1,2,3,4\ninf,2,3,4\n1,2,1e400,4\n")
    assert np.isnan(read_regions(path)[1:]).all()


# Weights


def values(path):
    return {p.name: p.value for p in load_weights(path).params}


def changed(path, change):
    """The network of a file with the value of each parameter changed, in another file."""
    net = DagNN.load(path)
    for parameter in net.params:
        parameter.value = change(parameter)
    return net


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_with_nan_are_refused_by_name(folder, weights, tmp_path, suffix, wrong):
    def spoil(parameter):
        value = parameter.value.copy()
        if parameter.name == "conv3f":
            value.flat[5] = wrong
        return value

    path = tmp_path / f"bad{suffix}"
    net = changed(weights, spoil)
    net.save(path) if suffix == ".npz" else save_network(net, path)
    message = r"parameter 'conv3f' has values that are infinite or not a number"
    with pytest.raises(ValueError, match=message):
        track(command(folder, path))
    with pytest.raises(ValueError, match=message):
        build(["--frames", "1", "--weights", str(path)])


def test_weights_of_another_precision_track_alike(folder, weights, tmp_path):
    boxes = {}
    for dtype in (np.float32, np.float64, np.float16):
        path, out = tmp_path / f"{dtype.__name__}.npz", tmp_path / f"{dtype.__name__}.txt"
        # Values that half precision has, so that all three are the same network.
        changed(weights, lambda p, d=dtype: p.value.astype(np.float16).astype(d)).save(path)
        track(command(folder, path, "--save-boxes", out))
        boxes[dtype] = np.loadtxt(out, delimiter=",")
        assert values(path)["conv1f"].dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(boxes[np.float64], boxes[np.float32], atol=1e-9)
    np.testing.assert_array_equal(boxes[np.float16], boxes[np.float32])


def test_weights_that_are_no_real_numbers_are_refused(weights, tmp_path):
    changed(weights, lambda p: p.value.astype(complex)).save(tmp_path / "complex.npz")
    with pytest.raises(ValueError, match=r"'conv1f' must have real numbers, received complex128"):
        load_weights(tmp_path / "complex.npz")


def test_weights_of_another_network_are_refused_with_what_is_there(folder, tmp_path):
    net = DagNN()
    net.add_layer("fc", Conv(size=(4, 3, 5, 5)), "x", "h", ["w", "b"])
    net.add_layer("act", ReLU(), "h", "y")
    net.add_layer("prob", SoftMax(), "y", "z")
    net.init_params(0)
    net.save(tmp_path / "classifier.npz")
    with pytest.raises(ValueError, match="the feature layers of neither SiamFC nor VGG-19"):
        track(command(folder, tmp_path / "classifier.npz"))
    with pytest.raises(Exception, match=r"features feat, x14 are not all .* x, h, y, z"):
        build(["--frames", "1", "--weights", str(tmp_path / "classifier.npz")])
    scipy.io.savemat(tmp_path / "other.mat", {"measurements": np.ones(3)})
    with pytest.raises(ValueError, match=r"other\.mat"):
        track(command(folder, tmp_path / "other.mat"))


# Paths


def test_paths_may_have_spaces_and_any_letters(folder, weights, tmp_path):
    place = tmp_path / "Ünï cödé 目标, 1"
    place.mkdir()
    moved = folder.rename(place / "a folder")
    network = weights.rename(place / "wéights é.npz")
    out, record, film = place / "böxes 1.txt", place / "récord.json", place / "fílm 目.mp4"
    files = ("--save-boxes", out, "--save-json", record, "--save-video", film)
    assert track(command(moved, network, *files)) == 0
    again = place / "again.txt"
    assert track(command(film, network, "--init", "41,31,24,20", "--save-boxes", again)) == 0
    assert np.loadtxt(again, delimiter=",").shape == np.loadtxt(out, delimiter=",").shape
    with VideoWriter(place / "é è.mkv") as video:
        video.add(np.zeros((8, 8, 3), np.uint8))
    assert VideoFile(place / "é è.mkv").total == 1
