"""MatConvNet's test class nnoffset."""

from layers import NormOffset
from suite import check_derivatives, over_kinds


@over_kinds
def test_basic(rng, kind):
    x = 128 * rng.standard_normal((3, 10, 4, 5))
    check_derivatives(kind, NormOffset(param=(0.34, 0.5)), [x])
