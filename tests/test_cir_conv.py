"""Tests of layers.cir_conv."""

import math

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import RLR, CirConv, filter_from_pair, update_change

SHAPES = [(1, 2, 6, 6), (3, 2, 5, 4), (2, 1, 4, 7), (3, 1, 5, 5), (2, 1, 3, 26)]
VECTORS = [(1, 2, 8, 1), (3, 2, 1, 7), (2, 1, 5, 1), (1, 1, 1, 6)]


def run(layer, inputs, lr):
    return layer.forward(inputs, [np.asarray(lr)], Context())[0][0]


def complex_normal(rng, shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("shape", SHAPES + VECTORS, ids=str)
def test_gradient(rng, shape, window):
    x, r = rng.standard_normal(shape), rng.standard_normal(shape)
    layer = CirConv(window=window)
    prove(layer, [x, r], [np.array(0.3)])
    prove(layer, [x, r[:1]], [np.array([0.3])])


@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("shape", SHAPES + VECTORS, ids=str)
def test_gradient_with_channels_summed(rng, shape, window):
    n, _, h, w = shape
    layer = CirConv(sum_channels=True, window=window)
    x, blended = rng.standard_normal(shape), rng.standard_normal((n, 2, h, w))
    for samples in {1, n}:
        alphaf = complex_normal(rng, (samples, 2, h, w))
        featf = complex_normal(rng, (samples, *shape[1:]))
        prove(layer, [x, blended, alphaf, featf], [np.array(0.3)])


def test_gradient_of_rlr_and_cir_conv_together(rng):
    """As the network has them: the derivative passes through R to what R was learned from."""
    x, y, z = rng.standard_normal((3, 1, 2, 5, 6))
    lam, lr = np.array(0.4), np.array(0.3)
    context = Context()
    learn, apply = RLR(), CirConv()

    def forward(x, y):
        (r,), learned = learn.forward([x, y], [lam], context)
        (out,), applied = apply.forward([z, r], [lr], context)
        return out, r, learned, applied

    out, r, learned, applied = forward(x, y)
    der = rng.standard_normal(out.shape)
    (_, der_r), _ = apply.backward([z, r], [lr], [der], applied, context)
    (der_x, der_y), _ = learn.backward([x, y], [lam], [der_r], learned, context)
    dx, dy = rng.standard_normal((2, *x.shape))
    step = 1e-5
    plus, minus = (forward(x + s * dx, y + s * dy)[0] for s in (step, -step))
    numerical = np.vdot(der, plus - minus) / (2 * step)
    assert np.vdot(der_x, dx) + np.vdot(der_y, dy) == pytest.approx(numerical, rel=1e-6)


@golden("dsiam_circonv")
def test_equals_the_original(case):
    assert_passes(case)


@golden("dsiam_circonv_real")
def test_equals_update_change_and_cir_conv_at_the_tracker_s_sizes(case):
    assert_passes(case)


def test_is_the_circular_convolution(rng):
    x, r = rng.standard_normal((2, 1, 2, 4, 5))
    t = np.zeros_like(x)
    for c, i, j, p, q in np.ndindex(2, 4, 5, 4, 5):
        t[0, c, i, j] += r[0, c, p, q] * x[0, c, (i - p) % 4, (j - q) % 5]
    assert np.allclose(run(CirConv(window="none"), [x, r], 1.0), t, atol=1e-13)
    assert np.allclose(run(CirConv(window="none"), [x, r], 0.25), 0.75 * x + 0.25 * t, atol=1e-13)


def test_the_window_is_on_the_transformed_part_alone(rng):
    x = rng.standard_normal((1, 2, 6, 7))
    impulse = np.zeros_like(x)
    impulse[:, :, 0, 0] = 1
    w = np.outer(np.hanning(6), np.hanning(7))
    assert np.allclose(run(CirConv(), [x, impulse], 0.3), 0.7 * x + 0.3 * w * x, atol=1e-14)


def test_a_summed_pair_of_one_channel_is_the_filter_behind_it(rng):
    x, y, z = rng.standard_normal((3, 2, 1, 6, 5))
    lam, lr = np.array(0.4), 0.3
    pair, _ = RLR(sum_channels=True).forward([x, y], [lam], Context())
    (r,), _ = RLR().forward([x, y], [lam], Context())
    summed = run(CirConv(sum_channels=True), [z, z, *pair], lr)
    assert np.allclose(summed, run(CirConv(), [z, r], lr), atol=1e-13)


def test_one_filter_serves_a_batch(rng):
    x, r = rng.standard_normal((3, 2, 5, 4)), rng.standard_normal((1, 2, 5, 4))
    together = run(CirConv(), [x, r], 0.3)
    for sample, y in zip(x, together):
        assert np.allclose(run(CirConv(), [sample[None], r], 0.3), y, atol=1e-14)


@pytest.mark.parametrize("sum_channels", [False, True])
def test_switched_off_it_passes_its_input_through(rng, sum_channels):
    layer = CirConv(enable=False, sum_channels=sum_channels)
    passed = 1 if sum_channels else 0
    inputs = [rng.standard_normal((1, 2, 3, 4)) for _ in range(4 if sum_channels else 2)]
    der, lr = rng.standard_normal((1, 2, 3, 4)), np.array([0.3])
    (y,), saved = layer.forward(inputs, [lr], Context())
    assert y is inputs[passed]
    ders, (der_lr,) = layer.backward(inputs, [lr], [der], saved, Context())
    assert [d is der for d in ders] == [i == passed for i in range(len(inputs))]
    assert all(d is None for i, d in enumerate(ders) if i != passed)
    assert der_lr.tolist() == [0.0]
    can = layer.differentiable_inputs(len(inputs))
    assert [i for i, c in enumerate(can) if c] == [passed]
    assert CirConv().differentiable_inputs(2) == (True, True)


def test_single_precision_is_the_double_result_and_stays_single(rng):
    x, r = rng.standard_normal((2, 2, 3, 7, 6))
    der = rng.standard_normal(x.shape)
    results = []
    for dtype in (np.float64, np.float32):
        a, b, g, lr = (np.asarray(v, dtype) for v in (x, r, der, [0.3]))
        (y,), saved = CirConv().forward([a, b], [lr], Context())
        ders, der_params = CirConv().backward([a, b], [lr], [g], saved, Context())
        results.append([y, *ders, *der_params])
        assert all(v.dtype == dtype for v in results[-1])
    for exact, single in zip(*results):
        assert np.abs(exact - single).max() < 2e-6 * np.abs(exact).max()


def test_a_double_learning_rate_does_not_make_single_features_double(rng):
    x, r = rng.standard_normal((2, 1, 2, 6, 6)).astype(np.float32)
    assert run(CirConv(), [x, r], np.float64(0.3)).dtype == np.float32


def test_derivatives_that_nobody_reads_are_not_computed(rng):
    x, r = rng.standard_normal((2, 1, 2, 4, 4))
    lr = [np.array(0.3)]
    (y,), saved = CirConv().forward([x, r], lr, Context())
    ders, _ = CirConv().backward([x, r], lr, [y], saved, Context(needs=(True, False)))
    assert ders[0] is not None and ders[1] is None


def test_the_learning_rate_does_not_decay():
    assert CirConv().param_attributes() == [{"weight_decay": 0.0}]


def test_sizes_are_those_of_the_output():
    x, r, x2 = Size(3, 2, 5, 4), Size(1, 2, 5, 4), Size(3, 1, 5, 4)
    assert CirConv().get_output_sizes([x, r]) == [x]
    assert CirConv(sum_channels=True).get_output_sizes([x, x2, x2, r]) == [x2]
    assert CirConv().get_receptive_fields(2, 1)[0][0].size == (math.inf, math.inf)


@pytest.mark.parametrize("shape", [(2, 2, 5, 4), (3, 1, 5, 4), (3, 2, 4, 5), (0, 2, 5, 4)], ids=str)
def test_a_filter_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match=r"expected shape \(3, 2, 5, 4\)") as caught:
        run(CirConv(), [np.ones((3, 2, 5, 4)), np.ones(shape)], 0.3)
    assert caught.value.input == 1


def test_bad_calls_are_refused():
    x = np.ones((1, 2, 3, 4))
    with pytest.raises(ShapeError, match="expected 2 inputs"):
        run(CirConv(), [x], 0.3)
    with pytest.raises(ShapeError, match="expected 4 inputs"):
        run(CirConv(sum_channels=True), [x, x], 0.3)
    with pytest.raises(ShapeError, match="one number"):
        run(CirConv(), [x, x], [0.3, 0.4])
    with pytest.raises(ValueError, match="window"):
        CirConv(window="blackman")


def test_a_pair_kept_by_a_public_tracker_gives_its_filter(rng):
    """cir11_alphaf and cir11_featf of a saved network, from update_change."""
    x, y = rng.standard_normal((2, 1, 3, 6, 6))
    (r,), _ = RLR().forward([x, y], [np.array(0.1)], Context())
    assert np.allclose(filter_from_pair(*update_change(x, y, 0.1)), r, atol=1e-14)


@pytest.mark.parametrize("width", [5, 6])
def test_what_is_kept_for_backward_is_what_was_announced(rng, width):
    x, r = (rng.standard_normal((n, 2, 4, width)).astype(np.float32) for n in (3, 1))
    sizes = [Size(*x.shape), Size(*r.shape)]
    for layer in (CirConv(), CirConv(enable=False)):
        _, saved = layer.forward([x, r], [np.float32([0.3])], Context())
        assert layer.saved_bytes(sizes) == sum(array.nbytes for array in saved or ())
