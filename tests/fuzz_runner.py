"""Loads damaged network files in a process under limits, and counts what comes of it.

``python tests/fuzz_runner.py [--mutations 2000] FILE ...`` prints the table of docs/fidelity.md.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_mutations import mutate

TESTS = Path(__file__).resolve().parent
# A load that takes this long by the clock hangs, however busy the machine is; what computes without
# end is ended sooner, at its limit of processor time.
PATIENCE = 900.0
SECONDS = 5.0
MEMORY = 1 << 30
SEED = 20170827


@dataclass
class Outcome:
    """What became of one load.

    Attributes
    ----------
    found : 'loaded', 'refused' (with the package's own error), or else what went wrong
    error : its words
    seconds : processor time
    bytes : resident memory beyond that before the load, at most
    """

    found: str
    error: str = ""
    seconds: float = 0.0
    bytes: int = 0


class Worker:
    """A process that loads files; started when it is needed, and anew after it ended.

    Parameters
    ----------
    samples : files that it loads before all others, so that everything is imported
    """

    def __init__(self, samples: Iterable[Path]):
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)  # must stay empty
        self.samples = [str(path.resolve()) for path in samples]
        self.process: subprocess.Popen | None = None
        self.words = tempfile.TemporaryFile()

    def load(self, path: Path) -> Outcome:
        """What ``load_network`` makes of a file."""
        if self.process is None:
            self._start()
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        answer = self._answer()
        if answer is None:
            return self._ended()
        outcome = Outcome(**answer)
        if outcome.seconds > SECONDS:
            return Outcome("too slow", f"{outcome.seconds:.1f} s", outcome.seconds, outcome.bytes)
        return outcome

    def close(self) -> None:
        """End the process, and remove its folder."""
        self._end()
        self.words.close()
        self._folder.cleanup()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def _start(self) -> None:
        paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(TESTS / "fuzz_worker.py"), *self.samples],
            cwd=self.folder,
            env={
                **os.environ,
                **{f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "NUMBA")},
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
        )
        if self._answer() is None:
            raise RuntimeError(f"the process that loads files did not start: {self._last_words()}")

    def _last_words(self) -> str:
        self.words.seek(0)
        return self.words.read().decode("utf-8", "replace")[-2000:]

    def _answer(self) -> dict | None:
        """A line of its answers; None if it ended or is silent."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                self.process.kill()
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def _ended(self) -> Outcome:
        code = self.process.wait()
        words = self._last_words()
        self._end()
        self.words.truncate(0)
        found = {-24: "too slow", -9: "hangs"}.get(code, "crash")
        return Outcome(found, f"the process ended with status {code}: {words}")


@dataclass
class Tally:
    """What became of the mutations of a file."""

    name: str
    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, number: int, mutation: str, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[outcome.found] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.largest = max(self.largest, outcome.bytes)
        if outcome.found not in ("loaded", "refused"):
            self.failures.append(
                f"{self.name}, mutation {number} ({mutation}): {outcome.found}: {outcome.error}"
            )

    def row(self) -> str:
        """A row of the table."""
        loaded, refused = self.counts["loaded"], self.counts["refused"]
        return (
            f"| {self.name} | {sum(self.counts.values())} | {loaded} | {refused} | "
            f"{len(self.failures)} | {self.slowest:.2f} | {self.largest / 2**20:.0f} |"
        )


HEADER = "| file | mutations | loaded | refused | neither | slowest, s | largest, MiB |"


def damaged(path: Path, number: int) -> tuple[str, bytes]:
    """The mutation of this number of a file, by the file's name."""
    return mutate(path.read_bytes(), [SEED, zlib.crc32(path.name.encode()), number])


def fuzz(path: Path, mutations: int, worker: Worker, first: int = 0) -> Tally:
    """Load mutations of a file one after the other.

    Neither the folder that the process works in nor that of the file may change.
    """
    tally = Tally(path.name)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "net.mat"
        for number in range(first, first + mutations):
            mutation, content = damaged(path, number)
            target.write_bytes(content)
            outcome = worker.load(target)
            written = os.listdir(folder) != ["net.mat"] or os.listdir(worker.folder)
            if written or target.read_bytes() != content:
                outcome = Outcome("written", "the file, or another, was written")
            tally.add(number, mutation, outcome)
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="network files")
    parser.add_argument("--mutations", type=int, default=2000, help="of each file")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    options = parser.parse_args(argv)
    print(HEADER)
    print("| " + "--- | " * 7, flush=True)
    tallies = []
    for path in options.files:
        with Worker([path]) as worker:
            tallies.append(fuzz(path, options.mutations, worker, options.first))
        print(tallies[-1].row(), flush=True)
    failures = [failure for tally in tallies for failure in tally.failures]
    print("\n".join(failures))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
