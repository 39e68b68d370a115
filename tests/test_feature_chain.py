"""Tests of layers.chain: chains of both kinds equal their layers one after the other."""

from dataclasses import replace

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size, relative_error
from errors import prove, record_error
from feature_chains import (
    Alone,
    LayeredChain,
    evaluate,
    forget_choices,
    make_chain,
    random_chain,
    transform_everything,
)
from layers import BatchNorm, Conv, Pooling, ReLU
from layers.chain import FeatureChain, PlainChain, plain

DOUBLE = 1e-10
# Winograd's transformations magnify single precision's rounding by some ten.
SINGLE = 2e-5


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """Winograd's convolution takes the few channels of the chains here."""
    transform_everything(monkeypatch)
    yield
    monkeypatch.undo()
    forget_choices()


@pytest.fixture(params=[FeatureChain, PlainChain], autouse=True)
def kind(request, monkeypatch):
    """The fused layer that runs the chains of a test."""
    monkeypatch.setattr(LayeredChain, "kind", request.param)
    return request.param


only_feature_chains = pytest.mark.parametrize("kind", [FeatureChain], indirect=True)


def agree(actual, expected, tolerance, what, scale=None):
    """Compare relative to the largest entry, or to ``scale``."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    error = np.abs(actual - expected).max() / (scale or max(np.abs(expected).max(), 1e-300))
    record_error("chain against layers", f"{what} {expected.dtype}", error, what)
    assert error <= tolerance, f"{what}: {error:.2e}"


def compare(rng, chain, inputs, mode, tolerance, ders=None, uses=None):
    """All outputs and derivatives of a call of several branches against the layers'."""
    dtype = inputs[0].dtype
    plain = [chain.forward(x, mode) for x in inputs]
    shown = len(plain[0][0])
    if ders is None:
        ders = [[rng.standard_normal(y.shape).astype(dtype) for y in ys] for ys, _ in plain]
    uses = uses or (1,) * len(inputs)
    outputs, der_inputs, der_params = evaluate(
        chain, inputs, lambda _: [d for own in ders for d in own], mode=mode, uses=uses
    )
    for k, y in enumerate(outputs):
        agree(y, plain[k // shown][0][k % shown], tolerance, "output")
    totals = [None] * len(der_params)
    for (_, used), own, der_x, count in zip(plain, ders, der_inputs, uses):
        expected, by_params = chain.backward(used, own, mode)
        if expected is None:
            assert der_x is None or not der_x.any()
        else:
            agree(der_x, expected, tolerance, "input", max(np.abs(expected).max(), 1e-3))
        for k, (name, der) in enumerate(zip(chain.param_names, by_params)):
            if der is not None:
                batch = mode == "normal" and name == ("BatchNorm", 2)
                stored = batch and chain.layers[_layer_of(chain, k)].moments == "stored"
                der = der * count if batch and not stored else der
                totals[k] = der if totals[k] is None else totals[k] + der
    # A derivative that is zero but for rounding is compared with the others'.
    scale = max(np.abs(t).max() for t in totals if t is not None)
    for name, der, total in zip(chain.param_names, der_params, totals):
        assert (der is None) == (total is None)
        if der is not None:
            what = f"{name[0]} {name[1]}"
            agree(der, total, tolerance, what, max(np.abs(total).max(), 1e-2 * scale))
    return outputs, der_inputs, der_params


def _layer_of(chain, place):
    """The layer that a parameter belongs to."""
    return next(k for k in range(len(chain.params)) if place < sum(map(len, chain.params[: k + 1])))


def siamfc(rng, channels=(12, 16, 24, 24, 16), dtype=np.float64):
    """SiamFC's layers with fewer channels; relu4 and conv5 are looked at."""
    kernels, groups, before = (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), 3
    parts = []
    for k, (out, side, group) in enumerate(zip(channels, kernels, groups)):
        conv = Conv(size=(out, before // group, side, side), stride=2 if k == 0 else 1)
        last = k == 4
        parts.append(
            (
                conv,
                None if last else BatchNorm(epsilon=1e-4),
                None if last else ReLU(),
                Pooling(pool_size=3, stride=2) if k < 2 else None,
                k >= 3,
            )
        )
        before = out
    return make_chain(rng, None, *parts, dtype=dtype)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("mode", ["normal", "test"])
def test_random_chains_equal_their_layers(seed, mode):
    rng = np.random.default_rng(seed)
    channels = int(rng.choice([3, 4, 6]))
    chain = random_chain(rng, channels)
    sizes = [(2, channels, 58, 55), (2, channels, 58, 55), (1, channels, 61, 57)]
    inputs = [rng.standard_normal(s) for s in sizes[: rng.integers(1, 4)]]
    compare(rng, chain, inputs, mode, DOUBLE, uses=tuple(rng.integers(1, 4, len(inputs))))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mode", ["normal", "test"])
def test_random_chains_equal_their_layers_in_single_precision(seed, mode):
    rng = np.random.default_rng(100 + seed)
    chain = random_chain(rng, 6, np.float32)
    inputs = [rng.standard_normal((2, 6, 47, 45)).astype(np.float32) for _ in range(2)]
    plain = [chain.forward(x, mode)[0] for x in inputs]
    outputs, _, ders = evaluate(chain, inputs, lambda ys: ys, mode=mode)
    for y, expected in zip(outputs, (y for ys in plain for y in ys)):
        agree(y, expected, SINGLE, "output")
    assert all(der.dtype == np.float32 for der in ders)


def test_siamfcs_branch_equals_its_layers(rng):
    chain = siamfc(rng)
    sizes = ((1, 3, 95, 95), (1, 3, 95, 95), (1, 3, 87, 103))
    compare(rng, chain, [rng.standard_normal(s) for s in sizes], "normal", DOUBLE, uses=(1, 3, 2))


@pytest.mark.parametrize("mode", ["normal", "test"])
def test_without_derivatives_the_outputs_are_the_same(rng, mode):
    chain = siamfc(rng)
    x = rng.standard_normal((2, 3, 95, 90))
    fused, params = chain.fused, chain.flat_params
    context = Context(mode=mode, shared=fused.begin(params, Context(mode=mode)), derivatives=False)
    outputs, saved = fused.forward([x], params, context)
    assert saved is None
    for y, expected in zip(outputs, chain.forward(x, mode)[0]):
        agree(y, expected, DOUBLE, "output")
    # The same weights serve an evaluation with derivatives.
    outputs, saved = fused.forward([x], params, replace(context, derivatives=True))
    ders, _ = fused.backward([x], params, outputs, saved, context)
    _, used = chain.forward(x, mode)
    agree(ders[0], chain.backward(used, outputs, mode)[0], DOUBLE, "input")


def missing(rng, chain, inputs, where):
    """Derivatives with None where asked."""
    plain = [chain.forward(x, "normal")[0] for x in inputs]
    return [
        [None if (b, k) in where else rng.standard_normal(y.shape) for k, y in enumerate(ys)]
        for b, ys in enumerate(plain)
    ]


@pytest.mark.parametrize(
    "where",
    [{(0, 1)}, {(0, 0), (1, 1)}, {(0, 1), (1, 1)}, {(0, 0), (1, 0)}, {(0, 0), (0, 1)}],
    ids=str,
)
def test_outputs_without_a_derivative_give_none(rng, where):
    norm, relu = BatchNorm(epsilon=1e-4), ReLU()
    chain = make_chain(
        rng,
        None,
        (Conv(size=(6, 3, 3, 3)), norm, relu, Pooling(pool_size=2, stride=2), True),
        (Conv(size=(8, 6, 3, 3)), norm, relu, None, True),
    )
    inputs = [rng.standard_normal((1, 3, 17, 15)) for _ in range(2)]
    ders = missing(rng, chain, inputs, where)
    compare(rng, chain, inputs, "normal", DOUBLE, ders=ders, uses=(2, 1))


def test_derivatives_by_inputs_are_left_out_where_nobody_reads_them(rng):
    chain = siamfc(rng)
    inputs = [rng.standard_normal((1, 3, 87, 87)) for _ in range(2)]
    _, ders, by_params = evaluate(chain, inputs, lambda ys: ys)
    _, some, same = evaluate(chain, inputs, lambda ys: ys, needs=(False, True))
    _, none, _ = evaluate(chain, inputs, lambda ys: ys, needs=(False, False))
    assert some[0] is None and none == [None, None]
    np.testing.assert_array_equal(some[1], ders[1])
    for a, b in zip(by_params, same):
        np.testing.assert_array_equal(a, b)


PROVED = {
    "winograd with everything": (
        (Conv(size=(8, 8, 3, 3), has_bias=False), BatchNorm(), ReLU(), Pooling(pool_size=2), True),
    ),
    "5x5 in groups, leak": (
        (Conv(size=(16, 8, 5, 5), pad=2), None, ReLU(leak=0.3), None, False),
        (Conv(size=(4, 16, 1, 1), has_bias=False), BatchNorm(), None, None, True),
    ),
    "strided, dilated, looked at in the middle": (
        (Conv(size=(4, 8, 3, 2), stride=2, has_bias=False), BatchNorm(), ReLU(), None, True),
        (Conv(size=(6, 2, 2, 2), dilate=(1, 2), pad=(1, 0, 0, 1)), None, None, None, True),
    ),
    "stored moments": (
        (Conv(size=(4, 8, 3, 3)), BatchNorm(moments="stored"), ReLU(), None, False),
        (Conv(size=(3, 4, 3, 3)), BatchNorm(moments="stored"), None, None, True),
    ),
}


@pytest.mark.parametrize("name", PROVED)
@pytest.mark.parametrize("size", [(9, 9), (8, 11)])
def test_gradient(rng, name, size):
    parts = PROVED[name]
    channels = 16 if "groups" in name else 8
    chain = make_chain(rng, None, *parts)
    # What comes back for batch moments is what was observed.
    observed = [k for k, name in enumerate(chain.param_names) if name == ("BatchNorm", 2)]
    skipped = [] if name == "stored moments" else observed
    x = rng.standard_normal((2, channels, *size))
    prove(Alone(chain), [x], chain.flat_params, skip_params=skipped)


@only_feature_chains
def test_the_bias_before_batch_statistics_has_derivative_exactly_zero(rng, kind):
    chain = make_chain(rng, None, (Conv(size=(4, 3, 3, 3)), BatchNorm(), ReLU(), None, True))
    _, _, ders = evaluate(chain, [rng.standard_normal((2, 3, 9, 8))], lambda ys: ys)
    assert not ders[1].any()


def test_multipliers_of_zero_have_derivatives(rng):
    norm = BatchNorm(epsilon=1e-4)
    chain = make_chain(
        rng,
        None,
        (Conv(size=(16, 3, 3, 3)), norm, ReLU(), Pooling(pool_size=3, stride=2), False),
        (Conv(size=(4, 16, 1, 1)), None, None, None, True),
    )
    chain.params[1][0][::2] = 0
    # Above zero, where the ReLU passes derivatives.
    chain.params[1][1][:] = np.abs(chain.params[1][1]) + 0.1
    _, _, ders = compare(rng, chain, [rng.standard_normal((2, 3, 12, 13))], "normal", DOUBLE)
    assert np.abs(ders[2][::2]).min() > 0


@pytest.mark.parametrize("relu", [None, ReLU(), ReLU(leak=0.5)])
def test_of_equal_values_in_a_window_the_first_wins(rng, relu):
    # Products of small integers are exact, so equal values are equal in both.
    conv = Conv(size=(6, 2, 2, 2))
    chain = make_chain(
        rng,
        None,
        (conv, None, relu, Pooling(pool_size=3, stride=2), True),
        draw=lambda shape: rng.integers(-1, 2, shape).astype(float),
    )
    x = rng.integers(-1, 2, (3, 2, 16, 14)).astype(float)
    compare(rng, chain, [x], "normal", 1e-14)


@pytest.mark.parametrize("relu", [None, ReLU(), ReLU(leak=0.5)])
@pytest.mark.parametrize("pool", [None, Pooling(pool_size=2, stride=2)])
def test_nan_goes_where_it_goes_in_the_layers(rng, relu, pool):
    chain = make_chain(rng, None, (Conv(size=(4, 2, 1, 1)), None, relu, pool, True))
    x = rng.standard_normal((1, 2, 8, 8))
    x[0, :, :3, :2] = np.nan
    (expected,), _ = chain.forward(x, "normal")
    (y,), _, _ = evaluate(chain, [x], lambda ys: [np.ones_like(ys[0])])
    np.testing.assert_array_equal(y, expected)
    assert (pool is None) == bool(np.isnan(y).any())


def test_backward_can_be_run_twice_and_memory_is_given_back_once(rng):
    chain = siamfc(rng, dtype=np.float32)
    fused, params = chain.fused, chain.flat_params
    x = [rng.standard_normal((1, 3, 87, 87)).astype(np.float32)]
    context = Context(shared=fused.begin(params, Context()))
    outputs, saved = fused.forward(x, params, context)
    first = fused.backward(x, params, outputs, saved, context)
    fused.forward(x, params, context)
    second = fused.backward(x, params, outputs, saved, context)
    np.testing.assert_array_equal(first[0][0], second[0][0])
    for a, b in zip(*(fused.finish(part, params, None, context) for _, part in (first, second))):
        np.testing.assert_array_equal(a, b)


def test_parts_of_several_calls_add_up(rng):
    chain = siamfc(rng)
    inputs = [rng.standard_normal((1, 3, s, 87)) for s in (87, 95)]
    _, _, together = evaluate(chain, inputs, lambda ys: ys, uses=(2, 1))
    fused, params = chain.fused, chain.flat_params
    context = Context(shared=fused.begin(params, Context()))
    total = None
    for x, uses in zip(inputs, (2, 1)):
        outputs, saved = fused.forward([x], params, context)
        _, part = fused.backward([x], params, outputs, saved, replace(context, uses=(uses,)))
        total = part if total is None else fused.add(total, part)
    for a, b in zip(fused.finish(total, params, None, context), together):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("kind", [PlainChain], indirect=True)
def test_a_call_may_be_cut_into_several(rng, kind, monkeypatch):
    chain = siamfc(rng)
    inputs = [rng.standard_normal((2, 3, 87, 87)) for _ in range(5)]
    monkeypatch.setattr(plain, "PIECE_BYTES", 2 * inputs[0].nbytes)
    _, saved = kind(stages=chain.stages).forward(
        inputs, chain.flat_params, Context(shared=chain.fused.begin(chain.flat_params, Context()))
    )
    assert [piece.branches for piece in saved] == [[0, 1], [2, 3], [4]]
    compare(rng, chain, inputs, "normal", DOUBLE, uses=(1, 2, 1, 3, 1))


def test_inputs_of_two_precisions_keep_theirs(rng):
    chain = siamfc(rng)
    x = rng.standard_normal((1, 3, 87, 87))
    outputs, ders, by_params = evaluate(chain, [x.astype(np.float32), x], lambda ys: ys)
    assert [y.dtype.name for y in (*outputs, *ders)] == ["float32"] * 2 + ["float64"] * 2 + [
        "float32",
        "float64",
    ]
    _, _, doubled = evaluate(chain, [x, x], lambda ys: ys)
    assert relative_error(by_params[0], doubled[0]) < 1e-3


@only_feature_chains
def test_changed_parameters_are_never_overlooked(rng, kind):
    chain = siamfc(rng)
    x = rng.standard_normal((1, 3, 87, 87))

    def outputs():
        fused, params = chain.fused, chain.flat_params
        shared = fused.begin(params, Context(mode="test"))
        context = Context(mode="test", shared=shared, derivatives=False)
        return fused.forward([x], params, context)[0], shared

    (before, _), first = outputs()
    assert outputs()[1] is first
    chain.params[0][0][-1, -1, -1, -1] += 0.5  # in place, the same array
    (after, _), second = outputs()
    assert second is not first
    agree(after, chain.forward(x, "test")[0][0], DOUBLE, "output")
    assert np.abs(after - before).max() > 1e-3
    chain.params[1][2][0, 1] *= 2  # a moment
    (after, _), _ = outputs()
    agree(after, chain.forward(x, "test")[0][0], DOUBLE, "output")
    chain.params[0][0] = chain.params[0][0] * 2  # another array
    (after, _), _ = outputs()
    agree(after, chain.forward(x, "test")[0][0], DOUBLE, "output")


def test_bad_input_is_refused_as_by_the_layers(rng):
    norm = BatchNorm(epsilon=1e-4)
    chain = make_chain(
        rng, None, (Conv(size=(6, 3, 3, 3)), norm, ReLU(), Pooling(pool_size=4, stride=2), True)
    )

    def run(x, params=None, mode="normal"):
        params = chain.flat_params if params is None else params
        fused = chain.fused
        shared = fused.begin(params, Context(mode=mode))
        return fused.forward([x], params, Context(mode=mode, shared=shared))

    x = rng.standard_normal((1, 3, 9, 9))
    outputs, saved = run(x)
    with pytest.raises(ShapeError):
        run(x[:, :2])
    with pytest.raises(ShapeError):
        run(x[0])
    with pytest.raises(ShapeError):
        run(x[:0])
    with pytest.raises(ShapeError):
        run(x[:, :, :2])
    with pytest.raises(ShapeError):
        run(x[:, :, :5])  # too small for the pooling window
    with pytest.raises(TypeError):
        run(x.astype(np.uint8))
    for k in range(len(chain.flat_params)):
        with pytest.raises(ShapeError):
            run(x, [p[:2] if i == k else p for i, p in enumerate(chain.flat_params)])
    with pytest.raises(ShapeError):
        run(x, chain.flat_params[:-1])
    chain.params[1][2][:] = 0
    with pytest.raises(ValueError, match="positive sigma"):
        run(x, mode="test")
    shared = chain.fused.begin(chain.flat_params, Context())
    with pytest.raises(ShapeError, match="derivative by the output"):
        chain.fused.backward(
            [x], chain.flat_params, [outputs[0][:, :, 1:]], saved, Context(shared=shared)
        )


def test_what_is_kept_is_what_was_announced(rng, kind):
    chain = siamfc(rng, dtype=np.float32)
    fused, params = chain.fused, chain.flat_params
    x = rng.standard_normal((2, 3, 95, 90)).astype(np.float32)
    _, saved = fused.forward([x], params, Context(shared=fused.begin(params, Context())))
    if kind is FeatureChain:
        kept = sum(y.nbytes for group in saved for y in group.ys)
    else:
        used = [used for piece in saved for used in piece.used]
        kept = sum(own.output.nbytes + (0 if own.y is None else own.y.nbytes) for own in used)
        kept += sum(own.nbytes for one in used for own in one.winners or ())
    assert fused.saved_bytes([Size(*x.shape)]) == kept
    assert fused.saved_bytes([Size(2, 3, 4, 90)]) == 0


@pytest.mark.parametrize("wholly", [True, False])
def test_what_is_run_again_for_backward_is_what_forward_kept(rng, wholly):
    chain = siamfc(rng, dtype=np.float32)
    stages, params = chain.stages, chain.flat_params
    if not wholly:
        # The last stage is then one that keeps something.
        stages, params = stages[:4], [p for own in chain.params[:-1] for p in own]
    fused = chain.kind(stages=stages)
    inputs = [rng.standard_normal((1, 3, s, 87)).astype(np.float32) for s in (87, 95, 87)]
    shared = fused.begin(params, Context())
    context = Context(shared=shared, uses=(1, 1, 1), needs=(True, True, True))
    outputs, kept = fused.forward(inputs, params, context)
    again = fused.recall(inputs, params, context)
    for saved in (kept, again):
        ders, part = fused.backward(inputs, params, outputs, saved, context)
        found = [*ders, *fused.finish(part, params, shared, context)]
        if saved is kept:
            expected = found
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


def test_equal_settings_have_equal_keys(rng, kind):
    chain = siamfc(rng)
    assert chain.fused.key() == siamfc(rng).fused.key()
    stages = (replace(chain.stages[0], visible=True), *chain.stages[1:])
    assert kind(stages=stages).key() != chain.fused.key()
