"""Tests of layers.softmax_loss: goldens, and MatConvNet's grid ``nnsoftmaxloss``."""

import numpy as np
import pytest

from dagnet import Layer, ShapeError
from errors import prove
from golden import assert_passes, golden
from layers import loss, loss_backward, softmax, softmax_backward, softmax_loss
from layers.softmax_loss import softmax_loss_backward
from suite import equal, over_kinds

# The grid of nnsoftmaxloss.m; its range is nntest.m's.
CLASSES, IMAGES, HEIGHT, WIDTH = 10, 3, 3, 4
RANGE = 128


@golden("layers_pure_m", lambda name: name.startswith("softmaxloss"))
def test_equals_vl_nnsoftmaxloss(case):
    assert_passes(case)


class SoftMaxLoss(Layer):
    """The function pair as a layer, to be proved."""

    num_inputs = (2, 2)

    def forward(self, inputs, params, context):
        return [softmax_loss(*inputs)], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [softmax_loss_backward(*inputs, der_outputs[0]), None], []

    def differentiable_inputs(self, num_inputs):
        return (True, False)


def given(rng, multilab, weighed):
    """Labels, and the same as classes and weights."""
    if multilab:
        classes = np.arange(IMAGES * HEIGHT * WIDTH).reshape(IMAGES, 1, HEIGHT, WIDTH) % CLASSES + 1
    else:
        classes = np.array([7, 2, 1]).reshape(-1, 1, 1, 1)
    if not weighed:
        return classes, classes, None
    weights = rng.random(classes.shape)
    return np.concatenate([classes, weights], axis=1), classes, weights


@over_kinds
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("multilab", [False, True])
def test_it_is_the_log_loss_of_the_softmax(rng, multilab, weighed, kind):
    labels, classes, weights = given(rng, multilab, weighed)
    values = rng.random((IMAGES, CLASSES, HEIGHT, WIDTH)) + 0.001
    if kind.dtype == np.float64:
        prove(SoftMaxLoss(), [values, labels], skip_inputs=[1])
    x, labels, classes = kind.array(values), kind.array(labels), kind.array(classes)
    weights = None if weights is None else kind.array(weights)
    der_y = rng.standard_normal()
    p = softmax(x)
    der_p = loss_backward(p, classes, der_y, "log", weights)
    equal(softmax_loss(x, labels), loss(p, classes, "log", weights), kind)
    equal(softmax_loss_backward(x, labels, der_y), softmax_backward(p, der_p), kind)


@over_kinds
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("multilab", [False, True])
def test_scores_of_a_large_range(rng, multilab, weighed, kind):
    labels, _, _ = given(rng, multilab, weighed)
    x = RANGE * rng.random((IMAGES, CLASSES, HEIGHT, WIDTH)) + RANGE * 0.001
    if kind.dtype == np.float64:
        prove(SoftMaxLoss(), [x, labels], skip_inputs=[1])
    inputs = kind.array(x), kind.array(labels)
    equal(softmax_loss(*inputs), softmax_loss(x, labels), kind)
    equal(softmax_loss_backward(*inputs, 2.0), softmax_loss_backward(x, labels, 2.0), kind)


def test_labels_of_zero_or_less_leave_their_cells_out(rng):
    x = rng.standard_normal((2, 3, 1, 2))
    labels = np.array([[2, 0], [-1, 3]]).reshape(2, 1, 1, 2)
    own = [-np.log(softmax(x)[n, q, 0, w]) for n, q, w in ((0, 1, 0), (1, 2, 1))]
    assert softmax_loss(x, labels) == pytest.approx(sum(own) / 2)
    prove(SoftMaxLoss(), [x, labels])


def test_labels_of_other_forms_are_refused():
    with pytest.raises(ShapeError, match="one channel, the classes, or two"):
        softmax_loss(np.zeros((2, 3, 4, 4)), np.ones((2, 3, 4, 4)))
    with pytest.raises(ValueError, match="classes from 1 to 3"):
        softmax_loss(np.zeros((2, 3, 4, 4)), np.array([1, 4]))
