"""Tests of layers.iou_error_score."""

import numpy as np
import pytest

from dagnet import Context, ShapeError
from golden import assert_passes, golden
from layers import IOUErrorScore


def peak_at(*cells, size=(9, 9)):
    x = -np.ones((len(cells), 1, *size))
    for i, cell in enumerate(cells):
        x[(i, 0, *cell)] = 1
    return x


def evaluate(layer, *inputs):
    (y,), saved = layer.forward(inputs, [], Context())
    assert saved is None
    layer.update_statistics(inputs, [y])
    return y


@golden("cfnet", lambda name: name.startswith("iou"))
def test_equals_the_original(case):
    assert_passes(case)


def test_overlaps_by_hand():
    """Equal boxes, one that is moved by half its width, one of half the height, one far away."""
    x = peak_at((4, 4), (4, 5), (4, 4), (0, 0))
    reference = np.array([[8.0, 8.0], [10.0, 8.0], [8.0, 6.0], [8.0, 8.0]])
    predicted = np.array([[8.0, 8.0], [10.0, 8.0], [4.0, 6.0], [8.0, 8.0]])
    layer = IOUErrorScore(stride=4)
    label = np.ones(4)
    y = evaluate(layer, x, label, reference, predicted)
    assert y == pytest.approx(1 + 1 / 3 + 1 / 2 + 0, rel=1e-15)
    assert layer.average == pytest.approx(y / 4) and layer.num_averaged == 4


def test_negative_samples_do_not_count():
    layer, sizes = IOUErrorScore(stride=4), np.full((2, 2), 8.0)
    assert evaluate(layer, peak_at((4, 4), (4, 4)), np.array([1.0, -1.0]), sizes, sizes) == 1
    assert (layer.average, layer.num_averaged) == (1, 1)
    assert evaluate(layer, peak_at((0, 0), (4, 4)), np.array([-1.0, -1.0]), sizes, sizes) == 0
    assert (layer.average, layer.num_averaged) == (1, 1)


def test_of_equal_peaks_the_first_in_column_major_order_counts():
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 2, 0] = x[0, 0, 0, 1] = 1
    # The cell at row 2, column 0: one cell down and one to the left of the centre.
    sizes = np.array([[2.0, 2.0]])
    assert evaluate(IOUErrorScore(stride=1), x, np.ones(1), sizes, sizes) == pytest.approx(1 / 7)


def test_the_map_need_not_be_square_and_the_precision_is_its():
    x = peak_at((1, 4), size=(3, 7)).astype(np.float32)
    sizes = np.array([[6.0, 4.0]])
    y = evaluate(IOUErrorScore(stride=2), x, np.ones(1), sizes, sizes)
    assert y == np.float32(1 / 3) and y.dtype == np.float32


def test_no_input_has_a_derivative():
    layer = IOUErrorScore(stride=1)
    assert layer.backward([None] * 4, [], [1.0], None, Context()) == ([None] * 4, [])
    assert layer.differentiable_inputs(4) == (False,) * 4


def test_bad_input_is_refused():
    x, label, sizes = peak_at((4, 4)), np.ones(1), np.ones((1, 2))
    with pytest.raises(ValueError, match="stride is not set"):
        evaluate(IOUErrorScore(), x, label, sizes, sizes)
    with pytest.raises(ValueError, match="must not be negative"):
        IOUErrorScore(stride=-1)
    layer = IOUErrorScore(stride=4)
    for place, inputs in {
        0: (np.ones((1, 1, 4, 5)), label, sizes, sizes),
        1: (x, np.ones(2), sizes, sizes),
        2: (x, label, np.ones((2, 2)), sizes),
        3: (x, label, sizes, np.ones(2)),
    }.items():
        with pytest.raises(ShapeError) as error:
            layer.forward(inputs, [], Context())
        assert error.value.input == place
