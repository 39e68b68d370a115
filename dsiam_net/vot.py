"""Command: be a tracker for the VOT toolkit, or any other client of the TraX protocol.

``python -m dsiam_net.vot --tracker dsiamm --weights FILE``, started by the client, not by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .adapters.trax import import_trax, open_server, serve
from .cli import make_parser, run_command
from .track import add_tracker_options, make_tracker
from .weights_options import complete_weights


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dsiam_net.vot",
        "Track what a client of the TraX protocol, such as the VOT toolkit, asks for. The protocol "
        "has the standard streams, or the socket that the client names in TRAX_SOCKET.",
    )
    add_tracker_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and answer a client until it ends the session; returns 0."""
    options = _parser().parse_args(argv)
    import_trax()  # fails here, before the weights are read
    complete_weights(options)
    tracker = make_tracker(options)
    server = open_server(options.tracker, f"{options.tracker} of the reference implementation")
    frames = serve(tracker, server)
    print(f"{frames} frames", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
