"""Original networks from their authors' addresses: ``python -m matlab_import fetch``.

A download goes to a file ``NAME.part``, which a later run continues, and has its name when it is
whole and as it should be.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dagnet import DagNNError, atomic_write, explain_writing, lock_folder

from .errors import MatFileError
from .limits import most_bytes
from .mat_file import read_mat

_BLOCK = 1 << 18  # bytes
_MOST = 1 << 31  # bytes of a download, four times those of the largest network
_SECONDS = 30.0  # without an answer
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
# An answer to a request for what lies behind the end of a file.
_NOT_SATISFIABLE = 416


class FetchError(DagNNError, OSError):
    """A download failed; the message names the address, and what to do."""


@dataclass(frozen=True)
class Source:
    """A file that can be fetched.

    Attributes
    ----------
    file : str
        Its name.
    url : str
        Address of it, or of the archive that holds it.
    what : str
        A line about it.
    page : str
        The page that the authors link it from.
    size : int or None
        Bytes of what is downloaded, where they are known.
    md5 : str or None
        Its MD5 sum, where its authors publish one.
    member : str or None
        The file's name within a zip archive at the address.
    """

    file: str
    url: str
    what: str
    page: str
    size: int | None = None
    md5: str | None = None
    member: str | None = None


_OXFORD = "http://www.robots.ox.ac.uk/~luca"
_MATCONVNET = "http://www.vlfeat.org/matconvnet"

SOURCES: Mapping[str, Source] = {
    "siamfc-color": Source(
        "2016-08-17.net.mat",
        f"{_OXFORD}/stuff/siam-fc_nets/2016-08-17.net.mat",
        "SiamFC, trained on colour images (Bertinetto et al. 2016)",
        f"{_OXFORD}/siamese-fc.html",
    ),
    "siamfc-gray": Source(
        "2016-08-17_gray025.net.mat",
        f"{_OXFORD}/stuff/siam-fc_nets/2016-08-17_gray025.net.mat",
        "SiamFC, trained on images of which a quarter is grey",
        f"{_OXFORD}/siamese-fc.html",
    ),
    "vgg19": Source(
        "imagenet-vgg-verydeep-19.mat",
        f"{_MATCONVNET}/models/imagenet-vgg-verydeep-19.mat",
        "VGG-19, trained on ImageNet (Simonyan and Zisserman 2014)",
        f"{_MATCONVNET}/pretrained/",
        size=534_904_783,
        md5="106118b7cf60435e6d8e04f6a6dc3657",
    ),
    "cfnet-conv5": Source(
        "baseline-conv5_e55.mat",
        "https://bit.ly/cfnet_networks",
        "SiamFC as CFNet has it for comparison, stride 4 (Valmadre et al. 2017)",
        "https://github.com/bertinetto/cfnet",
        member="baseline-conv5_e55.mat",
    ),
}

# Called with the bytes that are there and all bytes (None if not known), gives a bar to update.
MakeBar = Callable[[int, int | None], AbstractContextManager[Any]]


def progress_bar(there: int, total: int | None) -> AbstractContextManager[Any]:
    """A bar of bytes on standard error."""
    from tqdm import tqdm

    return tqdm(initial=there, total=total, unit="B", unit_scale=True, unit_divisor=1024)


def fetch(
    source: Source, folder: str | os.PathLike, make_bar: MakeBar = progress_bar
) -> tuple[Path, str]:
    """Download a file, unless it is there; go on with a download that was interrupted.

    Parameters
    ----------
    source : what to download
    folder : where to; made if it is missing
    make_bar : progress, a context whose value has ``update(bytes)``

    Returns
    -------
    path : Path
        Of the file, which has this name only when it is whole.
    digest : str
        Its SHA-256 sum.

    Raises
    ------
    FetchError
        Without a connection, if the server refuses, if the connection breaks (what is there stays,
        for the next run), if the size or the MD5 sum is another than it should be, or, where the
        authors publish no sum, if what came is no whole ``.mat`` file.
    FolderInUseError
        If another run downloads into the folder.
    OutputError
        If it cannot be written to.
    """
    folder = Path(folder)
    path = folder / source.file
    if path.is_file():
        return path, _digest(path, "sha256")
    part = folder / f"{source.file}.part"
    with lock_folder(folder), explain_writing(part):
        _download(source, part, make_bar)
        _check(source, part)
        if source.member is None:
            _check_network(source, part)
            os.replace(part, path)
        else:
            _extract(source, part, path)
            part.unlink()
    return path, _digest(path, "sha256")


def _download(source: Source, part: Path, make_bar: MakeBar) -> None:
    there = part.stat().st_size if part.is_file() else 0
    if there and there == source.size:
        return
    request = urllib.request.Request(source.url, headers={"User-Agent": "matlab_import"})
    if there:
        request.add_header("Range", f"bytes={there}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as exc:
        if exc.code == _NOT_SATISFIABLE and there:
            if exc.headers.get("Content-Range") == f"bytes */{there}":
                return
            # The file there is another one by now.
            part.unlink()
            return _download(source, part, make_bar)
        raise FetchError(_advice(source, f"the server answered {exc.code} {exc.reason}")) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        raise FetchError(_advice(source, f"no connection ({reason})")) from exc
    with answer:
        there, total = _place(answer, there)
        if source.size is not None and total not in (None, source.size):
            raise FetchError(
                _advice(source, f"expected {source.size:,} bytes, the server offers {total:,}")
            )
        if total is not None and total > _MOST:
            raise FetchError(_advice(source, f"the server offers {total:,} bytes"))
        with part.open("ab" if there else "wb") as stream, make_bar(there, total) as bar:
            found = there + _copy(answer, stream, bar, source)
    if total is not None and found < total:
        raise FetchError(
            f"{source.url}: the connection broke after {found:,} of {total:,} bytes; give the "
            "command again to go on from there"
        )


def _place(answer: Any, there: int) -> tuple[int, int | None]:
    """From which byte the answer goes on (0 if the server begins anew), and the whole size."""
    length = answer.headers.get("Content-Length")
    found = _RANGE.match(answer.headers.get("Content-Range") or "")
    if there and answer.status == http.client.PARTIAL_CONTENT and found:
        if int(found[1]) == there:
            return there, int(found[2])
    return 0, int(length) if length and length.isdecimal() else None


def _copy(answer: Any, stream: Any, bar: Any, source: Source) -> int:
    """Write the answer to a stream; what came before the connection broke stays there."""
    count = 0
    try:
        while block := answer.read(_BLOCK):
            stream.write(block)
            bar.update(len(block))
            count += len(block)
            if count > _MOST:
                raise FetchError(_advice(source, f"the server sends more than {_MOST:,} bytes"))
    except http.client.IncompleteRead as exc:
        stream.write(exc.partial)
        count += len(exc.partial)
    except (TimeoutError, ConnectionError, http.client.HTTPException) as exc:
        raise FetchError(
            f"{source.url}: the connection broke ({exc or type(exc).__name__}); give the command "
            "again to go on from there"
        ) from exc
    return count


def _check(source: Source, part: Path) -> None:
    """Refuse what has not the size or sum that it should have, and put it away."""
    size = part.stat().st_size
    if source.size is not None and size != source.size:
        part.unlink()
        raise FetchError(_advice(source, f"expected {source.size:,} bytes, received {size:,}"))
    if source.md5 is not None and (found := _digest(part, "md5")) != source.md5:
        part.unlink()
        raise FetchError(_advice(source, f"expected MD5 {source.md5}, received {found}"))


def _check_network(source: Source, file: Path) -> None:
    """Refuse what is no whole ``.mat`` file, such as a page that asks to sign in; sums of the
    authors are checked by then."""
    if source.md5 is None and source.file.endswith(".mat"):
        try:
            read_mat(file)
        except MatFileError as exc:
            file.unlink()
            raise FetchError(_advice(source, str(exc))) from exc


def _extract(source: Source, archive: Path, path: Path) -> None:
    """Write the archive's member of this name, in whatever folder it is, to ``path``.

    No name in the archive is one of a file that is written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            names = [n for n in content.namelist() if n.split("/")[-1] == source.member]
            if len(names) != 1:
                raise FetchError(
                    _advice(
                        source,
                        f"expected {source.member} in the archive, found "
                        f"{', '.join(content.namelist()) or 'nothing'}",
                    )
                )
            size = content.getinfo(names[0]).file_size
            if size > most_bytes(archive.stat().st_size):
                raise FetchError(_advice(source, f"{names[0]} would unpack to {size:,} bytes"))
            unpacked = path.with_name(f"{path.name}.unpacked")
            with content.open(names[0]) as member, atomic_write(unpacked) as stream:
                shutil.copyfileobj(member, stream)
        _check_network(source, unpacked)
        os.replace(unpacked, path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as exc:
        archive.unlink()
        raise FetchError(_advice(source, f"expected a zip archive ({exc})")) from exc


def _digest(path: Path, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _advice(source: Source, reason: str) -> str:
    host = urlsplit(source.url).hostname
    return (
        f"{source.url}: {reason}; check that {host} can be reached, or download {source.file} by "
        f"hand (see {source.page})"
    )
