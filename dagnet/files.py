"""Writing files so that an interruption leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import DagNNError, OutputError

# What is lacking while a file is written, by what the system says, and what helps.
_SPACE = {
    errno.ENOSPC: "the disk is full; free some space and give the command again",
    errno.EDQUOT: "the quota of the disk is used up; free some space and give the command again",
    errno.EFBIG: "it would be larger than a file may be here (see ulimit -f)",
}
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
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; rename it to ``path`` when the block ends well.

    Missing parent folders are made. On an exception the temporary file is removed and ``path``
    is as it was.

    Raises
    ------
    OutputError
        If the disk is full, read-only, or not to be written to.
    """
    path = Path(path)
    with explain_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
    try:
        # Not of permissions: the block may read other files.
        with _explained(path, _SPACE), os.fdopen(handle, mode) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files that only their owner can read; results are ordinary files.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
