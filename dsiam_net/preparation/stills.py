"""Still images as tracks of one frame: which images a folder has, and what is known of each."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..crops import Track
from ..datasets.images import is_image, natural
from ..sequences import SequenceError, read_image
from .parallel import parallel_map
from .still_boxes import (
    StillLimits,
    choose_boxes,
    random_squares,
    read_coco_boxes,
    read_segmentations,
    read_text_boxes,
    read_xml_boxes,
    segment_boxes,
)

# What boxes are made of, and where it stands for the image FOLDER/NAME.jpg: beside it, or in a
# folder that has the place of the images' folder (images/train/1.jpg, groundTruth/train/1.mat).
SEGMENTS, ANNOTATION, TEXT, SQUARES = "segments", "xml", "text", "squares"
# One file for all images, which is given.
COCO = "coco"
BESIDE = {SEGMENTS: ".mat", ANNOTATION: ".xml", TEXT: ".txt"}
FOLDERS = {
    "images": {SEGMENTS: "groundTruth"},
    "JPEGImages": {ANNOTATION: "Annotations"},
    "Data": {ANNOTATION: "Annotations"},
}


@dataclass(frozen=True)
class Still:
    """An image, and the file that tells its targets.

    Attributes
    ----------
    name : str
        Path from the folder given, without suffix, with ``/``.
    path : Path
    kind : str
        ``segments``, ``xml``, ``text``, ``coco`` or ``squares``.
    boxes : Path or None
        None for squares.
    listed : array (N, 4) or None
        The boxes themselves, where one file has those of many images (``coco``).
    """

    name: str
    path: Path
    kind: str
    boxes: Path | None
    listed: np.ndarray | None = None


def find_stills(folder: Path, coco: Sequence[Path] = ()) -> list[Still]:
    """All images below a folder, in order, each with what says where its targets are.

    Parameters
    ----------
    folder : Path
    coco : sequence of Path
        Files of COCO's instances. They are asked first, for an image's path below the folder and
        for its bare name; where there are any, images that none of them names are left out.

    Raises
    ------
    SequenceError
        If there is no folder, no image in it, a file of instances cannot be read, or none of
        them names an image of the folder.
    """
    if not folder.is_dir():
        raise SequenceError(f"{folder}: expected a folder of images, and there is none")
    paths = [p for p in sorted(folder.rglob("*"), key=_by_folder) if is_image(p) and p.is_file()]
    if not paths:
        raise SequenceError(f"{folder}: expected images, received a folder without any")
    names = Counter(str(path.with_suffix("")) for path in paths)
    listed = {name: (file, boxes) for file in coco for name, boxes in read_coco_boxes(file).items()}
    stills = []
    for path in paths:
        unique = names[str(path.with_suffix(""))] == 1
        name = (path.with_suffix("") if unique else path).relative_to(folder).as_posix()
        if not coco:
            stills.append(Still(name, path, *_boxes_of(path, folder)))
        elif found := listed.get(path.relative_to(folder).as_posix()) or listed.get(path.name):
            stills.append(Still(name, path, COCO, *found))
    if not stills:
        raise SequenceError(
            f"{folder}: none of its {len(paths)} images is named in "
            f"{', '.join(str(file) for file in coco)}; the first one there is "
            f"{next(iter(listed), 'missing')}"
        )
    return stills


def _by_folder(path: Path) -> list:
    return [path.parent.as_posix(), natural(path)]


def _boxes_of(path: Path, folder: Path) -> tuple[str, Path | None]:
    parts = path.relative_to(folder.parent).parts
    for place, part in enumerate(parts[:-1]):
        for kind, other in FOLDERS.get(part, {}).items():
            swapped = folder.parent.joinpath(*parts[:place], other, *parts[place + 1 :])
            if (found := swapped.with_suffix(BESIDE[kind])).is_file():
                return kind, found
    for kind, suffix in BESIDE.items():
        if (found := path.with_suffix(suffix)).is_file():
            return kind, found
    return SQUARES, None


@dataclass(frozen=True)
class StillJob:
    """What ``look_at_still`` does: an image, limits, targets wanted, and a seed."""

    still: Still
    limits: StillLimits
    most: int
    seed: int


@dataclass(frozen=True, eq=False)
class Look:
    """What was found: boxes (N, 4), x, y, w, h, 1-based; or what is wrong."""

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    wrong: str = ""


def look_at_still(job: StillJob) -> Look:
    """Choose the targets of an image; what cannot be read is told, not raised."""
    still, limits = job.still, job.limits
    rng = np.random.default_rng([job.seed, zlib.crc32(still.name.encode())])
    try:
        image = read_image(still.path)
        if min(image.shape[:2]) < 3:
            raise SequenceError(f"{still.path}: less than 3 pixels wide or high")
        if still.kind == SQUARES:
            return Look(random_squares(image, limits, job.most, rng))
        boxes = _read_boxes(still, image.shape[:2], limits)
    except SequenceError as exc:
        return Look(wrong=str(exc))
    return Look(choose_boxes(boxes, image, limits, job.most, rng))


def _read_boxes(still: Still, shape: tuple[int, int], limits: StillLimits) -> np.ndarray:
    if still.kind == SEGMENTS:
        segmentations = read_segmentations(still.boxes)
        for segmentation in segmentations:
            if segmentation.shape != shape:
                raise SequenceError(
                    f"{still.boxes}: expected segmentations of {shape[0]}x{shape[1]} pixels, as "
                    f"the image has, received {segmentation.shape[0]}x{segmentation.shape[1]}"
                )
        return np.concatenate([segment_boxes(s, limits) for s in segmentations])
    if still.kind == COCO:
        boxes = still.listed
    else:
        boxes = (read_xml_boxes if still.kind == ANNOTATION else read_text_boxes)(still.boxes)
    height, width = shape
    area = boxes[:, 2] * boxes[:, 3] / (height * width)
    last = boxes[:, :2] + boxes[:, 2:] - 1
    borders = (boxes[:, :2] <= 1).sum(axis=1) + (last >= [width, height]).sum(axis=1)
    fits = (area >= limits.min_area) & (area <= limits.max_area) & (borders <= limits.max_borders)
    return boxes[fits]


@dataclass(frozen=True, eq=False)
class StillTracks:
    """Tracks of one frame each, and what became of the images.

    Attributes
    ----------
    tracks : list of Track
    counts : dict of (int, int)
        By kind, images and targets.
    wrong : list of str
        What could not be read.
    """

    tracks: list[Track]
    counts: dict[str, tuple[int, int]]
    wrong: list[str]


def still_tracks(
    stills: Sequence[Still],
    limits: StillLimits,
    most: int = 5,
    seed: int = 0,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> StillTracks:
    """Choose targets in images.

    What is drawn for an image follows from the seed and its name alone.

    Parameters
    ----------
    stills : sequence of Still
    limits : StillLimits
    most : int
        Targets of an image, at most.
    seed : int
    jobs : int, optional
        Processes; by default as many as there are cores.
    progress : callable (done), optional
        Called after every image.

    Raises
    ------
    ValueError
        If ``most`` or ``jobs`` is less than 1.
    """
    if most < 1:
        raise ValueError(f"at least one target of an image must be allowed, received {most}")
    work = [StillJob(still, limits, most, seed) for still in stills]
    found = StillTracks([], {}, [])
    for done, (still, look) in enumerate(
        zip(stills, parallel_map(look_at_still, work, jobs), strict=True), start=1
    ):
        if look.wrong:
            found.wrong.append(look.wrong)
        images, targets = found.counts.get(still.kind, (0, 0))
        found.counts[still.kind] = (images + 1, targets + len(look.boxes))
        for number, box in enumerate(look.boxes):
            found.tracks.append(Track(f"{number:02d}", still.name, [still.path], box[None]))
        if progress is not None:
            progress(done)
    return found
