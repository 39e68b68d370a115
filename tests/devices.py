"""On which devices derivatives, goldens and grids of cases are checked.

On the CPU always; on a GPU where CuPy is installed (``pytest -m gpu`` runs those tests alone);
with ``pytest --simulate-gpu`` on the stand-in for CuPy of ``simulated_cupy.py`` in its place.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

# Functions of the tests that compute on the device of a test.
COMPUTING = {"prove", "assert_passes"}


class _Devices:
    """What the run's options and the test at hand say."""

    simulated = False
    current = "cpu"


devices = _Devices()


def has_gpu_tests() -> bool:
    """Whether tests are to be collected for the device ``'gpu'`` too."""
    return devices.simulated or find_spec("cupy") is not None


def device_params() -> list:
    """The devices, as parameters of tests."""
    gpu = [pytest.param("gpu", marks=pytest.mark.gpu)] if has_gpu_tests() else []
    return ["cpu", *gpu]


def computes(test: Any) -> bool:
    """Whether a test calls one of ``COMPUTING``, by itself or through its module's functions."""
    seen, waiting = set(), [test]
    while waiting:
        function = waiting.pop()
        code = getattr(function, "__code__", None)
        if code is None or function in seen:
            continue
        seen.add(function)
        if COMPUTING & set(code.co_names):
            return True
        module = function.__globals__
        waiting += [module[name] for name in code.co_names if name in module]
    return False
