"""MatConvNet's test class nnconvt: transposed convolution over its grid of parameters."""

from itertools import product

import numpy as np
import pytest

from layers import ConvTranspose
from suite import check_derivatives, over_kinds


def arrays(rng, x_shape, planes, kernel, groups=1):
    """Features, filters and a bias."""
    x = rng.standard_normal(x_shape)
    f = rng.standard_normal((x_shape[1], planes, *kernel))
    return x, [f, rng.standard_normal(planes * groups)]


@over_kinds
@pytest.mark.parametrize("filters", [1, 2, 3])
@pytest.mark.parametrize("images", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_basic(rng, kind, depth, images, filters):
    x, params = arrays(rng, (images, depth, 10, 12), filters, (3, 4))
    check_derivatives(kind, ConvTranspose(size=params[0].shape), [x], params)


@over_kinds
@pytest.mark.parametrize("crop", list(product((1, 2, 3), repeat=4)))
def test_upsample_and_crop(rng, kind, crop):
    for upsample in product((1, 2, 3), repeat=2):
        x, params = arrays(rng, (2, 3, 5, 6), 3, (3, 4))
        layer = ConvTranspose(size=params[0].shape, upsample=upsample, crop=crop)
        check_derivatives(kind, layer, [x], params)


@over_kinds
@pytest.mark.parametrize("filters", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_grouped_filters(rng, kind, groups, depth, filters):
    x, params = arrays(rng, (3, depth * groups, 10, 12), filters, (3, 4), groups)
    layer = ConvTranspose(size=params[0].shape, num_groups=groups)
    check_derivatives(kind, layer, [x], params)


ONE_CELL = [
    (up, width * up, crop)
    for up, width, crop in product((1, 2), (1, 2), range(1, 9))
    if crop <= width * up - 1
]


@over_kinds
@pytest.mark.parametrize(("up", "width", "crop"), ONE_CELL)
def test_an_image_of_one_cell(rng, kind, up, width, crop):
    x, params = arrays(rng, (4, 3, 1, 1), 3, (3 * width, width))
    half = crop // 2
    layer = ConvTranspose(
        size=params[0].shape, upsample=up, crop=(half, crop - half, half, crop - half)
    )
    (y,) = layer.forward([kind.array(x)], [kind.array(p) for p in params], None)[0]
    assert y.shape == (4, 3, 3 * width - crop, width - crop) and y.dtype == kind.dtype
    check_derivatives(kind, layer, [x], params)


LARGE = [((0, 0, 0, 0), (1, 1)), ((5, 5, 8, 8), (1, 1)), ((5, 5, 8, 8), (3, 2))]


@over_kinds
@pytest.mark.slow
@pytest.mark.parametrize(("crop", "upsample"), LARGE)
def test_large_filters(rng, kind, crop, upsample):
    x, params = arrays(rng, (32, 32, 32, 32), 10, (11, 11))
    layer = ConvTranspose(size=params[0].shape, crop=crop, upsample=upsample)
    scaled = [params[0] / np.sqrt(32 * 121), params[1]]
    check_derivatives(kind, layer, [x], scaled)
