"""Tests of layers.relu."""

import numpy as np
import pytest

from dagnet import Context
from errors import prove
from golden import assert_passes, golden
from layers import ReLU
from suite import check_derivatives, over_kinds


@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_gradient(rng, leak):
    x = rng.standard_normal((2, 3, 5, 4))
    x[np.abs(x) < 1e-2] = 1.0  # away from the kink
    prove(ReLU(leak=leak), [x])


@over_kinds
@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_suite_nnrelu(rng, kind, leak):
    """MatConvNet's test class nnrelu, with a slope and negative values besides."""
    x = rng.permutation(2 * 3 * 15 * 14).reshape(2, 3, 15, 14) - 600.5
    check_derivatives(kind, ReLU(leak=leak), [x])


def test_derivative_at_zero_is_zero():
    layer = ReLU()
    _, saved = layer.forward([np.array([0.0, 2.0])], [], Context())
    (der,), _ = layer.backward([None], [], [np.array([3.0, 3.0])], saved, Context())
    assert der.tolist() == [0.0, 3.0]


def test_a_slope_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="leak"):
        ReLU(leak=1.5)


@golden("layers_pure_m", lambda name: name.startswith("relu"))
def test_equals_vl_nnrelu(case):
    assert_passes(case)
