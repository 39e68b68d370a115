"""Tests of layers.corr_filter."""

import math

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import CorrFilter, XCorr, corr_filter, gaussian_response, rlr
from suite import check_derivatives, over_kinds

# (N, C, H, W): odd, even, not square, vectors, one cell.
SHAPES = [
    (1, 1, 5, 5),
    (2, 3, 4, 4),
    (3, 2, 4, 7),
    (2, 2, 9, 6),
    (1, 3, 1, 6),
    (2, 1, 5, 1),
    (2, 3, 1, 1),
]


def shifts(plane):
    """The matrix whose row ``u`` is ``plane`` at ``u + t``: times ``w``, the correlation at u."""
    height, width = plane.shape
    rows, columns = np.divmod(np.arange(plane.size), width)
    return plane[(rows[:, None] + rows) % height, (columns[:, None] + columns) % width]


def unshifted(matrix, shape):
    """The adjoint of ``shifts``."""
    height, width = shape
    rows, columns = np.divmod(np.arange(height * width), width)
    result = np.zeros(shape)
    places = ((rows[:, None] + rows) % height, (columns[:, None] + columns) % width)
    np.add.at(result, places, matrix)
    return result


def dense(x, y, penalty, bias):
    """Ridge regression of one sample x (C, H, W) by a dense solve: ``A``, its normal matrix, w, b.

    With a bias ``A`` has a last column of ones, whose weight is not penalised.
    """
    n = y.size
    a = np.concatenate([shifts(plane) for plane in x], axis=1)
    penalties = np.full(a.shape[1], penalty)
    if bias:
        a, penalties = np.column_stack([a, np.ones(n)]), np.append(penalties, 0)
    normal = a.T @ a / n + np.diag(penalties)
    solution = np.linalg.solve(normal, a.T @ y.ravel() / n)
    return a, normal, solution


def forward(layer, x, y, **context):
    return layer.forward([x], [y], Context(**context))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(rng, shape, bias):
    x, y = rng.standard_normal(shape), rng.standard_normal(shape[2:])
    layer = CorrFilter(lambda_=0.1, bias=bias)
    prove(layer, [x], [y])
    prove(layer, [x], [y.reshape(1, 1, *y.shape)])
    if bias:
        prove(layer, [x], [y], der_outputs=[None, rng.standard_normal((len(x), 1, 1, 1))])


@pytest.mark.parametrize("penalty", [1e-3, 10.0])
def test_gradient_at_other_penalties(rng, penalty):
    x, y = rng.standard_normal((2, 4, 8, 7)), gaussian_response((8, 7), 1.0)
    prove(CorrFilter(lambda_=penalty, bias=False), [x], [y])


@over_kinds
@pytest.mark.parametrize("shape", [*SHAPES, (2, 8, 30, 27)])
def test_derivatives_in_both_precisions_and_on_every_device(rng, kind, shape):
    x, y = rng.standard_normal(shape), rng.standard_normal(shape[2:])
    check_derivatives(kind, CorrFilter(lambda_=0.1, bias=False), [x], [y])


@golden("cfnet", lambda name: name.startswith("filter"))
def test_equals_the_original(case):
    assert_passes(case)


@golden("cfnet", lambda name: name.startswith("response"))
def test_the_response_equals_the_originals(case):
    assert_passes(case)


def test_two_cells_by_hand():
    """Spectra (4, 2) and (1, 1), with 16 + 2 and 4 + 2 below: (2/9, 1/3) is the template's."""
    x, y = np.array([3.0, 1.0]).reshape(1, 1, 1, 2), np.array([[1.0, 0.0]])
    (w,), _ = forward(CorrFilter(lambda_=1, bias=False), x, y)
    np.testing.assert_allclose(w.ravel(), [5 / 18, -1 / 18], rtol=1e-14)
    (w, b), _ = forward(CorrFilter(lambda_=1), x, y)
    np.testing.assert_allclose(w.ravel(), [1 / 6, -1 / 6], rtol=1e-14)
    assert b.ravel() == [0.5]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_dense_solution_of_the_ridge_regression(rng, shape, bias):
    x, y = rng.standard_normal(shape), rng.standard_normal(shape[2:])
    (w, *b), _ = forward(CorrFilter(lambda_=0.3, bias=bias), x, y)
    for sample, template in enumerate(w):
        _, _, solution = dense(x[sample], y, 0.3, bias)
        found = np.append(template.ravel(), [c[sample].ravel() for c in b])
        np.testing.assert_allclose(found, solution, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_are_those_of_the_dense_solution(rng, shape, bias):
    """``M s = A'y / n`` with ``M = A'A / n + penalties``: with ``v = M^-1 G / n``, ``G`` the
    derivative by the solution ``s``, ``dA`` has ``(y - A s) v' - A v s'`` and ``dy`` has ``A v``.
    """
    x, y = rng.standard_normal(shape), rng.standard_normal(shape[2:])
    n, layer = y.size, CorrFilter(lambda_=0.3, bias=bias)
    (w, *b), saved = forward(layer, x, y)
    ders = [rng.standard_normal(o.shape) for o in (w, *b)]
    (der_x,), (der_y,) = layer.backward([None], [y], ders, saved, Context())
    expected_y = np.zeros(n)
    for sample in range(len(x)):
        a, normal, solution = dense(x[sample], y, 0.3, bias)
        g = np.concatenate([d[sample].ravel() for d in ders])
        v = np.linalg.solve(normal, g) / n
        der_a = np.outer(y.ravel() - a @ solution, v) - np.outer(a @ v, solution)
        expected_y += a @ v
        for channel, plane in enumerate(der_x[sample]):
            columns = der_a[:, channel * n : (channel + 1) * n]
            np.testing.assert_allclose(plane, unshifted(columns, y.shape), rtol=0, atol=1e-12)
    np.testing.assert_allclose(der_y.ravel(), expected_y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_no_other_template_does_better(rng, bias):
    x, y = rng.standard_normal((1, 3, 5, 6)), rng.standard_normal((5, 6))
    w, b, _ = corr_filter(x, y, 0.2, bias)
    a = np.concatenate([shifts(plane) for plane in x[0]], axis=1)

    def cost(template, number):
        error = a @ template.ravel() + number - y.ravel()
        return (error**2).mean() / 2 + 0.2 / 2 * (template**2).sum()

    number = 0.0 if b is None else float(b.item())
    least = cost(w, number)
    for _ in range(20):
        step = 1e-3 * rng.standard_normal(w.shape)
        assert cost(w + step, number) > least
        assert not bias or cost(w, number + 1e-3 * rng.standard_normal()) > least


def test_one_channel_is_the_filter_of_rlr_turned_round(rng):
    """RLR's filter convolves, this one correlates: indices run the other way round the plane."""
    x, y = rng.standard_normal((2, 1, 5, 6)), rng.standard_normal((5, 6))
    w, _, _ = corr_filter(x, y, 0.2)
    r, _ = rlr(x, np.broadcast_to(y, x.shape).copy(), 0.2 * y.size, "none")
    turned = np.roll(r[..., ::-1, ::-1], (1, 1), axis=(2, 3))
    np.testing.assert_allclose(w, turned, atol=1e-14)


def test_samples_do_not_know_of_each_other(rng):
    x, y = rng.standard_normal((3, 2, 6, 5)), rng.standard_normal((6, 5))
    layer = CorrFilter()
    (w, b), _ = forward(layer, x, y)
    for sample in range(3):
        (alone, _), _ = forward(layer, x[sample : sample + 1], y)
        np.testing.assert_allclose(w[sample : sample + 1], alone, rtol=1e-13, atol=1e-13)
    assert b.shape == (3, 1, 1, 1) and np.ptp(b) == 0


def test_shifts_of_example_and_response_together_leave_the_template(rng):
    x, y = rng.standard_normal((1, 2, 6, 5)), rng.standard_normal((6, 5))
    w, _, _ = corr_filter(x, y, 0.1)
    shifted, _, _ = corr_filter(np.roll(x, (2, 3), (2, 3)), np.roll(y, (2, 3), (0, 1)), 0.1)
    np.testing.assert_allclose(shifted, w, atol=1e-13)


def test_a_channel_that_stands_twice_shares_its_template(rng):
    x, y = rng.standard_normal((1, 2, 6, 5)), rng.standard_normal((6, 5))
    once, _, _ = corr_filter(x, y, 0.1)
    twice, _, _ = corr_filter(np.concatenate([x, x], axis=1), y, 0.2)
    np.testing.assert_allclose(twice, np.concatenate([once, once], axis=1) / 2, atol=1e-14)


def test_scaled_features_have_the_inverse_template_at_a_scaled_penalty(rng):
    x, y = rng.standard_normal((2, 2, 4, 5)), rng.standard_normal((4, 5))
    w, _, _ = corr_filter(x, y, 0.1)
    scaled, _, _ = corr_filter(4 * x, y, 16 * 0.1)
    np.testing.assert_allclose(scaled, w / 4, atol=1e-14)


@pytest.mark.parametrize("bias", [False, True])
def test_a_small_penalty_gives_the_wanted_response(rng, bias):
    """Through XCorr, whose map lies without a shift in the middle of two turns of the plane."""
    x, y = rng.standard_normal((2, 4, 6, 7)), gaussian_response((6, 7), 1.0)
    (w, *b), _ = forward(CorrFilter(lambda_=1e-9, bias=bias), x, y)
    twice = np.tile(x, (1, 1, 2, 2))[:, :, :-1, :-1]
    (response,), _ = XCorr(bias=bias).forward([w, twice, *b], [], Context())
    np.testing.assert_allclose(response[:, 0], np.stack([y, y]), atol=1e-6)
    assert np.unravel_index(response[0, 0].argmax(), y.shape) == (0, 0)


def test_a_great_penalty_gives_the_correlation_of_example_and_response(rng):
    x, y = rng.standard_normal((1, 2, 5, 6)), rng.standard_normal((5, 6))
    w, _, _ = corr_filter(x, y, 1e9)
    correlation = np.stack([(shifts(plane).T @ y.ravel()).reshape(5, 6) for plane in x[0]])
    np.testing.assert_allclose(1e9 * w[0] * y.size, correlation, atol=1e-6)


def test_with_a_bias_the_template_has_no_mean_and_the_bias_is_the_responses(rng):
    x, y = 3 + rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((5, 6))
    (w, b), _ = forward(CorrFilter(lambda_=0.1), x, y)
    np.testing.assert_allclose(w.mean(axis=(2, 3)), 0, atol=1e-15)
    np.testing.assert_allclose(b, y.mean(), rtol=1e-14)
    # So a change of all features by one number changes nothing.
    (moved, _), _ = forward(CorrFilter(lambda_=0.1), x + 5, y)
    np.testing.assert_allclose(moved, w, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
def test_single_precision_is_kept_and_near_double(rng, bias):
    x, y = rng.standard_normal((2, 8, 33, 32)), gaussian_response((33, 32), 2.0)
    layer = CorrFilter(lambda_=10, bias=bias)
    outputs, saved = forward(layer, x, y)
    ders = layer.backward([None], [y], outputs, saved, Context())
    # A parameter in double precision makes nothing double.
    single, saved = forward(layer, x.astype(np.float32), y)
    single_ders = layer.backward([None], [y], single, saved, Context())
    for found, expected in zip((*single, *single_ders[0]), (*outputs, *ders[0])):
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert single_ders[1][0].dtype == np.float64
    error = np.abs(single_ders[1][0] - ders[1][0]).max()
    assert error <= 1e-5 * np.abs(ders[1][0]).max()


@pytest.mark.parametrize("ders", [(None, 1.0), (1.0, None)])
def test_an_output_without_a_derivative_counts_as_zero(rng, ders):
    x, y = rng.standard_normal((2, 2, 4, 5)), rng.standard_normal((4, 5))
    layer = CorrFilter()
    outputs, saved = forward(layer, x, y)
    given = [None if d is None else np.full(o.shape, d) for d, o in zip(ders, outputs)]
    zeros = [np.zeros(o.shape) if d is None else d for d, o in zip(given, outputs)]
    (der_x,), (der_y,) = layer.backward([None], [y], given, saved, Context())
    (full_x,), (full_y,) = layer.backward([None], [y], zeros, saved, Context())
    np.testing.assert_allclose(der_y, full_y, atol=1e-15)
    np.testing.assert_allclose(0 if der_x is None else der_x, full_x, atol=1e-15)


def test_the_derivative_by_the_example_is_left_out_where_nobody_reads_it(rng):
    x, y = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((4, 5))
    layer = CorrFilter(bias=False)
    (w,), saved = forward(layer, x, y)
    (_,), (expected,) = layer.backward([None], [y], [w], saved, Context())
    (der_x,), (der_y,) = layer.backward([None], [y], [w], saved, Context(needs=(False,)))
    assert der_x is None and np.array_equal(der_y, expected)


@pytest.mark.parametrize("bias", [False, True])
def test_sizes_are_those_of_the_outputs_and_fields_the_whole_plane(rng, bias):
    x, y = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((6, 5))
    layer = CorrFilter(bias=bias)
    outputs, _ = forward(layer, x, y)
    sizes = layer.get_output_sizes([Size(*x.shape)])
    assert [tuple(s) for s in sizes] == [o.shape for o in outputs]
    fields = layer.get_receptive_fields(1, len(outputs))
    assert [f.size for f in fields[0]] == [(math.inf, math.inf)] * len(outputs)
    assert all(f.stride == (1, 1) and f.offset == (1, 1) for f in fields[0])


def test_the_response_falls_off_around_the_first_cell():
    y = gaussian_response((5, 4), 2.0)
    assert y.shape == (5, 4) and y[0, 0] == 1
    assert y[1, 0] == y[4, 0] == y[0, 1] == y[0, 3] == pytest.approx(math.exp(-1 / 8), rel=1e-15)
    assert y[2, 2] == y[3, 2] == pytest.approx(math.exp(-(4 + 4) / 8), rel=1e-15)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_response((5, 4), 0)


def test_the_response_is_trained_only_where_its_learning_rate_says_so():
    net = DagNN()
    net.add_layer("cf", CorrFilter(), "x", ["w", "b"], "y")
    record = net.get_param("y")
    assert record.learning_rate == 0 and record.weight_decay == 0


def test_bad_input_is_refused(rng):
    x, y = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((4, 5))
    for penalty in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="lambda must be a finite number"):
            CorrFilter(lambda_=penalty)
    with pytest.raises(ShapeError, match="features") as error:
        forward(CorrFilter(), x[0], y)
    assert error.value.input == 0
    for wrong in (y.T, y[None], np.ones(20), np.stack([[y], [y]])):
        with pytest.raises(ShapeError, match="response of the features' size") as error:
            forward(CorrFilter(), x, wrong)
        assert error.value.param == 0
    layer = CorrFilter(bias=False)
    _, saved = forward(layer, x, y)
    with pytest.raises(ShapeError, match="derivative by the output"):
        layer.backward([None], [y], [x[..., :-1]], saved, Context())
