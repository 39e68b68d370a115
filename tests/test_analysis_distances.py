"""Tests of dsiam_net.analysis.distances and patches."""

import numpy as np
import pytest

from analysing import short_video, tiny_net
from dsiam_net.analysis.distances import (
    ROLES,
    TRACKERS,
    VARIANTS,
    Distances,
    Learner,
    Pair,
    Variant,
    rows,
    transformed_distances,
)
from dsiam_net.analysis.patches import FramePatches, cut_patches, find_targets
from dsiam_net.settings import get_preset
from dsiam_net.tracker import create_tracker
from layers import rlr

SETTINGS = get_preset("released", lost_score=-1e9)


def plain_distances(x, y, x_before, y_before, lam, rate):
    """All variants by whole spectra and sums over channels, nothing taken from the layers."""
    height, width = x.shape[-2:]
    window = np.outer(np.hanning(height), np.hanning(width))

    def transform(source, wanted):
        found = np.zeros_like(x)
        for c in range(x.shape[1]):
            a, b = np.fft.fft2(window * source[0, c]), np.fft.fft2(window * wanted[0, c])
            spectrum = np.conj(a) * b / (np.abs(a) ** 2 + height * width * lam)
            found[0, c] = np.fft.ifft2(spectrum * np.fft.fft2(window * x[0, c])).real
        return found

    transformed = {"t": transform(x, y), "t-1": transform(x_before, y_before)}
    expected = {}
    for variant in VARIANTS:
        w = window if variant.window == "hann" else 1
        share = {"none": 0, "alone": 1, "mixed": rate}[variant.share]
        t = transformed.get(variant.learned, 0)
        expected[variant] = np.sqrt((((1 - share) * w * x + share * t - w * y) ** 2).sum())
    return expected


@pytest.mark.parametrize("size", [(6, 6), (5, 8), (7, 3)])
@pytest.mark.parametrize("lam", [1e-5, 10.0])
def test_distances_are_those_of_whole_spectra(rng, size, lam):
    x, y, x0, y0 = rng.normal(0, 2, (4, 1, 3, *size))
    penalty = lam * size[0] * size[1]
    now, before = rlr(x, y, penalty)[0], rlr(x0, y0, penalty)[0]
    found = transformed_distances(Pair(x, y), now, before, 0.3)
    expected = plain_distances(x, y, x0, y0, lam, 0.3)
    assert list(found) == list(VARIANTS)
    for variant in VARIANTS:
        assert found[variant] == pytest.approx(expected[variant], rel=1e-12), variant


@pytest.mark.parametrize("size", [(6, 6), (9, 7)])
def test_a_transformation_of_the_frame_itself_is_exact_as_lambda_goes_to_0(rng, size):
    x, y = rng.normal(0, 1, (2, 1, 4, *size))
    alone = [
        transformed_distances(Pair(x, y), rlr(x, y, penalty)[0], None, 0.5)[
            Variant("t", "alone", "hann")
        ]
        for penalty in (1e-2, 1e-4, 1e-12)
    ]
    without = transformed_distances(Pair(x, y), x, None, 0.5)[Variant("none", "none", "hann")]
    assert alone[0] > alone[1] > alone[2]
    assert alone[2] < 1e-8 * without


def test_what_the_spectrum_lacks_no_transformation_makes(rng):
    x, y = rng.normal(0, 1, (2, 1, 2, 6, 6))
    x[:, 1] = 0
    found = transformed_distances(Pair(x, y), rlr(x, y, 1e-12)[0], None, 0.5)
    window = np.outer(np.hanning(6), np.hanning(6))
    rest = np.sqrt(((window * y[0, 1]) ** 2).sum())
    assert found[Variant("t", "alone", "hann")] == pytest.approx(rest, rel=1e-6)


def test_a_mixed_distance_lies_at_its_share_of_the_way(rng):
    x, y = rng.normal(0, 1, (2, 1, 2, 6, 6))
    r = rlr(x, y, 0.1)[0]
    by_share = [transformed_distances(Pair(x, y), r, r, share) for share in (0, 1)]
    for window in ("hann", "none"):
        mixed, alone = Variant("t", "mixed", window), Variant("t", "alone", window)
        assert by_share[0][mixed] == pytest.approx(by_share[0][mixed.base], rel=1e-14)
        assert by_share[1][mixed] == by_share[1][alone]


def test_mixed_with_nothing_a_feature_is_just_smaller(rng):
    x, y = rng.normal(0, 1, (2, 1, 2, 6, 6))
    found = transformed_distances(Pair(x, y), x, None, 0.25)
    expected = np.linalg.norm((0.75 * x - y).ravel())
    assert found[Variant("none", "mixed", "none")] == pytest.approx(expected)


def frames(positions="truth"):
    tracker = create_tracker("dsiamm", tiny_net(), SETTINGS)
    targets = find_targets(tracker, short_video(), positions)
    patches = list(cut_patches(short_video(), targets, SETTINGS))
    return tracker, targets, patches


def test_the_learner_measures_what_the_tracker_would_correlate():
    tracker, _, patches = frames()
    network = tracker.network
    learner = Learner(network)
    values = [learner.measure(p) for p in patches]
    network.set_template(patches[0].target)
    network.learn(patches[2].target, (patches[2].surroundings, patches[2].masked))
    transformed = ("t_template1", "t_template2", "t_feat", "t_x14")
    for name in transformed:
        network.search.get_var(name).precious = True
    network.respond(patches[3].surroundings[None])
    target = network.features(patches[3].target[None])
    masked = network.features(patches[3].masked[None])
    got = [network.search.get_var(name).value for name in transformed]
    expected = [np.linalg.norm((a - b).ravel()) for a, b in zip(got, target + masked)]
    place = VARIANTS.index(TRACKERS)
    assert np.allclose(values[3][:, :, place].ravel(), expected, rtol=1e-4)


def test_the_frame_before_counts_from_the_third_frame_on():
    tracker, _, patches = frames()
    learner = Learner(tracker.network)
    values = np.array([learner.measure(p) for p in patches])
    before = [i for i, v in enumerate(VARIANTS) if v.learned == "t-1"]
    others = [i for i, v in enumerate(VARIANTS) if v.learned != "t-1"]
    assert np.isnan(values[:2, :, :, before]).all()
    assert np.isfinite(values[2:, :, :, before]).all()
    assert np.isfinite(values[:, :, :, others]).all()
    assert (values[0, ROLES.index("V")][:, VARIANTS.index(TRACKERS.base)] == 0).all()


def test_a_frame_without_target_leaves_a_gap():
    tracker, _, patches = frames()
    learner = Learner(tracker.network)
    values = np.array([learner.measure(p) for p in [*patches[:3], None, *patches[3:]]])
    before = values[:, 0, 0, VARIANTS.index(TRACKERS)]
    assert np.isfinite(before).tolist() == [False, False, True, False, False, True]
    assert np.isnan(values[3]).all()


def test_ratios_leave_out_what_cannot_be_divided():
    values = np.full((4, 2, 1, len(VARIANTS)), np.nan)
    values[:, 0, 0, VARIANTS.index(TRACKERS.base)] = 0, 2, 4, np.nan
    values[:, 0, 0, VARIANTS.index(TRACKERS)] = 1, 1, np.nan, 1
    assert Distances(values).ratios("V", 1, TRACKERS).tolist() == [0.5]


def test_the_table_has_a_row_for_every_number():
    values = np.arange(2 * 2 * 2 * len(VARIANTS), dtype=float).reshape(2, 2, 2, len(VARIANTS))
    table = list(rows(Distances(values)))
    assert [row["distance"] for row in table] == list(range(values.size))
    assert table[-1] == {
        "frame": 2, "transformation": "W", "layer": 2,
        **VARIANTS[-1]._asdict(), "distance": values.size - 1,
    }  # fmt: skip


# Places and patches


def test_true_places_are_those_of_the_boxes():
    _, targets, _ = frames()
    boxes = np.array([target.box for target in targets])
    assert np.allclose(boxes, short_video().boxes, rtol=0, atol=1e-12)


def test_the_trackers_places_are_those_it_finds():
    tracker, targets, _ = frames("tracker")
    video = short_video()
    tracker.init(video.frame(0), video.boxes[0])
    boxes = [tracker.box] + [tracker.update(video.frame(t)) for t in range(1, len(video))]
    assert np.allclose([target.box for target in targets], boxes, rtol=0, atol=1e-9)


def test_the_first_patch_is_the_trackers_template(monkeypatch):
    tracker, _, patches = frames("tracker")
    taken = []
    monkeypatch.setattr(tracker.network, "set_template", taken.append)
    tracker.init(short_video().frame(0), short_video().boxes[0])
    assert np.array_equal(patches[0].target, taken[0])


def test_the_background_is_darkened_and_the_middle_is_not():
    _, _, patches = frames()
    first = patches[0]
    assert isinstance(first, FramePatches)
    assert first.target.shape == (3, 127, 127) and first.surroundings.shape == (3, 255, 255)
    assert np.allclose(first.masked[:, 127, 127], first.surroundings[:, 127, 127], rtol=1e-3)
    assert first.masked[:, :, 0].max() == 0


def test_an_average_image_is_subtracted_from_the_target_alone():
    _, targets, patches = frames()
    average = np.float32([10, 20, 30]).reshape(3, 1, 1)
    (first, *_) = cut_patches(short_video(), targets, SETTINGS, average)
    assert np.allclose(patches[0].target - first.target, average, rtol=0, atol=1e-4)
    assert np.array_equal(patches[0].surroundings, first.surroundings)


def test_positions_and_first_boxes_are_checked():
    tracker, _, _ = frames()
    with pytest.raises(ValueError, match="truth, tracker; received 'guess'"):
        find_targets(tracker, short_video(), "guess")
    video = short_video()
    boxes = video.boxes.copy()
    boxes[0] = np.nan
    with pytest.raises(ValueError, match="first frame has no box"):
        find_targets(tracker, type(video)("short", video.frames, boxes))
