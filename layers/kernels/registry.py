"""Which kernel computes an operation: several may be registered, one is chosen, here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dagnet import get_array_module


@dataclass(frozen=True)
class Kernel:
    """One way to compute an operation and its derivative.

    Attributes
    ----------
    name : str
        What tells it from the operation's other kernels (``'im2row'``).
    forward, backward : callable
        With the arguments and results of the operation's reference kernel. What ``forward``
        hands to ``backward`` besides is the kernel's own affair. Operations without a derivative
        have no ``backward``: None.
    backend : 'numpy', 'cupy' or None
        The array module that it is for; ``None`` is any.
    dtypes : tuple of str or None
        Names of the dtypes that it takes; ``None`` is any.
    rank : int
        Of the kernels that fit an array, the one of the highest rank is chosen. References have
        rank 0.
    usable : callable or None
        Whether the kernel can run here, asked with no arguments where all else fits; ``None`` is
        yes.
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    backend: str | None = None
    dtypes: tuple[str, ...] | None = None
    rank: int = 0
    usable: Callable[[], bool] | None = None

    def fits(self, x: Any) -> bool:
        """Whether the kernel takes arrays of the module and dtype of ``x``."""
        if self.dtypes is not None and x.dtype.name not in self.dtypes:
            return False
        if self.backend is not None and self.backend != get_array_module(x).__name__:
            return False
        return self.usable is None or self.usable()


_KERNELS: dict[str, list[Kernel]] = {}


def register(operation: str, kernel: Kernel) -> None:
    """Offer a kernel for an operation (``'conv'``, ``'batch_norm'``, ``'max_pool'``).

    Raises
    ------
    ValueError
        If the operation has a kernel of this name, or another of this rank that takes some of
        the same arrays: the choice must not depend on the order of imports.
    """
    kernels = _KERNELS.setdefault(operation, [])
    for known in kernels:
        if known.name == kernel.name or _compete(known, kernel):
            raise ValueError(
                f"operation {operation!r} has a kernel {known.name!r} of rank {known.rank} for "
                f"backend {known.backend!r}; give {kernel.name!r} another name and rank"
            )
    kernels.append(kernel)


def _overlap(a: Sequence | None, b: Sequence | None) -> bool:
    return a is None or b is None or bool(set(a) & set(b))


def _compete(a: Kernel, b: Kernel) -> bool:
    same_backend = a.backend is None or b.backend is None or a.backend == b.backend
    return a.rank == b.rank and same_backend and _overlap(a.dtypes, b.dtypes)


def choose(operation: str, x: Any) -> Kernel:
    """Return the kernel of the highest rank that fits ``x``.

    The answer depends on the array module and the dtype of ``x`` alone (and on this computer), so
    a backward pass that asks with a derivative gets the kernel that ran forward.

    Raises
    ------
    LookupError
        If no kernel fits.
    """
    best = None
    for kernel in _KERNELS.get(operation, ()):
        if (best is None or kernel.rank > best.rank) and kernel.fits(x):
            best = kernel
    if best is None:
        raise LookupError(
            f"no kernel of operation {operation!r} takes {x.dtype} arrays of "
            f"{get_array_module(x).__name__}; known operations: {', '.join(sorted(_KERNELS))}"
        )
    return best


def reference(operation: str) -> Kernel:
    """The kernel of an operation that the others must agree with, and that takes all it can get."""
    return min(_KERNELS[operation], key=lambda kernel: kernel.rank)


def registered(operation: str) -> tuple[Kernel, ...]:
    """All kernels of an operation, in the order of their registration."""
    return tuple(_KERNELS.get(operation, ()))
