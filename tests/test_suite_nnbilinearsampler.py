"""MatConvNet's test class nnbilinearsampler: images that are moved, halved and turned.

There the derivative by the grid is compared between the two GPU codes alone; here it is checked
as that by the image is, with transforms a little off those that put samples on whole cells.
"""

import numpy as np
import pytest

from given import Given
from layers import BilinearSampler, affine_grid
from suite import check_derivatives, equal, over_kinds

ANGLE = np.pi / 4
# As there: down by a half and right by a half of the image, its middle half, and a turn.
TRANSFORMS = np.array(
    [
        [1, 0, 0, 1, 1, 0],
        [1, 0, 0, 1, 0, 1],
        [0.5, 0, 0, 0.5, 0, 0],
        [np.cos(ANGLE), np.sin(ANGLE), -np.sin(ANGLE), np.cos(ANGLE), 0, 0],
    ]
)
OFF = [0.0131, 0.0217, -0.0173, 0.0119, 0.0291, -0.0237]
GRID = [(8, 4), (8, 8)]


def images(rng, count, height, width):
    """Smooth pictures with values from 0 to 1."""
    rows, columns = np.arange(height) / height, np.arange(width)[:, None] / width
    waves = rng.uniform(0, 6, (count, 3, 3))
    planes = [[np.sin(a * rows + b * columns + c).T for a, b, c in sample] for sample in waves]
    return (np.array(planes) + 1) / 2


def grids(size, off=0.0):
    return affine_grid((TRANSFORMS + off)[:, :, None, None], size)


@over_kinds
@pytest.mark.parametrize("multiple", [True, False])
@pytest.mark.parametrize("size", GRID)
@pytest.mark.parametrize("height", [8, 16])
@pytest.mark.parametrize("width", [4, 8, 16])
def test_derivative_by_the_image(rng, kind, height, width, size, multiple):
    x = images(rng, 2 if multiple else 4, height, width)
    check_derivatives(kind, Given(layer=BilinearSampler(), given=[grids(size)]), [x])


@over_kinds
@pytest.mark.parametrize("multiple", [True, False])
@pytest.mark.parametrize("size", GRID)
@pytest.mark.parametrize("height", [8, 16])
@pytest.mark.parametrize("width", [4, 8, 16])
def test_derivative_by_image_and_grid(rng, kind, height, width, size, multiple):
    x = images(rng, 2 if multiple else 4, height, width)
    check_derivatives(kind, BilinearSampler(), [x, grids(size, OFF)])


@over_kinds
def test_an_image_that_is_moved_is_a_part_of_it(rng, kind):
    """Down by half of 9 rows: the lower five rows, then nothing."""
    x = kind.array(images(rng, 4, 9, 5))
    y = BilinearSampler().forward([x, kind.array(grids((9, 5)))], [], None)[0][0]
    equal(y[0, :, :5], x[0, :, 4:], kind)
    assert abs(y[0, :, 5:]).max() < 1e-6
    equal(y[1, :, :, :3], x[1, :, :, 2:], kind)
