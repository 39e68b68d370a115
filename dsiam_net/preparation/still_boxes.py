"""Boxes of targets in still images: of segments, from annotations, or where there is texture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import scipy.io
from scipy import ndimage

from ..boxes import iou, valid_boxes
from ..sequences import SequenceError

# Sides of random squares, in parts of the image's shorter side.
SQUARE_SIDES = (0.12, 0.4)
# Half of the squares lie around the middle, with this standard deviation in parts of the sides.
NEAR_MIDDLE = 0.12
# Squares are tried this often for each that is wanted.
TRIES = 30


@dataclass(frozen=True)
class StillLimits:
    """Which regions of an image are targets.

    Attributes
    ----------
    min_area, max_area : float
        Least area of a region, and greatest area of the box around it, in parts of the image.
    max_aspect : float
        Longer side of its box to the shorter one.
    max_borders : int
        How many of the image's borders it may touch.
    min_fill : float
        How much of its box a segment fills.
    min_texture : float
        Standard deviation of the grey levels in its box.
    max_overlap : float
        Of the boxes of one image, intersection over union.
    """

    min_area: float = 0.005
    max_area: float = 0.25
    max_aspect: float = 3.0
    max_borders: int = 1
    min_fill: float = 0.3
    min_texture: float = 12.0
    max_overlap: float = 0.5

    def __post_init__(self):
        shares = (self.min_area, self.max_area, self.min_fill, self.max_overlap)
        if not all(0 <= s <= 1 for s in shares) or self.min_area > self.max_area:
            raise ValueError(
                "areas, fill and overlap must lie in [0, 1], the least area below the greatest; "
                f"received {self}"
            )
        if self.max_aspect < 1 or not 0 <= self.max_borders <= 4 or self.min_texture < 0:
            raise ValueError(
                "max_aspect must be at least 1, max_borders 0 to 4 and min_texture at least 0; "
                f"received {self}"
            )


def choose_boxes(
    boxes: np.ndarray, image: np.ndarray, limits: StillLimits, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Some of the boxes, in random order: within the image's and the limits', not one on another.

    Parameters
    ----------
    boxes : array (N, 4)
        x, y, w, h; pixels, 1-based.
    image : uint8 array (H, W, 3)
    limits : StillLimits
        Of these aspect, texture and overlap; areas and borders are those of regions.
    most : int
    rng : numpy.random.Generator

    Returns
    -------
    float64 array (M, 4), ``M <= most``
    """
    chosen: list[np.ndarray] = []
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for box in np.asarray(boxes, np.float64)[rng.permutation(len(boxes))]:
        if len(chosen) == most:
            break
        if max(box[2:]) > limits.max_aspect * min(box[2:]):
            continue
        if texture(grey, box) >= limits.min_texture and _apart(box, chosen, limits):
            chosen.append(box)
    return np.array(chosen).reshape(-1, 4)


def _apart(box: np.ndarray, others: Sequence[np.ndarray], limits: StillLimits) -> bool:
    """Whether a box does not lie on one of the others."""
    return all(iou(box, other) <= limits.max_overlap for other in others)


def texture(grey: np.ndarray, box: Sequence[float]) -> float:
    """Standard deviation of the grey levels of an image (H, W) in a box; 0 outside the image."""
    x, y, w, h = box
    left, top = max(math.floor(x) - 1, 0), max(math.floor(y) - 1, 0)
    part = grey[top : max(math.ceil(y + h) - 1, 0), left : max(math.ceil(x + w) - 1, 0)]
    return float(part.std()) if part.size else 0.0


def read_segmentations(path: Path) -> list[np.ndarray]:
    """The segmentations of one image in BSDS500's layout, int arrays (H, W).

    Raises
    ------
    SequenceError
        If the file is none of that layout: ``groundTruth{k}.Segmentation``.
    """
    try:
        cells = scipy.io.loadmat(path)["groundTruth"].reshape(-1)
        found = [np.asarray(cell["Segmentation"].reshape(-1)[0], np.int64) for cell in cells]
        if not found or any(s.ndim != 2 for s in found):
            raise ValueError("no segmentation of two axes")
    except OSError as exc:
        raise SequenceError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except Exception as exc:
        # SciPy fails in whatever way the damage of a file leads to.
        raise SequenceError(
            f"{path}: expected groundTruth with fields Segmentation, as in BSDS500 "
            f"({type(exc).__name__}: {exc})"
        ) from exc
    return found


def segment_boxes(segmentation: np.ndarray, limits: StillLimits) -> np.ndarray:
    """Boxes (N, 4), 1-based, of the connected regions of a segmentation that are within limits."""
    height, width = segmentation.shape
    total, boxes = height * width, []
    for label, part in enumerate(ndimage.find_objects(segmentation), start=1):
        if part is None:
            continue
        mask = (segmentation[part] == label).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for left, top, w, h, area in stats[1:].tolist():
            x, y = left + part[1].start, top + part[0].start
            borders = (x == 0) + (y == 0) + (x + w == width) + (y + h == height)
            if (
                limits.min_area * total <= area
                and w * h <= limits.max_area * total
                and area >= limits.min_fill * w * h
                and borders <= limits.max_borders
            ):
                boxes.append((x + 1, y + 1, w, h))
    return np.array(boxes, np.float64).reshape(-1, 4)


def read_xml_boxes(path: Path) -> np.ndarray:
    """Boxes (N, 4), 1-based, of an annotation as PASCAL VOC and ILSVRC have them.

    Corners there are pixels, counted from 1, the last ones included.

    Raises
    ------
    SequenceError
        If the file cannot be read, is no annotation, or a box has no area.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content:
            raise ValueError("it has a document type, which no annotation needs")
        objects = ElementTree.fromstring(content).findall("object")
        corners = [
            [float(o.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
            for o in objects
        ]
    except OSError as exc:
        raise SequenceError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (ElementTree.ParseError, TypeError, ValueError) as exc:
        raise SequenceError(
            f"{path}: expected an annotation with object/bndbox/xmin, ymin, xmax, ymax ({exc})"
        ) from exc
    corners = np.array(corners, np.float64).reshape(-1, 4)
    return _valid(
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2] + 1], axis=1), path
    )


def read_text_boxes(path: Path) -> np.ndarray:
    """Boxes (N, 4) of a text file, a line each: ``x, y, w, h``, 1-based, commas or spaces.

    Lines that begin with ``#`` are comments. Errors are those of ``read_xml_boxes``.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.strip() and line.lstrip()[0] != "#"]
        rows = [[float(v) for v in line.replace(",", " ").split()] for line in kept]
        if any(len(row) != 4 for row in rows):
            raise ValueError("a line has more or fewer numbers")
    except OSError as exc:
        raise SequenceError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise SequenceError(f"{path}: expected x, y, w, h in each line ({exc})") from exc
    return _valid(np.array(rows, np.float64).reshape(-1, 4), path)


def read_coco_boxes(path: Path) -> dict[str, np.ndarray]:
    """Boxes (N, 4), 1-based, of each image that a file of COCO's instances names, by that name.

    COCO counts from 0 and writes ``x, y, w, h`` with fractions; crowds (``iscrowd``) are no
    targets, nor are boxes without an area.

    Raises
    ------
    SequenceError
        If the file cannot be read, or is no such file.
    """
    try:
        content = json.loads(path.read_bytes())
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        boxes: dict[str, list] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            x, y, w, h = (float(v) for v in annotation["bbox"])
            if not annotation.get("iscrowd") and w > 0 and h > 0:
                boxes[names[annotation["image_id"]]].append((x + 1, y + 1, w, h))
    except OSError as exc:
        raise SequenceError(f"cannot read {path}: {exc.strerror or exc}") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise SequenceError(
            f"{path}: expected COCO's instances, images with id and file_name, annotations with "
            f"image_id and bbox ({type(exc).__name__}: {exc})"
        ) from exc
    return {
        name: _valid(np.array(rows, np.float64).reshape(-1, 4), path)
        for name, rows in boxes.items()
    }


def _valid(boxes: np.ndarray, path: Path) -> np.ndarray:
    wrong = np.flatnonzero(~valid_boxes(boxes))
    if len(wrong):
        raise SequenceError(
            f"{path}: expected boxes with width and height above 0, received "
            f"{boxes[wrong[0]].tolist()} (x, y, w, h)"
        )
    return boxes


def random_squares(
    image: np.ndarray, limits: StillLimits, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Squares (N, 4), 1-based, within the image where it has texture, half near its middle.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    limits : StillLimits
        Of these texture and overlap.
    most : int
    rng : numpy.random.Generator
    """
    size = np.array(image.shape[1::-1])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    chosen: list[np.ndarray] = []
    for _ in range(TRIES * most):
        if len(chosen) == most:
            break
        side = max(3, round(rng.uniform(*SQUARE_SIDES) * size.min()))
        near_middle = len(chosen) % 2 == 0
        middle = rng.normal(0.5, NEAR_MIDDLE, 2) if near_middle else rng.uniform(0, 1, 2)
        corner = np.clip(np.round(middle * size - side / 2), 0, size - side)
        box = np.array([*(corner + 1), side, side], np.float64)
        if texture(grey, box) >= limits.min_texture and _apart(box, chosen, limits):
            chosen.append(box)
    return np.array(chosen).reshape(-1, 4)
