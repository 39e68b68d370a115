"""Means, their standard errors, and whether a difference is beyond the spread of its samples."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

# Two-sided: of samples of no difference at all, one in twenty passes for one.
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean of some samples.

    ``spread`` is their standard deviation (divided by ``count - 1``), ``error`` the mean's
    standard error ``spread / sqrt(count)``; both are NaN of a single sample.
    """

    mean: float
    spread: float
    error: float
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % confidence interval of the mean; NaN of a single sample."""
        # SciPy's import takes as long as all else that a small analysis does.
        from scipy.special import stdtrit

        if self.count < 2:
            return math.nan, math.nan
        reach = float(stdtrit(self.count - 1, (1 + CONFIDENCE) / 2)) * self.error
        return self.mean - reach, self.mean + reach

    @property
    def beyond(self) -> bool | None:
        """Whether the interval leaves out 0; None of a single sample, which has no spread."""
        if self.count < 2:
            return None
        low, high = self.interval
        return low > 0 or high < 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON, where what is not known is null."""
        low, high = self.interval
        values = {**self._asdict(), "low": low, "high": high}
        known = {k: None if math.isnan(v) else v for k, v in values.items()}
        return {**known, "beyond_spread": self.beyond}


def estimate(samples: Any) -> Estimate:
    """Mean, standard deviation and standard error of samples.

    Raises
    ------
    ValueError
        If there is no sample, or one is not finite.
    """
    values = np.asarray(samples, dtype=np.float64).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers, one at least, received {values.tolist()}")
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), spread, spread / math.sqrt(len(values)), len(values))


def running_mean(values: Any, width: int) -> np.ndarray:
    """Mean of each value's neighbours along the last axis, ``width`` of them, itself in the
    middle; fewer at the ends, where the window is cut.

    Raises
    ------
    ValueError
        If the width is not an odd number from 1 on.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be an odd number of at least 1, received {width}")
    values = np.asarray(values, dtype=np.float64)
    places = np.arange(values.shape[-1])
    first = np.maximum(places - width // 2, 0)
    last = np.minimum(places + width // 2 + 1, len(places))
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), values.cumsum(axis=-1)], axis=-1)
    return (sums[..., last] - sums[..., first]) / (last - first)


def plus_minus(found: Estimate, form: str = ".3f") -> str:
    """Mean and standard deviation as text; the mean alone of a single sample."""
    text = f"{found.mean:{form}}"
    return text if found.count < 2 else f"{text} ± {found.spread:{form.lstrip('+')}}"


def rounded(found: Estimate, form: str = ".6g") -> str:
    """Mean and standard deviation as text, to two digits of the deviation; in the form given
    where that is unknown or 0."""
    if found.count < 2 or not found.spread > 0:
        return plus_minus(found, form)
    return plus_minus(found, f".{max(0, 1 - math.floor(math.log10(found.spread)))}f")


def verdict(found: Estimate, samples: str) -> str:
    """A sentence: is the mean difference beyond the spread of ``samples`` ('3 seeds')?"""
    if found.count < 2:
        return f"one sample ({samples}): no spread is known, so nothing can be said"
    low, high = found.interval
    words = "beyond" if found.beyond else "not beyond"
    return f"{words} the spread of {samples} (95 % interval {low:+.4g} to {high:+.4g})"


def counted(number: int, word: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{number} {word}{'s' * (number != 1)}"
