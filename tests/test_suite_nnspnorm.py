"""MatConvNet's test class nnspnorm."""

from layers import SpatialNorm
from suite import check_derivatives, over_kinds


@over_kinds
def test_basic(rng, kind):
    x = 128 * rng.standard_normal((5, 4, 13, 17))
    check_derivatives(kind, SpatialNorm(param=(3, 3, 0.1, 0.75)), [x])
