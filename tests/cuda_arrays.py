"""Where kernels in CUDA are compared with NumPy: on the host by ``g++``, and on a card."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import simulated_cupy
from dagnet import asnumpy, check_device, to_device
from dagnet.backend import tree_to_device
from devices import devices
from layers.kernels import choose

EMULATED = pytest.param(
    "emulated",
    marks=pytest.mark.skipif(not shutil.which("g++"), reason="needs g++ to compile the kernels"),
)
CARD = pytest.param("card", marks=pytest.mark.gpu)
PLACES = [EMULATED, CARD] if find_spec("cupy") else [EMULATED]


@pytest.fixture(params=PLACES)
def cuda(request):
    """Whatever has CUDA's kernels in this test: the emulation, and a card where there is one."""
    if request.param == "card":
        if devices.simulated:
            pytest.skip("the emulation runs as a test of its own")
        yield check_device("gpu")
    else:
        with simulated_cupy.installed():
            yield "gpu"


def there(tree: Any) -> Any:
    """Arrays, in containers too, on the device."""
    return tree_to_device(tree, "gpu")


def here(tree: Any) -> Any:
    """The results of a kernel as arrays of the host."""
    if isinstance(tree, (list, tuple)):
        return [here(entry) for entry in tree]
    return None if tree is None else asnumpy(tree)


def chosen(operation: str, x: np.ndarray) -> str:
    """The name of the kernel that an array like ``x`` would get on the device."""
    return choose(operation, to_device(x, "gpu")).name
