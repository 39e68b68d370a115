"""Tests of the stand-in for CuPy: what CuPy refuses it refuses, and waiting is counted."""

import dataclasses
import sys

import numpy as np
import pytest

from dagnet import ShapeError, asnumpy, get_array_module, to_device
from dsiam_net.training import clip_batch, frame_stats
from dsiam_net.unrolled import objectives
from simulated_cupy import installed
from tiny import smooth_clip, tiny_unrolled


@pytest.fixture
def transfers():
    with installed() as count:
        yield count


@pytest.fixture
def x(transfers):
    array = to_device(np.arange(6.0).reshape(2, 3), "gpu")
    transfers.to_device = 0
    return array


def test_results_are_those_of_numpy(x):
    xp = get_array_module(x)
    assert xp.__name__ == "cupy"
    assert asnumpy(xp.exp(x) @ x.T + 1 - 2 * x[:, :1]).tolist() == (
        (np.exp(x.get()) @ x.get().T + 1 - 2 * x.get()[:, :1]).tolist()
    )
    x[0, x[0] > 0] = 7.0
    x += x
    assert asnumpy(x).tolist() == [[0.0, 14.0, 14.0], [6.0, 8.0, 10.0]]
    assert np.add(x, 1.0).get().tolist() == (x + 1).get().tolist()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: x + np.ones((2, 3)),
        lambda x: np.ones((2, 3)) * x,
        lambda x: get_array_module(x).maximum(x, np.zeros((2, 3))),
        lambda x: get_array_module(x).concatenate([x, np.zeros((2, 3))]),
        lambda x: np.asarray(x),
        lambda x: x.__setitem__(0, np.zeros(3)),
    ],
)
def test_arrays_of_the_host_do_not_mix_with_those_of_the_device(x, mistake):
    with pytest.raises(TypeError, match=r"Unsupported type|Implicit conversion"):
        mistake(x)


@pytest.mark.parametrize(
    "mistake, error",
    [
        (lambda x: x.max(initial=0.0), "has no arguments"),
        (lambda x: get_array_module(x).sum(x, where=x > 0), "has no arguments"),
        (lambda x: get_array_module(x).add(x, x, where=x > 0), "has no arguments"),
        (lambda x: get_array_module(x).errstate(), "no attribute"),
        (lambda x: get_array_module(x).exp.accumulates(x), "has no"),
        (lambda x: x.newbyteorder(), "no attribute"),
    ],
)
def test_what_cupy_lacks_is_missing(x, mistake, error):
    with pytest.raises((TypeError, AttributeError), match=error):
        mistake(x)


@pytest.mark.parametrize(
    "read",
    [
        asnumpy,
        lambda x: float(x[0, 0]),
        lambda x: bool((x > 0).all()),
        lambda x: x.sum().item(),
        lambda x: x[x > 2],
        lambda x: get_array_module(x).nonzero(x),
    ],
)
def test_what_the_host_waits_for_is_counted(x, transfers, read):
    before = transfers.to_host
    read(x)
    assert transfers.to_host == before + 1


def test_computing_on_the_device_alone_is_not_waited_for(x, transfers):
    y = get_array_module(x).where(x > 2, x, 0.0).sum(axis=0)
    y[:2] = 1.0
    assert (transfers.to_host, transfers.to_device) == (0, 0)


def test_the_module_is_there_within_the_block_alone():
    before = sys.modules.get("cupy")
    with installed():
        import cupy

        assert cupy is not before and cupy.zeros(2).sum().get() == 0
    assert sys.modules.get("cupy") is before


def test_a_training_step_on_the_device_is_that_of_the_cpu(rng):
    ders = {}
    for device in ("cpu", "gpu"):
        with installed():
            net = tiny_unrolled(np.random.default_rng(3), np.float64)
            net.move(device)
            batch = clip_batch(net, [smooth_clip(np.random.default_rng(4))], np.float64)
            der_outputs = dict.fromkeys(objectives(net), 1)
            net.eval(batch.inputs, der_outputs, late_inputs=batch.late_inputs)
            ders[device] = {p.name: asnumpy(p.der) for p in net.params}
            values = [get_array_module(p.der).__name__ for p in net.params]
            assert set(values) == {"numpy" if device == "cpu" else "cupy"}
    for name, der in ders["cpu"].items():
        scale = max(np.abs(der).max(), 1e-6)
        assert np.abs(ders["gpu"][name] - der).max() < 1e-8 * scale, name


def test_a_step_is_waited_for_once(rng):
    """What the figures of a step need, and what layers require of values, comes together."""
    with installed() as transfers:
        net = tiny_unrolled(rng, np.float64)
        net.move("gpu")
        batch = clip_batch(net, [smooth_clip(rng)], np.float64)
        for _ in range(2):
            before = dataclasses.replace(transfers)
            net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
            assert len(net.requirements) == 4 * 3  # a lambda each: V and W, two features, frames
            frame_stats({}, net)
            waited = transfers.to_host - before.to_host
        # The second time: the first has made the plan, which looks at settings.
        assert waited == 1 and not net.requirements


def test_what_a_layer_requires_is_told_with_the_figures(rng):
    with installed():
        net = tiny_unrolled(rng, np.float64)
        net.get_param("w_lambda").value[...] = -1.0
        net.move("gpu")
        batch = clip_batch(net, [smooth_clip(rng)], np.float64)
        net.eval(batch.inputs, late_inputs=batch.late_inputs)
        with pytest.raises(ShapeError, match=r"'w_lambda': lambda must be greater than 0.*-1"):
            net.check_values()
        net.check_values()  # it was told
    net = tiny_unrolled(rng, np.float64)
    net.get_param("w_lambda").value[...] = -1.0
    batch = clip_batch(net, [smooth_clip(rng)], np.float64)
    with pytest.raises(ShapeError, match="lambda must be greater than 0"):
        net.eval(batch.inputs, late_inputs=batch.late_inputs)
