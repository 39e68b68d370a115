"""Clips and crops of selected tracks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dsiam_net.clips import read_clips, write_clips
from dsiam_net.preparation.drawing import crop_tracks, draw_clips
from dsiam_net.preparation.selection import Limits, select
from dsiam_net.preparation.videos import Track, Video
from dsiam_net.sequences import SequenceError

LIMITS = Limits(max_aspect=4, max_area=0.5, min_side=8, tolerance=0.5, min_frames=5)
FRAMES = 12


def a_track(name, bad=()):
    boxes = np.tile([1.0, 1, 20, 20], (FRAMES, 1))
    boxes[:, 0] += np.arange(FRAMES)
    boxes[list(bad), 3] = 90  # beyond the aspect ratio
    return Track(name, boxes)


def videos(folder=Path("data")):
    shapes = {"a": [()], "b": [(), (7, 8)], "c": [range(FRAMES)], "d": [(0, 6)]}
    return [
        Video(
            name,
            f"group {name}",
            folder / name,
            [f"{t:04d}.jpg" for t in range(FRAMES)],
            (100, 100),
            tuple(a_track(f"{name}.{i}", bad) for i, bad in enumerate(tracks)),
        )
        for name, tracks in shapes.items()
    ]


def choices():
    return select(videos(), LIMITS)


def test_clips_are_consecutive_frames_with_the_boxes_of_one_selected_track():
    clips = draw_clips(choices(), 60, 5, seed=0)
    assert len(clips) == 60
    for clip in clips:
        numbers = [int(path.stem) for path in clip.paths]
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert_array_equal(clip.boxes[:, 0], 1 + np.array(numbers))
        assert_array_equal(clip.boxes[:, 1:], np.tile([1, 20, 20], (5, 1)))
        assert len({path.parent for path in clip.paths}) == 1
    starts = {c.paths[0].as_posix() for c in clips if c.paths[0].parent.name == "d"}
    # Frames 0 and 6 of its track are beyond the limits.
    assert starts <= {"data/d/0001.jpg", "data/d/0007.jpg"}


def test_every_selected_video_comes_once_before_any_comes_again():
    clips = draw_clips(choices(), 8, 5, seed=1)
    names = [clip.paths[0].parent.name for clip in clips]
    for start in (0, 3):
        assert sorted(names[start : start + 3]) == ["a", "b", "d"]
    assert max(Counter(names).values()) == 3


def test_the_seed_alone_decides():
    def drawn(seed):
        return [(c.paths[0], c.boxes.tolist()) for c in draw_clips(choices(), 20, 5, seed)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_no_selected_track_and_senseless_numbers_are_errors():
    with pytest.raises(SequenceError, match="no track is selected"):
        draw_clips(select(videos()[2:3], LIMITS), 5, 5, 0)
    for number, length, words in ((0, 5, "number"), (5, 0, "length")):
        with pytest.raises(ValueError, match=f"{words} of clips must be at least 1"):
            draw_clips(choices(), number, length, 0)


def test_written_clips_are_read_back(tmp_path):
    here = videos(tmp_path / "data")
    for video in here:
        video.folder.mkdir(parents=True)
        for path in video.paths:
            path.touch()
    clips = draw_clips(select(here, LIMITS), 10, 5, 0)
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "clips.txt"
    write_clips(path, clips)
    for clip, back in zip(clips, read_clips(path), strict=True):
        assert [p.resolve() for p in back.paths] == list(clip.paths)
        assert_array_equal(back.boxes, clip.boxes)
    assert list(path.parent.iterdir()) == [path]


def test_crops_are_of_all_tracks_or_of_the_selected_ones_within_the_limits():
    everything = crop_tracks(choices(), selected=False)
    assert [track.name for track in everything] == ["a.0", "b.0", "b.1", "c.0", "d.0"]
    assert [track.video for track in everything][:2] == ["group a", "group b"]
    assert all(np.isfinite(track.boxes).all() for track in everything)
    chosen = crop_tracks(choices(), selected=True)
    assert [track.name for track in chosen] == ["a.0", "b.0", "b.1", "d.0"]
    assert_array_equal(np.flatnonzero(np.isnan(chosen[3].boxes[:, 0])), [0, 6])


def test_a_track_of_a_single_box_has_no_crops():
    array = np.full((FRAMES, 4), np.nan)
    array[3] = [1, 1, 20, 20]
    video = Video(
        "v", "v", Path("."), [str(t) for t in range(FRAMES)], (99, 99), (Track("t", array),)
    )
    assert crop_tracks(select([video], LIMITS), selected=False) == []
