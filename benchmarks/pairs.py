"""How many pairs a second are read and augmented, by one thread and by several.

``python benchmarks/pairs.py STORE [--threads 1 2] [--pairs 400]``

STORE is a crop store, as ``python -m dsiam_net.data`` writes them. A training step of a batch of
pairs must not take less time than its pairs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dsiam_net.augmentation import Published
from dsiam_net.augmentation_strong import Strong
from dsiam_net.cli import make_parser, print_settings, run_command
from dsiam_net.crops import CropStore
from dsiam_net.pairs import PairSource
from machine import describe
from reporting import print_machine, require_positive

HEAD = ("augmentation", "threads", "pairs/s", "ms/pair", "processor ms/pair")


def measure(source: PairSource, threads: int, pairs: int, rounds: int) -> tuple[float, float]:
    """Seconds a pair by the clock and of the processor: medians over rounds.

    Each round reads other pairs; the files are in the system's cache after the first.
    """
    seconds, processor = [], []
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(rounds + 1):
            started = time.perf_counter(), time.process_time()
            for _ in pool.map(lambda k, epoch=epoch: source.pair(epoch, k) and None, range(pairs)):
                pass
            seconds.append((time.perf_counter() - started[0]) / pairs)
            processor.append((time.process_time() - started[1]) / pairs)
    return float(np.median(seconds[1:])), float(np.median(processor[1:]))


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure and print."""
    parser = make_parser("benchmarks.pairs", "How many pairs a second are read and augmented.")
    parser.add_argument("store", type=Path, nargs="+", help="crop stores")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=400, help="a round")
    parser.add_argument("--rounds", type=int, default=3, help="measured, after one that is not")
    parser.add_argument("--instance-size", type=int, default=239)
    options = parser.parse_args(argv)
    require_positive(parser, options, "pairs", "rounds")
    print_settings(options)
    print_machine(describe(max(options.threads)))
    stores = [CropStore(folder) for folder in options.store]
    print(f"{sum(map(len, stores))} crops of {', '.join(str(s.size) for s in stores)} pixels")
    print("  ".join(HEAD))
    for augmentation in (Published(), Strong()):
        source = PairSource(
            stores,
            augmentation=augmentation,
            instance_size=options.instance_size,
            validation=0.0,
        )
        for threads in options.threads:
            clock, processor = measure(source, threads, options.pairs, options.rounds)
            row = (type(augmentation).__name__, threads, f"{1 / clock:.0f}", f"{1e3 * clock:.2f}")
            row = (*row, f"{1e3 * processor:.2f}")
            print("  ".join(f"{v:>{len(h)}}" for v, h in zip(row, HEAD, strict=True)))


if __name__ == "__main__":
    run_command(main)
