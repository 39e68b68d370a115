"""Subcommand ``images``: crops of targets in still images, for pairs of a frame with itself."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from tqdm import tqdm

from ..augmentation_strong import Strong
from ..crops import write_crops
from ..pair_sheet import write_contact_sheet
from ..pairs import PairSource
from ..sequences import SequenceWarning
from .still_boxes import StillLimits
from .stills import find_stills, still_tracks

NAME = "images"
HELP = "crops of still images: with segments (BSDS500), with boxes, or of whatever has texture"
CROPS = "crops"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    parser.add_argument(
        "dir", metavar="DIR", type=Path, help="images, in folders within it too; see docs/data.md"
    )
    parser.add_argument(
        "--out", metavar="OUT", type=Path, required=True, help="crops are written to OUT/crops"
    )
    parser.add_argument(
        "--coco",
        metavar="JSON",
        type=Path,
        nargs="+",
        default=(),
        help="files of COCO's instances with the images' boxes; images that none of them names "
        "are left out",
    )
    parser.add_argument(
        "--per-image", type=int, default=5, metavar="N", help="targets of an image, at most"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of targets")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes, or threads (default: as many as cores)"
    )
    parser.add_argument(
        "--crop-size",
        type=int,
        default=255,
        metavar="PIXELS",
        help="side of the crops; beyond 255 leaves a margin for augmentation",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="write a picture of pairs with their targets marked, to be looked at",
    )
    limits, default = parser.add_argument_group("targets"), StillLimits()
    for name, metavar, text in (
        ("min_area", "SHARE", "of the image, at least"),
        ("max_area", "SHARE", "of the image, at most"),
        ("max_aspect", "RATIO", "longer side of a box to its shorter one, at most"),
        ("min_fill", "SHARE", "of its box that a segment fills, at least"),
        ("min_texture", "LEVELS", "standard deviation of the grey levels in a box, at least"),
        ("max_overlap", "SHARE", "intersection over union of two boxes of an image, at most"),
    ):
        limits.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(default, name),
            metavar=metavar,
            help=text,
        )
    limits.add_argument(
        "--max-borders",
        type=int,
        default=default.max_borders,
        metavar="N",
        help="borders of the image that a target touches, at most",
    )


def run(options: argparse.Namespace) -> None:
    """Run the subcommand; errors are SequenceError, CropError, ValueError or OSError."""
    limits = StillLimits(
        min_area=options.min_area,
        max_area=options.max_area,
        max_aspect=options.max_aspect,
        max_borders=options.max_borders,
        min_fill=options.min_fill,
        min_texture=options.min_texture,
        max_overlap=options.max_overlap,
    )
    stills = find_stills(options.dir, options.coco)
    with tqdm(desc="images", unit="image", total=len(stills), disable=None) as bar:
        found = still_tracks(
            stills,
            limits,
            options.per_image,
            options.seed,
            options.jobs,
            lambda done: bar.update(done - bar.n),
        )
    for kind, (images, targets) in found.counts.items():
        print(f"{kind}: {images} images, {targets} targets")
    if found.wrong:
        text = f"{len(found.wrong)} images were left out, the first: {found.wrong[0]}"
        warnings.warn(text, SequenceWarning, stacklevel=2)
    with tqdm(desc="crops", unit="image", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        store = write_crops(
            found.tracks,
            options.out / CROPS,
            size=options.crop_size,
            workers=options.jobs,
            progress=progress,
        )
    print(f"{store.folder}: {len(store)} crops of {len(store.tracks)} tracks")
    if options.sheet is not None:
        source = PairSource(store, augmentation=Strong(), validation=0.0)
        write_contact_sheet(source, options.sheet)
        print(f"{options.sheet}: pairs")
