"""A whole training run beside the same run in PyTorch, start-up, decoding and checkpoint included.

``python benchmarks/train_job.py DIR... [--steps 20] [--rounds 3]``

Whole processes take turns: ``python -m dsiam_net.train`` and ``train_torch.py``, which trains the
same network on the same clips with autograd. Their losses must agree, step by step.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from comparing import CHANNELS_LAST, NCHW, OURS
from contender import THREAD_VARIABLES, Seconds
from dsiam_net.cli import make_parser, print_settings, run_command
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


def commands(files: Files, frames: int, threads: int) -> dict[str, Callable[[Path], list[str]]]:
    """For each side the command that trains into a folder."""

    def ours(folder: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "dsiam_net.train", "--clips", str(files.our_clips)),
            *("--weights", str(files.our_start), "--frames", str(frames), "--epochs", "1"),
            *("--exp-dir", str(folder), "--seed", str(SEED)),
        ]

    def theirs(*options: str) -> Callable[[Path], list[str]]:
        return lambda folder: [
            *(sys.executable, str(TORCH_SCRIPT), "--clips", str(files.their_clips)),
            *("--start", str(files.their_start), "--exp-dir", str(folder)),
            *("--threads", str(threads), *options),
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


def losses(folder: Path) -> np.ndarray:
    """The loss of each step that a run logged."""
    with (folder / "log.csv").open(newline="", encoding="utf-8") as stream:
        return np.array([float(row["objective"]) for row in csv.DictReader(stream)])


def check_losses(found: dict[str, np.ndarray]) -> str:
    """The greatest distance of the sides' losses, in words.

    Raises
    ------
    ValueError
        If a step's losses differ by more than ``LOSSES`` of them.
    """
    ours = found[OURS]
    apart = max(float(np.abs(ours / found[side] - 1).max()) for side in (NCHW, CHANNELS_LAST))
    if not apart <= LOSSES:
        raise ValueError(
            f"the sides do not train alike: losses of a step differ by {apart:.1e}, more than "
            f"{LOSSES:.0e}: " + "; ".join(f"{side} {v.tolist()}" for side, v in found.items())
        )
    return f"losses from {ours[0]:.6f} to {ours[-1]:.6f}, apart {apart:.1e} at most"


def print_table(seconds: dict[str, list[Seconds]]) -> None:
    """Print the seconds of each side, and our part of the others'."""
    print("\n| side | seconds, median (quartiles) | processor s | ours / it | target |")
    print("| --- | --- | --- | --- | --- |")
    walls = {side: np.array([s.wall for s in runs]) for side, runs in seconds.items()}
    for side, runs in seconds.items():
        cells = [side, spread(walls[side], ".1f")]
        cells.append(f"{np.median([s.processor for s in runs]):.1f}")
        if side == OURS:
            cells += ["", ""]
        else:
            cells += [spread(walls[OURS] / walls[side], ".2f"), f"{TARGET:.2f}"]
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
    options = parser.parse_args(argv)
    require_positive(parser, options, "steps", "frames", "rounds", "threads")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train with both sides in turn, and print the table."""
    options = parse(argv)
    require_torch()
    print_settings(options)
    machine = describe(options.threads)
    print_machine(machine)
    with tempfile.TemporaryDirectory() as place, tqdm(disable=None) as bar:
        folder = Path(place)
        # A first step fills the caches of files and of compiled kernels.
        warm = prepare(folder, options.data, 1, options.frames)
        sides = commands(warm, options.frames, options.threads)
        bar.reset(len(sides) * (options.rounds + 1))
        for number, command in enumerate(sides.values()):
            bar.update()
            run(command(folder / f"warm{number}"), options.threads)
        files = prepare(folder, options.data, options.steps, options.frames)
        sides = commands(files, options.frames, options.threads)
        seconds: dict[str, list[Seconds]] = {side: [] for side in sides}
        found: dict[str, np.ndarray] = {}
        order = list(sides)
        for turn in range(options.rounds):
            for side in order:
                bar.set_description(side)
                bar.update()
                target = folder / f"run{turn}-{order.index(side)}"
                seconds[side].append(run(sides[side](target), options.threads))
                found[side] = losses(target)
            order.reverse()
            agreement = check_losses(found)
            if options.json:
                # After each turn: what was measured is kept, whatever happens to the rest.
                content = {
                    "machine": machine | {"load after": load()},
                    "settings": vars(options),
                    "seconds": {
                        side: [s._asdict() for s in runs] for side, runs in seconds.items()
                    },
                    "losses": {side: values.tolist() for side, values in found.items()},
                }
                write_json(options.json, content)
    print(f"{options.steps} steps of {options.frames} frames: {agreement}")
    print(f"load before and after {machine['load before']}, {load()}")
    print_table(seconds)


if __name__ == "__main__":
    run_command(main)
