"""What the tests of compiled kernels share."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from dagnet import relative_error
from dagnet.scheduling import run_tasks

needs_numba = pytest.mark.skipif(
    find_spec("numba") is None, reason="compiled kernels need Numba: pip install 'dsiam[fast]'"
)

SINGLE = np.dtype(np.float32)
ROUNDING = float(np.finfo(SINGLE).eps)


def errors(results, exact):
    """Relative error of each array."""
    return [relative_error(a, b) for a, b in zip(results, exact)]


def with_workers(run, workers):
    """``run()`` as the one task of so many workers, who take its pieces."""
    results = []
    run_tasks([0], {0: set()}, lambda _: results.append(run()), workers)
    return results[0]
