"""Options for the weights of commands that track: a file, the package's own, or random ones."""

from __future__ import annotations

import argparse
import sys

from dagnet import DagNN

from .weights import RANDOM, default_weights, describe_weights, load_weights, random_siamfc


def add_weights_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--weights``, ``--random-weights`` and ``--seed``."""
    weights = group.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights",
        metavar="FILE",
        help=".mat (MatConvNet), .pth (PyTorch) or .npz, or random (default: those that come with "
        "the package)",
    )
    weights.add_argument(
        "--random-weights",
        action="store_true",
        help="random filters, to see the software run; they track badly",
    )
    group.add_argument("--seed", type=int, default=0, help="of --random-weights")


def complete_weights(options: argparse.Namespace, quiet: bool = False) -> None:
    """Take the package's weights where the options name none, and say so unless ``quiet``.

    Raises
    ------
    ValueError
        If the package has none.
    """
    if options.weights == RANDOM:
        options.weights, options.random_weights = None, True
    if options.weights or options.random_weights:
        return
    options.weights = default_weights()
    if options.weights is None:
        raise ValueError(
            "a network is needed, and the package was installed without weights of its own: give "
            "--weights FILE or --random-weights"
        )
    if not quiet:
        print(f"weights: {describe_weights(options.weights)}", file=sys.stderr)


def make_network(options: argparse.Namespace) -> DagNN:
    """The network that the completed options name; errors as in ``load_weights``."""
    return random_siamfc(options.seed) if options.random_weights else load_weights(options.weights)
