"""Tests of layers.dropout."""

import numpy as np
import pytest

from dagnet import SGD, Batch, Callback, Context, DagNN, TrainOptions, train_dag
from errors import prove
from golden import assert_passes, golden
from layers import Conv, DropOut, Loss, dropout, dropout_mask
from suite import check_derivatives, over_kinds


def context(seed=0, mode="normal"):
    return Context(mode=mode, rng=np.random.default_rng(seed))


def network(**settings):
    """Dropout twice, so that two masks are seen."""
    net = DagNN()
    net.add_layer("drop1", DropOut(**settings), "x", "y1")
    net.add_layer("drop2", DropOut(**settings), "x", "y2")
    return net


def outputs(net, x):
    net.eval({"x": x})
    return net.get_var("y1").value, net.get_var("y2").value


@pytest.mark.parametrize("mode", ["normal", "test"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_gradient(rng, rate, mode):
    prove(DropOut(rate=rate), [rng.standard_normal((2, 3, 5, 4))], mode=mode)


@over_kinds
def test_suite_nndropout(rng, kind):
    """MatConvNet's test class nndropout: a derivative with the mask of the value."""
    check_derivatives(kind, DropOut(), [rng.standard_normal((3, 10, 4, 5))])


def test_mask_has_the_rate_and_keeps_the_mean():
    x = np.ones((10, 10, 50, 40), np.float32)
    mask = dropout_mask(x, 0.3, np.random.default_rng(0))
    assert mask.dtype == np.float32
    assert (mask == 0).mean() == pytest.approx(0.3, abs=0.005)
    np.testing.assert_allclose(mask[mask > 0], 1 / 0.7, rtol=1e-6)
    assert dropout(x, mask).mean() == pytest.approx(1, abs=0.01)


def test_masks_are_the_same_in_both_precisions():
    masks = [
        dropout_mask(np.ones((2, 3, 4, 5), dtype), 0.5, np.random.default_rng(7))
        for dtype in (np.float32, np.float64)
    ]
    assert masks[0].dtype == np.float32 and masks[1].dtype == np.float64
    np.testing.assert_array_equal(*masks)


def test_in_test_mode_the_input_passes(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    layer = DropOut(rate=0.9)
    (y,), saved = layer.forward([x], [], context(mode="test"))
    np.testing.assert_array_equal(y, x)
    (der,), _ = layer.backward([None], [], [2 * x], saved, context(mode="test"))
    np.testing.assert_array_equal(der, 2 * x)


def test_uses_evaluations_and_seeds_have_masks_of_their_own(rng):
    x = rng.standard_normal((2, 3, 6, 5)) + 10
    net, same, other = network(), network(), network()
    other.rng = np.random.default_rng(1)
    first, second = outputs(net, x), outputs(net, x)
    assert not np.array_equal(*first)  # two layers
    assert not np.array_equal(first[0], second[0])  # two evaluations
    np.testing.assert_array_equal(first, outputs(same, x))
    np.testing.assert_array_equal(second, outputs(same, x))
    assert not np.array_equal(first[0], outputs(other, x)[0])


def test_global_random_state_is_left_alone(rng):
    before = np.random.get_state()[1].copy()
    outputs(network(), rng.standard_normal((2, 3, 6, 5)))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_a_frozen_layer_goes_on_with_its_last_mask(rng):
    x = rng.standard_normal((2, 3, 6, 5)) + 10
    net = network()
    first = outputs(net, x)
    for record in net.layers:
        record.block.frozen = True
    np.testing.assert_array_equal(first, outputs(net, x))
    np.testing.assert_array_equal(first, outputs(net, x))
    for record in net.layers:
        record.block.frozen = False
    assert not np.array_equal(first, outputs(net, x))


def test_a_layer_that_is_frozen_from_the_start_draws_once(rng):
    x = rng.standard_normal((2, 3, 6, 5)) + 10
    net = network(frozen=True)
    np.testing.assert_array_equal(outputs(net, x), outputs(net, x))


def test_reset_forgets_the_mask_and_unfreezes(rng):
    x = rng.standard_normal((2, 3, 6, 5)) + 10
    net = network(frozen=True)
    first = outputs(net, x)
    net.reset()
    assert not net.get_layer("drop1").block.frozen
    assert not np.array_equal(first, outputs(net, x))


def test_a_checkpoint_keeps_a_frozen_mask(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    layer, loaded = DropOut(frozen=True), DropOut(frozen=True)
    (y,), _ = layer.forward([x], [], context(3))
    state = layer.statistics_state()
    loaded.load_statistics_state({k: float(v) for k, v in state.items()})
    np.testing.assert_array_equal(loaded.forward([x], [], context(4))[0][0], y)
    assert DropOut().statistics_state() is None


class Interrupt(Callback):
    """Ctrl-C after the second step of the second epoch."""

    def after_step(self, mode, epoch, step, steps, stats):
        if (epoch, step) == (2, 2):
            raise KeyboardInterrupt


def train(folder, seed=0, callbacks=()):
    """Two epochs of three steps; returns the filters, bit for bit."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((6, 2, 5, 4)).astype(np.float32)
    labels = np.sign(rng.standard_normal((6, 1, 3, 2))).astype(np.float32)
    net = DagNN()
    net.add_layer("drop", DropOut(rate=0.4), "x", "d")
    net.add_layer("conv", Conv(size=(1, 2, 3, 3)), "d", "y", ["f", "b"])
    net.add_layer("loss", Loss(loss="logistic"), ["y", "c"], "objective")
    net.init_params(1)
    options = TrainOptions(
        exp_dir=folder,
        batch_size=2,
        num_epochs=2,
        learning_rate=0.1,
        solver=SGD(0.9),
        checkpoint_every=1,
        random_seed=seed,
    )

    def batch(indexes, mode, epoch):
        return Batch({"x": images[indexes], "c": labels[indexes]})

    net, _ = train_dag(net, batch, range(6), options=options, callbacks=callbacks)
    return net.get_param("f").value.tobytes()


def test_a_run_that_is_interrupted_goes_on_with_the_same_masks(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", callbacks=[Interrupt()])
    assert train(tmp_path / "broken") == whole
    assert train(tmp_path / "other", seed=1) != whole


def test_one_layer_in_two_places_has_two_masks_and_their_derivatives(rng):
    layer = DropOut()
    x = rng.standard_normal((2, 3, 4, 5)) + 10
    (y1,), saved1 = layer.forward([x], [], context(1))
    (y2,), saved2 = layer.forward([x], [], context(2))
    for y, saved in ((y1, saved1), (y2, saved2)):
        (der,), _ = layer.backward([None], [], [x], saved, context())
        np.testing.assert_array_equal(der, y)


def test_bad_settings_and_a_missing_generator_are_refused(rng):
    for rate in (-0.1, 1.0, 2):
        with pytest.raises(ValueError, match="rate"):
            DropOut(rate=rate)
    with pytest.raises(ValueError, match="generator"):
        DropOut().forward([rng.standard_normal((1, 1, 2, 2))], [], Context())


@golden("layers_pure_m", lambda name: name.startswith("dropout"))
def test_equals_vl_nndropout(case):
    assert_passes(case)
