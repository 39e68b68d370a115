"""Tests of dsiam_net.figures."""

import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from dsiam_net.figures import (
    collect_responses,
    loss_curve,
    responses_over_frames,
    running_median,
    save_figure,
)
from dsiam_net.training import FIGURES, clip_batch, figure
from tiny import SEARCH_SIZE, smooth_clip, tiny_unrolled

SVG = "{http://www.w3.org/2000/svg}"


def texts(path) -> list[str]:
    """The texts of an SVG file."""
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def net():
    return tiny_unrolled(np.random.default_rng(1), frames=3)


@pytest.fixture(scope="module")
def clip():
    return smooth_clip(np.random.default_rng(2), frames=3)


@pytest.fixture(scope="module")
def responses(net, clip):
    return collect_responses(net, clip)


@pytest.fixture
def curve(rng):
    return np.stack([np.linspace(7, 2, 60), rng.uniform(0, 99, 60), rng.uniform(0, 1, 60)], 1)


# Loss curve


def test_a_loss_curve_is_a_picture_of_its_size(curve, tmp_path):
    path = tmp_path / "new folder" / "loss.png"
    loss_curve(curve, path)
    assert cv2.imread(str(path)).shape == (975, 1200, 3)  # 6.5 x 8 inches, 150 dots an inch
    assert [p.name for p in path.parent.iterdir()] == ["loss.png"]


def test_a_loss_curve_names_its_axes_and_figures(curve, tmp_path):
    path = tmp_path / "loss.svg"
    loss_curve(curve, path, title="60 steps")
    found = texts(path)
    assert {"60 steps", "step", *FIGURES} <= set(found)
    assert "(logistic loss, sum of frames)" in found


@pytest.mark.parametrize("steps", [1, 2, 19, 20])
def test_short_runs_have_a_curve_too(curve, tmp_path, steps):
    loss_curve(curve[:steps], tmp_path / "loss.svg")
    assert ("median" in texts(tmp_path / "loss.svg")) == (steps >= 20)


@pytest.mark.parametrize("shape", [(0, 3), (5,), (5, 2)])
def test_what_is_no_curve_is_refused(shape, tmp_path):
    with pytest.raises(ValueError, match=r"steps, 3"):
        loss_curve(np.zeros(shape), tmp_path / "loss.png")


def test_the_running_median_passes_over_outliers_and_follows_a_slope():
    values = np.full(100, 3.0)
    values[[10, 50, 90]] = 1000
    assert (running_median(values) == 3).all()
    slope = np.arange(100.0)
    assert np.array_equal(running_median(slope)[5:-5], slope[5:-5])
    # One value at the end does not stand for all that would follow it.
    assert running_median(np.array([3.0] * 99 + [50.0]))[-1] == 3
    assert running_median(np.array([4.0, 9.0, 1.0])).tolist() == [4, 9, 1]


# Files


def test_the_same_figure_gives_the_same_file(curve, tmp_path):
    for suffix in (".svg", ".png", ".pdf"):
        paths = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        for path in paths:
            loss_curve(curve, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_unknown_suffix_is_refused_and_nothing_is_written(curve, tmp_path):
    with pytest.raises(ValueError, match=r"\.svg, \.png, \.pdf"):
        loss_curve(curve, tmp_path / "loss.bmp")
    assert not list(tmp_path.iterdir())


def test_a_figure_that_fails_leaves_the_old_file(tmp_path):
    class Broken:
        def savefig(self, stream, **options):
            stream.write(b"half")
            raise OSError("disk full")

    path = tmp_path / "figure.svg"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        save_figure(Broken(), path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


# Responses


def test_responses_are_what_the_network_computes(net, clip, responses):
    batch = clip_batch(net, [clip], np.float64)
    net.mode, net.conserve_memory = "test", False
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    net.mode, net.conserve_memory = "normal", True
    for name in FIGURES:
        assert sum(getattr(r, name) for r in responses) == pytest.approx(figure(net, name))
    for t, response in enumerate(responses, start=1):
        assert response.number == t
        # The figure's evaluation runs the network by its plan: equal to rounding.
        score = net.get_var(f"score{t}").value[0, 0]
        np.testing.assert_allclose(response.score, score, rtol=1e-12)
        patch = net.get_var(f"f{t}_z").value[0].transpose(1, 2, 0)
        assert response.patch.shape == (SEARCH_SIZE, SEARCH_SIZE, 3)
        assert np.abs(response.patch - patch.clip(0, 255)).max() <= 0.5
        assert response.score[response.peak] == response.score.max()


def test_boxes_and_cells_of_a_response_tell_the_same_place(net, responses):
    """The box in the patch is 8 pixels a cell from the middle, as the target is in the map."""
    stride = net.meta["unrolled"]["stride"]
    for response in responses:
        middle = (np.array(response.score.shape) - 1) / 2
        for box, cell in (
            (response.true_box, response.target),
            (response.tracked_box, response.peak),
        ):
            x, y, w, h = response.in_patch(box)
            center = np.array([y - 1 + (h - 1) / 2, x - 1 + (w - 1) / 2])
            expected = (SEARCH_SIZE - 1) / 2 + (np.array(cell) - middle) * stride
            np.testing.assert_allclose(center, expected, atol=1e-6)


def test_the_search_region_itself_fills_the_patch(responses):
    response = responses[1]
    (row, column), side = response.center, response.side
    box = [column + 1 - (side - 1) / 2, row + 1 - (side - 1) / 2, side, side]
    np.testing.assert_allclose(response.in_patch(box), [1, 1, SEARCH_SIZE, SEARCH_SIZE])


def test_collecting_leaves_the_network_as_it_was(net, clip):
    precious = [v.precious for v in net.vars]
    statistics = [record.block.statistics_state() for record in net.layers]
    collect_responses(net, clip, mode="test")
    assert net.mode == "normal"
    assert [v.precious for v in net.vars] == precious
    assert [record.block.statistics_state() for record in net.layers] == statistics


def test_the_mode_decides_whose_moments_are_used(net, clip, responses):
    other = collect_responses(net, clip, mode="normal")
    assert not np.allclose(other[0].score, responses[0].score)


def test_responses_are_drawn_a_row_a_frame(responses, tmp_path):
    path = tmp_path / "responses.svg"
    responses_over_frames(responses, path, title="three frames")
    found = texts(path)
    assert [t for t in found if t.startswith("frame ")] == ["frame 1", "frame 2", "frame 3"]
    for response in responses:
        assert any(t.startswith(f"loss {response.objective:.3g},") for t in found)
    assert {
        "three frames",
        "true box",
        "tracked box",
        "response, cells",
        "frame, pixels",
        "search region, its pixels",
    } <= set(found)
    # Three pictures a row, and the colours of the scale.
    images = list(ElementTree.parse(path).iter(f"{SVG}image"))
    assert len(images) == 3 * len(responses) + 1


def test_a_drawing_of_responses_grows_with_their_number(responses, tmp_path):
    heights = []
    for count in (1, 3):
        responses_over_frames(responses[:count], tmp_path / "responses.png")
        heights.append(cv2.imread(str(tmp_path / "responses.png")).shape[0])
    assert heights[1] - heights[0] == pytest.approx(2 * 2.12 * 150, abs=1)


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one frame"):
        responses_over_frames([], tmp_path / "responses.png")
