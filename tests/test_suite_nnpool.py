"""MatConvNet's test class nnpool: pooling over its grid of parameters."""

import numpy as np
import pytest

from layers import Pooling, avg_pool, conv
from suite import check_derivatives, equal, over_kinds

METHOD = pytest.mark.parametrize("method", ["avg", "max"])


@pytest.fixture
def x(rng):
    """All cells different, and further apart than a difference's step, so that no maximum changes
    hands."""
    return rng.permutation(2 * 3 * 15 * 14).reshape(2, 3, 15, 14).astype(float)


@over_kinds
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 2])
def test_an_average_is_a_convolution_with_equal_weights(kind, x, height, width):
    filters = np.full((3, 1, height, width), 1 / (height * width))
    expected = conv(kind.array(x), kind.array(filters))
    equal(avg_pool(kind.array(x), (height, width)), expected, kind)


@over_kinds
@METHOD
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_size_padding_and_stride(kind, x, size, pad, stride, method):
    layer = Pooling(method=method, pool_size=size, pad=pad, stride=stride)
    if pad >= size:
        with pytest.raises(ValueError, match="smaller than the window"):
            layer.forward([kind.array(x)], [], None)
        return
    check_derivatives(kind, layer, [x])


@over_kinds
@METHOD
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 2])
def test_windows(kind, x, height, width, method):
    check_derivatives(kind, Pooling(method=method, pool_size=(height, width)), [x])


@over_kinds
@METHOD
@pytest.mark.parametrize("across", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2])
def test_strides(kind, x, down, across, method):
    layer = Pooling(method=method, pool_size=(3, 2), stride=(down, across))
    check_derivatives(kind, layer, [x])


@over_kinds
@METHOD
@pytest.mark.parametrize("right", [0, 1, 2])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_padding_left_and_right(kind, x, left, right, method):
    layer = Pooling(method=method, pool_size=(3, 4), stride=(2, 1), pad=(0, 0, left, right))
    check_derivatives(kind, layer, [x])


@over_kinds
@METHOD
@pytest.mark.parametrize("bottom", [0, 1, 2])
@pytest.mark.parametrize("top", [0, 1, 2])
def test_padding_above_and_below(kind, x, top, bottom, method):
    layer = Pooling(method=method, pool_size=(3, 4), stride=(2, 1), pad=(top, bottom, 2, 1))
    check_derivatives(kind, layer, [x])
