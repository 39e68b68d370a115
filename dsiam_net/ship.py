"""Command: make of a trained network a small file of weights, as the package brings one.

``python -m dsiam_net.ship CHECKPOINT --out FILE.npz --name NAME --release N --summary TEXT``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .cli import make_parser, run_command
from .model_card import run_settings, update_card
from .shipped import LIMIT, save_half
from .weights import load_weights


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dsiam_net.ship",
        "Write a trained network as a small file of weights: filters in half precision, the rest "
        "in single, with what is known of it. Copied to dsiam_net/pretrained/dsiam.npz it is what "
        "commands use where no weights are given.",
    )
    parser.add_argument("network", metavar="CHECKPOINT", help=".npz of a training run, .mat, .pth")
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="the file to write")
    parser.add_argument("--name", default="dsiam", help="of the network")
    parser.add_argument("--release", required=True, help="of the network, such as 1")
    parser.add_argument(
        "--summary", required=True, metavar="TEXT", help="what it was trained on, and how"
    )
    parser.add_argument(
        "--scale-penalty",
        type=float,
        metavar="FACTOR",
        help="on the scores of all scales but the middle one: what trackers take with this file "
        "in place of their settings' (theirs if not given)",
    )
    parser.add_argument(
        "--card",
        metavar="FILE.md",
        help="model card whose table of the file, between its two marks, is written anew",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, write the file, and print its card."""
    options = _parser().parse_args(argv)
    out = Path(options.out)
    if out.suffix != ".npz":
        raise ValueError(f"--out must be a file FILE.npz, received {options.out!r}")
    card = save_half(
        load_weights(options.network),
        out,
        name=options.name,
        release=options.release,
        summary=options.summary,
        training=run_settings(options.network),
        scale_penalty=options.scale_penalty,
    )
    if options.card:
        update_card(options.card, card)
    print(card.table(), end="")
    size = out.stat().st_size
    print(f"{out}: {size / 1e6:.2f} MB")
    if size > LIMIT:
        print(f"more than the {LIMIT / 1e6:g} MB that a file in the package may have")


if __name__ == "__main__":
    run_command(main)
