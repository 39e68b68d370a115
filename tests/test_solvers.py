"""Tests of dagnet.solvers: steps worked out by hand."""

import numpy as np
import pytest

from dagnet import SGD

# f(x) = x^2 / 2 from x = 1 with rate 1/2, so the derivative is x; all numbers are exact in binary.
# plain: x halves.
PLAIN = [0.5, 0.25, 0.125]
# momentum 1/2: m = m/2 - x, x = x + m/2.
#   m: -1, -1/2 - 1/2 = -1, -1/2 - 0 = -1/2;  x: 1/2, 0, -1/4
MOMENTUM = [0.5, 0.0, -0.25]
MOMENTUM_STATE = [-1.0, -1.0, -0.5]
# Nesterov: m the same rule, step = m/2 - x with the new m.
#   m = -1: step -1/2 - 1 = -3/2, x = 1/4; m = -1/2 - 1/4 = -3/4: step -3/8 - 1/4 = -5/8,
#   x = -1/16; m = -3/8 + 1/16 = -5/16: step -5/32 + 1/16 = -3/32, x = -1/16 - 3/64 = -7/64
NESTEROV = [0.25, -0.0625, -0.109375]
NESTEROV_STATE = [-1.0, -0.75, -0.3125]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "solver, values, states",
    [
        (SGD(momentum=0.0), PLAIN, [-1.0, -0.5, -0.25]),
        (SGD(momentum=0.5), MOMENTUM, MOMENTUM_STATE),
        (SGD(momentum=0.5, nesterov=True), NESTEROV, NESTEROV_STATE),
    ],
    ids=["plain", "momentum", "nesterov"],
)
def test_three_steps(solver, values, states, dtype):
    x, state = np.array([1.0], dtype=dtype), None
    for value, held in zip(values, states):
        x, state = solver.update(x, state, x, 0.5)
        assert x == value and state == held
        assert x.dtype == state.dtype == dtype


def test_the_rate_may_change_without_a_change_of_the_state():
    # The momentum is in units of the derivative: the rate scales the step alone.
    x, state = SGD(momentum=0.5).update(np.array([1.0]), None, np.array([1.0]), 0.5)
    x, state = SGD(momentum=0.5).update(x, state, np.array([0.0]), 2.0)
    assert x == 0.5 + 2 * (-0.5) and state == -0.5


def test_a_rate_of_zero_moves_the_state_alone():
    x, state = SGD(momentum=0.5).update(np.array([1.0]), None, np.array([3.0]), 0.0)
    assert x == 1 and state == -3


def test_the_arrays_given_are_left_alone():
    value, state, der = np.array([1.0, 2.0]), np.array([0.5, 0.5]), np.array([1.0, 1.0])
    SGD(nesterov=True).update(value, state, der, 0.1)
    assert (value.tolist(), state.tolist(), der.tolist()) == ([1, 2], [0.5, 0.5], [1, 1])


@pytest.mark.parametrize("momentum", [-0.1, 1.0, np.nan])
def test_a_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), received"):
        SGD(momentum=momentum)


def test_the_defaults_are_matconvnets():
    assert SGD() == SGD(momentum=0.9, nesterov=False)
