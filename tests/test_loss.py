"""Tests of layers.loss."""

import numpy as np
import pytest

from dagnet import Context, ShapeError
from errors import prove
from golden import DOUBLE, GOLDENS, assert_close, assert_passes, golden, load_case
from layers import LOSSES, Loss, loss, loss_backward
from layers.loss import balanced_weights


@golden("layers_vl_nnloss")
def test_equals_vl_nnloss(case):
    assert_passes(case)


@pytest.mark.parametrize("weights", ["none", "map", "each", "balanced"])
@pytest.mark.parametrize("shape", [(1, 1, 5, 5), (3, 1, 4, 7), (2, 3, 3, 2)])
def test_gradient(rng, shape, weights):
    n, _, h, w = shape
    instance_weights = {
        "none": None,
        "map": rng.random((h, w)),
        "each": rng.random((n, 1, h, w)),
        "balanced": "balanced",
    }[weights]
    c = rng.choice([-1, 0, 1], shape)
    prove(Loss(loss="logistic", instance_weights=instance_weights), [rng.standard_normal(shape), c])


@pytest.mark.parametrize("form", [(3,), (3, 1, 1, 1)])
def test_gradient_with_one_label_an_image(rng, form):
    c = np.array([1, -1, 0]).reshape(form)
    prove(Loss(loss="logistic"), [rng.standard_normal((3, 1, 4, 3)), c])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_of_the_scores(rng, dtype):
    x = rng.standard_normal((2, 1, 3, 3)).astype(dtype)
    c = np.sign(rng.standard_normal((2, 1, 3, 3)))
    layer = Loss(loss="logistic", instance_weights=rng.random((3, 3)))
    (y,), saved = layer.forward([x, c], [], Context())
    (dx, dc), _ = layer.backward([x, c], [], [np.float64(1)], saved, Context())
    assert y.dtype == dtype and dx.dtype == dtype and dc is None


def test_scores_that_would_overflow_give_finite_values_and_no_warning():
    x = np.array([1e30, -1e30, 800, -800], np.float32).reshape(1, 1, 2, 2)
    c = np.array([-1, -1, 1, 1], np.float32).reshape(1, 1, 2, 2)
    assert loss(x, c, "logistic") == np.float32(1e30)
    assert loss_backward(x, c, 1.0, "logistic").ravel().tolist() == [1, 0, 0, -1]


def test_value_worked_out_by_hand():
    x = np.array([[[[0.0, np.log(3.0)]]]])
    c = np.array([[[[1.0, -1.0]]]])
    # log(1 + 1) + 2 log(1 + 3)
    assert loss(x, c, "logistic", np.array([1.0, 2.0])) == pytest.approx(5 * np.log(2))


def test_a_cell_of_label_zero_does_not_matter(rng):
    x = rng.standard_normal((2, 1, 3, 3))
    c = np.sign(rng.standard_normal((2, 1, 3, 3)))
    c[:, :, 1, 1] = 0
    other = x.copy()
    other[:, :, 1, 1] = 7
    for weights in (None, "balanced", np.ones((3, 3))):
        assert loss(x, c, "logistic", weights) == loss(other, c, "logistic", weights)
        assert not loss_backward(x, c, 1.0, "logistic", weights)[:, :, 1, 1].any()


def test_balanced_weights_give_each_sign_half_of_every_sample():
    c = np.array([[1, -1, -1, -1], [1, 1, 0, -1], [-1, -1, -1, -1], [1, 1, 1, 1], [0, 0, 0, 0]])
    weights = balanced_weights(c.astype(float).reshape(5, 1, 2, 2)).reshape(5, 4)
    third = 0.5 / 3
    expected = [
        [0.5, third, third, third],
        [0.25, 0.25, 0, 0.5],
        [0.125] * 4,
        [0.125] * 4,
        [0] * 4,
    ]
    np.testing.assert_allclose(weights, expected, rtol=1e-15)


def test_balanced_equals_the_weights_given_as_an_array(rng):
    x = rng.standard_normal((3, 1, 5, 5))
    c = np.where(rng.random((3, 1, 5, 5)) < 0.3, 1.0, -1.0)
    weights = balanced_weights(c)
    assert loss(x, c, "logistic", "balanced") == loss(x, c, "logistic", weights)


def test_the_option_normalise_false_leaves_the_batch_size_in(rng):
    x = rng.standard_normal((4, 1, 3, 3))
    c = np.sign(rng.standard_normal((4, 1, 3, 3)))
    (mean,), _ = Loss(loss="logistic").forward([x, c], [], Context())
    layer = Loss(loss="logistic", opts=("normalise", False))
    (total,), _ = layer.forward([x, c], [], Context())
    assert total == pytest.approx(4 * mean)
    prove(layer, [x, c.astype(int)])


def test_labels_receive_no_derivative():
    assert Loss(loss="logistic").differentiable_inputs(2) == (True, False)


# The running average


def test_average_is_over_cells_and_images_of_all_batches(rng):
    layer = Loss(loss="logistic")
    cells = []
    for n in (2, 5):
        x, c = rng.standard_normal((n, 1, 3, 4)), np.sign(rng.standard_normal((n, 1, 3, 4)))
        outputs, _ = layer.forward([x, c], [], Context())
        layer.update_statistics([x, c], outputs)
        cells.append(np.log(1 + np.exp(-c * x)).ravel())
    assert layer.statistics() == {"average": pytest.approx(np.concatenate(cells).mean())}
    assert layer.num_averaged == 7 * 12
    layer.reset()
    assert (layer.average, layer.num_averaged) == (0, 0)


def test_average_without_normalise_divides_the_value_itself():
    layer = Loss(loss="logistic", normalise=False)
    x = np.zeros((4, 1, 1, 1))
    layer.update_statistics([x, x], [np.array(6.0)])
    layer.update_statistics([x, x], [np.array(2.0)])
    assert layer.average == (6 + 2) / 8


def test_average_can_be_ignored():
    layer = Loss(loss="logistic", ignore_average=True)
    layer.update_statistics([np.zeros((1, 1, 1, 1))] * 2, [np.array(3.0)])
    assert layer.statistics() is None


def test_average_is_no_setting_and_moves_as_a_number():
    layer = Loss(loss="logistic", instance_weights=np.ones((2, 2)))
    layer.average, layer.num_averaged = np.array(0.5), np.array(3)
    layer.move("cpu")
    assert (layer.average, layer.num_averaged) == (0.5, 3)
    settings = layer.save()
    assert sorted(settings) == [
        *("ignore_average", "instance_weights", "loss", "normalise", "opts", "threshold", "top_k")
    ]
    assert Loss(**settings).average == 0


@pytest.mark.golden
@pytest.mark.skipif(not GOLDENS.is_dir(), reason="golden files not found")
def test_averages_of_three_training_steps_equal_dagnn_loss():
    data = load_case("train_small_inputs", "data")
    label = data.tensor("eltwise_label").astype(float)
    layer = Loss(loss="logistic", instance_weights=data.tensor("instanceWeights"))
    for step in (1, 2, 3):
        variables = load_case("train_small_sgd_double", f"step{step}_vars")
        statistics = load_case("train_small_sgd_double", f"step{step}_stats")
        x = variables.tensor("score")
        inputs = [x, np.broadcast_to(label, x.shape)]
        outputs, saved = layer.forward(inputs, [], Context())
        layer.update_statistics(inputs, outputs)
        (der, _), _ = layer.backward(inputs, [], [1.0], saved, Context())
        y = variables.arrays["objective"].reshape(())
        assert_close(outputs[0], y, DOUBLE, variables, "objective")
        assert_close(der, variables.tensor("der_score"), DOUBLE, variables, "der_score")
        average = statistics.arrays["objective"].reshape(())
        assert_close(np.asarray(layer.average), average, DOUBLE, statistics, "average")


# Refusals


def test_an_unknown_loss_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match=r"no loss 'hing'.*'logistic'"):
        Loss(loss="hing")
    with pytest.raises(ValueError, match="no loss"):
        loss(np.zeros((1, 1, 1, 1)), np.ones(1), "hing")
    assert all(Loss(loss=name).loss == name for name in LOSSES)


def test_the_default_and_the_reading_of_capitals_are_vl_nnlosses(rng):
    x, c = rng.standard_normal((2, 4, 3, 3)), np.array([4, 1])
    assert Loss().loss == Loss(loss="SoftMaxLog").loss == "softmaxlog"
    assert loss(x, c) == loss(x, c, "softmaxlog") == loss(x, c, "SoftMaxLog")
    assert (loss_backward(x, c, 1.0) == loss_backward(x, c, 1.0, "softmaxlog")).all()


def test_labels_that_do_not_fit_are_refused():
    x = np.zeros((2, 1, 3, 3))
    with pytest.raises(ShapeError, match=r"labels of shape \(2, 1, 3, 2\)") as failure:
        loss(x, np.ones((2, 1, 3, 2)), "logistic")
    assert failure.value.input == 1
    with pytest.raises(ShapeError, match="one channel"):
        loss(np.zeros((2, 4, 3, 3)), np.ones(2), "logistic")
    with pytest.raises(ShapeError, match="scores must be"):
        loss(np.zeros((3, 3)), np.ones((3, 3)))
    with pytest.raises(ShapeError, match=r"give \(N, 1, H, W\) = \(2, 1, 3, 3\), or one for each"):
        loss(np.zeros((2, 4, 3, 3)), np.ones((2, 4, 3, 3)))


@pytest.mark.parametrize("wrong", [5, -1, 1.5])
def test_a_label_that_is_no_class_is_refused(wrong):
    x, c = np.zeros((2, 4, 3, 3)), np.ones((2, 1, 3, 3))
    c[1, 0, 2, 1] = wrong
    for call in (loss, lambda x, c: loss_backward(x, c, 1.0)):
        with pytest.raises(ValueError, match=f"classes from 1 to 4 .*received {wrong}"):
            call(x, c)


def test_weights_that_do_not_fit_are_refused():
    x, c = np.zeros((2, 1, 3, 3)), np.ones((2, 1, 3, 3))
    with pytest.raises(ShapeError, match=r"instance weights of shape \(5, 5\)"):
        loss(x, c, "logistic", np.ones((5, 5)))
    with pytest.raises(ShapeError, match=r"instance weights of shape \(4, 1, 1\)"):
        loss(np.zeros((2, 4, 3, 3)), c, "softmaxlog", np.ones((4, 1, 1)))
    with pytest.raises(ValueError, match="'balanced' or an array, received 'uniform'"):
        Loss(loss="logistic", instance_weights="uniform")
    for call in (
        lambda: Loss(instance_weights="balanced"),
        lambda: loss(x, c, "softmaxlog", "balanced"),
        lambda: loss_backward(x, c, 1.0, "softmaxlog", "balanced"),
    ):
        with pytest.raises(ValueError, match="array of weights for a loss of classes"):
            call()


def test_options_of_vl_nnloss_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="instance_weights"):
        Loss(loss="logistic", opts=("instanceWeights", np.ones((3, 3))))
    with pytest.raises(ValueError, match="opts"):
        Loss(loss="logistic", opts=("normalise",))


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "3"])
def test_a_top_k_that_is_no_rank_is_refused(top_k):
    with pytest.raises(ValueError, match="top_k must be an integer of at least 1, received"):
        Loss(loss="topkerror", top_k=top_k)


def test_a_top_k_above_the_number_of_classes_is_refused():
    with pytest.raises(ValueError, match="at most the number of classes, 3, received 5"):
        loss(np.zeros((2, 3, 1, 1)), np.ones(2), "topkerror")


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="threshold must be a finite number, received nan"):
        Loss(loss="binaryerror", threshold=np.nan)
