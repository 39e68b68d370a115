"""The tracker without V, without W, without both, on one feature layer and on two.

Each run of a variant over a sequence is a file of its own: a run that was stopped goes on with
those that are missing.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dagnet import DagNN, atomic_write

from ..metrics import precision, success_auc
from ..settings import TrackerSettings
from ..tracker import create_tracker
from .following import follow


class Variant(NamedTuple):
    """What is in use: transformation ``V``, transformation ``W``, number of feature layers."""

    v: bool
    w: bool
    layers: int

    @property
    def transformations(self) -> str:
        """'none', 'V', 'W' or 'V+W'."""
        return "+".join(name for name, used in (("V", self.v), ("W", self.w)) if used) or "none"

    @property
    def name(self) -> str:
        """Name of its folder of results: ``none-1``, ``V-1``, ..., ``V+W-2``."""
        return f"{self.transformations}-{self.layers}"

    def apply(self, settings: TrackerSettings) -> TrackerSettings:
        """``settings`` with the share of what is not in use at 0, which switches it off."""
        changes = {f"{role}_lr": 0.0 for role, used in (("v", self.v), ("w", self.w)) if not used}
        return settings.replace(**changes)


TRANSFORMATIONS = ((False, False), (True, False), (False, True), (True, True))
VARIANTS = tuple(Variant(v, w, layers) for layers in (1, 2) for v, w in TRANSFORMATIONS)
TRACKERS = {1: "dsiam", 2: "dsiamm"}


@dataclass(frozen=True)
class Run:
    """A variant's run over a sequence.

    Attributes
    ----------
    variant : Variant
    sequence : str
        Its name.
    frames : int
        Frames tracked, the first included.
    auc, precision : float
        Success score and precision at 20 pixels, 0 to 1, as OTB has them.
    speed : float
        Frames a second; reading the images counts.
    """

    variant: Variant
    sequence: str
    frames: int
    auc: float
    precision: float
    speed: float


def result_file(folder: str | os.PathLike, variant: Variant, sequence: str) -> Path:
    """Where the result of a run is kept."""
    return Path(folder) / variant.name / f"{sequence}.json"


def run_ablation(
    net: DagNN,
    sequences: Iterable[Any],
    settings: TrackerSettings,
    folder: str | os.PathLike,
    *,
    weights: str,
    features: Sequence[str] | None = None,
    fusion_map: np.ndarray | None = None,
    variants: Sequence[Variant] = VARIANTS,
    frames: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> list[Run]:
    """Track every sequence with every variant; finished runs are read from their files.

    Parameters
    ----------
    net : DagNN
        With weights; see ``TrackingNet``.
    sequences : iterable of Sequence or GeneratedSequence
    settings : TrackerSettings
        Of the variant with both transformations.
    folder : path
        Results: ``VARIANT/SEQUENCE.json``.
    weights : str
        What identifies the weights, a checksum say: kept with the results, so that those of
        another network are not taken for this one's.
    features, fusion_map, device : as for ``create_tracker``
    variants : sequence of Variant
    frames : int, optional
        The first frames of each sequence only.
    progress : bool
        Show a bar for each run on standard error.

    Raises
    ------
    ValueError
        If a result in ``folder`` was made with other weights, settings or frames.
    """
    runs = []
    for sequence in sequences:
        for variant in variants:
            path = result_file(folder, variant, sequence.name)
            count = len(sequence) if frames is None else min(frames, len(sequence))
            made_with = {
                "weights": weights,
                "features": None if features is None else list(features),
                "fusion_map": None if fusion_map is None else fusion_map.tolist(),
                "settings": vars(variant.apply(settings)),
                "frames": count,
            }
            result = _finished(path, made_with)
            if result is None:
                tracker = create_tracker(
                    TRACKERS[variant.layers],
                    net,
                    variant.apply(settings),
                    features=features,
                    fusion_map=fusion_map if variant.layers == 2 else None,
                    device=device,
                )
                bar = f"{sequence.name}, {variant.name}" if progress else None
                result = _track(tracker, sequence, frames, bar)
                _write(path, {"made_with": made_with, **result})
            runs.append(_score(variant, sequence, result))
    return runs


def _track(tracker, sequence, frames: int | None, progress: str | None) -> dict[str, Any]:
    start = time.perf_counter()
    boxes = follow(tracker, sequence, frames, progress)
    return {"seconds": time.perf_counter() - start, "boxes": boxes.tolist()}


def _finished(path: Path, made_with: dict[str, Any]) -> dict[str, Any] | None:
    """The result in a file, None if there is no such file."""
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text())
        before = result["made_with"]
        result["seconds"], result["boxes"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{path}: not a result of an ablation; remove it") from exc
    for key, value in made_with.items():
        if before.get(key) != value:
            raise ValueError(
                f"{path}: was made with other {key.replace('_', ' ')}; give another folder for "
                "the results, or remove it"
            )
    return result


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path, "w") as stream:
        json.dump(content, stream)
        stream.write("\n")


def _score(variant: Variant, sequence, result: dict[str, Any]) -> Run:
    boxes = np.array(result["boxes"])
    truth = sequence.boxes[: len(boxes)]
    speed = len(boxes) / result["seconds"]
    return Run(
        variant,
        sequence.name,
        len(boxes),
        success_auc(boxes, truth),
        precision(boxes, truth),
        speed,
    )


def mean_runs(runs: Sequence[Run]) -> list[Run]:
    """One run for each variant with the mean over sequences; ``speed`` over all frames."""
    means = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        frames = sum(run.frames for run in own)
        means.append(
            Run(
                variant,
                "mean",
                frames,
                float(np.mean([run.auc for run in own])),
                float(np.mean([run.precision for run in own])),
                frames / sum(run.frames / run.speed for run in own),
            )
        )
    return means


def table(runs: Sequence[Run]) -> str:
    """AUC and precision of each variant, the mean first and then each sequence, as text."""
    names = list(dict.fromkeys(run.sequence for run in runs))
    width = max(14, *(len(name) + 2 for name in names))
    lines = [
        f"{'':17s}{'mean':>{width}s}{'frames/s':>10s}" + "".join(f"{n:>{width}s}" for n in names)
    ]
    for mean in mean_runs(runs):
        own = {run.sequence: run for run in runs if run.variant == mean.variant}
        cells = "".join(f"{_pair(own[name]):>{width}s}" for name in names)
        layers = f"{mean.variant.layers} layer{'s' if mean.variant.layers > 1 else ''}"
        label = f"{mean.variant.transformations:5s}{layers}"
        lines.append(f"{label:17s}{_pair(mean):>{width}s}{mean.speed:10.2f}{cells}")
    return "\n".join(["AUC and precision at 20 px", *lines])


def _pair(run: Run) -> str:
    return f"{run.auc:.3f} {run.precision:.3f}"


def write_csv(runs: Sequence[Run], path: str | os.PathLike) -> None:
    """Write a row for each run, and one for the mean of each variant."""
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ("transformations", "layers", "sequence", "frames", "auc", "precision", "frames/s")
        )
        for run in [*runs, *mean_runs(runs)]:
            writer.writerow(
                (
                    run.variant.transformations,
                    run.variant.layers,
                    run.sequence,
                    run.frames,
                    repr(run.auc),
                    repr(run.precision),
                    f"{run.speed:.2f}",
                )
            )
