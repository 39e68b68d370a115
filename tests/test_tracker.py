"""Tests of dsiam_net.tracker, peak, target and tracking_net."""

import numpy as np
import pytest
from PIL import Image

from dagnet import DagNNError
from dsiam_net.branches import siamfc_branch
from dsiam_net.patches import matlab_round
from dsiam_net.peak import cosine_window, displacement, find_peak
from dsiam_net.settings import get_preset
from dsiam_net.target import Target, as_region, dsiam_target, siamfc_target, tall_rate
from dsiam_net.tracker import TRACKERS, create_tracker
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from errors import record_error
from golden import assert_close, golden, golden_cases
from tracking import golden_run, matlab_axes

GREY_LEVELS = 2e-4  # of a patch, absolute
PIXELS = 1e-9  # of a position, absolute: the same cells of the same maps give the same number
RELATIVE = 1e-4  # of features and responses, max|a-b| / max|b|


def assert_within(actual, expected, bound, unit, case, what):
    error = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64)).max()
    record_error(f"tracking, {unit}", case.file, error, f"{case.name} {what}")
    assert error <= bound, f"{case.file}, {case.name}, {what}: off by {error:.3e} {unit}"


# The first frame


@golden("dsiam_init", lambda name: name.startswith("objinit"))
def test_dsiam_takes_the_region_as_obj_initialize(case):
    target = dsiam_target(case.vector("region"), case.options["imsize"])
    assert target.centre.tolist() == case.vector("pos").tolist()
    assert target.size.tolist() == case.vector("targetsz").tolist()
    assert target.size.tolist() == case.vector("base_targetsz").tolist()
    assert target.box.tolist() == case.vector("targetLoc").tolist()


@golden("dsiam_init", lambda name: name.startswith("optpars"))
def test_tall_targets_are_measured_as_in_optpars(case):
    rate = tall_rate(case.vector("targetsz"), get_preset("released"))
    assert rate == case.scalar("targetszrate")


def test_siamfc_keeps_a_box_as_it_is():
    target = siamfc_target([10.25, 20.5, 30.0, 40.0])
    assert target.box.tolist() == [10.25, 20.5, 30.0, 40.0]
    assert target.centre.tolist() == [40.5, 25.25]


@pytest.mark.parametrize(
    "region", [[1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, 0, 4], [1, 2, 3, -4], [1, 2, 3, np.nan]]
)
def test_what_is_no_region_is_refused(region):
    with pytest.raises(ValueError):
        as_region(region)


def test_a_region_outside_the_frame_is_refused():
    with pytest.raises(ValueError, match="no whole pixel"):
        dsiam_target([700, 10, 20, 20], (360, 640))
    with pytest.raises(ValueError, match="no whole pixel"):
        dsiam_target([10, 10, 0.2, 20], (360, 640))


# From response to position


@golden("siamfc_tracker_eval_matlab", lambda name: name != "window")
def test_finds_the_position_as_tracker_eval(case):
    settings = get_preset("siamfc")
    responses = np.ascontiguousarray(case.tensor("responseMaps")[:, 0])
    peak = find_peak(responses, settings)
    assert peak.scale + 1 == case.scalar("bestScale")
    assert_close(
        peak.fine[::4, ::4],
        case.matlab("upsampled_best_sub")[:, :, 0, 0],
        case.tolerance,
        case,
        "map",
    )
    assert peak.fine.max() == pytest.approx(case.scalar("upsampled_max"), rel=1e-5)
    assert peak.fine.sum(dtype=float) == pytest.approx(case.scalar("upsampled_sum"), rel=1e-5)
    centre = case.vector("targetPosition") + displacement(peak, int(case.scalar("s_x")), settings)
    assert_close(centre, case.vector("newTargetPosition"), 1e-12, case, "position")


@golden("siamfc_tracker_eval_matlab", lambda name: name == "window")
def test_cosine_window_as_the_original(case):
    window = cosine_window(272, 272)
    assert_close(
        window[::8, ::8], case.matlab("window_sub")[:, :, 0, 0], case.tolerance, case, "window"
    )
    assert window.sum(dtype=float) == pytest.approx(case.scalar("window_sum"), rel=1e-6)
    assert_close(np.hanning(272), case.vector("hann272"), 1e-10, case, "hann")


def test_equal_peaks_go_to_the_first_scale_and_the_first_column():
    settings = get_preset("siamfc", window_influence=0.0, response_up=1, scale_penalty=1.0)
    responses = np.zeros((3, 5, 5), np.float32)
    responses[:, 3, 1] = responses[:, 1, 3] = 1
    peak = find_peak(responses, settings)
    assert (peak.scale, peak.row, peak.column) == (0, 4, 2)


def test_the_penalty_makes_the_middle_scale_win():
    responses = np.zeros((3, 5, 5), np.float32)
    responses[:, 2, 2] = (1.0, 0.98, 1.0)
    assert find_peak(responses, get_preset("siamfc", response_up=1)).scale == 1


def test_one_scale_is_searched_too():
    responses = np.zeros((1, 5, 5), np.float32)
    responses[0, 3, 2] = 2
    peak = find_peak(responses, get_preset("siamfc", num_scales=1, response_up=1))
    assert (peak.scale, peak.score, peak.row, peak.column) == (0, 2.0, 4, 3)


# Whole runs of the original trackers


DSIAM_FILES = [
    f"track_dsiam_{kind}_matlab"
    for kind in (
        "0res", "0res_fail", "1res", "1res_fail", "bag_0res", "bag_1res", "vggmini_1res",
    )
]  # fmt: skip
SIAMFC_FILES = [
    f"track_{kind}_matlab"
    for kind in ("siamfc_skiing", "siamfc_vot15_bag", "siamfc5s_skiing", "siamfc5s_vot15_bag")
]


def goldens_of(files):
    """Decorator: run a test over all cases of several golden files, file after file."""
    cases = [
        pytest.param(*case.values, id=f"{file[6:-7]}-{case.id}", marks=case.marks)
        for file in files
        for case in golden_cases(file)
    ]
    return pytest.mark.parametrize("case", cases, indirect=True)


def frame_of(case):
    """What our run left of the frame of a case named ``f02``, ``f03``, ..."""
    return golden_run(case.file)[int(case.name[1:]) - 1]


@goldens_of(DSIAM_FILES)
def test_dsiam_runs_as_the_original(case):
    # One test for all of a file's cases: so each run is made once, and can be forgotten.
    run = golden_run(case.file)
    if case.name == "init":
        check_dsiam_start(run[0], case)
    elif case.name == "res":
        check_boxes(run, case, "res")
    else:
        frame = frame_of(case)
        check_dsiam_search(frame, case)
        check_dsiam_learning(frame, case)


@goldens_of(SIAMFC_FILES)
def test_siamfc_runs_as_the_original(case):
    run = golden_run(case.file)
    if case.name == "res":
        check_boxes(run, case, "bboxes")
    else:
        check_siamfc_search(run[0], frame_of(case), case)


def check_boxes(run, case, field):
    boxes = np.array([frame.box for frame in run])
    assert_within(boxes, case.matlab(field)[:, :, 0, 0], PIXELS, "pixels", case, "boxes")


def check_dsiam_start(start, case):
    for what, actual, field in (
        ("centre", start.centre, "pos"),
        ("size", start.size, "targetsz"),
        ("side", start.side, "s_x"),
    ):
        assert_within(actual, case.vector(field), PIXELS, "pixels", case, what)
    (features,) = start.features
    for level, array in enumerate(features, 1):
        array = matlab_axes(array)
        assert_close(
            array[:, :, ::16],
            case.matlab(f"corrfeat{level}_sub"),
            RELATIVE,
            case,
            f"template features {level}",
        )
        # The sum is over three copies, one for each scale.
        error = abs(3 * array.sum(dtype=float) - case.scalar(f"corrfeat{level}_sum"))
        assert error <= RELATIVE * 3 * np.abs(array).sum(dtype=float)
    assert_close(
        cosine_window(272, 272)[::8, ::8, None, None],
        case.matlab("window_sub"),
        1e-6,
        case,
        "window",
    )


def check_search(frame, case):
    """Search patches and responses, for all trackers."""
    step = case.options["xcrop_step"]
    crops = matlab_axes(frame.pyramid)
    assert_within(
        crops[::step, ::step],
        case.matlab("x_crops_sub"),
        GREY_LEVELS,
        "grey levels",
        case,
        "search patches",
    )
    sums = crops.sum(axis=(0, 1), dtype=float)[..., None, None]
    # With an average image subtracted they are near 0: judged by the patches' size.
    error = np.abs(sums - case.matlab("x_crops_sum")).max()
    assert error <= GREY_LEVELS * crops.shape[0] * crops.shape[1]
    responses = frame.result.responses.transpose(1, 2, 0)[..., None]
    assert_close(responses, case.matlab("responseMaps"), RELATIVE, case, "responses")
    peak = frame.result.peak
    assert [peak.row, peak.column] == case.vector("p_corr").tolist()


def check_dsiam_search(frame, case):
    result, peak = frame.result, frame.result.peak
    for what, actual, field in (
        ("centre before", frame.centre_before, "pos_in"),
        ("side before", frame.side_before, "s_x_in"),
        ("size before", frame.size_before, "targetsz_in"),
        ("centre found", result.centre, "pos_new"),
        ("centre", frame.centre, "pos_out"),
        ("side", frame.side, "s_x_out"),
        ("size", frame.size, "targetsz_out"),
        ("box", frame.box, "targetLoc"),
    ):
        assert_within(actual, case.vector(field), PIXELS, "pixels", case, what)
    check_search(frame, case)
    for what, actual, field in (
        ("enlarged map", peak.fine, "responseUP_best_sub"),
        ("windowed map", peak.windowed, "responseMap_sub"),
    ):
        assert_close(actual[::8, ::8, None, None], case.matlab(field), RELATIVE, case, what)
    assert result.scale + 1 == case.scalar("newScale")
    error = abs(result.score - case.scalar("score"))
    assert error <= RELATIVE * np.abs(result.responses).max()
    assert result.lost == bool(case.scalar("isfail"))


def check_dsiam_learning(frame, case):
    if "z_crop_sub" not in case.arrays:  # a lost target: nothing was learned
        assert frame.result.lost
        assert not frame.features
        return
    options = case.options
    exemplar, _ = frame.crops
    step = options["zcrop_step"]
    assert_within(
        matlab_axes(exemplar[None])[::step, ::step],
        case.matlab("z_crop_sub"),
        GREY_LEVELS,
        "grey levels",
        case,
        "exemplar",
    )
    rows, columns, channels = options["feat_step_x"]
    for level, (tz, tx) in enumerate(zip(*frame.features), 1):
        tz, tx = matlab_axes(tz), matlab_axes(tx)
        assert_close(
            tz[:, :, :: options["feat_chan_step_z"]],
            case.matlab(f"tz{level}_sub"),
            RELATIVE,
            case,
            f"features {level} of the exemplar",
        )
        assert_close(
            tx[::rows, ::columns, ::channels],
            case.matlab(f"tx{level}_sub"),
            RELATIVE,
            case,
            f"features {level} of the surroundings",
        )
        for which, role in ((1, "v"), (2, "w")):
            check_filter(frame.filters[f"{role}{level}"], level, which, case)


def check_filter(learned, level, which, case):
    rows, columns, channels = case.options[f"cirX{which}_step"]
    spectrum = matlab_axes(np.fft.fft2(learned.astype(np.float64)))[::rows, ::columns, ::channels]
    alphaf, featf = (
        case.matlab(f"{name}_re") + 1j * case.matlab(f"{name}_im")
        for name in (f"cir{level}{which}_alphaf", f"cir{level}{which}_featf")
    )
    # What the filter makes of the feature that it was learned from. The filter alone is
    # ill-conditioned: where that has no power, lambda = 1e-5 lets rounding errors grow.
    expected = alphaf * np.abs(featf) ** 2 / (learned.shape[2] * learned.shape[3])
    assert_close(spectrum * featf, expected, RELATIVE, case, f"filter {level}{which}")


def check_siamfc_search(start, frame, case):
    for what, actual, field in (
        ("centre before", frame.centre_before, "targetPosition_in"),
        ("centre", frame.centre, "newTargetPosition"),
    ):
        assert_within(actual, case.vector(field), PIXELS, "pixels", case, what)
    assert matlab_round(frame.side_before) == case.scalar("s_x_round")
    template = matlab_axes(start.features[0][0])
    assert_close(
        template[:, :, ::16], case.matlab("z_features_sub"), RELATIVE, case, "template features"
    )
    check_search(frame, case)
    assert frame.result.scale + 1 == case.scalar("bestScale")
    assert not frame.result.lost


# What goldens do not reach


def small_tracker(name="dsiamm", **changes):
    """A tracker on a tiny network with random filters."""
    net = siamfc_branch((4, 4, 4, 4, 4))
    net.init_params(1)
    for parameter in net.params:
        if parameter.train_method == "average":
            parameter.value = np.tile(np.float32([0, 1]), (len(parameter.value), 1))
    preset = "siamfc" if name == "siamfc" else "released"
    return create_tracker(name, net, get_preset(preset, **changes))


@pytest.fixture
def frames(rng):
    """Six frames of a textured square that moves 2 pixels right and 1 down a frame."""
    background = rng.integers(0, 80, (90, 120, 3), dtype=np.uint8)
    texture = rng.integers(120, 256, (20, 24, 3), dtype=np.uint8)
    frames = []
    for t in range(6):
        frame = background.copy()
        frame[30 + t : 50 + t, 40 + 2 * t : 64 + 2 * t] = texture
        frames.append(frame)
    return frames


BOX = (41, 31, 24, 20)


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_gives_a_box_a_frame(name, frames):
    tracker = small_tracker(name)
    tracker.init(frames[0], BOX)
    assert tracker.box.tolist() == list(BOX)
    for frame in frames[1:]:
        box = tracker.update(frame)
        assert box.shape == (4,) and np.isfinite(box).all() and (box[2:] > 0).all()
        assert box.tolist() == tracker.last.box.tolist() == tracker.box.tolist()
        assert tracker.last.responses.shape == (3, 17, 17)
        assert tracker.last.score == pytest.approx(tracker.last.peak.score)


def test_a_second_run_is_not_changed_by_the_first(frames):
    tracker = small_tracker()
    runs = []
    for _ in range(2):
        tracker.init(frames[0], BOX)
        runs.append([tracker.update(frame).tolist() for frame in frames[1:]])
    assert runs[0] == runs[1]


def test_grey_frames_and_pil_images_are_tracked(frames):
    boxes = []
    for kind in (lambda f: f[:, :, 0], lambda f: Image.fromarray(f[:, :, 0])):
        tracker = small_tracker("dsiam")
        tracker.init(kind(frames[0]), BOX)
        boxes.append(tracker.update(kind(frames[1])).tolist())
    assert boxes[0] == boxes[1]


def test_transformations_switched_off_leave_siamfc(frames):
    boxes = []
    for name, changes in (
        ("dsiam", {"v_lr": 0.0, "w_lr": 0.0, "lost_score": -np.inf, "scale_lr": 0.59}),
        ("siamfc", {}),
    ):
        tracker = small_tracker(name, **changes)
        tracker.init(frames[0], BOX)
        boxes.append([tracker.update(frame).tolist() for frame in frames[1:]])
    assert boxes[0] == boxes[1]


def test_a_lost_target_widens_the_search_and_keeps_its_size(frames):
    tracker = small_tracker("dsiam", lost_score=np.inf)
    tracker.init(frames[0], BOX)
    side = tracker.side
    for count, frame in enumerate(frames[1:], 1):
        tracker.update(frame)
        assert tracker.last.lost
        assert tracker.side == pytest.approx(side * 1.1**count)
        assert tracker.box[2:].tolist() == list(BOX[2:])
    for _ in range(30):
        tracker.update(frames[-1])
    assert tracker.side == 5 * side


def test_a_target_outside_the_frame_twice_restarts_at_the_centre(rng):
    # A window alone keeps the target where it is: here with its lower right corner outside.
    frame = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    tracker = small_tracker("dsiam", scale_lr=0.0, window_influence=1.0)
    tracker.init(frame, (60, 40, 20, 20))
    tracker.target = Target(np.array([55.0, 75.0]), np.array([20.0, 20.0]))
    tracker.update(frame)
    assert tracker.last.lost
    first = tracker.last.centre
    assert tracker.target.centre.tolist() == first.tolist()
    tracker.update(frame)
    assert tracker.last.lost
    assert tracker.target.centre.tolist() == [30.0, 40.0]
    assert tracker.last.centre.tolist() != [30.0, 40.0]


def test_tall_targets_have_less_context(frames):
    tracker = small_tracker("dsiam")
    tracker.init(frames[0], (41, 11, 10, 40))
    rate = 0.98
    h, w = 40 * rate, 10 * rate
    p = (h + w) / 2
    assert tracker.side == pytest.approx(np.sqrt((h + p) * (w + p)) * 255 / 127)
    tracker.update(frames[1])
    assert tracker.box[3] / tracker.box[2] == pytest.approx(4)


def test_update_before_init_is_refused(frames):
    tracker = small_tracker("siamfc")
    with pytest.raises(RuntimeError, match="init"):
        tracker.update(frames[0])
    with pytest.raises(RuntimeError, match="set_template"):
        tracker.network.respond(np.zeros((3, 3, 255, 255), np.float32))


def test_unknown_trackers_features_and_fusion_maps_are_refused():
    net = siamfc_branch((4, 4, 4, 4, 4))
    net.init_params(1)
    with pytest.raises(ValueError, match="siamfc, dsiam, dsiamm"):
        create_tracker("kcf", net)
    with pytest.raises(ValueError, match="2 feature"):
        create_tracker("dsiamm", net, features=["conv5"])
    with pytest.raises(DagNNError, match="conv6"):
        create_tracker("dsiam", net, features=["conv6"])
    with pytest.raises(ValueError, match="17"):
        create_tracker("dsiamm", net, fusion_map=np.ones((15, 15)))
    net.rename_var("feat", "features")
    with pytest.raises(ValueError, match="features"):
        create_tracker("dsiam", net)


# What a jointly trained network brings along


def test_parameters_of_the_network_go_before_the_settings():
    net = siamfc_branch((4, 4, 4, 4, 4))
    net.init_params(1)
    unrolled = build_unrolled(net, UnrolledSettings(frames=1))
    own = {
        "cir11_lr": 0.11, "cir12_lr": 0.12, "cir21_lr": 0.21, "cir22_lr": 0.22,
        "v_lambda": 1.0, "w_lambda": 2.0, "v1_lambda": 3.0, "w1_lambda": 4.0,
    }  # fmt: skip
    for name, value in own.items():
        unrolled.get_param(name).value = np.float32([value])
    unrolled.get_param("sumweights").value = np.full((17, 17), 0.7, np.float32)
    network = create_tracker("dsiamm", unrolled).network
    for name, value in own.items():
        if name.endswith("lr"):
            assert network.search.get_param(name).value == np.float32(value)
        else:
            assert network.lambdas[name] == pytest.approx(value)
    assert (network.search.get_param("sumweights").value == np.float32(0.7)).all()
    assert network.search.get_param("adjust_f").value.item() == pytest.approx(1e-3)

    settings = get_preset("released", v_lr=0.3, w_lambda=5.0, fusion_weight=0.6)
    network = create_tracker("dsiamm", net, settings).network
    assert network.search.get_param("cir21_lr").value == np.float32(0.3)
    assert network.lambdas["w_lambda"] == 5.0
    assert (network.search.get_param("sumweights").value == np.float32(0.6)).all()
    assert network.search.get_param("adjust_f").value.item() == pytest.approx(1e-8)


def test_the_template_is_computed_once(frames):
    tracker = small_tracker("siamfc")
    calls = []
    compute = tracker.network.features
    tracker.network.features = lambda patches: calls.append(len(patches)) or compute(patches)
    tracker.init(frames[0], BOX)
    for frame in frames[1:]:
        tracker.update(frame)
    assert calls == [1]
