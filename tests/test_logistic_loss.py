"""Tests of layers.logistic_loss."""

import math

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import LogisticLoss, Loss


def evaluate(layer, *inputs):
    (y,), saved = layer.forward(inputs, [], Context())
    layer.update_statistics(inputs, [y])
    return y, saved


def draw(rng, *shape):
    x = 3 * rng.standard_normal(shape)
    return x, np.sign(rng.standard_normal(shape)), rng.uniform(size=shape)


@pytest.mark.parametrize("shape", [(2, 1, 5, 5), (1, 1, 4, 7), (3, 2, 3, 4)])
def test_gradient(rng, shape):
    x, c, weights = draw(rng, *shape)
    prove(LogisticLoss(), [x, c, weights], skip_inputs=[1, 2])
    c[..., 0] = 0
    prove(LogisticLoss(), [x, c, weights[:1]], skip_inputs=[1, 2])


@golden("cfnet", lambda name: name.startswith("loss"))
def test_equals_the_original(case):
    assert_passes(case)


def test_by_hand():
    x, c = np.array([0.0, math.log(3)]), np.array([1.0, -1.0])
    inputs = [a.reshape(1, 1, 1, 2) for a in (x, c, np.array([2.0, 0.5]))]
    y, saved = evaluate(LogisticLoss(), *inputs)
    assert y == pytest.approx(2 * math.log(2) + 0.5 * math.log(4), rel=1e-15)
    (der, *others), _ = LogisticLoss().backward(inputs, [], [np.array(4.0)], saved, Context())
    np.testing.assert_allclose(der.ravel(), [4 * -2 / 2, 4 * 0.5 * 3 / 4], rtol=1e-15)
    assert others == [None, None]


def test_great_scores_neither_overflow_nor_vanish():
    x = np.array([1e4, -1e4]).reshape(1, 1, 1, 2)
    y, _ = evaluate(LogisticLoss(), x, np.ones(x.shape), np.ones(x.shape))
    assert y == 1e4


def test_it_is_the_loss_with_instance_weights_times_the_batch_size(rng):
    x, c, weights = draw(rng, 4, 1, 5, 5)
    y, _ = evaluate(LogisticLoss(), x, c, weights)
    other, _ = evaluate(Loss(loss="logistic", instance_weights=weights), x, c)
    assert y == pytest.approx(4 * other, rel=1e-14)


def test_one_label_a_sample_stands_for_all_of_its_cells(rng):
    x, _, weights = draw(rng, 3, 1, 5, 4)
    label = np.array([1.0, -1.0, 1.0])
    maps = np.broadcast_to(label.reshape(3, 1, 1, 1), x.shape)
    assert evaluate(LogisticLoss(), x, label, weights)[0] == evaluate(
        LogisticLoss(), x, maps, weights
    )[0]  # fmt: skip


def test_a_label_of_zero_leaves_its_score_out_and_the_others_weights_alone(rng):
    x, c, weights = draw(rng, 2, 1, 5, 5)
    c[:, :, 2] = 0
    without = weights.copy()
    without[:, :, 2] = 0
    full = np.where(c == 0, 1, c)
    assert evaluate(LogisticLoss(), x, c, weights)[0] == pytest.approx(
        evaluate(LogisticLoss(), x, full, without)[0], rel=1e-14
    )


def test_the_average_is_the_loss_of_a_sample(rng):
    layer = LogisticLoss()
    batches = [draw(rng, n, 1, 3, 3) for n in (2, 5)]
    total = sum(evaluate(layer, *batch)[0] for batch in batches)
    assert layer.average == pytest.approx(total / 7, rel=1e-14) and layer.num_averaged == 7
    layer.reset()
    assert (layer.average, layer.num_averaged) == (0, 0)


def test_the_value_has_the_scores_precision_and_its_size_the_batchs(rng):
    x, c, weights = draw(rng, 2, 1, 3, 3)
    y, _ = evaluate(LogisticLoss(), x.astype(np.float32), c, weights)
    assert y.dtype == np.float32 and y.shape == ()
    assert LogisticLoss().get_output_sizes([Size(2, 1, 3, 3)] * 3) == [Size(2, 1, 1, 1)]
    assert LogisticLoss().differentiable_inputs(3) == (True, False, False)


@pytest.mark.parametrize("shape", [(3, 1, 5, 5), (2, 1, 5, 4), (2, 2, 5, 5), (1, 2, 1, 5, 5)])
def test_weights_that_do_not_fit_are_refused(shape):
    x = np.zeros((2, 1, 5, 5))
    with pytest.raises(ShapeError, match="weight for each score") as error:
        LogisticLoss().forward([x, np.ones(x.shape), np.ones(shape)], [], Context())
    assert error.value.input == 2
