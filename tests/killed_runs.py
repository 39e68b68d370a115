"""The runs that ``killing`` kills: what they are given, what they leave, how it is compared."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crop_stores import make_store
from dagnet import DagNN, load_checkpoint
from dagnet.lock import NAME as LOCK
from dsiam_net import data, evaluate, pretrain, train
from dsiam_net.branches import siamfc_branch
from dsiam_net.cli import run_command
from dsiam_net.clips import ListedClips
from dsiam_net.crops import CropStore
from dsiam_net.pretraining_log import read_steps
from dsiam_net.sequences import read_regions
from dsiam_net.training_log import read_log
from evaluation_stubs import write_sequence
from matlab_import import load_network, read_mat
from tiny import CHANNELS, write_siamfc

SEQUENCES, FRAMES = ("First", "Second", "Third"), 6
# Names of a table's columns that hold seconds, which no two runs share.
TIMES = {"seconds", "waited", "time", "fps", "times"}


def prepare(folder: Path) -> None:
    """What the commands are given: sequences, crops, weights."""
    for seed, name in enumerate(SEQUENCES):
        write_sequence(folder / "data" / name, FRAMES, seed)
    make_store(folder / "store", [f"v{k}" for k in range(10)], frames=3)
    write_siamfc(folder / "tiny.npz")


class Run(ABC):
    """A command that is killed, with its folder ``run`` within another, and what it leaves."""

    def __init__(self, folder: Path, jobs: int = 1):
        self.given, self.folder, self.jobs = folder, folder / "run", str(jobs)

    @abstractmethod
    def command(self) -> tuple[Any, list[str]]:
        """The command's function and arguments."""

    @abstractmethod
    def finished(self) -> dict[str, Any]:
        """What a run that goes on must leave as it is: all that was done already."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """All that the run leaves, but for times."""

    def execute(self) -> None:
        """Run the command to its end, and exit with its status."""
        main, arguments = self.command()
        run_command(lambda _: main(arguments))

    def files(self, suffix: str = "") -> list[Path]:
        """The files there are, without those that are temporary by their names."""
        return [path for path in sorted(self.folder.rglob(f"*{suffix}")) if _is_lasting(path)]

    def check_whole(self) -> None:
        """Read every file by what reads it."""
        for path in self.files():
            _READERS[path.suffix](path)

    def _kept(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Contents and times of change, which tell a file that was written a second time."""
        return {self._name(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in paths}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


class Training(Run):
    """``train``: two epochs of two steps."""

    def command(self):
        given = self.given
        return train.main, [
            *("--data", str(given / "data"), "--weights", str(given / "tiny.npz")),
            *("--exp-dir", str(self.folder), "--frames", "2", "--num-clips", "2"),
            *("--epochs", "2", "--checkpoint-every", "1", "--out", str(self.folder / "net.mat")),
        ]

    def finished(self):
        done = self._kept(self.files("epoch-*.npz"))
        # The rows up to the last checkpoint, with their times.
        places = [load_checkpoint(p)[1] for p in self.files("net-[ep]*.npz")]
        last = max(((s.epoch, s.step if s.step >= 0 else np.inf) for s in places), default=(0, 0))
        rows = self.rows()
        # As text: a figure may be NaN.
        done["rows"] = [str(row) for row in rows if (row["epoch"], row["step"]) <= last]
        return done

    def rows(self) -> list[dict[str, float]]:
        """The rows of the log."""
        return read_log(self.folder / "log.csv")

    def result(self):
        return {self._name(path): _content(path) for path in self.files()}


class Pretraining(Training):
    """``pretrain``: two epochs of four steps, with validation."""

    def command(self):
        pretrain.siamfc_branch = lambda: siamfc_branch(CHANNELS)
        return pretrain.main, [
            *("--crops", str(self.given / "store" / "crops"), "--exp-dir", str(self.folder)),
            *("--instance-size", "159", "--num-pairs", "10", "--val-pairs", "2"),
            *("--batch-size", "2", "--epochs", "2", "--checkpoint-every", "1"),
        ]

    def rows(self):
        steps = read_steps(self.folder / "log.csv")
        return [dict(zip(steps.dtype.names, row.item())) for row in steps]


class Data(Run):
    """``data``: index, selection, clips and crops of three sequences."""

    def command(self):
        return data.main, [
            *("otb", str(self.given / "data"), "--out", str(self.folder), "--jobs", self.jobs),
            *("--min-side", "1", "--num-clips", "4", "--clip-length", "3", "--min-frames", "3"),
        ]

    def finished(self):
        # Of a video that has this file all crops are there.
        return self._kept([p for part in self.files("crops.json") for p in part.parent.iterdir()])

    def check_whole(self):
        super().check_whole()
        if (self.folder / "crops" / "index.json").exists():
            store = CropStore(self.folder / "crops")
            for number, found in enumerate(store.tracks):
                for k in range(len(found)):
                    store.read(number, k)

    def result(self):
        return {self._name(path): path.read_bytes() for path in self.files()}


class Evaluation(Run):
    """``evaluate``: a tracker on three sequences, a process each."""

    def command(self):
        return evaluate.main, [
            *("--data", str(self.given / "data"), "--out", str(self.folder), "--no-plots"),
            *("--trackers", "siamfc", "--weights", str(self.given / "tiny.npz")),
            *("--jobs", self.jobs),
        ]

    def finished(self):
        boxes = self.folder.glob("results/OTB/siamfc/*.txt")
        times = [path.parent / "times" / f"{path.stem}_time.txt" for path in boxes]
        return self._kept([*self.folder.glob("results/OTB/siamfc/*.txt"), *times])

    def result(self):
        return {
            self._name(path): _content(path)
            for path in self.files()
            if not path.name.endswith("_time.txt")
        }


RUNS = {"train": Training, "pretrain": Pretraining, "data": Data, "evaluate": Evaluation}


def _is_lasting(path: Path) -> bool:
    temporary = path.name.startswith(".") and path.suffix == ".tmp"
    return path.is_file() and not temporary and path.name != LOCK and path.suffix != ".part"


# Reading


def _read_npz(path: Path) -> Any:
    return load_checkpoint(path) if path.name.startswith("net-") else DagNN.load(path)


def _read_table(path: Path) -> list[dict[str, str]]:
    text = path.read_text()
    assert text.endswith("\n"), f"{path} ends within a line"
    rows = list(csv.DictReader(text.splitlines()))
    assert all(None not in row and None not in row.values() for row in rows), path
    return rows


def _read_json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _read_text(path: Path) -> None:
    if "results" in path.parts:
        numbers = read_regions(path) if "time" not in path.name else np.loadtxt(path)
        assert len(numbers) == FRAMES, path
    elif path.name == "clips.txt":
        assert len(ListedClips(path)) == 4
    else:
        text = path.read_text()
        assert not text or text.endswith("\n"), path


def _read_image(path: Path) -> None:
    # A decoder may take what is cut off.
    data, end = path.read_bytes(), b"\xff\xd9" if path.suffix == ".jpg" else b"IEND\xaeB`\x82"
    assert data.endswith(end) and cv2.imread(str(path)) is not None, path


def _read_mat(path: Path) -> Any:
    # Of networks not only the variables are there.
    return read_mat(path) if "results" in path.parts else (load_network(path), read_mat(path))[1]


_READERS = {
    ".npz": _read_npz,
    ".mat": _read_mat,
    ".csv": _read_table,
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": _read_json_lines,
    ".txt": _read_text,
    ".jpg": _read_image,
    ".png": _read_image,
}


# Comparing


def _content(path: Path) -> Any:
    """What a file says, but for times."""
    if path.suffix == ".npz":
        return _network(path)
    if path.suffix == ".mat":
        return _plain(_without_times(_read_mat(path)))
    if path.suffix == ".csv":
        return [{k: v for k, v in row.items() if k not in TIMES} for row in _read_table(path)]
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    return path.read_bytes()


def _network(path: Path) -> Any:
    if not path.name.startswith("net-"):
        net, state = DagNN.load(path), {}
    else:
        net, found = load_checkpoint(path)
        state = _without_times(vars(found))
    values = {p.name: _plain(p.value) for p in net.params}
    return values, _plain(state), _plain(_without_times(net.meta))


def _without_times(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_times(v) for k, v in tree.items() if k not in TIMES}
    return [_without_times(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def _plain(tree: Any) -> Any:
    """Arrays as types, shapes and bytes, which compare to the bit."""
    if isinstance(tree, np.ndarray):
        return tree.dtype.str, tree.shape, tree.tobytes()
    if isinstance(tree, dict):
        return {k: _plain(v) for k, v in tree.items()}
    return [_plain(v) for v in tree] if isinstance(tree, (list, tuple)) else repr(tree)
