"""Files of weights that are small enough to ship, and the one that comes with the package.

Such a file is ``dagnet.storage``'s (arrays and JSON, no pickle)::

    format, version     "dsiam-weights", 2 (1: cards without scale_penalty)
    card                what is known of the network, see ``Card``
    branch              the feature branch, as DagNN.to_dict has it
    unrolled            settings of a jointly trained DSiam; None of a SiamFC
    own                 parameters beside the branch's, as DagNN.to_dict has them

Filters are kept in half precision, all else in single: a lambda of 1e-5 or the moments of a batch
norm would lose digits, and take no room. Networks that are read have single precision.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import CheckpointError, DagNN, __version__, storage

from .branches import copy_params, extract_branch
from .siamfc import make_siamfc
from .tracker import known_features
from .unrolled import UnrolledSettings, build_unrolled

FORMAT = "dsiam-weights"
VERSION = 2
# Of the package's data: the file that commands use where none is given.
FOLDER, FILE = "pretrained", "dsiam.npz"
# Most bytes that a file for the package may have.
LIMIT = 5_000_000
# Sizes of crops and features: what a network of one frame needs to be built like a longer one.
UNROLLED = ("features", "exemplar_size", "search_size")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a file of weights says of itself.

    Attributes
    ----------
    name, release : str
    kind : 'SiamFC' or 'DSiam'
        DSiam: jointly trained, with lambdas, learning rates of V and W and ``sumweights``.
    summary : str
        What it was trained on and how, in a few words.
    training : dict
        Settings of the last training run.
    scale_penalty : float or None
        What trackers take in place of their settings' ``scale_penalty``, see ``equal_penalty``.
    parameters : int
        How many.
    software : str
        Version that wrote the file.
    sha256 : str
        Of the values, see ``values_digest``.
    """

    name: str
    release: str
    kind: str
    summary: str
    training: dict[str, Any] = field(default_factory=dict)
    parameters: int
    software: str
    sha256: str
    scale_penalty: float | None = None

    def line(self) -> str:
        """The card in one line."""
        which = f"{self.kind}, sha256 {self.sha256[:12]}"
        return f"{self.name} {self.release} ({which}): {self.summary}"

    def table(self) -> str:
        """The card as a table of a Markdown document."""
        fields = dataclasses.asdict(self)
        rows = {k: v for k, v in fields.items() if k != "training" and v is not None}
        rows |= {f"training: {name}": value for name, value in self.training.items()}
        body = "".join(f"| {name} | {_cell(value)} |\n" for name, value in rows.items())
        return f"| | |\n| --- | --- |\n{body}"


def _cell(value: Any) -> str:
    words = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return words.replace("|", "\\|").replace("\n", " ")


def pretrained_folder() -> Path:
    """The folder of the package that the file of weights lies in."""
    return Path(str(files(__package__) / FOLDER))


def shipped_path() -> Path | None:
    """The file of weights that came with the package, or None if none did."""
    path = pretrained_folder() / FILE
    return path if path.is_file() else None


def equal_penalty(penalty: float, before: float, after: float) -> float:
    """The factor on the scores of other scales that costs them as much as before training.

    Trackers multiply the peaks of all scales but the middle one by ``penalty``, so to choose
    another scale costs ``(1 - penalty) peak``. Training that raises the level of the responses,
    and not the differences between scales, makes that dearer; ``1 - (1 - penalty) before / after``
    costs what it did.

    Parameters
    ----------
    penalty : float
        Of the settings, in (0, 1].
    before, after : float
        Mean scores (``TrackResult.score``) of frames before and after training, greater than 0.
    """
    if not (0 < penalty <= 1 and before > 0 and after > 0):
        raise ValueError(
            "penalty must be in (0, 1] and the mean scores greater than 0, received "
            f"{penalty}, {before} and {after}"
        )
    return 1 - (1 - penalty) * before / after


def read_card(path: str | os.PathLike) -> Card:
    """The card of a file of weights; errors as in ``from_content``."""
    return _card(path, storage.load_tree(path))


def save_half(
    net: DagNN,
    path: str | os.PathLike,
    *,
    name: str,
    release: str,
    summary: str,
    training: Mapping[str, Any] | None = None,
    scale_penalty: float | None = None,
) -> Card:
    """Write a network as a small file of weights, under a temporary name first.

    Parameters
    ----------
    net : DagNN
        A SiamFC (one branch or two streams, with or without losses), or an unrolled DSiam of any
        number of frames.
    path : path of the file to write, ``.npz``
    name, release, summary, training, scale_penalty : see ``Card``

    Raises
    ------
    ValueError
        If the network is neither, or a parameter of the branch has no value, or any has one that
        is not finite. Those after the branch have their first values where ``net`` has none. If
        ``scale_penalty`` is not in (0, 1].
    """
    if scale_penalty is not None and not 0 < scale_penalty <= 1:
        raise ValueError(f"scale_penalty must be in (0, 1], received {scale_penalty}")
    branch, names = extract_branch(net, known_features(net))
    normalization = net.meta.get("normalization")
    branch.meta = {} if normalization is None else {"normalization": normalization}
    unrolled = None
    if "unrolled" in net.meta:
        unrolled = {key: net.meta["unrolled"][key] for key in UNROLLED} | {"features": names}
    whole = _with_head(branch, unrolled, names)
    copy_params(net, whole)
    of_branch = {parameter.name for parameter in branch.params}
    content = {
        "branch": branch.to_dict(),
        "unrolled": unrolled,
        "features": names,
        "own": [entry for entry in whole.to_dict()["params"] if entry["name"] not in of_branch],
    }
    entries = _entries(content)
    for entry in entries:
        entry["value"] = _stored(entry["name"], entry["value"])
    card = Card(
        name=name,
        release=release,
        kind="SiamFC" if unrolled is None else "DSiam",
        summary=summary,
        training=dict(training or {}),
        scale_penalty=scale_penalty,
        parameters=len(entries),
        software=__version__,
        sha256=values_digest(content),
    )
    storage.save_tree(
        path,
        {"format": FORMAT, "version": VERSION, "card": dataclasses.asdict(card), **content},
    )
    return card


def is_shippable(content: Any) -> bool:
    """Whether what ``storage.load_tree`` read is a file of weights as they are described here."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def from_content(path: str | os.PathLike, content: Mapping[str, Any]) -> DagNN:
    """The network in what ``storage.load_tree`` read from ``path``, in single precision.

    A SiamFC comes with both streams, a DSiam unrolled over one frame, with its 33 parameters.
    ``meta['card']`` is the card as a dict, ``meta['scale_penalty']`` what trackers take of it.

    Raises
    ------
    CheckpointError
        If the file is damaged, was changed, or is of a later version.
    """
    card = _card(path, content)
    try:
        digest = values_digest(content)
    except (KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(f"{os.fspath(path)}: damaged, it lacks values ({exc})") from exc
    if digest != card.sha256:
        raise CheckpointError(
            f"{os.fspath(path)}: the values are not those that the file was written with (sha256 "
            f"{card.sha256[:12]}... expected, {digest[:12]}... received); copy it anew"
        )
    for entry in _entries(content):
        entry["value"] = entry["value"].astype(np.float32)
    branch = DagNN.from_dict(content["branch"])
    net = _with_head(branch, content["unrolled"], content["features"])
    for entry in content["own"]:
        parameter = net.get_param(entry["name"])
        parameter.value = entry["value"]
        parameter.train_method = entry["train_method"]
        parameter.learning_rate = entry["learning_rate"]
        parameter.weight_decay = entry["weight_decay"]
    net.meta["card"] = dataclasses.asdict(card)
    if card.scale_penalty is not None:
        net.meta["scale_penalty"] = card.scale_penalty
    return net


def values_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the values as they are stored: name, dtype, shape and bytes of each, by name."""
    digest = hashlib.sha256()
    for entry in sorted(_entries(content), key=lambda entry: entry["name"]):
        value = np.ascontiguousarray(entry["value"])
        digest.update(f"{entry['name']} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _entries(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*content["branch"]["params"], *content["own"]]


def _with_head(branch: DagNN, unrolled: Mapping[str, Any] | None, names: list[str]) -> DagNN:
    """The branch with all that follows it: as SiamFC, or as DSiam over one frame."""
    if unrolled is None:
        net = make_siamfc(branch, names[0])
        net.meta = dict(branch.meta)
        return net
    settings = {key: unrolled[key] for key in UNROLLED} | {"features": tuple(names)}
    return build_unrolled(branch, UnrolledSettings(frames=1, **settings))


def _stored(name: str, value: np.ndarray | None) -> np.ndarray:
    """A value as the file has it: filters (4 axes, more than one number) in half precision."""
    if value is None or not np.isfinite(value).all():
        raise ValueError(f"parameter {name!r} has {'no value' if value is None else 'NaN or inf'}")
    if value.ndim == 4 and value.size > 1 and np.abs(value).max() <= np.finfo(np.float16).max:
        return value.astype("<f2")
    return value.astype("<f4")


def _card(path: str | os.PathLike, content: Any) -> Card:
    if not is_shippable(content) or not isinstance(content.get("version"), int):
        raise CheckpointError(f"{os.fspath(path)}: expected a file of format {FORMAT}")
    if content["version"] > VERSION:
        raise CheckpointError(
            f"{os.fspath(path)}: written by a later version (format {content['version']}, this "
            f"version reads up to {VERSION}); update this software"
        )
    try:
        return Card(**content["card"])
    except (KeyError, TypeError) as exc:
        raise CheckpointError(f"{os.fspath(path)}: damaged, it has no card ({exc})") from exc
