"""Tests of a tracker with and without joint training, on evaluations by dsiam_net.evaluate.

A frame of these results is either a hit (the true box: overlap 1, no centre error) or far off, so
that scores follow from the share of hits: precision is the share, and AUC 20 / 21 of it, because an
overlap of 1 is greater than all but the last of the 21 thresholds.
"""

import csv
import json

import numpy as np
import pytest

from dsiam_net import evaluate
from dsiam_net.analyse import main
from dsiam_net.analysis.joint import compare, make_joint, read_trial, statement, table
from evaluation_stubs import write_sequence

FRAMES = 10
AUC = 20 / 21
# Hits of each seed in the sequences First and Second.
WITHOUT = ((5, 8), (6, 6))
WITH = ((7, 8), (6, 10))


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    names = ("First", "Second")
    return [write_sequence(folder / name, FRAMES, i) for i, name in enumerate(names)]


def results(sequences, folder, hits):
    """Boxes with so many hits at the beginning of each sequence."""
    folder.mkdir(parents=True)
    for sequence, count in zip(sequences, hits):
        boxes = sequence.boxes.copy()
        boxes[count:, :2] += 300
        np.savetxt(folder / f"{sequence.name}.txt", boxes, delimiter=",")
    return folder


def evaluation(sequences, folder, *trackers, protocol="otb", data=None):
    """Evaluate trackers named dsiam, dsiamm ... by their hits; returns the folder."""
    names = ("dsiamm", "dsiam")[: len(trackers)]
    words = [
        f"{name}={results(sequences, folder / 'boxes' / name, hits)}"
        for name, hits in zip(names, trackers)
    ]
    data = data or sequences[0].paths[0].parents[2]
    options = ["--data", str(data), "--out", str(folder), "--no-plots", "--protocol", protocol]
    assert evaluate.main(["--trackers", *words, *options]) == 0
    return folder


@pytest.fixture(scope="module")
def folders(sequences, tmp_path_factory):
    """Folders without and with joint training, by side."""
    base = tmp_path_factory.mktemp("evaluations")
    return {
        side: [evaluation(sequences, base / f"{side}{i}", h) for i, h in enumerate(hits)]
        for side, hits in (("without", WITHOUT), ("with", WITH))
    }


@pytest.fixture(scope="module")
def joint(folders):
    return make_joint(*([read_trial(str(f)) for f in folders[s]] for s in ("without", "with")))


def test_scores_are_those_of_the_evaluations(joint):
    assert joint.sequences == ("First", "Second")
    np.testing.assert_allclose(joint.values("without", "precision"), np.array(WITHOUT) / 10)
    np.testing.assert_allclose(joint.values("with", "auc"), np.array(WITH) / 10 * AUC)
    found = joint.score("with", "precision")
    assert (found.mean, found.spread) == pytest.approx((0.775, 0.05 / np.sqrt(2)))
    curve = joint.overall("without")[0].success
    np.testing.assert_allclose(curve, [0.65] * 20 + [0])


def test_mean_difference_and_standard_errors_over_pairs_sequences_and_seeds(joint):
    np.testing.assert_allclose(joint.differences("precision"), [[0.2, 0], [0, 0.4]], atol=1e-12)
    found = compare(joint, "precision")
    # Deviations .05, -.15, -.15, .25: squares .11, over 3 degrees of freedom, over 4 pairs.
    assert found.pairs.count == 4
    assert found.pairs.mean == pytest.approx(0.15)
    assert found.pairs.error == pytest.approx(np.sqrt(0.11 / 3 / 4))
    # Of both the means are .1 and .2.
    for part in (found.sequences, found.seeds):
        assert (part.mean, part.error, part.count) == pytest.approx((0.15, 0.05, 2))
    assert found.beyond is False
    assert compare(joint, "auc").pairs.mean == pytest.approx(0.15 * AUC)


def test_a_difference_counts_only_beyond_the_spread_of_sequences_and_of_seeds(sequences, tmp_path):
    # All pairs gain a tenth.
    without = [evaluation(sequences, tmp_path / f"a{i}", h) for i, h in enumerate(WITHOUT)]
    more = [tuple(n + 1 for n in hits) for hits in WITHOUT]
    with_ = [evaluation(sequences, tmp_path / f"b{i}", h) for i, h in enumerate(more)]
    gained = make_joint(*([read_trial(str(f)) for f in side] for side in (without, with_)))
    assert compare(gained, "precision").beyond is True
    assert "P@20 is higher with joint training than without joint training, beyond" in statement(
        gained
    )
    lost = make_joint(*([read_trial(str(f)) for f in side] for side in (with_, without)))
    assert "AUC is lower with joint training than" in statement(lost)
    one_seed = [[read_trial(str(side[0]))] for side in (without, with_)]
    single = make_joint(*one_seed)
    assert compare(single, "precision").beyond is None
    assert "too few evaluations to say" in statement(single)
    same = make_joint(one_seed[0], one_seed[0])
    assert compare(same, "precision").beyond is False


def test_the_statement_and_the_table(joint):
    text = statement(joint)
    assert "P@20, with joint training minus without joint training: +0.1500, standard" in text
    assert "error 0.0957 over 4 pairs of sequence and seed" in text
    assert "no difference in P@20 beyond the spread" in text
    rows = table(joint).splitlines()
    assert [row.split()[0] for row in rows] == ["sequence", "First", "Second", "all"]
    assert "0.550 ± 0.071" in rows[1] and "+0.150 ± 0.071" in rows[3]


def test_one_evaluation_without_is_compared_with_each_with(folders):
    trials = [read_trial(str(f)) for f in folders["with"]]
    joint = make_joint([read_trial(str(folders["without"][0]))], trials)
    np.testing.assert_allclose(joint.differences("precision"), [[0.2, 0], [0.1, 0.2]], atol=1e-12)
    assert joint.score("without", "auc").count == 1


def test_a_tracker_of_several_is_named(sequences, tmp_path):
    folder = evaluation(sequences, tmp_path / "both", (5, 5), (9, 9))
    assert read_trial(f"{folder}:dsiam").scores["First"].precision == 0.9
    with pytest.raises(ValueError, match="has the trackers dsiamm, dsiam: name one"):
        read_trial(str(folder))
    with pytest.raises(ValueError, match="has no tracker 'siamfc'"):
        read_trial(f"{folder}:siamfc")


def test_only_sequences_that_all_have_are_compared(sequences, folders, tmp_path):
    data = sequences[1].paths[0].parents[1]
    single = evaluation(sequences[1:], tmp_path / "single", (9,), data=data)
    trials = [read_trial(str(folders["without"][0])), read_trial(str(single))]
    joint = make_joint(trials[:1], trials[1:])
    assert joint.sequences == ("Second",)
    assert joint.differences("precision") == pytest.approx(np.array([[0.1]]))
    with pytest.raises(ValueError, match="not every evaluation has a score of First"):
        make_joint(trials[:1], trials[1:], ["First"])


def test_what_cannot_be_compared_is_refused(sequences, folders, tmp_path):
    trials = [read_trial(str(f)) for f in (*folders["without"], *folders["with"])]
    with pytest.raises(ValueError, match="as many evaluations with joint training as without"):
        make_joint(trials[:3], trials[2:])
    with pytest.raises(ValueError, match="stands for a seed; twice"):
        make_joint([trials[0]] * 2, trials[2:])
    other = read_trial(str(evaluation(sequences, tmp_path / "a", (5, 5), protocol="got10k")))
    with pytest.raises(ValueError, match=r"different protocols: .* otb, .* got10k"):
        make_joint(trials[:1], [other])
    with pytest.raises(ValueError, match="no such file; give DIR or DIR:TRACKER"):
        read_trial(str(tmp_path))
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(ValueError, match=r"not scores that dsiam_net.evaluate wrote"):
        read_trial(str(tmp_path))


def test_got10k_compares_its_own_score(sequences, tmp_path):
    trials = [
        read_trial(str(evaluation(sequences, tmp_path / str(n), (n, n), protocol="got10k")))
        for n in (4, 7)
    ]
    joint = make_joint(trials[:1], trials[1:])
    assert joint.measures == ("ao", "precision")
    # The first of the ten frames is not scored.
    assert joint.differences("ao") == pytest.approx(np.full((1, 2), 3 / 9))


def test_the_command_writes_curves_differences_and_numbers(folders, tmp_path, capsys):
    sides = [w for s in ("without", "with") for w in (f"--{s}", *map(str, folders[s]))]
    main(["joint", *sides, "--title", "Two seeds", "--out", str(tmp_path / "out")])
    assert "no difference in AUC beyond the spread" in capsys.readouterr().out
    names = {f"{n}{s}" for n in ("joint", "differences") for s in (".png", ".svg")}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*names, "joint.json", "joint.csv"}
    content = json.loads((tmp_path / "out" / "joint.json").read_text())
    assert content["scores"]["with"]["precision"]["mean"] == pytest.approx(0.775)
    assert content["comparison"]["precision"]["pairs"]["count"] == 4
    with (tmp_path / "out" / "joint.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["sequence"], r["seed"]) for r in rows] == [
        ("First", "1"), ("First", "2"), ("Second", "1"), ("Second", "2"),
    ]  # fmt: skip
    assert [float(r["precision_difference"]) for r in rows] == pytest.approx([0.2, 0, 0, 0.4])
    picture = (tmp_path / "out" / "joint.svg").read_text()
    for words in ("Two seeds", "with joint training, 2 seeds", "P@20 0.775 ± 0.035"):
        assert words in picture
    one = ["--sequences", "Second", "--names", "with none", "with soft"]
    main(["joint", *sides, *one, "--out", str(tmp_path / "one")])
    printed = capsys.readouterr().out
    assert "First" not in printed and "AUC, with soft minus with none" in printed
    assert "with soft, 2 seeds" in (tmp_path / "one" / "joint.svg").read_text()
