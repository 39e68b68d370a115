"""``python -m dsiam_net.data vid|got10k|lasot|otb|sequences`` from files to clips and crops."""

import json
import warnings

import cv2
import numpy as np
import pytest

from dsiam_net.clips import ListedClips, read_clips
from dsiam_net.crops import CropStore
from dsiam_net.data import main
from dsiam_net.preparation.sequence_layouts import find_folders
from dsiam_net.sequences import SequenceError, SequenceWarning
from vid_tree import PART, an_object, write_frame, write_video

FRAMES = 12


def run(*arguments):
    few = () if "--num-clips" in arguments else ("--num-clips", 5)
    main([*map(str, (*arguments, *few)), "--jobs", "1"])


@pytest.fixture
def vid(tmp_path):
    root = tmp_path / "vid"
    write_video(root, f"{PART}/ILSVRC2015_train_00000000")
    write_video(root, f"{PART}/ILSVRC2015_train_00000001")
    write_video(root, f"{PART}/ILSVRC2015_train_00001000", frames=4)
    wide = f"{PART}/ILSVRC2015_train_00002000"
    for t in range(12):
        write_frame(root, wide, t, [an_object(0, 50, 149, 59), an_object(0, 0, 159, 119, track=1)])
    write_video(root, "val/ILSVRC2015_val_00000000", frames=20)
    return root


def test_vid_gives_index_selection_clips_and_crops(vid, tmp_path, capsys):
    out = tmp_path / "out"
    run("vid", vid, "--out", out, "--num-clips", 7)
    counts = json.loads((out / "selection.json").read_text())
    assert {v: n for v, n in counts["videos"].items() if n} == {
        "selected": 3,
        "too few frames in a row": 1,
        "fills the frame": 1,
    }
    assert {v: n for v, n in counts["tracks"].items() if n} == {
        "selected": 3,
        "too few frames in a row": 1,
        "extreme aspect ratio": 1,
        "fills the frame": 1,
    }
    clip = ListedClips(out / "clips.txt").clip(0, 6)
    assert clip.frames.shape == (10, 3, 120, 160)
    assert len(read_clips(out / "clips.txt")) == 7
    store = CropStore(out / "crops")
    assert sorted((track.name[-11:], track.video[-5:], len(track)) for track in store.tracks) == [
        ("00000000.00", "00000", 15),
        ("00000000.00", "00000", 20),
        ("00000001.00", "00000", 15),
        ("00001000.00", "00001", 4),
        ("00002000.00", "00002", 12),
        ("00002000.01", "00002", 12),
    ]
    printed = capsys.readouterr().out
    assert "5 videos, 5 read anew" in printed and "selected" in printed


def test_the_same_command_again_reads_nothing_anew_and_writes_the_same(vid, tmp_path, capsys):
    arguments = ("vid", vid, "--out", tmp_path / "out", "--num-clips", 7, "--no-crops")
    run(*arguments)
    files = sorted((tmp_path / "out").iterdir())
    before = [path.read_bytes() for path in files]
    capsys.readouterr()
    run(*arguments)
    assert "5 videos, 0 read anew" in capsys.readouterr().out
    assert sorted((tmp_path / "out").iterdir()) == files
    assert [path.read_bytes() for path in files] == before
    assert [path.name for path in files] == [
        "clips.txt",
        "index.jsonl",
        "selection.csv",
        "selection.json",
    ]


def test_the_seed_changes_the_clips_alone(vid, tmp_path):
    for seed in (0, 1):
        run("vid", vid, "--out", tmp_path / str(seed), "--seed", seed, "--no-crops")
    for name, same in (("index.jsonl", True), ("selection.csv", True), ("clips.txt", False)):
        a, b = (tmp_path / str(seed) / name for seed in (0, 1))
        assert (a.read_bytes() == b.read_bytes()) is same


def test_thresholds_are_options(vid, tmp_path):
    out = tmp_path / "out"
    run(
        *("vid", vid, "--out", out, "--no-crops", "--max-aspect", 20, "--max-area", 1),
        *("--num-clips", 3, "--clip-length", 4, "--min-frames", 4, "--sets", "train"),
    )
    counts = json.loads((out / "selection.json").read_text())
    assert counts["videos"]["selected"] == 4 and counts["tracks"]["selected"] == 5
    assert {len(clip) for clip in read_clips(out / "clips.txt")} == {4}


def test_a_clip_is_never_longer_than_what_was_selected_for(vid, tmp_path):
    out = tmp_path / "out"
    run("vid", vid, "--out", out, "--no-crops", "--min-frames", 2, "--clip-length", 16)
    limits = json.loads((out / "selection.json").read_text())
    assert limits["limits"]["min_frames"] == 16 and limits["videos"]["selected"] == 1


def test_flags_can_be_skipped(vid, tmp_path):
    for t in range(15):
        write_frame(
            vid,
            f"{PART}/ILSVRC2015_train_00000001",
            t,
            [an_object(10, 20, 39, 49, generated=int(t < 8))],
        )
    out = tmp_path / "out"
    run("vid", vid, "--out", out, "--no-crops", "--skip", "generated", "occluded")
    counts = json.loads((out / "selection.json").read_text())["videos"]
    assert counts["selected"] == 2 and counts["too few frames in a row"] == 2


def test_crops_of_the_selected_ones_thinned(vid, tmp_path):
    out = tmp_path / "out"
    run(
        *("vid", vid, "--out", out, "--num-clips", 0, "--crops", "selected", "--crop-size", 271),
        *("--crop-every", 4, "--max-crops", 3),
    )
    store = CropStore(out / "crops")
    assert store.size == 271 and [len(track) for track in store.tracks] == [3, 3, 3]
    assert not (out / "clips.txt").exists()


@pytest.mark.parametrize(
    "options, left",
    [
        (["--exclude", "ILSVRC2015_train_00000000"], 2),
        (["--exclude", "ILSVRC2015_train_00000000.00", "ILSVRC2015_val_00000000"], 1),
        (["--sequences", "ILSVRC2015_val_00000000", "ILSVRC2015_train_00000001.00"], 2),
        (["--sequences", "val/ILSVRC2015_val_00000000"], 1),
    ],
)
def test_videos_and_tracks_can_be_left_out_of_clips_and_crops(vid, tmp_path, options, left):
    out = tmp_path / "out"
    run("vid", vid, "--out", out, "--num-clips", 6, *options, "--crop-every", 5)
    assert json.loads((out / "selection.json").read_text())["videos"]["selected"] == left
    kept = {path.parent.name for clip in read_clips(out / "clips.txt") for path in clip.paths}
    assert len(kept) == left
    crops = {track.name.partition(".")[0] for track in CropStore(out / "crops").tracks}
    assert kept <= crops
    if options[0] == "--exclude":
        assert not {name.partition(".")[0] for name in options[1:]} & (kept | crops)


@pytest.mark.parametrize("option", ["--exclude", "--sequences"])
def test_a_name_that_is_not_there_is_an_error(vid, tmp_path, option):
    with pytest.raises(SequenceError, match=r"no video or track ILSVRC2015_train_7"):
        run("vid", vid, "--out", tmp_path / "out", option, "ILSVRC2015_train_7")


def test_what_was_odd_is_counted(vid, tmp_path, capsys):
    write_frame(vid, f"{PART}/ILSVRC2015_train_00000001", 15, image=False)
    run("vid", vid, "--out", tmp_path / "out", "--no-crops")
    assert "frames without image: 1\n" in capsys.readouterr().out


def write_images(folder, digits, frames=FRAMES, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(1, frames + 1):
        _, data = cv2.imencode(suffix, np.full((60, 80, 3), 10 * t, np.uint8))
        (folder / f"{t:0{digits}d}{suffix}").write_bytes(data.tobytes())


def lines(frames=FRAMES, w=20, h=10.5):
    return "".join(f"{t + 1},{2 * t},{w},{h}\n" for t in range(frames))


def write_otb(folder, targets=1, **options):
    write_images(folder / "img", 4)
    for number in range(1, targets + 1):
        name = "groundtruth_rect" + (f".{number}" if targets > 1 else "") + ".txt"
        (folder / name).write_text(lines(**options))


def write_got10k(folder, absent=()):
    write_images(folder, 8)
    (folder / "groundtruth.txt").write_text(lines())
    flags = "".join(f"{int(t in absent)}\n" for t in range(FRAMES))
    (folder / "absence.label").write_text(flags)


def write_lasot(folder, hidden=()):
    write_images(folder / "img", 8)
    (folder / "groundtruth.txt").write_text(lines())
    flags = ",".join(str(int(t in hidden)) for t in range(FRAMES))
    (folder / "full_occlusion.txt").write_text(flags + "\n")


def selected(out):
    counts = json.loads((out / "selection.json").read_text())
    return {verdict: number for verdict, number in counts["tracks"].items() if number}


def test_got10k_with_its_sets_in_parts(tmp_path):
    root, out = tmp_path / "got10k", tmp_path / "out"
    write_got10k(root / "train" / "split-01" / "GOT-10k_Train_000001")
    write_got10k(root / "train" / "split-02" / "GOT-10k_Train_000002", absent=(5,))
    write_got10k(root / "val" / "GOT-10k_Val_000001")
    run("got10k", root, "--out", out, "--num-clips", 4)
    assert selected(out) == {"selected": 2, "too few frames in a row": 1}
    assert [len(clip) for clip in read_clips(out / "clips.txt")] == [10] * 4
    assert [len(track) for track in CropStore(out / "crops").tracks] == [12, 11, 12]


def test_lasot_in_folders_of_classes(tmp_path):
    root, out = tmp_path / "lasot", tmp_path / "out"
    write_lasot(root / "airplane" / "airplane-1")
    write_lasot(root / "airplane" / "airplane-2", hidden=(1,))
    write_lasot(root / "zebra" / "zebra-1", hidden=(6,))
    run("lasot", root, "--out", out, "--exclude", "airplane-2", "--no-crops", "--num-clips", 3)
    assert selected(out) == {"selected": 1, "too few frames in a row": 1}
    clip = read_clips(out / "clips.txt")[0]
    assert clip.paths[0].parent.parent.name == "airplane-1"
    number = int(clip.paths[0].stem)
    assert clip.boxes[0].tolist() == [number, 2 * (number - 1), 20, 10.5]


def test_otb_with_two_targets_and_sequences_left_out(tmp_path):
    root, out = tmp_path / "otb", tmp_path / "out"
    write_otb(root / "Jogging", targets=2)
    write_otb(root / "Walking")
    write_otb(root / "Skiing")
    run("otb", root, "--out", out, "--exclude", "Skiing", "Jogging.2", "--no-crops")
    with (out / "selection.csv").open() as file:
        assert [row.split(",")[1] for row in file] == ["track", "Jogging", "Walking"]
    run("otb", root, "--out", out, "--exclude", "Skiing", "Jogging", "--no-crops")
    assert selected(out) == {"selected": 1}
    run("otb", root, "--out", out, "--sequences", "Jogging.2", "--no-crops")
    assert selected(out) == {"selected": 1}


def test_a_sequence_that_cannot_be_read_can_be_left_out(tmp_path):
    root, out = tmp_path / "otb", tmp_path / "out"
    write_otb(root / "Bad", frames=30)
    write_otb(root / "Good")
    with pytest.raises(SequenceError, match="Bad"):
        run("otb", root, "--out", out, "--no-crops")
    run("otb", root, "--out", out, "--exclude", "Bad", "--no-crops")
    assert selected(out) == {"selected": 1}


def test_an_index_of_sequences_notices_other_boxes_and_keeps_warnings(tmp_path, capsys):
    root, out = tmp_path / "otb", tmp_path / "out"
    write_otb(root / "A")
    write_otb(root / "B", frames=11)
    arguments = ("otb", root, "--out", out, "--no-crops", "--num-clips", 2)
    for fresh in (2, 0):
        with pytest.warns(SequenceWarning, match="11 boxes for 12 frames"):
            run(*arguments)
        assert f"2 videos, {fresh} read anew" in capsys.readouterr().out
    (root / "B" / "groundtruth_rect.txt").write_text(lines(w=30))
    run(*arguments)
    assert "2 videos, 1 read anew" in capsys.readouterr().out
    with (out / "selection.csv").open() as file:
        assert file.readlines()[-1].split(",")[4] == "12"


def test_sequences_takes_any_layout_and_the_others_only_theirs(tmp_path):
    root = tmp_path / "all"
    write_otb(root / "O")
    write_got10k(root / "G")
    write_lasot(root / "L")
    assert [item.name for item in find_folders(root)] == ["G", "L", "O"]
    with pytest.warns(SequenceWarning, match="2 sequences of other layouts are left out"):
        assert [item.name for item in find_folders(root, ("LaSOT",))] == ["L"]
    with pytest.raises(SequenceError, match="found none; looked for VOT"):
        find_folders(root, ("VOT",))
    with pytest.raises(SequenceError, match="there is none"):
        find_folders(root / "nowhere")
    run("sequences", root, "--out", tmp_path / "out", "--no-crops", "--num-clips", 3)
    assert selected(tmp_path / "out") == {"selected": 3}


def test_two_sequences_of_one_name_are_an_error(tmp_path):
    write_otb(tmp_path / "one" / "A")
    write_otb(tmp_path / "two" / "A")
    with pytest.raises(SequenceError, match="different names"):
        find_folders(tmp_path)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    root = tmp_path / "A"
    write_images(root / "img", 1)  # 1.jpg ... 12.jpg
    (root / "groundtruth_rect.txt").write_text(lines())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("otb", root, "--out", tmp_path / "out", "--no-crops", "--num-clips", 3)
    for clip in read_clips(tmp_path / "out" / "clips.txt"):
        assert [int(path.stem) for path in clip.paths] == list(clip.boxes[:, 0])
