"""From results to an evaluation: scores of all trackers, ranked, as tables and files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dagnet import __version__, atomic_write

from ..sequences import Sequence as Video
from ..text_table import columns
from .protocol import (
    MEASURES,
    Protocol,
    Scores,
    frame_overlaps,
    mean_scores,
    prepare,
    ranking,
    score_run,
    score_runs,
    scored_frames,
)
from .results import read_run, read_start
from .starts import PERTURBATIONS, Start

OVERALL = "overall"


@dataclass(eq=False)
class TrackerEvaluation:
    """What is known of one tracker.

    Attributes
    ----------
    scores : dict of Scores by name of sequence
    overlaps : dict of arrays (T,)
        Of the first run's frames; NaN where a frame is not scored.
    boxes : dict of arrays (T, 4)
        The boxes that were scored, of the first run.
    problems : dict of str
        Why there is no score of a sequence.
    overall : Scores or None
        Over the sequences that are compared; None if there are none.
    starts : dict of dicts of Scores
        By names of sequence and start, where trackers were started in several ways: ``scores``
        then are of all these runs' frames, and ``overlaps`` and ``boxes`` are empty.
    """

    scores: dict[str, Scores] = field(default_factory=dict)
    overlaps: dict[str, np.ndarray] = field(default_factory=dict)
    boxes: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    overall: Scores | None = None
    starts: dict[str, dict[str, Scores]] = field(default_factory=dict)

    def failures(self, sequence: str) -> list[tuple[int, int]]:
        """Stretches of frames without overlap: (first, last), from 1."""
        failed = np.flatnonzero(self.overlaps[sequence] == 0) + 1
        stretches = np.split(failed, np.flatnonzero(np.diff(failed) > 1) + 1)
        return [(int(s[0]), int(s[-1])) for s in stretches if len(s)]


@dataclass(eq=False)
class Evaluation:
    """Scores of trackers on sequences.

    Attributes
    ----------
    protocol : Protocol
    sequences : dict of Sequence by name
    trackers : dict of TrackerEvaluation by name
    compared : list of str
        Sequences that all trackers with any result have one of: what the ranking is over.
    kind : 'OPE', 'TRE' or 'SRE'
        How trackers were started.
    """

    protocol: Protocol
    sequences: dict[str, Video]
    trackers: dict[str, TrackerEvaluation]
    compared: list[str]
    kind: str = "OPE"

    @property
    def ranked(self) -> list[str]:
        """Names of the trackers that have overall scores, the best first."""
        overall = {n: t.overall for n, t in self.trackers.items() if t.overall is not None}
        return ranking(self.protocol, overall)


def evaluate(
    protocol: Protocol,
    sequences: Sequence[Video],
    folders: Mapping[str, str | os.PathLike],
    failed: Mapping[tuple[str, str], str] | None = None,
) -> Evaluation:
    """Score the results in folders.

    Parameters
    ----------
    protocol : Protocol
    sequences : the sequences
    folders : dict
        Folder of each tracker's results, by its name.
    failed : dict, optional
        Why there is no result, by names of tracker and sequence, where that is known.

    A result that is not there, cannot be read, or is of another length than the sequence is a
    problem of that tracker and sequence, not an error.
    """
    failed = failed or {}
    trackers = {name: TrackerEvaluation() for name in folders}
    for sequence in sequences:
        for name, folder in folders.items():
            tracker = trackers[name]
            try:
                if (name, sequence.name) in failed:
                    raise ValueError(failed[name, sequence.name])
                run = read_run(folder, sequence.name) if Path(folder).is_dir() else None
                if run is None:
                    raise ValueError(f"no result in {folder}")
                size = sequence.frame(0).shape[1::-1] if protocol.clip else (0, 0)
                tracker.scores[sequence.name] = score_run(protocol, run, sequence.boxes, size)
            except (ValueError, OSError) as exc:
                tracker.problems[sequence.name] = str(exc)
                continue
            truth = sequence.boxes
            tracker.overlaps[sequence.name] = frame_overlaps(protocol, run.boxes[0], truth, size)
            tracker.boxes[sequence.name] = prepare(protocol, run.boxes[0], truth)
    return _compared(protocol, sequences, trackers)


def evaluate_starts(
    protocol: Protocol,
    kind: str,
    sequences: Sequence[Video],
    starts: Mapping[str, Sequence[Start]],
    folders: Mapping[str, str | os.PathLike],
    failed: Mapping[tuple[str, str], str] | None = None,
) -> Evaluation:
    """Score the results of runs from several starts: TRE or SRE.

    A sequence's scores are over all frames of all its runs, as in the benchmark's code; so a
    tracker must have every one of them.

    Parameters
    ----------
    protocol, sequences, folders : as ``evaluate``
    kind : 'TRE' or 'SRE'
    starts : dict
        The starts of each sequence, by its name; ``failed`` says why, where there are none.
    failed : dict, optional
        Why there is no result, by names of tracker and run or sequence, where that is known.
    """
    failed = failed or {}
    trackers = {name: TrackerEvaluation() for name in folders}
    for sequence in sequences:
        for name, folder in folders.items():
            tracker = trackers[name]
            try:
                if (name, sequence.name) in failed:
                    raise ValueError(failed[name, sequence.name])
                size = sequence.frame(0).shape[1::-1] if protocol.clip else (0, 0)
                runs = {}
                for start in starts[sequence.name]:
                    if (name, start.sequence.name) in failed:
                        raise ValueError(f"{start.name}: {failed[name, start.sequence.name]}")
                    run = read_start(folder, start.sequence.name)
                    if run is None:
                        raise ValueError(f"no result {start.name} in {folder}")
                    runs[start.name] = (run, start.truth)
                scores = score_runs(protocol, list(runs.values()), size)
                each = {
                    start: score_runs(protocol, [run], size)
                    for start, run in runs.items()
                    if len(scored_frames(protocol, run[1]))
                }
            except (ValueError, OSError) as exc:
                tracker.problems[sequence.name] = str(exc)
                continue
            tracker.scores[sequence.name], tracker.starts[sequence.name] = scores, each
    evaluation = _compared(protocol, sequences, trackers)
    evaluation.kind = kind
    return evaluation


def _compared(
    protocol: Protocol, sequences: Sequence[Video], trackers: dict[str, TrackerEvaluation]
) -> Evaluation:
    """The evaluation of scored trackers: what is compared, and their overall scores."""
    with_any = [t for t in trackers.values() if t.scores]
    compared = [s.name for s in sequences if with_any and all(s.name in t.scores for t in with_any)]
    for tracker in with_any:
        if compared:
            tracker.overall = mean_scores(protocol, [tracker.scores[n] for n in compared])
    return Evaluation(protocol, {s.name: s for s in sequences}, trackers, compared)


# Tables


def _fps(scores: Scores) -> str:
    return "-" if scores.fps is None else f"{scores.fps:.1f}"


def overall_table(evaluation: Evaluation) -> str:
    """The trackers, the best first, with all scores over the sequences compared."""
    rows = [["", "tracker", *MEASURES.values(), "fps"]]
    for place, name in enumerate(evaluation.ranked, start=1):
        scores = evaluation.trackers[name].overall
        values = [f"{getattr(scores, measure):.3f}" for measure in MEASURES]
        rows.append([str(place), name, *values, _fps(scores)])
    width = max(len(row[1]) for row in rows)
    return columns([[row[0], row[1].ljust(width), *row[2:]] for row in rows])


def sequence_table(evaluation: Evaluation) -> str:
    """A row a sequence: for each tracker the score it is ranked by, precision, frames a second."""
    measure = evaluation.protocol.rank_by
    names = list(evaluation.trackers)

    def three(*words: str) -> str:
        return "{:>5} {:>5} {:>6}".format(*words)

    titles = three(MEASURES[measure], MEASURES["precision"], "fps")
    rows = [["sequence", "frames", *names], ["", "", *(titles for _ in names)]]
    for sequence in evaluation.sequences.values():
        row = [sequence.name, str(len(sequence))]
        for name in names:
            scores = evaluation.trackers[name].scores.get(sequence.name)
            if scores is None:
                row.append(three("-", "-", "-"))
                continue
            value = getattr(scores, measure)
            row.append(three(f"{value:.3f}", f"{scores.precision:.3f}", _fps(scores)))
        rows.append(row)
    return columns(rows)


def failure_table(evaluation: Evaluation) -> str:
    """Frames without overlap, a row a tracker and sequence; empty if there are none."""
    rows = []
    for name, tracker in evaluation.trackers.items():
        for sequence in tracker.overlaps:
            stretches = tracker.failures(sequence)
            if stretches:
                frames = sum(last - first + 1 for first, last in stretches)
                words = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in stretches)
                rows.append(f"{name} {sequence}: {frames} frames without overlap: {words}")
    return "\n".join(rows)


def perturbation_table(evaluation: Evaluation) -> str:
    """A row for each of SRE's first boxes: the mean score, over sequences, of each tracker."""
    measure = evaluation.protocol.rank_by
    names = [n for n, tracker in evaluation.trackers.items() if tracker.overall is not None]
    rows = [[MEASURES[measure], *names]]
    for start in PERTURBATIONS:
        row = [start]
        for name in names:
            starts = evaluation.trackers[name].starts
            scores = [starts[sequence][start] for sequence in evaluation.compared]
            mean = mean_scores(evaluation.protocol, scores)
            row.append(f"{getattr(mean, measure):.3f}")
        rows.append(row)
    return columns(rows)


# Files


def write_scores(evaluation: Evaluation, folder: str | os.PathLike) -> None:
    """Write ``scores.json``, ``scores.csv`` and ``failures.txt`` into a folder.

    Of TRE and SRE there are ``starts.csv``, with a row for every run, and no failures.
    """
    folder = Path(folder)
    content = {
        "version": __version__,
        "protocol": evaluation.protocol.name,
        "evaluation": evaluation.kind,
        "thresholds": evaluation.protocol.thresholds.tolist(),
        "sequences": list(evaluation.sequences),
        "compared": evaluation.compared,
        "ranking": evaluation.ranked,
        "trackers": {
            name: {
                OVERALL: None if tracker.overall is None else tracker.overall.as_dict(),
                "sequences": {n: scores.as_dict() for n, scores in tracker.scores.items()},
                "failures": {n: tracker.failures(n) for n in tracker.overlaps},
                "problems": tracker.problems,
            }
            for name, tracker in evaluation.trackers.items()
        },
    }
    with atomic_write(folder / "scores.json", "w") as file:
        json.dump(content, file, indent=1)
    rows = {
        (name, sequence): scores
        for name, tracker in evaluation.trackers.items()
        for sequence, scores in {**tracker.scores, OVERALL: tracker.overall}.items()
        if scores is not None
    }
    _write_csv(folder / "scores.csv", ["tracker", "sequence"], rows)
    if evaluation.kind != "OPE":
        runs = {
            (name, sequence, start): scores
            for name, tracker in evaluation.trackers.items()
            for sequence, starts in tracker.starts.items()
            for start, scores in starts.items()
        }
        _write_csv(folder / "starts.csv", ["tracker", "sequence", "start"], runs)
        return
    table = failure_table(evaluation)
    with atomic_write(folder / "failures.txt", "w") as file:
        file.write(table + "\n" if table else "")


def _write_csv(path: Path, names: list[str], rows: Mapping[tuple[str, ...], Scores]) -> None:
    """A row of scores for each of ``rows``, whose keys are the values of the columns ``names``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = [*MEASURES, "fps", "frames"]
    writer.writerow([*names, *measures])
    for key, scores in rows.items():
        values = [getattr(scores, measure) for measure in measures]
        writer.writerow([*key, *("" if v is None else repr(v) for v in values)])
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())
