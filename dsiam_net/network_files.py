"""Networks written in the format that a file's name asks for."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from dagnet import DagNN, TrainState
from matlab_import import save_network


def write_network_file(net: DagNN, path: str | PathLike, state: TrainState | None = None) -> None:
    """Write MatConvNet's format under a name that ends in ``.mat``, else the native one.

    Parameters
    ----------
    net : DagNN
    path : the file; an old one is replaced when the new one is whole
    state : TrainState, optional
        Of the training that made the network. A ``.mat`` file holds the solver's state and the
        statistics beside the network, as ``cnn_train_dag`` saves them; a native file the network
        alone, since checkpoints have the state.

    Raises
    ------
    MatFileError
        If a ``.mat`` file cannot hold the network.
    OSError
        If the file cannot be written.
    """
    if Path(path).suffix != ".mat":
        net.save(path)
    elif state is None:
        save_network(net, path)
    else:
        save_network(net, path, state={"solver_state": state.solver_state}, stats=state.stats)
