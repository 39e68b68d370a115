"""The checks of MatConvNet's test suite (``matlab/xtest/suite/nntest.m``), for grids of cases.

As there, each case of a grid runs in single and in double precision, and on a GPU where CuPy is
installed. A derivative in double precision is compared with central differences, along random
directions: a full Jacobian of every case of a grid would take long, and ``errors.prove`` makes
those elsewhere. In single precision, where differences have few digits, values and derivatives
are compared with those in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dagnet import Context, Layer, asnumpy, get_array_module, relative_error, to_device
from devices import has_gpu_tests
from errors import record_error

DIRECTIONS = 2
# Of a central difference in double precision, for values of order one.
STEP = 1e-5
DOUBLE = 1e-6
# max|a-b| / max|b| between single and double precision: the goldens' bound.
SINGLE = 1e-5


@dataclass(frozen=True)
class Kind:
    """Where and how precisely a case is computed."""

    dtype: type
    device: str

    def array(self, values: Any) -> Any:
        """Values as an array of this kind."""
        return to_device(np.asarray(values, self.dtype), self.device)


def _kinds() -> list:
    kinds = [
        pytest.param(Kind(dtype, "cpu"), id=f"cpu-{name}")
        for name, dtype in (("single", np.float32), ("double", np.float64))
    ]
    if has_gpu_tests():
        kinds += [
            pytest.param(Kind(dtype, "gpu"), id=f"gpu-{name}", marks=pytest.mark.gpu)
            for name, dtype in (("single", np.float32), ("double", np.float64))
        ]
    return kinds


def over_kinds(test: Any) -> Any:
    """Decorator: run a test that takes ``kind`` in both precisions, on each device there is."""
    return pytest.mark.parametrize("kind", _kinds())(test)


def equal(actual: Any, expected: Any, kind: Kind) -> None:
    """Compare two ways to the same result: 1e-5 in single precision, 1e-10 in double."""
    assert actual.dtype == kind.dtype, f"{actual.dtype} in place of {np.dtype(kind.dtype)}"
    allowed = SINGLE if kind.dtype == np.float32 else 1e-10
    error = relative_error(actual, expected)
    assert error <= allowed, f"relative error {error:.2e}, allowed {allowed:.0e}"


def check_derivatives(
    kind: Kind,
    layer: Layer,
    inputs: Sequence[Any],
    params: Sequence[Any] = (),
    *,
    mode: str = "normal",
    constant_params: Sequence[int] = (),
) -> None:
    """Check the derivatives of a layer's case by every input and parameter.

    Parameters
    ----------
    inputs, params : sequences of NumPy arrays
        They are rounded to single precision first, so that both precisions see the same.
    constant_params : sequence of int
        Parameters that have no derivative (moments of batch norm).
    """
    arrays = [np.asarray(a, np.float32) for a in (*inputs, *params)]
    places = [k for k in range(len(arrays)) if k - len(inputs) not in constant_params]
    double = Kind(np.float64, kind.device)
    case = _Case(layer, len(inputs), mode)
    y, projection, ders = case.run([double.array(a) for a in arrays])
    if kind.dtype == np.float32:
        single_y, _, single_ders = case.run([kind.array(a) for a in arrays])
        equal(single_y, y, kind)
        for place in places:
            equal(single_ders[place], ders[place], kind)
        return
    rng = np.random.default_rng(1)
    points = [np.asarray(a, np.float64) for a in arrays]
    for place in places:
        assert ders[place].shape == points[place].shape
        der = asnumpy(ders[place])
        length = max(np.linalg.norm(der), np.finfo(float).tiny)
        for _ in range(DIRECTIONS):
            way = rng.standard_normal(der.shape)
            values = []
            for sign in (1, -1):
                moved = [double.array(p) for p in points]
                moved[place] = double.array(points[place] + sign * STEP * way)
                values.append(case.value(moved, projection))
            numerical = (values[0] - values[1]) / (2 * STEP)
            # Along a random direction the derivative is about as large as the gradient.
            error = abs(numerical - float(np.vdot(way, der))) / length
            name = type(layer).__name__
            assert error < DOUBLE, f"{name}, argument {place}: {error:.2e}"
            record_error("gradient", name, error, f"argument {place}, suite")


class _Case:
    def __init__(self, layer: Layer, num_inputs: int, mode: str):
        self.layer, self.num_inputs, self.mode = layer, num_inputs, mode

    def _forward(self, arrays: list) -> tuple[Any, Any]:
        context = Context(mode=self.mode, rng=np.random.default_rng(0))
        n = self.num_inputs
        (y,), saved = self.layer.forward(arrays[:n], arrays[n:], context)
        return y, saved

    def value(self, arrays: list, projection: Any) -> float:
        y, _ = self._forward(arrays)
        return float(asnumpy((y * projection).sum()))

    def run(self, arrays: list) -> tuple[Any, Any, list]:
        """Output, projection and derivatives."""
        y, saved = self._forward(arrays)
        values = np.random.default_rng(2).standard_normal(y.shape).astype(np.float32)
        projection = get_array_module(y).asarray(values.astype(y.dtype))
        n = self.num_inputs
        context = Context(mode=self.mode)
        ders = self.layer.backward(arrays[:n], arrays[n:], [projection], saved, context)
        return y, projection, [*ders[0], *ders[1]]
