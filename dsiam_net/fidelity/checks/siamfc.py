"""Pieces of SiamFC's tracker: crops, pyramids, from response to position."""

from __future__ import annotations

import re

import numpy as np

from layers.window import hann

from ...patches import ExactPatches, cut
from ...peak import cosine_window, displacement, find_peak
from ...settings import PRESETS, TrackerSettings
from ...target import exemplar_side, search_side
from ..compare import GREY_LEVELS, Comparer, Comparison, absolute, same
from ..files import DOUBLE, Case, GoldenError
from ..frames import image_of_colour
from ..registry import checks

# Bound on the difference of a patch to the original's, grey levels.
PATCH = 1e-3
# Of positions that follow from the same peak, relative.
POSITION = 1e-12
# Of numbers that sum, or are the greatest of, many cells of single precision.
SUM = 1e-5


@checks("get_subwindow_tracking")
def check_subwindow(case: Case) -> list[Comparison]:
    return check_cut(case) if case.has("patch") else check_crop(case)


def check_cut(case: Case) -> list[Comparison]:
    """A square of the image that stands in the same file, not resized: equal to the bit."""
    source = next((c for c in case.golden.cases("") if c.has("im")), None)
    if source is None:
        raise GoldenError("the file has no case with the field im, the image that was cut")
    colour = np.array(source.option("avg"), np.float32)
    side = int(np.ravel(case.option("sz"))[0])
    patch = cut(source.tensor("im")[0], case.option("pos"), side, colour)
    compare = Comparer(case, 0.0)
    compare.field("patch", patch[None])
    return compare.found


def check_crop(case: Case) -> list[Comparison]:
    """The template's patch, of the frame that has the case's average colour."""
    patches, settings = ExactPatches(), PRESETS["siamfc"]
    image = image_of_colour(case, case.vector("avgChans"))
    compare = Comparer(case)
    colour = patches.average_colour(image)
    compare.field("avgChans", colour)
    side_z = exemplar_side(case.vector("targetSize"), settings)
    compare.field("s_z", np.asarray(side_z), DOUBLE)
    compare.field("s_x", np.asarray(search_side(side_z, settings)), DOUBLE)
    centre, side = case.vector("pos"), case.scalar("s_z")
    raw = patches.crop(image, centre, side, patches.side(side), colour)
    compare.field("z_orig_size", np.array([*raw.shape[1:], len(raw)], np.float64), 0.0)
    compare.field("z_orig_sum", raw.sum(dtype=np.float64))
    expected = case.tensor("z_crop")
    patch = patches.crop(image, centre, side, expected.shape[-1], colour)[None]
    compare.add(absolute("z_crop", patch, expected, PATCH, GREY_LEVELS))
    return compare.found


@checks("make_scale_pyramid")
def check_pyramid(case: Case) -> list[Comparison]:
    colour = case.vector("avgChans")
    pyramid = ExactPatches().pyramid(
        image_of_colour(case, colour),
        case.vector("pos"),
        case.vector("in_side_scaled"),
        PRESETS["siamfc"].instance_size,
        colour,
    )
    step = int(case.option("sub", 1))
    compare = Comparer(case)
    expected = case.tensor("pyramid")
    compare.add(absolute("pyramid", pyramid[:, :, ::step, ::step], expected, PATCH, GREY_LEVELS))
    compare.field("pyramid_sum", pyramid.sum(axis=(2, 3), dtype=np.float64).T)
    return compare.found


def siamfc_settings(scales: int) -> TrackerSettings:
    """The settings that SiamFC's trackers with so many scales have."""
    for preset in (PRESETS["siamfc"], PRESETS["siamfc-5s"]):
        if preset.num_scales == scales:
            return preset
    raise GoldenError(f"SiamFC has no tracker with {scales} scales")


@checks("tracker_eval")
def check_tracker_eval(case: Case) -> list[Comparison]:
    """From response maps to the position; all-equal maps have no peak, and theirs is kept."""
    responses = np.ascontiguousarray(case.tensor("responseMaps")[:, 0])
    settings = siamfc_settings(len(responses))
    peak = find_peak(responses, settings)
    step = -(-len(peak.fine) // case.matlab("upsampled_best_sub").shape[0])
    compare = Comparer(case)
    compare.add(same("bestScale", peak.scale + 1, case.scalar("bestScale")))
    compare.field("upsampled_best_sub", peak.fine[::step, ::step])
    compare.field("upsampled_max", peak.fine.max(), SUM)
    compare.field("upsampled_sum", np.asarray(peak.fine.sum(dtype=float)), SUM)
    centre = case.vector("targetPosition") + displacement(peak, int(case.scalar("s_x")), settings)
    compare.field("newTargetPosition", centre, POSITION)
    return compare.found


@checks("hann window")
def check_cosine_window(case: Case) -> list[Comparison]:
    """The window on a response map; its side is that of the Hann window beside it."""
    sizes = [int(m.group(1)) for f in case.arrays if (m := re.fullmatch(r"hann(\d+)", f))]
    if not sizes:
        raise GoldenError("the case has no field hannN, which tells the window's side N")
    size = max(sizes)
    window = cosine_window(size, size)
    step = -(-size // case.matlab("window_sub").shape[0])
    compare = Comparer(case)
    compare.field("window_sub", window[::step, ::step])
    compare.field("window_sum", np.asarray(window.sum(dtype=float)), 1e-6)
    for side in sizes:
        compare.field(f"hann{side}", hann(side), DOUBLE)
    return compare.found
