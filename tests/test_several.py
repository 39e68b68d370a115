"""Several targets followed together: the boxes are those of following them one by one."""

import numpy as np
import pytest

from dsiam_net.branches import siamfc_branch
from dsiam_net.settings import get_preset
from dsiam_net.several import TrackerGroup
from dsiam_net.tracker import TrackingWarning, create_tracker
from dsiam_net.tracking_net import TrackingNet, learn_together, respond_together

SMALL = {"exemplar_size": 95, "instance_size": 159}
BOXES = np.array([[41.0, 31, 24, 20], [81, 11, 20, 24], [11, 61, 30, 16]])


@pytest.fixture(scope="module")
def net():
    """A tiny network with random filters."""
    net = siamfc_branch((4, 4, 4, 4, 4))
    net.init_params(1)
    for parameter in net.params:
        if parameter.train_method == "average":
            parameter.value = np.tile(np.float32([0, 1]), (len(parameter.value), 1))
    return net


@pytest.fixture
def frames(rng):
    """Six frames of noise with three textures that move, each its own way."""
    background = rng.integers(0, 80, (100, 130, 3), dtype=np.uint8)
    textures = [
        rng.integers(120, 256, (int(h), int(w), 3), dtype=np.uint8) for w, h in BOXES[:, 2:]
    ]
    frames = []
    for t in range(6):
        frame = background.copy()
        for (x, y, w, h), texture, (dx, dy) in zip(
            BOXES.astype(int) - [1, 1, 0, 0], textures, [(2, 1), (-1, 2), (2, -1)]
        ):
            frame[y + dy * t : y + dy * t + h, x + dx * t : x + dx * t + w] = texture
        frames.append(frame)
    return frames


def make(net, name="dsiamm", device="cpu", **changes):
    preset = "siamfc" if name == "siamfc" else "released"
    return create_tracker(name, net, get_preset(preset, **SMALL, **changes), device=device)


def one_by_one(net, frames, **options):
    """Boxes (T, K, 4), and scores (T - 1, K), of a tracker for each target."""
    boxes, scores = [], []
    for box in BOXES:
        tracker = make(net, **options)
        tracker.init(frames[0], box)
        boxes.append([tracker.box, *(tracker.update(frame) for frame in frames[1:])])
        scores.append(tracker.last.score)
    return np.array(boxes).transpose(1, 0, 2), np.array(scores)


def together(net, frames, **options):
    group = TrackerGroup(make(net, **options))
    group.init(frames[0], BOXES)
    boxes = [group.boxes, *(group.update(frame) for frame in frames[1:])]
    return np.array(boxes), np.array([tracker.last.score for tracker in group.trackers])


def assert_same(found, expected):
    # Places are whole cells of the enlarged map, so rounding leaves them where they are.
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4)


@pytest.mark.parametrize("name", ["siamfc", "dsiam", "dsiamm"])
def test_boxes_are_those_of_following_the_targets_one_by_one(net, frames, name):
    expected = one_by_one(net, frames, name=name)
    assert_same(together(net, frames, name=name), expected)
    # That something moves, and each its own way.
    moved = expected[0][-1] - expected[0][0]
    assert len({tuple(row) for row in moved[:, :2].round(3)}) > 1


def test_targets_that_are_lost_beside_others_that_are_not(net, frames):
    # A bound between the scores: with it some targets learn, and the others forget.
    _, scores = one_by_one(net, frames[:2])
    limit = float(np.sort(scores)[:2].mean())
    group = TrackerGroup(make(net, lost_score=limit))
    group.init(frames[0], BOXES)
    group.update(frames[1])
    lost = [tracker.last.lost for tracker in group.trackers]
    assert any(lost) and not all(lost)
    assert [tracker.network.filters["v1"].size == 1 for tracker in group.trackers] == lost
    assert_same(together(net, frames, lost_score=limit), one_by_one(net, frames, lost_score=limit))


@pytest.mark.parametrize("off", [{"v_lr": 0.0}, {"w_lr": 0.0}, {"v_lr": 0.0, "w_lr": 0.0}])
def test_a_transformation_may_be_switched_off(net, frames, off):
    assert_same(together(net, frames[:3], **off), one_by_one(net, frames[:3], **off))


@pytest.mark.gpu
def test_on_a_device_boxes_are_those_of_the_cpu(net, frames):
    found = together(net.copy(), frames, device="gpu")
    assert_same(found, one_by_one(net, frames))


def test_one_target_in_a_group_is_tracked_to_the_bit_as_alone(net, frames):
    tracker, group = make(net), TrackerGroup(make(net))
    tracker.init(frames[0], BOXES[0])
    group.init(frames[0], BOXES[:1])
    for frame in frames[1:]:
        assert tracker.update(frame).tolist() == group.update(frame)[0].tolist()
        (member,) = group.trackers
        assert np.array_equal(member.last.responses, tracker.last.responses)


def test_the_branch_runs_twice_a_frame_however_many_targets(net, frames):
    tracker = make(net)
    calls = {"branch": 0, "search": 0}
    for which in calls:
        part = getattr(tracker.network, which)

        def counted(*args, which=which, evaluate=part.eval, **options):
            calls[which] += 1
            evaluate(*args, **options)

        part.eval = counted
    group = TrackerGroup(tracker)
    group.init(frames[0], BOXES)
    calls.update(branch=0, search=0)
    group.update(frames[1])
    assert calls == {"branch": 1, "search": 1}


def test_what_the_tracker_follows_itself_is_left_alone(net, frames):
    tracker = make(net)
    tracker.init(frames[0], BOXES[0])
    expected = make(net)
    expected.init(frames[0], BOXES[0])
    group = TrackerGroup(tracker)
    group.init(frames[0], BOXES[1:])
    group.update(frames[1])
    for frame in frames[1:]:
        assert tracker.update(frame).tolist() == expected.update(frame).tolist()


def test_warnings_of_each_target_are_given(net, frames):
    flat = np.full_like(frames[0], 7)
    group = TrackerGroup(make(net))
    group.init(flat, BOXES)
    with pytest.warns(TrackingWarning, match="no peak") as caught:
        group.update(flat)
    assert len(caught) == len(BOXES)
    assert {warning.filename for warning in caught} == {__file__}


def test_what_cannot_be_followed_together_is_refused(net, frames):
    group = TrackerGroup(make(net))
    with pytest.raises(RuntimeError, match="init"):
        group.update(frames[0])
    with pytest.raises(RuntimeError, match="init"):
        _ = group.boxes
    with pytest.raises(ValueError, match="no boxes"):
        group.init(frames[0], [])
    settings = get_preset("released", **SMALL)
    first, other = (TrackingNet(net, ("feat", "x14"), settings) for _ in range(2))
    patches = np.zeros((3, 3, 159, 159), np.float32)
    with pytest.raises(ValueError, match="sibling"):
        respond_together([first, other], [patches, patches])
    with pytest.raises(ValueError, match="sibling"):
        learn_together([first, other])
    with pytest.raises(RuntimeError, match="set_template"):
        respond_together([first, first.sibling()], [patches, patches])
    with pytest.raises(ValueError, match="one shape"):
        respond_together([first, first.sibling()], [patches, patches[:1]])
