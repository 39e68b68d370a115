"""Tests of dsiam_net.clips."""

import cv2
import numpy as np
import pytest

from dsiam_net.clips import Clip, ClipFiles, ClipSampler, ListedClips, read_clips, write_clips
from dsiam_net.sequences import Sequence, SequenceError


@pytest.fixture
def make(tmp_path):
    """Write a sequence; the grey level of each frame is its number."""

    def make(name, count, absent=(), size=(6, 8)):
        paths = []
        for i in range(count):
            path = tmp_path / name / "img" / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imencode(".png", np.full((*size, 3), i))[1].tofile(path)
            paths.append(path)
        boxes = np.stack([[i + 1.25, 2, 3, 4.1] for i in range(count)])
        boxes[list(absent)] = np.nan
        return Sequence(name, tuple(paths), boxes)

    return make


def same(a: Clip, b: Clip) -> bool:
    return np.array_equal(a.frames, b.frames) and np.array_equal(a.boxes, b.boxes)


def test_a_clip_is_consecutive_frames_with_their_boxes(make):
    sampler = ClipSampler([make("a", 15)], length=10, seed=3)
    clip = sampler.clip(0, 0)
    assert clip.frames.shape == (10, 3, 6, 8) and clip.frames.dtype == np.uint8
    numbers = clip.frames[:, 1, 2, 3].astype(int)
    assert (np.diff(numbers) == 1).all() and len(clip) == 10
    np.testing.assert_array_equal(clip.boxes[:, 0], numbers + 1.25)


def test_a_clip_depends_on_seed_epoch_and_index_alone(make):
    sequences = [make("a", 40), make("b", 30)]
    asked = ClipSampler(sequences, seed=1)
    expected = {(e, i): asked.clip(e, i) for e in (0, 1) for i in range(4)}
    again = ClipSampler(sequences, seed=1)
    for key in reversed(expected):
        assert same(again.clip(*key), expected[key])
    starts = {(str(c.paths[0])) for c in (asked.files(e, i) for e in range(3) for i in range(10))}
    assert len(starts) > 10
    other = ClipSampler(sequences, seed=2)
    assert any(not same(other.clip(*key), clip) for key, clip in expected.items())


def test_every_sequence_and_every_start_is_drawn(make):
    sampler = ClipSampler([make("a", 12), make("b", 11)], length=10)
    drawn = {sampler.files(0, i).paths[0] for i in range(100)}
    assert sorted((p.parent.parent.name, p.stem) for p in drawn) == [
        ("a", "0000"),
        ("a", "0001"),
        ("a", "0002"),
        ("b", "0000"),
        ("b", "0001"),
    ]


def test_frames_without_a_box_are_never_drawn(make):
    sampler = ClipSampler([make("a", 20, absent=[3, 9, 17])], length=5)
    starts = {int(sampler.files(0, i).paths[0].stem) for i in range(100)}
    assert starts == {4, 10, 11, 12}


def test_sequences_that_are_too_short_are_refused(make):
    with pytest.raises(SequenceError, match=r"sequence a: expected 10 .* received 9 in a row of 9"):
        ClipSampler([make("a", 9)])
    with pytest.raises(SequenceError, match="received 7 in a row of 14"):
        ClipSampler([make("b", 14, absent=[7, 8])])
    with pytest.raises(SequenceError, match="received none"):
        ClipSampler([])
    with pytest.raises(ValueError, match="length"):
        ClipSampler([make("c", 3)], length=0)


def test_frames_of_one_clip_must_share_one_size(make):
    small, large = make("a", 3), make("b", 3, size=(7, 8))
    clip = ClipFiles(small.paths[:2] + large.paths[:1], small.boxes)
    with pytest.raises(SequenceError, match=r"expected a frame of 6x8.* received 7x8"):
        clip.read()


def test_a_list_of_clips_gives_back_what_was_written(make, tmp_path):
    sampler = ClipSampler([make("with, comma and space", 13), make("b", 20)], length=4)
    written = [sampler.files(0, i) for i in range(6)]
    written.append(ClipFiles(written[0].paths, written[0].boxes / 3))
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "clips.txt"
    write_clips(path, written)
    assert path.read_text().startswith("# clip")
    assert ",../b/img/" in path.read_text() and str(tmp_path) not in path.read_text()
    listed = ListedClips(path)
    assert len(listed) == 7
    for i, clip in enumerate(written):
        assert same(listed.clip(0, i), clip.read())
        assert same(listed.clip(5, i), listed.clip(0, i))
    with pytest.raises(IndexError, match="clip 7"):
        listed.clip(0, 7)


def test_clips_of_several_lists_are_taken_in_turn(make, tmp_path):
    def clips(name, count):
        sequence = make(name, count)
        return [
            ClipFiles(sequence.paths[i : i + 1], sequence.boxes[i : i + 1]) for i in range(count)
        ]

    first, second = clips("a", 4), clips("b", 2)
    write_clips(tmp_path / "first.txt", first)
    listed = ListedClips(tmp_path / "first.txt", second)
    names = [f"{clip.paths[0].parent.parent.name}{clip.paths[0].stem}" for clip in listed.files]
    assert names == ["a0000", "b0000", "a0001", "b0001", "a0002", "a0003"]


def test_whole_paths_and_comments_are_read(make, tmp_path):
    (path,) = make("a", 1).paths
    file = tmp_path / "clips.txt"
    file.write_text(f"# a comment\n\n0, {path}, 1, 2, 3, 4\n")
    (clip,) = read_clips(file)
    assert clip.paths == (path,) and clip.boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    "line, match",
    [
        ("0,a.png,1,2,3", "line 2: expected clip,frame,x,y,w,h"),
        ("zero,a.png,1,2,3,4", "line 2: expected clip,frame"),
        ("0,,1,2,3,4", "line 2: expected clip,frame"),
        ("1,a.png,1,2,3,4", "line 2: expected clip 0, received 1"),
        ("-1,a.png,1,2,3,4", "line 2: expected clip 0, received -1"),
        ("0,a.png,1,2,0,4", "line 2: expected a box"),
        ("0,a.png,1,2,nan,4", "line 2: expected a box"),
        ("0,a.png,1,2,3,4", "line 2: expected the file of a frame"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path, line, match):
    file = tmp_path / "clips.txt"
    file.write_text(f"# header\n{line}\n")
    with pytest.raises(SequenceError, match=f"clips.txt, {match}"):
        read_clips(file)


def test_numbers_of_clips_must_count_up(make, tmp_path):
    (path,) = make("a", 1).paths
    file = tmp_path / "clips.txt"
    file.write_text("".join(f"{i},{path},1,2,3,4\n" for i in (0, 1, 3)))
    with pytest.raises(SequenceError, match="line 3: expected clip 1 or 2, received 3"):
        read_clips(file)


def test_lists_without_a_clip_or_that_do_not_exist_are_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(SequenceError, match="at least one clip"):
        ListedClips(tmp_path / "empty.txt")
    with pytest.raises(SequenceError, match=r"missing\.txt"):
        read_clips(tmp_path / "missing.txt")


def test_a_name_with_a_line_break_is_refused(tmp_path):
    with pytest.raises(SequenceError, match="line break"):
        write_clips(tmp_path / "c.txt", [ClipFiles((tmp_path / "a\nb.png",), np.ones((1, 4)))])
