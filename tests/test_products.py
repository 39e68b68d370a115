"""Tests of layers.kernels.products: ``matmul`` on a GPU is NumPy's, however arrays lie."""

import numpy as np
import pytest

from cuda_arrays import cuda, here, there  # noqa: F401
from layers.kernels import matmul, registered

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 1)),
    ((4, 1), (1, 4)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((1, 3, 4), (2, 4, 5)),
    ((3, 3, 4), (2, 3, 4, 5)),
    ((2, 3, 1, 4), (1, 3, 4, 1)),
    ((2, 1, 3, 4), (2, 5, 4, 3)),
    ((3, 0), (0, 2)),
    ((0, 3, 2), (2, 4)),
]
# How the last two axes lie in memory.
WAYS = {
    "rows": lambda a: a,
    "columns": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "part": lambda a: np.ascontiguousarray(np.pad(a, [(0, 1)] * a.ndim))[
        tuple(slice(0, n) for n in a.shape)
    ],
    "gaps": lambda a: np.repeat(np.repeat(a, 2, -1), 2, -2)[..., ::2, ::2],
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("way_b", WAYS)
@pytest.mark.parametrize("way_a", WAYS)
def test_products_are_those_of_numpy(cuda, rng, way_a, way_b, dtype):  # noqa: F811
    for shape_a, shape_b in SHAPES:
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in (shape_a, shape_b))
        given = []
        for array, way in ((a, way_a), (b, way_b)):
            # On the device by the same way: uploading would put it in order.
            base = WAYS[way](array)
            given.append(_alike(base))
        y = matmul(*given)
        assert y.dtype == dtype and y.shape == np.matmul(a, b).shape
        assert y.flags.c_contiguous
        np.testing.assert_allclose(
            here(y),
            np.matmul(a, b),
            rtol=1e-6 if dtype == "f4" else 1e-14,
            atol=1e-6 if dtype == "f4" else 1e-14,
        )


def _alike(array):
    """The array on the device with the same strides."""
    import cupy

    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    offset = array.ctypes.data - root.ctypes.data
    flat = there(np.ascontiguousarray(root).reshape(-1)) if root.flags.c_contiguous else None
    if flat is None or not array.size:
        return there(np.ascontiguousarray(array))
    part = flat[offset // array.itemsize :]
    return cupy.lib.stride_tricks.as_strided(part, array.shape, array.strides)


def test_the_kernel_of_cards_is_cublas():
    assert [k.name for k in registered("matmul")] == ["reference", "cublas"]


def test_arrays_that_do_not_fit_are_refused(cuda):  # noqa: F811
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 3\) have no product"):
        matmul(there(np.ones((2, 3))), there(np.ones((2, 3))))
