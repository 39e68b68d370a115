"""Command: track sequences with several trackers, score them, rank them.

``python -m dsiam_net.evaluate --trackers siamfc,dsiamm --weights FILE --data DIR --out DIR``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dagnet import lock_folder
from dagnet.communicator import Communicator

from .cli import (
    add_device_options,
    by_first,
    check_precision,
    join_workers,
    make_parser,
    run_command,
)
from .evaluation.protocol import PROTOCOLS
from .evaluation.report import (
    Evaluation,
    evaluate,
    evaluate_starts,
    failure_table,
    overall_table,
    perturbation_table,
    sequence_table,
    write_scores,
)
from .evaluation.results import OTB, StartFiles
from .evaluation.runner import Job, run_trackers
from .evaluation.sets import SETS, read_set
from .evaluation.starts import STARTS, make_starts
from .evaluation.trackers import NetworkTracker, ResultFolder, Source, parse_trackers
from .sequences import Sequence as Video
from .sequences import find_sequences
from .settings import PRESETS
from .weights import SHIPPED, default_weights, describe_weights, weights_path

OPE = "ope"
# Exit status when a sequence failed and the rest was evaluated.
INCOMPLETE = 1


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dsiam_net.evaluate",
        "Track sequences once, from their first true box, and score the results. A run that was "
        "stopped goes on when the command is given again: what is finished is not tracked again. "
        "Under mpiexec the processes share the sequences.",
    )
    parser.add_argument(
        "--trackers",
        metavar="TRACKER",
        nargs="+",
        required=True,
        help="siamfc, dsiam, dsiamm, opencv-NAME (csrt, kcf, mil, ...), joined by commas or "
        "spaces; NAME=DIR or DIR for results that are there, in OTB's or GOT-10k's layout",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        nargs="+",
        required=True,
        help="folders of sequences, or of folders of sequences",
    )
    parser.add_argument("--set", choices=SETS, help="a benchmark's sequences alone")
    parser.add_argument(
        "--sequences", metavar="NAME", nargs="+", help="these sequences alone, of those in --data"
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="evaluate what there is of --set",
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="otb", help="conventions of the scores"
    )
    parser.add_argument(
        "--init-polygon",
        action="store_true",
        help="where a sequence has polygons, start trackers from the first one, as dsiam_net.track "
        "does, in place of the first box",
    )
    parser.add_argument(
        "--evaluation",
        choices=(OPE, *STARTS),
        nargs="+",
        default=[OPE],
        help="ope: one pass from the first true box; tre: from 20 frames of each sequence; sre: "
        "from 12 boxes moved or scaled",
    )
    parser.add_argument("--out", metavar="DIR", default="evaluation", help="where to write")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes side by side (default: as many as cores)"
    )
    parser.add_argument("--no-plots", action="store_true", help="tables alone")
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        nargs="+",
        help="frames shown of each sequence, from 1 (default: six at equal distances)",
    )
    group = parser.add_argument_group("our trackers")
    group.add_argument(
        "--weights",
        metavar="FILE",
        help=".mat, .pth or .npz (default: those that come with the package)",
    )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        help="settings (default: siamfc for siamfc, else released)",
    )
    group.add_argument("--feature-layers", metavar="A,B", help="feature layers, outermost first")
    group.add_argument(
        "--sumweights", metavar="FILE.mat", help="learned fusion map, for dsiamm alone"
    )
    add_device_options(group)
    return parser


def _sequences(options: argparse.Namespace) -> list[Video]:
    """The sequences that the options name; those missing of a set are listed."""
    found = find_sequences(options.data) if options.set is None else _set(options)
    if options.sequences is None:
        return found
    by_name = {sequence.name: sequence for sequence in found}
    unknown = [name for name in options.sequences if name not in by_name]
    if unknown:
        raise ValueError(f"there is no sequence {', '.join(unknown)}, only {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(options.sequences)]


def _set(options: argparse.Namespace) -> list[Video]:
    found, missing = read_set(options.set, options.data)
    for name, reason in missing.items():
        print(f"missing: {name}: {reason}", file=sys.stderr)
    if missing and not options.allow_missing:
        raise ValueError(
            f"{len(missing)} of the {len(SETS[options.set])} sequences of {options.set} are "
            "missing; --allow-missing evaluates the others"
        )
    if not found:
        raise ValueError(f"no sequence of {options.set} is in {', '.join(options.data)}")
    return found


def _report(workers: Communicator, job: Job, done: int, total: int) -> None:
    words = f"{job.frames} frames in {job.seconds:.0f} s"
    if job.error is not None:
        words = f"FAILED: {job.error}"
    who = f"process {workers.rank}: " if workers.size > 1 else ""
    line = f"{who}[{done}/{total}] {job.tracker} {job.sequence}: {words}"
    print(line, file=sys.stderr, flush=True)


def _folders(sources: Sequence[Source], results: Path) -> dict[str, Path]:
    """Folders of results: those given, and the trackers' below ``results``."""
    return {s.name: s.folder if isinstance(s, ResultFolder) else results / s.name for s in sources}


def _print(evaluation: Evaluation) -> None:
    if evaluation.kind != OPE.upper():
        print(f"\n{evaluation.kind}")
    print(sequence_table(evaluation))
    if evaluation.kind == "SRE" and evaluation.compared:
        print(f"\n{perturbation_table(evaluation)}")
    failures = failure_table(evaluation)
    if failures:
        print(f"\n{failures}")
    count, total = len(evaluation.compared), len(evaluation.sequences)
    print(f"\nProtocol {evaluation.protocol.name}, {count} of {total} sequences compared")
    if count:
        print(overall_table(evaluation))
    for name, tracker in evaluation.trackers.items():
        without: dict[str, list[str]] = {}
        for sequence, problem in tracker.problems.items():
            without.setdefault(problem, []).append(sequence)
        for problem, names in without.items():
            print(f"no score: {name}, {', '.join(names)}: {problem}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, track, score, write; returns 0, or 1 if a sequence failed."""
    options = _parser().parse_args(argv)
    check_precision(options)
    workers = join_workers(options.device)
    layers = options.feature_layers
    weights = options.weights or default_weights()
    sources = parse_trackers(
        options.trackers,
        # Other processes read it: they are given the file.
        weights=weights_path(weights) if weights == SHIPPED else weights,
        preset=options.preset,
        features=[name.strip() for name in layers.split(",")] if layers else None,
        fusion_map=options.sumweights,
        device=options.device,
        tf32=options.tf32,
        polygon=options.init_polygon,
    )
    if options.weights is None and any(isinstance(s, NetworkTracker) for s in sources):
        print(f"weights: {describe_weights(weights)}", file=sys.stderr)
    sequences = _sequences(options)
    with by_first(workers, lock_folder(options.out)):
        return _evaluate(options, sources, sequences, Path(options.out), workers)


def _evaluate(
    options: argparse.Namespace,
    sources: list[Source],
    sequences: list[Video],
    out: Path,
    workers: Communicator,
) -> int:
    """Track, score and write; the exit status."""
    failed = [
        _one_pass(options, sources, sequences, out, workers)
        if kind == OPE
        else _from_starts(options, kind, sources, sequences, out, workers)
        for kind in dict.fromkeys(options.evaluation)
    ]
    return INCOMPLETE if any(failed) else 0


def _one_pass(
    options: argparse.Namespace,
    sources: list[Source],
    sequences: list[Video],
    out: Path,
    workers: Communicator,
) -> bool:
    """OPE; whether a sequence failed, as the first process finds."""
    results = out / "results"
    ours = [s for s in sources if not isinstance(s, ResultFolder)]
    report = partial(_report, workers)
    failed = run_trackers(ours, sequences, results, options.jobs, report, workers=workers)
    if not workers.is_first:
        return False
    evaluation = evaluate(
        PROTOCOLS[options.protocol],
        sequences,
        _folders(sources, results / OTB),
        {(job.tracker, job.sequence): job.error for job in failed},
    )
    write_scores(evaluation, out)
    _print(evaluation)
    if not options.no_plots:
        # Imported here since it brings Matplotlib, which takes longer than all else together.
        from .evaluation.plots import write_plots

        for name, problem in write_plots(evaluation, out / "plots", options.frames).items():
            print(f"no figure: {name}: {problem}", file=sys.stderr)
    return bool(failed)


def _from_starts(
    options: argparse.Namespace,
    kind: str,
    sources: list[Source],
    sequences: list[Video],
    out: Path,
    workers: Communicator,
) -> bool:
    """TRE or SRE; whether a sequence failed, as the first process finds."""
    folder, results = kind.upper(), out / "results"
    ours = [s for s in sources if not isinstance(s, ResultFolder)]
    starts, problems = make_starts(kind, sequences)
    runs = [start.sequence for each in starts.values() for start in each]
    report, files = partial(_report, workers), StartFiles(folder)
    failed = run_trackers(ours, runs, results, options.jobs, report, files, workers)
    if not workers.is_first:
        return False
    evaluation = evaluate_starts(
        PROTOCOLS[options.protocol],
        folder,
        sequences,
        starts,
        _folders(sources, results / folder),
        {(job.tracker, job.sequence): job.error for job in failed}
        | {(s.name, name): problem for s in sources for name, problem in problems.items()},
    )
    write_scores(evaluation, out / folder)
    _print(evaluation)
    if not options.no_plots:
        from .evaluation.plots import write_curves

        write_curves(evaluation, out / folder / "plots")
    return bool(failed or problems)


if __name__ == "__main__":
    run_command(main, "fewer --jobs")
