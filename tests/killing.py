"""Kills runs with ``kill -9``, and compares what becomes of them with undisturbed ones.

``python tests/killing.py [--moments 50] [--runs train pretrain data evaluate] [--seed 0]``

A run is killed again and again, each time going on from where it was, until it ends; then the next
one begins. After every kill each file there is read, and what was done by then must stay as it is.
A third of the kills come at a random moment of the run's duration, a third right before one of its
accesses to files, a third while a file is being written. All of a run's processes are killed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kill_hook

if TYPE_CHECKING:
    from killed_runs import Run

HERE = Path(__file__).resolve().parent
MOMENT = "moment"
HOW = (MOMENT, kill_hook.BEFORE, kill_hook.WITHIN)
# Seconds after which a run that has not ended is taken to hang.
LONGEST = 600
# What is left of a run when it is let go to its end, as a part of it.
LEAST = 0.2
ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"),
    "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
}


@dataclass
class Tally:
    """What came of one kind of run."""

    kills: Counter = field(default_factory=Counter)
    ends: int = 0
    accesses: int = 0
    seconds: float = 0.0

    def row(self, name: str) -> str:
        """A row of the table below ``HEADER``."""
        kinds = " | ".join(str(self.kills[how]) for how in HOW)
        kills = sum(self.kills.values())
        return (
            f"| {name} | {self.seconds:.1f} | {self.accesses} | {kills} | {kinds} | {self.ends} |"
        )


HEADER = (
    "| run | seconds | accesses | kills | at a moment | before an access | within a write "
    "| ends, each as undisturbed |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Killer:
    """Starts and kills runs.

    Parameters
    ----------
    fork : bool
        Runs are copies of this process, for which it must have imported what they need; else
        they are started afresh, and their start is part of them.
    """

    def __init__(self, name: str, folder: Path, fork: bool, jobs: int):
        self.name, self.folder, self.fork, self.jobs = name, folder, fork, jobs
        self.told = folder / "told.txt"
        self.tally = folder / "accesses"

    def run(self, how: str = MOMENT, number: int = 0, moment: float | None = None) -> int | None:
        """Run, and kill at an access or a moment; the exit status, or None if it was killed."""
        at = kill_hook.environment(self.folder / "run", self.tally, how, number)
        start = time.monotonic()
        pid = self._start(at)
        status = None
        while status is None:
            ended, code = os.waitpid(pid, os.WNOHANG)
            spent = time.monotonic() - start
            if ended:
                status = os.waitstatus_to_exitcode(code)
            elif spent > LONGEST or (moment is not None and spent > moment):
                os.killpg(pid, signal.SIGKILL)
                _, code = os.waitpid(pid, 0)
                status = os.waitstatus_to_exitcode(code)
                assert spent <= LONGEST, f"{self.name} hangs: {self.told.read_text()}"
            else:
                time.sleep(0.001)
        self._await_group(pid)
        return None if status == -signal.SIGKILL else status

    def _start(self, at: dict[str, str]) -> int:
        with self.told.open("w") as told:
            if not self.fork:
                words = [sys.executable, __file__, "--execute", self.name, str(self.folder)]
                words += ["--jobs", str(self.jobs)]
                environment = {**os.environ, **at}
                self._process = subprocess.Popen(
                    words, env=environment, stdout=told, stderr=told, start_new_session=True
                )
                return self._process.pid
            pid = os.fork()
            # Both, since neither knows who is first.
            with suppress(PermissionError, ProcessLookupError):
                os.setpgid(pid, pid)
            if pid:
                return pid
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
        os.environ.update(at)
        kill_hook.install()
        # The processes that the run starts are copies too.
        context = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda _: context
        try:
            execute(self.name, self.folder, self.jobs)
        except SystemExit as stop:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(stop.code or 0)
        finally:
            os._exit(70)

    @staticmethod
    def _await_group(pid: int) -> None:
        """Wait until none of a run's processes is left, which write no more then."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.001)
        raise AssertionError(f"processes of {pid} are left")


def make_run(name: str, folder: Path, jobs: int) -> Run:
    """One of ``killed_runs.RUNS``."""
    # Imported here: the processes that a run starts import this module, and need no more.
    from killed_runs import RUNS

    return RUNS[name](folder, jobs)


def execute(name: str, folder: Path, jobs: int) -> None:
    """Be the run."""
    make_run(name, folder, jobs).execute()


def kill_runs(name: str, folder: Path, moments: int, seed: int, fork: bool, jobs: int) -> Tally:
    """Kill a run so many times.

    Raises
    ------
    AssertionError
        If a file is half-written, what was done is done again, a run does not go on, or it ends
        otherwise than an undisturbed one.
    """
    from killed_runs import prepare

    prepare(folder)
    run, killer = make_run(name, folder, jobs), Killer(name, folder, fork, jobs)
    tally, rng = Tally(), random.Random(f"{name} {seed}")
    start = time.monotonic()
    _expect_end(killer, killer.run())
    tally.seconds = time.monotonic() - start
    tally.accesses = killer.tally.stat().st_size
    run.check_whole()
    undisturbed = run.result()
    shutil.rmtree(run.folder)
    done: dict[str, Any] = {}
    # The part of a run that is left to a next one, by where the ones before were killed.
    left = 1.0
    while sum(tally.kills.values()) < moments:
        how = HOW[sum(tally.kills.values()) % len(HOW)]
        part = left * rng.random()
        if left < LEAST:
            at, status = "not", killer.run()
        elif how == MOMENT:
            moment = part * tally.seconds
            at, status = f"after {moment:.3f} s", killer.run(moment=moment)
        else:
            number = 1 + int(part * tally.accesses)
            at, status = f"{how} access {number}", killer.run(how, number)
        try:
            if status is None:
                tally.kills[how] += 1
                left -= part
            else:
                _expect_end(killer, status)
            done = _check(run, done)
            if status is not None:
                _compare(run.result(), undisturbed)
                tally.ends += 1
                shutil.rmtree(run.folder)
                done, left = {}, 1.0
        except Exception as exc:
            raise AssertionError(
                f"{name}, killed {dict(tally.kills)}, last {at}: {exc!r}; see {folder}"
            ) from exc
    _expect_end(killer, killer.run())
    _check(run, done)
    _compare(run.result(), undisturbed)
    tally.ends += 1
    return tally


def _check(run: Run, done: dict[str, Any]) -> dict[str, Any]:
    """Read all files, and see that what was done is as it was; what is done now."""
    if not run.folder.exists():
        assert not done
        return done
    run.check_whole()
    now = run.finished()
    for name, value in done.items():
        # Lists may have grown.
        found = now[name][: len(value)] if isinstance(value, list) else now[name]
        assert found == value, f"{name} was done, and was done again"
    return now


def _compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    different = [n for n in sorted(found.keys() | expected.keys()) if _differs(found, expected, n)]
    assert not different, f"{', '.join(different)} not as of an undisturbed run"


def _differs(found: dict[str, Any], expected: dict[str, Any], name: str) -> bool:
    return name not in found or name not in expected or found[name] != expected[name]


def _expect_end(killer: Killer, status: int | None) -> None:
    assert status == 0, f"a run ended with status {status}: {killer.told.read_text()}"


def main() -> None:
    """Parse the arguments, kill, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--moments", type=int, default=50, help="at which each run is killed")
    names = ("train", "pretrain", "data", "evaluate")
    parser.add_argument("--runs", nargs="+", choices=names, default=names)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="processes of data and evaluate")
    parser.add_argument(
        "--fork",
        action="store_true",
        help="begin runs where all is imported: faster, and never killed while they import",
    )
    parser.add_argument("--folder", type=Path, help="where, and left there (default: temporary)")
    parser.add_argument("--execute", nargs=2, metavar=("RUN", "FOLDER"), help="be such a run")
    options = parser.parse_args()
    if options.execute:
        execute(options.execute[0], Path(options.execute[1]), options.jobs)
    if options.fork:
        # What is imported late otherwise, by each run anew.
        import_module("dsiam_net.pretraining_figures")
    print(HEADER, flush=True)
    for name in options.runs:
        with tempfile.TemporaryDirectory(prefix="killing-") as temporary:
            folder = Path(options.folder or temporary, name)
            folder.mkdir(parents=True)
            arguments = (options.moments, options.seed, options.fork, options.jobs)
            print(kill_runs(name, folder, *arguments).row(name), flush=True)


if __name__ in ("__main__", "__mp_main__"):
    os.environ.update(ENVIRONMENT)
    sys.path.insert(1, str(HERE.parent))
    kill_hook.install()
if __name__ == "__main__":
    main()
