"""V and W over a sequence: distances in all frames, patches and responses in some."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dagnet import DagNN, atomic_write
from layers import imresize

from ..branches import extract_branch
from ..tracker import Tracker
from ..tracking_net import TrackingNet
from .distances import ROLES, VARIANTS, Distances, Learner, Variant, rate, rows
from .patches import FramePatches, cut_patches, find_targets

# A tracker has V and W from the third frame on.
FIRST_LEARNED = 3
SHOWN_FRAMES = 5


@dataclass(frozen=True, eq=False)
class ShownFrame:
    """Patches and response maps of a frame that is shown.

    Attributes
    ----------
    number : int
        From 1.
    patches : FramePatches
    plain : float32 array (h, w)
        Response of the template on ``G_t``, whose centre is the target.
    adapted : float32 array (h, w) or None
        The same with V and W of the frame before; None if there are none.
    """

    number: int
    patches: FramePatches
    plain: np.ndarray
    adapted: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Transformations:
    """The analysis of a sequence.

    Attributes
    ----------
    name : str
        Of the sequence.
    layers : tuple of str
        Names of the feature layers, outermost first.
    distances : Distances
    shown : tuple of ShownFrame
    settings : dict
        What it was made with: positions, shares and lambdas.
    """

    name: str
    layers: tuple[str, ...]
    distances: Distances
    shown: tuple[ShownFrame, ...]
    settings: dict[str, Any]


class Count(NamedTuple):
    """In how many frames a transformation makes the distance smaller.

    Attributes
    ----------
    role : 'V' or 'W'
    layer : str
    variant : Variant
    nearer, frames : int
        Frames in which the distance is smaller with the transformation, of all that have both.
    median : float
        Of the distance with over the distance without.
    """

    role: str
    layer: str
    variant: Variant
    nearer: int
    frames: int
    median: float


def layer_names(net: DagNN, features: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers that write the feature variables ``features`` of a network."""
    branch, names = extract_branch(net, features)
    return tuple(next(r.name for r in branch.layers if name in r.outputs) for name in names)


def spread_frames(length: int, count: int = SHOWN_FRAMES) -> list[int]:
    """Up to ``count`` frames (from 1), evenly spread over those in which a tracker has V and W."""
    first = min(FIRST_LEARNED, length)
    return sorted({int(n) for n in np.linspace(first, length, count).round()})


def analyse_transformations(
    tracker: Tracker,
    sequence,
    layers: Sequence[str],
    positions: str = "truth",
    show: Sequence[int] | None = None,
    progress: bool = False,
    region: Sequence[float] | None = None,
) -> Transformations:
    """Measure and show what V and W do over a sequence.

    Parameters
    ----------
    tracker : Tracker
        Its network gives the features; it follows the target where ``positions`` is 'tracker'.
    sequence : Sequence, DecodedVideo or GeneratedSequence
    layers : sequence of str
        Names of the network's feature layers, for tables and figures.
    positions : 'truth' or 'tracker'
    show : sequence of int, optional
        Frames to be shown, from 1; by default some spread over the sequence. Those without a
        target are left out.
    progress : bool
        Show a bar on standard error.
    region : 4 or 8 numbers, optional
        Where the tracker starts; by default in the first true region.

    Raises
    ------
    ValueError
        For fewer than three frames, a frame to be shown that does not exist, and as
        ``find_targets``.
    """
    if len(sequence) < FIRST_LEARNED:
        raise ValueError(
            f"sequence {sequence.name}: a transformation of the frame before exists from frame "
            f"{FIRST_LEARNED} on, and there are {len(sequence)} frames"
        )
    show = spread_frames(len(sequence)) if show is None else show
    for number in show:
        if not 1 <= number <= len(sequence):
            raise ValueError(
                f"frames to be shown must lie in 1 to {len(sequence)}, received {number}"
            )
    network = tracker.network
    targets = find_targets(tracker, sequence, positions, progress, region)
    frames = cut_patches(sequence, targets, tracker.settings, network.average_image)
    learner, values, shown = Learner(network), [], []
    template = before = None
    bar = tqdm(frames, "measure", len(sequence), unit="frame", disable=not progress)
    for number, patches in enumerate(bar, start=1):
        values.append(learner.measure(patches))
        template = patches if template is None else template
        if patches is not None and number in {1, *show}:
            known = before if number >= FIRST_LEARNED else None
            shown.append(_show(network, number, template, known, patches))
        before = patches
    settings = {
        "positions": positions,
        "lambdas": dict(network.lambdas),
        "shares": {
            f"{role}{level}": rate(network, role, level)
            for role in ROLES
            for level in network.levels
        },
    }
    return Transformations(
        sequence.name, tuple(layers), Distances(np.array(values)), tuple(shown), settings
    )


def _show(
    network: TrackingNet,
    number: int,
    template: FramePatches,
    before: FramePatches | None,
    patches: FramePatches,
) -> ShownFrame:
    """What is shown of a frame; ``before`` are the patches that V and W are learned from."""
    search = patches.surroundings
    if network.average_image is not None:
        search = search - imresize(network.average_image, size=search.shape[1:])
    network.forget()
    network.set_template(template.target)
    plain = network.respond(search[None])[0]
    adapted = None
    if before is not None:
        network.learn(before.target, (before.surroundings, before.masked))
        adapted = network.respond(search[None])[0]
        network.forget()
    return ShownFrame(number, patches, plain, adapted)


def counts(result: Transformations) -> list[Count]:
    """How often each transformation makes the distance smaller, in all variants."""
    found = []
    for role in ROLES:
        for level, layer in enumerate(result.layers, start=1):
            for variant in VARIANTS:
                ratios = result.distances.ratios(role, level, variant)
                if variant == variant.base or not len(ratios):
                    continue
                nearer = int((ratios < 1).sum())
                found.append(
                    Count(role, layer, variant, nearer, len(ratios), float(np.median(ratios)))
                )
    return found


def summary(result: Transformations) -> str:
    """The counts as text: of V and W of frame t - 1, of frame t itself, and of mixing with 0."""
    lines = [
        f"{result.name}: frames in which the distance is smaller with the transformation, and the "
        "median of with / without"
    ]
    found = counts(result)
    titles = {
        "mixed as in the tracker": ("mixed", "none"),
        "alone": ("alone", "none"),
        "mixed, Hann window": ("mixed", "hann"),
        "alone, Hann window": ("alone", "hann"),
    }
    lines.append(" " * 14 + "".join(f"{title:>26s}" for title in titles))
    labels = {"t-1": "{}_t-1", "t": "{}_t", "none": "{} = 0"}
    for learned, label in labels.items():
        for role in ROLES:
            for layer in result.layers:
                cells = {
                    c.variant[1:]: f"{c.nearer} of {c.frames} ({c.median:.3f})"
                    for c in found
                    if (c.role, c.layer, c.variant.learned) == (role, layer, learned)
                }
                row = "".join(f"{cells.get(key, '-'):>26s}" for key in titles.values())
                lines.append(f"{label.format(role):6s}{layer:8s}{row}")
    return "\n".join(lines)


def write_csv(result: Transformations, path: str | os.PathLike) -> None:
    """Write all distances, a row each; without one the field is empty."""
    names = dict(enumerate(result.layers, start=1))
    with atomic_write(path, "w") as stream:
        writer: csv.DictWriter | None = None
        for row in rows(result.distances):
            row["layer"] = names[row["layer"]]
            value = row["distance"]
            row["distance"] = repr(value) if np.isfinite(value) else ""
            if writer is None:
                writer = csv.DictWriter(stream, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)


def write_json(result: Transformations, path: str | os.PathLike) -> None:
    """Write settings and counts."""
    content = {
        "sequence": result.name,
        "frames": len(result.distances.values),
        "layers": result.layers,
        **result.settings,
        "counts": [{**c._asdict(), "variant": c.variant._asdict()} for c in counts(result)],
    }
    with atomic_write(path, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")
