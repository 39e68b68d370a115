"""Tests of layers.pooling."""

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import Pooling, avg_pool, max_pool, max_pool_backward

# x, pool_size, stride, pad
GRID = [
    ((2, 3, 6, 7), 2, 2, 0),
    ((2, 2, 7, 5), 3, 2, 0),
    ((2, 2, 6, 5), (3, 2), 1, 0),
    ((2, 2, 7, 8), (3, 2), (2, 3), (1, 2, 0, 1)),
    ((1, 2, 8, 9), (5, 4), 3, (2, 1, 3, 0)),
    ((3, 2, 4, 4), 1, 2, 0),
    ((2, 2, 4, 5), (4, 5), 1, 0),
]


def distinct(rng, shape):
    """Values further apart than the checker's step, so that no maximum changes hands."""
    return rng.permutation(np.prod(shape)).reshape(shape) * 0.01


def brute(x, layer, reduce):
    """``reduce`` of every clipped window, one at a time."""
    (kh, kw), (sv, sh), (top, _, left, _) = layer.pool_size, layer.stride, layer.pad
    _, _, height, width = layer.get_output_sizes([Size(*x.shape)])[0]
    y = np.empty((*x.shape[:2], int(height), int(width)))
    for p, q in np.ndindex(y.shape[2:]):
        rows = slice(max(p * sv - top, 0), p * sv - top + kh)
        columns = slice(max(q * sh - left, 0), q * sh - left + kw)
        y[:, :, p, q] = reduce(x[:, :, rows, columns], axis=(2, 3))
    return y


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize(("shape", "size", "stride", "pad"), GRID)
def test_gradient(rng, shape, size, stride, pad, method):
    layer = Pooling(method=method, pool_size=size, stride=stride, pad=pad)
    prove(layer, [distinct(rng, shape)])


@pytest.mark.parametrize("method", ["max", "avg"])
@pytest.mark.parametrize(("shape", "size", "stride", "pad"), GRID)
def test_equals_each_window_taken_alone(rng, shape, size, stride, pad, method):
    layer = Pooling(method=method, pool_size=size, stride=stride, pad=pad)
    x = rng.standard_normal(shape) - 5  # so that padding with zeros would win
    (y,), _ = layer.forward([x], [], Context())
    expected = brute(x, layer, np.max if method == "max" else np.mean)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)
    assert tuple(layer.get_output_sizes([Size(*shape)])[0]) == y.shape


def test_a_tie_goes_to_the_leftmost_column_and_in_it_to_the_topmost_row():
    x = np.array([[[[1.0, 7.0, 2.0], [3.0, 7.0, 7.0], [7.0, 0.0, 7.0]]]])
    y, winners = max_pool(x, (3, 3))
    der = max_pool_backward(np.full_like(y, 2.0), winners, (3, 3), (3, 3))
    assert y.item() == 7
    assert der.tolist() == [[[[0, 0, 0], [0, 0, 0], [2, 0, 0]]]]
    y, winners = max_pool(x[..., 1:], (3, 2))
    der = max_pool_backward(np.full_like(y, 2.0), winners, (3, 2), (3, 2))
    assert der.tolist() == [[[[2, 0], [0, 0], [0, 0]]]]


def test_a_cell_that_wins_several_windows_collects_their_derivatives():
    x = np.zeros((1, 1, 3, 3))
    x[..., 1, 1] = 1
    _, winners = max_pool(x, (2, 2))
    der_y = np.array([[[[1.0, 2.0], [4.0, 8.0]]]])
    der = max_pool_backward(der_y, winners, (3, 3), (2, 2))
    assert der[0, 0, 1, 1] == 15 and der.sum() == 15


def test_nan_never_wins_and_a_window_of_nan_alone_has_no_derivative():
    nan = np.nan
    x = np.array([[[[nan, 1.0, nan, nan], [0.5, nan, nan, nan]]]])
    y, winners = max_pool(x, (2, 2), stride=(2, 2))
    assert y.tolist() == [[[[1.0, -np.inf]]]]
    der = max_pool_backward(np.array([[[[3.0, 5.0]]]]), winners, (2, 4), (2, 2), stride=(2, 2))
    assert der.tolist() == [[[[0, 3, 0, 0], [0, 0, 0, 0]]]]


def test_an_average_divides_by_the_cells_inside_the_input():
    y = avg_pool(np.ones((1, 1, 3, 4)), (2, 3), stride=(1, 2), pad=(1, 1, 2, 1))
    assert (y == 1).all()


@pytest.mark.parametrize("side", [2, 255, 256])
def test_winners_are_the_smallest_unsigned_integers_that_hold_the_window(rng, side):
    x = distinct(rng, (1, 1, side, 1))
    y, winners = max_pool(x, (side, 1))
    assert winners[0].dtype == (np.uint8 if side < 256 else np.uint16)
    der = max_pool_backward(np.ones_like(y), winners, (side, 1), (side, 1))
    assert der.argmax() == x.argmax() and der.sum() == 1


@pytest.mark.parametrize("method", ["max", "avg"])
def test_backward_needs_no_input_and_single_precision_stays_single(rng, method):
    layer = Pooling(method=method, pool_size=3, stride=2)
    assert not layer.backward_uses_inputs
    x = rng.standard_normal((2, 3, 7, 9)).astype(np.float32)
    (y,), saved = layer.forward([x], [], Context())
    (der_x,), _ = layer.backward([None], [], [y], saved, Context())
    assert y.dtype == der_x.dtype == np.float32 and der_x.shape == x.shape


def test_input_is_left_as_it_was(rng):
    x = rng.standard_normal((2, 3, 7, 9))
    for size in ((1, 1), (3, 2)):
        for pool in (avg_pool, max_pool):
            before = x.copy()
            pool(x, size)
            np.testing.assert_array_equal(x, before)


def test_settings_and_shapes_that_cannot_be_are_refused(rng):
    with pytest.raises(ValueError, match="method"):
        Pooling(method="median")
    with pytest.raises(ValueError, match="pool_size"):
        Pooling(pool_size=(2, 0))
    with pytest.raises(ValueError, match="dilation"):
        Pooling(pool_size=2, dilate=2)
    x = rng.standard_normal((2, 3, 4, 5))
    with pytest.raises(ShapeError, match="smaller than the window"):
        max_pool(x, (2, 3), pad=(2, 0, 0, 0))
    with pytest.raises(ShapeError, match=r"5x2.*4x5") as error:
        avg_pool(x, (5, 2))
    assert error.value.input == 0
    with pytest.raises(ShapeError, match="N, C, H, W"):
        max_pool(x[0], (2, 2))
    _, winners = max_pool(x, (2, 2))
    with pytest.raises(ShapeError, match="derivative by the output"):
        max_pool_backward(x, winners, (4, 5), (2, 2))


@golden("layers_vl_nnpool")
def test_equals_vl_nnpool(case):
    assert_passes(case)
