"""A trial reading of a file of version 7.3 by a process of its own.

The HDF5 library is written in C and trusts much of what a file says: some damage sends it into an
endless loop or ends the process. What it does follows from the file alone, so the file is read once
by a copy of this process, under limits of time and memory, and only if that comes to an end is it
read here. Where the system cannot copy a process (Windows), the file is read without a trial.
"""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Processor seconds and bytes for any file, and for each byte of it (4 MB a second, and what
# deflate and the conversion to arrays make of it at most in files of networks).
_SECONDS, _SECONDS_A_BYTE = 2, 1 / 4e6
_MEMORY, _MEMORY_A_BYTE = 512 << 20, 64
# By the clock: as many times as much, on a machine that is busy.
_PATIENCE = 300


def try_reading(path: Path, read: Callable[[Path], Any]) -> None:
    """Run ``read(path)`` in a copy of this process; errors that it raises do not count.

    Raises
    ------
    ValueError
        If it did not come to an end: it crashed, or was ended at a limit.
    """
    if not hasattr(os, "fork"):
        return
    size = path.stat().st_size
    with warnings.catch_warnings():
        # Later versions of Python warn of copies where threads run: the copy runs this alone.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        _read_and_end(path, read, size)
    status = os.waitpid(process, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        raise ValueError(f"the HDF5 library fails on it: {signal.strsignal(number)}")


def _read_and_end(path: Path, read: Callable[[Path], Any], size: int) -> None:
    """The copy's life. Nothing of what it was copied from may run on: no cleaning up, no exit."""
    import resource

    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        seconds = round(_SECONDS + size * _SECONDS_A_BYTE)
        _lower(resource, resource.RLIMIT_CPU, seconds)
        signal.alarm(_PATIENCE * seconds)
        statm = Path("/proc/self/statm")
        if statm.exists():
            now = int(statm.read_text().split()[0]) * resource.getpagesize()
            _lower(resource, resource.RLIMIT_AS, now + _MEMORY + _MEMORY_A_BYTE * size)
        read(path)
    except BaseException:
        # Read here again, it raises the same.
        os._exit(1)
    os._exit(0)


def _lower(resource: Any, limit: int, value: int) -> None:
    """Lower a limit, which may be lower already."""
    soft, hard = resource.getrlimit(limit)
    others = [other for other in (soft, hard) if other != resource.RLIM_INFINITY]
    resource.setrlimit(limit, (min([value, *others]), hard))
