"""What the subcommands for data sets share: options, and the way from videos to clips and crops."""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..clips import write_clips
from ..crops import CropStore, write_crops
from ..sequences import SequenceError, SequenceWarning
from .drawing import crop_tracks, draw_clips
from .index import Item, Listing, build_index
from .selection import Choice, Limits, counts_table, select, write_selection
from .videos import FLAGS, Video

INDEX, CLIPS, CROPS = "index.jsonl", "clips.txt", "crops"


def add_pipeline_options(parser: argparse.ArgumentParser, flags: bool = False) -> None:
    """Add the options of index, selection, clips and crops; ``flags``: those of VID's flags."""
    parser.add_argument("dir", metavar="DIR", type=Path, help="the data set's folder")
    parser.add_argument(
        "--out", metavar="OUT", type=Path, required=True, help="where everything is written"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes, or threads (default: as many as cores)"
    )
    names = parser.add_argument_group("videos")
    names.add_argument(
        "--sequences", metavar="NAME", nargs="+", help="these alone: names of videos or tracks"
    )
    names.add_argument(
        "--exclude",
        metavar="NAME",
        nargs="+",
        help="all but these, for neither clips nor crops: names of videos or tracks",
    )
    _add_limits(parser, flags)
    clips = parser.add_argument_group("clips")
    clips.add_argument(
        "--num-clips", type=int, default=1000, metavar="N", help="clips drawn; 0 for none"
    )
    clips.add_argument("--clip-length", type=int, default=10, metavar="T", help="frames a clip")
    clips.add_argument("--seed", type=int, default=0, help="of the clips")
    crops = parser.add_argument_group("crops")
    crops.add_argument("--no-crops", action="store_true", help="write no crops")
    crops.add_argument(
        "--crops",
        choices=("all", "selected"),
        default="all",
        help="of all tracks, as SiamFC's training has them, or of the selected ones and their "
        "boxes within the limits",
    )
    crops.add_argument(
        "--crop-size",
        type=int,
        default=255,
        metavar="PIXELS",
        help="side of the crops; beyond 255 leaves a margin for augmentation",
    )
    crops.add_argument(
        "--crop-every", type=int, default=1, metavar="N", help="one of every N boxes of a track"
    )
    crops.add_argument(
        "--max-crops", type=int, metavar="N", help="of a track, at most (default: no limit)"
    )


def _add_limits(parser: argparse.ArgumentParser, flags: bool) -> None:
    group = parser.add_argument_group("selection")
    default = Limits()
    group.add_argument(
        "--max-aspect",
        type=float,
        default=default.max_aspect,
        metavar="RATIO",
        help="longer side of a box to its shorter one, at most",
    )
    group.add_argument(
        "--max-area",
        type=float,
        default=default.max_area,
        metavar="SHARE",
        help="of the frame, at most",
    )
    group.add_argument(
        "--min-side",
        type=float,
        default=default.min_side,
        metavar="PIXELS",
        help="shorter side of a box, at least",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        default=default.tolerance,
        metavar="SHARE",
        help="of a track's boxes, that may be beyond each of these limits (they are not used)",
    )
    group.add_argument(
        "--min-frames",
        type=int,
        default=default.min_frames,
        metavar="N",
        help="consecutive frames with a box within the limits, at least; never less than "
        "--clip-length",
    )
    if flags:
        group.add_argument(
            "--skip",
            choices=FLAGS,
            nargs="+",
            metavar="FLAG",
            help=f"boxes with these flags ({', '.join(FLAGS)}) do not count",
        )


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        max_aspect=options.max_aspect,
        max_area=options.max_area,
        min_side=options.min_side,
        tolerance=options.tolerance,
        min_frames=max(options.min_frames, options.clip_length),
        skip=tuple(getattr(options, "skip", None) or ()),
    )


def _known_as(*names: str) -> set[str]:
    """A name in full, and its last part."""
    return {part for name in names for part in (name, name.rpartition("/")[2])}


def filter_items(
    items: Sequence[Item], only: Iterable[str] | None, without: Iterable[str] | None
) -> set[str]:
    """Names of the videos that are to be read; what is left out need not be readable.

    ``only`` may name tracks, whose names begin with their videos'.
    """
    kept = (item.name for item in items if not _known_as(item.name) & set(without or ()))
    if only is None:
        return set(kept)
    return {
        item
        for item in kept
        if any(name.startswith(short) for name in only for short in _known_as(item))
    }


def filter_videos(
    videos: Sequence[Video],
    items: Sequence[Item],
    only: Iterable[str] | None,
    without: Iterable[str] | None,
) -> list[Video]:
    """Videos and tracks without those that are not wanted.

    Parameters
    ----------
    videos : sequence of Video
    items : sequence of Item
        All videos of the data set.
    only, without : names of videos or tracks, or None

    Raises
    ------
    SequenceError
        If there is no video or track of a name: misspelt, it would be trained on after all.
    """
    known = _known_as(*(item.name for item in items))
    for video in videos:
        known |= _known_as(*(track.name for track in video.tracks))
    for wanted in (only, without):
        unknown = [name for name in wanted or () if name not in known]
        if unknown:
            some = ", ".join(sorted(known)[:5])
            raise SequenceError(
                f"there is no video or track {', '.join(unknown)}; there are {some} and others"
            )
    kept = []
    for video in videos:
        whole = only is None or bool(_known_as(video.name) & set(only))
        tracks = tuple(
            track
            for track in video.tracks
            if (whole or _known_as(track.name) & set(only))
            and not _known_as(track.name) & set(without or ())
        )
        if whole or tracks:
            kept.append(replace(video, tracks=tracks))
    return kept


def run_pipeline(
    options: argparse.Namespace,
    layout: str,
    items: Sequence[Item],
    look: Callable[[Any], Listing],
) -> None:
    """Bring the index up to date, select tracks, draw clips, write crops, all into ``--out``.

    Parameters
    ----------
    options : Namespace
        As ``add_pipeline_options`` has them.
    layout, items, look
        As in ``build_index``.
    """
    limits = _limits(options)
    path = options.out / INDEX
    wanted = filter_items(items, options.sequences, options.exclude)
    videos, fresh = build_index(path, layout, items, look, options.dir, options.jobs, wanted)
    videos = filter_videos(videos, items, options.sequences, options.exclude)
    print(f"{path}: {len(videos)} videos, {fresh} read anew")
    report_notes(videos)
    choices = select(videos, limits)
    print(counts_table(write_selection(options.out, limits, videos, choices)))
    if options.num_clips:
        path = options.out / CLIPS
        clips = draw_clips(choices, options.num_clips, options.clip_length, options.seed)
        write_clips(path, clips)
        print(f"{path}: {len(clips)} clips of {options.clip_length} frames")
    if not options.no_crops:
        store = _write_crops(options, choices)
        print(f"{store.folder}: {len(store)} crops of {len(store.tracks)} tracks")


def report_notes(videos: Iterable[Video]) -> None:
    """Print what was odd in the files, as far as it was counted, and warn of the rest."""
    notes: Counter[str] = Counter()
    for video in videos:
        notes.update({k: n for k, n in video.notes.items() if k != "warnings"})
        for text in video.notes.get("warnings", ()):
            warnings.warn(text, SequenceWarning, stacklevel=2)
    for kind, number in notes.items():
        print(f"{kind}: {number}")


def _write_crops(options: argparse.Namespace, choices: Sequence[Choice]) -> CropStore:
    with tqdm(desc="crops", unit="video", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return write_crops(
            crop_tracks(choices, options.crops == "selected"),
            options.out / CROPS,
            size=options.crop_size,
            every=options.crop_every,
            max_per_track=options.max_crops,
            workers=options.jobs,
            progress=progress,
        )
