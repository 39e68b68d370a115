"""Tests of dagnet.lock: one run a folder."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from dagnet import FolderInUseError, lock_folder
from dagnet.lock import NAME
from golden import ROOT

HOLD = """
import sys, time
from dagnet import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder ``run``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_with_process_and_host_of_the_first(holder, tmp_path):
    with pytest.raises(FolderInUseError) as caught, lock_folder(tmp_path / "run"):
        pass
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'run'} is in use by process {holder.pid} on ")
    assert socket.gethostname() in message and "choose another folder" in message
    with lock_folder(tmp_path / "another run"):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_killed_keeps_nobody_out(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    assert (tmp_path / "run" / NAME).is_file()  # what it left behind
    with lock_folder(tmp_path / "run"):
        noted = json.loads((tmp_path / "run" / NAME).read_text())
        assert noted["pid"] == os.getpid()
    assert not (tmp_path / "run" / NAME).exists()


def test_the_same_process_is_refused_too(tmp_path):
    with lock_folder(tmp_path), pytest.raises(FolderInUseError, match=f"process {os.getpid()} "):
        with lock_folder(tmp_path):
            pass
    with lock_folder(tmp_path):
        pass


def test_temporary_files_of_killed_runs_are_removed_when_nobody_can_be_writing_them(tmp_path):
    lasting = ["net.npz", "notes.tmp", ".net.tmp", ".net.npz.0123456g.tmp"]
    abandoned, young = ".net.npz.0123abcd.tmp", ".net.npz.99999999.tmp"
    for name in (*lasting, abandoned, young):
        (tmp_path / name).touch()
    for name in (*lasting, abandoned):
        os.utime(tmp_path / name, (0, 0))
    with lock_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*lasting, young])


def test_nothing_is_left_but_what_was_written(tmp_path):
    with pytest.raises(ValueError, match="bad"), lock_folder(tmp_path / "new"):
        raise ValueError("bad")
    assert not (tmp_path / "new").exists()
    with lock_folder(tmp_path / "new"):
        (tmp_path / "new" / "result").touch()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["result"]
    (tmp_path / "old").mkdir()
    with lock_folder(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()


def test_of_many_runs_that_begin_together_one_has_the_folder_at_a_time(tmp_path):
    inside, most, refused = [], [], []

    def run():
        for _ in range(50):
            try:
                with lock_folder(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except FolderInUseError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and len(most) + len(refused) == 200
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch):
    def refuse(stream, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="no locks are to be had there .*no other run"):
        with lock_folder(tmp_path):
            pass
    monkeypatch.setattr("dagnet.lock.fcntl", None)
    with pytest.warns(UserWarning, match="no locks"), lock_folder(tmp_path):
        pass


def test_a_holder_that_has_not_noted_itself_is_another_run(tmp_path):
    with (tmp_path / NAME).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(FolderInUseError, match="in use by another run"):
            with lock_folder(tmp_path):
                pass
