"""Subcommand ``data synthetic``: generated video as training data, with clips and crops."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tqdm import tqdm

from ..clips import ClipFiles, ClipSampler, write_clips
from ..crops import Track, write_crops
from ..generated import Recipe, write_videos
from ..sequences import Sequence, read_otb
from ..variety import HARD, Variety

NAME = "synthetic"
HELP = "write generated video, with exact boxes, as sequences in OTB's layout"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--out", required=True, metavar="OUT", help="where everything is written")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes, or threads (default: as many as cores)"
    )
    parser.add_argument("--videos", type=int, default=300, metavar="N", help="how many")
    parser.add_argument("--frames", type=int, default=20, metavar="T", help="of each video")
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
    parser.add_argument(
        "--num-clips", type=int, default=1000, metavar="N", help="clips drawn; 0 for none"
    )
    parser.add_argument("--clip-length", type=int, default=10, metavar="T", help="frames a clip")
    parser.add_argument("--no-crops", action="store_true", help="write no crops")
    parser.add_argument(
        "--crop-size", type=int, default=255, metavar="PIXELS", help="side of the crops, odd"
    )


def run(options: Namespace) -> None:
    """Write videos, clips and crops; what is there already is not made again."""
    if not (options.num_clips == 0 or 1 <= options.clip_length <= options.frames):
        raise ValueError(
            f"--clip-length must lie in 1 to {options.frames}, the --frames of a video, received "
            f"{options.clip_length}"
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
    written = write_videos(out / "sequences", recipe, options.videos, options.jobs)
    folders = list(tqdm(written, total=options.videos, desc="videos", unit="video", disable=None))
    sequences = [read_otb(folder) for folder in folders]
    print(f"{out / 'sequences'}: {len(sequences)} videos of {options.frames} frames")

    if options.num_clips:
        clips = _draw_clips(sequences, options)
        write_clips(out / "clips.txt", clips)
        print(f"{out / 'clips.txt'}: {len(clips)} clips of {options.clip_length} frames")
    if not options.no_crops:
        print(_write_crops(out / "crops", sequences, options))


def _draw_clips(sequences: list[Sequence], options: Namespace) -> list[ClipFiles]:
    """Clips with random starts, the videos taking turns."""
    samplers = [ClipSampler([s], options.clip_length, options.seed) for s in sequences]
    numbers = range(options.num_clips)
    return [samplers[index % len(samplers)].files(0, index) for index in numbers]


def _write_crops(folder: Path, sequences: list[Sequence], options: Namespace) -> str:
    tracks = [Track("target", s.name, s.paths, s.boxes) for s in sequences]
    with tqdm(total=len(tracks), desc="crops", unit="video", disable=None) as bar:
        store = write_crops(
            tracks,
            folder,
            size=options.crop_size,
            workers=options.jobs,
            progress=lambda done, total: bar.update(done - bar.n),
        )
    crops = sum(len(track.files) for track in store.tracks)
    return f"{folder}: {crops} crops of {len(store.tracks)} videos, {store.size} pixels wide"
