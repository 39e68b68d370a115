"""Subcommand ``vid``: ILSVRC-2015 VID."""

from __future__ import annotations

import argparse

from .pipeline import add_pipeline_options, run_pipeline
from .vid_layout import SETS, find_vid_videos, look_at_vid_video

NAME = "vid"
HELP = "index, selection, clips and crops of ILSVRC-2015 VID"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    add_pipeline_options(parser, flags=True)
    parser.add_argument(
        "--sets", choices=SETS, nargs="+", default=SETS, help="the paper's 4417 videos are of both"
    )


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; errors are SequenceError, CropError, ValueError or OSError."""
    items = find_vid_videos(options.dir, options.sets)
    run_pipeline(options, "ILSVRC-2015 VID", items, look_at_vid_video)
