"""The index: kept between runs, resumed after an interruption, the same from any number of jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from dsiam_net.preparation.index import build_index
from dsiam_net.preparation.parallel import parallel_map
from dsiam_net.preparation.vid_layout import find_vid_videos, look_at_vid_video
from vid_tree import PART, an_object, write_frame, write_image, write_video

TESTS = Path(__file__).parent
VIDEOS = [f"{PART}/ILSVRC2015_train_{number:05d}000" for number in range(8)]


def build(root, path, jobs=1, look=look_at_vid_video, **options):
    items = find_vid_videos(root, ("train",))
    return build_index(path, "vid", items, look, root, jobs, **options)


@pytest.fixture
def root(tmp_path):
    for number, video in enumerate(VIDEOS):
        write_video(tmp_path / "vid", video, frames=3, side=20 + number)
    return tmp_path / "vid"


def test_an_index_is_not_read_again(root, tmp_path):
    path = tmp_path / "index.jsonl"
    first, read = build(root, path)
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    again, read_again = build(root, path)
    assert (read, read_again) == (8, 0)
    assert path.read_bytes() == content and path.stat().st_mtime_ns == changed
    for a, b in zip(first, again, strict=True):
        assert (a.name, a.frames, a.size) == (b.name, b.frames, b.size)
        assert_array_equal(a.tracks[0].boxes, b.tracks[0].boxes)
    assert sorted(tmp_path.iterdir()) == sorted([path, root])


@pytest.mark.parametrize("change", ["box", "new frame", "image gone", "annotation gone"])
def test_a_video_whose_files_changed_is_read_again(root, tmp_path, change):
    path = tmp_path / "index.jsonl"
    build(root, path)
    if change == "box":
        write_frame(root, VIDEOS[3], 1, [an_object(50, 50, 89, 89)])
    elif change == "new frame":
        write_image(root, VIDEOS[3], 3)
    elif change == "image gone":
        (root / "Data" / "VID" / VIDEOS[3] / "000000.JPEG").unlink()
    else:
        (root / "Annotations" / "VID" / VIDEOS[3] / "000000.xml").unlink()
    videos, read = build(root, path)
    assert read == 1
    fresh, _ = build(root, tmp_path / "fresh.jsonl")
    assert_array_equal(videos[3].tracks[0].boxes, fresh[3].tracks[0].boxes)
    assert path.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


def test_videos_that_are_gone_leave_the_index(root, tmp_path):
    path = tmp_path / "index.jsonl"
    build(root, path)
    for tree in ("Annotations", "Data"):
        shutil.rmtree(root / tree / "VID" / VIDEOS[2])
    videos, read = build(root, path)
    assert read == 0 and len(videos) == 7
    assert len(path.read_text().splitlines()) == 8


def test_videos_that_are_not_wanted_are_kept_but_not_looked_at(root, tmp_path):
    path = tmp_path / "index.jsonl"
    build(root, path)
    write_image(root, VIDEOS[1], 3)
    videos, read = build(root, path, wanted=VIDEOS[5:6])
    assert [video.name for video in videos] == VIDEOS[5:6] and read == 0
    assert len(path.read_text().splitlines()) == 9
    assert build(root, path)[1] == 1


def test_several_processes_write_the_same_bytes(root, tmp_path):
    _, read = build(root, tmp_path / "two.jsonl", jobs=2)
    build(root, tmp_path / "one.jsonl", jobs=1)
    assert read == 8
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def look_until(where):
    """As ``look_at_vid_video``, but ends like a killed program at the sixth video."""
    if where.name == VIDEOS[5]:
        os.kill(os.getpid(), signal.SIGKILL)
    return look_at_vid_video(where)


@pytest.mark.parametrize("broken_off", [False, True])
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(root, tmp_path, broken_off):
    path, whole = tmp_path / "index.jsonl", tmp_path / "whole.jsonl"
    build(root, whole)
    code = (
        "import sys; from pathlib import Path; import test_data_index as t\n"
        "t.build(Path(sys.argv[1]), Path(sys.argv[2]), look=t.look_until)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    ended = subprocess.run(
        [sys.executable, "-c", code, str(root), str(path)], env=environment, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL
    journal = tmp_path / "index.jsonl.part"
    lines = journal.read_text().splitlines()
    assert len(lines) == 6 and not path.exists()
    if broken_off:
        journal.write_text("\n".join(lines)[:-40])
    _, read = build(root, path)
    assert read == (4 if broken_off else 3)
    assert path.read_bytes() == whole.read_bytes()
    assert not journal.exists()


@pytest.mark.parametrize("header", [{"version": 0}, {"layout": "otb"}, None])
def test_an_index_of_another_kind_is_made_anew(root, tmp_path, header):
    path = tmp_path / "index.jsonl"
    build(root, path)
    content = path.read_text()
    first, rest = content.split("\n", 1)
    other = json.dumps({**json.loads(first), **header}) if header else "no JSON"
    path.write_text(f"{other}\n{rest}")
    assert build(root, path)[1] == 8
    assert path.read_text() == content


def test_the_folder_may_move(root, tmp_path):
    path = tmp_path / "index.jsonl"
    build(root, path)
    moved = root.rename(tmp_path / "elsewhere")
    videos, read = build(moved, path)
    assert read == 0 and videos[0].paths[0].is_file()


def test_results_come_in_order_and_errors_pass_through():
    assert list(parallel_map(abs, range(-40, 0), jobs=2)) == list(range(40, 0, -1))
    assert list(parallel_map(abs, [-1, 2])) == [1, 2]
    with pytest.raises(TypeError, match="bad operand"):
        list(parallel_map(abs, [1, "a", 2], jobs=2))
    with pytest.raises(ValueError, match="at least 1, received 0"):
        list(parallel_map(abs, [1], jobs=0))
