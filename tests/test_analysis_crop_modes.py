"""Tests of the comparison of the crops' derivatives: made-up runs and the library's own."""

import csv
import json

import numpy as np
import pytest

from dsiam_net import train
from dsiam_net.analyse import main
from dsiam_net.analysis.crop_modes import (
    TrainingRun,
    compare_runs,
    read_training,
    statement,
    table,
)
from tiny import write_siamfc

STEPS = tuple((1, i) for i in range(1, 5))


def run(mode, seed, objective, **settings):
    """A run of a few steps, whose errdisp is ten times the objective."""
    values = np.array(objective, dtype=float)
    return TrainingRun(
        f"{mode}-{seed}",
        mode,
        seed,
        {"momentum": 0.9, "crop_gradient": mode, "seed": seed, **settings},
        STEPS[: len(values)],
        {"objective": values, "errdisp": 10 * values, "errmax": np.zeros(len(values))},
    )


# Differences of pool from none: 0, -1, -2, -3 with seed 1 and 0, -1, -1, -2 with seed 2.
NONE = (run("none", 1, [5, 6, 7, 8]), run("none", 2, [9, 8, 7, 6]))
POOL = (run("pool", 1, [5, 5, 5, 5]), run("pool", 2, [9, 7, 6, 4]))


def test_differences_are_paired_by_seed_and_step():
    modes = compare_runs([POOL[1], NONE[0], POOL[0], NONE[1]], last=2)
    assert modes.modes == ["none", "pool"] and modes.seeds("pool") == [1, 2]
    np.testing.assert_array_equal(
        modes.differences("pool", "objective"), [[0, -1, -2, -3], [0, -1, -1, -2]]
    )
    # Results 5 and 5 against 7.5 and 6.5; differences -2.5 and -1.5.
    assert modes.final("pool", "objective").mean == 5
    assert modes.final("none", "objective").spread == pytest.approx(np.sqrt(0.5))
    found = modes.difference("pool", "objective", slice(-2, None))
    assert (found.mean, found.error, found.count) == pytest.approx((-2, 0.5, 2))
    assert modes.difference("pool", "errdisp").mean == pytest.approx(-12.5)


def test_it_is_said_plainly_if_there_is_no_difference():
    # -2 with a standard error of 0.5: Student's factor for two seeds is 12.7.
    modes = compare_runs([*NONE, *POOL], last=2)
    text = statement(modes)
    assert "pool - none, objective, last 2 steps: -2, not beyond the spread of 2 seeds" in text
    assert text.endswith("No mode makes a difference beyond the spread over seeds.")
    assert "first step" not in text
    assert "-2 ± 0.5" in table(modes)


def test_it_is_said_which_mode_is_better():
    better = [run("soft", r.seed, r.values["objective"] - 0.5) for r in NONE]
    text = statement(compare_runs([*NONE, *better]))
    assert "soft has a lower (better) objective than none" in text
    # Its crops differ before anything was learned.
    assert "soft differs by -0.5 in the first step already" in text


def test_a_single_seed_has_no_spread():
    text = statement(compare_runs([NONE[0], POOL[0]]))
    assert text.endswith("nothing can be said about which mode is better.")


def test_seeds_that_none_lacks_are_no_pairs():
    modes = compare_runs([*NONE, POOL[0], run("pool", 3, [1, 2, 3, 4])])
    assert modes.seeds("pool") == [1, 3] and modes.common_seeds("pool") == [1]
    assert modes.differences("pool", "objective").shape == (1, 4)


@pytest.mark.parametrize(
    "runs, words",
    [
        ([], "received none"),
        (NONE, "of mode 'none' and of another"),
        (POOL, "of mode 'none' and of another"),
        ([NONE[0], POOL[1]], "seeds \\[2\\], 'none' has \\[1\\]"),
        ([*NONE, NONE[0]], "none-1 and none-1 are both of mode 'none' and seed 1"),
        (
            [NONE[0], run("pool", 1, [1, 2, 3, 4], momentum=0.5, freeze_bn=True)],
            "differ in more than crop gradient and seed: in the first, momentum is 0.5, there 0.9; "
            "freeze bn is True, there 'not set'",
        ),
        ([NONE[0], run("pool", 1, [1, 2])], "none-1 4 up to epoch 1, pool-1 2 up to epoch 1"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs, words):
    with pytest.raises(ValueError, match=words):
        compare_runs(runs)


def test_the_first_steps_of_unequal_runs_can_be_compared():
    modes = compare_runs([NONE[0], run("pool", 1, [4, 6])], steps=2)
    assert modes.steps == 2
    np.testing.assert_array_equal(modes.differences("pool", "objective"), [[-1, 0]])
    with pytest.raises(ValueError, match="first 3 steps: pool-1 has 2"):
        compare_runs([NONE[0], run("pool", 1, [4, 6])], steps=3)
    with pytest.raises(ValueError, match="must be 1 to 4, received 5"):
        compare_runs([*NONE, *POOL], last=5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Runs of the library: none, pool and soft from the same start, on the same two clips."""
    base = tmp_path_factory.mktemp("runs")
    write_siamfc(base / "start.npz")
    for mode in ("none", "pool", "soft"):
        train.main(
            [
                *("--synthetic", "--weights", str(base / "start.npz"), "--crop-gradient", mode),
                *("--frames", "2", "--num-clips", "2", "--epochs", "2", "--seed", "4"),
                *("--learning-rate", "1e-3", "1e-3", "--exp-dir", str(base / mode)),
            ]
        )
    return base


def test_mode_seed_settings_and_figures_are_read_from_a_run(folders):
    run = read_training(folders / "pool")
    assert (run.mode, run.seed, run.settings["num_clips"]) == ("pool", 4, 2)
    assert run.steps == ((1, 1), (1, 2), (2, 1), (2, 2))
    with (folders / "pool" / "log.csv").open() as stream:
        logged = [float(row["objective"]) for row in csv.DictReader(stream)]
    np.testing.assert_array_equal(run.values["objective"], logged)


def test_runs_of_the_library_are_compared(folders, tmp_path, capsys):
    runs = [str(folders / mode) for mode in ("none", "pool", "soft")]
    main(["crop-modes", *runs, "--last", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "One seed has no spread" in printed
    names = {"crop_modes.csv", "crop_modes.json", "crop_modes.png", "crop_modes.svg"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names
    content = json.loads((tmp_path / "out" / "crop_modes.json").read_text())
    assert (content["steps"], content["last"]) == (4, 2)
    assert content["settings"]["frames"] == 2 and "seed" not in content["settings"]
    # Before anything is learned 'pool' and 'none' compute the same.
    assert content["differences"]["objective"]["pool"]["first step"]["mean"] == 0
    with (tmp_path / "out" / "crop_modes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 4
    for row in rows[4:]:
        none = rows[int(row["step"]) - 1 + 2 * (int(row["epoch"]) - 1)]
        difference = float(row["objective"]) - float(none["objective"])
        assert float(row["objective_difference"]) == difference
    assert all(float(row["objective_difference"]) for row in rows[8:])
    picture = (tmp_path / "out" / "crop_modes.svg").read_text()
    for words in ("none, 1 seed", "soft, 1 seed", "objective: difference from none", "4 steps"):
        assert words in picture


def test_folders_that_are_no_runs_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="found no checkpoint"):
        read_training(tmp_path)
    (folders / "none" / "log.csv").rename(folders / "none" / "log.txt")
    with pytest.raises(ValueError, match="found no log"):
        read_training(folders / "none")
