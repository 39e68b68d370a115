"""Command: track the target of a sequence, a video or a camera.

``python -m dsiam_net.track SOURCE --weights FILE``
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from . import window
from .cli import INTERRUPTED, add_device_options, choose_device, make_parser, run_command
from .overlay import VideoWriter
from .results import boxes_text, check_writable, save_boxes, save_json
from .settings import PRESETS, get_preset
from .sources import Source, can_be_scored, first_region, length, open_source, parse_region
from .tracker import TRACKERS, Tracker, create_tracker
from .tracking import Tracked, scores, track_sequence
from .weights import load_fusion_map
from .weights_options import add_weights_options, complete_weights, make_network


def add_tracker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the tracker."""
    group = parser.add_argument_group("tracker")
    add_weights_options(group)
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
    add_patches_options(group)
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
    add_device_options(group)


def add_patches_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--exact`` and ``--fast``."""
    patches = group.add_mutually_exclusive_group()
    for name, text in (
        ("exact", "cut and round patches as the public MATLAB code (the default)"),
        ("fast", "cut patches with OpenCV, unrounded"),
    ):
        patches.add_argument(
            f"--{name}", dest="patches", action="store_const", const=name, help=text
        )
    group.set_defaults(patches="exact")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to track and what to write."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="a folder of images, a sequence (OTB, VOT, GOT-10k, LaSOT, UAV123, TLP), a video "
        "file, a glob of images in quotation marks, or a camera (camera:0)",
    )
    where.add_argument("--sequence", metavar="DIR", help="SOURCE, given by name")
    group = parser.add_argument_group("run")
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--init",
        metavar="X,Y,W,H",
        help="the target's box in the first frame, pixels from 1 (default: the first of the "
        "sequence; drawn with the mouse if it has none)",
    )
    start.add_argument("--select", action="store_true", help="draw the first box with the mouse")
    group.add_argument("--target", type=int, default=1, help="which, of several in a sequence")
    group.add_argument("--frames", type=int, metavar="N", help="the first N frames only")
    group.add_argument("--every-n", type=int, default=1, metavar="N", help="every N-th frame only")
    group.add_argument(
        "--save-boxes",
        metavar="FILE.txt",
        help="write boxes, x,y,w,h a row (printed where neither they nor JSON go to a file)",
    )
    group.add_argument(
        "--save-json", metavar="FILE.json", help="write boxes, scores, times and settings"
    )
    group.add_argument("--save-video", metavar="FILE.mp4", help="write a video with the boxes")
    group.add_argument("--show", action="store_true", help="show the frames in a window")
    group.add_argument("--quiet", action="store_true", help="no settings, no progress bar")


def make_tracker(options: argparse.Namespace) -> Tracker:
    """The tracker that the options describe."""
    if options.sumweights and TRACKERS[options.tracker][1] < 2:
        raise ValueError(
            f"--sumweights fuses two feature layers, and {options.tracker} has one; leave it away, "
            "or take --tracker dsiamm"
        )
    layers = options.feature_layers
    return create_tracker(
        options.tracker,
        make_network(options),
        get_preset(options.preset) if options.preset else None,
        features=[name.strip() for name in layers.split(",")] if layers else None,
        fusion_map=load_fusion_map(options.sumweights) if options.sumweights else None,
        patches=options.patches,
        device=options.device,
    )


def starting_region(
    options: argparse.Namespace, source: Source
) -> np.ndarray | Callable[[np.ndarray], np.ndarray]:
    """The region to start from, or the function that asks the user for it."""
    if options.init:
        return parse_region(options.init)
    known = None if options.select else first_region(source)
    return window.select_box if known is None else known


def summary(source: Source, done: Tracked) -> str:
    """One line about a run: its frames, and scores where there is truth to compare with."""
    total = length(source)
    text = f"{source.name}: {len(done.entries)} of {'?' if total is None else total} frames"
    if source.truth is not None and can_be_scored(source.present[done.frames]):
        auc, precise = scores(done.boxes, source, done.frames)
        text += f", AUC {auc:.3f}, precision at 20 px {precise:.3f}"
    return text


def about(options: argparse.Namespace, source: Source, tracker: Tracker) -> dict[str, Any]:
    """What was tracked, with what and how, for ``save_json``."""
    return {
        "source": options.source,
        "name": source.name,
        "tracker": options.tracker,
        "weights": options.weights or f"random, seed {options.seed}",
        "patches": options.patches,
        "device": options.device,
        "tf32": options.tf32,
        "every_n": options.every_n,
        "settings": dataclasses.asdict(tracker.settings),
    }


@contextmanager
def first_interrupt_only() -> Iterator[None]:
    """Let one Ctrl-C end the run, and no further one the writing of its results."""

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # others get no signals
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def write_results(
    options: argparse.Namespace, source: Source, tracker: Tracker, done: Tracked
) -> None:
    """Write the files that the options ask for; without any, print the boxes."""
    if options.save_boxes:
        save_boxes(options.save_boxes, done.boxes)
    if options.save_json:
        save_json(options.save_json, about(options, source, tracker) | done.record())
    printed = not (options.save_boxes or options.save_json)
    if printed:
        print(boxes_text(done.boxes), end="")
    # Beside printed boxes the summary must not stand among the rows.
    print(summary(source, done), file=sys.stderr if printed else sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and track; returns 0, or 130 if Ctrl-C ended the run early."""
    parser = make_parser(
        "dsiam_net.track",
        "Track a target from its box in the first frame. Boxes are x,y,w,h in pixels, 1-based as "
        "OTB's. Ctrl-C ends the run and keeps the frames done.",
    )
    add_tracker_options(parser)
    add_run_options(parser)
    options = parser.parse_args(argv)
    choose_device(options)
    complete_weights(options, options.quiet)
    options.source = options.source or options.sequence
    for path in filter(None, (options.save_boxes, options.save_json, options.save_video)):
        check_writable(path)
    source = open_source(options.source, options.target)
    region = starting_region(options, source)
    tracker = make_tracker(options)
    if not options.quiet:
        print(tracker.settings.table(), file=sys.stderr)
    with first_interrupt_only():
        return run(options, source, tracker, region)


def run(
    options: argparse.Namespace,
    source: Source,
    tracker: Tracker,
    region: np.ndarray | Callable[[np.ndarray], np.ndarray],
) -> int:
    """Track, and write what the options ask for; returns the exit status."""
    with ExitStack() as stack:
        video = options.save_video and stack.enter_context(
            VideoWriter(options.save_video, source.fps / options.every_n)
        )
        shown = options.show and stack.enter_context(window.Window(source.name))
        done = track_sequence(
            tracker,
            source,
            options.frames,
            video or None,
            progress=not options.quiet,
            region=region,
            every=options.every_n,
            window=shown or None,
        )
    if done.entries:
        write_results(options, source, tracker, done)
    return INTERRUPTED if done.interrupted else 0


if __name__ == "__main__":
    run_command(main, "smaller frames, or --tracker siamfc")
