"""Work shared by processes, with results in the order of the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")

# A process takes a second to start: it should have this much to do, unless it is asked for.
LEAST_WORK = 16


def parallel_map(
    function: Callable[[Work], Result], work: Sequence[Work], jobs: int | None = None
) -> Iterator[Result]:
    """Results of ``function``, in the order of ``work``; an error ends the work after it.

    Parameters
    ----------
    function : function of a module, and ``work``, objects that can be sent to processes
    jobs : int, optional
        How many processes; 1 works in this one. By default as many as there are cores, but fewer
        where there is little to do.

    Raises
    ------
    ValueError
        If ``jobs`` is less than 1. What ``function`` raises passes through.
    """
    if jobs is None:
        jobs = min(os.cpu_count() or 1, max(len(work) // LEAST_WORK, 1))
    if jobs < 1:
        raise ValueError(f"the number of processes must be at least 1, received {jobs}")
    if jobs == 1 or len(work) < 2:
        yield from map(function, work)
        return
    # Processes that are started afresh: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(work)), context, _start)
    try:
        yield from pool.map(function, work)
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
