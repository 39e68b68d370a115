"""Tests of layers.pdist."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import minkowski

from dagnet import Context, DagNN, ShapeError, registered_layers
from errors import prove
from golden import assert_passes, golden
from layers import PDist, pdist, pdist_backward

FINITE = [0.5, 1, 1.5, 2, 3, 4]
POWERS = [*FINITE, math.inf]


def apart(rng, shape, targets=None):
    """Features and targets that differ in every channel: away from kinks."""
    x0 = rng.standard_normal(targets or shape)
    d = rng.uniform(0.3, 2, shape) * rng.choice([-1, 1], shape)
    return x0 + d, x0


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 3, 3), (1, 5, 2, 2)])
@pytest.mark.parametrize("aggregate", [False, True])
@pytest.mark.parametrize(
    ("p", "no_root"), [(p, False) for p in POWERS] + [(p, True) for p in FINITE]
)
def test_gradient(rng, shape, aggregate, no_root, p):
    prove(PDist(p=p, no_root=no_root, aggregate=aggregate), list(apart(rng, shape)))


@pytest.mark.parametrize("targets", [(2, 3, 1, 1), (1, 3, 4, 5), (2, 3, 1, 5), (1, 3, 1, 1)])
@pytest.mark.parametrize("p", [0.5, 1, 2, 3])
def test_gradient_by_a_target_that_is_repeated(targets, p):
    rng = np.random.default_rng(5)
    x0 = rng.standard_normal(targets)
    x = x0 + rng.uniform(0.3, 2, (2, 3, 4, 5)) * rng.choice([-1, 1], (2, 3, 4, 5))
    prove(PDist(p=p, aggregate=False), [x, x0])


@pytest.mark.parametrize("aggregate", [False, True])
def test_gradient_with_weights(rng, aggregate):
    x, x0 = apart(rng, (2, 3, 4, 5))
    weights = rng.standard_normal((2, 1, 4, 5))
    prove(PDist(p=3, aggregate=aggregate), [x, x0, weights], skip_inputs=[2])
    prove(PDist(p=3, aggregate=aggregate, instance_weights=weights[0, 0]), [x, x0])
    prove(PDist(p=3, aggregate=aggregate, instance_weights=0.3), [x, x0])


@pytest.mark.parametrize("p", POWERS)
def test_equals_scipy_cell_by_cell(rng, p):
    x, x0 = rng.standard_normal((2, 2, 4, 3, 2))
    y = pdist(x, x0, p)
    assert y.shape == (2, 1, 3, 2)
    for n, r, c in np.ndindex(2, 3, 2):
        expected = minkowski(x[n, :, r, c], x0[n, :, r, c], p)
        assert y[n, 0, r, c] == pytest.approx(expected, rel=1e-12)
        if math.isfinite(p):
            power = pdist(x, x0, p, no_root=True)[n, 0, r, c]
            assert power == pytest.approx(expected**p, rel=1e-12)


def test_the_largest_difference_is_the_limit_of_great_powers(rng):
    x, x0 = rng.standard_normal((2, 2, 4, 3, 2))
    np.testing.assert_allclose(pdist(x, x0, math.inf), pdist(x, x0, 300), rtol=5e-3)


def test_of_equal_largest_differences_the_first_has_the_derivative():
    x = np.array([1.0, -2.0, 2.0]).reshape(1, 3, 1, 1)
    der, _ = pdist_backward(x, np.zeros_like(x), np.ones((1, 1, 1, 1)), math.inf)
    assert der.ravel().tolist() == [0, -1, 0]


def test_epsilon_keeps_derivatives_finite_where_features_are_equal():
    x = np.zeros((1, 2, 1, 1))
    one = np.ones((1, 1, 1, 1))
    for p in POWERS:
        der, der0 = pdist_backward(x, x, one, p)
        assert not der.any() and not der0.any()
    # In one channel alone: p = 1/2 has sqrt(T) |d|^(-1/2) there, with epsilon for |d|.
    x[0, 0] = 1e-9
    x[0, 1] = 4.0
    der, _ = pdist_backward(x, np.zeros_like(x), one, 0.5, epsilon=1e-4)
    assert der[0, 0, 0, 0] == pytest.approx((math.sqrt(1e-9) + 2) * 100, rel=1e-12)
    # Close to each other at p = 2: d / sqrt(epsilon).
    der, _ = pdist_backward(x[:, :1], np.zeros((1, 1, 1, 1)), one, 2, epsilon=1e-4)
    assert der.item() == pytest.approx(1e-7, rel=1e-12)


def test_a_sum_is_a_number_and_takes_weights_into_account(rng):
    x, x0 = rng.standard_normal((2, 2, 3, 4, 5))
    weights = rng.uniform(0, 1, (4, 5))
    y = pdist(x, x0, 1, aggregate=True, instance_weights=weights)
    assert y.shape == ()
    assert y == pytest.approx((abs(x - x0).sum(axis=1) * weights).sum(), rel=1e-12)


@pytest.mark.parametrize("p", POWERS)
def test_single_precision_stays_single(rng, p):
    x, x0 = rng.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    weights = np.ones((4, 5))
    for aggregate in (False, True):
        y = pdist(x, x0, p, aggregate=aggregate, instance_weights=weights)
        options = {"aggregate": aggregate, "instance_weights": weights}
        ders = pdist_backward(x, x0, np.ones(y.shape), p, **options)
        assert {y.dtype} == {d.dtype for d in ders} == {np.dtype(np.float32)}


@pytest.mark.parametrize("aggregate", [False, True])
def test_the_running_average_is_the_mean_distance(rng, aggregate):
    x, x0 = rng.standard_normal((2, 4, 3, 5, 2))
    net = DagNN()
    net.add_layer("distance", PDist(aggregate=aggregate), ["x", "x0"], "y")
    for part in (slice(0, 1), slice(1, 4)):
        net.eval({"x": x[part], "x0": x0[part]})
    block = net.get_layer("distance").block
    mean = np.linalg.norm(x - x0, axis=1).mean()
    assert block.statistics()["average"] == pytest.approx(mean, rel=1e-12)
    assert block.num_averaged == 4 * 5 * 2
    net.reset()
    assert block.statistics() == {"average": 0.0}
    assert PDist(ignore_average=True).statistics() is None


def test_derivatives_flow_to_both_branches_and_not_to_the_weights(rng):
    net = DagNN()
    net.add_layer("distance", PDist(p=1), ["x", "x0", "w"], "y")
    x, x0 = apart(rng, (2, 3, 2, 2))
    weights = rng.uniform(1, 2, (2, 1, 2, 2))
    net.eval({"x": x, "x0": x0, "w": weights}, {"y": 1})
    np.testing.assert_array_equal(net.get_var("x").der, np.sign(x - x0) * weights)
    np.testing.assert_array_equal(net.get_var("x0").der, -net.get_var("x").der)
    assert net.get_var("w").der is None


def test_sizes():
    sizes = [(4, 3, 5, 6), (4, 3, 1, 1)]
    net = DagNN()
    net.add_layer("map", PDist(aggregate=False), ["x", "x0"], "y")
    net.add_layer("sum", PDist(), ["x", "x0"], "z")
    found = net.get_var_sizes(dict(zip(("x", "x0"), sizes)))
    assert found["y"] == (4, 1, 5, 6) and found["z"] == (4, 1, 1, 1)


def test_the_layer_is_registered_and_its_settings_are_kept():
    assert registered_layers()["dagnn.PDist"] is PDist
    weights = np.ones((2, 3))
    settings = PDist(p=3, no_root=True, instance_weights=weights).save()
    assert settings["p"] == 3 and settings["no_root"] and settings["epsilon"] == 1e-6
    assert settings["loss"] == "pdist" and settings["opts"] == ()
    np.testing.assert_array_equal(settings["instance_weights"], weights)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"p": 0}, "above 0"),
        ({"p": -1}, "above 0"),
        ({"p": math.nan}, "above 0"),
        ({"p": math.inf, "no_root": True}, "largest difference"),
        ({"epsilon": -1}, "epsilon"),
        ({"opts": ("noRoot", True)}, "settings"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        PDist(**settings)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4), (2, 2, 4, 5), (2, 1, 4, 5), (2, 3, 4, 4), (3, 3, 4, 5)]
)
def test_targets_that_do_not_fit_are_refused(shape):
    with pytest.raises(ShapeError, match="expected targets") as caught:
        PDist().forward([np.ones((2, 3, 4, 5)), np.ones(shape)], [], Context())
    assert caught.value.input == 1


def test_weights_that_do_not_fit_are_refused():
    x = np.ones((2, 3, 4, 5))
    with pytest.raises(ShapeError, match="instance weights"):
        PDist().forward([x, x, np.ones((2, 3, 4, 5))], [], Context())


@golden("layers_pure_m", lambda name: name.startswith("pdist"))
def test_equals_vl_nnpdist(case):
    assert_passes(case)
