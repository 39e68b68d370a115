"""Full and read-only disks, no permission, two runs in one folder, less memory than is needed.

The commands run in processes of their own (see ``starving``), on a small disk that is mounted
for them where the system lets an ordinary user do so.
"""

import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from dagnet import OutputError, atomic_write, lock_folder, memory_shortage
from dagnet.storage import load_tree, save_tree
from dsiam_net.cli import run_command
from dsiam_net.overlay import VideoWriter
from golden import ROOT
from starving import World, outcome

TESTS = ROOT / "tests"
# Commands that go on, and what is free on the disk when they do: nothing, and too little.
FULL = {
    "train": ("0", "40000"),
    "pretrain": ("0", "300000"),
    "data": ("0", "20000"),
    "evaluate": ("0", "8192"),
    "analyse": ("0", "8192"),
    "ship": ("0", "40000"),
    "track --save-boxes": ("0",),
    "track --save-json": ("0",),
    "track --save-video": ("0",),
}


@cache
def can_mount():
    """Whether a user may mount a disk that only own processes see."""
    if shutil.which("unshare") is None:
        return False
    attempt = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(attempt, capture_output=True).returncode == 0


def starve(tmp_path, scenario, *arguments, before=()):
    paths = os.pathsep.join([str(ROOT), str(TESTS)])
    done = subprocess.run(
        [*before, sys.executable, str(TESTS / "starving.py"), scenario, str(tmp_path), *arguments],
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", FULL)
def test_a_full_disk_ends_a_run_clearly_and_costs_nothing(tmp_path, command):
    if not can_mount():
        pytest.skip("no small disk can be mounted here")
    starve(tmp_path, "full", command, *FULL[command], before=("unshare", "-Urm"))


def test_a_read_only_disk_is_told_at_once(tmp_path):
    if not can_mount():
        pytest.skip("no small disk can be mounted here")
    starve(tmp_path, "read_only", before=("unshare", "-Urm"))


def test_a_folder_without_permission_is_told_at_once(tmp_path):
    before = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv to forbid it")
        less = "-dac_override,-dac_read_search"
        before = ("setpriv", "--bounding-set", less, "--inh-caps", less)
    starve(tmp_path, "no_permission", before=before)


@pytest.mark.slow  # where memory ends at the wrong place, Python may wait for a thread for ever
@pytest.mark.parametrize("command", ["train", "pretrain"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
def test_too_little_memory_ends_a_run_clearly_and_costs_nothing(tmp_path, command):
    starve(tmp_path, "memory", command, "1")


def test_a_second_run_of_every_command_in_a_folder_is_refused(tmp_path):
    world = World(tmp_path)
    with lock_folder(world.run):
        for name in ("train", "pretrain", "data", "evaluate", "analyse"):
            command = world.commands()[name]
            status, told = outcome(command.main, command.first)
            assert status == 2 and told.splitlines()[-1].startswith(
                f"error: {world.run} is in use by process {os.getpid()} on "
            ), (name, told)
        assert os.listdir(world.run) == [".lock"]


# Where no disk can be mounted: the same by what the system would answer.


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the quota of the disk is used up"),
        (errno.EFBIG, "larger than a file may be here"),
    ],
)
def test_a_write_that_is_refused_leaves_the_old_file(tmp_path, monkeypatch, number, words):
    path = tmp_path / "tree.npz"
    save_tree(path, [np.arange(5)])

    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dagnet.files.os.fsync", refuse)
    with pytest.raises(OutputError, match=words) as caught:
        save_tree(path, [np.arange(6)])
    assert str(path) in str(caught.value) and caught.value.errno == number
    assert len(load_tree(path)[0]) == 5 and os.listdir(tmp_path) == ["tree.npz"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_is_refused_is_named(tmp_path, monkeypatch, number):
    def refuse(_):
        raise OSError(number, os.strerror(number), str(tmp_path / "x"))

    monkeypatch.setattr("dagnet.files._new_file", refuse)
    with pytest.raises(OutputError, match="choose another folder"), atomic_write(tmp_path / "a"):
        pass


def test_what_another_file_refuses_is_not_told_of_this_one(tmp_path):
    with pytest.raises(PermissionError), atomic_write(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "another")
    with pytest.raises(ValueError, match="plain"), atomic_write(tmp_path / "a"):
        raise ValueError("plain")


def test_a_video_that_cannot_be_ended_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    frame = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr(VideoWriter, "_frames_written", lambda self: 0)
    with pytest.raises(OutputError, match="could not write the video to its end"):
        with VideoWriter(path) as video:
            video.add(frame)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.mp4"]


def test_two_videos_of_one_name_do_not_mix(tmp_path):
    path = tmp_path / "a.mp4"
    frame = np.zeros((16, 16, 3), np.uint8)
    with VideoWriter(path) as first:
        first.add(frame)
        with VideoWriter(path) as second:
            second.add(frame)
            first.add(frame)
        assert path.is_file()
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_lack_of_memory_is_known_however_it_is_told():
    try:
        np.empty(2**50)
    except MemoryError as exc:
        assert "Unable to allocate" in memory_shortage(exc)
        try:
            raise ValueError("layer 'conv1'") from exc
        except ValueError as outer:
            assert "Unable to allocate" in memory_shortage(outer)
    assert memory_shortage(MemoryError()) == "the system gave no more"
    assert memory_shortage(RuntimeError("can't start new thread")) is not None
    assert memory_shortage(ValueError("memory")) is None
    errors = io.StringIO()
    with pytest.raises(SystemExit) as stop, contextlib.redirect_stderr(errors):
        run_command(lambda _: np.empty(2**50), "fewer --jobs")
    (line,) = errors.getvalue().splitlines()
    assert stop.value.code == 2 and line.startswith("error: not enough memory (Unable to allocate")
    assert "or take fewer --jobs" in line
    with pytest.raises(ZeroDivisionError):
        run_command(lambda _: 1 / 0)
