"""Trackers where nothing is as it should be: no crash, finite boxes, warnings that say so."""

import warnings

import numpy as np
import pytest

from dsiam_net.patches import ExactPatches
from dsiam_net.settings import get_preset
from dsiam_net.tracker import TrackingWarning, create_tracker
from dsiam_net.weights import random_siamfc
from tiny import plain_branch

TRACKERS = ("siamfc", "dsiamm")
MODES = ("exact", "fast")
# Smaller patches than the published ones, for speed: maps of 9 x 9 cells.
SMALL = {"exemplar_size": 95, "instance_size": 159}


@pytest.fixture(scope="module")
def net():
    """A tiny network with random filters."""
    return plain_branch((4, 4, 4, 4, 4), seed=1)


@pytest.fixture
def frames(rng):
    """Noise with a patch of another kind that moves right, out of the frame and on."""
    background = rng.integers(0, 120, (60, 80, 3), dtype=np.uint8)
    target = rng.integers(100, 256, (16, 20, 3), dtype=np.uint8)
    images = []
    for step in range(12):
        image = background.copy()
        left = 30 + 8 * step
        image[20:36, left : left + 20] = target[:, : max(0, 80 - left)]
        images.append(image)
    return images


def small_tracker(name, net, mode="exact", **changes):
    preset = "siamfc" if name == "siamfc" else "released"
    return create_tracker(name, net, get_preset(preset, **SMALL, **changes), patches=mode)


def respond_by(monkeypatch, function):
    """Responses of trackers are those of ``function``, from search patches (S, 3, H, W)."""
    monkeypatch.setattr(
        "dsiam_net.tracker.respond_together",
        lambda networks, patches: [function(crops) for crops in patches],
    )


def run(net, name, mode, frames, box):
    """Boxes of all frames but the first, and the messages of the warnings."""
    tracker = small_tracker(name, net, mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker.init(frames[0], box)
        boxes = np.array([tracker.update(frame) for frame in frames[1:]])
    assert all(issubclass(w.category, TrackingWarning) for w in caught), caught
    assert np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all()
    assert np.isfinite(tracker.side)
    return boxes, {str(warning.message) for warning in caught}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TRACKERS)
def test_a_target_that_leaves_the_frame_is_no_crash(net, name, mode, frames):
    run(net, name, mode, frames, (31, 21, 20, 16))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize(
    "box",
    [
        (1, 1, 20, 16),
        (61, 45, 20, 16),
        (-9, -7, 20, 16),
        (71, 53, 20, 16),
        (40, 30, 1, 1),
        (1, 1, 80, 60),
        (-20, -20, 120, 100),
        (1, 30, 80, 1),
        (40, 1, 1, 60),
        (79, 59, 1, 1),
        (30.3, 20.7, 12.5, 9.1),
        (30, 20, 50, 20, 48, 40, 28, 38),
    ],
    ids=lambda box: "x".join(f"{v:g}" for v in box),
)
def test_boxes_at_over_and_across_the_border_are_tracked(net, name, mode, frames, box):
    run(net, name, mode, frames[:3:2], box)


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize(
    "box, match",
    [
        ((np.nan, 1, 5, 5), "4 finite numbers"),
        ((1, 1, np.inf, 5), "4 finite numbers"),
        ((1, 1e300, 5, 5), "4 finite numbers"),
        ((1, 1, -5, 5), "width and height of a box must be positive"),
        ((1, 1, 5, 0), "width and height of a box must be positive"),
        ((1, 1, 5), "4 finite numbers"),
        ((), "4 finite numbers"),
        ((500, 10, 20, 20), "outside a frame|covers no whole pixel"),
        ((-50, 10, 20, 20), "outside a frame|covers no whole pixel"),
        ((10, 10, 30, 10, 50, 10, 70, 10), "a polygon must have an area"),
    ],
)
def test_regions_that_are_none_are_refused(net, name, frames, box, match):
    tracker = small_tracker(name, net)
    with pytest.raises(ValueError, match=match):
        tracker.init(frames[0], box)
    with pytest.raises(RuntimeError, match="init"):
        tracker.update(frames[1])


def test_a_box_of_absurd_size_is_refused(net, frames):
    with pytest.raises(ValueError, match="more than 10 times as large"):
        create_tracker("siamfc", net).init(frames[0], (-500, -500, 1000, 1000))


def test_a_name_that_is_no_kind_of_patches_is_refused(net):
    with pytest.raises(ValueError, match="patches must be one of exact, fast; received 'slow'"):
        create_tracker("siamfc", net, patches="slow")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("level", [0, 7, 255])
def test_frames_of_one_colour_have_no_peak(net, name, mode, level):
    frames = [np.full((60, 80, 3), level, np.uint8)] * 8
    boxes, messages = run(net, name, mode, frames, (31, 21, 20, 16))
    assert any("no peak" in message for message in messages)
    if mode == "fast" and name == "siamfc":
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        np.testing.assert_allclose(centres, np.tile([41, 29], (7, 1)), atol=1e-9)
    assert boxes[:, 2:].min() >= 1 and boxes[:, 2:].max() <= 160


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TRACKERS)
def test_frames_may_change_their_size(net, name, mode, frames, rng):
    sizes = [(60, 80), (120, 160), (30, 40), (3, 3), (60, 200)]
    others = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    run(net, name, mode, [frames[0], *others, *frames[1:3]], (31, 21, 20, 16))


@pytest.mark.parametrize("mode", MODES)
def test_a_target_far_away_keeps_a_size_that_makes_sense(net, mode, frames, monkeypatch):
    tracker = small_tracker("siamfc", net, mode, scale_step=1.3, scale_lr=1)
    tracker.init(frames[0], (31, 21, 20, 16))
    respond_by(monkeypatch, lambda crops: _peaked(len(crops), best))
    for best in (0, 2):  # noqa: B007 (what respond tells)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrackingWarning)
            boxes = np.array([tracker.update(frames[1]) for _ in range(40)])
        assert np.isfinite(boxes).all()
        assert boxes[:, 2:].min() >= 1 and boxes[:, 2:].max() <= 160


def _peaked(count, best):
    """Maps with their peak a few cells off the middle, and the best scale as it is told."""
    maps = np.zeros((count, 17, 17), np.float32)
    maps[:, 8, 8] = 1
    maps[best, 8, 8] = 5
    return maps


@pytest.mark.parametrize("mode", MODES)
def test_a_network_whose_output_is_not_finite_is_told(net, mode, frames, monkeypatch):
    tracker = small_tracker("siamfc", net, mode)
    tracker.init(frames[0], (31, 21, 20, 16))
    respond_by(monkeypatch, lambda crops: np.full((len(crops), 17, 17), np.nan, np.float32))
    with pytest.warns(TrackingWarning, match="not finite"):
        assert np.isfinite(tracker.update(frames[1])).all()


def test_a_box_that_left_the_frame_is_told(net, frames, monkeypatch):
    tracker = small_tracker("siamfc", net)
    tracker.init(frames[0], (72, 21, 8, 16))
    maps = np.zeros((3, 17, 17), np.float32)
    maps[:, 8, 16] = 1  # as far right as can be
    respond_by(monkeypatch, lambda crops: maps)
    with pytest.warns(TrackingWarning, match="left the frame"):
        for frame in frames[1:6]:
            tracker.update(frame)


def test_the_largest_squares_are_cut_from_a_smaller_frame(rng, monkeypatch):
    limit = 1024
    monkeypatch.setattr("dsiam_net.patches.LARGEST_SIDE", limit)
    frame = np.zeros((370, 500, 3), np.uint8)
    frame[100:250, 120:300] = (255, 128, 20)
    patches = ExactPatches()
    image = patches.image(frame)
    colour = patches.average_colour(image)
    below, above = (
        patches.crop(image, (180.0, 260.0), side, 127, colour) for side in (limit, limit + 2)
    )
    assert below.shape == above.shape == (3, 127, 127)
    # Both sample the same picture, but for two pixels of side and the rim of the blocks.
    assert np.abs(above - below).mean() < 2
    assert np.ptp(below) > 200


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(6))
def test_any_box_and_any_frames_give_finite_boxes_or_a_refusal(net, mode, seed):
    rng = np.random.default_rng(seed)
    for name in TRACKERS:
        sizes = rng.integers(3, 90, (4, 2))
        frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        frames[2][:] = rng.integers(256)
        box = np.concatenate([rng.uniform(-60, 120, 2), 10 ** rng.uniform(-1, 2.2, 2)])
        try:
            run(net, name, mode, frames, box)
        except ValueError as error:
            assert "frame" in str(error)


def test_random_weights_track_without_a_crash(rng):
    frames = [rng.integers(0, 256, (50, 60, 3), dtype=np.uint8) for _ in range(2)]
    run(random_siamfc(0), "dsiamm", "fast", frames, (20, 20, 15, 10))
