"""Tests of layers.kernels.conv_lines: convolution with few filters, against whole columns."""

from functools import partial

import numpy as np
import pytest

from dagnet import Context
from errors import prove
from layers import Conv, conv
from layers.kernels import conv_im2row as im2row
from layers.kernels import conv_lines

COLUMNS = 1 << 20

# x, filters, stride, pad, dilate: strides that part the kernel's rows, and leave rows unread.
GRID = [
    ((2, 3, 23, 21), (2, 3, 11, 11), 2, 0, 1),
    ((3, 4, 9, 8), (6, 2, 3, 3), 1, 1, 1),
    ((2, 2, 11, 13), (4, 1, 5, 5), (1, 2), (2, 0, 1, 3), 1),
    ((1, 3, 12, 11), (1, 3, 2, 3), (3, 1), 0, 1),
    ((2, 2, 13, 12), (2, 2, 3, 2), (3, 2), (1, 2, 0, 1), (2, 3)),
    ((2, 4, 12, 9), (4, 2, 4, 3), (2, 2), 0, (2, 1)),
    ((2, 2, 5, 4), (1, 2, 5, 4), 1, 0, 1),
]


def problem(rng, x_shape, f_shape, stride, pad, dilate, dtype=np.float64):
    """Input, filters, bias, and stride, pad, dilate as the kernels take them."""
    layer = Conv(size=f_shape, stride=stride, pad=pad, dilate=dilate)
    arrays = [rng.standard_normal(s).astype(dtype) for s in (x_shape, f_shape, f_shape[:1])]
    return *arrays, (layer.stride, layer.pad, layer.dilate)


def both(of):
    """With whole columns, and with lines where they suit."""
    return [partial(of, column_bytes=COLUMNS, lines=lines) for lines in (False, True)]


# Sample by sample, and all at once.
@pytest.mark.parametrize("line_bytes", [1, 1 << 30])
@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_lines_give_what_columns_give(
    rng, monkeypatch, x_shape, f_shape, stride, pad, dilate, line_bytes
):
    monkeypatch.setattr(conv_lines, "LINE_BYTES", line_bytes)
    x, f, b, where = problem(rng, x_shape, f_shape, stride, pad, dilate)
    assert conv_lines.suits(x, f)
    expected, y = (forward(x, f, b, *where) for forward in both(im2row.conv_im2row))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    assert y.flags.c_contiguous
    der_y = rng.standard_normal(y.shape)
    for needs_x in (True, False):
        expected, ders = (
            backward(x, f, der_y, *where, needs_x=needs_x)
            for backward in both(im2row.conv_im2row_backward)
        )
        assert (ders[0] is not None) == needs_x
        for der, wanted in zip(ders, expected):
            if wanted is not None:
                np.testing.assert_allclose(der, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID[1:5])
def test_gradient(rng, x_shape, f_shape, stride, pad, dilate):
    x, f, b, _ = problem(rng, x_shape, f_shape, stride, pad, dilate)
    prove(Conv(size=f_shape, stride=stride, pad=pad, dilate=dilate), [x], [f, b])


def test_single_precision_stays_single_and_near_double(rng):
    x, f, b, _ = problem(rng, *GRID[0], dtype=np.float32)
    layer = Conv(size=f.shape, stride=2)
    (y,), saved = layer.forward([x], [f, b], Context())
    (der_x,), ders = layer.backward([x], [f, b], [y], saved, Context())
    assert {a.dtype for a in (y, der_x, *ders)} == {np.dtype(np.float32)}
    exact = conv(*(a.astype(np.float64) for a in (x, f, b)), stride=(2, 2))
    assert np.abs(y - exact).max() < 1e-6 * np.abs(exact).max()


def test_long_sums_are_as_accurate_as_single_precision_can_hold_them(rng):
    # Images: their mean is most of what a filter gives, and batch norm takes it away.
    images, f = rng.uniform(0, 255, (2, 3, 63, 61)), rng.standard_normal((12, 3, 11, 11))
    x, f = images.astype(np.float32), f.astype(np.float32)
    exact = conv(x.astype(np.float64), f.astype(np.float64), stride=(2, 2))
    y = conv(x, f, stride=(2, 2))
    assert y.dtype == np.float32
    assert np.all(np.abs(y - exact) <= np.spacing(np.abs(y)) * 0.5001)


def test_what_no_window_reads_does_not_matter(rng):
    x, f, b, where = problem(rng, (1, 3, 12, 11), (1, 3, 2, 3), (5, 1), 0, 1)
    der_y = np.ones(conv(x, f, b, stride=(5, 1)).shape)
    backward = both(im2row.conv_im2row_backward)[True]
    expected = backward(x, f, der_y, *where, needs_x=True)
    # Windows begin at rows 0, 5 and 10, and are two rows high.
    unread = [2, 3, 4, 7, 8, 9]
    x[:, :, unread] = np.nan
    der_x, der_f = backward(x, f, der_y, *where, needs_x=True)
    np.testing.assert_array_equal(der_f, expected[1])
    assert not der_x[:, :, unread].any()


@pytest.mark.parametrize(
    ("f_shape", "expected"),
    [((96, 3, 11, 11), False), ((2, 3, 11, 11), True), ((4, 2, 1, 3), False)],
)
def test_many_filters_and_kernels_of_one_row_are_left_to_columns(f_shape, expected):
    x = np.empty((1, f_shape[1] * (1 if f_shape[1] == 3 else 2), 20, 20))
    assert conv_lines.suits(x, np.empty(f_shape)) == expected
