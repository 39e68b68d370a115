"""MatConvNet's test class nnconv: convolution over its grid of parameters."""

from itertools import product

import numpy as np
import pytest

from layers import Conv, conv, conv_backward
from suite import check_derivatives, equal, over_kinds

NO_FILTERS = np.zeros((0, 0, 0, 0))
BIAS = pytest.mark.parametrize("bias", [False, True])


def check(kind, rng, x_shape, f_shape, bias, **how):
    """``f_shape`` is None for empty filters."""
    x = rng.standard_normal(x_shape)
    params = [NO_FILTERS if f_shape is None else rng.standard_normal(f_shape)]
    if bias:
        params.append(rng.standard_normal(x_shape[1] if f_shape is None else f_shape[0]))
    layer = Conv(size=params[0].shape, has_bias=bias, **how)
    constant = [0] if f_shape is None else []
    check_derivatives(kind, layer, [x], params, constant_params=constant)


@over_kinds
def test_identity_filters(rng, kind):
    check(kind, rng, (4, 10, 1, 1), None, True)


@over_kinds
@BIAS
@pytest.mark.parametrize("height", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [0, 1, 3, 5])
def test_filter_shapes(rng, kind, width, height, bias):
    empty = width == 0 or height == 0
    check(kind, rng, (3, 10, 3, 5), None if empty else (5, 10, height, width), bias)


@over_kinds
@BIAS
@pytest.mark.parametrize("dilate", list(product((1, 2, 3), repeat=2)))
@pytest.mark.parametrize("stride", list(product((1, 2, 3), repeat=2)))
def test_dilation(rng, kind, stride, dilate, bias):
    check(kind, rng, (3, 10, 9, 16), (5, 10, 3, 2), bias, stride=stride, dilate=dilate)


@over_kinds
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("stride", list(product((1, 2, 3), repeat=2)))
def test_a_stride_takes_cells_of_the_dense_output(rng, kind, stride, empty):
    x = kind.array(rng.standard_normal((1, 1, 9, 9)))
    f = None if empty else kind.array(rng.standard_normal((1, 1, 3, 3)))
    y = conv(x, f)
    taken = (..., slice(None, None, stride[0]), slice(None, None, stride[1]))
    equal(conv(x, f, stride=stride), y[taken], kind)
    der_y = kind.array(rng.standard_normal(y.shape))
    sparse = kind.array(np.zeros(y.shape))
    sparse[taken] = der_y[taken]
    dense, strided = (
        conv_backward(x, f, None, sparse),
        conv_backward(x, f, None, sparse[taken].copy(), stride=stride),
    )
    equal(strided[0], dense[0], kind)
    if not empty:
        equal(strided[1], dense[1], kind)


@over_kinds
@pytest.mark.parametrize("pad", list(product((0, 1, 2), repeat=4)))
def test_padding_surrounds_the_output(rng, kind, pad):
    x = kind.array(rng.standard_normal((1, 1, 9, 9)))
    f = kind.array(rng.standard_normal((1, 1, 3, 3)))
    y = conv(x, f)
    top, bottom, left, right = pad
    padded = conv(x, f, pad=pad)
    inner = (..., slice(top, top + y.shape[2]), slice(left, left + y.shape[3]))
    assert padded.shape[2:] == (y.shape[2] + top + bottom, y.shape[3] + left + right)
    equal(padded[inner], y, kind)
    der_y = kind.array(rng.standard_normal(y.shape))
    around = kind.array(np.zeros(padded.shape))
    around[inner] = der_y
    plain = conv_backward(x, f, None, der_y)
    for actual, expected in zip(conv_backward(x, f, None, around, pad=pad)[:2], plain):
        equal(actual, expected, kind)


@over_kinds
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("empty", [False, True])
def test_padding_and_stride(rng, kind, empty, pad, stride):
    f_shape = None if empty else (5, 4, 3, 3)
    check(kind, rng, (2, 4, 16, 15), f_shape, True, pad=pad, stride=stride)


@over_kinds
@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_filter_groups_are_filters_with_zeros(rng, kind, height, width):
    whole = rng.standard_normal((3, 9, height, width))
    grouped = np.stack([whole[k, 3 * k : 3 * k + 3] for k in range(3)])
    for k in range(3):
        whole[k, : 3 * k] = whole[k, 3 * k + 3 :] = 0
    x = rng.standard_normal((3, 9, 13, 9))
    y = conv(kind.array(x), kind.array(grouped))
    equal(y, conv(kind.array(x), kind.array(whole)), kind)
    check_derivatives(kind, Conv(size=grouped.shape, has_bias=False), [x], [grouped])


LARGE = [((0, 0, 0, 0), (1, 1)), ((5, 5, 8, 8), (1, 1)), ((5, 5, 8, 8), (3, 2))]


@over_kinds
@pytest.mark.slow
@pytest.mark.parametrize(("pad", "stride"), LARGE)
def test_large_filters(rng, kind, pad, stride):
    check(kind, rng, (8, 8, 64, 64), (10, 8, 11, 11), True, pad=pad, stride=stride)
