"""The kernels of Elefusion, of the logistic loss and of the errors in CUDA, against NumPy's."""

import numpy as np
import pytest

from cuda_arrays import chosen, here, there
from dagnet import relative_error
from layers import center_threshold_error, find_peak, max_score_error
from layers.elefusion import elefusion, elefusion_backward
from layers.loss import loss, loss_backward

BOUNDS = {"float32": 2e-6, "float64": 1e-13}

precisions = pytest.mark.parametrize("dtype", BOUNDS)


@precisions
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_fused_maps_and_their_derivatives_are_numpys(cuda, rng, dtype, count):
    maps = [rng.standard_normal((3, 2, 5, 7)).astype(dtype) for _ in range(count)]
    weights = [rng.random((5, 7)).astype(dtype) for _ in maps[1:]]
    der = rng.standard_normal(maps[0].shape).astype(dtype)
    assert chosen("elefusion", der) == "cuda"
    received = here(elefusion(there(maps), there(weights)))
    assert received.dtype == dtype
    assert relative_error(received, elefusion(maps, weights)) < BOUNDS[dtype]
    expected = elefusion_backward(maps, weights, der)
    received = here(elefusion_backward(there(maps), there(weights), there(der)))
    for ours, exact in zip([*received[0], *received[1]], [*expected[0], *expected[1]], strict=True):
        assert ours.dtype == dtype and relative_error(ours, exact) < BOUNDS[dtype]


@precisions
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("weighing", ["none", "balanced", "map", "each"])
def test_a_logistic_loss_and_its_derivative_are_numpys(cuda, rng, dtype, normalise, weighing):
    x = (20 * rng.standard_normal((3, 2, 9, 17))).astype(dtype)
    # The last sample has no positive label.
    labels = rng.integers(-1, [[[[2]]], [[[2]]], [[[1]]]], x.shape).astype(dtype)
    weights = {"none": None, "balanced": "balanced", "map": rng.random((9, 17))}
    weights = weights.get(weighing, rng.random(x.shape))
    assert chosen("logistic_loss", x) == "cuda"
    given = weights if isinstance(weights, str) else there(weights)
    y = loss(x, labels, "logistic", weights, normalise)
    received = here(loss(there(x), there(labels), "logistic", given, normalise))
    assert received.shape == () and received.dtype == dtype
    assert relative_error(received, y) < BOUNDS[dtype]
    expected = loss_backward(x, labels, 1.5, "logistic", weights, normalise)
    received = here(loss_backward(there(x), there(labels), 1.5, "logistic", given, normalise))
    assert received.dtype == dtype and relative_error(received, expected) < BOUNDS[dtype]


def test_great_scores_do_not_overflow(cuda):
    x = np.array([[[[1e4, -1e4, 800, -800]]]])
    labels = np.array([[[[1.0, 1.0, -1.0, -1.0]]]])
    received = here(loss(there(x), there(labels), "logistic"))
    assert received == 10800
    received = here(loss_backward(there(x), there(labels), 1.0, "logistic"))
    np.testing.assert_array_equal(received.ravel(), [0, -1, 1, 0])


def maps(rng, dtype, size):
    """Response maps of few values, so that many are equal; some with NaN, or of it alone."""
    scores = rng.integers(-3, 3, (40, 1, *size)).astype(dtype)
    scores[5:9] = -np.abs(scores[5:9])
    scores[0, 0, size[0] // 2, size[1] - 1] = scores[1, 0, 0, 0] = np.nan
    scores[2] = np.nan
    scores[3] = -np.inf
    return scores


@precisions
@pytest.mark.parametrize("size", [(17, 17), (5, 9), (1, 1), (33, 17)])
def test_peaks_and_errors_are_numpys(cuda, rng, dtype, size):
    scores = maps(rng, dtype, size)
    assert chosen("find_peak", scores) == "cuda"
    np.testing.assert_array_equal(here(find_peak(there(scores))), find_peak(scores))
    labels = rng.integers(-1, 2, 40).astype(dtype)
    targets = rng.uniform(-3, np.array(size) + 3, (40, 2))
    targets[4] = np.nan
    signs = np.where(rng.random(scores.shape) < 1 / scores[0].size, 1, -1).astype(dtype)
    for given in ((scores, labels), (scores, signs, targets.astype(dtype))):
        for error, operation in ((max_score_error, "max"), (center_threshold_error, "center")):
            kernel = {"max": "max_score_error", "center": "center_threshold_error"}[operation]
            assert chosen(kernel, scores) == "cuda"
            received = here(error(*there(list(given))))
            assert received.shape == () and received.dtype == dtype
            np.testing.assert_allclose(received, error(*given), rtol=1e-6)
