"""Tests of dagnet.solvers: steps worked out by hand."""

import numpy as np
import pytest

from dagnet import SGD, SOLVERS, AdaDelta, AdaGrad, Adam, RMSProp
from golden import assert_passes, golden

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


@pytest.mark.parametrize("momentum", [-0.1, 1.0, np.nan])
def test_a_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), received"):
        SGD(momentum=momentum)


# The solvers of +solver. Derivatives are given; the rate is 1/2 and the value starts from 1.


def steps(solver, ders, dtype=np.float64):
    """Values and states after each derivative."""
    x, state, found = np.array([1.0], dtype), None, []
    for der in ders:
        x, state = solver.update(x, state, np.array([der], dtype), 0.5)
        assert x.dtype == dtype
        found.append((x, state))
    return found


def close(value, dtype):
    return pytest.approx(value, rel=1e-15 if dtype == np.float64 else 1e-6)


DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
def test_adagrad(dtype):
    # g_sqr 9: 3 / (3 + 3); 9 + 16 = 25: 4 / (5 + 3).
    (x1, g1), (x2, g2) = steps(AdaGrad(epsilon=3.0), [3, 4], dtype)
    assert (x1, x2, g1, g2) == (0.75, 0.5, 9, 25)
    # Three quarters of 16 and 4: 16, 4 / (4 + 4) twice.
    (x1, g1), (x2, g2) = steps(AdaGrad(epsilon=4.0, rho=0.75), [4, 2], dtype)
    assert (x1, x2, g1, g2) == (0.75, 0.625, 16, 16)


@DTYPES
def test_rmsprop(dtype):
    # A quarter of 16: 4 / (2 + 2); three quarters of 4 and a quarter of 4: 2 / (2 + 2).
    (x1, g1), (x2, g2) = steps(RMSProp(epsilon=2.0, rho=0.75), [4, 2], dtype)
    assert (x1, x2, g1, g2) == (0.5, 0.25, 4, 4)


@DTYPES
def test_adadelta(dtype):
    # g_sqr 8: the step is -4 sqrt((0 + 1) / (8 + 1)), its mean square half of 16/9.
    # g_sqr 4 + 2 = 6: -2 sqrt((8/9 + 1) / 7) = -2 sqrt(17 / 63).
    (x1, s1), (x2, s2) = steps(AdaDelta(epsilon=1.0, rho=0.5), [4, 2], dtype)
    assert (s1["g_sqr"], s2["g_sqr"]) == (8, 6)
    assert x1 == close(1 - 4 / 3, dtype) and s1["delta_sqr"] == close(8 / 9, dtype)
    assert x2 == pytest.approx(1 - 4 / 3 - 2 * np.sqrt(17 / 63), rel=1e-6)
    assert s2["delta_sqr"] == close(4 / 9 + 2 * 17 / 63, dtype)


def test_adadelta_has_no_rate():
    der = np.array([4.0])
    first, second = (AdaDelta().update(np.array([1.0]), None, der, rate) for rate in (0.0, 7.0))
    assert first == second and first[0] != 1


@DTYPES
def test_adam(dtype):
    # m 2, v 4, the rate times sqrt(1 - 3/4) / (1 - 1/2) = 1: the step is 2 / (2 + 1).
    # m 1, v 3, times sqrt(1 - 9/16) / (1 - 1/4) = sqrt(7) / 3: 1 / (sqrt(3) + 1).
    (x1, s1), (x2, s2) = steps(Adam(beta1=0.5, beta2=0.75, eps=1.0), [4, 0], dtype)
    assert s1 == {"m": 2, "v": 4, "t": 1} and s2 == {"m": 1, "v": 3, "t": 2}
    assert x1 == close(1 - 0.5 * 2 / 3, dtype)
    assert x2 == close(1 - 1 / 3 - 0.5 * np.sqrt(7) / 3 / (np.sqrt(3) + 1), dtype)


@pytest.mark.parametrize("der", [0.1, -5.0, 1e4])
def test_first_steps_do_not_depend_on_the_size_of_the_derivative(der):
    # Each divides by the root of what it has seen: 1, and with RMSProp (1 - rho) of it.
    for solver, step in ((AdaGrad(), 0.5), (Adam(), 0.5), (RMSProp(), 5.0)):
        ((x, _),) = steps(solver, [der])
        assert x == pytest.approx(1 - np.sign(der) * step, rel=1e-4)


ALL = [solver() for solver in SOLVERS.values()]


@pytest.mark.parametrize("solver", [*ALL, SGD(nesterov=True)], ids=repr)
def test_the_arrays_given_are_left_alone(solver):
    value, der = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    _, state = solver.update(value, None, der, 0.1)
    held = {k: np.copy(v) for k, v in state.items()} if isinstance(state, dict) else state.copy()
    solver.update(value, state, der, 0.1)
    assert (value.tolist(), der.tolist()) == ([1, 2], [1, 1])
    np.testing.assert_equal(state, held)


@pytest.mark.parametrize("solver", ALL, ids=repr)
def test_each_element_has_steps_of_its_own(solver, rng):
    values, ders = rng.standard_normal((2, 3)), rng.standard_normal((4, 2, 3))
    together, state = values, None
    for der in ders:
        together, state = solver.update(together, state, der, 0.1)
    for place in np.ndindex(2, 3):
        alone, state = values[place], None
        for der in ders:
            alone, state = solver.update(np.asarray(alone), state, np.asarray(der[place]), 0.1)
        assert alone == pytest.approx(together[place], rel=1e-14)


@pytest.mark.parametrize(
    "kind, wrong, message",
    [
        (AdaGrad, {"epsilon": 0.0}, "epsilon must be above 0 and finite, received 0.0"),
        (AdaGrad, {"rho": 1.5}, r"rho must lie in \[0, 1\], received 1.5"),
        (RMSProp, {"rho": 1.0}, r"rho must lie in \[0, 1\), received 1.0"),
        (RMSProp, {"epsilon": -1e-8}, "epsilon must be above 0"),
        (AdaDelta, {"rho": -0.1}, r"rho must lie in \[0, 1\)"),
        (AdaDelta, {"epsilon": np.inf}, "epsilon must be above 0 and finite"),
        (Adam, {"beta1": 1.0}, r"beta1 must lie in \[0, 1\)"),
        (Adam, {"beta2": np.nan}, r"beta2 must lie in \[0, 1\)"),
        (Adam, {"eps": 0.0}, "eps must be above 0"),
    ],
)
def test_settings_outside_their_range_are_refused(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


def test_the_defaults_are_matconvnets():
    assert SGD() == SGD(momentum=0.9, nesterov=False)
    assert AdaGrad() == AdaGrad(epsilon=1e-10, rho=1)
    assert RMSProp() == RMSProp(epsilon=1e-8, rho=0.99)
    assert AdaDelta() == AdaDelta(epsilon=1e-6, rho=0.9)
    assert Adam() == Adam(beta1=0.9, beta2=0.999, eps=1e-8)


@golden("layers_pure_m", lambda name: name.startswith("taccum"))
def test_momentum_equals_vl_taccum(case):
    assert_passes(case)
