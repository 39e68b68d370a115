"""What the engine costs besides the layers: time of an evaluation outside their own arithmetic.

``python benchmarks/engine_overhead.py [--rounds 40] [--frames 10] [--json FILE]``

The unrolled network with 2 to 4 channels, forward and backward, on one thread, both by plan and
layer by layer. Two measurements:

``replayed``
    Every call of a layer gives what it gave in an earlier evaluation, without computing it: all
    that remains is the engine.
``difference``
    The layers compute; the time of an evaluation, less that within their calls. The clock is read
    twice a call, which counts as the engine's.

A call is one ``forward`` or ``backward`` of a layer (of a chain that the plan runs as one).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from dagnet import DagNN
from dagnet.backend import limit_blas_threads
from dagnet.execution import Values
from dsiam_net.cli import make_parser, print_settings, run_command
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import objectives
from machine import describe, load
from problems import SMALL, make_clip, make_net
from reporting import print_machine, require_positive, spread, write_json

WAYS = {"by plan": True, "layer by layer": False}
# What the engine calls of a layer; of chains the last four besides.
METHODS = ("forward", "backward", "update_statistics", "recall", "begin", "finish", "add")
COUNTED = ("forward", "backward")
TARGET = 10.0  # microseconds a call


@contextmanager
def replaced(net: DagNN, plan: bool, wrap: Callable[[str, Any], Any]) -> Iterator[None]:
    """Layers, and chains that stand for layers, whose methods are ``wrap(name, method)``."""
    units = net.plan().units if plan else []
    blocks = {id(block): block for block in (r.block for r in net.layers)}
    blocks |= {id(unit.block): unit.block for unit in units}
    changed = []
    try:
        for block in blocks.values():
            for name in METHODS:
                method = getattr(block, name, None)
                if method is not None:
                    setattr(block, name, wrap(name, method))
                    changed.append((block, name))
        yield
    finally:
        for block, name in changed:
            delattr(block, name)


class Recording:
    """What calls of layers returned, in their order, to be given once more."""

    def __init__(self):
        self.returned: list[Any] = []
        self.calls = 0
        self._again: Iterator[Any] = iter(())

    def record(self, name: str, method: Callable) -> Callable:
        """The method, whose results are kept."""

        def call(*args: Any) -> Any:
            self.calls += name in COUNTED
            self.returned.append(method(*args))
            return self.returned[-1]

        return call

    def replay(self, name: str, method: Callable) -> Callable:
        """What stands in the method's place: the next result."""
        return lambda *args: next(self._again)

    def rewind(self) -> None:
        """Begin with the first result again."""
        self._again = iter(self.returned)


class Stopwatch:
    """Time within calls of layers."""

    def __init__(self):
        self.seconds = 0.0

    def time(self, name: str, method: Callable) -> Callable:
        """The method, whose time is counted."""
        clock = time.perf_counter

        def call(*args: Any) -> Any:
            start = clock()
            result = method(*args)
            self.seconds += clock() - start
            return result

        return call


@dataclass
class Overhead:
    """Seconds of one way of running the network, one a round.

    Attributes
    ----------
    calls : int
        Calls of layers in an evaluation.
    evaluation, replayed, difference : list of float
        By the clock: a whole evaluation, one without arithmetic, and one less its layers' calls.
    processor : list of float
        Processor time of those without arithmetic.
    """

    calls: int = 0
    evaluation: list[float] = field(default_factory=list)
    replayed: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def a_call(self, seconds: Sequence[float]) -> np.ndarray:
        """Microseconds a call."""
        return np.array(seconds) / self.calls * 1e6


class Bench:
    """The network, its inputs, and evaluations of it."""

    def __init__(self, frames: int, backward: bool):
        self.net = make_net(replace(SMALL, frames=frames))
        self.net.workers = 1
        self.batch = clip_batch(self.net, [make_clip(frames)])
        self.ders = dict.fromkeys(objectives(self.net), 1) if backward else None
        # The labels are the caller's work, not the engine's: they are prepared.
        self.evaluate(True, self.batch.late_inputs)
        self.labels = dict(self.batch.late_inputs(Values(self.net)))

    def evaluate(self, plan: bool, late_inputs: Callable | None = None) -> None:
        """One evaluation."""
        late_inputs = late_inputs or (lambda values: self.labels)
        self.net.eval(self.batch.inputs, self.ders, late_inputs=late_inputs, plan=plan)

    def measure(self, rounds: int, tick: Callable[[], None]) -> dict[str, Overhead]:
        """Both ways of running the network, which take turns."""
        found = {way: Overhead() for way in WAYS}
        recordings = {way: Recording() for way in WAYS}
        for way, plan in WAYS.items():
            with replaced(self.net, plan, recordings[way].record):
                self.evaluate(plan)
            found[way].calls = recordings[way].calls
        for _ in range(rounds):
            for way, plan in WAYS.items():
                self._round(plan, found[way], recordings[way])
                tick()
        return found

    def _round(self, plan: bool, found: Overhead, recording: Recording) -> None:
        start = time.perf_counter()
        self.evaluate(plan)
        found.evaluation.append(time.perf_counter() - start)
        with replaced(self.net, plan, recording.replay):
            recording.rewind()
            start, processor = time.perf_counter(), time.process_time()
            self.evaluate(plan)
            found.processor.append(time.process_time() - processor)
            found.replayed.append(time.perf_counter() - start)
        watch = Stopwatch()
        with replaced(self.net, plan, watch.time):
            start = time.perf_counter()
            self.evaluate(plan)
            found.difference.append(time.perf_counter() - start - watch.seconds)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = make_parser(
        "benchmarks.engine_overhead",
        "Time of an evaluation outside layers' own arithmetic, in microseconds a layer call, on "
        "the unrolled network with 2 to 4 channels.",
    )
    parser.prog = "python benchmarks/engine_overhead.py"
    parser.add_argument("--rounds", type=int, default=40, help="evaluations of each kind")
    parser.add_argument("--frames", type=int, default=10, help="of the network, 94 layers each")
    parser.add_argument("--forward", action="store_true", help="without backward")
    parser.add_argument("--json", metavar="FILE", help="write all figures here")
    options = parser.parse_args(argv)
    require_positive(parser, options, "rounds", "frames")
    return options


def rows(found: Mapping[str, Overhead]) -> Iterator[str]:
    """The table's rows."""
    for way, overhead in found.items():
        cells = [way, str(overhead.calls), spread(np.array(overhead.evaluation) * 1e3, ".1f")]
        for seconds in (overhead.replayed, overhead.processor, overhead.difference):
            cells.append(spread(overhead.a_call(seconds), ".2f"))
        yield "| " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(argv)
    print_settings(options)
    machine = describe(1)
    print_machine(machine)
    bench = Bench(options.frames, not options.forward)
    print(f"layers: {len(bench.net.layers)}")
    print(bench.net.plan())
    bar = tqdm(total=len(WAYS) * options.rounds, disable=None)
    with bar, limit_blas_threads(1):
        found = bench.measure(options.rounds, bar.update)
    machine["load after"] = load()
    print(f"\nmicroseconds a call, median (quartiles); the target is {TARGET:.0f}")
    print("| evaluated | calls | evaluation, ms | replayed | its processor time | difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows(found)))
    print(f"load before and after {machine['load before']}, {machine['load after']}")
    if options.json:
        ways = {way: vars(overhead) for way, overhead in found.items()}
        content = {"machine": machine, "settings": vars(options), "seconds": ways}
        write_json(options.json, content)


if __name__ == "__main__":
    run_command(main)
