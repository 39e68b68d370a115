"""The works of ``cpu.py``: what is run, checked and timed, side against side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agreement import DisagreementError, check_double, check_single, greatest
from contender import Contender, Seconds
from problems import (
    FULL,
    SMALL,
    Size,
    make_clip,
    make_net,
    step_problem,
    step_work,
    track_problem,
    track_work,
)

OURS, NCHW, CHANNELS_LAST = "this project", "PyTorch NCHW", "PyTorch channels_last"
# Switches the kernels that Numba compiles off.
WITHOUT_NUMBA = {"DSIAM_NUMBA": "0"}
# Images a batch where PyTorch knows all crops beforehand: more than one made it slower.
TORCH_BATCH = 1
# Runs before the timed ones: the first compiles and reads, the second finds its memory in order.
WARM_RUNS = 2
# Runs of which the peak of memory is taken: a second step may need more than the first.
MEMORY_RUNS = 2
# How far single-precision responses of the timed runs may lie apart, as a part of the greatest: far
# above rounding, far below what another position of a crop would make.
TIMED_RESPONSES = 1e-3
# Runs of a check: both sides in double, three in single precision.
CHECK_TICKS = 5


@dataclass(frozen=True)
class Work:
    """Something that both sides can do.

    Attributes
    ----------
    title : str
    targets : pair of float or None
        Wanted ratios to PyTorch NCHW and channels_last.
    repeats : int
        Runs a round, of which the median counts: short works take several.
    size : Size
    seed : int
        Of the parameters.
    known_crops, numba, tracking, memory : bool
        Crops at the true centres; our compiled kernels on; a tracked frame in place of a training
        step; peak memory in place of time.
    """

    title: str
    targets: tuple[float | None, float | None]
    repeats: int = 1
    size: Size = FULL
    seed: int = 0
    known_crops: bool = False
    numba: bool = True
    tracking: bool = False
    memory: bool = False


WORKS = {
    "step": Work("training step, frame after frame", (0.50, 0.55)),
    "step-ground-truth": Work(
        "training step, crops at the true boxes", (0.40, 0.45), known_crops=True
    ),
    "step-numpy": Work("training step, NumPy alone", (0.80, 0.90), numba=False, seed=2),
    "step-ground-truth-numpy": Work(
        "training step, crops at the true boxes, NumPy alone",
        (0.80, 0.90),
        known_crops=True,
        numba=False,
        seed=2,
    ),
    "track": Work("tracked frame, DSiamM", (0.45, 0.75), repeats=4, tracking=True),
    # With the parameters of seed 0 decisions of ReLU and pooling are so close that they fall in
    # single precision as rounding has it, and which side's do says nothing about either.
    "small": Work(
        "training step, few channels: overhead", (0.8, 0.8), repeats=4, size=SMALL, seed=2
    ),
    "memory": Work("peak memory of a training step", (0.7, 0.7), memory=True),
}


@dataclass
class Measured:
    """What one side of a work took.

    Attributes
    ----------
    seconds : list of Seconds
        One a round.
    memory : (float, float)
        Megabytes resident before the first run and at the peak.
    """

    seconds: list[Seconds]
    memory: tuple[float, float]

    @property
    def wall(self) -> np.ndarray:
        """Seconds by the clock, one a round."""
        return np.array([s.wall for s in self.seconds])

    @property
    def processor(self) -> np.ndarray:
        """Seconds of the processor, in all threads, one a round."""
        return np.array([s.processor for s in self.seconds])


@dataclass
class Comparison:
    """A work done by all sides.

    Attributes
    ----------
    name : str
    work : Work
        With the sizes that were run.
    gigaflops : float
        Of its convolutions, counted as direct ones.
    sides : dict of str to Measured
    agreement : list of str
        What was checked before, in words.
    plan : str
        What our engine made of the network; empty for a tracked frame.
    """

    name: str
    work: Work
    gigaflops: float
    sides: dict[str, Measured]
    agreement: list[str]
    plan: str

    def ratio(self, other: str) -> np.ndarray:
        """Ours over the other's, of each round's seconds, or of peak memory."""
        ours, theirs = self.sides[OURS], self.sides[other]
        if self.work.memory:
            return np.array([ours.memory[1] / theirs.memory[1]])
        return ours.wall / theirs.wall

    def processor_ratio(self, other: str) -> float:
        """The same of the processor's seconds, medians: less moved by what else is running.

        Threads that wait for others while they turn count too.
        """
        ours, theirs = (self.sides[side].processor for side in (OURS, other))
        return float(np.median(ours) / np.median(theirs))


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes
    ----------
    threads : int
    rounds : int
    frames : int, optional
        Of full-size training steps; ``small`` keeps its own.
    check_frames : int
        Of the full-size steps that are compared in double precision.
    torch_batch : int
    """

    threads: int
    rounds: int
    frames: int = 10
    check_frames: int = 3
    torch_batch: int = TORCH_BATCH

    def work(self, name: str) -> Work:
        """A work at these sizes."""
        work = WORKS[name]
        if work.size is FULL:
            return replace(work, size=replace(FULL, frames=self.frames))
        return work

    def ticks(self, names: Sequence[str]) -> int:
        """How often ``compare`` reports progress for these works."""
        count = 0
        for name in names:
            memory = WORKS[name].memory
            count += 3 if memory else CHECK_TICKS + 3 * (self.rounds + 1)
        return count


def compare(name: str, effort: Effort, tick: Callable[[str], None]) -> Comparison:
    """Check that the sides agree, then time them in turn.

    Parameters
    ----------
    name : str
        A key of ``WORKS``.
    effort : Effort
    tick : function
        Told what is done next, once for each run.

    Raises
    ------
    DisagreementError
        If the sides do not compute the same; then nothing is timed.
    ContenderError
        If a side fails.
    """
    work = effort.work(name)
    if work.memory:
        return _compare_memory(name, work, effort, tick)
    agreement = _check(work, effort, tick)
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(_contender(side, work, effort))
            for side in (OURS, NCHW, CHANNELS_LAST)
        }
        problem = _problem(work)
        for side, contender in sides.items():
            _make(contender, side, work, effort, problem)
            tick(f"{name}: {side}, first runs")
            contender.run(WARM_RUNS)
        seconds: dict[str, list[Seconds]] = {side: [] for side in sides}
        order = list(sides)
        for _ in range(effort.rounds):
            for side in order:
                tick(f"{name}: {side}")
                seconds[side].append(_median(sides[side].run(work.repeats)))
            # Who comes first has no advantage over all rounds.
            order.reverse()
        measured = {side: Measured(seconds[side], sides[side].memory()) for side in sides}
        own_plan = "" if work.tracking else sides[OURS].plan()
        _check_timed(name, {side: c.results() for side, c in sides.items()})
    return Comparison(name, work, _gigaflops(work), measured, agreement, own_plan)


def _median(runs: Sequence[Seconds]) -> Seconds:
    return Seconds(*np.median(np.array(runs), axis=0).tolist())


def _gigaflops(work: Work) -> float:
    return track_work(work.size) if work.tracking else step_work(work.size, work.known_crops)


def _compare_memory(name: str, work: Work, effort: Effort, tick: Callable) -> Comparison:
    problem, measured, own_plan = _problem(work), {}, ""
    for side in (OURS, NCHW, CHANNELS_LAST):
        tick(f"{name}: {side}")
        with _contender(side, work, effort) as contender:
            _make(contender, side, work, effort, problem)
            seconds = contender.run(MEMORY_RUNS)
            measured[side] = Measured(seconds, contender.memory())
            own_plan = own_plan or contender.plan()
    return Comparison(name, work, _gigaflops(work), measured, [], own_plan)


# Sides


def _contender(side: str, work: Work, effort: Effort) -> Contender:
    if side != OURS:
        return Contender("with_torch", effort.threads)
    return Contender("ours", effort.threads, {} if work.numba else WITHOUT_NUMBA)


def _problem(work: Work, dtype: Any = np.float32) -> dict[str, Any]:
    if work.tracking:
        return track_problem(work.size)
    net, clip = make_net(work.size, work.seed), make_clip(work.size.frames)
    return step_problem(net, work.size, clip, dtype)


def _make(
    contender: Contender, side: str, work: Work, effort: Effort, problem: Mapping[str, Any]
) -> None:
    options: dict[str, Any] = {}
    if side != OURS:
        options["channels_last"] = side == CHANNELS_LAST
    if work.tracking:
        contender.make("Track", problem, **options)
        return
    options["known_crops"] = work.known_crops
    if side != OURS and work.known_crops:
        options["batch"] = effort.torch_batch
    contender.make("Step", problem, **options)


# Checks


def _check(work: Work, effort: Effort, tick: Callable[[str], None]) -> list[str]:
    """Compare the sides at the size of the check; what was found, in words."""
    if work.size.channels == FULL.channels and not work.tracking:
        work = replace(
            work, size=replace(work.size, frames=min(effort.check_frames, work.size.frames))
        )

    def results(side: str, dtype: Any) -> dict[str, np.ndarray]:
        tick(f"check: {side}, {np.dtype(dtype).name}")
        problem = _problem(work) if work.tracking else _problem(work, dtype)
        with _contender(side, work, effort) as contender:
            _make(contender, side, work, effort, {**problem, "dtype": np.dtype(dtype).name})
            contender.run()
            return contender.results()

    reference = results(NCHW, np.float64)
    said = []
    if work.tracking:
        # The tracker works in single precision alone.
        tick("check")
    else:
        apart = check_double(results(OURS, np.float64), reference)
        said.append(f"double precision: {greatest(apart)}")
    others = [results(side, np.float32) for side in (NCHW, CHANNELS_LAST)]
    apart, worst = check_single(results(OURS, np.float32), others, reference)
    said.append(f"single precision, ours from PyTorch's double: {greatest(apart)}")
    said.append(f"single precision, PyTorch's own from its double: {greatest(worst)}")
    return said


def _check_timed(name: str, results: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Responses of what was timed, in single precision, must be the same but for rounding."""
    ours = results[OURS]["score"]
    for side in (NCHW, CHANNELS_LAST):
        theirs = results[side]["score"]
        apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if not apart <= TIMED_RESPONSES:
            raise DisagreementError(
                f"{name}: the responses of the timed runs differ from {side}'s by {apart:.1e} of "
                f"the greatest, more than {TIMED_RESPONSES:.0e}"
            )
