"""The index: what a data set's files say, read once and kept in one file.

A text file. Its first line names format, version and layout; every further line is a video as
JSON (see ``dsiam_net.preparation.videos``), with a stamp of the files that it was read from.
Videos whose stamp is as it was are not read again. While videos are read, finished lines go to
``NAME.part``, and a run that was stopped, however, goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from dagnet import atomic_write, explain_writing

from .parallel import parallel_map
from .videos import Video, video_from_line

FORMAT = "dsiam_net.data index"
VERSION = 1


class Item(NamedTuple):
    """A video that is to be in the index: its name, and what ``read`` needs to find it."""

    name: str
    where: Any


class Listing(NamedTuple):
    """The files of a video as they are now, and what reads them.

    ``read`` returns a record for ``json``, without name and stamp.
    """

    stamp: str
    read: Callable[[], dict[str, Any]]


def make_stamp(lines: Iterable[object]) -> str:
    """A stamp of whatever tells one state of files from another."""
    text = "\n".join(map(str, lines))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def file_state(path: Path) -> tuple[str, int, int]:
    """Name, size and time of change of a file, for a stamp."""
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


class _Line(NamedTuple):
    stamp: str
    text: str


def build_index(
    path: Path,
    layout: str,
    items: Sequence[Item],
    look: Callable[[Any], Listing],
    root: Path,
    jobs: int | None = None,
    wanted: Collection[str] | None = None,
) -> tuple[list[Video], int]:
    """Bring an index up to date; its videos, and how many of them had to be read.

    Parameters
    ----------
    path : Path
        The index; it is made, or brought up to date.
    layout : str
        Of what kind the data set is; an index of another kind is not used.
    items : sequence of Item
        The videos, with different names; the index has them in this order.
    look : function(where) -> Listing
        Of a module, so that processes can be given it.
    root : Path
        The data set's folder, which records name folders relative to.
    jobs : int, optional
        Processes that read; see ``parallel_map``.
    wanted : names of items, optional
        Those that are looked at and returned, by default all; what the index knows of the others
        it keeps.

    Raises
    ------
    SequenceError
        What ``look`` and ``read`` raise; what was read by then is kept.
    """
    header = json.dumps({"format": FORMAT, "version": VERSION, "layout": layout})
    journal = path.with_name(path.name + ".part")
    finished, begun = _read(path, header), _read(journal, header)
    known = {**finished, **begun}
    chosen = [item for item in items if wanted is None or item.name in wanted]
    work = [(item, known[item.name].stamp if item.name in known else "") for item in chosen]
    fresh = 0
    with (
        _open_journal(journal, header, begun) as file,
        closing(parallel_map(partial(_line, look), work, jobs)) as results,
        tqdm(results, total=len(chosen), desc="index", unit="video", disable=None) as bar,
    ):
        for text, (item, _) in zip(bar, work):
            if text is not None:
                with explain_writing(journal):
                    file.write(text + "\n")
                    file.flush()
                fresh += 1
                known[item.name] = _Line("", text)
    lines = [known[item.name].text for item in items if item.name in known]
    if lines != [line.text for line in finished.values()]:
        with atomic_write(path, "w") as file:
            file.writelines(line + "\n" for line in (header, *lines))
    journal.unlink()
    videos = [video_from_line(known[item.name].text, root) for item in chosen]
    return videos, fresh


def _line(look: Callable[[Any], Listing], work: tuple[Item, str]) -> str | None:
    """A video's line, or None if its files are as they were when ``stamp`` was made."""
    item, stamp = work
    listing = look(item.where)
    if listing.stamp == stamp:
        return None
    record = {"name": item.name, "stamp": listing.stamp, **listing.read()}
    return json.dumps(record, separators=(",", ":"))


def _read(path: Path, header: str) -> dict[str, _Line]:
    """The line of each video of an index; none if it is missing or of another kind.

    A line that was being written when a run was killed is left out.
    """
    if not path.is_file():
        return {}
    known = {}
    with path.open(encoding="ascii", errors="replace") as file:
        if file.readline().rstrip("\n") != header:
            return {}
        for line in file:
            try:
                record = json.loads(line)
                known[record["name"]] = _Line(record["stamp"], line.rstrip("\n"))
            except (ValueError, KeyError, TypeError):
                continue
    return known


def _open_journal(path: Path, header: str, begun: dict[str, _Line]) -> TextIO:
    """A journal to write to: what it had, without a line that is broken off."""
    with atomic_write(path, "w") as file:
        file.writelines(line + "\n" for line in (header, *(line.text for line in begun.values())))
    return path.open("a", encoding="ascii")
