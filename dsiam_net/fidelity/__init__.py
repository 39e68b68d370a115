"""Comparison with outputs of the original MATLAB code: ``python -m dsiam_net.fidelity DIR``.

``files`` reads golden files, ``checks`` holds what is compared for which function of the originals,
``run`` goes through a folder and ``report`` prints.
"""

from . import checks  # noqa: F401  (registers the checks)
from .compare import Comparison
from .files import DOUBLE, SINGLE, Case, GoldenError, GoldenFile, GoldenFolder
from .registry import CaseResult, check_case

__all__ = [
    "DOUBLE",
    "SINGLE",
    "Case",
    "CaseResult",
    "Comparison",
    "GoldenError",
    "GoldenFile",
    "GoldenFolder",
    "check_case",
]
