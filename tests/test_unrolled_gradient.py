"""Proof of the whole: derivatives of the unrolled network's loss by every parameter.

The analytic derivative is compared with central differences along random directions, in float64,
with the labels held. With ``crop_gradient='none'`` the crops' positions are held too (the place of
a maximum does not change under a small step); with ``'soft'`` they move.
"""

import numpy as np
import pytest

from dsiam_net.training import clip_batch
from dsiam_net.unrolled import freeze_moments, objectives
from errors import record_error
from tiny import smooth_clip, tiny_unrolled

TOLERANCE = {"none": 1e-6, "soft": 1e-5}
# A sum of three losses is computed to about this: a step in whose difference quotient it would
# show is left out.
ROUNDING = 1e-15
# Random directions tried where a kink of ReLU or pooling lies near along one.
DIRECTIONS = 8
# Tried until two agree to a tenth of the tolerance: a large step crosses kinks, a small one drowns
# in rounding.
STEPS = (1e-6, 1e-7, 1e-5, 1e-8, 3e-6, 3e-7, 3e-8)
# Batch statistics take a shift of their input away: a bias before them has no effect.
ZERO_IN_BATCH_MODE = {f"conv{i}b" for i in range(1, 5)}
MOMENTS = {f"bn{i}x" for i in range(1, 5)}
SMALLEST = 1e-12


def hold_labels(net, batch):
    """Inputs with the labels that the crops' present positions give."""
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    frames = range(1, net.meta["unrolled"]["frames"] + 1)
    values = {f"center{t}": net.get_var(f"center{t}").value for t in frames}
    return {**batch.inputs, **batch.late_inputs(values)}


def total(net, inputs):
    net.eval(inputs)
    return sum(float(net.get_var(name).value) for name in objectives(net))


def store_observed_moments(net, batch, rng):
    """Keep moments near those of the batch, so that scores stay of order one."""
    net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
    for name in MOMENTS:
        parameter = net.get_param(name)
        observed = parameter.der / parameter.fanout
        parameter.value = observed * rng.uniform(0.9, 1.1, observed.shape)
    freeze_moments(net)


def central_difference(net, inputs, parameter, direction, tolerance):
    """The derivative along ``direction``, from two steps that agree; chosen without a look at the
    analytic one. None if none do: a kink lies too near on this way."""
    value, estimates = parameter.value, []
    for step in STEPS:
        parameter.value = value + step * direction
        plus = total(net, inputs)
        parameter.value = value - step * direction
        minus = total(net, inputs)
        parameter.value = value
        estimate = (plus - minus) / (2 * step)
        if ROUNDING / step > tolerance / 3 * abs(estimate):
            continue
        for other in estimates:
            if abs(estimate - other) < tolerance / 10 * abs(estimate):
                return (estimate + other) / 2
        estimates.append(estimate)
    return None


def along_some_direction(net, inputs, parameter, der, rng, tolerance):
    """(analytic, numerical) derivative along the first random direction without a kink nearby."""
    for _ in range(DIRECTIONS):
        direction = rng.standard_normal(parameter.value.shape)
        direction *= np.abs(parameter.value).max() / np.linalg.norm(direction)
        numerical = central_difference(net, inputs, parameter, direction, tolerance)
        if numerical is not None:
            return float((der * direction).sum()), numerical
    raise AssertionError(f"a kink is near along {DIRECTIONS} directions of {parameter.name}")


@pytest.mark.parametrize("freeze_bn", [False, True], ids=["batch", "stored"])
@pytest.mark.parametrize("crop_gradient", ["none", "soft"])
def test_every_parameters_derivative_is_the_numerical_one(rng, crop_gradient, freeze_bn):
    tolerance = TOLERANCE[crop_gradient]
    net = tiny_unrolled(rng, crop_gradient=crop_gradient, temperature=1.0)
    # Values of order one throughout, so that a step along any parameter is felt.
    batch = clip_batch(net, [smooth_clip(rng, white=1.0)], np.float64)
    if freeze_bn:
        store_observed_moments(net, batch, rng)
    inputs = hold_labels(net, batch)
    net.eval(inputs, dict.fromkeys(objectives(net), 1))
    ders = {p.name: p.der for p in net.params}
    for parameter in net.params:
        name, der = parameter.name, ders[parameter.name]
        if not freeze_bn and name in MOMENTS:
            continue
        if not freeze_bn and name in ZERO_IN_BATCH_MODE:
            assert np.abs(der).max() < SMALLEST
            continue
        assert np.abs(der).max() > SMALLEST, f"the derivative by {name} is zero"
        analytic, numerical = along_some_direction(net, inputs, parameter, der, rng, tolerance)
        error = abs(analytic - numerical) / abs(numerical)
        record_error("whole network", f"{crop_gradient}, {name}", error, f"frozen {freeze_bn}")
        assert error < tolerance, f"{name}: analytic {analytic:.12g}, numerical {numerical:.12g}"


def test_pool_and_scatter_change_the_derivatives_of_the_parameters(rng):
    ders = {}
    for mode in ("none", "pool", "scatter"):
        seeded = np.random.default_rng(3)
        net = tiny_unrolled(seeded, crop_gradient=mode)
        inputs = hold_labels(net, clip_batch(net, [smooth_clip(seeded)], np.float64))
        net.eval(inputs, dict.fromkeys(objectives(net), 1))
        ders[mode] = net.get_param("conv5f").der
    assert not np.allclose(ders["none"], ders["pool"])
    assert not np.allclose(ders["pool"], ders["scatter"])
