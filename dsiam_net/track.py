"""Command: track the target of a sequence in OTB's layout.

``python -m dsiam_net.track --weights FILE --sequence DIR``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from dagnet import DagNN
from dagnet.backend import DEVICES

from .cli import INTERRUPTED, make_parser, run_command
from .overlay import VideoWriter
from .sequences import read_otb
from .settings import PRESETS, get_preset
from .tracker import TRACKERS, Tracker, create_tracker
from .tracking import save_boxes, scores, track_sequence
from .weights import load_fusion_map, load_weights, random_siamfc


def add_tracker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the tracker."""
    group = parser.add_argument_group("tracker")
    weights = group.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--weights", metavar="FILE", help=".mat (MatConvNet), .pth (PyTorch) or .npz"
    )
    weights.add_argument(
        "--random-weights",
        action="store_true",
        help="random filters, to see the software run; they track badly",
    )
    group.add_argument(
        "--tracker",
        choices=TRACKERS,
        default="dsiamm",
        help="SiamFC, or DSiam on one feature layer (dsiam) or on two (dsiamm)",
    )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="settings (default: siamfc for --tracker siamfc, else released)",
    )
    group.add_argument(
        "--feature-layers",
        metavar="A,B",
        help="feature variables, or the layers that write them, outermost first "
        "(default: those of SiamFC, VGG-19 or the unrolled network in the file)",
    )
    group.add_argument(
        "--sumweights",
        metavar="FILE.mat",
        help="learned fusion map, in place of the network's or the preset's",
    )
    group.add_argument("--seed", type=int, default=0, help="of --random-weights")
    group.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to track and what to write."""
    group = parser.add_argument_group("sequence")
    group.add_argument(
        "--sequence",
        metavar="DIR",
        required=True,
        help="folder with img/ and groundtruth_rect.txt or groundtruth_poly.txt",
    )
    group.add_argument("--target", type=int, default=1, help="which, of several")
    group.add_argument("--frames", type=int, metavar="N", help="the first N frames only")
    group.add_argument("--out", metavar="FILE.txt", help="write the boxes here, x,y,w,h a row")
    group.add_argument("--save-video", metavar="FILE.mp4", help="write a video with the boxes")
    group.add_argument("--quiet", action="store_true", help="no settings, no progress bar")


def make_network(options: argparse.Namespace) -> DagNN:
    """The network that the options name."""
    return random_siamfc(options.seed) if options.random_weights else load_weights(options.weights)


def make_tracker(options: argparse.Namespace) -> Tracker:
    """The tracker that the options describe."""
    layers = options.feature_layers
    return create_tracker(
        options.tracker,
        make_network(options),
        get_preset(options.preset) if options.preset else None,
        features=[name.strip() for name in layers.split(",")] if layers else None,
        fusion_map=load_fusion_map(options.sumweights) if options.sumweights else None,
        device=options.device,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and track; returns 0, or 130 if Ctrl-C ended the run early."""
    parser = make_parser(
        "dsiam_net.track",
        "Track the target of a sequence from its first box. Boxes are x,y,w,h in pixels, 1-based "
        "as OTB's. Ctrl-C ends the run and keeps the frames done.",
    )
    add_tracker_options(parser)
    add_run_options(parser)
    options = parser.parse_args(argv)
    sequence = read_otb(options.sequence, options.target)
    tracker = make_tracker(options)
    if not options.quiet:
        print(tracker.settings.table(), file=sys.stderr)
    with VideoWriter(options.save_video) if options.save_video else nullcontext() as video:
        done = track_sequence(tracker, sequence, options.frames, video, progress=not options.quiet)
    if len(done.boxes):
        if options.out:
            save_boxes(options.out, done.boxes)
        auc, precision = scores(done.boxes, sequence)
        print(
            f"{sequence.name}: {len(done.boxes)} of {len(sequence)} frames, "
            f"AUC {auc:.3f}, precision at 20 px {precision:.3f}"
        )
    return INTERRUPTED if done.interrupted else 0


if __name__ == "__main__":
    run_command(main)
