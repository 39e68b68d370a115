"""Tests of layers.batch_norm."""

from dataclasses import dataclass

import numpy as np
import pytest

from dagnet import Context, GradientError, ShapeError, check_layer
from dsiam_net.fidelity.original_formulas import bnorm_backward_given_moments
from errors import prove
from golden import assert_passes, golden
from layers import (
    BatchNorm,
    batch_norm,
    batch_norm_backward,
    batch_norm_stored,
    batch_norm_stored_backward,
)

SHAPES = [(2, 3, 4, 5), (4, 2, 3, 3), (1, 3, 5, 4), (6, 4, 1, 1), (2, 24, 9, 8)]


def arrays(rng, shape, dtype=np.float64):
    """Features, multipliers, biases, and moments that are not those of the features."""
    c = shape[1]
    x = rng.standard_normal(shape) * 2 + 3
    moments = np.stack([rng.standard_normal(c), rng.uniform(0.5, 2, c)], axis=1)
    given = x, rng.standard_normal(c), rng.standard_normal(c), moments
    return [a.astype(dtype) for a in given]


@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_with_the_moments_of_the_batch(rng, shape, epsilon):
    x, *params = arrays(rng, shape)
    prove(BatchNorm(epsilon=epsilon), [x], params, skip_params=[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_in_test_mode_by_moments_too(rng, shape):
    x, *params = arrays(rng, shape)
    prove(BatchNorm(), [x], params, mode="test")


@pytest.mark.parametrize("mode", ["normal", "test"])
def test_gradient_with_stored_moments_in_either_mode(rng, mode):
    x, *params = arrays(rng, SHAPES[0])
    prove(BatchNorm(moments="stored"), [x], params, mode=mode)


def test_stored_moments_in_normal_mode_are_test_mode(rng):
    x, *params = arrays(rng, SHAPES[0])
    (y,), _ = BatchNorm(moments="stored").forward([x], params, Context())
    (expected,), _ = BatchNorm().forward([x], params, Context(mode="test"))
    np.testing.assert_array_equal(y, expected)


def test_each_channel_gets_mean_and_deviation_of_its_parameters(rng):
    x, multipliers, biases, _ = arrays(rng, (3, 4, 6, 5))
    y, moments = batch_norm(x, multipliers, biases, 0.0)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), biases, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), np.abs(multipliers), atol=1e-12)
    np.testing.assert_allclose(moments[:, 0], x.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(moments[:, 1], x.std(axis=(0, 2, 3)), atol=1e-12)


def test_epsilon_is_part_of_sigma_and_not_added_to_stored_moments(rng):
    x, multipliers, biases, _ = arrays(rng, (3, 4, 6, 5))
    y, moments = batch_norm(x, multipliers, biases, 0.5)
    np.testing.assert_allclose(moments[:, 1] ** 2, x.var(axis=(0, 2, 3)) + 0.5, atol=1e-12)
    np.testing.assert_allclose(
        batch_norm_stored(x, multipliers, biases, moments), y, rtol=0, atol=1e-12
    )


def test_variance_far_from_zero_is_stable_in_single_precision(rng):
    x = (rng.standard_normal((2, 2, 30, 31)) + 3000).astype(np.float32)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    _, moments = batch_norm(x, one, zero)
    expected = np.sqrt(x.astype(np.float64).var(axis=(0, 2, 3)) + 1e-5)
    np.testing.assert_allclose(moments[:, 1], expected, rtol=1e-5)


def test_single_precision_stays_single(rng):
    x, *params = arrays(rng, SHAPES[0])
    x = x.astype(np.float32)
    y, moments = batch_norm(x, *params[:2])
    ders = batch_norm_backward(x, params[0], y, moments)
    stored = batch_norm_stored(x, *params)
    stored_ders = batch_norm_stored_backward(x, params[0], y, params[2])
    results = (y, moments, *ders, stored, *stored_ders)
    assert {a.dtype for a in results} == {np.dtype(np.float32)}


def test_two_uses_of_one_layer_keep_their_own_moments(rng):
    layer = BatchNorm()
    (x, *params), (other, *_) = arrays(rng, SHAPES[0]), arrays(rng, SHAPES[1])
    other = np.concatenate([other, other[:, :1]], axis=1)
    (y,), saved = layer.forward([x], params, Context())
    (y_other,), saved_other = layer.forward([other], params, Context())
    _, ders = layer.backward([x], params, [y], saved, Context())
    _, ders_other = layer.backward([other], params, [y_other], saved_other, Context())
    np.testing.assert_allclose(ders[2][:, 0], x.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(ders_other[2][:, 0], other.mean(axis=(0, 2, 3)))


def test_only_the_moments_are_kept_for_backward(rng):
    x, *params = arrays(rng, SHAPES[0])
    _, saved = BatchNorm().forward([x], params, Context())
    assert saved.shape == (3, 2)
    _, saved = BatchNorm().forward([x], params, Context(mode="test"))
    assert saved is None


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_moments_that_never_were_trained_are_refused(rng, bad):
    x, multipliers, biases, moments = arrays(rng, SHAPES[0])
    moments[1] = bad
    with pytest.raises(ValueError, match="never trained"):
        BatchNorm().forward([x], [multipliers, biases, moments], Context(mode="test"))


def test_parameters_of_other_sizes_are_refused(rng):
    x, *params = arrays(rng, SHAPES[0])
    for place in range(3):
        wrong = [p[:2] if k == place else p for k, p in enumerate(params)]
        with pytest.raises(ShapeError, match="input of 3 channels") as error:
            BatchNorm().forward([x], wrong, Context(mode="test"))
        assert error.value.param == place
    with pytest.raises(ShapeError, match="N, C, H, W"):
        batch_norm(x[0], *params[:2])
    with pytest.raises(ShapeError, match="derivative by the output"):
        batch_norm_backward(x, params[0], x[:, :, 1:], params[2])


def test_settings_that_cannot_be_are_refused(rng):
    with pytest.raises(ValueError, match="epsilon"):
        BatchNorm(epsilon=-1)
    with pytest.raises(ValueError, match="moments"):
        BatchNorm(moments="own")
    with pytest.raises(ValueError, match="num_channels"):
        BatchNorm(num_channels=[]).init_params(rng)


def test_initial_parameters_and_their_attributes(rng):
    layer = BatchNorm(num_channels=3)
    multipliers, biases, moments = layer.init_params(rng)
    assert multipliers.tolist() == [1, 1, 1] and biases.tolist() == [0, 0, 0]
    assert moments.shape == (3, 2) and moments.dtype == np.float32 and not moments.any()
    average = {"train_method": "average", "learning_rate": 0.1}
    assert layer.param_attributes() == [{}, {}, average]
    frozen = BatchNorm(moments="stored").param_attributes()[2]
    assert frozen["train_method"] == "gradient" and frozen["learning_rate"] == 0


@dataclass(eq=False, kw_only=True)
class OriginalBatchNorm(BatchNorm):
    """BatchNorm with the original's formula for given moments."""

    def backward(self, inputs, params, der_outputs, saved, context):
        der_x, *der_params = bnorm_backward_given_moments(
            inputs[0], params[0], der_outputs[0], params[2]
        )
        return [der_x], der_params


def test_the_originals_derivative_with_given_moments_is_not_the_derivative(rng):
    x, *params = arrays(rng, (2, 3, 4, 5))
    # Its derivatives by multipliers and biases are right, that by the input is not.
    check_layer(OriginalBatchNorm(), [x], params, mode="test", skip_inputs=[0], skip_params=[2])
    with pytest.raises(GradientError, match="input 0"):
        check_layer(OriginalBatchNorm(), [x], params, mode="test", skip_params=[2])


@golden("layers_vl_nnbnorm")
def test_equals_vl_nnbnorm(case):
    assert_passes(case)
