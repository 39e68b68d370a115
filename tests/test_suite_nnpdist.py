"""MatConvNet's test class nnpdist: powers, roots, sums, and one target for all cells."""

import numpy as np
import pytest

from layers import PDist
from suite import check_derivatives, over_kinds

RANGE = 128


@over_kinds
@pytest.mark.parametrize("one_to_one", [False, True])
@pytest.mark.parametrize("no_root", [False, True])
@pytest.mark.parametrize("p", [0.5, 1, 2, 3])
@pytest.mark.parametrize("aggregate", [False, True])
def test_basic(rng, kind, one_to_one, no_root, p, aggregate):
    h, w = (2, 2) if aggregate else (13, 17)
    x = RANGE * rng.standard_normal((5, 4, h, w))
    x0 = RANGE * rng.standard_normal((5, 4, h, w) if one_to_one else (5, 4, 1, 1))
    # Away from where a distance has no derivative.
    x += 5 * RANGE * (np.abs(x - x0) < 0.1 * RANGE)
    check_derivatives(kind, PDist(p=p, no_root=no_root, aggregate=aggregate), [x, x0])
