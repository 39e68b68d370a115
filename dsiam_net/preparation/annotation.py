"""One annotation file of ILSVRC-2015 VID: the size of a frame and the objects in it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from ..sequences import SequenceError


class Object(NamedTuple):
    """An object in a frame.

    ``corners`` are xmin, ymin, xmax, ymax as the file has them: indices of pixels from 0, the
    last ones included.
    """

    track: int
    label: str
    corners: tuple[float, float, float, float]
    occluded: bool
    generated: bool


class Annotation(NamedTuple):
    """What a file says: ``size`` is width and height."""

    size: tuple[int, int]
    objects: tuple[Object, ...]


class _Fields:
    """Collects the text of the elements below ``size`` and below each ``object``."""

    def __init__(self, path: Path):
        self.path = path
        self.root = ""
        self.size: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []
        self._open: list[str] = []
        self._text: list[str] = []

    def start(self, name: str, _) -> None:
        if not self._open:
            self.root = name
        elif self._open == ["annotation"] and name == "object":
            self.objects.append({})
        self._open.append(name)
        self._text = []

    def end(self, name: str) -> None:
        place = self._open[1] if len(self._open) > 2 else None
        if place == "object":
            self.objects[-1].setdefault(name, "".join(self._text).strip())
        elif place == "size":
            self.size.setdefault(name, "".join(self._text).strip())
        self._open.pop()
        self._text = []

    def text(self, data: str) -> None:
        self._text.append(data)

    def refuse(self, *_) -> None:
        # Entities, which a document type can define, can make a small file huge or name other
        # files; no file of the data set has any.
        raise SequenceError(
            f"{self.path}: expected an annotation without a document type (<!DOCTYPE ...>), "
            "received one"
        )


def read_annotation(path: Path) -> Annotation:
    """Read an annotation file.

    Flags that are missing are 0. Other elements may be missing or there.

    Raises
    ------
    SequenceError
        Names the file: if it cannot be read, is not well-formed XML, has a document type, is no
        annotation, or lacks a number or has something else in its place.
    """
    fields = _Fields(path)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = fields.start
    parser.EndElementHandler = fields.end
    parser.CharacterDataHandler = fields.text
    parser.StartDoctypeDeclHandler = fields.refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as exc:
        raise SequenceError(f"cannot read annotation {path}: {exc.strerror or exc}") from exc
    except expat.ExpatError as exc:
        raise SequenceError(f"{path}: damaged, or not XML: {exc}") from exc
    if fields.root != "annotation":
        raise SequenceError(f"{path}: expected <annotation>, received <{fields.root}>")
    size = [_number(path, fields.size, name) for name in ("width", "height")]
    objects = tuple(_object(path, found) for found in fields.objects)
    return Annotation((int(size[0]), int(size[1])), objects)


def _object(path: Path, found: dict[str, str]) -> Object:
    corners = tuple(_number(path, found, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    track = _number(path, found, "trackid")
    if track != int(track) or not found.get("name"):
        raise SequenceError(
            f"{path}: expected an object with a name and a whole trackid, received {found}"
        )
    occluded, generated = (bool(_number(path, found, f, "0")) for f in ("occluded", "generated"))
    return Object(int(track), found["name"], corners, occluded, generated)


def _number(path: Path, found: dict[str, str], name: str, missing: str = "") -> float:
    text = found.get(name, missing)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        received = repr(text) if name in found else "an annotation without it"
        raise SequenceError(f"{path}: expected a number in <{name}>, received {received}")
    return value
