"""What ``--trackers`` names: our trackers, OpenCV's, and folders with other people's results."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dagnet.backend import set_tf32

from ..opencv_trackers import OpenCVTracker
from ..settings import get_preset
from ..tracker import TRACKERS, Tracker, create_tracker
from ..weights import load_fusion_map, load_weights, weights_path

OPENCV_PREFIX = "opencv-"
# Names of trackers are names of folders too.
_NAME = re.compile(r"[\w.+()-]+")


@lru_cache
def _digest(path: str) -> str:
    return hashlib.sha256(weights_path(path).read_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class NetworkTracker:
    """A tracker of ``create_tracker`` with a network from a file.

    Attributes
    ----------
    name : 'siamfc', 'dsiam' or 'dsiamm'
    weights : path of the network's file, or 'shipped'
    preset : name of settings, by default the tracker's own
    features : names of the feature layers, by default the network's
    fusion_map : path of a learned fusion map; for 'dsiamm' alone
    device : 'cpu' or 'gpu'
    tf32 : whether matrix products on the GPU are in TF32
    polygon : whether it starts from the first polygon, where a sequence has polygons
    """

    name: str
    weights: str
    preset: str | None = None
    features: tuple[str, ...] | None = None
    fusion_map: str | None = None
    device: str = "cpu"
    tf32: bool = False
    polygon: bool = False

    def create(self) -> Tracker:
        """The tracker; errors as ``set_tf32``, ``load_weights`` and ``create_tracker``."""
        if self.device == "gpu":
            set_tf32(self.tf32)
        return create_tracker(
            self.name,
            load_weights(self.weights),
            get_preset(self.preset) if self.preset else None,
            features=self.features,
            fusion_map=load_fusion_map(self.fusion_map) if self.fusion_map else None,
            device=self.device,
        )

    def describe(self) -> dict[str, Any]:
        """What the results depend on, as plain values: settings, and digests of the files."""
        return {
            "tracker": self.name,
            "weights": _digest(str(self.weights)),
            "settings": dataclasses.asdict(get_preset(self.preset or TRACKERS[self.name][2])),
            "features": list(self.features) if self.features else None,
            "fusion_map": _digest(str(self.fusion_map)) if self.fusion_map else None,
            **_described_start(self.polygon),
        }


def _described_start(polygon: bool) -> dict[str, str]:
    """The start, where it is not the box."""
    return {"start": "polygon"} if polygon else {}


@dataclass(frozen=True, kw_only=True)
class OpenCVSource:
    """A tracker of the installed OpenCV; ``name`` is ``opencv-`` and its name there.

    With ``polygon`` it starts from the upright box around the first polygon.
    """

    name: str
    polygon: bool = False

    def create(self) -> OpenCVTracker:
        """The tracker; ValueError, naming those there are, where OpenCV has no such one."""
        return OpenCVTracker(self.name.removeprefix(OPENCV_PREFIX))

    def describe(self) -> dict[str, Any]:
        """What the results depend on, as plain values."""
        return {"tracker": self.name, **_described_start(self.polygon)}


@dataclass(frozen=True, kw_only=True)
class ResultFolder:
    """Results that are there already: ``folder`` is read by ``results.read_run``."""

    name: str
    folder: Path


Source = NetworkTracker | OpenCVSource | ResultFolder


def parse_trackers(
    words: Iterable[str],
    *,
    weights: str | None = None,
    preset: str | None = None,
    features: Sequence[str] | None = None,
    fusion_map: str | None = None,
    device: str = "cpu",
    tf32: bool = False,
    polygon: bool = False,
) -> list[Source]:
    """Trackers that words name.

    Parameters
    ----------
    words : iterable of str
        ``siamfc``, ``dsiam``, ``dsiamm``, ``opencv-NAME``, several of these joined by commas,
        ``NAME=DIR``, or ``DIR``, whose name then is the tracker's.
    weights, preset, features, fusion_map, device, tf32
        Of our own trackers, see ``NetworkTracker``.
    polygon
        Of all that are run.

    Raises
    ------
    ValueError
        If a word is none of these, a name comes twice, OpenCV lacks a tracker, or weights are
        needed and not given.
    """
    found: list[Source] = []
    for word in words:
        name, equals, path = word.partition("=")
        if equals or (Path(word).is_dir() and word not in TRACKERS):
            folder = Path(path if equals else word)
            if not folder.is_dir():
                raise ValueError(f"tracker {word!r}: there is no folder {folder}")
            name = name if equals else folder.resolve().name
            found.append(ResultFolder(name=name, folder=folder))
            continue
        for part in filter(None, (part.strip() for part in word.split(","))):
            if part in TRACKERS:
                if weights is None:
                    raise ValueError(f"tracker {part!r} needs a network: give its --weights")
                found.append(
                    NetworkTracker(
                        name=part,
                        weights=str(weights),
                        preset=preset,
                        features=tuple(features) if features else None,
                        fusion_map=fusion_map if TRACKERS[part][1] == 2 else None,
                        device=device,
                        tf32=tf32,
                        polygon=polygon,
                    )
                )
            elif part.startswith(OPENCV_PREFIX):
                source = OpenCVSource(name=part, polygon=polygon)
                source.create()  # fails here, where the installed OpenCV lacks it
                found.append(source)
            else:
                raise ValueError(
                    f"a tracker must be one of {', '.join(TRACKERS)}, {OPENCV_PREFIX}NAME, a "
                    f"folder of results or NAME=FOLDER; received {part!r}"
                )
    for source in found:
        if not _NAME.fullmatch(source.name) or source.name in (".", ".."):
            raise ValueError(
                "a tracker's name must be of letters, digits and any of _.+-(); received "
                f"{source.name!r}"
            )
    names = [source.name for source in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not found:
        raise ValueError(
            f"expected trackers with different names, received {', '.join(names) or 'none'}"
        )
    return found
