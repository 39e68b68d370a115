"""Tests of the checks that MatConvNet's test grids run through."""

from dataclasses import dataclass

import numpy as np
import pytest

from dagnet import ElementWise
from suite import Kind, check_derivatives, over_kinds

SINGLE, DOUBLE = Kind(np.float32, "cpu"), Kind(np.float64, "cpu")


@dataclass(eq=False, kw_only=True)
class Square(ElementWise):
    """``x^2``, with faults that can be set."""

    factor: float = 2.0
    widens: bool = False

    def forward(self, inputs, params, context):
        y = inputs[0] ** 2
        return [y.astype(np.float64) if self.widens else y], None

    def backward(self, inputs, params, der_outputs, saved, context):
        return [inputs[0] * der_outputs[0] * inputs[0].dtype.type(self.factor)], []


@over_kinds
def test_a_right_layer_passes(rng, kind):
    check_derivatives(kind, Square(), [rng.standard_normal((2, 3, 4, 5))])


def test_a_wrong_derivative_is_found(rng):
    with pytest.raises(AssertionError, match="Square, argument 0"):
        check_derivatives(DOUBLE, Square(factor=2.001), [rng.standard_normal((2, 3, 4, 5))])


def test_single_precision_that_does_not_stay_single_is_found(rng):
    with pytest.raises(AssertionError, match="float64"):
        check_derivatives(SINGLE, Square(widens=True), [rng.standard_normal((2, 3, 4, 5))])
