"""SiamFC's training data: crops, pairs, augmentation, validation set, learning rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...augmentation import Published, acquire_augment, rgb_variance
from ...pairs import choose_val_set, count_pairs
from ...published_crops import get_crops, get_objects_extent
from ...training import learning_rates
from ..compare import GREY_LEVELS, Comparer, Comparison, absolute, same
from ..files import Case, GoldenError
from ..frames import FRAME
from ..registry import checks


def _frame(case: Case) -> np.ndarray:
    """The frame (H, W, 3) that stands in the folder under the name that the case gives."""
    name = case.option("image")
    for golden in case.folder.goldens():
        for entry in golden.meta:
            if entry["func"] == FRAME and entry["name"] == name:
                case.folder.mark_used(golden.path, case.golden)
                return np.ascontiguousarray(golden.case(name).matlab("im")[:, :, :, 0])
    raise GoldenError(f"no file of the folder holds a frame (func {FRAME}) of the name {name!r}")


@checks("save_crops.m:get_crops")
def check_get_crops(case: Case) -> list[Comparison]:
    expected = case.matlab("crop_z")[:, :, :, 0]
    exemplar, instance = get_crops(_frame(case), case.vector("extent"), len(expected))
    compare = Comparer(case)
    compare.add(absolute("crop_z", exemplar.image, expected, 0.0, GREY_LEVELS))
    part = case.matlab("crop_x_sub")[:, :, :, 0]
    step = -(-len(instance.image) // len(part))
    taken = instance.image[::step, ::step]
    compare.add(absolute("crop_x_sub", taken, part, 0.0, GREY_LEVELS))
    compare.field("crop_x_sum", instance.image.sum(axis=(0, 1), dtype=np.float64), 0.0)
    for kind, square in (("z", exemplar), ("x", instance)):
        compare.field(f"bbox_{kind}", square.box)
        compare.add(same(f"pad_{kind}", square.pad, case.vector(f"pad_{kind}")))
    return compare.found


@checks("load_stats")
def check_load_stats(case: Case) -> list[Comparison]:
    compare = Comparer(case)
    compare.field("rgbVariance", rgb_variance(case.matrix("cov")))
    return compare.found


class _Recorded:
    """Gives out the random numbers of a case in place of a generator's."""

    def __init__(self, case: Case):
        self.case = case
        self.shifts = list(case.vector("randi")) if case.has("randi") else []

    def random(self, count: int) -> np.ndarray:
        return self.case.vector("rand")[:count]

    def standard_normal(self, count: int) -> np.ndarray:
        return self.case.vector("randn")[:count]

    def integers(self, low: int, high: int, endpoint: bool) -> int:
        value = self.shifts.pop(0)
        if not low <= value <= high:
            raise GoldenError(f"a shift of {value} was drawn, and {low} to {high} are possible")
        return int(value)


def _inputs(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop of the file that has room for ``size`` pixels, and the colours' variance."""
    for source in case.golden.cases("load_stats"):
        crops = [source.matlab(f)[:, :, :, 0] for f in ("crop_z", "crop_x") if source.has(f)]
        fitting = sorted((c for c in crops if min(c.shape[:2]) >= size), key=len)
        if fitting:
            return fitting[0], source.matrix("rgbVariance")
    raise GoldenError(
        f"the file has no case of load_stats with a crop of {size} pixels, crop_z or crop_x"
    )


def _settings(options: dict[str, Any]) -> Published:
    most = options["maxTranslate"]
    return Published(
        stretch=bool(options["stretch"]),
        max_stretch=float(options["maxStretch"]),
        translate=bool(options["translate"]),
        max_translate=None if np.size(most) == 0 else int(np.ravel(most)[0]),
        color=bool(options["color"]),
    )


@checks("vid_get_random_batch.m:acquire_augment")
def check_acquire_augment(case: Case) -> list[Comparison]:
    size = int(np.ravel(case.option("imageSize"))[0])
    image, variance = _inputs(case, size)
    made, _ = acquire_augment(image, size, variance, _settings(case.options), _Recorded(case))
    expected = case.matlab("out_sub")[:, :, :, 0]
    step = -(-size // len(expected))
    compare = Comparer(case)
    compare.add(same("out_size", list(made.shape), case.vector("out_size").astype(int).tolist()))
    compare.add(absolute("out_sub", made[::step, ::step], expected, 1e-4, GREY_LEVELS))
    compare.field("out_sum", made.sum(axis=(0, 1), dtype=np.float64), 1e-7)
    return compare.found


@checks("get_objects_extent")
def check_get_objects_extent(case: Case) -> list[Comparison]:
    boxes = case.vector("z_extent"), case.vector("x_extent")
    sizes = int(case.option("size_z")), int(case.option("size_x"))
    compare = Comparer(case)
    for kind, box in zip("zx", get_objects_extent(*boxes, *sizes), strict=True):
        compare.field(f"bbox_{kind}", box)
    return compare.found


@checks("choose_val_set")
def check_choose_val_set(case: Case) -> list[Comparison]:
    videos = int(case.scalar("n_train_videos") + case.scalar("n_val_videos"))
    validation = float(case.option("validation"))
    held_out = choose_val_set(videos, validation)
    pairs = count_pairs(int(case.option("numPairs")), validation)
    found = {
        "n_train_videos": int((~held_out).sum()),
        "n_val_videos": int(held_out.sum()),
        "n_train_pairs": pairs[0],
        "n_val_pairs": pairs[1],
    }
    return [same(field, value, int(case.scalar(field))) for field, value in found.items()]


@checks("experiment.m")
def check_learning_rates(case: Case) -> list[Comparison]:
    """From 1e-2 to 1e-5, as many epochs as the case has."""
    rates = case.vector("lr")
    compare = Comparer(case)
    compare.field("lr", np.array(learning_rates(1e-2, 1e-5, len(rates))))
    return compare.found
