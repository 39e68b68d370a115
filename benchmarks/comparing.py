"""What is run, checked and timed, side against side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from agreement import DisagreementError, check_double, check_single, greatest
from contender import Contender, ContenderError, Seconds
from problems import FULL, GIGA
from works import Work, gigaflops, make_problem

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
# How far derivatives of single precision may lie apart on a GPU, as a part of the greatest: which
# decisions of ReLU and pooling fall otherwise there cannot be known beforehand, as it is on the
# CPU, where the parameters' seed is chosen by it. Double precision has no such allowance.
FLIPS = 2e-2
# In what is said of a check.
PYTORCHS_OWN = "PyTorch's own from its double"


@dataclass(frozen=True)
class Side:
    """Who does a work.

    Attributes
    ----------
    name : str
    module : str
        ``'ours'`` or ``'with_torch'``.
    options : dict
        Of the module's classes ``Step`` and ``Track``.
    optional : bool
        What keeps it from the work is noted, and the others go on without it.
    tracks : bool
        Whether it does tracked frames, too.
    """

    name: str
    module: str = "with_torch"
    options: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False
    tracks: bool = True

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.module == "ours"


# The first side of PyTorch's is that which others are compared with.
CPU_SIDES = (
    Side(OURS, "ours"),
    Side(NCHW, options={"channels_last": False}),
    Side(CHANNELS_LAST, options={"channels_last": True}),
)


@dataclass
class Measured:
    """What one side of a work took.

    Attributes
    ----------
    seconds : list of Seconds
        One a round.
    memory : (float, float)
        Megabytes resident before the first run and at the peak.
    card : (float, float) or None
        Megabytes of the GPU that were taken, by whomever, before the work was made and after it
        was run; None on the CPU.
    """

    seconds: list[Seconds]
    memory: tuple[float, float]
    card: tuple[float, float] | None = None

    @property
    def wall(self) -> np.ndarray:
        """Seconds by the clock, one a round."""
        return np.array([s.wall for s in self.seconds])

    @property
    def processor(self) -> np.ndarray:
        """Seconds of the processor, in all threads, one a round."""
        return np.array([s.processor for s in self.seconds])

    @property
    def launched(self) -> np.ndarray:
        """Seconds until all was launched, one a round: the host could have done something else."""
        return np.array([s.launched for s in self.seconds])

    @property
    def taken(self) -> float:
        """Megabytes at the peak; on a GPU those that the work took of it."""
        return self.memory[1] if self.card is None else self.card[1] - self.card[0]


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
    gigabytes : float
        That the layers read and write at least.
    failed : dict of str to str
        Why sides that are optional are missing.
    """

    name: str
    work: Work
    gigaflops: float
    sides: dict[str, Measured]
    agreement: list[str]
    plan: str
    gigabytes: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self, other: str, own: str = OURS) -> np.ndarray:
        """Ours over the other's, of each round's seconds, or of peak memory."""
        ours, theirs = self.sides[own], self.sides[other]
        if self.work.memory:
            return np.array([ours.taken / theirs.taken])
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

    def at_size(self, work: Work) -> Work:
        """A work at these sizes."""
        if work.size is FULL:
            return replace(work, size=replace(FULL, frames=self.frames))
        return work

    def ticks(self, works: Sequence[Work], sides: Sequence[Side]) -> int:
        """How often ``compare`` reports progress for these works, if no side fails."""
        count = 0
        for work in works:
            able = [side for side in sides if side.tracks or not work.tracking]
            if work.memory:
                count += len(able)
                continue
            double = 1 + (0 if work.tracking else sum(side.ours for side in able))
            count += double + len(able) * (self.rounds + 2)
        return count


def compare(
    name: str,
    work: Work,
    effort: Effort,
    tick: Callable[[str], None],
    sides: Sequence[Side] = CPU_SIDES,
) -> Comparison:
    """Check that the sides agree, then time them in turn.

    Parameters
    ----------
    name : str
    work : Work
    effort : Effort
    tick : function
        Told what is done next, once for each run.
    sides : sequence of Side

    Raises
    ------
    DisagreementError
        If the sides do not compute the same; then nothing is timed.
    ContenderError
        If a side fails. Of sides that are optional both errors are notes of the comparison.
    """
    work = effort.at_size(work)
    comparison = Comparison(name, work, gigaflops(work), {}, [], "")
    if work.memory:
        _compare_memory(comparison, sides, effort, tick)
        return comparison
    sides = _check(comparison, sides, effort, tick)
    with ExitStack() as stack:
        problem, running = make_problem(work), {}
        for side in sides:
            contender = stack.enter_context(_contender(side, work, effort))

            tick(f"{name}: {side.name}, first runs")
            begin = partial(_begin, contender, side, work, effort, problem)
            if _tried(comparison, side, begin):
                running[side.name] = contender
        seconds: dict[str, list[Seconds]] = {side: [] for side in running}
        order = list(running)
        for _ in range(effort.rounds):
            for side in order:
                tick(f"{name}: {side}")
                seconds[side].append(_median(running[side].run(work.repeats)))
            # Who comes first has no advantage over all rounds.
            order.reverse()
        for side, contender in running.items():
            comparison.sides[side] = Measured(seconds[side], contender.memory())
        _ask_ours(comparison, sides, running)
        if not work.tf32:
            # Where it decides about the peak of a response, TF32 moves all that comes after.
            _check_timed(comparison, sides, {side: c.results() for side, c in running.items()})
    return comparison


def _begin(contender: Contender, side: Side, work: Work, effort: Effort, problem: Any) -> None:
    _make(contender, side, work, effort, problem)
    contender.run(WARM_RUNS)


def _tried(comparison: Comparison, side: Side, action: Callable[[], None]) -> bool:
    """Whether a side did something; why not is noted, if the comparison goes on without it."""
    try:
        action()
    except (ContenderError, DisagreementError) as exc:
        if not side.optional:
            raise
        comparison.failed[side.name] = str(exc)
        return False
    return True


def _ask_ours(
    comparison: Comparison, sides: Sequence[Side], running: Mapping[str, Contender]
) -> None:
    """What our engine makes of the network, from the first of our sides that runs."""
    own = [running[side.name] for side in sides if side.ours and side.name in running]
    if own:
        comparison.gigabytes = own[0].traffic() / GIGA
        comparison.plan = "" if comparison.work.tracking else own[0].plan()


def _median(runs: Sequence[Seconds]) -> Seconds:
    return Seconds(*np.median(np.array(runs), axis=0).tolist())


def _compare_memory(
    comparison: Comparison, sides: Sequence[Side], effort: Effort, tick: Callable
) -> None:
    work = comparison.work
    problem = make_problem(work)

    def measure(side: Side, contender: Contender) -> None:
        _make(contender, side, work, effort, problem)
        seconds = contender.run(MEMORY_RUNS)
        memory = contender.memory(), contender.card_memory()
        comparison.sides[side.name] = Measured(seconds, *memory)
        if side.ours:
            comparison.plan = comparison.plan or contender.plan()

    for side in sides:
        tick(f"{comparison.name}: {side.name}")
        with _contender(side, work, effort) as contender:
            _tried(comparison, side, partial(measure, side, contender))


# Sides


def _contender(side: Side, work: Work, effort: Effort) -> Contender:
    without = side.ours and not work.numba
    return Contender(side.module, effort.threads, WITHOUT_NUMBA if without else {})


def _make(
    contender: Contender, side: Side, work: Work, effort: Effort, problem: Mapping[str, Any]
) -> None:
    options: dict[str, Any] = dict(side.options)
    if work.device != "cpu":
        options |= {"device": work.device, "tf32": work.tf32}
    if work.tracking:
        if work.device != "cpu":
            options |= {"followed": work.followed, "on_card": work.on_card}
        contender.make("Track", problem, **options)
        return
    if work.known_crops:
        options["known_crops"] = True
        if not side.ours:
            options["batch"] = effort.torch_batch
    contender.make("Step", problem, **options)


# Checks


def _check(
    comparison: Comparison, sides: Sequence[Side], effort: Effort, tick: Callable[[str], None]
) -> list[Side]:
    """Compare the sides at the size of the check; those that may be timed.

    What was found goes to the comparison, in words.
    """
    work = comparison.work
    if work.size.channels == FULL.channels and not work.tracking:
        work = replace(
            work,
            size=replace(work.size, frames=min(effort.check_frames, work.size.frames)),
            # Crops that follow the peaks of responses would go elsewhere by TF32's rounding.
            known_crops=work.known_crops or work.tf32,
        )
    # In single precision both kinds of problems are the same for a tracked frame.
    problems = {np.float32: make_problem(work)}
    problems[np.float64] = problems[np.float32] if work.tracking else make_problem(work, np.float64)

    def results(side: Side, dtype: Any) -> dict[str, np.ndarray]:
        tick(f"check: {side.name}, {np.dtype(dtype).name}")
        problem = {**problems[dtype], "dtype": np.dtype(dtype).name}
        with _contender(side, work, effort) as contender:
            _make(contender, side, work, effort, problem)
            contender.run()
            found = contender.results()
        if work.tf32:
            # Whether a peak is near enough is a decision, too.
            found.pop("errors", None)
        return found

    yardsticks = [side for side in sides if not (side.ours or side.optional)]
    reference = results(yardsticks[0], np.float64)
    singles = [results(side, np.float32) for side in yardsticks]
    said, agreed = comparison.agreement, list(yardsticks)

    def in_double(side: Side) -> None:
        apart = check_double(results(side, np.float64), reference)
        said.append(f"double precision, {side.name}: {greatest(apart)}")

    def in_single(side: Side) -> None:
        flips = 0.0 if work.device == "cpu" else FLIPS
        apart, worst = check_single(results(side, np.float32), singles, reference, flips)
        said.append(f"{kind}, {side.name} from PyTorch's double: {greatest(apart)}")
        if PYTORCHS_OWN not in " ".join(said):
            said.append(f"{kind}, {PYTORCHS_OWN}: {greatest(worst)}")

    kind = "TF32" if work.tf32 else "single precision"
    for side in sides:
        if side in yardsticks:
            continue
        # The tracker works in single precision alone.
        checks = [in_single] if work.tracking or not side.ours else [in_double, in_single]
        if all(_tried(comparison, side, partial(check, side)) for check in checks):
            agreed.append(side)
    return [side for side in sides if side in agreed]


def _check_timed(
    comparison: Comparison,
    sides: Sequence[Side],
    results: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Responses of what was timed, in single precision, must be the same but for rounding."""
    theirs = {s.name: results[s.name]["score"] for s in sides if not s.ours and s.name in results}

    def check(name: str) -> None:
        ours = results[name]["score"]
        for other, scores in theirs.items():
            apart = np.abs(ours - scores).max() / np.abs(scores).max()
            if not apart <= TIMED_RESPONSES:
                raise DisagreementError(
                    f"{comparison.name}: the responses of the timed runs of {name} and of {other} "
                    f"differ by {apart:.1e} of the greatest, more than {TIMED_RESPONSES:.0e}"
                )

    for side in sides:
        if (
            side.ours
            and side.name in results
            and not _tried(comparison, side, partial(check, side.name))
        ):
            del comparison.sides[side.name]
