"""Commands that lack disk, permission or memory: what ``test_starved`` runs in other processes.

``python starving.py SCENARIO FOLDER``; scenarios of disks need a mount namespace of their own
(``unshare -Urm``), in which a small disk is mounted that can be filled.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dagnet import DagNN, load_checkpoint
from dsiam_net import analyse, data, evaluate, pretrain, ship, track, train
from dsiam_net.branches import siamfc_branch
from dsiam_net.cli import run_command
from dsiam_net.crops import CropStore
from evaluation_stubs import write_sequence
from pair_sources import Blobs
from tiny import CHANNELS, write_siamfc

PAGE = 4096
INSTANCE = 159


class World:
    """What the commands need, in a folder, and a disk in it that can be filled."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.run = self.disk / "run"
        self.weights = write_siamfc(folder / "tiny.npz")
        for seed, name in enumerate(("First", "Second")):
            write_sequence(folder / "data" / name, 12, seed)
        pretrain.siamfc_branch = lambda: siamfc_branch(CHANNELS)
        pretrain.make_source = lambda options: Blobs(INSTANCE, jitter=4)
        pretrain.write_contact_sheet = lambda *_, **__: None

    def mount(self) -> None:
        mount("-t", "tmpfs", "-o", "size=40m", "tmpfs", str(self.disk))

    def fill(self, left: int) -> None:
        """Let ``left`` bytes be free, in whole pages."""
        state = os.statvfs(self.disk)
        free = state.f_bavail * state.f_frsize
        (self.disk / "filler").write_bytes(bytes(max(free - left, 0)))

    def empty(self) -> None:
        (self.disk / "filler").unlink()

    def commands(self) -> dict[str, Command]:
        """Every command that writes, in its shortest form."""
        common = ("--weights", str(self.weights))
        few = ("--frames", "2", "--num-clips", "2", "--checkpoint-every", "1")
        videos, sequence = str(self.folder / "data"), str(self.folder / "data" / "First")
        file = self.run / "result"
        saved = [("--save-boxes", f"{file}.txt"), ("--save-json", f"{file}.json")]
        saved.append(("--save-video", f"{file}.mp4"))
        quiet = ("--frames", "4", "--quiet", *common)
        return {
            "train": Command(
                train.main,
                ("--data", videos, "--exp-dir", str(self.run), *few, *common),
                ("--epochs", "1"),
                ("--epochs", "2"),
            ),
            "pretrain": Command(
                pretrain.main,
                (
                    *("--crops", "x", "--exp-dir", str(self.run), "--instance-size", str(INSTANCE)),
                    *("--num-pairs", "6", "--val-pairs", "2", "--batch-size", "2"),
                    *("--checkpoint-every", "1"),
                ),
                ("--epochs", "1"),
                ("--epochs", "2"),
            ),
            "data": Command(
                data.main,
                ("otb", videos, "--out", str(self.run), "--jobs", "1", "--min-side", "1"),
                ("--num-clips", "3", "--no-crops"),
                ("--num-clips", "3"),
            ),
            "evaluate": Command(
                evaluate.main,
                (
                    *("--data", videos, "--out", str(self.run), "--no-plots", "--jobs", "1"),
                    *("--trackers", "siamfc", *common, "--sequences"),
                ),
                ("First",),
                ("First", "Second"),
            ),
            "analyse": Command(
                analyse.main,
                ("ablation", "--out", str(self.run), "--frames", "2", "--quiet", *common),
                ("--data", sequence),
                ("--data", videos),
            ),
            "ship": Command(
                ship.main,
                (str(self.weights), "--out", f"{file}.npz", "--release", "1"),
                ("--summary", "first"),
                ("--summary", "second"),
            ),
            **{
                f"track {option}": Command(
                    track.main, (sequence, option, name, *quiet), (), ("--tracker", "siamfc")
                )
                for option, name in saved
            },
        }


class Command:
    """A command with what it is given first, and then to go on."""

    def __init__(self, main: Callable, always: Sequence[str], first: Sequence[str], then):
        self.main = main
        self.first, self.then = [*always, *first], [*always, *then]


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def succeed(main: Callable, arguments: Sequence[str]) -> None:
    status, told = outcome(main, arguments)
    assert status == 0, (status, told)


def refuse(main: Callable, arguments: Sequence[str], words: str) -> str:
    """Run a command that must end with one clear line; what it said."""
    status, told = outcome(main, arguments)
    lines = told.strip().splitlines()
    # A sequence that failed is told too, and the rest of an evaluation goes on.
    assert status == 2 or (main is evaluate.main and status == 1), (status, told)
    assert "Traceback" not in told and any(words in line for line in lines), told
    if status == 2:
        assert lines[-1].startswith("error: "), told
    return told


def outcome(main: Callable, arguments: Sequence[str]) -> tuple[int, str]:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            run_command(lambda _: main(arguments))
    except SystemExit as stop:
        return stop.code, errors.getvalue()
    raise AssertionError("a command ended without a status")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is appended to or drawn anew, or holds times, which no two runs share.
CHANGING = (".csv", ".png", ".part", "index.jsonl", "_time.txt", "scores.json", "failures.txt")


def check_whole(folder: Path) -> None:
    """Every file is one: nothing half-written, nothing temporary."""
    for path in folder.rglob("*"):
        assert ".tmp" not in path.name and path.name != ".lock", path
        if path.suffix == ".npz":
            load_checkpoint(path) if "epoch" in path.name or "partial" in path.name else None
            DagNN.load(path) if path.name.startswith("siamfc") else None
    if (folder / "crops" / "index.json").exists():
        store = CropStore(folder / "crops")
        for number, found in enumerate(store.tracks):
            for k in range(len(found)):
                store.read(number, k)


def results(folder: Path) -> dict[str, object]:
    """What a run leaves, without what differs from one to the next: values, boxes, lists."""
    found: dict[str, object] = {}
    for name, content in contents(folder).items():
        if "epoch" in name and name.endswith(".npz"):
            net, _ = load_checkpoint(folder / name)
            found[name] = {p.name: p.value.tobytes() for p in net.params if p.value is not None}
        elif name.endswith((".txt", ".jpg", ".jsonl")) and not name.endswith(CHANGING[-4:]):
            found[name] = content
    return found


def full(folder: Path, name: str, *lefts: str) -> None:
    """A disk that fills up: the second part of a run is refused, the first stays, and with room
    again the run ends as one that was not disturbed."""
    world = World(folder)
    command = world.commands()[name]
    world.mount()
    succeed(command.main, command.first)
    succeed(command.main, command.then)
    undisturbed = results(world.run)
    shutil.rmtree(world.run)
    succeed(command.main, command.first)
    before = contents(world.run)
    for left in map(int, lefts):
        world.fill(left)
        refuse(command.main, command.then, "full")
        world.empty()
        check_whole(world.run)
        after = contents(world.run)
        for path, content in before.items():
            if not path.endswith(CHANGING):
                assert after[path] == content, path
    succeed(command.main, command.then)
    check_whole(world.run)
    assert results(world.run) == undisturbed


def read_only(folder: Path) -> None:
    """A disk that cannot be written to: every command says so at once, and changes nothing."""
    world = World(folder)
    world.mount()
    world.run.mkdir()
    (world.run / "result.txt").write_text("old")
    mount("-o", "remount,ro", str(world.disk))
    for command in world.commands().values():
        told = refuse(command.main, command.first, "cannot be written")
        assert "epoch 1" not in told
    assert contents(world.disk) == {"run/result.txt": b"old"}


def no_permission(folder: Path) -> None:
    """A folder of someone else, for a process that may not write everywhere."""
    world = World(folder)
    world.run.mkdir()
    (world.run / "result.txt").write_text("old")
    world.run.chmod(0o555)
    world.disk.chmod(0o555)
    try:
        (world.run / "probe").touch()
    except PermissionError:
        pass
    else:
        raise AssertionError("this process may write everywhere")
    for command in world.commands().values():
        refuse(command.main, command.first, "cannot be written")
    assert contents(world.disk) == {"run/result.txt": b"old"}


def memory(folder: Path, name: str, *megabytes: str) -> None:
    """Less memory than is needed: one line says what was wanted and what to do.

    The limit is so many megabytes beyond what the process has. (With none at all CPython can wait
    for a thread that it could not start to its end.)
    """
    world = World(folder)
    command = world.commands()[name]
    succeed(command.main, command.first)  # libraries are loaded, their buffers are there
    before = contents(world.run)
    for extra in map(int, megabytes):
        size = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmSize")
        )
        resource.setrlimit(resource.RLIMIT_AS, (size + extra * 2**20, resource.RLIM_INFINITY))
        status, told = outcome(command.main, command.then)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        line = told.strip().splitlines()[-1]
        assert status == 2 and line.startswith("error: not enough memory ("), (status, told)
        assert line.endswith("give the command again") and "Traceback" not in told, told
        check_whole(world.run)
        after = contents(world.run)
        for path, content in before.items():
            if not path.endswith(CHANGING):
                assert after[path] == content, path
    succeed(command.main, command.then)


if __name__ == "__main__":
    scenario, where, *more = sys.argv[1:]
    {"full": full, "read_only": read_only, "no_permission": no_permission, "memory": memory}[
        scenario
    ](Path(where), *more)
