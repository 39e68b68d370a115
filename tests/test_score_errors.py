"""Tests of layers.max_score_error and layers.center_threshold_error."""

import numpy as np
import pytest

from dagnet import Context, ShapeError, layer_class
from golden import DOUBLE, GOLDENS, assert_close, assert_passes, golden, load_case
from layers import CenterThresholdError, MaxScoreError, max_score_error

BOTH = [CenterThresholdError, MaxScoreError]


def evaluate(layer, *inputs):
    (y,), saved = layer.forward(inputs, [], Context())
    assert saved is None
    layer.update_statistics(inputs, [y])
    return y


def peak_at(*cells, size=(17, 17)):
    """Maps of -1 with one cell of +1 each."""
    x = -np.ones((len(cells), 1, *size))
    for i, (row, column) in enumerate(cells):
        x[i, 0, row, column] = 1
    return x


def centred(x, label):
    """Label maps and targets that say what one label a sample says."""
    maps = np.where(np.asarray(label).reshape(-1, 1, 1, 1) > 0, 1.0, -1.0) * np.ones(x.shape)
    center = [(x.shape[2] - 1) / 2, (x.shape[3] - 1) / 2]
    return maps, np.tile(center, (len(x), 1))


@golden("siamfc_metrics", lambda name: name.startswith("centerThrErr"))
def test_equals_center_thr_err(case):
    """With one label a sample; with label maps and targets in the centre it is the same."""
    assert_passes(case)
    x, label = case.tensor("x"), case.vector("label")
    expected = CenterThresholdError()
    y = evaluate(expected, x, label)
    layer = CenterThresholdError()
    assert evaluate(layer, x, *centred(x, label)) == y and y.dtype == x.dtype
    assert layer.statistics() == expected.statistics()
    assert layer.num_averaged == expected.num_averaged


@golden("siamfc_metrics", lambda name: name.startswith("max_score_err"))
def test_equals_max_score_err(case):
    assert_passes(case)
    x, label = case.tensor("x"), case.vector("label")
    for inputs in ((x, label), (x, *centred(x, label))):
        layer = MaxScoreError()
        y = evaluate(layer, *inputs)
        assert y.shape == () and y.dtype == x.dtype
        assert y == case.scalar("y")
        assert layer.statistics() == {"average": float(y) / len(x)}


@pytest.mark.golden
@pytest.mark.skipif(not GOLDENS.is_dir(), reason="golden files not found")
@pytest.mark.parametrize("cls, name", [*zip(BOTH, ["errdisp", "errmax"])])
def test_averages_of_three_training_steps_equal_the_originals(cls, name):
    layer = cls()
    for step in (1, 2, 3):
        variables = load_case("train_small_sgd_double", f"step{step}_vars")
        statistics = load_case("train_small_sgd_double", f"step{step}_stats")
        y = evaluate(layer, variables.tensor("score"), np.ones((2, 1, 1, 1)))
        assert_close(y, variables.arrays[name].reshape(()), DOUBLE, variables, name)
        average = statistics.arrays[name].reshape(())
        assert_close(np.asarray(layer.average), average, DOUBLE, statistics, name)


@pytest.mark.parametrize("size", [(17, 17), (5, 9)])
def test_a_peak_on_the_target_has_no_displacement_wherever_the_target_is(size):
    h, w = size
    cells = [(0, 0), (h - 1, w - 1), (2, 3)]
    x = peak_at(*cells, size=size)
    maps, _ = centred(x, [1, 1, 1])
    target = np.array(cells) + np.array([[0.49, -0.5], [-0.49, 0.3], [-0.2, 0.4]])
    assert evaluate(CenterThresholdError(), x, maps, target) == 0
    assert evaluate(MaxScoreError(), x, maps, target) == 0


def test_displacement_grows_by_the_thresholds_that_it_passes():
    # Thresholds at 0, 1, 2, 3 and 4 cells.
    layer = CenterThresholdError(radius_in_pixel=32, total_stride=8, n_step=5)
    x = peak_at((8, 8), (8, 10), (10, 10))
    maps, _ = centred(x, [1, 1, 1])
    target = np.full((3, 2), 8.0)
    # Distances 0, 2 and 2.83 miss 2, 2, 1, 0 and 0 times; half of the first and last count.
    assert evaluate(layer, x, maps, target) == 4
    assert layer.average == 4 / 3


@pytest.mark.parametrize("inside, cell", [(2.5, 3), (3.49, 3), (-0.5, 0), (-7.0, 0), (30.0, 16)])
def test_the_target_is_rounded_as_matlab_does_and_clipped_to_the_map(inside, cell):
    maps = np.ones((1, 1, 17, 17))
    x = peak_at((cell, cell))
    assert evaluate(CenterThresholdError(), x, maps, np.array([[inside, inside]])) == 0


def test_a_sample_without_a_positive_cell_is_negative():
    x = peak_at((3, 3), (8, 8))
    maps = -np.ones(x.shape)
    absent = np.full((2, 2), np.nan)
    layer = CenterThresholdError()
    assert evaluate(layer, x, maps, absent) == 0
    assert layer.statistics() == {"average": 0} and layer.num_averaged == 0
    assert evaluate(MaxScoreError(), x, maps, absent) == 2
    assert evaluate(MaxScoreError(), x - 5, maps, absent) == 0


def test_a_batch_without_positives_leaves_the_average():
    layer = CenterThresholdError()
    evaluate(layer, peak_at((0, 0)), np.array([1.0]))
    before = layer.average
    assert before > 0
    evaluate(layer, peak_at((8, 8)), np.array([-1.0]))
    assert (layer.average, layer.num_averaged) == (before, 1)


def test_a_label_of_zero_is_an_error_as_in_the_original():
    assert max_score_error(peak_at((8, 8)), np.array([0.0])) == 1


@pytest.mark.parametrize("cls", BOTH)
def test_no_input_has_a_derivative(cls):
    layer = cls()
    assert layer.differentiable_inputs(3) == (False, False, False)
    x = peak_at((8, 8))
    inputs = [x, *centred(x, [1])]
    assert layer.backward(inputs, [], [1.0], None, Context()) == ([None, None, None], [])


@pytest.mark.parametrize("cls", BOTH)
def test_settings_of_saved_networks_are_kept(cls):
    settings = {"loss": "softmaxlog", "ignore_average": False, "normalise": True, "opts": ()}
    saved = cls(**settings).save()
    assert {name: saved[name] for name in settings} == settings
    assert layer_class(cls.type_name) is cls


@pytest.mark.parametrize("cls", BOTH)
def test_inputs_that_do_not_fit_are_refused(cls):
    layer = cls()
    x = np.zeros((2, 1, 5, 5))

    def refused(match, place, *inputs):
        with pytest.raises(ShapeError, match=match) as failure:
            layer.forward(inputs, [], Context())
        assert failure.value.input == place

    refused("one label a sample", 1, x, np.ones((2, 1, 5, 5)))
    refused("map like the scores", 1, x, np.ones(2), np.zeros((2, 2)))
    refused("target must be", 2, x, np.ones(x.shape), np.zeros((2, 3)))
    refused("scores must be", 0, np.zeros((2, 3, 5, 5)), np.ones(2))


def test_a_map_without_a_centre_cell_is_refused_where_there_is_no_target():
    with pytest.raises(ShapeError, match="no centre cell"):
        max_score_error(np.zeros((1, 1, 4, 5)), np.ones(1))


def test_thresholds_that_make_no_sense_are_refused():
    for setting in ({"radius_in_pixel": 0}, {"total_stride": -1}, {"n_step": 1}):
        with pytest.raises(ValueError, match="positive"):
            CenterThresholdError(**setting)
