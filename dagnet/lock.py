"""One run a folder: a lock that ends with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .errors import FolderInUseError
from .files import explain_writing, remove_leftovers

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

NAME = ".lock"
# What file systems without locks answer.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# A holder notes who it is right after it has the lock: so often, after so many seconds, it is
# looked for.
_LOOKS, _BETWEEN = 10, 0.05


@contextmanager
def lock_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Keep other runs out of a folder for as long as the block lasts.

    The lock is the system's, on the file ``.lock`` in the folder, and ends with the process: what
    a run that was killed leaves behind keeps nobody out. The file is removed at the end of the
    block, and so is the folder if it was made for it and nothing was written.

    Where there are no such locks (on Windows, on some network file systems) a warning says that
    nothing keeps two runs apart.

    Raises
    ------
    FolderInUseError
        If another run, or this one, holds the folder; the message names process and host.
    OutputError
        If the folder cannot be written to.
    """
    folder = Path(folder)
    path = folder / NAME
    made = not folder.exists()
    with explain_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        stream = _acquire(path)
        try:
            with explain_writing(path):
                _note_holder(stream)
            remove_leftovers(folder)
            yield
        finally:
            # Before the lock ends with the file: afterwards it may be another run's.
            path.unlink(missing_ok=True)
            # What could not be written by now is a second time refused as the file is closed.
            with suppress(OSError):
                stream.close()
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()


def _acquire(path: Path) -> TextIO:
    """The file, open and locked."""
    while True:
        with explain_writing(path):
            stream = path.open("a+", encoding="utf-8")
        try:
            _lock(stream, path)
            if _is_at(path, stream):
                return stream
        except BaseException:
            stream.close()
            raise
        # Its holder has removed it since it was opened.
        stream.close()


def _lock(stream: TextIO, path: Path) -> None:
    refusal = None
    if fcntl is not None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            raise FolderInUseError(
                f"{path.parent} is in use by {_holder(path)}: wait for its end, end it, or choose "
                "another folder"
            ) from exc
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                raise
            refusal = exc
    warnings.warn(
        f"{path.parent}: no locks are to be had there ({refusal or sys.platform}): see to it that "
        "no other run writes into it",
        stacklevel=5,
    )


def _is_at(path: Path, stream: TextIO) -> bool:
    """Whether the open file is the one that has the name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _note_holder(stream: TextIO) -> None:
    stream.truncate(0)
    json.dump(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        },
        stream,
    )
    stream.flush()


def _holder(path: Path) -> str:
    """Who holds the lock, in words."""
    for _ in range(_LOOKS):
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(path.read_text(encoding="utf-8"))
            return f"process {noted['pid']} on {noted['host']}, since {noted['since']}"
        time.sleep(_BETWEEN)
    return "another run"
