"""MatConvNet's test class nnnormalizelp: norms of features of all sizes, powers and dimensions."""

from itertools import product

import pytest

from layers import NormalizeLp
from suite import check_derivatives, over_kinds

# As there, MATLAB's dimensions of (H, W, C, N), 1 to 4; here axes of (N, C, H, W).
AXES = {1: 2, 2: 3, 3: 1, 4: 0}
DIMENSIONS = [
    (1,), (2,), (3,), (4,), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4), (1, 2, 3), (2, 3, 4),
    (1, 2, 3, 4),
]  # fmt: skip


@over_kinds
@pytest.mark.parametrize(("h", "w", "d"), [*product((1, 2, 3, 4), (1, 2, 3, 4), (2, 3, 4))])
def test_l2(rng, kind, h, w, d):
    check_derivatives(kind, NormalizeLp(), [128 * rng.standard_normal((3, d, h, w))])


@over_kinds
@pytest.mark.parametrize("p", [2, 4])
def test_powers(rng, kind, p):
    check_derivatives(kind, NormalizeLp(p=p), [rng.standard_normal((3, 5, 2, 3))])


# As there the power stays 2: each of its two cases runs the same.
@over_kinds
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_dimensions(rng, kind, dimensions):
    layer = NormalizeLp(p=2, dimensions=[AXES[d] for d in dimensions], epsilon=1e-4)
    check_derivatives(kind, layer, [rng.standard_normal((3, 5, 2, 3))])
