"""Command: figures and tables of what the transformations do, and of what training did.

``python -m dsiam_net.analyse transformations|ablation|challenge|responses``
``python -m dsiam_net.analyse learned|joint|crop-modes``
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dagnet import DagNN, lock_folder

from .analysis.ablation import VARIANTS, run_ablation
from .analysis.ablation import table as ablation_table
from .analysis.ablation import write_csv as write_ablation
from .analysis.ablation_figure import draw_ablation
from .analysis.challenge import parse_entrants, run_challenge
from .analysis.challenge import table as challenge_table
from .analysis.challenge_figure import draw_strip, write_video
from .analysis.patches import POSITIONS
from .analysis.recordings import open_recording, starting_region
from .analysis.responses import first_clip, unrolled_with
from .analysis.training_commands import SUBCOMMANDS as OF_TRAINING
from .analysis.transformations import (
    analyse_transformations,
    layer_names,
    spread_frames,
    summary,
    write_csv,
    write_json,
)
from .analysis.transformations_figure import draw_transformations
from .analysis.videos import LENGTH, generated_sequence
from .cli import add_device_options, choose_device, make_parser, run_command
from .figures import DPI, collect_responses, responses_over_frames
from .opencv_trackers import opencv_trackers
from .sequences import find_sequences
from .settings import TrackerSettings, get_preset
from .shipped import read_card
from .sources import can_be_scored, parse_region
from .tracker import TRACKERS, create_tracker, known_features
from .tracking import save_boxes
from .weights import SHIPPED, load_fusion_map, weights_path
from .weights_options import add_weights_options, complete_weights, make_network

PRESETS = ("released", "released-vgg19", "paper")
# The released weight of 1 would leave the second feature layer without effect where neither the
# network nor --sumweights has a learned map; fcnet_init.m's other one is 0.8. Only a challenge is
# between the trackers as they are.
FUSION_WEIGHT = 0.8
STRIP_FRAMES = 6


def _number_list(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers separated by commas, received {text!r}"
        ) from None


def add_network_options(
    parser: argparse.ArgumentParser, fusion_weight: float | None = FUSION_WEIGHT
) -> None:
    """Add the options that describe network and settings; without a weight, it is the preset's."""
    group = parser.add_argument_group("network")
    add_weights_options(group)
    group.add_argument("--preset", choices=PRESETS, default="released", help="settings")
    group.add_argument(
        "--feature-layers",
        metavar="A,B",
        help="feature variables, or the layers that write them, outermost first "
        "(default: those of SiamFC, VGG-19 or the unrolled network in the file)",
    )
    group.add_argument("--sumweights", metavar="FILE.mat", help="learned fusion map")
    group.add_argument(
        "--fusion-weight",
        type=float,
        default=fusion_weight,
        help="weight of the first feature layer's response, 0 to 1, where no map was learned"
        + ("" if fusion_weight else " (default: the preset's)"),
    )
    add_device_options(group)


def add_source_options(parser: argparse.ArgumentParser, init: bool = True) -> None:
    """Add the options that say which video is used, and with ``init`` where trackers start."""
    group = parser.add_argument_group("video")
    where = group.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="as of dsiam_net.track, but no camera: a folder of images, a sequence (OTB, VOT, "
        "GOT-10k, LaSOT, UAV123, TLP), a video file, or a glob of images in quotation marks",
    )
    where.add_argument("--sequence", metavar="DIR", help="SOURCE, given by name")
    where.add_argument(
        "--synthetic", type=int, metavar="SEED", help="a generated video, in place of SOURCE"
    )
    group.add_argument("--length", type=int, default=LENGTH, help="frames of a generated video")
    group.add_argument("--target", type=int, default=1, help="which, of several in a sequence")
    if init:
        group.add_argument(
            "--init",
            metavar="X,Y,W,H",
            help="the target's box in the first frame, pixels from 1 (default: the first of the "
            "sequence)",
        )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for what is written."""
    parser.add_argument("--out", metavar="DIR", required=True, help="where results go")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def add_figure_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options for a figure with frames; ``default`` says how many are shown otherwise."""
    parser.add_argument(
        "--show", type=_number_list, metavar="N,N", help=f"frames to be shown (default: {default})"
    )
    parser.add_argument("--dpi", type=float, default=DPI, help="dots an inch of the figure")


def make_settings(options: argparse.Namespace) -> TrackerSettings:
    """The tracker's settings that the options describe."""
    if options.fusion_weight is None:
        return get_preset(options.preset)
    return get_preset(options.preset, fusion_weight=options.fusion_weight)


def network_features(options: argparse.Namespace, net: DagNN) -> tuple[str, ...]:
    """Names of the feature layers that the options ask for."""
    if not options.feature_layers:
        return tuple(known_features(net))
    return tuple(name.strip() for name in options.feature_layers.split(","))


def fusion_map(options: argparse.Namespace) -> np.ndarray | None:
    """The learned fusion map that the options name."""
    return load_fusion_map(options.sumweights) if options.sumweights else None


def weights_name(options: argparse.Namespace) -> str:
    """How figures name the weights."""
    if options.random_weights:
        return f"random weights, seed {options.seed}"
    if options.weights == SHIPPED:
        card = read_card(weights_path(options.weights))
        return f"weights {card.name} {card.release}"
    return f"weights {Path(options.weights).name}"


def weights_checksum(options: argparse.Namespace) -> str:
    """What tells one file of weights from another."""
    if options.random_weights:
        return f"random-{options.seed}"
    return hashlib.sha256(weights_path(options.weights).read_bytes()).hexdigest()


def make_sequence(options: argparse.Namespace):
    """The video that the options name."""
    if options.synthetic is not None:
        return generated_sequence(options.synthetic, length=options.length)
    return open_recording(options.source or options.sequence, options.target)


def first_region(options: argparse.Namespace) -> np.ndarray | None:
    """The region of ``--init``; None without."""
    return parse_region(options.init) if options.init else None


def chosen_positions(options: argparse.Namespace, sequence) -> str:
    """``--positions``; by default the true ones, where there are and no other start is given."""
    if options.positions:
        return options.positions
    return "truth" if can_be_scored(sequence.present) and not options.init else "tracker"


def transformations(options: argparse.Namespace) -> None:
    """Subcommand ``transformations``."""
    complete_weights(options, options.quiet)
    sequence = make_sequence(options)
    positions = chosen_positions(options, sequence)
    net = make_network(options)
    features = network_features(options, net)[:2]
    tracker = create_tracker(
        "dsiamm" if len(features) == 2 else "dsiam",
        net,
        make_settings(options),
        features=features,
        fusion_map=fusion_map(options),
        device=options.device,
    )
    result = analyse_transformations(
        tracker,
        sequence,
        layer_names(net, features),
        positions,
        options.show,
        progress=not options.quiet,
        region=first_region(options),
    )
    folder = Path(options.out)
    write_csv(result, folder / "distances.csv")
    write_json(result, folder / "summary.json")
    where = {"truth": "ground truth", "tracker": "the tracker's own"}[positions]
    title = f"{sequence.name}, positions: {where}, {weights_name(options)}"
    draw_transformations(result, folder / "transformations.png", title, options.dpi)
    print(summary(result))


def ablation(options: argparse.Namespace) -> None:
    """Subcommand ``ablation``."""
    complete_weights(options, options.quiet)
    if (options.data is None) == (options.synthetic is None):
        raise ValueError("give either --data DIR... or --synthetic N")
    if options.data:
        sequences = find_sequences(options.data)
    else:
        if options.synthetic < 1:
            raise ValueError(f"--synthetic must be at least 1, received {options.synthetic}")
        numbers = range(options.synthetic)
        sequences = [generated_sequence(options.video_seed, i, options.length) for i in numbers]
    net = make_network(options)
    features = network_features(options, net)
    variants = [v for v in VARIANTS if v.layers <= len(features)]
    runs = run_ablation(
        net,
        sequences,
        make_settings(options),
        Path(options.out) / "runs",
        weights=weights_checksum(options),
        features=features,
        fusion_map=fusion_map(options),
        variants=variants,
        frames=options.frames,
        device=options.device,
        progress=not options.quiet,
    )
    write_ablation(runs, Path(options.out) / "ablation.csv")
    title = f"{len(sequences)} sequence{'s' * (len(sequences) > 1)}, {weights_name(options)}"
    draw_ablation(runs, Path(options.out) / "ablation.png", title)
    print(ablation_table(runs))


def challenge(options: argparse.Namespace) -> None:
    """Subcommand ``challenge``."""
    entrants = parse_entrants(options.trackers)
    ours = [e for e in entrants if e.needs_network]
    if ours:
        complete_weights(options, options.quiet)
    sequence = make_sequence(options)
    region = first_region(options)
    if any(e.file is None for e in entrants):
        starting_region(sequence, region)  # what is wrong with it is then known at once
    net = make_network(options) if ours else None

    def make_tracker(name: str):
        return create_tracker(
            name,
            net,
            make_settings(options) if name != "siamfc" else None,
            features=network_features(options, net),
            fusion_map=fusion_map(options) if TRACKERS[name][1] == 2 else None,
            device=options.device,
        )

    results = run_challenge(
        sequence, entrants, make_tracker, options.frames, not options.quiet, region
    )
    folder = Path(options.out)
    for result in results:
        save_boxes(folder / "boxes" / f"{result.name}.txt", result.boxes)
    show = options.show or spread_frames(len(results[0].boxes), STRIP_FRAMES)
    title = f"{sequence.name}, {weights_name(options)}" if ours else sequence.name
    draw_strip(sequence, results, show, folder / "challenge.png", title, options.dpi)
    write_video(sequence, results, folder / "challenge.mp4")
    print(challenge_table(results))


def responses(options: argparse.Namespace) -> None:
    """Subcommand ``responses``."""
    complete_weights(options)
    clip = first_clip(make_sequence(options), options.frames)
    net = unrolled_with(make_network(options), options.frames)
    title = weights_name(options)
    path = Path(options.out) / "responses.png"
    responses_over_frames(collect_responses(net, clip), path, title, options.dpi)
    print(f"wrote {path}")


def _add_transformations(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    add_network_options(parser)
    add_output_options(parser)
    parser.add_argument(
        "--positions",
        choices=POSITIONS,
        help="where the target is: in the ground truth, or where the tracker finds it (default: "
        "truth, where there is any and no --init)",
    )
    add_figure_options(parser, "five")


def _add_ablation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sequences")
    group.add_argument("--data", nargs="+", metavar="DIR", help="sequences, or folders of them")
    group.add_argument("--synthetic", type=int, metavar="N", help="so many generated videos")
    group.add_argument("--video-seed", type=int, default=0, help="of the generated videos")
    group.add_argument("--length", type=int, default=LENGTH, help="frames of a generated video")
    group.add_argument("--frames", type=int, metavar="N", help="the first N frames of each only")
    add_network_options(parser)
    add_output_options(parser)


def _add_challenge(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("--frames", type=int, metavar="N", help="the first N frames only")
    parser.add_argument(
        "--trackers",
        required=True,
        metavar="A,B",
        help=f"of {', '.join(TRACKERS)}; opencv-NAME (here: "
        f"{', '.join(opencv_trackers())}); FILE or NAME=FILE with boxes, a row "
        "x,y,w,h a frame or OTB's .mat",
    )
    add_network_options(parser, fusion_weight=None)
    add_output_options(parser)
    add_figure_options(parser, "six")


def _add_responses(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser, init=False)
    parser.add_argument("--frames", type=int, default=10, help="frames of the unrolled network")
    add_weights_options(parser.add_argument_group("network"))
    parser.add_argument("--dpi", type=float, default=DPI, help="dots an inch of the figure")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the figure goes")


SUBCOMMANDS = {
    "transformations": (
        transformations,
        _add_transformations,
        "distances of features with and without V and W in all frames of a sequence",
    ),
    "ablation": (
        ablation,
        _add_ablation,
        "scores without V, without W, without both, on one and two feature layers; "
        "a run that was stopped goes on",
    ),
    "challenge": (
        challenge,
        _add_challenge,
        "several trackers' boxes on one video, and on a strip of its frames",
    ),
    "responses": (
        responses,
        _add_responses,
        "the unrolled network's responses on the first frames of a sequence",
    ),
    **OF_TRAINING,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and run a subcommand."""
    parser = make_parser(
        "dsiam_net.analyse", "Show and count what the transformations do, and training."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (function, add_options, words) in SUBCOMMANDS.items():
        command = commands.add_parser(
            name,
            help=words,
            description=words[0].upper() + words[1:] + ".",
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        add_options(command)
        command.set_defaults(function=function)
    options = parser.parse_args(argv)
    if hasattr(options, "device"):
        choose_device(options)
    with lock_folder(options.out):
        options.function(options)


if __name__ == "__main__":
    run_command(main)
