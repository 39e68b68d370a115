"""The list of kernels to compile."""

from __future__ import annotations

from collections.abc import Callable

from numba import types

TYPES = {
    "p": types.CPointer(types.float32),
    "d": types.CPointer(types.float64),
    "q": types.CPointer(types.int64),
    "i": types.int64,
    "f": types.float32,
}

# name -> (argument types, function)
KERNELS: dict[str, tuple[str, Callable]] = {}


def kernel(name: str, arguments: str) -> Callable[[Callable], Callable]:
    """Function decorator: compile it as ``name``; ``arguments`` has a letter of ``TYPES`` each.

    Raises
    ------
    ValueError
        If there is a kernel of this name.
    """

    def register(function: Callable) -> Callable:
        if name in KERNELS:
            raise ValueError(f"there are two kernels {name!r}; rename one")
        KERNELS[name] = (arguments, function)
        return function

    return register
