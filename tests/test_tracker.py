"""Tests of dsiam_net.tracker, peak, target and tracking_net."""

import numpy as np
import pytest
from PIL import Image

from dagnet import DagNNError
from dsiam_net.branches import siamfc_branch
from dsiam_net.peak import find_peak
from dsiam_net.settings import get_preset
from dsiam_net.target import Target, as_region, dsiam_target, siamfc_target
from dsiam_net.tracker import TRACKERS, create_tracker
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from golden import assert_passes, golden, golden_cases
from tiny import plain_branch

# Tighter than what the command allows for files of any origin: the same cells of the same maps
# give the same number.
BOUNDS = {"grey levels": 2e-4, "pixels": 1e-9, "": 1e-4}


# The first frame


@golden("dsiam_init", lambda name: name.startswith("objinit"))
def test_dsiam_takes_the_region_as_obj_initialize(case):
    assert_passes(case)


@golden("dsiam_init", lambda name: name.startswith("optpars"))
def test_tall_targets_are_measured_as_in_optpars(case):
    assert_passes(case)


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
    assert_passes(case)


@golden("siamfc_tracker_eval_matlab", lambda name: name == "window")
def test_cosine_window_as_the_original(case):
    assert_passes(case)


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


RUNS = [
    f"track_{kind}_matlab"
    for kind in (
        "dsiam_0res", "dsiam_0res_fail", "dsiam_1res", "dsiam_1res_fail", "dsiam_bag_0res",
        "dsiam_bag_1res", "dsiam_vggmini_1res",
        "siamfc_skiing", "siamfc_vot15_bag", "siamfc5s_skiing", "siamfc5s_vot15_bag",
    )
]  # fmt: skip
CASES = [
    pytest.param(*case.values, id=f"{file[6:-7]}-{case.id}", marks=case.marks)
    for file in RUNS
    for case in golden_cases(file)
]


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_runs_as_the_original(case):
    # File after file: so each run is made once, and can be forgotten.
    for comparison in assert_passes(case).comparisons:
        assert comparison.error <= BOUNDS[comparison.unit], comparison


# What goldens do not reach


def small_tracker(name="dsiamm", **changes):
    """A tracker on a tiny network with random filters."""
    net = plain_branch((4, 4, 4, 4, 4), seed=1)
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
