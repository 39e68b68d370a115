"""Tests of the command pretrain, on a network of few channels and pairs that are drawn."""

import cv2
import numpy as np
import pytest

from dagnet import CheckpointError, DagNN, load_checkpoint
from dsiam_net import pretrain
from dsiam_net.branches import siamfc_branch
from dsiam_net.crops import CropError, Track, write_crops
from dsiam_net.pretraining_log import EPOCH_COLUMNS, StepLog, read_steps
from dsiam_net.solver_options import complete_solver
from matlab_import import load_network
from pair_sources import Blobs
from tiny import CHANNELS

INSTANCE = 159


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setattr(pretrain, "siamfc_branch", lambda: siamfc_branch(CHANNELS))


@pytest.fixture
def source(monkeypatch):
    """The pairs of the command, in the place of those of crops."""
    blobs = Blobs(INSTANCE, jitter=4)
    monkeypatch.setattr(pretrain, "make_source", lambda options: blobs)
    monkeypatch.setattr(pretrain, "write_contact_sheet", lambda *_, **__: None)
    return blobs


def arguments(exp_dir, *more):
    return [
        *("--crops", "crops", "--exp-dir", str(exp_dir), "--instance-size", str(INSTANCE)),
        *("--num-pairs", "10", "--val-pairs", "4", "--epochs", "2", "--batch-size", "2"),
        *map(str, more),
    ]


def params(path):
    return {p.name: p.value for p in DagNN.load(path).params}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert np.array_equal(first[name], second[name]), name


def test_a_run_writes_logs_curves_checkpoints_and_weights(source, tmp_path, capsys):
    pretrain.main(arguments(tmp_path, "--negatives", "0"))
    printed = capsys.readouterr().out
    for word in (
        "learning-rate",
        "val epoch 2: objective",
        "errmax",
        "waited for data",
        "s a step",
    ):
        assert word in printed
    steps = read_steps(tmp_path / "log.csv")
    assert steps["epoch"].tolist() == [1] * 3 + [2] * 3
    assert steps["step"].tolist() == [1, 2, 3] * 2
    assert (steps["waited"] <= steps["seconds"]).all()
    head, *rows = (tmp_path / "epochs.csv").read_text().splitlines()
    assert head.split(",") == list(EPOCH_COLUMNS) and len(rows) == 2
    last = dict(zip(EPOCH_COLUMNS, map(float, rows[1].split(","))))
    assert last["learning_rate"] == pytest.approx(1e-5)
    assert last["train_objective"] == pytest.approx(steps["objective"][3:].mean())
    assert 0 <= last["val_errdisp"] <= 99 and np.isnan(last["val_errneg"])
    assert (tmp_path / "curves.png").stat().st_size > 1000
    checkpoint = params(tmp_path / "net-epoch-2.npz")
    assert_same(params(tmp_path / "siamfc-last.npz"), checkpoint)
    trained = DagNN.load(tmp_path / "siamfc-last.npz")
    assert trained.get_layer_index("objective") is None
    assert trained.meta["pretraining"]["epoch"] == 2


def test_the_weights_are_those_of_the_epoch_that_validates_best(source, tmp_path, capsys):
    pretrain.main(arguments(tmp_path, "--epochs", 3, "--learning-rate", 1e-2, 1e-2))
    errors = [s["errdisp"] for s in load_checkpoint(tmp_path / "net-epoch-3.npz")[1].stats["val"]]
    best = int(np.argmin(errors)) + 1
    assert f"siamfc.npz: epoch {best}," in capsys.readouterr().out
    assert_same(params(tmp_path / "siamfc.npz"), params(tmp_path / f"net-epoch-{best}.npz"))
    meta = DagNN.load(tmp_path / "siamfc.npz").meta["pretraining"]
    assert meta["validation"]["errdisp"] == min(errors)
    matlab = load_network(tmp_path / "siamfc.mat")
    assert_same({p.name: p.value for p in matlab.params}, params(tmp_path / "siamfc.npz"))
    assert matlab.meta["pretraining"]["epoch"] == best
    # What a run did not come to write is written when its command is given again.
    (tmp_path / "siamfc.npz").unlink()
    pretrain.main(arguments(tmp_path, "--epochs", 3, "--learning-rate", 1e-2, 1e-2))
    assert_same(params(tmp_path / "siamfc.npz"), params(tmp_path / f"net-epoch-{best}.npz"))


class Stop(BaseException):
    """An interruption."""


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_run_that_was_stopped_goes_on_to_equal_bits(source, tmp_path, monkeypatch, step, threads):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    every = ("--checkpoint-every", 1)
    pretrain.main(arguments(whole, *every))
    after_step = StepLog.after_step

    def stop(self, mode, epoch, done, steps, stats):
        after_step(self, mode, epoch, done, steps, stats)
        if (mode, epoch, done) == ("train", 2, step):
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(StepLog, "after_step", stop)
        with pytest.raises(Stop):
            pretrain.main(arguments(broken, *every))
    pretrain.main(arguments(broken, *every, "--threads", threads))
    for name in ("net-epoch-2.npz", "siamfc.npz", "siamfc-last.npz"):
        assert_same(params(whole / name), params(broken / name))
    states = [load_checkpoint(folder / "net-epoch-2.npz")[1] for folder in (whole, broken)]
    assert_same(*(state.solver_state for state in states))
    for part in ("train", "val"):
        for first, second in zip(*(state.stats[part] for state in states)):
            assert first["sums"] == second["sums"]
    logs = [read_steps(folder / "log.csv") for folder in (whole, broken)]
    for name in ("epoch", "step", "objective", "errdisp", "errmax"):
        assert np.array_equal(logs[0][name], logs[1][name])


def test_patience_ends_a_run_and_it_stays_ended(source, tmp_path):
    # Without steps nothing gets better after the first epoch but by the moments, which settle.
    options = arguments(tmp_path, "--epochs", 40, "--learning-rate", 0, 0, "--patience", 2)
    options[options.index("0") : options.index("0") + 2] = ["1e-30", "1e-30"]
    pretrain.main(options)
    epochs = sorted(tmp_path.glob("net-epoch-*.npz"))
    assert 3 <= len(epochs) < 40
    pretrain.main(options)
    assert sorted(tmp_path.glob("net-epoch-*.npz")) == epochs


def test_what_the_reader_cannot_read_ends_the_run_and_names_the_file(source, tmp_path, monkeypatch):
    def broken(epoch, index, mode):
        raise OSError("crops/video/000007.jpg: cannot be read")

    monkeypatch.setattr(source, "pair", broken)
    with pytest.raises(OSError, match=r"video/000007\.jpg"):
        pretrain.main(arguments(tmp_path))


def test_a_run_goes_on_from_weights_of_another_one(source, tmp_path):
    pretrain.main(arguments(tmp_path / "first", "--epochs", 1))
    first = tmp_path / "first" / "siamfc.npz"
    still = ("--init", first, "--epochs", 1, "--learning-rate", 1e-30, 1e-30)
    pretrain.main(arguments(tmp_path / "second", *still))
    before, after = params(first), params(tmp_path / "second" / "siamfc.npz")
    np.testing.assert_allclose(after["conv3f"], before["conv3f"], rtol=1e-6)
    assert not np.array_equal(after["bn2x"], before["bn2x"])


def test_the_weights_are_taken_by_joint_training(source, tmp_path):
    from dsiam_net import train

    pretrain.main(arguments(tmp_path, "--epochs", 1))
    weights = tmp_path / "siamfc.npz"
    command = ["--synthetic", "--weights", str(weights), "--frames", "2", "--epochs", "1"]
    train.main([*command, "--num-clips", "1", "--exp-dir", str(tmp_path / "joint")])
    joint = params(tmp_path / "joint" / "net-epoch-1.npz")
    assert joint["conv3f"].shape == params(weights)["conv3f"].shape


def test_other_options_are_refused_for_a_run_that_goes_on(source, tmp_path):
    pretrain.main(arguments(tmp_path, "--epochs", 1))
    with pytest.raises(CheckpointError, match=r"momentum was 0\.9, is 0\.5"):
        pretrain.main(arguments(tmp_path, "--momentum", "0.5"))
    pretrain.main(arguments(tmp_path, "--momentum", "0.5", "--restart", "--epochs", 1))
    assert (tmp_path / "earlier-1" / "net-epoch-1.npz").is_file()


@pytest.mark.parametrize("solver", ["adam", "adagrad", "adadelta", "rmsprop"])
def test_every_solver_trains_and_goes_on(source, tmp_path, solver):
    rate = ("--learning-rate", "1e-3", "1e-3")
    chosen = (*rate, "--solver", solver)
    pretrain.main(arguments(tmp_path / "whole", *chosen))
    pretrain.main(arguments(tmp_path / "broken", *chosen, "--epochs", 1))
    first, second = (
        params(tmp_path / "whole" / f"net-epoch-{epoch}.npz")["conv5f"] for epoch in (1, 2)
    )
    assert np.isfinite(second).all() and not np.array_equal(first, second)
    pretrain.main(arguments(tmp_path / "broken", *chosen))
    ends = [params(tmp_path / folder / "net-epoch-2.npz") for folder in ("whole", "broken")]
    assert_same(*ends)


@pytest.mark.parametrize(
    "wrong", [("--grayscal", "0.1"), ("--colour", "1"), ("--augmentation", "much")]
)
def test_unknown_options_and_abbreviations_are_refused(tmp_path, wrong):
    with pytest.raises(SystemExit):
        pretrain.main(arguments(tmp_path, *wrong))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("--num-pairs", 4), "must be some to train on"),
        (("--val-pairs", -1), "must be some to train on"),
        (("--threads", 0), "a thread and a batch at least"),
        (("--patience", 0), "an epoch or more"),
        (("--batch-size", 0), "batch_size must be an integer of at least 1"),
        (("--instance-size", 151), "odd number of them"),
        (("--init", "missing.npz"), "no such file of weights"),
        (("--learning-rate", -1, 1), "must be positive numbers"),
        (("--rho", 0.9), "--rho is a setting of adagrad, adadelta, rmsprop, not of --solver sgd"),
        (("--solver", "adadelta", "--nesterov"), "--nesterov is a setting of sgd"),
        (("--solver", "adam", "--beta1", 1), "beta1 must lie in"),
    ],
)
def test_bad_values_are_refused_with_what_to_do(source, tmp_path, wrong, message):
    with pytest.raises((ValueError, OSError), match=message):
        pretrain.main(arguments(tmp_path, *wrong))


def test_the_defaults_are_those_of_experiment_m():
    parser = pretrain.make_parser("test", "")
    pretrain.add_options(parser)
    options = parser.parse_args(["--crops", "x"])
    complete_solver(options)
    assert pretrain.pair_counts(options) == (47880, 5320)
    chosen = {
        "epochs": 50,
        "batch_size": 8,
        "weight_decay": 5e-4,
        "solver": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "instance_size": 239,
        "frame_range": 100,
        "grayscale": None,
        "negatives": 0.0,
        "augmentation": "published",
        "weights_init": "xavierimproved",
        "patience": None,
    }
    assert {name: getattr(options, name) for name in chosen} == chosen
    assert tuple(options.learning_rate) == (1e-2, 1e-5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two crop stores, of six videos and of one."""
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    tracks = []
    for v in range(7):
        paths = [folder / f"video{v}-{t}.png" for t in range(3)]
        for path in paths:
            cv2.imwrite(str(path), rng.integers(0, 256, (60, 70, 3), np.uint8))
        tracks.append(Track(f"track{v}", f"video{v}", paths, [[20, 15, 20, 25]] * 3))
    write_crops(tracks[:6], folder / "a", workers=1)
    write_crops(tracks[6:], folder / "b=1", workers=1)
    return folder


def test_crops_of_two_stores_train_and_the_first_pairs_are_shown(stores, tmp_path, capsys):
    crops = ("--crops", f"{stores / 'a'}=0.5", stores / "b=1")
    more = ("--negatives", 0.3, "--augmentation", "strong", "--val-pairs", 0, "--epochs", 1)
    pretrain.main(arguments(tmp_path, *crops, *more))
    assert "train: 10 pairs an epoch, of 7 tracks" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "pairs.png")).shape[0] > 8 * 159
    state = load_checkpoint(tmp_path / "net-epoch-1.npz")[1]
    assert state.settings["crops"] == [f"{stores / 'a'}=0.5", str(stores / "b=1")]
    assert state.stats["val"] == [] and (tmp_path / "siamfc.npz").is_file()


def test_what_validation_lacks_is_said_before_the_first_step(stores, tmp_path):
    for more, message in (
        (("--negatives", 1), "found hardly any but those of video5"),
        (("--crops", stores / "b=1"), "no video of the crop stores is for val"),
    ):
        with pytest.raises(CropError, match=message):
            pretrain.main(arguments(tmp_path, "--crops", stores / "a", *more))
        assert not (tmp_path / "log.csv").exists()


def test_folders_and_weights_of_crops_are_told_apart(stores):
    given = [f"{stores}/a", f"{stores}/a=2.5", f"{stores}/b=1", f"{stores}/b=1=0"]
    folders = [f"{stores}/a", f"{stores}/a", f"{stores}/b=1", f"{stores}/b=1"]
    assert pretrain.parse_crops(given) == (folders, [1, 2.5, 1, 0])
    for wrong in ("crops=much", "crops=-1", "crops=nan", "crops="):
        with pytest.raises(ValueError, match="a number of at least 0"):
            pretrain.parse_crops([wrong])
