"""Ends a run with ``kill -9`` at one of its accesses to files: before it, or while it writes.

What is to be done stands in the environment, so that processes which the run starts are watched
as well, and their accesses counted with its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

VARIABLE = "KILL_AT"
BEFORE, WITHIN = "before", "within"
# Seconds that a write goes on before it is ended, at most, and that its beginning is waited for.
LONGEST_WRITE, PATIENCE = 5e-4, 1.0
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def environment(folder: Path, tally: Path, how: str = BEFORE, number: int = 0) -> dict[str, str]:
    """What tells a run's processes to count their accesses to files below ``folder`` that change
    them, a byte each in the file ``tally``; and at access ``number`` to end, none at 0."""
    tally.write_bytes(b"")
    return {VARIABLE: json.dumps([str(folder), str(tally), how, number])}


def install() -> None:
    """Begin to count, if the environment says so."""
    if VARIABLE not in os.environ:
        return
    folder, tally, how, number = json.loads(os.environ[VARIABLE])
    counter = os.open(tally, os.O_WRONLY | os.O_APPEND)

    def watch(event: str, arguments: tuple) -> None:
        path = _changed(event, arguments)
        if path is None or not path.startswith(folder):
            return
        os.write(counter, b".")
        if os.fstat(counter).st_size != number:
            return
        if how == BEFORE or event != "open":
            _end()
        spent = random.Random(number).uniform(0, LONGEST_WRITE)
        threading.Thread(target=_end_within, args=(path, _state(path), spent), daemon=True).start()

    sys.addaudithook(watch)


def _changed(event: str, arguments: tuple) -> str | None:
    """The file or folder that is about to be changed, if one is."""
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        path = arguments[0]
    elif event == "open" and arguments[2] & _WRITING:
        path = arguments[0]
    else:
        return None
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else None


def _state(path: str) -> tuple | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _end_within(path: str, before: tuple | None, spent: float) -> None:
    last = time.monotonic() + PATIENCE
    while _state(path) == before and time.monotonic() < last:
        pass
    end = time.monotonic() + spent
    while time.monotonic() < end:
        pass
    _end()


def _end() -> None:
    os.killpg(0, signal.SIGKILL)
