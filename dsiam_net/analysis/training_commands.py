"""Subcommands of ``dsiam_net.analyse`` that show what training did."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..weights import load_fusion_map
from .crop_modes import compare_runs, read_training
from .crop_modes import statement as crop_modes_statement
from .crop_modes import table as crop_modes_table
from .crop_modes import write_csv as write_crop_modes_csv
from .crop_modes import write_json as write_crop_modes
from .crop_modes_figure import draw_crop_modes
from .joint import NAMES, make_joint, read_trial, statement
from .joint import table as joint_table
from .joint import write_csv as write_joint_csv
from .joint import write_json as write_joint
from .joint_figure import draw_curves, draw_differences
from .learned import check_reference, read_learned
from .learned import table as learned_table
from .learned import write_json as write_learned
from .learned_figure import draw_maps, draw_moved, draw_scalars

# Of every figure: one to look at, one that scales.
SUFFIXES = (".svg", ".png")


def learned(options: argparse.Namespace) -> None:
    """Subcommand ``learned``."""
    result = read_learned(options.weights, options.start)
    reference = None
    if options.reference:
        reference = load_fusion_map(options.reference).astype(float)
        check_reference(result, reference)
    folder = Path(options.out)
    write_learned(result, folder / "learned.json", reference)
    for suffix in SUFFIXES:
        draw_scalars(result, folder / f"learned{suffix}", options.title)
        if result.maps:
            draw_maps(result, folder / f"sumweights{suffix}", reference, options.title)
        if result.others:
            draw_moved(result, folder / f"moved{suffix}", options.title)
    print(learned_table(result, reference))


def _add_learned(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        nargs="+",
        required=True,
        metavar="FILE",
        help="jointly trained networks, one a seed: checkpoints of dsiam_net.train, or shipped "
        "files (shipped: that of the package)",
    )
    parser.add_argument(
        "--start",
        metavar="FILE",
        help="the weights that training began with: then the other parameters are compared too "
        "(default: the public values of lambdas, learning rates and sumweights)",
    )
    parser.add_argument(
        "--reference", metavar="FILE.mat", help="another fusion map, drawn beside: the authors'"
    )
    _add_output(parser)


def joint(options: argparse.Namespace) -> None:
    """Subcommand ``joint``."""
    result = make_joint(
        [read_trial(text) for text in options.without],
        [read_trial(text) for text in options.with_],
        options.sequences,
        options.names,
    )
    folder = Path(options.out)
    write_joint(result, folder / "joint.json")
    write_joint_csv(result, folder / "joint.csv")
    for suffix in SUFFIXES:
        draw_curves(result, folder / f"joint{suffix}", options.title)
        draw_differences(result, folder / f"differences{suffix}", options.title)
    print(f"{joint_table(result)}\n\n{statement(result)}")


def _add_joint(parser: argparse.ArgumentParser) -> None:
    words = "one a seed, in the same order on both sides, or one that all are compared with"
    for name, destination in (("without", "without"), ("with", "with_")):
        parser.add_argument(
            f"--{name}",
            dest=destination,
            nargs="+",
            required=True,
            metavar="DIR[:TRACKER]",
            help=f"evaluations (--out of dsiam_net.evaluate) {name} joint training: {words}; "
            "TRACKER where the folder holds several",
        )
    parser.add_argument(
        "--sequences",
        nargs="+",
        metavar="NAME",
        help="these alone (default: all that every evaluation has a score of)",
    )
    parser.add_argument(
        "--names",
        nargs=2,
        default=NAMES,
        metavar=("WITHOUT", "WITH"),
        help="what the two sides are called",
    )
    _add_output(parser)


def crop_modes(options: argparse.Namespace) -> None:
    """Subcommand ``crop-modes``."""
    runs = [read_training(folder) for folder in options.runs]
    result = compare_runs(runs, options.last, options.steps)
    folder = Path(options.out)
    write_crop_modes(result, folder / "crop_modes.json")
    write_crop_modes_csv(result, folder / "crop_modes.csv")
    for suffix in SUFFIXES:
        draw_crop_modes(result, folder / f"crop_modes{suffix}", options.title)
    print(f"{crop_modes_table(result)}\n\n{crop_modes_statement(result)}")


def _add_crop_modes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders (--exp-dir) of dsiam_net.train, alike but for --crop-gradient and --seed, "
        "with --crop-gradient none among them",
    )
    parser.add_argument(
        "--last",
        type=int,
        metavar="N",
        help="so many steps at the end are a run's result (default: a quarter)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="the first N steps of each run (default: all)"
    )
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--title", metavar="TEXT", help="of the figures")
    parser.add_argument("--out", metavar="DIR", required=True, help="where results go")


SUBCOMMANDS = {
    "learned": (
        learned,
        _add_learned,
        "what joint training did to lambdas, learning rates and sumweights",
    ),
    "joint": (
        joint,
        _add_joint,
        "success and precision of a tracker with and without joint training, over several seeds",
    ),
    "crop-modes": (
        crop_modes,
        _add_crop_modes,
        "which derivative of the crops learns better: none, pool, scatter or soft",
    ),
}
