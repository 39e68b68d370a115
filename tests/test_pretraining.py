"""Tests of dsiam_net.pretraining: first values, labels, losses, figures, early stop."""

import json
import math

import numpy as np
import pytest

import golden
from dagnet import StopTraining, TrainOptions, TrainState, train_dag
from dsiam_net.branches import siamfc_branch
from dsiam_net.labels import create_labels
from dsiam_net.pretraining import (
    EarlyStop,
    PairBatches,
    PairStats,
    add_pair_losses,
    best_epoch,
    draw_filters,
    pair_cells,
    siamfc_from,
    without_losses,
)
from dsiam_net.siamfc import add_losses, make_siamfc
from dsiam_net.training import learning_rates
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from golden import assert_close
from pair_sources import Blobs, Pair
from tiny import ADJUST_FACTOR, CHANNELS, tiny_branch

FALLING = (("train", "objective"), ("val", "errdisp"))
LISTING = golden.GOLDENS / "siamfc_full_listing.json"
needs_listing = pytest.mark.skipif(not LISTING.is_file(), reason="goldens are not here")


def tiny_siamfc(instance_size=159, seed=0):
    branch = siamfc_branch(CHANNELS)
    draw_filters(branch, seed)
    net = make_siamfc(branch)
    add_pair_losses(net, instance_size)
    return net


def with_score(net, pairs, score):
    """Evaluate the losses alone, of a score that is given; ``stats`` of them."""
    arrays = PairBatches(None, net).arrays(pairs)
    labels = {name: arrays[name] for name in ("eltwise_label", "target")}
    net.eval({"score": np.asarray(score, np.float32), **labels}, {"objective": 1})
    return PairStats()({}, net)


def pair(offset=(0, 0), positive=True, instance_size=159):
    images = np.zeros((3, 127, 127), np.float32), np.zeros((3, instance_size, instance_size))
    return Pair(images[0], images[1].astype(np.float32), np.array(offset), positive)


@golden.golden("siamfc_augment", lambda name: name == "lr")
def test_learning_rates_are_those_of_experiment_m(case):
    expected = case.matlab("lr").ravel()
    assert_close(learning_rates(1e-2, 1e-5, 50), expected, case.tolerance, case, "rates")


@needs_listing
@pytest.mark.parametrize("size", [239, 255])
def test_the_network_is_the_original_s_with_its_first_values(size):
    listing = json.loads(LISTING.read_text())[f"instance{size}"]
    branch = siamfc_branch()
    draw_filters(branch, 0)
    net = make_siamfc(branch)
    add_pair_losses(net, size)
    assert net.meta["pairs"]["map_size"] == listing["resp_sz"]
    assert net.meta["pairs"]["stride"] == listing["resp_stride"]
    assert [r.name for r in net.layers] == [entry["name"] for entry in listing["layers"]]
    assert [p.name for p in net.params] == [entry["name"] for entry in listing["params"]]
    for parameter, entry in zip(net.params, listing["params"]):
        own = (parameter.learning_rate, parameter.weight_decay, parameter.train_method)
        assert own == (entry["learningRate"], entry["weightDecay"], entry["trainMethod"])
        # Two samples of the same distribution: of 10^4 numbers and more.
        assert parameter.value.std() == pytest.approx(entry["std"], rel=0.02), parameter.name


@pytest.mark.parametrize(
    "method, deviation",
    [
        ("xavierimproved", lambda kh, inside, out: math.sqrt(2 / (kh * kh * out))),
        ("xavier", lambda kh, inside, out: math.sqrt(1 / (kh * kh * inside))),
        ("gaussian", lambda kh, inside, out: 0.01),
    ],
)
def test_filters_have_the_deviation_of_their_method(method, deviation):
    branch = siamfc_branch()
    draw_filters(branch, 1, method)
    for i in range(1, 6):
        filters = branch.get_param(f"conv{i}f").value
        out, inside, kh, _ = filters.shape
        assert filters.dtype == np.float32
        assert filters.std() == pytest.approx(deviation(kh, inside, out), rel=0.02)
        assert not branch.get_param(f"conv{i}b").value.any()
    with pytest.raises(ValueError, match="must be one of"):
        draw_filters(branch, 1, "orthogonal")


def test_a_target_s_cell_is_the_middle_and_its_offset_over_the_stride():
    pairs = [pair(), pair((8, -16)), pair((-4, 2)), pair((3, 3), positive=False)]
    cells = pair_cells(pairs, [17, 15], 8)
    np.testing.assert_array_equal(cells[:3], [[8, 7], [9, 5], [7.5, 7.25]])
    assert np.isnan(cells[3]).all()


def test_labels_of_a_centred_pair_are_create_labels():
    net = make_siamfc(siamfc_branch(CHANNELS))
    add_pair_losses(net, 255)
    arrays = PairBatches(None, net).arrays([pair(instance_size=255)])
    label, _ = create_labels(17, "balanced", 2)
    np.testing.assert_array_equal(arrays["eltwise_label"][0, 0], label)
    assert arrays["eltwise_label"].dtype == np.float32
    assert arrays["instance"].dtype == np.float32


def test_labels_of_a_displaced_pair_by_hand():
    """5x5 cells; the target at cell (1, 3.5): within 2 cells lie 3 + 2 ... columns of each row."""
    net = tiny_siamfc()
    labels = PairBatches(None, net).arrays([pair((-8, 12))])["eltwise_label"][0, 0]
    # Distances to column 3.5 are .5, .5, 1.5, 2.5 ...; a row off by 1 allows sqrt(3) = 1.73.
    expected = [
        [-1, -1, 1, 1, 1],
        [-1, -1, 1, 1, 1],
        [-1, -1, 1, 1, 1],
        [-1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1],
    ]
    np.testing.assert_array_equal(labels, expected)


def test_losses_of_centred_pairs_are_the_original_s():
    """Against the layers that the goldens of training check."""
    rng = np.random.default_rng(2)
    score = rng.normal(0, 2, (4, 1, 5, 5)).astype(np.float32)
    net = tiny_siamfc()
    stats = with_score(net, [pair() for _ in range(4)], score)
    label, weight = create_labels(5, "balanced", 2)
    original = make_siamfc(siamfc_branch(CHANNELS))
    add_losses(original, weight)
    repeated = np.tile(label, (4, 1, 1, 1))
    original.eval({"score": score, "eltwise_label": repeated, "label": np.ones(4)})
    for name, count in (("objective", 1), ("errdisp", 4), ("errmax", 4)):
        expected = float(original.get_var(name).value) / count
        assert stats[name] == pytest.approx(expected, rel=1e-6), name


def test_a_negative_pair_weighs_half_and_its_loss_is_worked_out_by_hand():
    net = tiny_siamfc()
    score = np.full((1, 1, 5, 5), -2.0)
    stats = with_score(net, [pair(positive=False)], score)
    # All 25 cells are negative and share a weight of one half.
    assert stats["objective"] == pytest.approx(0.5 * math.log1p(math.exp(-2)), rel=1e-6)
    assert stats["errneg"] == 0
    assert math.isnan(stats["errdisp"]) and math.isnan(stats["errmax"])
    der = net.get_var("score").der
    np.testing.assert_allclose(der, 0.5 / 25 / (1 + math.exp(2)), rtol=1e-6)
    score[0, 0, 4, 0] = 0.5
    assert with_score(net, [pair(positive=False)], score)["errneg"] == 1


def test_errors_are_those_of_positive_pairs_at_their_targets():
    net = tiny_siamfc()
    score = np.full((3, 1, 5, 5), -1.0)
    score[0, 0, 1, 3] = 2  # Right, at its target's cell.
    score[1, 0, 2, 2] = 3  # In the middle, where its target is not: 2 cells off.
    score[2, 0, 0, 0] = 5  # A false alarm.
    pairs = [pair((-8, 8)), pair((0, 16)), pair((8, 8), positive=False)]
    stats = with_score(net, pairs, score)
    thresholds = np.linspace(0, 50 / 8, 100)
    beyond = (2 > thresholds).astype(float)
    area = beyond.sum() - (beyond[0] + beyond[-1]) / 2
    assert stats["errdisp"] == pytest.approx(area / 2)
    assert stats["errmax"] == 0.5
    assert stats["errneg"] == 1


def test_figures_are_means_over_pairs_whatever_the_batches():
    net = tiny_siamfc()
    rng = np.random.default_rng(0)
    score = rng.normal(0, 1, (5, 1, 5, 5)).astype(np.float32)
    pairs = [pair((8 * i, 0), positive=i != 1) for i in range(-2, 3)]
    whole = with_score(net, pairs, score)
    with_score(net, pairs[:3], score[:3])
    parts = PairStats()({}, net)
    with_score(net, pairs[3:], score[3:])
    parts = PairStats()(parts, net)
    for name in ("objective", "errdisp", "errmax", "errneg"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-6), name
    assert parts["steps"] == 2


def test_validation_has_the_same_pairs_in_each_epoch_and_training_others():
    batches = PairBatches(Blobs(159, jitter=8), tiny_siamfc())

    def instance(mode, epoch):
        return batches([3], mode, epoch).inputs["instance"]

    assert np.array_equal(instance("val", 1), instance("val", 2))
    assert np.array_equal(instance("train", 2), instance("train", 2))
    assert not np.array_equal(instance("train", 1), instance("train", 2))
    assert not np.array_equal(instance("train", 1), instance("val", 1))


@pytest.mark.parametrize("size", [100, 167, 175 - 24])
def test_an_instance_without_a_middle_cell_is_refused(size):
    with pytest.raises(ValueError, match="odd number of them, as 239 and 255"):
        add_pair_losses(make_siamfc(siamfc_branch(CHANNELS)), size)


def test_the_trained_network_has_no_losses_and_the_same_scores():
    net = tiny_siamfc()
    batch = PairBatches(Blobs(159), net)([0, 1], "train", 1)
    trained = without_losses(net)
    net.eval(batch.inputs)
    trained.eval({name: batch.inputs[name] for name in ("exemplar", "instance")})
    assert np.array_equal(net.get_var("score").value, trained.get_var("score").value)
    assert trained.get_inputs() == ["exemplar", "instance"]
    assert trained.get_outputs() == ["score"]


def test_training_finds_targets_of_pairs_that_it_has_not_seen(tmp_path):
    net = tiny_siamfc(175)
    # With few channels the published factor of 0.001 would take long.
    net.get_param("adjust_f").value[...] = ADJUST_FACTOR
    _, state = train_dag(
        net,
        PairBatches(Blobs(175, jitter=12), net),
        range(80),
        range(16),
        options=TrainOptions(exp_dir=tmp_path, batch_size=8, num_epochs=4, learning_rate=3e-3),
        extract_stats=PairStats(),
    )
    train, val = ([s[name] for s in state.stats[part]] for part, name in FALLING)
    assert train[-1] < train[0] / 2
    assert val[-1] < val[0] / 2


def test_weights_go_on_from_a_siamfc_a_branch_and_a_frozen_dsiam():
    branch = tiny_branch(np.random.default_rng(4), np.float32)
    siamfc = make_siamfc(branch)
    siamfc.get_param("adjust_b").value[...] = 0.3
    siamfc.get_param("conv2f").learning_rate = 0.0
    settings = UnrolledSettings(frames=2, freeze_bn=True)
    for source in (branch, siamfc, build_unrolled(branch, settings)):
        net = siamfc_from(source)
        for parameter in branch.params:
            assert np.array_equal(net.get_param(parameter.name).value, parameter.value)
            assert net.get_param(parameter.name).value is not parameter.value
        assert net.get_param("conv2f").learning_rate == 1
        assert net.get_param("bn3x").train_method == "average"
        assert net.get_layer("b_bn2").block.moments == "batch"
    assert siamfc_from(siamfc).get_param("adjust_b").value == np.float32(0.3)
    with pytest.raises(ValueError, match="lack values of conv1f"):
        siamfc_from(siamfc_branch(CHANNELS))


def state_of(errors):
    return TrainState(stats={"train": [{}] * len(errors), "val": [{"errdisp": e} for e in errors]})


def test_training_stops_after_epochs_without_a_new_least_error():
    stop = EarlyStop(2)
    for errors in ([], [5], [5, 6], [5, 4, 4], [5, 6, 4, 5]):
        stop.after_epoch(None, state_of(errors))
    for errors in ([5, 5, 5], [4, 6, 5], [math.nan, math.nan, math.nan], [5, 3, 4, 3]):
        with pytest.raises(StopTraining):
            stop.after_epoch(None, state_of(errors))
        # A run that was over stays over.
        with pytest.raises(StopTraining):
            stop.on_start(None, state_of(errors))
    with pytest.raises(ValueError, match="an epoch or more"):
        EarlyStop(0)


def test_the_best_epoch_is_the_first_of_the_least_error():
    assert best_epoch(state_of([3, 2, 2, math.nan])) == 2
    assert best_epoch(TrainState(stats={"train": [{}, {}], "val": []})) == 2
