"""Tests of derivatives of which only a weighted sum is used: who asks, who answers, who sees."""

import numpy as np
import pytest

from dagnet import Context
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import objectives
from layers import BatchNorm, Conv, Crop, Eltwise, Pooling, ReLU
from layers.chain import FeatureChain, PlainChain, make_stage
from tiny import smooth_clip, tiny_unrolled

WEIGHTINGS = {
    "a number": lambda rng: 1.0,
    "another": lambda rng: -2.5,
    "zero": lambda rng: 0.0,
    "zeros": lambda rng: np.zeros((21, 19)),
    "a mask": lambda rng: rng.uniform(0, 1, (21, 19)),
    "channels": lambda rng: rng.standard_normal((3, 1, 1)),
    "all cells": lambda rng: rng.standard_normal((3, 21, 19)),
}

KINDS = pytest.mark.parametrize("kind", [FeatureChain, PlainChain])


@pytest.mark.parametrize("pad", [0, (1, 2, 0, 1)])
@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
@pytest.mark.parametrize("moments", ["batch", "stored"])
@KINDS
def test_a_chain_gives_a_derivative_with_the_weighted_sum_of_the_whole_one(
    rng, kind, weighting, pad, moments
):
    stages = (
        make_stage(
            Conv(size=(8, 3, 5, 5), stride=2, pad=pad),
            BatchNorm(num_channels=8, moments=moments),
            ReLU(),
            Pooling(method="max", pool_size=2, stride=1),
        ),
    )
    chain = kind(stages=stages)
    params = [rng.standard_normal((8, 3, 5, 5)), *rng.standard_normal((3, 8))]
    params.append(np.stack([rng.standard_normal(8), rng.uniform(0.5, 2, 8)], axis=1))
    inputs = [rng.standard_normal((n, 3, 21, 19)) for n in (2, 1)]
    outputs, _ = chain.forward(
        inputs, params, Context(shared=(shared := chain.begin(params, Context())))
    )
    ders = [rng.standard_normal(output.shape) for output in outputs]
    w = weighting(rng)

    def backward(weights):
        context = Context(shared=shared, uses=(1, 1), weights=weights)
        _, kept = chain.forward(inputs, params, context)
        return chain.backward(inputs, params, ders, kept, context)

    whole, part = backward(None)
    summed, other = backward((w, w))
    for x, one, two in zip(inputs, whole, summed):
        assert two.shape == x.shape
        np.testing.assert_allclose((w * two).sum((1, 2, 3)), (w * one).sum((1, 2, 3)), atol=1e-10)
    both = (chain.finish(p, params, shared, Context()) for p in (part, other))
    for one, two in zip(*both):
        np.testing.assert_array_equal(one, two)


@KINDS
def test_where_one_branch_wants_the_whole_derivative_it_gets_it(rng, kind):
    chain = kind(stages=(make_stage(Conv(size=(8, 3, 3, 3), has_bias=False)),))
    params = [rng.standard_normal((8, 3, 3, 3))]
    inputs = [rng.standard_normal((1, 3, 9, 9)) for _ in range(2)]
    ders = [rng.standard_normal((1, 8, 7, 7)) for _ in range(2)]
    found = []
    for weights in (None, (1.0, None)):
        context = Context(shared=chain.begin(params, Context()), uses=(1, 1), weights=weights)
        _, saved = chain.forward(inputs, params, context)
        found.append(chain.backward(inputs, params, ders, saved, context)[0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[1][0].sum() == pytest.approx(found[0][0].sum(), abs=1e-12)


def test_a_crop_asks_for_a_plain_sum_in_mode_pool_alone():
    for mode in ("pool", "scatter", "none", "soft"):
        asked = Crop(size=127, side="search", mode=mode).weigh([None] * 5, 2)
        assert asked == [1.0 if mode == "pool" else None, None]


def test_a_mask_asks_for_what_its_reader_asks_for_weighed_by_itself(rng):
    mask, der = rng.uniform(0, 1, (5, 4)), rng.standard_normal((2, 3, 5, 4))
    block = Eltwise(operation="prod", constant=mask)
    assert block.weigh([None], 1) == [None]
    assert Eltwise(operation="sum", constant=mask).weigh([1.0], 1) == [None]
    for weight in (1.0, rng.standard_normal((3, 1, 1))):
        (asked,) = block.weigh([weight], 1)
        (whole,), _ = block.backward([None], [], [der], None, Context())
        expected = (asked * der).sum((1, 2, 3))
        np.testing.assert_allclose((weight * whole).sum((1, 2, 3)), expected, rtol=1e-12)


def test_a_precious_patch_has_its_whole_derivative(rng):
    net = tiny_unrolled(rng, frames=2)
    batch = clip_batch(net, [smooth_clip(rng, frames=2)], np.float64)
    patches = ("f2_g", "f2_gbar", "f2_o")
    for name in patches:
        net.get_var(name).precious = True
    found = {}
    for plan in (True, False):
        ones = dict.fromkeys(objectives(net), 1)
        net.eval(batch.inputs, ones, late_inputs=batch.late_inputs, plan=plan)
        found[plan] = {name: net.get_var(name).der for name in patches}
    for name, der in found[False].items():
        np.testing.assert_allclose(found[True][name], der, atol=1e-9 * np.abs(der).max())
