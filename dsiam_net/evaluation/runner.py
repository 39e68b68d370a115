"""Runs of trackers over sequences: a process each, what is finished is kept, failures are reported.

Every sequence is tracked in a process of its own, with one BLAS thread. Results then do not
depend on how many run side by side, on what ran before, or on interruptions; and a tracker that
takes its process down takes down that one sequence.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dagnet import atomic_write, memory_shortage
from dagnet.communicator import SINGLE, Communicator

from ..sequences import Sequence as Video
from ..sequences import read_regions
from ..sources import first_region
from .results import OnePassFiles, RunFiles

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
ONE_PASS = OnePassFiles()


class Source(Protocol):
    """Where a tracker comes from; it is sent to other processes.

    ``polygon`` says whether it starts from the first polygon, where a sequence has polygons.
    """

    name: str
    polygon: bool

    def create(self) -> Any:
        """A tracker with ``init(image, box)`` and ``update(image) -> box``."""

    def describe(self) -> dict[str, Any]:
        """What its results depend on, as values that JSON knows."""


@dataclass(frozen=True)
class Job:
    """A sequence to be tracked, or that was: ``error`` says why there is no result, if so."""

    tracker: str
    sequence: str
    frames: int
    seconds: float | None = None
    error: str | None = None


def record(tracker: Any, sequence: Video, polygon: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Track a sequence from its first box.

    Parameters
    ----------
    tracker : object with ``init(image, box)`` and ``update(image)``, which returns the box
    sequence : Sequence
    polygon : bool
        Start from the first polygon instead, where there are polygons, as ``track_sequence`` does.

    Returns
    -------
    boxes : float64 array (T, 4)
        x, y, w, h, 1-based; the first is the sequence's.
    times : float64 array (T,)
        Seconds that ``init`` and each ``update`` took, without the reading of the image.

    Raises
    ------
    ValueError
        If the first frame has no box. What the tracker raises passes through.
    """
    if not sequence.present[0]:
        raise ValueError(f"sequence {sequence.name}: the first frame has no box to start from")
    boxes = np.full((len(sequence), 4), np.nan)
    times = np.zeros(len(sequence))
    boxes[0] = sequence.boxes[0]
    for index in range(len(sequence)):
        image = sequence.frame(index)
        start = time.perf_counter()
        if index == 0:
            tracker.init(image, first_region(sequence) if polygon else boxes[0])
        else:
            boxes[index] = tracker.update(image)
        times[index] = time.perf_counter() - start
    return boxes, times


def is_finished(
    root: str | os.PathLike, tracker: str, sequence: Video, files: RunFiles = ONE_PASS
) -> bool:
    """Whether there is a result of a sequence.

    Raises
    ------
    ValueError
        If there is one of another number of frames.
    """
    path = files.boxes_file(root, tracker, sequence.name)
    if not path.is_file():
        return False
    count = len(read_regions(path))
    if count != len(sequence):
        raise ValueError(
            f"{path} holds {count} boxes and the sequence has {len(sequence)} frames: remove the "
            "file, or write elsewhere"
        )
    return True


def check_settings(root: str | os.PathLike, source: Source) -> None:
    """Note what a tracker's results depend on, or see that it is as noted.

    Raises
    ------
    ValueError
        If results are there that were made with something else.
    """
    path = Path(root) / f"{source.name}.json"
    # Through JSON, by which tuples become lists.
    wanted = json.loads(json.dumps(source.describe()))
    if not path.is_file():
        with atomic_write(path, "w") as file:
            json.dump(wanted, file, indent=1)
        return
    noted = json.loads(path.read_text())
    if noted != wanted:
        keys = [key for key in {**noted, **wanted} if noted.get(key) != wanted.get(key)]
        raise ValueError(
            f"{path}: the results of {source.name} there were made with other {', '.join(keys)}; "
            "write elsewhere, or remove them"
        )


def run_trackers(
    sources: Sequence[Source],
    sequences: Sequence[Video],
    root: str | os.PathLike,
    jobs: int | None = None,
    report: Callable[[Job, int, int], None] = lambda job, done, total: None,
    files: RunFiles = ONE_PASS,
    workers: Communicator = SINGLE,
) -> list[Job]:
    """Track sequences and write the results; what is finished is not tracked again.

    Parameters
    ----------
    sources : trackers
    sequences : sequences with different names
    root : path
        Of the results, see ``dsiam_net.evaluation.results``.
    jobs : int, optional
        Processes side by side; by default as many as there are cores, which those of ``workers``
        on one machine share.
    report : function(job, done, total), optional
        Called after each sequence, in the order in which they end.
    files : RunFiles, optional
        Where the results are kept; by default as one-pass evaluation's.
    workers : Communicator
        Processes, each of which calls this function alike, that share the sequences out; ``root``
        is a folder that all of them reach.

    Returns
    -------
    list of the jobs that failed, of all workers.

    Raises
    ------
    ValueError
        If ``jobs`` is less than 1, names come twice, or results of other settings are there.
    """
    if jobs is None:
        jobs = max(1, (os.cpu_count() or 1) // workers.local_size)
    if jobs < 1:
        raise ValueError(f"the number of processes must be at least 1, received {jobs}")
    names = [sequence.name for sequence in sequences]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"expected sequences with different names, found {', '.join(twice)} more than once"
        )
    failed: list[Job] = []
    places: list[tuple[int, int]] = []
    # The first process looks for all: while others look, it could be writing.
    for s, source in enumerate(sources if workers.is_first else ()):
        check_settings(root, source)
        for v, sequence in enumerate(sequences):
            try:
                if not is_finished(root, source.name, sequence, files):
                    places.append((s, v))
            except ValueError as exc:
                failed.append(Job(source.name, sequence.name, len(sequence), error=str(exc)))
    places, *_ = workers.exchange(places)
    own = deal([len(sequences[v]) for _, v in places], workers.size)[workers.rank]
    todo = deque((sources[places[i][0]], sequences[places[i][1]]) for i in own)
    total = len(todo)
    running: dict[Connection, tuple[multiprocessing.Process, Source, Video, float]] = {}
    try:
        done = 0
        while todo or running:
            while todo and len(running) < jobs:
                source, sequence = todo.popleft()
                connection, process = _start(source, sequence, root, files)
                running[connection] = process, source, sequence, time.perf_counter()
            for connection in wait(list(running)):
                process, source, sequence, start = running.pop(connection)
                error = _outcome(connection, process)
                seconds = time.perf_counter() - start
                job = Job(source.name, sequence.name, len(sequence), seconds, error)
                done += 1
                if error is not None:
                    failed.append(job)
                report(job, done, total)
    finally:
        for process, *_ in running.values():
            process.terminate()
            process.join()
    everything = workers.exchange([asdict(job) for job in failed])
    return [Job(**job) for part in everything for job in part]


def deal(lengths: Sequence[int], hands: int) -> list[list[int]]:
    """Deal places of ``lengths`` to hands so that each has about the same sum.

    The longest goes first, each to the hand that has least. A hand has its places in order.
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    held = [0] * hands
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        hand = held.index(min(held))
        dealt[hand].append(place)
        held[hand] += lengths[place]
    return [sorted(places) for places in dealt]


@contextmanager
def _one_thread() -> Iterator[None]:
    """The environment of processes with one BLAS thread, which NumPy reads as it is imported."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(
    source: Source, sequence: Video, root: str | os.PathLike, files: RunFiles
) -> tuple[Connection, multiprocessing.Process]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_track, args=(source, sequence, str(root), files, sender), daemon=True
    )
    with _one_thread():
        process.start()
    sender.close()  # so that the receiver sees the process end
    return receiver, process


def _outcome(connection: Connection, process: multiprocessing.Process) -> str | None:
    """What a process sent: an error or None; or that it ended without a word."""
    try:
        error = connection.recv()
    except EOFError:
        process.join()
        error = f"the process ended early, with status {process.exitcode}"
    connection.close()
    process.join()
    return error


def _track(source: Source, sequence: Video, root: str, files: RunFiles, sender: Connection) -> None:
    """What a process does: track one sequence, write the result, say what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        boxes, times = record(source.create(), sequence, source.polygon)
        files.write(root, source.name, sequence.name, boxes, times)
        error = None
    except Exception as exc:
        wanted = memory_shortage(exc)
        error = (
            f"{type(exc).__name__}: {exc}" if wanted is None else f"not enough memory ({wanted})"
        )
    sender.send(error)


def _end_with_parent() -> None:
    """End this process when its parent was killed, so that nothing goes on writing unseen."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
