"""Tests of layers.spectrum: half spectra by products with matrices and by the FFT alike."""

import numpy as np
import pytest

from dagnet import relative_error
from layers.spectrum import PRODUCT_UP_TO, double_sum, irfft2, real_sum, rfft2
from layers.window import hann

# Odd and even, not square, vectors, and sizes on either side of the borders between the ways.
SIZES = [(6, 6), (5, 4), (4, 7), (1, 6), (8, 1), (1, 1), (2, 2), (22, 22), (30, 24), (24, 30)]
SIZES += [(3, PRODUCT_UP_TO), (3, PRODUCT_UP_TO + 1), (26, 27), (9, 4), (1, 36), (37, 1), (13, 5)]
TOLERANCES = {"float32": 5e-7, "float64": 1e-14}


def window_plane(window, size):
    if window == "none":
        return np.ones(size)
    return np.outer(hann(size[0]), hann(size[1]))


@pytest.mark.parametrize("dtype, tolerance", TOLERANCES.items())
@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_half_spectrum_is_numpy_s_of_windowed_planes(rng, size, window, dtype, tolerance):
    x = rng.standard_normal((2, 3, *size)).astype(dtype)
    half = rfft2(x, window)
    expected = np.fft.rfft2(window_plane(window, size) * x.astype("float64"))
    assert half.dtype == np.result_type(dtype, np.complex64)
    assert relative_error(half, expected) < tolerance


@pytest.mark.parametrize("dtype, tolerance", TOLERANCES.items())
@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_inverse_gives_the_planes_back_and_windows_them(rng, size, window, dtype, tolerance):
    x = rng.standard_normal((2, 3, *size)).astype(dtype)
    planes = irfft2(rfft2(x), size, window)
    assert planes.dtype == dtype
    assert relative_error(planes, window_plane(window, size) * x.astype("float64")) < tolerance


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_inverse_of_any_half_spectrum_is_numpy_s(rng, size):
    shape = (2, 1, size[0], size[1] // 2 + 1)
    half = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    expected = np.fft.irfft2(half, s=size)
    # Columns that stand once have a mirror image of their own, of which the real part counts.
    assert np.allclose(irfft2(half.copy(), size), expected, rtol=0, atol=1e-14)


def test_planes_that_do_not_lie_in_c_order_have_the_same_spectrum(rng):
    x = rng.standard_normal((6, 5, 3, 2)).transpose(3, 2, 1, 0)
    assert np.allclose(rfft2(x, "hann"), rfft2(x.copy(), "hann"), rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sums_over_half_spectra_count_both_halves(rng, size):
    x, y = rng.standard_normal((2, 2, 3, *size))
    cells = size[0] * size[1]
    assert real_sum(rfft2(x), rfft2(y), size[1]) / cells == pytest.approx((x * y).sum(), rel=1e-11)
    assert double_sum(x * y) == pytest.approx((x * y).sum(), rel=1e-11)


def test_sums_of_single_precision_are_double(rng):
    products = rng.standard_normal((4, 8, 22, 22)).astype(np.float32)
    total = double_sum(products)
    assert total.dtype == np.float64
    exact = products.astype("float64").sum()
    assert abs(total - exact) < 1e-6 * np.abs(products).sum(dtype="float64")
