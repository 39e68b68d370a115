"""Tests of what joint training learned: values, changes, maps, files, figures."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from analysing import tiny_net
from dagnet.checkpoint import TrainState, save_checkpoint
from dsiam_net.analyse import main
from dsiam_net.analysis.learned import (
    central_cells,
    centre_and_rest,
    distinct_names,
    read_learned,
    table,
)
from dsiam_net.analysis.learned_figure import draw_maps, draw_moved
from dsiam_net.shipped import save_half
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from golden import SHARED
from tiny import SEARCH_SIZE

# 175 pixels give a map of 7x7.
CELLS = 7
REFERENCE = SHARED / "reference_results" / "sumw.mat"


def trained(changes, features=("feat", "x14"), frames=2):
    """The tiny unrolled network, some of whose parameters were changed from their start."""
    net = build_unrolled(
        tiny_net(), UnrolledSettings(frames=frames, features=features, search_size=SEARCH_SIZE)
    )
    for name, change in changes.items():
        parameter = net.get_param(name)
        parameter.value = change(parameter.value).astype(np.float32)
    return net


def centre(value):
    """Takes ``value`` from a map's central cells."""
    return lambda old: old - value * central_cells(old.shape, 8)


CHANGES = (
    {
        "v_lambda": lambda v: v * 3,
        "cir11_lr": lambda v: v + 0.02,
        "sumweights": centre(0.01),
        "conv1f": lambda v: v * 1.1,
    },
    {
        "v_lambda": lambda v: v * 5,
        "cir11_lr": lambda v: v - 0.01,
        "sumweights": centre(0.03),
        "conv1f": lambda v: v * 1.3,
    },
)


@pytest.fixture
def files(tmp_path):
    """Checkpoints of two seeds."""
    paths = []
    for seed, changes in enumerate(CHANGES):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        paths.append(folder / "net-epoch-1.npz")
        save_checkpoint(paths[-1], trained(changes), TrainState(epoch=1))
    return paths


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.npz"
    tiny_net().save(path)
    return path


def test_values_over_seeds_start_from_the_public_ones(files):
    learned = read_learned(files)
    assert learned.names == ("seed0/net-epoch-1", "seed1/net-epoch-1")
    assert learned.lambdas == ["v_lambda", "w_lambda", "v1_lambda", "w1_lambda"]
    assert learned.rates == ["cir11_lr", "cir12_lr", "cir21_lr", "cir22_lr"]
    starts = {n: learned.start[n].item() for n in [*learned.lambdas, *learned.rates]}
    public = [1e-5, 10, 1e-5, 10, 0.49, 0.29, 0.49, 0.29]
    assert list(starts.values()) == pytest.approx(public, rel=1e-6)
    found = learned.scalar("v_lambda")
    assert (found.mean, found.spread) == pytest.approx((4e-5, np.sqrt(2) * 1e-5), rel=1e-5)
    found = learned.scalar("cir11_lr")
    assert (found.mean, found.spread) == pytest.approx((0.495, 0.03 / np.sqrt(2)), rel=1e-5)
    assert learned.scalar("w_lambda").spread == 0
    # The branch's start is not known without a file.
    assert learned.others == []


def test_maps_changed_in_the_central_cells_alone(files):
    learned = read_learned(files)
    assert learned.maps == ["sumweights"]
    changes = learned.map_changes("sumweights")
    assert changes.shape == (2, CELLS, CELLS)
    expected = [[-0.01, 0], [-0.03, 0]]
    np.testing.assert_allclose(centre_and_rest(changes, 8), expected, atol=1e-7)


def test_thirteen_cells_are_central():
    cells = central_cells((17, 17), 8)
    assert cells.sum() == 13
    assert cells[8, 6:11].all() and cells[6:11, 8].all() and cells[7:10, 7:10].all()


@pytest.mark.skipif(not REFERENCE.is_file(), reason="published results are not there")
def test_the_central_cells_are_those_where_the_authors_map_is_not_1():
    from dsiam_net.weights import load_fusion_map

    values = load_fusion_map(REFERENCE)
    inside = central_cells(values.shape, 8)
    assert np.abs(values[inside] - 0.992).max() < 6e-4
    assert np.abs(values[~inside] - 1).max() < 2e-4


def test_other_parameters_moved_by_the_relative_norm_of_their_change(files, start):
    learned = read_learned(files, start)
    np.testing.assert_allclose(learned.moved("conv1f"), [0.1, 0.3], rtol=1e-5)
    np.testing.assert_array_equal(learned.moved("conv2f"), [0, 0])
    assert np.isnan(learned.moved("adjust_b")).all()
    assert set(learned.others) == {p.name for p in tiny_net().params} | {"adjust_f", "adjust_b"}
    text = table(learned)
    assert "conv1f" in text and "0.20 ± 0.14" in text and "starts from 0" in text


def test_a_jointly_trained_start_is_taken_as_it_is(files):
    learned = read_learned(files[1:], files[0])
    assert learned.start["v_lambda"].item() == pytest.approx(3e-5)
    assert learned.map_changes("sumweights").min() == pytest.approx(-0.02, abs=1e-6)
    assert learned.moved("conv1f") == pytest.approx([0.2 / 1.1], rel=1e-5)


def test_checkpoints_networks_and_shipped_files_tell_the_same(files, tmp_path):
    net = trained(CHANGES[0])
    net.save(tmp_path / "net.npz")
    save_half(net, tmp_path / "half.npz", name="tiny", release="1", summary="for a test")
    checkpoint, saved, half = (
        read_learned([p]) for p in (files[0], tmp_path / "net.npz", tmp_path / "half.npz")
    )
    for name in [*checkpoint.lambdas, *checkpoint.rates, "sumweights"]:
        for other in (saved, half):
            np.testing.assert_array_equal(other.values(name), checkpoint.values(name), name)


def test_a_single_layer_has_two_lambdas_and_no_map(tmp_path):
    trained({"cir12_lr": lambda v: v * 2}, features=("feat",)).save(tmp_path / "one.npz")
    learned = read_learned([tmp_path / "one.npz"])
    assert learned.lambdas == ["v_lambda", "w_lambda"] and learned.maps == []
    assert "cir12_lr    0.29   0.58  +100 %" in table(learned)
    for draw in (draw_maps, draw_moved):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw(learned, tmp_path / "map.png")


def test_names_are_as_long_as_they_must_be():
    assert distinct_names(["runs/a/net.npz", "runs/b/net.npz"]) == ["a/net", "b/net"]
    assert distinct_names(["runs/a.npz", "runs/b.npz", "shipped"]) == ["a", "b", "shipped"]
    for wrong in ([], ["a.npz", "a.npz"]):
        with pytest.raises(ValueError, match="each once"):
            distinct_names(wrong)


def test_networks_that_were_not_jointly_trained_or_are_others_are_refused(files, start, tmp_path):
    with pytest.raises(ValueError, match="start: not a jointly trained network"):
        read_learned([start])
    trained({}, features=("feat",)).save(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"one: parameter 'v1_lambda' has shape None"):
        read_learned([files[0], tmp_path / "one.npz"])


def test_the_command_writes_tables_figures_and_numbers(files, start, tmp_path, capsys):
    reference = np.ones((CELLS, CELLS))
    reference[3, 3] = 0.5
    savemat(tmp_path / "sumw.mat", {"sumw": reference})
    arguments = ["learned", "--weights", *map(str, files), "--out", str(tmp_path / "out")]
    arguments += ["--start", str(start), "--reference", str(tmp_path / "sumw.mat")]
    main(arguments)
    printed = capsys.readouterr().out
    assert "0.495 ± 0.021" in printed and "reference (from 1)" in printed
    names = [f"{n}{s}" for n in ("learned", "moved", "sumweights") for s in (".png", ".svg")]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*names, "learned.json"])
    content = json.loads((tmp_path / "out" / "learned.json").read_text())
    assert content["weights"] == ["seed0/net-epoch-1", "seed1/net-epoch-1"]
    assert content["parameters"]["v_lambda"]["ends"] == pytest.approx([3e-5, 5e-5])
    assert content["maps"]["sumweights"]["centre_and_others"][1][0] == pytest.approx(-0.03)
    assert content["moved"]["conv1f"] == pytest.approx([0.1, 0.3], rel=1e-5)
    assert content["moved"]["adjust_b"] == [None, None]
    picture = (tmp_path / "out" / "sumweights.svg").read_text()
    for words in ("seed0/net-epoch-1", "mean", "change from 0.8", "reference"):
        assert words in picture


def test_a_reference_of_another_size_is_refused(files, tmp_path):
    savemat(tmp_path / "sumw.mat", {"sumw": np.ones((17, 17))})
    arguments = ["--weights", str(files[0]), "--reference", str(tmp_path / "sumw.mat")]
    with pytest.raises(ValueError, match=r"size of sumweights, \(7, 7\), received \(17, 17\)"):
        main(["learned", *arguments, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
