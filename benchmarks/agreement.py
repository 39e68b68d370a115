"""Whether two computations of the same network agree: responses, losses, positions, derivatives.

In double precision they must agree closely. In single precision they cannot: a ReLU or a maximum
that decides the other way changes a derivative. There the distance from double precision is
compared with that of PyTorch's own single precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

DOUBLE = 1e-8
# Times the distance of PyTorch's single precision from its double precision.
SINGLE_FACTOR = 4.0
# Batch statistics take a shift of their input away, so these derivatives are zero, and what is
# computed is rounding: it is compared with the derivatives by the filters beside it.
ZERO = {f"der conv{i}b": f"der conv{i}f" for i in range(1, 5)}
EXACT = ("errors",)


class DisagreementError(ValueError):
    """Two sides of a benchmark do not compute the same."""


def distances(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict:
    """``max|a - b| / max|b|`` of every array of ``reference``, by name.

    Raises
    ------
    DisagreementError
        If names, or the figures ``errdisp`` and ``errmax``, differ.
    """
    if found.keys() != reference.keys():
        raise DisagreementError(
            f"results differ in their names: {sorted(found.keys() ^ reference.keys())}"
        )
    apart = {}
    for name, b in reference.items():
        a = np.asarray(found[name], dtype=np.float64).reshape(b.shape)
        if name in EXACT:
            if not np.array_equal(a, b):
                raise DisagreementError(f"{name}: {a.tolist()} and {b.tolist()}")
            continue
        scale = np.abs(reference[ZERO.get(name, name)]).max()
        apart[name] = float(np.abs(a - b).max() / scale) if scale else float(np.abs(a).max())
    return apart


def check_double(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict:
    """``distances`` in double precision.

    Raises
    ------
    DisagreementError
        If one is above ``DOUBLE``.
    """
    apart = distances(found, reference)
    _refuse({name: (value, DOUBLE) for name, value in apart.items() if not value <= DOUBLE})
    return apart


def check_single(
    found: Mapping[str, np.ndarray],
    others: Sequence[Mapping[str, np.ndarray]],
    reference: Mapping[str, np.ndarray],
    flips: float = 0.0,
) -> tuple[dict, dict]:
    """Distances of ``found`` and of the worst of ``others`` from a reference in double precision.

    Derivatives may be as far off as ``flips`` in any case: as far as single decisions of ReLU and
    pooling move them, which fall on one side and not on the other.

    Raises
    ------
    DisagreementError
        If one of ``found`` is above ``SINGLE_FACTOR`` times the others', or times the others'
        median for derivatives (or responses and losses) where that is greater: a single number
        may be right by chance.
    """
    apart = distances(found, reference)
    each = [distances(other, reference) for other in others]
    worst = {name: max(other[name] for other in each) for name in apart}
    failed = {}
    for name, value in apart.items():
        like = [v for n, v in worst.items() if n.startswith("der ") == name.startswith("der ")]
        bound = SINGLE_FACTOR * max(worst[name], float(np.median(like)))
        if name.startswith("der "):
            bound = max(bound, flips)
        if not value <= bound:
            failed[name] = (value, bound)
    _refuse(failed)
    return apart, worst


def _refuse(failed: Mapping[str, tuple[float, float]]) -> None:
    if failed:
        raise DisagreementError(
            "the two sides do not agree, nothing was timed: "
            + ", ".join(
                f"{name} {value:.1e} > {bound:.1e}" for name, (value, bound) in failed.items()
            )
        )


def greatest(apart: Mapping[str, float]) -> str:
    """The worst derivative and the worst of the rest, as a phrase."""
    parts = []
    for what, chosen in (
        ("responses and losses", [n for n in apart if not n.startswith("der ")]),
        ("derivatives", [n for n in apart if n.startswith("der ")]),
    ):
        if chosen:
            name = max(chosen, key=apart.__getitem__)
            parts.append(f"{what} {apart[name]:.1e} ({name.removeprefix('der ')})")
    return ", ".join(parts)
