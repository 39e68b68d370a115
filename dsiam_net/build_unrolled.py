"""Command: build the unrolled network, and print, save, list or draw it.

``python -m dsiam_net.build_unrolled``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dagnet import DagNN, TrainState

from .cli import choose_device, make_parser, run_command
from .listing import summary, write_listing
from .network_files import write_network_file
from .options import add_network_options, complete_options, make_network


def write_network(net: DagNN, options: argparse.Namespace, state: TrainState | None = None) -> None:
    """Write what the options ``--out``, ``--json`` and ``--draw`` ask for.

    ``state`` is that of the training; ``--out FILE.mat`` holds it too.
    """
    if options.out:
        write_network_file(net, options.out, state)
    if options.json:
        write_listing(net, options.json)
    if options.draw:
        # Imported here since it brings Matplotlib, which takes longer than all else together.
        from .drawing import draw_unrolled

        draw_unrolled(net, options.draw)


def print_network(net: DagNN) -> None:
    """Print the summary, which ends with the numbers of layers and parameters."""
    print(summary(net))


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, build the network and print its summary."""
    parser = make_parser(
        "dsiam_net.build_unrolled",
        "Build DSiam unrolled over the frames of a clip, and print its layers and parameters.",
    )
    add_network_options(parser)
    options = parser.parse_args(argv)
    choose_device(options)
    complete_options(options)
    net = make_network(options)
    write_network(net, options)
    print_network(net)


if __name__ == "__main__":
    run_command(main)
