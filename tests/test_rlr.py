"""Tests of layers.rlr."""

import math

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import RLR

SHAPES = [
    (1, 2, 6, 6),
    (3, 2, 5, 4),
    (2, 1, 4, 7),
    (1, 3, 5, 5),
    (3, 2, 3, 6),
    (1, 2, 3, 27),
]
VECTORS = [(1, 2, 8, 1), (1, 2, 1, 7), (3, 1, 5, 1), (2, 2, 1, 6), (1, 1, 1, 1)]


def run(layer, inputs, params):
    return layer.forward(inputs, params, Context())[0]


FORMS = [(window, scale) for window in ("hann", "none") for scale in ("n", "1")]


@pytest.mark.parametrize("window, scale", FORMS)
@pytest.mark.parametrize("shape", SHAPES + VECTORS, ids=str)
def test_gradient(rng, shape, window, scale):
    x, y = rng.standard_normal(shape), rng.standard_normal(shape)
    prove(RLR(window=window, lambda_scale=scale), [x, y], [np.array(0.7)])


@pytest.mark.parametrize("window, scale", FORMS)
@pytest.mark.parametrize("shape", SHAPES + VECTORS, ids=str)
def test_gradient_with_channels_summed(rng, shape, window, scale):
    x = rng.standard_normal(shape)
    y = rng.standard_normal((shape[0], 2, *shape[2:]))
    layer = RLR(window=window, lambda_scale=scale, sum_channels=True)
    prove(layer, [x, y], [np.array([0.7])])


def test_gradient_when_only_one_of_the_pair_is_read(rng):
    x, y = rng.standard_normal((2, 2, 3, 5, 4))
    layer = RLR(sum_channels=True)
    alphaf, _ = run(layer, [x, y], [np.array(0.7)])
    der = rng.standard_normal(alphaf.shape) + 1j * rng.standard_normal(alphaf.shape)
    prove(layer, [x, y], [np.array(0.7)], der_outputs=[der, None])
    prove(layer, [x, y], [np.array(0.7)], der_outputs=[None, der])


@pytest.mark.parametrize("lam", [1e-5, 10.0])
def test_gradient_at_the_tracker_s_lambdas(rng, lam):
    x, y = rng.standard_normal((2, 1, 4, 6, 6))
    prove(RLR(), [x, y], [np.array(lam)], skip_params=[0] if lam < 1e-4 else [])


def test_the_derivative_by_a_small_lambda_against_a_step_of_its_own_size(rng):
    """1e-5 is the size of the checker's step, so this one is differentiated by log lambda."""
    x, y = rng.standard_normal((2, 1, 4, 6, 6))
    layer, lam, step = RLR(), 1e-5, 1e-5
    context = Context()
    (r,), saved = layer.forward([x, y], [np.array(lam)], context)
    der = rng.standard_normal(r.shape)
    _, (exact,) = layer.backward([x, y], [np.array(lam)], [der], saved, context)
    ends = [
        np.vdot(der, run(layer, [x, y], [np.array(lam * math.exp(s))])[0]) for s in (step, -step)
    ]
    assert exact * lam == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


# With lambda = 1e-5 a frequency at which the feature is weak magnifies the rounding of its single
# precision spectrum. In these two cases the original's own result is further than the bound from
# the value that its formula has in double precision.
BEYOND_SINGLE = ("ucr_8_8_384_l1e05", "ucr_22_22_256_l1e05")


@golden("dsiam_update_change")
def test_pair_equals_update_change(case):
    assert_passes(case)


@golden("dsiam_update_change_real")
def test_pair_equals_update_change_at_the_tracker_s_sizes(case):
    """In two cases our results keep the bound against the formula in double precision only."""
    result = assert_passes(case)
    against_double = any("in double" in c.what for c in result.comparisons)
    assert against_double == (case.name in BEYOND_SINGLE)


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 2, 7, 1)])
def test_the_filter_minimises_the_regression(rng, shape):
    """At R the gradient of |R * X - Y|^2 + lambda |R|^2 is zero, and no step goes lower."""
    x, y = rng.standard_normal((2, *shape))
    lam = 0.3
    (r,) = run(RLR(window="none", lambda_scale="1"), [x, y], [np.array(lam)])

    def objective(candidate):
        convolved = np.fft.ifft2(np.fft.fft2(candidate) * np.fft.fft2(x)).real
        return ((convolved - y) ** 2).sum() + lam * (candidate**2).sum()

    lowest = objective(r)
    for _ in range(20):
        step = 1e-3 * rng.standard_normal(shape)
        assert objective(r + step) > lowest
        assert objective(r + step) == pytest.approx(objective(r - step), rel=1e-9)


def test_without_a_penalty_worth_speaking_of_the_filter_turns_x_into_y(rng):
    x, y = rng.standard_normal((2, 1, 3, 5, 6))
    (r,) = run(RLR(window="none", lambda_scale="1"), [x, y], [np.array(1e-13)])
    assert np.allclose(np.fft.ifft2(np.fft.fft2(r) * np.fft.fft2(x)).real, y, atol=1e-9)


def test_the_filter_of_a_feature_to_itself_is_near_the_unit_impulse(rng):
    x = rng.standard_normal((1, 2, 6, 6))
    (r,) = run(RLR(window="none"), [x, x], [np.array(1e-13)])
    impulse = np.zeros((6, 6))
    impulse[0, 0] = 1
    assert np.allclose(r, impulse, atol=1e-9)


def test_the_two_scales_of_lambda_differ_by_the_number_of_cells(rng):
    x, y = rng.standard_normal((2, 2, 3, 5, 6))
    (a,) = run(RLR(lambda_scale="n"), [x, y], [np.array(0.5)])
    (b,) = run(RLR(lambda_scale="1"), [x, y], [np.array(0.5 * 30)])
    assert np.allclose(a, b, atol=1e-14)
    pair = run(RLR(sum_channels=True), [x, y], [np.array(0.5)])
    other = run(RLR(sum_channels=True, lambda_scale="1"), [x, y], [np.array(0.5 * 90)])
    assert all(np.allclose(p, o, atol=1e-13) for p, o in zip(pair, other))


def test_single_precision_is_the_double_result_and_stays_single(rng):
    x, y = rng.standard_normal((2, 2, 3, 7, 6))
    der = rng.standard_normal(x.shape)
    lam = np.array([0.5])
    results = []
    for dtype in (np.float64, np.float32):
        a, b, g, p = (v.astype(dtype) for v in (x, y, der, lam))
        (r,), saved = RLR().forward([a, b], [p], Context())
        ders, der_params = RLR().backward([None, None], [p], [g], saved, Context())
        results.append([r, *ders, *der_params])
        assert all(v.dtype == dtype for v in results[-1])
    assert results[0][3].shape == (1,)
    for exact, single in zip(*results):
        assert np.abs(exact - single).max() < 2e-6 * np.abs(exact).max()


def test_derivatives_that_nobody_reads_are_not_computed(rng):
    x, y = rng.standard_normal((2, 1, 2, 4, 4))
    (r,), saved = RLR().forward([x, y], [np.array(1.0)], Context())
    (der_x, der_y), (der_lambda,) = RLR().backward(
        [None, None], [np.array(1.0)], [r], saved, Context(needs=(False, True))
    )
    assert der_x is None and der_y.shape == y.shape and der_lambda.shape == ()


def test_lambda_does_not_decay():
    assert RLR().param_attributes() == [{"weight_decay": 0.0}]


def test_sizes_are_those_of_the_outputs():
    x, y = np.ones((2, 3, 4, 5)), np.ones((2, 1, 4, 5))
    sizes = [Size(*x.shape), Size(*y.shape)]
    outputs = run(RLR(sum_channels=True), [x, y], [np.array(1.0)])
    layer = RLR(sum_channels=True)
    assert layer.get_output_sizes(sizes) == [Size(*o.shape) for o in outputs]
    assert RLR().get_output_sizes([sizes[0], sizes[0]]) == [Size(*x.shape)]
    assert RLR().get_receptive_fields(2, 1)[1][0].size == (math.inf, math.inf)


@pytest.mark.parametrize("lam", [0.0, -1.0, math.nan])
def test_a_lambda_that_is_not_positive_is_refused(lam):
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(ShapeError, match="greater than 0") as caught:
        run(RLR(), [x, x], [np.array(lam)])
    assert caught.value.param == 0


def test_shapes_that_do_not_fit_are_refused():
    x, lam = np.ones((2, 3, 4, 5)), np.array(1.0)
    with pytest.raises(ShapeError, match=r"expected shape \(2, 3, 4, 5\)") as caught:
        run(RLR(), [x, np.ones((2, 3, 5, 4))], [lam])
    assert caught.value.input == 1
    with pytest.raises(ShapeError, match="H x 1 or 1 x W"):
        run(RLR(), [x[0], x[0]], [lam])
    with pytest.raises(ShapeError, match="one number") as caught:
        run(RLR(), [x, x], [np.ones(3)])
    assert caught.value.param == 0


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="window"):
        RLR(window="hamming")
    with pytest.raises(ValueError, match="lambda_scale"):
        RLR(lambda_scale=2)


@pytest.mark.parametrize("width", [5, 6])
def test_what_is_kept_for_backward_is_what_was_announced(rng, width):
    x, y = rng.standard_normal((2, 2, 3, 4, width)).astype(np.float32)
    _, (arrays, _) = RLR().forward([x, y], [np.float32([0.5])], Context())
    sizes = [Size(*x.shape)] * 2
    assert RLR().saved_bytes(sizes) == sum(array.nbytes for array in arrays)
    assert RLR(sum_channels=True).saved_bytes(sizes) == 0
