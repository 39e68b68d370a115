"""A tiny problem for tests of the training loop."""

from __future__ import annotations

import numpy as np

from dagnet import SGD, Batch, DagNN, TrainOptions
from toy_layers import HalfSquare, Observe, Times, array

X = np.array([1.0, 2.0, -1.0, 0.5, 3.0, -2.0, 4.0, 0.25])
C = np.array([2.0, 1.0, 1.0, -1.0, 0.5, 0.0, -3.0, 1.0])


def toy_net():
    """objective = mean((w x - c)^2) / 2; the average parameter m observes x and w x."""
    net = DagNN()
    net.add_layer("see", Observe(), "x", "seen", "m")
    net.add_layer("times", Times(), "seen", "y", "w")
    net.add_layer("see again", Observe(), "y", "z", "m")
    net.add_layer("loss", HalfSquare(), ["z", "c"], "objective")
    net.get_param("w").value, net.get_param("m").value = array(1.0), array(0.0)
    return net


def get_batch(indexes, mode, epoch):
    return Batch({"x": X[indexes], "c": C[indexes]})


def options(folder, **changes):
    settings = {
        "batch_size": 4,
        "num_epochs": 1,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "solver": SGD(momentum=0.0),
        **changes,
    }
    return TrainOptions(exp_dir=folder, **settings)


def bytes_of(net):
    """All parameters, bit for bit."""
    return [p.value.tobytes() for p in net.params]


def plain(tree):
    """A solver's state with its arrays as bytes."""
    if isinstance(tree, dict):
        return {key: plain(entry) for key, entry in tree.items()}
    return (tree.dtype, tree.tobytes()) if hasattr(tree, "tobytes") else tree
