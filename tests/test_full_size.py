"""The full-size network, ten frames: slow (``make slow``)."""

import numpy as np
import pytest

from dsiam_net.branches import cast_params, siamfc_branch
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import build_unrolled, objectives

# Single precision flips decisions of ReLU and pooling; a mature float32 implementation is 7e-4
# away from double precision in the derivatives by the filters of this network.
FLOAT32_DERIVATIVES = 3 * 7e-4
FLOAT32_LOSSES = 1e-5


@pytest.fixture(scope="module")
def clip():
    return SyntheticVideos(seed=4, photographs=False).clip(0, 0)


def evaluate(clip, dtype):
    branch = siamfc_branch()
    branch.init_params(0)
    cast_params(branch, dtype)
    net = build_unrolled(branch)
    cast_params(net, dtype)
    batch = clip_batch(net, [clip], dtype)
    net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
    return net, batch


@pytest.mark.slow
def test_single_precision_agrees_with_double(clip):
    single, _ = evaluate(clip, np.float32)
    double, _ = evaluate(clip, np.float64)
    for name in objectives(single):
        first, second = (float(net.get_var(name).value) for net in (single, double))
        assert first == pytest.approx(second, rel=FLOAT32_LOSSES)
    for parameter in double.params:
        if parameter.name in {f"conv{i}b" for i in range(1, 5)}:
            continue  # batch statistics take their effect away: noise around zero
        exact, found = parameter.der, single.get_param(parameter.name).der
        error = np.abs(found - exact).max() / np.abs(exact).max()
        assert error < FLOAT32_DERIVATIVES, f"{parameter.name}: {error:.2e}"


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
