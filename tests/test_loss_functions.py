"""Tests of layers.loss_functions: MatConvNet's grid ``nnloss``, and values worked out by hand."""

import numpy as np
import pytest

from dagnet import Context, relative_error
from errors import prove
from layers import LOSSES, Loss, loss, loss_backward
from suite import equal, over_kinds

# The grid of nnloss.m.
NAMES = (
    *("classerror", "log", "softmaxlog", "mhinge", "mshinge"),
    *("binaryerror", "binarylog", "logistic", "hinge"),
)
CLASSES, ATTRIBUTES, IMAGES, HEIGHT, WIDTH = 3, 5, 3, 4, 5


def given(rng, name):
    """Scores, labels and a weight for each of an image's labels, as ``getx`` draws them."""
    of_classes = LOSSES[name].classes
    channels = CLASSES if of_classes else ATTRIBUTES
    labels = 1 if of_classes else ATTRIBUTES
    x = rng.standard_normal((IMAGES, channels, HEIGHT, WIDTH))
    x[np.abs(np.abs(x) - 1) < 1e-3] *= 1.01  # away from the kinks of the hinges
    if name in ("log", "binarylog"):
        x = 0.2 + 0.6 * rng.random(x.shape)
    if name == "log":
        x /= x.sum(axis=1, keepdims=True)
    shape = (IMAGES, labels, HEIGHT, WIDTH)
    c = rng.integers(1, CLASSES + 1, shape) if of_classes else rng.choice([-1, 1], shape)
    return x, c, rng.random(shape[1:]) / np.prod(shape[1:])


def check(name, x, c, weights, kind):
    """In double the derivative is proved; every kind gives the same value and derivative."""
    layer = Loss(loss=name, instance_weights=weights)
    if kind.dtype == np.float64:
        prove(layer, [x, c])
    layer.move(kind.device)
    inputs = [kind.array(x), kind.array(c)]
    (y,), saved = layer.forward(inputs, [], Context())
    (der, none), _ = layer.backward(inputs, [], [1.5], saved, Context())
    assert none is None and y.shape == ()
    equal(y, loss(x, c, name, weights), kind)
    equal(der, loss_backward(x, c, 1.5, name, weights), kind)


@over_kinds
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_null_labels(rng, name, weighed, kind):
    x, c, weights = given(rng, name)
    c *= rng.random(c.shape) < 0.5
    assert (c == 0).any() and (c != 0).any()
    check(name, x, c, weights if weighed else None, kind)


@over_kinds
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_label_for_each_cell(rng, name, weighed, kind):
    x, c, weights = given(rng, name)
    check(name, x, c, weights if weighed else None, kind)


@over_kinds
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_zero_leave_nothing(rng, name, kind):
    x, c, weights = given(rng, name)
    c *= rng.random(c.shape) < 0.5
    x, c, weights = kind.array(x), kind.array(c), kind.array(np.zeros_like(weights))
    assert loss(x, c, name, weights) == 0
    assert not loss_backward(x, c, 1.0, name, weights).any()


# Properties of all


@pytest.mark.parametrize("name", [*NAMES, "topkerror"])
def test_the_loss_is_the_weighted_sum_of_its_cells_over_the_batch_size(rng, name):
    x, c, weights = given(rng, name)
    options = {"top_k": 2} if name == "topkerror" else {}
    total = 0.0
    for n, i, j in np.ndindex(IMAGES, HEIGHT, WIDTH):
        cell, label = x[n : n + 1, :, i : i + 1, j : j + 1], c[n : n + 1, :, i : i + 1, j : j + 1]
        total += loss(cell, label, name, weights[:, i : i + 1, j : j + 1], **options)
    assert loss(x, c, name, weights, **options) == pytest.approx(total / IMAGES, rel=1e-12)
    assert loss(x, c, name, weights, normalise=False, **options) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("name", [n for n in NAMES if LOSSES[n].classes])
@pytest.mark.parametrize("form", [(IMAGES,), (IMAGES, 1, 1, 1)])
def test_one_class_an_image_is_that_of_all_its_cells(rng, name, form):
    x, _, _ = given(rng, name)
    c = np.array([3, 1, 2])
    everywhere = np.broadcast_to(c.reshape(-1, 1, 1, 1), (IMAGES, 1, HEIGHT, WIDTH))
    assert loss(x, c.reshape(form), name) == loss(x, everywhere, name)
    prove(Loss(loss=name), [x, c.reshape(form)])


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].classes])
def test_scores_of_cells_without_a_label_do_not_matter(rng, name):
    x, c, _ = given(rng, "log")
    c[:, :, 1, 1] = 0
    other = x.copy()
    other[:, :, 1, 1] = 0  # -log(0) is infinite
    options = {"top_k": 2} if name == "topkerror" else {}
    assert loss(x, c, name, **options) == loss(other, c, name, **options)
    assert not loss_backward(other, c, 1.0, name)[:, :, 1, 1].any()


@pytest.mark.parametrize("name", ["classerror", "topkerror", "binaryerror"])
def test_errors_have_no_derivative(rng, name):
    x, c, _ = given(rng, name)
    der = loss_backward(x.astype(np.float32), c, 1.0, name)
    assert der.shape == x.shape and der.dtype == np.float32 and not der.any()


# Values worked out by hand


def value(scores, label, name, **options):
    """The loss of one cell."""
    x = np.array(scores, np.float64).reshape(1, -1, 1, 1)
    return float(loss(x, np.reshape(label, (1, -1, 1, 1)), name, **options))


def derivative(scores, label, name):
    x = np.array(scores, np.float64).reshape(1, -1, 1, 1)
    return loss_backward(x, np.reshape(label, (1, -1, 1, 1)), 1.0, name).ravel().tolist()


def test_of_equal_greatest_scores_the_first_is_the_class():
    assert value([1, 3, 3], 2, "classerror") == 0
    assert value([1, 3, 3], 3, "classerror") == 1


@pytest.mark.parametrize("label, rank", [(4, 1), (1, 2), (3, 3), (2, 4), (5, 5)])
def test_the_top_k_error_counts_ranks_of_which_equal_ones_go_in_order(label, rank):
    scores = [2.0, 1.0, 2.0, 7.0, 0.0]
    errors = [value(scores, label, "topkerror", top_k=k) for k in range(1, 6)]
    assert errors == [float(rank > k) for k in range(1, 6)]


def test_top_1_is_the_class_error(rng):
    x, c, weights = given(rng, "classerror")
    assert loss(x, c, "topkerror", weights, top_k=1) == loss(x, c, "classerror", weights)


def test_log_is_that_of_the_probability():
    assert value([0.25, 0.5, 0.25], 3, "log") == pytest.approx(np.log(4))
    assert derivative([0.25, 0.5, 0.25], 3, "log") == [0, 0, -4]


def test_a_probability_that_underflowed_has_a_large_and_finite_derivative():
    assert derivative([0.0, 1.0], 1, "log") == [-1e8, 0]


def test_softmax_log_of_scores_that_would_overflow():
    assert value([1000.0, 0.0], 1, "softmaxlog") == 0
    assert value([1000.0, 0.0], 2, "softmaxlog") == 1000
    assert derivative([1000.0, 0.0], 2, "softmaxlog") == [1, -1]
    assert value(np.log([1.0, 2.0, 5.0]), 2, "softmaxlog") == pytest.approx(np.log(4))


def test_hinges_of_classes():
    assert value([0.25, 3.0], 1, "mhinge") == 0.75
    assert derivative([0.25, 3.0], 1, "mhinge") == [-1, 0]
    assert value([0.25, 3.0], 2, "mhinge") == 0
    # The margin is 0.5 - 2.
    assert value([0.5, 2.0, 1.0], 1, "mshinge") == 2.5
    assert derivative([0.5, 2.0, 1.0], 1, "mshinge") == [-1, 1, 0]
    assert value([0.5, 2.0, 1.0], 2, "mshinge") == 0
    assert derivative([0.5, 2.0, 1.0], 2, "mshinge") == [0, 0, 0]
    # Of equal rivals the first.
    assert derivative([2.0, 0.0, 2.0], 2, "mshinge") == [1, -1, 0]


def test_the_only_class_has_no_rival():
    # vl_nnloss gives the derivative +1.
    assert value([0.3], 1, "mshinge") == 0
    assert derivative([0.3], 1, "mshinge") == [0]
    prove(Loss(loss="mshinge"), [np.full((2, 1, 2, 2), 0.3), np.array([1, 1])])


def test_binary_losses():
    assert value([0.5, -0.5, 0.0], [1, 1, -1], "binaryerror") == 2
    assert value([0.6, 0.6, 0.5], [1, -1, 1], "binaryerror", threshold=0.5) == 2
    assert value([0.25, 0.25], [1, -1], "binarylog") == pytest.approx(np.log(4) + np.log(4 / 3))
    assert derivative([0.25, 0.75], [1, -1], "binarylog") == [-4, 4]
    assert derivative([0.5], [0], "binarylog") == [0]
    assert value([0.25, 3.0, 0.25], [1, 1, -1], "hinge") == 0.75 + 0 + 1.25
    assert derivative([0.25, 3.0, 0.25], [1, 1, -1], "hinge") == [-1, 0, 1]


def test_a_binary_loss_is_that_of_two_classes_with_one_score_at_zero(rng):
    # As the help of vl_nnloss has it: +1 is the class of score x, -1 that of score 0.
    x, c = rng.standard_normal((4, 1, 3, 2)), rng.choice([-1, 1], (4, 1, 3, 2))
    two = np.concatenate([x, np.zeros_like(x)], axis=1)
    label = np.where(c > 0, 1, 2)
    for binary, classes in (("logistic", "softmaxlog"), ("hinge", "mshinge")):
        assert loss(x, c, binary) == pytest.approx(float(loss(two, label, classes)), rel=1e-13)
        found = loss_backward(two, label, 1.0, classes)[:, :1]
        assert relative_error(found, loss_backward(x, c, 1.0, binary)) < 1e-13


def test_options_reach_the_layer(rng):
    x, c, _ = given(rng, "topkerror")
    (y,), _ = Loss(loss="topkerror", top_k=2).forward([x, c], [], Context())
    assert y == loss(x, c, "topkerror", top_k=2)
    x, c, _ = given(rng, "binaryerror")
    (y,), _ = Loss(loss="binaryerror", threshold=0.5).forward([x, c], [], Context())
    assert y == loss(x, c, "binaryerror", threshold=0.5) != loss(x, c, "binaryerror")
