"""Weights for the tracker: one function for every kind of file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import layers  # noqa: F401  (registers the layers that files name)
from dagnet import DagNN
from matlab_import import load_matrix, load_network, load_siamfc_pth

from .branches import siamfc_branch

LOADERS = {".mat": load_network, ".npz": DagNN.load, ".pth": load_siamfc_pth}


def load_weights(path: str | os.PathLike) -> DagNN:
    """Read a network with its weights.

    Parameters
    ----------
    path : path of
        ``.mat``: a MatConvNet DagNN or SimpleNN (see ``matlab_import``);
        ``.npz``: a network that this software saved;
        ``.pth``: weights of a PyTorch SiamFC with the public layout.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind. What the readers raise for damaged files passes through.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        load = LOADERS[path.suffix.lower()]
    except KeyError:
        raise ValueError(
            f"{path}: weights must be a file with suffix {', '.join(LOADERS)}, "
            f"received {path.suffix or 'none'!r}"
        ) from None
    return load(path)


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
