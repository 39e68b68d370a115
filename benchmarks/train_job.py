"""A whole training run beside the same run in PyTorch, start-up, decoding and checkpoint included.

``python benchmarks/train_job.py DIR... [--steps 20] [--rounds 3]``

Whole processes take turns: ``python -m dsiam_net.train`` and ``train_torch.py``, which trains the
same network on the same clips with autograd. Their losses must agree, step by step. With
``--device gpu`` both compute there, and it is told how much of the time the card computed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from busy import BusyCard
from comparing import CHANNELS_LAST, NCHW, OURS
from contender import THREAD_VARIABLES, Seconds
from dagnet.backend import check_device
from dsiam_net.cli import (
    add_device_options,
    check_precision,
    make_parser,
    print_settings,
    run_command,
)
from dsiam_net.clips import ClipSampler, write_clips
from dsiam_net.sequences import find_sequences
from layers import background_mask
from machine import describe, load, usable_cores
from problems import FULL, make_net
from reporting import print_machine, require_positive, require_torch, spread, write_json

TARGET = 0.55
TORCH_SCRIPT = Path(__file__).with_name("train_torch.py")
SEED = 0
# Fields of os.times that count the time of processes that ended.
CHILDREN = ("children_user", "children_system")
# How far the losses of a step may lie apart, as a part of them: both are in single precision, and
# one step's rounding is in the next one's parameters.
LOSSES = 1e-3


class Files(NamedTuple):
    """What both runs start from: clips in the order of each, and parameters for each."""

    our_clips: Path
    their_clips: Path
    our_start: Path
    their_start: Path


def prepare(folder: Path, data: Sequence[str], steps: int, frames: int) -> Files:
    """Draw the clips and the first parameters, and write them for both sides."""
    sampler = ClipSampler(find_sequences(data), frames, SEED)
    clips = [sampler.files(0, index) for index in range(steps)]
    files = Files(*(folder / name for name in ("ours.txt", "theirs.txt", "ours.npz", "theirs.npz")))
    write_clips(files.our_clips, clips)
    write_clips(files.their_clips, as_trained(clips))
    net = make_net(FULL)
    net.save(files.our_start)
    unrolled = net.meta["unrolled"]
    names = ("exemplar_size", "search_size", "stride", "map_size")
    about = {
        "geometry": {name: unrolled[name] for name in names},
        "factors": {p.name: [p.learning_rate, p.weight_decay] for p in net.params},
    }
    np.savez(
        files.their_start,
        about=json.dumps(about),
        mask=background_mask(FULL.search_size, FULL.exemplar_size),
        **{p.name: p.value for p in net.params},
    )
    return files


def as_trained(clips: Sequence[Any]) -> list[Any]:
    """The clips in the order in which the training loop takes them in its first epoch."""
    order = np.random.default_rng([SEED, 1]).permutation(np.arange(len(clips)))
    return [clips[index] for index in order]


def commands(
    files: Files, frames: int, threads: int, device: Sequence[str] = ()
) -> dict[str, Callable[[Path], list[str]]]:
    """For each side the command that trains into a folder; ``device`` are options of both."""

    def ours(folder: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "dsiam_net.train", "--clips", str(files.our_clips)),
            *("--weights", str(files.our_start), "--frames", str(frames), "--epochs", "1"),
            *("--exp-dir", str(folder), "--seed", str(SEED), *device),
        ]

    def theirs(*options: str) -> Callable[[Path], list[str]]:
        return lambda folder: [
            *(sys.executable, str(TORCH_SCRIPT), "--clips", str(files.their_clips)),
            *("--start", str(files.their_start), "--exp-dir", str(folder)),
            *("--threads", str(threads), *device, *options),
        ]

    return {OURS: ours, NCHW: theirs(), CHANNELS_LAST: theirs("--channels-last")}


def run(command: Sequence[str], threads: int) -> Seconds:
    """Run a whole process.

    Raises
    ------
    ChildProcessError
        If it fails; with the end of what it said.
    """
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise ChildProcessError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    processor = sum(getattr(after, f) - getattr(before, f) for f in CHILDREN)
    return Seconds(wall, processor)


def run_watched(command: Sequence[str], threads: int, device: str) -> tuple[Seconds, float | None]:
    """``run``, and the share of the time in which the card computed, if there is one."""
    with BusyCard() if device == "gpu" else nullcontext() as card:
        seconds = run(command, threads)
    return seconds, None if card is None else card.share


def losses(folder: Path) -> np.ndarray:
    """The loss of each step that a run logged."""
    with (folder / "log.csv").open(newline="", encoding="utf-8") as stream:
        return np.array([float(row["objective"]) for row in csv.DictReader(stream)])


def check_losses(found: dict[str, np.ndarray], bound: float = LOSSES) -> str:
    """The greatest distance of the sides' losses, in words.

    Raises
    ------
    ValueError
        If a step's losses differ by more than ``bound`` of them.
    """
    ours = found[OURS]
    apart = max(float(np.abs(ours / found[side] - 1).max()) for side in (NCHW, CHANNELS_LAST))
    if not apart <= bound:
        raise ValueError(
            f"the sides do not train alike: losses of a step differ by {apart:.1e}, more than "
            f"{bound:.0e}: " + "; ".join(f"{side} {v.tolist()}" for side, v in found.items())
        )
    return f"losses from {ours[0]:.6f} to {ours[-1]:.6f}, apart {apart:.1e} at most"


def print_table(
    seconds: dict[str, list[Seconds]], busy: Mapping[str, Sequence[float | None]]
) -> None:
    """Print the seconds of each side, our part of the others', and how busy the card was."""
    print("\n| side | seconds, median (quartiles) | processor s | ours / it | target | card busy |")
    print("| --- | --- | --- | --- | --- | --- |")
    walls = {side: np.array([s.wall for s in runs]) for side, runs in seconds.items()}
    for side, runs in seconds.items():
        cells = [side, spread(walls[side], ".1f")]
        cells.append(f"{np.median([s.processor for s in runs]):.1f}")
        if side == OURS:
            cells += ["", ""]
        else:
            cells += [spread(walls[OURS] / walls[side], ".2f"), f"{TARGET:.2f}"]
        known = [share for share in busy.get(side, ()) if share is not None]
        cells.append(f"{np.median(known):.2f}" if known else "")
        print("| " + " | ".join(cells) + " |")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = make_parser(
        "benchmarks.train_job",
        "Time a whole training run and the same run in PyTorch, as processes that take turns.",
    )
    parser.prog = "python benchmarks/train_job.py"
    parser.add_argument("data", nargs="+", metavar="DIR", help="sequences, or folders of them")
    parser.add_argument("--steps", type=int, default=20, help="clips that are trained on, once")
    parser.add_argument("--frames", type=int, default=10, help="of a clip")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each side")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    add_device_options(parser)
    options = parser.parse_args(argv)
    require_positive(parser, options, "steps", "frames", "rounds", "threads")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train with both sides in turn, and print the table."""
    options = parse(argv)
    require_torch()
    check_precision(options)
    check_device(options.device)
    print_settings(options)
    device = ["--device", options.device, *["--tf32"] * options.tf32]
    machine = describe(options.threads)
    print_machine(machine)
    with tempfile.TemporaryDirectory() as place, tqdm(disable=None) as bar:
        folder = Path(place)
        # A first step fills the caches of files and of compiled kernels.
        warm = prepare(folder, options.data, 1, options.frames)
        sides = commands(warm, options.frames, options.threads, device)
        bar.reset(len(sides) * (options.rounds + 1))
        for number, command in enumerate(sides.values()):
            bar.update()
            run(command(folder / f"warm{number}"), options.threads)
        files = prepare(folder, options.data, options.steps, options.frames)
        sides = commands(files, options.frames, options.threads, device)
        seconds: dict[str, list[Seconds]] = {side: [] for side in sides}
        busy: dict[str, list[float | None]] = {side: [] for side in sides}
        found: dict[str, np.ndarray] = {}
        order = list(sides)
        for turn in range(options.rounds):
            for side in order:
                bar.set_description(side)
                bar.update()
                target = folder / f"run{turn}-{order.index(side)}"
                command = sides[side](target)
                taken, share = run_watched(command, options.threads, options.device)
                seconds[side].append(taken)
                busy[side].append(share)
                found[side] = losses(target)
            order.reverse()
            # TF32 may move the peak of a response, and with it what is cut in the next frame: how
            # far losses are apart then is told, and there is no bound.
            agreement = check_losses(found, np.inf if options.tf32 else LOSSES)
            if options.json:
                # After each turn: what was measured is kept, whatever happens to the rest.
                content = {
                    "machine": machine | {"load after": load()},
                    "settings": vars(options),
                    "seconds": {
                        side: [s._asdict() for s in runs] for side, runs in seconds.items()
                    },
                    "card busy": busy,
                    "losses": {side: values.tolist() for side, values in found.items()},
                }
                write_json(options.json, content)
    print(f"{options.steps} steps of {options.frames} frames: {agreement}")
    print(f"load before and after {machine['load before']}, {load()}")
    print_table(seconds, busy)


if __name__ == "__main__":
    run_command(main)
