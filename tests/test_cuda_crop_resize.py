"""The kernels in CUDA that crop and resize, against NumPy's."""

import numpy as np
import pytest

from cuda_arrays import chosen, here, there
from dagnet import relative_error
from layers import imresize, imresize_adjoint
from layers.kernels import choose

BOUNDS = {"float32": 1e-5, "float64": 1e-12}

precisions = pytest.mark.parametrize("dtype", BOUNDS)


def patches_of(dtype, rng, image_dtype):
    """Arguments of a crop: inside, over an edge, over a corner, far outside, larger than all."""
    image = rng.integers(0, 256, (5, 3, 13, 17)).astype(image_dtype)
    center = [[6.2, 8.4], [0.3, 8.0], [12.6, 16.2], [-1e19, 300.0], [6.0, 8.0]]
    side = [5.5, 9.0, 11.3, 7.0, 40.0]
    return image, *(np.array(a, dtype) for a in (center, side)), rng.random((5, 3)).astype(dtype)


@precisions
@pytest.mark.parametrize("image_dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 20])
def test_a_patch_and_its_derivatives_are_numpys(cuda, rng, dtype, image_dtype, size):
    given = patches_of(dtype, rng, image_dtype)
    assert chosen("crop", given[1]) == "cuda"
    numpy, ours = choose("crop", given[1]), choose("crop", there(given[1]))
    y = numpy.forward(*given, size)
    received = here(ours.forward(*there(given), size))
    assert received.dtype == dtype and relative_error(received, y) < BOUNDS[dtype]

    der = rng.standard_normal(y.shape).astype(dtype)
    for needs_image in (True, False):
        expected = numpy.backward(*given, der, needs_image)
        received = here(ours.backward(*there(given), there(der), needs_image))
        for one, exact in zip(received, expected, strict=True):
            assert (one is None) == (exact is None)
            if exact is not None:
                assert one.dtype == dtype and relative_error(one, exact) < 20 * BOUNDS[dtype]


RESIZES = [((9, 9), {"size": (17, 17)}), ((17, 5), {"size": (8, 12)}), ((5, 7), {"scale": 16})]
RESIZES += [((10, 12), {"scale": 0.37}), ((6, 1), {"size": (6, 3)}), ((4, 4), {"size": (1, 9)})]


@precisions
@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("shape", "target"), RESIZES, ids=str)
def test_a_resized_map_and_its_derivative_are_numpys(cuda, rng, dtype, kernel, shape, target):
    x = rng.standard_normal((2, 3, *shape)).astype(dtype)
    assert chosen("resize", x) == "cuda"
    y = imresize(x, **target, kernel=kernel)
    received = here(imresize(there(x), **target, kernel=kernel))
    assert received.dtype == dtype and relative_error(received, y) < BOUNDS[dtype]
    der = rng.standard_normal(y.shape).astype(dtype)
    expected = imresize_adjoint(der, x.shape, **target, kernel=kernel)
    received = here(imresize_adjoint(there(der), x.shape, **target, kernel=kernel))
    assert received.dtype == dtype and relative_error(received, expected) < BOUNDS[dtype]


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("shape", "target"), RESIZES, ids=str)
def test_resized_bytes_are_numpys_to_the_last_digit(cuda, rng, kernel, shape, target):
    x = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    expected = imresize(x, **target, kernel=kernel)
    received = here(imresize(there(x), **target, kernel=kernel))
    assert received.dtype == np.uint8
    np.testing.assert_array_equal(received, expected)
