"""Tests of means, standard errors and running means, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from dsiam_net.analysis.statistics import (
    estimate,
    plus_minus,
    rounded,
    running_mean,
    verdict,
)
from dsiam_net.text_table import columns

# Student's two-sided 95 % quantiles of printed tables: 1 and 2 degrees of freedom.
T1, T2 = 12.7062, 4.3027


def test_mean_deviation_and_standard_error_of_three_numbers():
    found = estimate([1.0, 2.0, 6.0])
    # Deviations -2, -1, 3: squares 14, over 2 degrees of freedom 7.
    assert found.mean == 3 and found.count == 3
    assert found.spread == pytest.approx(math.sqrt(7))
    assert found.error == pytest.approx(math.sqrt(7 / 3))
    reach = T2 * math.sqrt(7 / 3)
    assert found.interval == pytest.approx((3 - reach, 3 + reach), rel=1e-4)
    assert found.beyond is False
    assert found.as_dict()["beyond_spread"] is False


def test_a_difference_is_beyond_the_spread_only_where_students_interval_leaves_out_0():
    # Twice the standard error would do for many samples; for two it is 12.7 times.
    assert estimate([0.9, 1.1]).interval[0] == pytest.approx(1 - T1 * 0.1, rel=1e-3)
    assert estimate([0.9, 1.1]).beyond is False
    assert estimate([0.95, 1.05]).beyond is True
    assert estimate([-0.95, -1.05]).beyond is True
    assert estimate([0.0, 0.0]).beyond is False
    assert estimate([0.5, 0.5]).beyond is True


def test_a_single_sample_has_no_spread():
    found = estimate([2.5])
    assert found.mean == 2.5 and found.beyond is None
    assert found.as_dict() == {
        "mean": 2.5, "spread": None, "error": None, "count": 1, "low": None, "high": None,
        "beyond_spread": None,
    }  # fmt: skip
    assert "nothing can be said" in verdict(found, "1 seed")
    assert plus_minus(found) == "2.500" and rounded(found) == "2.5"


@pytest.mark.parametrize("samples", [[], [1.0, math.nan]])
def test_no_samples_and_what_is_not_finite_are_refused(samples):
    with pytest.raises(ValueError, match="expected finite numbers"):
        estimate(samples)


def test_running_means_are_cut_at_the_ends():
    values = np.array([[1.0, 2, 3, 10], [0, 0, 3, 3]])
    expected = [[1.5, 2, 5, 6.5], [0, 1, 2, 3]]
    np.testing.assert_allclose(running_mean(values, 3), expected)
    np.testing.assert_array_equal(running_mean(values, 1), values)
    for width in (0, 2):
        with pytest.raises(ValueError, match="odd number"):
            running_mean(values, width)


def test_words():
    found = estimate([0.489, 0.491])
    assert plus_minus(found, "+.2f") == "+0.49 ± 0.00"
    assert rounded(found) == "0.4900 ± 0.0014"
    assert rounded(estimate([1e-12, 1e-12])) == "1e-12 ± 0"
    assert verdict(estimate([1.0, 1.0]), "2 seeds").startswith("beyond the spread of 2 seeds")
    assert verdict(found._replace(mean=0.0), "2 seeds").startswith("not beyond")
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc   d"
