"""Tests of dsiam_net.generated and of ``data synthetic``: generated video on disk."""

import dataclasses

import numpy as np
import pytest

from dsiam_net import generated
from dsiam_net.clips import read_clips
from dsiam_net.crops import CropStore
from dsiam_net.data import main
from dsiam_net.generated import Recipe, write_videos
from dsiam_net.sequences import SequenceError, find_sequences, read_otb
from dsiam_net.variety import Variety
from test_pictures import write_segmented

RECIPE = Recipe(seed=4, frames=3, size=(72, 96), variety=Variety())


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_videos_are_sequences_with_exact_boxes(tmp_path):
    folders = list(write_videos(tmp_path, RECIPE, 2, jobs=1))
    assert [f.name for f in folders] == ["synthetic_000000", "synthetic_000001"]
    assert [s.name for s in find_sequences([tmp_path])] == [f.name for f in folders]
    frames, boxes = RECIPE.source().video(1, 3)
    sequence = read_otb(folders[1])
    np.testing.assert_allclose(sequence.boxes, boxes, atol=0.005)
    for index, frame in enumerate(frames):
        difference = np.abs(sequence.frame(index).astype(int) - frame)
        assert difference.mean() < 6  # JPEG, and noise in colour


def test_processes_make_the_same_videos(tmp_path):
    list(write_videos(tmp_path / "one", RECIPE, 3, jobs=1))
    list(write_videos(tmp_path / "two", RECIPE, 3, jobs=2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    list(write_videos(whole, RECIPE, 3, jobs=1))
    videos = write_videos(stopped, RECIPE, 2, jobs=1)
    next(videos)
    # As a run leaves it that is killed in the middle of its second video.
    part = stopped / ".synthetic_000001.part" / "synthetic_000001" / "img"
    part.mkdir(parents=True)
    (part / "0001.jpg").write_bytes(b"half")
    assert len(find_sequences([stopped])) == 1

    made = []
    write = generated.save_boxes
    monkeypatch.setattr(generated, "save_boxes", lambda *a: (made.append(a[0]), write(*a)))
    list(write_videos(stopped, RECIPE, 3, jobs=1))
    assert len(made) == 2
    assert files(stopped) == files(whole)


def test_videos_of_another_recipe_are_not_mixed(tmp_path):
    list(write_videos(tmp_path, RECIPE, 1, jobs=1))
    other = dataclasses.replace(RECIPE, seed=5, quality=50)
    with pytest.raises(SequenceError, match=r"other settings \(quality, seed\)"):
        write_videos(tmp_path, other, 1)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(SequenceError, match=r"recipe\.json: expected the recipe"):
        write_videos(tmp_path, RECIPE, 1)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(SequenceError, match="expected the recipe"):
        write_videos(tmp_path, RECIPE, 1)


def test_settings_out_of_range_leave_no_folder(tmp_path):
    for settings in ({"size": (20, 300)}, {"photographs": (str(tmp_path / "nowhere"),)}):
        with pytest.raises((ValueError, SequenceError)):
            write_videos(tmp_path / "out", dataclasses.replace(RECIPE, **settings), 1)
    with pytest.raises(ValueError, match="at least 1 video"):
        write_videos(tmp_path / "out", RECIPE, 0)
    for settings in ({"frames": 1}, {"quality": 0}):
        with pytest.raises(ValueError, match="received"):
            Recipe(**settings)
    assert not (tmp_path / "out").exists()


def test_one_command_writes_videos_clips_and_crops(tmp_path, capsys):
    out = tmp_path / "out"
    pictures = write_segmented(tmp_path / "pictures")
    arguments = [
        "synthetic", "--out", str(out), "--videos", "2", "--frames", "4", "--size", "96", "128",
        "--photographs", str(pictures), "--num-clips", "3", "--clip-length", "3", "--jobs", "1",
    ]  # fmt: skip
    main(arguments)
    said = capsys.readouterr().out
    assert "2 videos of 4 frames" in said and "3 clips of 3 frames" in said
    assert "8 crops of 2 videos" in said
    clips = read_clips(out / "clips.txt")
    assert [len(clip) for clip in clips] == [3, 3, 3]
    names = [clip.paths[0].parent.parent.name for clip in clips]
    assert names == ["synthetic_000000", "synthetic_000001", "synthetic_000000"]
    assert clips[0].read().frames.shape == (3, 3, 96, 128)
    store = CropStore(out / "crops")
    assert store.size == 255 and [len(track.files) for track in store.tracks] == [4, 4]

    before = files(out)
    main(arguments)
    assert files(out) == before
    main([*arguments, "--num-clips", "0", "--no-crops"])
    assert files(out) == before


def test_clips_longer_than_the_videos_are_refused(tmp_path):
    arguments = ["synthetic", "--out", str(tmp_path / "out"), "--frames", "5"]
    with pytest.raises(ValueError, match="--clip-length must lie in 1 to 5"):
        main(arguments)
    assert not (tmp_path / "out").exists()
