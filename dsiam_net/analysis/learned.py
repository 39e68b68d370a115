"""What joint training did to the parameters: lambdas, learning rates, fusion map, and the rest.

Joint training adds to a SiamFC network 4 lambdas, 4 learning rates of V and W and the fusion map
``sumweights`` (with two feature layers). Their start is known: the public values that
``build_unrolled`` gives them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import DagNN, asnumpy, atomic_write

from ..branches import FEATURES, copy_params, extract_branch
from ..text_table import columns
from ..training import POSITIVE_RADIUS
from ..unrolled import (
    ROLES,
    V_LAMBDA,
    UnrolledSettings,
    build_unrolled,
    lambda_name,
    rate_name,
    sumweights_names,
)
from ..weights import load_weights
from .statistics import Estimate, counted, estimate, rounded


@dataclass(frozen=True, eq=False)
class Learned:
    """Parameters before and after joint training, of one run or of several.

    Attributes
    ----------
    names : tuple of str
        Of the files of weights.
    start_name : str
        What the start is.
    levels : int
        Feature layers.
    stride : int
        Pixels of the search crop a cell of the response.
    start : dict of float64 arrays
        Values before training by parameter; those alone whose start is known.
    ends : tuple of dict
        Values after training, a dict for each file.
    """

    names: tuple[str, ...]
    start_name: str
    levels: int
    stride: int
    start: dict[str, np.ndarray]
    ends: tuple[dict[str, np.ndarray], ...]

    @property
    def lambdas(self) -> list[str]:
        """``v_lambda, w_lambda`` of each feature layer."""
        return [lambda_name(r, level) for level in self._levels for r in ROLES.values()]

    @property
    def rates(self) -> list[str]:
        """``cir11_lr, cir12_lr`` of each feature layer: shares of V and W."""
        return [rate_name(level, which) for level in self._levels for which in ROLES]

    @property
    def maps(self) -> list[str]:
        """The stored fusion maps: ``sumweights`` for two feature layers."""
        return sumweights_names(self.levels)

    @property
    def others(self) -> list[str]:
        """Parameters that SiamFC has too, whose start is known."""
        own = {*self.lambdas, *self.rates, *self.maps}
        return [name for name in self.start if name not in own]

    @property
    def _levels(self) -> range:
        return range(1, self.levels + 1)

    def values(self, name: str) -> np.ndarray:
        """Values after training, one for each file: (files, *shape)."""
        return np.stack([end[name] for end in self.ends])

    def scalar(self, name: str) -> Estimate:
        """A lambda or a learning rate after training, over the files."""
        return estimate(self.values(name).reshape(len(self.ends)))

    def map_changes(self, name: str) -> np.ndarray:
        """Changes of a fusion map from its start: (files, h, w)."""
        return self.values(name) - self.start[name]

    def moved(self, name: str) -> np.ndarray:
        """``|end - start| / |start|`` for each file: (files,); NaN where the start is 0."""
        norm = np.linalg.norm(self.start[name])
        changes = [np.linalg.norm(end[name] - self.start[name]) for end in self.ends]
        return np.array(changes) / norm if norm > 0 else np.full(len(changes), np.nan)


def read_learned(
    weights: Sequence[str | os.PathLike], start: str | os.PathLike | None = None
) -> Learned:
    """Read the parameters of jointly trained networks.

    Parameters
    ----------
    weights : sequence of path
        Checkpoints of ``dsiam_net.train``, its ``--out``, or shipped files; 'shipped' is that of
        the package. One for each seed.
    start : path, optional
        What they were trained from: any file of weights. What it lacks (a SiamFC network has no
        lambdas) started from the public values, and so does all without it; the branch's start
        is then not known.

    Raises
    ------
    ValueError
        If there is no file, one is given twice or is not a jointly trained network, or they are
        of different shapes.
    FileNotFoundError, CheckpointError and others
        As ``load_weights``.
    """
    names = distinct_names(weights)
    nets = [load_weights(path) for path in weights]
    for name, net in zip(names, nets):
        if "unrolled" not in net.meta:
            raise ValueError(
                f"{name}: not a jointly trained network, it has no lambdas and no learning rates "
                "of V and W; give checkpoints of dsiam_net.train"
            )
    first = _starting_network(nets[0], None if start is None else load_weights(start))
    unknown = () if start is not None else _before_the_head(nets[0])
    begun = {n: v for n, v in _values(first).items() if n not in unknown}
    ends = tuple(_values(net) for net in nets)
    for name, end in zip(names, ends):
        for parameter, value in begun.items():
            shape = end[parameter].shape if parameter in end else None
            if shape != value.shape:
                raise ValueError(
                    f"{name}: parameter {parameter!r} has shape {shape}, expected {value.shape} "
                    f"as in {names[0] if start is None else Path(start).name}: the networks differ"
                )
    unrolled = nets[0].meta["unrolled"]
    words = "public values" if start is None else Path(start).name
    return Learned(tuple(names), words, len(unrolled["features"]), unrolled["stride"], begun, ends)


def distinct_names(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Names for files: as many of the last parts of their paths as tell them apart.

    Raises
    ------
    ValueError
        If there is no file, or one is given twice.
    """
    parts = [Path(path).with_suffix("").parts for path in paths]
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(
            "expected one file at least, and each once, received "
            f"{', '.join(map(str, paths)) or 'none'}"
        )
    count = 1
    while len({p[-count:] for p in parts}) < len(parts):
        count += 1
    return ["/".join(p[-count:]) for p in parts]


def _starting_network(net: DagNN, start: DagNN | None) -> DagNN:
    """The network of one frame that training began with; its branch is ``net``'s without start."""
    unrolled = net.meta["unrolled"]
    branch, features = extract_branch(start or net, unrolled["features"])
    kind = "vgg19" if tuple(features) == FEATURES["vgg19"] else "siamfc"
    built = build_unrolled(
        branch,
        UnrolledSettings(
            frames=1,
            features=tuple(features),
            exemplar_size=unrolled["exemplar_size"],
            search_size=unrolled["search_size"],
            v_lambda=V_LAMBDA[kind],
        ),
    )
    if start is not None:
        copy_params(start, built)
    return built


def _before_the_head(net: DagNN) -> set[str]:
    """Parameters that training takes from its file of weights: the branch's and adjust's."""
    branch, _ = extract_branch(net, net.meta["unrolled"]["features"])
    return {parameter.name for parameter in branch.params} | {"adjust_f", "adjust_b"}


def _values(net: DagNN) -> dict[str, np.ndarray]:
    return {p.name: asnumpy(p.value).astype(np.float64) for p in net.params if p.value is not None}


def central_cells(shape: Sequence[int], stride: int) -> np.ndarray:
    """Cells (h, w) that are positive for a target in the middle, 16 px around: bool, 13 of 17x17.

    The authors' learned map is 0.992 there and within 0.0002 of 1 elsewhere.
    """
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.hypot(rows[:, None], cols) <= POSITIVE_RADIUS / stride


def centre_and_rest(changes: np.ndarray, stride: int) -> np.ndarray:
    """Mean change of a map in its central cells and in the others: (..., 2) of (..., h, w)."""
    inside = central_cells(changes.shape[-2:], stride)
    return np.stack([changes[..., inside].mean(-1), changes[..., ~inside].mean(-1)], axis=-1)


def table(learned: Learned, reference: np.ndarray | None = None) -> str:
    """Start and end of each lambda and rate, changes of the fusion map, how far the rest moved."""
    many = len(learned.ends) > 1
    ends = "end ± standard deviation" if many else "end"
    rows = [["parameter", "start", ends, "change", *(["least", "greatest"] if many else [])]]
    for name in [*learned.lambdas, *learned.rates]:
        start, found = learned.start[name].item(), learned.scalar(name)
        values = learned.values(name)
        least = [f"{values.min():.6g}", f"{values.max():.6g}"] if many else []
        rows.append([name, f"{start:.6g}", rounded(found), _percent(start, found.mean)])
        rows[-1] += least
    lines = [f"{counted(len(learned.ends), 'file')}, start: {learned.start_name}", columns(rows)]
    for name in learned.maps:
        lines += ["", _map_table(learned, name, reference)]
    if learned.others:
        rows = [["parameter", "moved by (relative norm of the change)"]]
        for name in learned.others:
            moved = learned.moved(name)
            known = np.isfinite(moved).all()
            words = rounded(estimate(moved), ".3g") if known else "starts from 0"
            rows.append([name, words])
        lines += ["", columns(rows)]
    return "\n".join(lines)


def _percent(start: float, end: float) -> str:
    return f"{100 * (end / start - 1):+.3g} %" if start else f"{end - start:+.3g}"


def _map_table(learned: Learned, name: str, reference: np.ndarray | None) -> str:
    changes = learned.map_changes(name)
    rows = [[f"change of {name}", "central cells", "others", "least", "greatest"]]
    shown = list(zip(learned.names, changes))
    if len(changes) > 1:
        shown.append(("mean", changes.mean(axis=0)))
    if reference is not None:
        shown.append(("reference (from 1)", reference - 1))
    for words, change in shown:
        centre, rest = centre_and_rest(change, learned.stride)
        rows.append([words, *(f"{v:+.3g}" for v in (centre, rest, change.min(), change.max()))])
    return columns(rows)


def write_json(
    learned: Learned, path: str | os.PathLike, reference: np.ndarray | None = None
) -> None:
    """Write all numbers: values, means, standard deviations, maps, relative changes."""

    def scalar(name: str) -> dict[str, Any]:
        values = learned.values(name).reshape(len(learned.ends))
        return {
            "start": learned.start[name].item(),
            "ends": values.tolist(),
            **learned.scalar(name).as_dict(),
        }

    def fusion(name: str) -> dict[str, Any]:
        changes = learned.map_changes(name)
        return {
            "start": learned.start[name].tolist(),
            "ends": learned.values(name).tolist(),
            "mean_change": changes.mean(axis=0).tolist(),
            "centre_and_others": centre_and_rest(changes, learned.stride).tolist(),
        }

    def moved(name: str) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in learned.moved(name)]

    content = {
        "weights": learned.names,
        "start": learned.start_name,
        "parameters": {name: scalar(name) for name in [*learned.lambdas, *learned.rates]},
        "maps": {name: fusion(name) for name in learned.maps},
        "reference": None if reference is None else reference.tolist(),
        "moved": {name: moved(name) for name in learned.others},
    }
    for entry in content["parameters"].values():
        # Whether a value differs from 0 is not what is asked of it.
        for key in ("low", "high", "beyond_spread"):
            del entry[key]
    with atomic_write(path, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def check_reference(learned: Learned, reference: np.ndarray) -> None:
    """Raise ValueError if a reference map is of another size than the learned ones."""
    for name in learned.maps:
        if learned.start[name].shape != reference.shape:
            raise ValueError(
                f"the reference map must have the size of {name}, "
                f"{learned.start[name].shape}, received {reference.shape}"
            )
