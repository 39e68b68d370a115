"""The full-size network, ten frames: slow (``make slow``)."""

import numpy as np
import pytest

from dsiam_net.branches import cast_params, siamfc_branch
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import build_unrolled, objectives

# Single precision flips decisions of ReLU and pooling, so that whole windows of a derivative go
# elsewhere: its distance from double precision may be this many times that of the plain layers.
FLOAT32_MULTIPLE = 3
FLOAT32_LOSSES = 1e-5


@pytest.fixture(scope="module")
def clip():
    return SyntheticVideos(seed=4, photographs=False).clip(0, 0)


def evaluate(clip, dtype, plan=True):
    branch = siamfc_branch()
    branch.init_params(0)
    cast_params(branch, dtype)
    net = build_unrolled(branch)
    cast_params(net, dtype)
    batch = clip_batch(net, [clip], dtype)
    net.eval(
        batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs, plan=plan
    )
    return net, batch


@pytest.mark.slow
def test_single_precision_is_as_near_to_double_as_the_plain_layers_are(clip):
    double, _ = evaluate(clip, np.float64)
    planned, _ = evaluate(clip, np.float32)
    plain, _ = evaluate(clip, np.float32, plan=False)
    for name in objectives(double):
        exact, found = (float(net.get_var(name).value) for net in (double, planned))
        assert found == pytest.approx(exact, rel=FLOAT32_LOSSES)
    own, others = errors(planned, double), errors(plain, double)
    for name, error in own.items():
        assert error < FLOAT32_MULTIPLE * max(others.values()), f"{name}: {error:.2e}"


def errors(net, exact):
    """Largest error of each parameter's derivative, relative to the largest derivative."""
    # Batch statistics take the effect of these biases away: noise around zero.
    noise = {f"conv{i}b" for i in range(1, 5)}
    ders = {p.name: p.der for p in exact.params if p.name not in noise}
    return {
        name: np.abs(net.get_param(name).der - der).max() / np.abs(der).max()
        for name, der in ders.items()
    }


@pytest.mark.slow
def test_the_plan_gives_what_the_layers_give_one_by_one(clip):
    planned, _ = evaluate(clip, np.float64)
    plain, _ = evaluate(clip, np.float64, plan=False)
    for name in objectives(plain):
        first, second = (float(net.get_var(name).value) for net in (planned, plain))
        assert first == pytest.approx(second, rel=1e-12)
    for parameter in plain.params:
        expected, found = parameter.der, planned.get_param(parameter.name).der
        scale = np.abs(expected).max()
        if parameter.name in {f"conv{i}b" for i in range(1, 5)}:
            # Noise around zero: small against the derivative by the same layer's filters.
            scale = np.abs(plain.get_param(parameter.name[:-1] + "f").der).max()
        assert np.abs(found - expected).max() < 1e-9 * scale, parameter.name


@pytest.mark.slow
def test_the_derivative_along_a_direction_is_the_numerical_one(clip):
    net, batch = evaluate(clip, np.float64)
    rng = np.random.default_rng(0)
    centers = {f"center{t}": net.get_var(f"center{t}").value for t in range(1, 11)}
    inputs = {**batch.inputs, **batch.late_inputs(centers)}

    def total():
        net.eval(inputs)
        return sum(float(net.get_var(name).value) for name in objectives(net))

    for record in net.layers:
        if record.type == "Crop":
            record.block.mode = "none"
    net.eval(inputs, dict.fromkeys(objectives(net), 1))
    ders = {name: net.get_param(name).der for name in ("conv5f", "cir11_lr", "sumweights")}
    for name, der in ders.items():
        parameter = net.get_param(name)
        value = parameter.value
        direction = rng.standard_normal(value.shape)
        direction *= np.abs(value).max() / np.linalg.norm(direction)
        step = 1e-6
        parameter.value = value + step * direction
        plus = total()
        parameter.value = value - step * direction
        minus = total()
        parameter.value = value
        numerical = (plus - minus) / (2 * step)
        assert float((der * direction).sum()) == pytest.approx(numerical, rel=1e-5), name
