"""Subcommands ``got10k``, ``lasot``, ``otb`` and, for any layout, ``sequences``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from .pipeline import add_pipeline_options, run_pipeline
from .sequence_layouts import find_folders, look_at_folder


@dataclass(frozen=True)
class SequenceCommand:
    """A subcommand for data sets of one folder a sequence.

    ``layouts`` are the names of those that it reads; None for all that are recognised.
    """

    NAME: str
    HELP: str
    layouts: tuple[str, ...] | None = None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the subcommand's options."""
        add_pipeline_options(parser)

    def run(self, options: argparse.Namespace) -> None:
        """Run the subcommand; errors are SequenceError, CropError, ValueError or OSError."""
        items = find_folders(options.dir, self.layouts)
        run_pipeline(options, self.NAME, items, look_at_folder)


_WHAT = "index, selection, clips and crops of"
GOT10K = SequenceCommand("got10k", f"{_WHAT} GOT-10k", ("GOT-10k",))
LASOT = SequenceCommand("lasot", f"{_WHAT} LaSOT", ("LaSOT",))
OTB = SequenceCommand("otb", f"{_WHAT} sequences in OTB's layout", ("OTB",))
SEQUENCES = SequenceCommand(
    "sequences", f"{_WHAT} sequences in any layout that is recognised: OTB, VOT, UAV123, TLP, ..."
)
