"""Command: train SiamFC from scratch on pairs of crops.

``python -m dsiam_net.pretrain --crops DIR --exp-dir DIR``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dagnet import Callback, DagNN, ReadAhead, TrainOptions, TrainState, lock_folder, train_dag
from dagnet.communicator import SINGLE, Communicator

from .adapters.tensorboard import add_tensorboard_option, tensorboard_logs
from .augmentation import Published
from .augmentation_strong import Strong
from .branches import siamfc_branch
from .cli import (
    add_device_options,
    add_launch_option,
    by_first,
    choose_device,
    join_workers,
    make_parser,
    print_settings,
    run_command,
)
from .crop_store import CropStore
from .pair_sheet import write_contact_sheet
from .pairs import PairSource, count_pairs
from .pretraining import (
    FIGURES,
    INITIAL_WEIGHTS,
    VALIDATION_EPOCH,
    EarlyStop,
    PairBatches,
    Pairs,
    PairStats,
    add_pair_losses,
    best_epoch,
    draw_filters,
    siamfc_from,
)
from .pretraining_log import BEST, LAST, EpochLog, PairProgress, SaveWeights, StepLog
from .siamfc import make_siamfc
from .solver_options import (
    LATER_OPTIONS,
    add_solver_options,
    complete_solver,
    make_solver,
    without_later,
)
from .training import learning_rates
from .weights import load_weights

AUGMENTATIONS = ("published", "strong", "none")
# Share of an epoch's pairs, experiment.m's opts.validation.
VALIDATION_SHARE = 0.1

# Options that may differ between a run and its continuation.
FREE_OPTIONS = (
    *("restart", "epochs", "patience", "threads", "exp_dir", "checkpoint_every", "device"),
    *("tf32", "plain_launches", "tensorboard"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of data, network, solver and checkpoints."""
    _add_data_options(parser.add_argument_group("data"))
    _add_network_options(parser.add_argument_group("network"))
    _add_training_options(parser.add_argument_group("training"))


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--crops",
        nargs="+",
        required=True,
        metavar="DIR[=WEIGHT]",
        help="crop stores, as dsiam_net.data writes them; pairs are drawn of each by its weight "
        "(default: 1)",
    )
    group.add_argument(
        "--augmentation",
        choices=AUGMENTATIONS,
        default="published",
        help="published: moved by up to 4 pixels, stretched by up to 5%%, colours shifted; strong: "
        "more of it, and targets off the middle",
    )
    group.add_argument(
        "--grayscale",
        type=float,
        metavar="SHARE",
        help="of pairs without colours (default: the augmentation's, 0 of published)",
    )
    group.add_argument(
        "--negatives",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of pairs whose exemplar is another target",
    )
    group.add_argument(
        "--frame-range", type=int, default=100, help="frames between exemplar and instance, at most"
    )
    group.add_argument(
        "--num-pairs", type=int, default=53200, help="an epoch, with those of validation"
    )
    group.add_argument(
        "--val-pairs",
        type=int,
        metavar="N",
        help="of them for validation, from videos of its own (default: a tenth)",
    )
    group.add_argument("--threads", type=int, default=2, help="that read pairs ahead of their use")


def _add_network_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--instance-size", type=int, default=239, help="pixels; 8 are a cell of the response"
    )
    start = group.add_mutually_exclusive_group()
    start.add_argument(
        "--weights-init", choices=INITIAL_WEIGHTS, default="xavierimproved", help="random filters"
    )
    start.add_argument(
        "--init", metavar="FILE", help=".mat, .npz or .pth with weights to go on from"
    )
    group.add_argument("--seed", type=int, default=0, help="of everything random")
    add_device_options(group)


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=int, default=50, help="epochs, all in all")
    group.add_argument(
        "--learning-rate",
        type=float,
        nargs=2,
        default=(1e-2, 1e-5),
        metavar=("FIRST", "LAST"),
        help="of the first and the last epoch, equal ratios between",
    )
    group.add_argument("--weight-decay", type=float, default=5e-4, help="of parameters that decay")
    add_solver_options(group)
    group.add_argument(
        "--batch-size", type=int, default=8, help="pairs a step, of each process under mpiexec"
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="EPOCHS",
        help="stop when validation's errdisp has not fallen for so many (default: never)",
    )
    group.add_argument(
        "--exp-dir", default="runs/siamfc", metavar="DIR", help="checkpoints, logs, curves, weights"
    )
    add_tensorboard_option(group)
    group.add_argument(
        "--checkpoint-every", type=int, default=200, metavar="STEPS", help="within an epoch"
    )
    add_launch_option(group)
    group.add_argument(
        "--restart", action="store_true", help="begin anew, whatever checkpoints --exp-dir holds"
    )


def parse_crops(given: Sequence[str]) -> tuple[list[str], list[float]]:
    """Folders and weights of ``DIR[=WEIGHT]``.

    Raises
    ------
    ValueError
        If a weight is not a number of at least 0.
    """
    folders, weights = [], []
    for text in given:
        folder, equals, weight = text.rpartition("=")
        # A folder may have the sign in its name.
        if not equals or Path(text).is_dir():
            folder, weight = text, "1"
        try:
            value = float(weight)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise ValueError(
                f"--crops {text}: expected DIR or DIR=WEIGHT with a number of at least 0, "
                f"received the weight {weight!r}"
            )
        folders.append(folder)
        weights.append(value)
    return folders, weights


def make_source(options: argparse.Namespace) -> PairSource:
    """The source of pairs that the options describe.

    Raises
    ------
    CropError
        If a folder is no crop store, or there are too few videos for training or validation.
    """
    folders, weights = parse_crops(options.crops)
    grey = {} if options.grayscale is None else {"grayscale": options.grayscale}
    augmentation = {
        "published": lambda: Published(**grey),
        "strong": lambda: Strong(**grey),
        "none": lambda: Published(stretch=False, translate=False, color=False, **grey),
    }[options.augmentation]()
    _, val = pair_counts(options)
    source = PairSource(
        [CropStore(folder) for folder in folders],
        weights,
        augmentation=augmentation,
        instance_size=options.instance_size,
        frame_range=options.frame_range,
        validation=VALIDATION_SHARE if val else 0.0,
        negatives=options.negatives,
        seed=options.seed,
    )
    for index in range(val):
        # What validation lacks is said now and not after the first epoch.
        source.choose(VALIDATION_EPOCH, index, "val")
    return source


def pair_counts(options: argparse.Namespace) -> tuple[int, int]:
    """How many pairs an epoch trains on and validates with.

    Raises
    ------
    ValueError
        If none is left for training.
    """
    val = options.val_pairs
    if val is None:
        _, val = count_pairs(options.num_pairs, VALIDATION_SHARE)
    if not 0 <= val < options.num_pairs:
        raise ValueError(
            f"of --num-pairs {options.num_pairs} there must be some to train on, with --val-pairs "
            f"{val} there are {options.num_pairs - val}"
        )
    return options.num_pairs - val, val


def make_network(options: argparse.Namespace) -> DagNN:
    """SiamFC with its losses on its device, from random weights or those of ``--init``."""
    if options.init:
        net = siamfc_from(load_weights(options.init))
    else:
        branch = siamfc_branch()
        draw_filters(branch, options.seed, options.weights_init)
        net = make_siamfc(branch)
    add_pair_losses(net, options.instance_size)
    net.move(options.device)
    return net


def train_options(options: argparse.Namespace, workers: int = 1) -> TrainOptions:
    """Options of the training loop of so many processes from those of the command."""
    settings = {name: value for name, value in vars(options).items() if name not in FREE_OPTIONS}
    return TrainOptions(
        exp_dir=options.exp_dir,
        continue_=not options.restart,
        batch_size=options.batch_size * workers,
        num_epochs=options.epochs,
        learning_rate=learning_rates(*options.learning_rate, options.epochs),
        weight_decay=options.weight_decay,
        solver=make_solver(options),
        random_seed=options.seed,
        checkpoint_every=options.checkpoint_every,
        capture=not options.plain_launches,
        settings=without_later(settings, LATER_OPTIONS),
    )


def pretrain(
    options: argparse.Namespace, source: Pairs, workers: Communicator = SINGLE
) -> tuple[DagNN, TrainState]:
    """Train on the pairs of a source, read ahead; return network and state."""
    train, val = pair_counts(options)
    net = make_network(options)
    chosen = train_options(options, workers.size)
    directory = Path(options.exp_dir)
    stop = [EarlyStop(options.patience)] if options.patience is not None else []
    batches = PairBatches(source, net)
    board = tensorboard_logs(options.tensorboard if workers.is_first else None, FIGURES)
    with (
        board as boards,
        PairProgress() as progress,
        ReadAhead(batches, options.threads) as reader,
    ):
        logs: list[Callback] = [
            StepLog(directory),
            EpochLog(directory, chosen.learning_rate),
            SaveWeights(directory),
            progress,
            *boards,
        ]
        return train_dag(
            net,
            reader,
            range(train),
            range(val),
            options=chosen,
            extract_stats=PairStats(reader, workers),
            callbacks=[*(logs if workers.is_first else []), *stop],
            communicator=workers,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and train."""
    parser = make_parser(
        "dsiam_net.pretrain",
        "Train SiamFC from scratch on pairs of crops. A run that was interrupted goes on where its "
        "last checkpoint stands. Under mpiexec all processes train together.",
    )
    add_options(parser)
    options = parser.parse_args(argv)
    workers = join_workers(options.device)
    choose_device(options)
    complete_solver(options)
    print_settings(options)
    directory = Path(options.exp_dir)
    source = make_source(options)
    for mode, count in zip(("train", "val"), pair_counts(options)):
        print(f"{mode}: {count} pairs an epoch, of {len(source.tracks(mode))} tracks")
    with by_first(workers, lock_folder(directory)):
        if workers.is_first:
            write_contact_sheet(source, directory / "pairs.png", epoch=1)
        _, state = pretrain(options, source, workers)
    print(f"{directory / BEST}: epoch {best_epoch(state)}, {directory / LAST}: epoch {state.epoch}")


if __name__ == "__main__":
    run_command(main, "a smaller --batch-size or --instance-size, or fewer --threads")
