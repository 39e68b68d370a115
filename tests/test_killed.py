"""Runs that are killed at random moments go on, and end as undisturbed ones (see ``killing``)."""

import os
import subprocess
import sys
import threading

import pytest

import kill_hook
from dagnet import atomic_write
from dsiam_net.crops import Track, write_crops
from evaluation_stubs import write_sequence
from golden import ROOT

RUNS = ("train", "pretrain", "data", "evaluate")
FEW, MANY = 10, 50

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="process groups as Linux has them")


def kill(tmp_path, *words):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "killing.py", "--folder", tmp_path, *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")[1:-1]]
    return cells[0], [int(cell) for cell in cells[3:]]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_is_killed_ten_times_ends_as_an_undisturbed_one(tmp_path, run):
    # Forked where all is imported, one process each: seconds.
    name, (kills, *kinds, ends) = kill(
        *(tmp_path, "--moments", str(FEW), "--fork", "--jobs", "1", "--runs", run)
    )
    assert name == run and kills == FEW == sum(kinds) and min(kinds) >= FEW // 3 and ends >= 1


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_is_killed_fifty_times_ends_as_an_undisturbed_one(tmp_path, run):
    _, (kills, *_) = kill(tmp_path, "--moments", str(MANY), "--runs", run)
    assert kills == MANY


# What the killing finds, if it is there


def killed_at(tmp_path, code, how, number):
    """What is left of a run of ``code`` that ends at an access to files."""
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    at = kill_hook.environment(folder, tmp_path / "tally", how, number)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.run(
        [sys.executable, "-c", f"import kill_hook\nkill_hook.install()\n{code}"],
        env={**os.environ, **at, "PYTHONPATH": paths},
        cwd=folder.parent,
        start_new_session=True,
    )
    return process.returncode, sorted(path.name for path in folder.iterdir())


def test_a_run_is_killed_before_an_access_and_within_a_write(tmp_path):
    code = "for k in 'abc':\n  with open(f'{FOLDER}/{k}', 'w') as f:\n    f.write('x' * 10**8)"
    code = f"FOLDER = {str(tmp_path / 'run')!r}\n{code}"
    assert killed_at(tmp_path, code.replace("10**8", "9"), "before", 3) == (-9, ["a", "b"])
    assert killed_at(tmp_path, code, "within", 1)[0] == -9
    assert (tmp_path / "run" / "a").stat().st_size < 10**8
    assert killed_at(tmp_path, "pass", "before", 1)[0] == 0


def test_a_file_is_whole_or_not_there_wherever_its_writing_is_killed(tmp_path):
    path = tmp_path / "run" / "a"
    code = (
        "from dagnet.files import atomic_write\n"
        f"with atomic_write({str(path)!r}, 'w') as f:\n  f.write('new' * 10**7)"
    )
    path.parent.mkdir()
    path.write_text("old")
    for how, number in (("within", 2), ("before", 3), ("before", 2)):
        status, names = killed_at(tmp_path, code, how, number)
        assert status == -9 and "a" in names
        assert all(name == "a" or name.endswith(".tmp") for name in names)
        assert path.read_text() == "old"
    assert killed_at(tmp_path, code, "before", 9)[0] == 0
    assert len(path.read_text()) == 3 * 10**7


def test_crops_get_their_names_when_they_are_whole(tmp_path, monkeypatch):
    sequence = write_sequence(tmp_path / "First", 3)
    replaced = []
    replace = os.replace
    monkeypatch.setattr(
        "dagnet.files.os.replace", lambda a, b: (replaced.append(str(b)), replace(a, b))
    )
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: pytest.fail("not whole at once"))
    write_crops([Track("t", "v", sequence.paths, sequence.boxes)], tmp_path / "crops")
    assert sum(name.endswith(".jpg") for name in replaced) == 3


def test_files_that_threads_write_have_the_permissions_of_the_umask(tmp_path):
    # To ask for the umask a process must change it, and another thread may ask in between.
    before = os.umask(0o027)
    try:
        threads = [threading.Thread(target=write_many, args=(tmp_path / name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        after = os.umask(before)
    assert after == 0o027
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.txt")} == {0o640}


def write_many(folder):
    for number in range(50):
        with atomic_write(folder / f"{number}.txt", "w", sync=False) as file:
            file.write("x")
