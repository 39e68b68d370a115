"""Whole runs of the original trackers, frame for frame."""

from __future__ import annotations

import numpy as np

from ...patches import matlab_round
from ...peak import cosine_window
from ...target import exemplar_side, tall_rate
from ..compare import GREY_LEVELS, PIXELS, Comparer, Comparison, absolute, relative, same
from ..files import Case
from ..registry import checks
from ..tracking_run import CHANNEL_STEP, Frame, Run, matlab_axes, run_like

PATCH = 1e-3  # of a patch, grey levels
POSITION = 1e-3  # of a position or a side, pixels
RELATIVE = 1e-4  # of features and responses
WINDOW = 1e-6  # of the cosine window


def _stepped(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Every so many rows and columns, as the original stored them."""
    rows, columns = (-(-a // b) for a, b in zip(array.shape[:2], like.shape[:2]))
    return array[::rows, ::columns]


class RunComparer(Comparer):
    """Comparisons of a tracked frame; ``name`` is a field of the case."""

    def __init__(self, case: Case):
        super().__init__(case, RELATIVE)

    def pixels(self, field: str, actual: np.ndarray | float) -> None:
        actual = np.ravel(actual)
        self.add(absolute(field, actual, self.case.vector(field), POSITION, PIXELS))

    def patch(self, field: str, patches: np.ndarray, step: int) -> None:
        patches = matlab_axes(patches)[::step, ::step]
        self.add(absolute(field, patches, self.case.matlab(field), PATCH, GREY_LEVELS))

    def planes(self, field: str, actual: np.ndarray, allowed: float = RELATIVE) -> None:
        """Arrays in MATLAB's axes."""
        self.add(relative(field, actual, self.case.matlab(field), allowed))

    def mean(self, field: str, array: np.ndarray, axes: tuple[int, ...], unit: float) -> None:
        """A sum over ``axes`` as the mean of its cells' errors, which is what a bound is for.

        Where the cells' signs differ their sum is near 0, and says nothing of its own error.
        """
        sums = array.sum(axis=axes, dtype=float)
        count = array.size / sums.size
        off = np.abs(np.ravel(sums, order="F") - self.case.vector(field)).max() / count
        if unit == PATCH:
            self.add(Comparison(field, float(off), PATCH, GREY_LEVELS))
        else:
            size = np.abs(array).mean(dtype=float)
            self.add(Comparison(field, float(off / size) if size else float(off), RELATIVE))

    def sum_of(self, field: str, array: np.ndarray, axes: tuple[int, ...], patch=False) -> None:
        if self.case.has(field):
            self.mean(field, array, axes, PATCH if patch else RELATIVE)


@checks("run_DSiam")
def check_dsiam_boxes(case: Case) -> list[Comparison]:
    return _check_boxes(case, "res")


@checks("tracker.m")
def check_siamfc_boxes(case: Case) -> list[Comparison]:
    return _check_boxes(case, "bboxes")


def _check_boxes(case: Case, field: str) -> list[Comparison]:
    boxes = np.array([frame.box for frame in run_like(case.golden).frames])
    return [absolute(field, boxes, case.matrix(field), POSITION, PIXELS)]


@checks("fcnet_init")
def check_dsiam_start(case: Case) -> list[Comparison]:
    run = run_like(case.golden)
    start, settings, compare = run.frames[0], run.settings, RunComparer(case)
    for field, actual in (("pos", start.centre), ("targetsz", start.size), ("s_x", start.side)):
        compare.pixels(field, actual)
    for level, array in enumerate(start.features[0], 1):
        array = matlab_axes(array)
        compare.planes(f"corrfeat{level}_sub", array[:, :, ::CHANNEL_STEP])
        # The sum is over copies, one for each scale.
        copies = np.broadcast_to(array, (*array.shape[:3], settings.num_scales))
        compare.sum_of(f"corrfeat{level}_sum", copies, (0, 1, 2, 3))
    side = settings.instance_size - settings.exemplar_size
    cells = settings.response_up * (side // settings.total_stride + 1)
    window = cosine_window(cells, cells)[:, :, None, None]
    compare.planes("window_sub", _stepped(window, case.matlab("window_sub")), WINDOW)
    return compare.found


def _check_search(compare: RunComparer, frame: Frame) -> None:
    """Search patches and responses, for all trackers."""
    case, result = compare.case, frame.result
    compare.patch("x_crops_sub", frame.pyramid, case.option("xcrop_step"))
    compare.sum_of("x_crops_sum", matlab_axes(frame.pyramid), (0, 1), patch=True)
    compare.planes("responseMaps", result.responses.transpose(1, 2, 0)[..., None])
    peak = [result.peak.row, result.peak.column]
    compare.add(same("p_corr", peak, case.vector("p_corr").tolist()))


@checks("fcn_update")
def check_dsiam_frame(case: Case) -> list[Comparison]:
    run = run_like(case.golden)
    frame, compare = run.frame(case), RunComparer(case)
    _check_dsiam_search(compare, run, frame)
    _check_dsiam_learning(compare, run, frame)
    return compare.found


def _check_dsiam_search(compare: RunComparer, run: Run, frame: Frame) -> None:
    case, result, peak = compare.case, frame.result, frame.result.peak
    for field, actual in (
        ("pos_in", frame.centre_before),
        ("s_x_in", frame.side_before),
        ("targetsz_in", frame.size_before),
        ("scaledInstance", frame.side_before * np.array(run.settings.scales)),
        ("pos_new", result.centre),
        ("pos_out", frame.centre),
        ("s_x_out", frame.side),
        ("targetsz_out", frame.size),
        ("targetLoc", frame.box),
    ):
        compare.pixels(field, actual)
    _check_search(compare, frame)
    for field, array in (
        ("responseUP_best_sub", peak.fine),
        ("responseMap_sub", peak.windowed),
    ):
        compare.planes(field, _stepped(array[:, :, None, None], case.matlab(field)))
    compare.sum_of("responseUP_best_sum", peak.fine, (0, 1))
    compare.add(same("newScale", result.scale + 1, case.scalar("newScale")))
    # A score near 0 is the difference of responses that are not: judged by their size.
    error = abs(result.score - case.scalar("score")) / np.abs(result.responses).max()
    compare.add(Comparison("score", float(error), RELATIVE))
    compare.add(same("isfail", float(result.lost), float(case.scalar("isfail"))))


def _check_dsiam_learning(compare: RunComparer, run: Run, frame: Frame) -> None:
    case = compare.case
    learned = "z_crop_sub" in case.arrays
    compare.add(same("learned", bool(frame.features), learned))
    if not learned or not frame.features:  # a lost target: nothing was learned
        return
    measured = frame.size_before * tall_rate(run.frames[0].size, run.settings)
    compare.pixels("s_z", exemplar_side(measured, run.settings))
    exemplar, _ = frame.crops
    compare.patch("z_crop_sub", exemplar[None], case.option("zcrop_step"))
    compare.sum_of("z_crop_sum", matlab_axes(exemplar[None]), (0, 1, 3), patch=True)
    rows, columns, channels = case.option("feat_step_x")
    for level, (tz, tx) in enumerate(zip(*frame.features), 1):
        tz, tx = matlab_axes(tz), matlab_axes(tx)
        compare.planes(f"tz{level}_sub", tz[:, :, :: case.option("feat_chan_step_z")])
        compare.planes(f"tx{level}_sub", tx[::rows, ::columns, ::channels])
        compare.sum_of(f"tz{level}_sum", tz, (0, 1, 2, 3))
        compare.sum_of(f"tx{level}_sum", tx, (0, 1, 2))
        for which, role in ((1, "v"), (2, "w")):
            _check_filter(compare, frame.filters[f"{role}{level}"], level, which)


def _check_filter(compare: RunComparer, learned: np.ndarray, level: int, which: int) -> None:
    case, name = compare.case, f"cir{level}{which}"
    rows, columns, channels = case.option(f"cirX{which}_step")
    spectrum = matlab_axes(np.fft.fft2(learned.astype(np.float64)))[::rows, ::columns, ::channels]
    alphaf, featf = case.matlab(f"{name}_alphaf"), case.matlab(f"{name}_featf")
    # What the filter makes of the feature that it was learned from. The filter alone is
    # ill-conditioned: where that has no power, lambda = 1e-5 lets rounding errors grow.
    expected = alphaf * np.abs(featf) ** 2 / (learned.shape[2] * learned.shape[3])
    compare.add(relative(f"{name}_alphaf . {name}_featf", spectrum * featf, expected, RELATIVE))


@checks("tracker_eval (siamfc)")
def check_siamfc_frame(case: Case) -> list[Comparison]:
    run = run_like(case.golden)
    frame, compare = run.frame(case), RunComparer(case)
    compare.pixels("targetPosition_in", frame.centre_before)
    compare.pixels("newTargetPosition", frame.centre)
    side = int(matlab_round(frame.side_before))
    compare.add(same("s_x_round", side, case.scalar("s_x_round")))
    template = matlab_axes(run.frames[0].features[0][0])
    compare.planes("z_features_sub", template[:, :, ::CHANNEL_STEP])
    copies = np.broadcast_to(template, (*template.shape[:3], run.settings.num_scales))
    compare.sum_of("z_features_sum", copies, (0, 1, 2, 3))
    _check_search(compare, frame)
    scale = frame.result.scale + 1
    compare.add(same("bestScale", scale, case.scalar("bestScale")))
    compare.add(same("lost", frame.result.lost, False))
    return compare.found
