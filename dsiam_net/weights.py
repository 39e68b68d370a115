"""Weights for the tracker: one function for every kind of file, and for those of the package."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import layers  # noqa: F401  (registers the layers that files name)
from dagnet import DagNN, storage
from dagnet.contents import CHECKPOINT_FORMAT, check_format
from dagnet.contents import FORMAT as NETWORK_FORMAT
from matlab_import import load_matrix, load_network, load_siamfc_pth

from . import shipped
from .branches import siamfc_branch

# In the place of a file: the weights that came with the package, and random ones.
SHIPPED, RANDOM = "shipped", "random"


def _load_npz(path: Path) -> DagNN:
    content = storage.load_tree(path)
    if shipped.is_shippable(content):
        return shipped.from_content(path, content)
    known = check_format(path, content, NETWORK_FORMAT, CHECKPOINT_FORMAT)
    return DagNN.from_dict(known["net"])


LOADERS = {".mat": load_network, ".npz": _load_npz, ".pth": load_siamfc_pth}


def weights_path(name: str | os.PathLike) -> Path:
    """The file that ``name`` stands for: itself, or that of the package for ``'shipped'``.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or the package has none.
    """
    path = shipped.shipped_path() if str(name) == SHIPPED else Path(name)
    if path is None:
        raise FileNotFoundError(
            f"the package was installed without weights of its own "
            f"({shipped.pretrained_folder() / shipped.FILE}); give a file of weights"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    return path


def default_weights() -> str | None:
    """``'shipped'`` where the package has weights of its own, else None."""
    return None if shipped.shipped_path() is None else SHIPPED


def describe_weights(name: str | os.PathLike) -> str:
    """One line about weights: the package's by their card, others by the file's name."""
    if str(name) != SHIPPED:
        return Path(name).name
    return f"{SHIPPED} with the package, {shipped.read_card(weights_path(name)).line()}"


def load_weights(path: str | os.PathLike) -> DagNN:
    """Read a network with its weights.

    Parameters
    ----------
    path : path of
        ``.mat``: a MatConvNet DagNN or SimpleNN (see ``matlab_import``);
        ``.npz``: a network that this software saved (see also ``dsiam_net.shipped``);
        ``.pth``: weights of a PyTorch SiamFC with the public layout;
        or ``'shipped'``: those of the package.
        Values in half precision become single, in which everything is computed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, or a parameter in it is not a number, or no finite one.
        What the readers raise for damaged files passes through.
    """
    path = weights_path(path)
    try:
        load = LOADERS[path.suffix.lower()]
    except KeyError:
        raise ValueError(
            f"{path}: weights must be a file with suffix {', '.join(LOADERS)}, "
            f"received {path.suffix or 'none'!r}"
        ) from None
    net = load(path)
    _check_values(path, net)
    return net


def _check_values(path: Path, net: DagNN) -> None:
    """Refuse values that nothing can be computed with; make single precision of half."""
    for parameter in net.params:
        if parameter.value is None:
            continue
        dtype = np.asarray(parameter.value).dtype
        if dtype.kind not in "fiub":
            raise ValueError(
                f"{path}: parameter {parameter.name!r} must have real numbers, received {dtype}"
            )
        if not np.isfinite(parameter.value).all():
            raise ValueError(
                f"{path}: parameter {parameter.name!r} has values that are infinite or not a "
                "number: training went wrong, or the file is damaged; take an earlier checkpoint"
            )
        if dtype not in (np.float32, np.float64):
            parameter.value = np.asarray(parameter.value, dtype=np.float32)


def load_fusion_map(path: str | os.PathLike) -> np.ndarray:
    """Read a learned fusion map (the public code's ``sumw.mat``): float32 (h, w).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    MatFileError
        If the file is not a ``.mat`` file with one matrix.
    """
    return np.ascontiguousarray(load_matrix(path), dtype=np.float32)


def random_siamfc(rng: np.random.Generator | int) -> DagNN:
    """A SiamFC branch with random filters: to see the software run without weights.

    Batch norm passes its input on: mean 0 and sigma 1.
    """
    net = siamfc_branch()
    net.init_params(rng)
    for parameter in net.params:
        if parameter.train_method == "average":
            parameter.value = np.tile(np.float32([0, 1]), (len(parameter.value), 1))
    return net
