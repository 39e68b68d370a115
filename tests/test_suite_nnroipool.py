"""MatConvNet's test class nnroipool: regions inside, at and outside the borders."""

import numpy as np
import pytest

from given import Given
from layers import ROIPooling
from suite import check_derivatives, equal, over_kinds

# As there, one region a column: image, u0, v0, u1, v1.
ROIS = np.array(
    [
        [1, 1, 1, 2, 2, 2, 1, 1],
        [0, 1, 2, 0, 1, 2, 1, 1],
        [0, 4, 3, 0, 1, 2, 1, 1],
        [15, 5, 6, 15, 4, 2, 9, 0],
        [14, 7, 9, 14, 4, 8, 1, 0],
    ]
).T


@over_kinds
@pytest.mark.parametrize("method", ["avg", "max"])
@pytest.mark.parametrize("subdivisions", [(1, 1), (2, 1), (1, 2), (3, 7), (16, 16)])
def test_basic(rng, kind, method, subdivisions):
    x = 1.0 + rng.permutation(2 * 3 * 15 * 14).reshape(2, 3, 15, 14)
    layer = Given(layer=ROIPooling(method=method, subdivisions=subdivisions), given=[ROIS])
    check_derivatives(kind, layer, [x])


@over_kinds
@pytest.mark.parametrize("method", ["avg", "max"])
def test_tiles_of_one_cell_give_the_features_back(kind, method):
    x = kind.array(np.outer(np.arange(2, 11), np.arange(1, 11))[None, None])
    rois = kind.array([[1, 1, 1, 9, 10]])
    swap = [[0, 1, 0], [1, 0, 0]]
    layer = ROIPooling(method=method, subdivisions=(9, 10), transform=swap)
    (y,), _ = layer.forward([x, rois], [], None)
    equal(y, x, kind)
