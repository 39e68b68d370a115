"""Tests of dsiam_net.statistics_plot."""

import re

import pytest

from dagnet import train_dag
from dsiam_net.statistics_plot import PlotStatistics, plot_statistics, plotted
from toy_training import get_batch, options, toy_net

STATS = {
    "train": [
        {"num": 8, "time": 1.0, "objective": 2.0, "top1err": 0.5, "last": {"objective": 1}},
        {"num": 8, "time": 1.0, "objective": 1.0, "top1err": 0.25, "last": {"objective": 1}},
    ],
    "val": [{"num": 2, "time": 0.5, "objective": 3.0}, {"num": 2, "time": 0.5, "objective": 2.5}],
}


def texts(path):
    return re.findall(r">([^<>\n]+)</text>", path.read_text())


def test_counts_times_and_what_is_no_number_are_left_out():
    assert plotted(STATS) == ["objective", "top1err"]


def test_each_figure_has_its_panel_with_the_parts_that_have_it(tmp_path):
    plot_statistics(STATS, tmp_path / "curves.svg")
    found = texts(tmp_path / "curves.svg")
    assert [t for t in found if t in ("objective", "top1err")] == ["objective", "top1err"]
    assert found.count("epoch") == found.count("train") == 2 and found.count("val") == 1


def test_a_run_draws_after_each_epoch(tmp_path):
    chosen = options(tmp_path, num_epochs=2)
    train_dag(
        toy_net(),
        get_batch,
        range(4),
        range(4, 6),
        options=chosen,
        callbacks=[PlotStatistics(tmp_path), PlotStatistics(tmp_path, "curves.svg")],
    )
    assert (tmp_path / "net-train.pdf").read_bytes().startswith(b"%PDF")
    assert {"objective", "train", "val", "epoch"} <= set(texts(tmp_path / "curves.svg"))


def test_nothing_to_draw_is_said_and_no_reason_to_stop_a_run(tmp_path):
    with pytest.raises(ValueError, match="no figure to draw"):
        plot_statistics({"train": [{"num": 1}], "val": []}, tmp_path / "curves.svg")
    train_dag(
        toy_net(),
        get_batch,
        [0],
        options=options(tmp_path),
        extract_stats=lambda stats, net: stats,
        callbacks=[PlotStatistics(tmp_path)],
    )
    assert not (tmp_path / "net-train.pdf").exists()
