"""Tests of dsiam_net.training: inputs, two-phase labels, figures, bounds."""

import numpy as np
import pytest

from dsiam_net.clips import Clip
from dsiam_net.training import (
    LAMBDA_MIN,
    KeepLambdasPositive,
    clip_batch,
    first_map,
    frame_stats,
    learning_rates,
    observe_moments,
    scale_learning_rates,
)
from dsiam_net.unrolled import objectives
from tiny import SEARCH_SIZE, smooth_clip, tiny_unrolled


@pytest.fixture(scope="module")
def net():
    return tiny_unrolled(np.random.default_rng(1), frames=2)


def still_clip(frames=2, box=(41.0, 31.0, 20.0, 20.0)):
    """A clip of one picture, its target moved in the truth alone."""
    image = np.random.default_rng(5).uniform(0, 255, (3, 90, 110))
    return Clip(np.stack([image] * frames), np.array([box] * frames))


def test_the_first_maps_peak_is_its_centre():
    scores = first_map((7, 5), np.float64)
    assert scores.shape == (1, 1, 7, 5)
    assert np.argwhere(scores[0, 0] == scores.max()).tolist() == [[3, 2]]


def test_inputs_follow_from_the_first_box(net):
    inputs = clip_batch(net, [still_clip()], np.float64).inputs
    # w = h = 20, p = 20: s_z = 40. Columns 41..60 (1-based) have their middle at 49.5 (0-based).
    assert np.allclose(inputs["sides"], [[40, 40 * SEARCH_SIZE / 127]])
    assert np.allclose(inputs["center0"], [[39.5, 49.5]])
    assert np.allclose(inputs["color"][0], still_clip().frames[0].mean(axis=(1, 2)))
    assert inputs["template"].shape == (1, 3, 127, 127)
    assert inputs["frame2"].shape == (1, 3, 90, 110)


def test_labels_lie_around_the_true_target_wherever_the_crop_fell(net):
    batch = clip_batch(net, [still_clip()], np.float64)
    s_x = 40 * SEARCH_SIZE / 127
    cell = 8 * s_x / SEARCH_SIZE  # frame pixels a cell
    # 1.3 cells above and 2.4 to the right: no cell at a distance of exactly 2.
    moved = np.array([[39.5 - 1.3 * cell, 49.5 + 2.4 * cell]])
    late = batch.late_inputs({"center1": np.array([[39.5, 49.5]]), "center2": moved})
    assert np.allclose(late["target1"], [[3, 3]])
    assert np.allclose(late["target2"], [[4.3, 0.6]])
    rows, columns = np.mgrid[:7, :7]
    for t, (row, column) in ((1, (3, 3)), (2, (4.3, 0.6))):
        near = np.hypot(rows - row, columns - column) <= 2
        assert np.array_equal(late[f"label{t}"][0, 0], np.where(near, 1, -1))


def test_a_target_far_outside_leaves_only_negatives(net):
    batch = clip_batch(net, [still_clip()], np.float64)
    far = np.array([[-500.0, 900.0]])
    late = batch.late_inputs({"center1": far, "center2": far})
    assert np.all(late["label1"] == -1)


def test_several_clips_make_one_batch(net, rng):
    clips = [smooth_clip(rng, frames=2), smooth_clip(rng, frames=2)]
    both = clip_batch(net, clips, np.float64)
    for i, clip in enumerate(clips):
        alone = clip_batch(net, [clip], np.float64)
        for name, value in alone.inputs.items():
            assert np.array_equal(both.inputs[name][i : i + 1], value), name


def test_a_clip_that_is_too_short_is_refused(net):
    with pytest.raises(ValueError, match="the network has 2 frames, a clip only 1"):
        clip_batch(net, [still_clip(frames=1)])


def test_figures_sum_the_losses_and_average_the_errors(net, rng):
    batch = clip_batch(net, [smooth_clip(rng, frames=2)], np.float64)
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    values = {
        name: [float(net.get_var(f"{name}{t}").value) for t in (1, 2)]
        for name in ("objective", "errdisp", "errmax")
    }
    stats = frame_stats({}, net)
    assert np.isclose(stats["last"]["objective"], sum(values["objective"]))
    assert np.isclose(stats["last"]["errdisp"], np.mean(values["errdisp"]))
    assert np.isclose(stats["last"]["errmax"], np.mean(values["errmax"]))
    again = frame_stats({**stats, "objective": 0.0}, net)
    assert again["steps"] == 2
    assert np.isclose(again["objective"], sum(values["objective"]) / 2)


def test_the_loss_of_an_untrained_map_of_zeros_is_log_2_a_frame(net, rng):
    factor = net.get_param("adjust_f")
    bias = net.get_param("adjust_b")
    held = factor.value, bias.value
    factor.value, bias.value = held[0] * 0, held[1] * 0
    batch = clip_batch(net, [smooth_clip(rng, frames=2)], np.float64)
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    factor.value, bias.value = held
    for name in objectives(net):
        assert np.isclose(net.get_var(name).value, np.log(2))


def test_lambdas_are_kept_positive(net):
    held = {p.name: p.value for p in net.params}
    net.get_param("v_lambda").value = np.array([-3.0])
    net.get_param("cir11_lr").value = np.array([-3.0])
    KeepLambdasPositive().after_update(net)
    assert net.get_param("v_lambda").value == LAMBDA_MIN
    assert net.get_param("cir11_lr").value == -3.0
    for parameter in net.params:
        parameter.value = held[parameter.name]


def test_observed_moments_make_test_mode_that_of_the_batch(rng):
    """With one image in all branches, stored moments that were observed on it are its own."""
    seeded = np.random.default_rng(2)
    net = tiny_unrolled(seeded, frames=1)
    batch = clip_batch(net, [smooth_clip(seeded, frames=1)], np.float64)
    observe_moments(net, [batch, batch])
    moments = net.get_param("bn1x").value
    images = [batch.inputs["template"]]
    for name in ("f1_o", "f1_g", "f1_gbar", "f1_z"):
        net.get_var(name).precious = True
    net.eval(batch.inputs)
    images += [net.get_var(name).value for name in ("f1_o", "f1_g", "f1_gbar", "f1_z")]
    filters, bias = net.get_param("conv1f").value, net.get_param("conv1b").value
    means = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image[0], (11, 11), axis=(1, 2))
        maps = np.einsum("chwij,ocij->ohw", windows[:, ::2, ::2], filters) + bias[:, None, None]
        means.append(maps.mean(axis=(1, 2)))
    assert np.allclose(moments[:, 0], np.mean(means, axis=0))


def test_learning_rates_fall_in_equal_ratios():
    assert np.allclose(learning_rates(1e-7, 1e-9, 5), [1e-7, 10**-7.5, 1e-8, 10**-8.5, 1e-9])


def test_learning_rates_of_named_parameters_are_multiplied():
    net = tiny_unrolled(np.random.default_rng(0), frames=2)
    before = {p.name: p.learning_rate for p in net.params}
    scale_learning_rates(net, [("*_lambda", 0.01), ("conv1?", 0.5), ("conv1f", 0)])
    for parameter in net.params:
        name = parameter.name
        factor = 0.01 if name.endswith("_lambda") else {"conv1f": 0, "conv1b": 0.5}.get(name, 1)
        assert parameter.learning_rate == before[name] * factor, name
    with pytest.raises(ValueError, match="no parameter is called 'conv9f'"):
        scale_learning_rates(net, [("conv9f", 2)])
