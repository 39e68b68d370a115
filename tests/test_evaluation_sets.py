"""Tests of dsiam_net.evaluation.sets: OTB's lists."""

import numpy as np
import pytest

from dsiam_net.evaluation.results import toolkit_name
from dsiam_net.evaluation.sets import SETS, read_set
from evaluation_stubs import write_sequence
from test_evaluation_got10k import toolkit


def entries(name):
    return {entry.name: entry for entry in SETS[name]}


def test_the_sets_have_their_sizes():
    assert {name: len(SETS[name]) for name in SETS} == {"otb2013": 51, "otb50": 50, "otb100": 100}
    for name in ("otb2013", "otb50"):
        assert set(entries(name).items()) < set(entries("otb100").items())
        assert len(entries(name)) == len(SETS[name])


def test_the_frames_that_papers_count():
    # Those of the benchmark's papers: OTB-2013 has 29491 with both joggers, OTB-100 59040.
    assert sum(map(len, SETS["otb2013"])) == 29491
    assert sum(map(len, SETS["otb100"])) == 59040


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("David", 300, 770),
        ("BlurCar1", 247, 988),
        ("BlurCar3", 3, 359),
        ("BlurCar4", 18, 397),
        ("Football1", 1, 74),
        ("Freeman3", 1, 460),
        ("Freeman4", 1, 283),
        ("Diving", 1, 215),
    ],
)
def test_sequences_that_do_not_have_all_their_frames(name, first, last):
    entry = entries("otb100")[name]
    assert (entry.first, entry.last) == (first, last)


def test_targets_of_sequences_with_several():
    targets = {(e.name, e.folder, e.target) for e in SETS["otb100"] if "." in e.name}
    assert targets == {
        ("Human4.2", "Human4", 2),
        ("Jogging.1", "Jogging", 1),
        ("Jogging.2", "Jogging", 2),
        ("Skating2.1", "Skating2", 1),
        ("Skating2.2", "Skating2", 2),
    }


@pytest.mark.parametrize(
    ("ours", "theirs"), [("otb2013", 2013), ("otb50", "tb50"), ("otb100", "tb100")]
)
def test_the_got10k_toolkit_lists_the_same_folders(ours, theirs):
    dataset = toolkit("got10k.datasets").OTB
    listed = dataset._OTB__version_dict[theirs]
    assert {entry.folder for entry in SETS[ours]} == set(listed)
    assert toolkit_name("Human4.2") == "Human4"  # it finds one file with boxes there


def test_what_is_there_is_read_and_what_is_not_is_listed(tmp_path):
    jogging = tmp_path / "b" / "Jogging"
    write_sequence(jogging, 307)
    second = write_sequence(tmp_path / "other", 307, seed=1)
    np.savetxt(jogging / "groundtruth_rect.2.txt", second.boxes, delimiter=",")
    write_sequence(tmp_path / "a" / "Football1", 81)
    rows = (tmp_path / "a" / "Football1" / "groundtruth_rect.txt").read_text().splitlines()
    (tmp_path / "a" / "Football1" / "groundtruth_rect.txt").write_text("\n".join(rows[:74]))
    write_sequence(tmp_path / "a" / "David", 471, first=300)
    write_sequence(tmp_path / "a" / "Deer", 70)
    (tmp_path / "a" / "Skiing").mkdir()
    found, missing = read_set("otb2013", [tmp_path / "a", tmp_path / "b"])
    assert [(s.name, len(s)) for s in found] == [
        ("David", 471),
        ("Football1", 74),
        ("Jogging.1", 307),
        ("Jogging.2", 307),
    ]
    assert np.array_equal(found[3].boxes, second.boxes)
    assert len(missing) == 51 - 4
    assert missing["Deer"] == "70 frames in place of 71"
    assert "img" in missing["Skiing"]
    assert missing["Woman"] == "no such folder"


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="otb2013, otb50, otb100; received 'otb2015'"):
        read_set("otb2015", [])
