"""MatConvNet's test class nnnormalize: windows of channels of many sizes."""

import numpy as np
import pytest

from layers import LRN, lrn
from suite import check_derivatives, equal, over_kinds

GROUPS = [2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]


@over_kinds
@pytest.mark.parametrize("group", GROUPS)
def test_basic(rng, kind, group):
    x = 128 * rng.standard_normal((4, 10, 3, 2))
    check_derivatives(kind, LRN(param=(group, 0.1, 0.5, 0.75)), [x])


@over_kinds
@pytest.mark.parametrize("group", [2, 3, 4, 5, 6, 7])
def test_equals_a_convolution_over_channels(rng, kind, group):
    x = 128 * rng.standard_normal((4, 10, 3, 2))
    expected = np.empty_like(x)
    for n, r, c in np.ndindex(4, 3, 2):
        column = x[n, :, r, c]
        # MATLAB's conv(..., 'same'): the middle of the full result, which for an even window is
        # the later of two.
        full = np.convolve(column**2, np.ones(group))
        sums = full[group // 2 : group // 2 + 10]
        expected[n, :, r, c] = column * (0.1 + 0.5 * sums) ** -0.75
    equal(lrn(kind.array(x), (group, 0.1, 0.5, 0.75)), expected, kind)


@over_kinds
def test_a_window_over_all_channels_gives_unit_vectors(rng, kind):
    x = kind.array(128 * rng.standard_normal((1, 10, 1, 1)))
    y = lrn(x, (20, 0, 1, 0.5))
    assert float((y * y).sum()) == pytest.approx(1, rel=1e-6)
