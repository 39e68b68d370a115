"""Writing files so that an interruption leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import DagNNError, OutputError

# What is lacking while a file is written, by what the system says, and what helps.
_SPACE = {
    errno.ENOSPC: "the disk is full; free some space and give the command again",
    errno.EDQUOT: "the quota of the disk is used up; free some space and give the command again",
    errno.EFBIG: "it would be larger than a file may be here (see ulimit -f)",
}
# Windows alone tells text from other files.
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# Names of temporary files, and after how many seconds without a change they are nobody's.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_ABANDONED = 3600
# What forbids to begin a file.
_PERMISSION = {
    errno.EACCES: "there is no permission to write there; choose another folder",
    errno.EPERM: "there is no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
}


@contextmanager
def explain_writing(path: str | os.PathLike) -> Iterator[None]:
    """A block that writes ``path``: what the system refuses is told as an ``OutputError``.

    Raises
    ------
    OutputError
        If the disk is full, read-only, or not to be written to; what else is raised passes
        through.
    """
    with _explained(path, _SPACE | _PERMISSION):
        yield


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", sync: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; rename it to ``path`` when the block ends well.

    Missing parent folders are made. On an exception the temporary file is removed and ``path``
    is as it was; so it is if the process is killed, but the temporary file is left then
    (``remove_leftovers``).

    Parameters
    ----------
    path : path
    mode : 'wb' or 'w'
    sync : bool
        Wait until the disk has the file, so that it is whole even if the machine stops. Without,
        which is for many small files that can be made again, it is whole if the process is killed.

    Raises
    ------
    OutputError
        If the disk is full, read-only, or not to be written to.
    """
    path = Path(path)
    with explain_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _new_file(path)
    try:
        # Not of permissions: the block may read other files.
        with _explained(path, _SPACE), os.fdopen(handle, mode) as stream:
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_file(path: Path) -> tuple[Path, int]:
    """A temporary file beside ``path``, open.

    Its permissions are an ordinary file's; ``tempfile`` makes files that only their owner can
    read, and to change that the process would have to ask for its umask by changing it.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # see _TEMPORARY
        try:
            return temporary, os.open(temporary, _NEW, 0o666)
        except FileExistsError:
            continue


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove the temporary files that killed processes left directly in ``folder``.

    Those younger than an hour stay: another process may be writing them.
    """
    for path in Path(folder).glob(".*.tmp"):
        # What is gone by now, or not to be removed, costs nothing but space.
        with suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


@contextmanager
def _explained(path: str | os.PathLike, reasons: Mapping[int, str]) -> Iterator[None]:
    try:
        yield
    except DagNNError:
        raise  # it tells what to do
    except Exception as exc:
        refusal = _refusal(exc, reasons)
        if refusal is None:
            raise
        error = OutputError(
            f"{os.fspath(path)} cannot be written ({refusal.strerror}): {reasons[refusal.errno]}; "
            "what was there before is as it was"
        )
        error.errno = refusal.errno
        raise error from exc


def _refusal(exc: BaseException | None, reasons: Mapping[int, str]) -> OSError | None:
    """The refusal that an exception is or was raised after: a zip archive whose file could not be
    written fails again, in another way, when it is closed."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in reasons:
            return exc
        exc = exc.__cause__ or exc.__context__
    return None
