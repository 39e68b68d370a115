"""Subcommand ``data synthetic``: generated video as training data, with clips and crops."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tqdm import tqdm

from ..clips import ClipSampler, write_clips
from ..crops import Track, write_crops
from ..generated import Recipe, write_videos
from ..sequences import Sequence, read_otb
from ..variety import HARD, Variety

NAME = "synthetic"
HELP = "write generated video, with exact boxes, as sequences in OTB's layout"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of all that is written")
    parser.add_argument("--videos", type=int, default=300, help="how many")
    parser.add_argument("--frames", type=int, default=20, help="of each video")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"), help="of the frames"
    )
    parser.add_argument(
        "--photographs",
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders of photographs to take backgrounds, textures and, where they have BSDS500's "
        "layout with its groundTruth, outlined things from (default: made by a program)",
    )
    parser.add_argument(
        "--gentle",
        action="store_true",
        help="without the hard cases (small, fast, turning, faint, blurred ... targets)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of videos and clips")
    parser.add_argument("--quality", type=int, default=92, help="of the JPEG files of the frames")
    parser.add_argument("--num-clips", type=int, default=1000, help="clips to draw into clips.txt")
    parser.add_argument("--clip-frames", type=int, default=10, help="frames of a clip")
    parser.add_argument("--no-crops", action="store_true", help="write no crop store")
    parser.add_argument("--crop-size", type=int, default=255, help="side of the crops, pixels, odd")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")


def run(options: Namespace) -> None:
    """Write videos, clips and crops; what is there already is not made again."""
    if options.clip_frames > options.frames:
        raise ValueError(
            f"--clip-frames {options.clip_frames} is more than the {options.frames} --frames of "
            "a video"
        )
    out = Path(options.out)
    recipe = Recipe(
        seed=options.seed,
        frames=options.frames,
        size=tuple(options.size),
        photographs=tuple(str(Path(folder).resolve()) for folder in options.photographs),
        variety=Variety() if options.gentle else HARD,
        quality=options.quality,
    )
    written = write_videos(out / "sequences", recipe, options.videos, options.workers)
    folders = list(tqdm(written, total=options.videos, desc="videos", unit="video", disable=None))
    sequences = [read_otb(folder) for folder in folders]
    print(f"{out / 'sequences'}: {len(sequences)} videos of {options.frames} frames")

    sampler = ClipSampler(sequences, options.clip_frames, options.seed)
    clips = [sampler.files(0, index) for index in range(options.num_clips)]
    write_clips(out / "clips.txt", clips)
    print(f"{out / 'clips.txt'}: {len(clips)} clips of {options.clip_frames} frames")

    if not options.no_crops:
        print(_write_crops(out / "crops", sequences, options))


def _write_crops(folder: Path, sequences: list[Sequence], options: Namespace) -> str:
    tracks = [Track("target", s.name, s.paths, s.boxes) for s in sequences]
    with tqdm(total=len(tracks), desc="crops", unit="video", disable=None) as bar:
        store = write_crops(
            tracks,
            folder,
            size=options.crop_size,
            workers=options.workers,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    crops = sum(len(track.files) for track in store.tracks)
    return f"{folder}: {crops} crops of {len(store.tracks)} videos, {store.size} pixels wide"
