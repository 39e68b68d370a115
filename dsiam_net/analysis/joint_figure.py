"""Figures of joint training: success and precision plots with the spread, differences."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..evaluation.protocol import MEASURES
from ..figures import BLUE, GREY, VERMILION, save_figure
from ..metrics import PRECISION_THRESHOLDS
from .joint import SIDES, Joint, compare
from .statistics import counted, estimate, plus_minus

STYLES = {"without": (BLUE, "--"), "with": (VERMILION, "-")}


def draw_curves(joint: Joint, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw success and precision plots: mean over seeds, bands of their spread.

    The darker band is the mean and the standard deviation of the seeds, the lighter one goes from
    the least to the greatest.

    Parameters
    ----------
    joint : Joint
    path : path ending in .svg, .png or .pdf
    title : str, optional
    """
    figure = Figure(figsize=(11, 4.9), layout="constrained")
    success, precision = figure.subplots(1, 2)
    over = f"OPE, {counted(len(joint.sequences), 'sequence')}"
    thresholds = joint.protocol.thresholds
    _draw(success, joint, "success", thresholds, joint.protocol.rank_by, "lower left")
    success.set(xlabel="Overlap threshold", ylabel="Success rate")
    success.set_title(f"Success plot ({over})", fontsize=11)
    _draw(precision, joint, "centre", PRECISION_THRESHOLDS, "precision", "lower right")
    precision.set(xlabel="Centre error threshold (pixels)", ylabel="Precision")
    precision.set_title(f"Precision plot ({over})", fontsize=11)
    if title:
        figure.suptitle(title, fontsize=12)
    save_figure(figure, path)


def _draw(
    axes: Axes, joint: Joint, curve: str, abscissae: np.ndarray, measure: str, legend: str
) -> None:
    for side, name in zip(SIDES, joint.names):
        color, dash = STYLES[side]
        curves = np.array([getattr(scores, curve) for scores in joint.overall(side)])
        mean = curves.mean(axis=0)
        if len(curves) > 1:
            spread = curves.std(axis=0, ddof=1)
            axes.fill_between(
                abscissae, curves.min(axis=0), curves.max(axis=0),
                color=color, alpha=0.13, linewidth=0,
            )  # fmt: skip
            axes.fill_between(
                abscissae, mean - spread, mean + spread, color=color, alpha=0.22, linewidth=0
            )
        words = f"{name}, {counted(len(curves), 'seed')}"
        score = f"{MEASURES[measure]} {plus_minus(joint.score(side, measure))}"
        axes.plot(
            abscissae, mean, color=color, linestyle=dash, linewidth=2, label=f"{words}\n{score}"
        )
    axes.set(xlim=(abscissae[0], abscissae[-1]), ylim=(0, 1))
    axes.set_yticks(np.linspace(0, 1, 11))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.legend(loc=legend, fontsize=8.5, framealpha=0.9, handlelength=3)


def draw_differences(joint: Joint, path: str | os.PathLike, title: str | None = None) -> None:
    """Draw with minus without, a row a sequence: a dot each seed, the mean, and all below.

    Parameters
    ----------
    joint : Joint
    path : path ending in .svg, .png or .pdf
    title : str, optional
    """
    count = len(joint.sequences)
    figure = Figure(figsize=(10, 0.27 * (count + 1) + 1.7), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    many = max(len(joint.without), len(joint.with_)) > 1
    order = np.argsort(joint.differences(joint.protocol.rank_by).mean(axis=0), kind="stable")
    for axes, measure in zip(panels, joint.measures):
        found = joint.differences(measure)[:, order]
        axes.axvline(0, color=GREY, linewidth=1.2)
        for place, values in enumerate(found.T, start=1):
            axes.plot(values, [place] * len(values), "o", markersize=4, color=VERMILION, alpha=0.7)
            if many:
                axes.plot(estimate(values).mean, place, "|", markersize=11, color=BLUE, mew=2)
        overall = compare(joint, measure).sequences
        low, high = overall.interval
        if count > 1:
            axes.plot((low, high), (0, 0), color=BLUE, linewidth=1.6)
        axes.plot(overall.mean, 0, "D", markersize=6, color=BLUE)
        axes.axhline(0.5, color="black", linewidth=0.6)
        without, with_ = joint.names
        axes.set_xlabel(f"{MEASURES[measure]}: {with_} − {without}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3, linewidth=0.6)
    names = ["all", *(joint.sequences[i] for i in order)]
    panels[0].set_yticks(range(count + 1), names)
    panels[0].set_ylim(-0.6, count + 0.6)
    dot = {"linestyle": "", "marker": "o", "markersize": 5, "color": VERMILION}
    bar = {"linestyle": "", "marker": "|", "markersize": 10, "mew": 2, "color": BLUE}
    handles = [Line2D([], [], label="a seed" if many else "a sequence", **dot)]
    if many:
        handles.append(Line2D([], [], label="mean over seeds", **bar))
    words = "mean of all, 95 % interval over sequences"
    handles.append(Line2D([], [], marker="D", markersize=5, color=BLUE, label=words))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9, frameon=False,
        title=title, title_fontsize=11,
    )  # fmt: skip
    save_figure(figure, path)
