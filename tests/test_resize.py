"""Tests of layers.resize."""

import math

import numpy as np
import pytest

from golden import assert_passes, golden
from layers.resize import imresize, imresize_adjoint, resize_matrix

PAIRS = [(17, 272), (37, 127), (300, 127), (255, 255), (19, 17), (1, 3), (5, 1), (40, 13)]


@golden("imresize")
def test_equals_matlab(case):
    assert_passes(case)


@golden("imresize", lambda name: name.startswith("matlab_ref"))
def test_equals_what_matlab_itself_printed(case):
    """Values recorded from MATLAB in the test-suite of Octave's image package, bit for bit for
    uint8; the doubles are printed with five digits."""
    (printed,) = [c for c in assert_passes(case).comparisons if c.what == "expected"]
    assert (printed.allowed == 0) == (case.tensor("x").dtype == np.uint8)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size_in, size_out", PAIRS)
def test_a_constant_stays_constant(size_in, size_out, kernel):
    matrix = resize_matrix(size_in, size_out, kernel=kernel)
    assert matrix.shape == (size_out, size_in)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-14)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size_in, size_out", PAIRS)
def test_a_mirrored_image_gives_the_mirrored_result(size_in, size_out, kernel):
    matrix = resize_matrix(size_in, size_out, kernel=kernel)
    assert np.allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
def test_a_ramp_stays_a_ramp_away_from_the_edges(kernel):
    """Both kernels reproduce straight lines; output cell i lies at (i + 1/2)/scale - 1/2."""
    ramp = np.arange(40.0)
    y = resize_matrix(40, 70, kernel=kernel) @ ramp
    place = (np.arange(70) + 0.5) / (70 / 40) - 0.5
    assert np.allclose(y[4:-4], place[4:-4], atol=1e-12)


def test_enlarging_by_two_has_the_weights_of_the_cubic_at_quarters():
    """Keys' kernel at distances 7/4, 3/4, 1/4, 5/4: -3, 29, 111, -9 of 128."""
    row = resize_matrix(10, 20)[8]  # at 8.5/2 - 0.5 = 3.75 of the input, 0-based
    assert np.allclose(row[2:6] * 128, [-3, 29, 111, -9])


def test_the_same_size_is_the_identity(rng):
    x = rng.standard_normal((2, 3, 6, 7))
    assert np.array_equal(imresize(x, size=(6, 7)), x)
    assert np.allclose(resize_matrix(6, 6), np.eye(6), atol=1e-15)


def test_the_scale_given_sets_the_grid_not_the_size_it_is_rounded_up_to():
    assert imresize(np.zeros((13, 13)), 127 / 13).shape == (128, 128)
    given, by_size = resize_matrix(13, 128, 127 / 13), resize_matrix(13, 128)
    assert np.abs(given - by_size).max() > 1e-3
    ramp = np.arange(13.0)
    assert (given @ ramp)[64] == pytest.approx((64.5) / (127 / 13) - 0.5)


def test_integers_are_rounded_half_away_from_zero_and_saturate():
    assert imresize(np.array([[0, 1]], np.int16), size=(1, 1)).item() == 1
    assert imresize(np.array([[0, -1]], np.int16), size=(1, 1)).item() == -1
    step = np.array([[0, 0, 0, 255, 255, 255]], np.uint8)
    y = imresize(step, size=(1, 12))
    assert y.dtype == np.uint8 and y.min() == 0 and y.max() == 255
    assert imresize(step.astype(float), size=(1, 12)).max() > 255  # the overshoot that is cut


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize(
    "shape, size", [((300, 280), (127, 255)), ((33, 29), (17, 40)), ((17, 3), (272, 1))]
)
def test_the_passes_are_the_two_matrices(rng, shape, size, dtype, tolerance):
    x = rng.standard_normal((2, 3, *shape)).astype(dtype)
    rows, columns = (resize_matrix(i, o) for i, o in zip(shape, size))
    y = imresize(x, size=size)
    assert y.dtype == dtype and y.shape == (2, 3, *size)
    assert np.abs(y - rows @ x.astype(np.float64) @ columns.T).max() < tolerance


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape, size", [((300, 280), (127, 255)), ((9, 8), (17, 5))])
def test_the_adjoint_satisfies_its_definition(rng, shape, size, kernel):
    x, y = rng.standard_normal((2, *shape)), rng.standard_normal((2, *size))
    left = np.vdot(y, imresize(x, size=size, kernel=kernel))
    right = np.vdot(imresize_adjoint(y, x.shape, size=size, kernel=kernel), x)
    assert left == pytest.approx(right, rel=1e-12)


def test_the_adjoint_takes_a_scale(rng):
    x = rng.standard_normal((13, 11))
    y = rng.standard_normal(tuple(math.ceil(1.27 * n) for n in x.shape))
    left = np.vdot(y, imresize(x, 1.27))
    assert left == pytest.approx(np.vdot(imresize_adjoint(y, x.shape, 1.27), x), rel=1e-12)


def one_after_the_other(image, size):
    """Columns, then rows or the other way, each sum from the first input cell to the last."""
    planes = image.astype(float)
    for axis in sorted((0, 1), key=lambda axis: size[axis] / image.shape[axis]):
        lines = planes if axis == 0 else planes.T
        made = np.zeros((size[axis], lines.shape[1]))
        for row, weights in zip(made, resize_matrix(len(lines), size[axis]), strict=True):
            for weight, line in zip(weights, lines, strict=True):
                row += weight * line
        made = np.clip(np.floor(made + 0.5), 0, 255)
        planes = made if axis == 0 else made.T
    return planes.astype(np.uint8)


@pytest.mark.parametrize("size", [(40, 20), (53, 61), (160, 160), (31, 90)])
def test_integers_half_way_are_rounded_as_sums_in_order_are(rng, size):
    image = rng.integers(0, 256, (80, 80)).astype(np.uint8)
    np.testing.assert_array_equal(imresize(image, size=size), one_after_the_other(image, size))


def test_bad_calls_are_refused():
    x = np.zeros((4, 4))
    with pytest.raises(ValueError, match="either scale or size"):
        imresize(x)
    with pytest.raises(ValueError, match="either scale or size"):
        imresize(x, 2, size=(8, 8))
    with pytest.raises(ValueError, match="scale must be positive"):
        imresize(x, 0.0)
    with pytest.raises(ValueError, match="kernel"):
        imresize(x, 2, kernel="lanczos")
    with pytest.raises(ValueError, match="at least 1"):
        imresize(x, size=(0, 4))
    with pytest.raises(ValueError, match="two axes"):
        imresize(np.zeros(4), 2)
    with pytest.raises(TypeError, match="float32"):
        imresize(x.astype(complex), 2)
