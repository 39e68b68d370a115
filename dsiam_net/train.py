"""Command: train the unrolled network on clips of video.

``python -m dsiam_net.train --data DIR... --weights FILE --exp-dir DIR``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dagnet import DagNN, ReadAhead, TrainOptions, lock_folder, train_dag

from .adapters.tensorboard import add_tensorboard_option, tensorboard_logs
from .build_unrolled import write_network
from .cli import (
    add_launch_option,
    by_first,
    choose_device,
    join_workers,
    make_parser,
    memory_size,
    pattern_factor,
    print_settings,
    run_command,
)
from .clips import ClipSampler, ListedClips
from .options import add_network_options, complete_options, make_network
from .sequences import find_sequences
from .solver_options import LATER_OPTIONS as LATER_SOLVER_OPTIONS
from .solver_options import add_solver_options, complete_solver, make_solver, without_later
from .synthetic import SyntheticVideos
from .training import (
    FIGURES,
    ClipBatches,
    KeepLambdasPositive,
    frame_stats,
    learning_rates,
    scale_learning_rates,
)
from .training_log import Progress, TrainingLog
from .unrolled import RESPONSE, objectives

# Options that may differ between a run and its continuation.
FREE_OPTIONS = (
    *("restart", "epochs", "exp_dir", "checkpoint_every", "memory_budget", "device"),
    *("tf32", "plain_launches", "out", "json", "draw", "tensorboard"),
)

# Options that came later, with their defaults: checkpoints name them where they differ, so that
# one that was written before goes on with the defaults.
LATER_OPTIONS = {
    "crops": RESPONSE,
    "center_jitter": 0.0,
    "param_rates": (),
    **LATER_SOLVER_OPTIONS,
}


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, solver and checkpoints."""
    data = parser.add_argument_group("data (one of them)").add_mutually_exclusive_group(
        required=True
    )
    data.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="sequences (OTB, VOT, GOT-10k, LaSOT, UAV123, TLP), or folders of them; clips are "
        "drawn by --seed",
    )
    data.add_argument(
        "--clips",
        nargs="+",
        metavar="FILE",
        help="text files that name frames and boxes; of several, clips are taken in turn",
    )
    data.add_argument("--synthetic", action="store_true", help="generated video")
    group = parser.add_argument_group("training")
    group.add_argument(
        "--num-clips", type=int, default=1000, help="clips an epoch, the same in all"
    )
    group.add_argument("--epochs", type=int, default=50, help="epochs, all in all")
    group.add_argument(
        "--learning-rate",
        type=float,
        nargs=2,
        default=(1e-7, 1e-9),
        metavar=("FIRST", "LAST"),
        help="of the first and the last epoch, equal ratios between",
    )
    group.add_argument(
        "--param-rates",
        type=pattern_factor,
        nargs="+",
        default=(),
        metavar="NAME=FACTOR",
        help="the learning rate of these parameters times a factor; names may have * and ?, such "
        "as *_lambda=0.01",
    )
    group.add_argument("--weight-decay", type=float, default=5e-4, help="of parameters that decay")
    add_solver_options(group)
    group.add_argument(
        "--center-jitter",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="with --crops ground-truth: rows and columns of the centres shifted at random, by up "
        "to as many pixels of the search crop",
    )
    group.add_argument(
        "--batch-size", type=int, default=1, help="clips a step, of each process under mpiexec"
    )
    group.add_argument(
        "--exp-dir", default="runs/dsiam", metavar="DIR", help="checkpoints, log and loss curve"
    )
    add_tensorboard_option(group)
    group.add_argument(
        "--checkpoint-every", type=int, default=50, metavar="STEPS", help="within an epoch"
    )
    group.add_argument(
        "--memory-budget",
        type=memory_size,
        metavar="SIZE",
        help="what values, derivatives and kept intermediates of a step may take (800MB, 1.5GB): "
        "branches are run a second time in backward until it is expected to fit (no limit if not "
        "given)",
    )
    add_launch_option(group)
    group.add_argument(
        "--restart", action="store_true", help="begin anew, whatever checkpoints --exp-dir holds"
    )


def make_clips(options: argparse.Namespace) -> tuple[object, int]:
    """The source of clips that the options name, and how many clips an epoch has."""
    if options.clips:
        clips = ListedClips(*options.clips)
        return clips, min(options.num_clips, len(clips))
    if options.synthetic:
        return SyntheticVideos(seed=options.seed, length=options.frames), options.num_clips
    sequences = find_sequences(options.data)
    return ClipSampler(sequences, options.frames, options.seed), options.num_clips


def train_options(options: argparse.Namespace, net: DagNN, workers: int = 1) -> TrainOptions:
    """Options of the training loop of so many processes from those of the command."""
    return TrainOptions(
        exp_dir=options.exp_dir,
        continue_=not options.restart,
        batch_size=options.batch_size * workers,
        num_epochs=options.epochs,
        learning_rate=learning_rates(*options.learning_rate, options.epochs),
        weight_decay=options.weight_decay,
        solver=make_solver(options),
        random_seed=options.seed,
        der_outputs=dict.fromkeys(objectives(net), 1),
        checkpoint_every=options.checkpoint_every,
        memory_budget=options.memory_budget,
        capture=not options.plain_launches,
        settings=settings_to_keep(options),
    )


def settings_to_keep(options: argparse.Namespace) -> dict[str, object]:
    """The options that a continued run must have as it was started with.

    One list of clips is its name, as in checkpoints of the time when there could be but one.
    """
    chosen = {name: value for name, value in vars(options).items() if name not in FREE_OPTIONS}
    kept = without_later(chosen, LATER_OPTIONS)
    if options.clips is not None and len(options.clips) == 1:
        kept["clips"] = options.clips[0]
    return kept


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and train."""
    parser = make_parser(
        "dsiam_net.train",
        "Train DSiam, unrolled over the frames of a clip, on video. A run that was interrupted "
        "goes on where its last checkpoint stands. Under mpiexec all processes train together.",
    )
    add_network_options(parser)
    add_training_options(parser)
    options = parser.parse_args(argv)
    workers = join_workers(options.device)
    choose_device(options)
    complete_options(options)
    complete_solver(options)
    clips, count = make_clips(options)
    net = make_network(options)
    scale_learning_rates(net, options.param_rates)
    print_settings(options)
    get_batch = ClipBatches(net, clips, options.center_jitter, options.seed)
    lock = by_first(workers, lock_folder(options.exp_dir))
    board = tensorboard_logs(options.tensorboard if workers.is_first else None, FIGURES)
    with lock, board as boards, Progress() as progress, ReadAhead(get_batch) as reader:
        logs = [TrainingLog(Path(options.exp_dir)), progress, *boards] if workers.is_first else []
        net, state = train_dag(
            net,
            reader,
            range(count),
            options=train_options(options, net, workers.size),
            extract_stats=partial(frame_stats, communicator=workers, reader=reader),
            callbacks=[KeepLambdasPositive(), *logs],
            communicator=workers,
        )
    if workers.is_first:
        write_network(net, options, state)


if __name__ == "__main__":
    run_command(main, "a smaller --memory-budget, --batch-size or --frames")
