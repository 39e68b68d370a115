"""A tracker with and without joint training: evaluations of several seeds, compared in pairs.

The supplement's Figure 2. The scores are those that ``dsiam_net.evaluate`` wrote; nothing is
tracked or scored anew.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import atomic_write

from ..evaluation.protocol import MEASURES, PROTOCOLS, Protocol, Scores, mean_scores
from ..text_table import columns
from .statistics import Estimate, counted, estimate, plus_minus, verdict

SCORES_FILE = "scores.json"
CURVES = ("success", "centre", "normalized")
SIDES = ("without", "with")
NAMES = ("without joint training", "with joint training")


@dataclass(frozen=True, eq=False)
class Trial:
    """A tracker's evaluation with the weights of one seed.

    Attributes
    ----------
    name : str
        ``DIR:TRACKER``.
    protocol : Protocol
    scores : dict of Scores by name of sequence
    """

    name: str
    protocol: Protocol
    scores: dict[str, Scores]


@dataclass(frozen=True, eq=False)
class Joint:
    """Trials without and with joint training, over the sequences that all of them have.

    Attributes
    ----------
    protocol : Protocol
    sequences : tuple of str
    without, with_ : tuple of Trial
        As many in both, or one in one of them: it is then paired with each of the other's.
    names : (str, str)
        How tables and figures call the two sides.
    """

    protocol: Protocol
    sequences: tuple[str, ...]
    without: tuple[Trial, ...]
    with_: tuple[Trial, ...]
    names: tuple[str, str] = NAMES

    @property
    def sides(self) -> dict[str, tuple[Trial, ...]]:
        """The trials, by 'without' and 'with'."""
        return dict(zip(SIDES, (self.without, self.with_)))

    @property
    def measures(self) -> tuple[str, ...]:
        """What is compared: the protocol's own score, and precision at 20 pixels."""
        return self.protocol.rank_by, "precision"

    def overall(self, side: str) -> list[Scores]:
        """Scores over all sequences, of each trial."""
        return [
            mean_scores(self.protocol, [t.scores[name] for name in self.sequences])
            for t in self.sides[side]
        ]

    def score(self, side: str, measure: str) -> Estimate:
        """Mean and spread over the trials of a score over all sequences."""
        return estimate([getattr(scores, measure) for scores in self.overall(side)])

    def values(self, side: str, measure: str) -> np.ndarray:
        """A score of each trial on each sequence: (trials, sequences)."""
        return np.array(
            [[getattr(t.scores[n], measure) for n in self.sequences] for t in self.sides[side]]
        )

    def differences(self, measure: str) -> np.ndarray:
        """With minus without, in pairs: (trials, sequences)."""
        return self.values("with", measure) - self.values("without", measure)


@dataclass(frozen=True)
class Comparison:
    """The mean difference of a score, with minus without, three ways.

    Attributes
    ----------
    pairs : Estimate
        Over all pairs of a sequence and a seed, as if each stood for itself.
    sequences : Estimate
        Over sequences, of the mean over seeds: what other sequences would change.
    seeds : Estimate
        Over seeds, of the mean over sequences: what other seeds would change.
    """

    pairs: Estimate
    sequences: Estimate
    seeds: Estimate

    @property
    def beyond(self) -> bool | None:
        """Whether the difference is beyond the spread of the sequences and that of the seeds; None
        where there is one alone, which has no spread, and the other does not tell."""
        known = (self.sequences.beyond, self.seeds.beyond)
        if False in known:
            return False
        return None if None in known else True


def compare(joint: Joint, measure: str) -> Comparison:
    """The difference that joint training makes to a score (a field of ``Scores``)."""
    found = joint.differences(measure)
    return Comparison(estimate(found), estimate(found.mean(axis=0)), estimate(found.mean(axis=1)))


def read_trial(text: str) -> Trial:
    """Read one tracker of an evaluation.

    Parameters
    ----------
    text : str
        ``DIR``, the ``--out`` of ``dsiam_net.evaluate``, or ``DIR:TRACKER`` where it holds
        several trackers.

    Raises
    ------
    ValueError
        If there is no such folder or tracker, several and none is named, or the file of scores is
        not one.
    """
    folder, name = Path(text), None
    if not folder.is_dir() and ":" in text:
        before, _, name = text.rpartition(":")
        folder = Path(before)
    path = folder / SCORES_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give DIR or DIR:TRACKER of an evaluation")
    try:
        content = json.loads(path.read_text())
        protocol = PROTOCOLS[content["protocol"]]
        trackers = {
            tracker: {n: _as_scores(s) for n, s in entry["sequences"].items()}
            for tracker, entry in content["trackers"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ValueError(
            f"{path}: not scores that dsiam_net.evaluate wrote ({type(exc).__name__}: {exc})"
        ) from exc
    known = ", ".join(trackers) or "none"
    if name is None:
        if len(trackers) != 1:
            raise ValueError(f"{path} has the trackers {known}: name one, {text}:TRACKER")
        (name,) = trackers
    if name not in trackers:
        raise ValueError(f"{path} has no tracker {name!r}; there is {known}")
    return Trial(f"{folder}:{name}", protocol, trackers[name])


def _as_scores(values: dict[str, Any]) -> Scores:
    """``Scores`` from its ``as_dict``."""
    return Scores(**{n: np.array(v) if n in CURVES else v for n, v in values.items()})


def make_joint(
    without: Sequence[Trial],
    with_: Sequence[Trial],
    sequences: Sequence[str] | None = None,
    names: Sequence[str] = NAMES,
) -> Joint:
    """Pair trials, in the order given, over the sequences that all of them have.

    Parameters
    ----------
    without, with_ : sequence of Trial
        The first of one belongs to the first of the other, and so on.
    sequences : sequence of str, optional
        These alone.
    names : two str
        What the two sides are called.

    Raises
    ------
    ValueError
        If one is missing or given twice on a side, the numbers or protocols differ, or a sequence
        has no score.
    """
    trials = [*without, *with_]
    if not without or not with_ or len({len(without), len(with_), 1}) > 2:
        raise ValueError(
            "expected as many evaluations with joint training as without, or one of one of them, "
            f"received {len(with_)} and {len(without)}"
        )
    for side in (without, with_):
        given = [t.name for t in side]
        if len(set(given)) < len(given):
            raise ValueError(f"each evaluation stands for a seed; twice: {', '.join(given)}")
    if len({t.protocol.name for t in trials}) > 1:
        raise ValueError(
            "scores of different protocols: "
            + ", ".join(f"{t.name} {t.protocol.name}" for t in trials)
        )
    common = [n for n in trials[0].scores if all(n in t.scores for t in trials)]
    missing = [n for n in sequences or () if n not in common]
    if missing:
        raise ValueError(f"not every evaluation has a score of {', '.join(missing)}")
    if sequences:
        common = list(dict.fromkeys(sequences))
    if not common:
        raise ValueError("there is no sequence that every evaluation has a score of")
    return Joint(trials[0].protocol, tuple(common), tuple(without), tuple(with_), tuple(names))


def table(joint: Joint) -> str:
    """A row a sequence, then all: scores without and with, and their difference, mean ± spread."""
    titles = [MEASURES[m] for m in joint.measures]
    rows = [["sequence", *(f"{t} {words}" for t in titles for words in (*SIDES, "difference"))]]
    for i, name in enumerate(joint.sequences):
        row = [name]
        for measure in joint.measures:
            row += [plus_minus(estimate(joint.values(s, measure)[:, i])) for s in SIDES]
            row.append(plus_minus(estimate(joint.differences(measure)[:, i]), "+.3f"))
        rows.append(row)
    row, overall = ["all"], {side: joint.overall(side) for side in SIDES}
    for measure in joint.measures:
        row += [plus_minus(joint.score(s, measure)) for s in SIDES]
        without, with_ = (np.array([getattr(o, measure) for o in overall[s]]) for s in SIDES)
        row.append(plus_minus(estimate(with_ - without), "+.3f"))
    return columns([*rows, row])


def statement(joint: Joint) -> str:
    """The differences of the scores, and whether they are beyond the spread: sentences."""
    lines, (without, with_) = [], joint.names
    for measure in joint.measures:
        found, title = compare(joint, measure), MEASURES[measure]
        pairs = found.pairs
        lines.append(
            f"{title}, {with_} minus {without}: {pairs.mean:+.4f}, standard error "
            f"{_number(pairs.error)} over {pairs.count} pairs of sequence and seed"
        )
        for words, part in (("sequence", found.sequences), ("seed", found.seeds)):
            what = counted(part.count, words)
            lines.append(
                f"  standard error over {what}: {_number(part.error)}; {verdict(part, what)}"
            )
        higher = "higher" if pairs.mean > 0 else "lower"
        conclusion = {
            True: f"{title} is {higher} {with_} than {without}, beyond the spread",
            False: f"no difference in {title} beyond the spread ({with_}, {without})",
            None: f"too few evaluations to say whether {title} differs ({with_}, {without})",
        }
        lines.append(f"  {conclusion[found.beyond]}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "unknown"


def write_json(joint: Joint, path: str | os.PathLike) -> None:
    """Write scores, curves, differences and what follows from them."""
    content = {
        "protocol": joint.protocol.name,
        "names": dict(zip(SIDES, joint.names)),
        "sequences": joint.sequences,
        "trials": {
            side: {t.name: s.as_dict() for t, s in zip(joint.sides[side], joint.overall(side))}
            for side in SIDES
        },
        "scores": {
            side: {m: joint.score(side, m)._asdict() for m in joint.measures} for side in SIDES
        },
        "differences": {m: joint.differences(m).tolist() for m in joint.measures},
        "comparison": {
            m: {
                **{part: e.as_dict() for part, e in vars(compare(joint, m)).items()},
                "beyond_spread": compare(joint, m).beyond,
            }
            for m in joint.measures
        },
    }
    for side in content["scores"].values():
        for values in side.values():
            values |= {k: None for k, v in values.items() if np.isnan(v)}
    with atomic_write(path, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def write_csv(joint: Joint, path: str | os.PathLike) -> None:
    """Write a row for each pair of a sequence and a seed (from 1)."""
    found = {
        m: (*np.broadcast_arrays(*(joint.values(s, m) for s in SIDES)), joint.differences(m))
        for m in joint.measures
    }
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        names = [f"{m}_{words}" for m in joint.measures for words in (*SIDES, "difference")]
        writer.writerow(["sequence", "seed", *names])
        for i, name in enumerate(joint.sequences):
            for seed in range(max(len(joint.without), len(joint.with_))):
                values = [repr(float(a[seed, i])) for arrays in found.values() for a in arrays]
                writer.writerow([name, seed + 1, *values])
