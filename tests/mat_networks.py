"""Content of small network files, in the plain form that ``mat_writers`` writes."""

from __future__ import annotations

import warnings

import numpy as np

from matlab_import import load_network


def number(value):
    return np.array([[float(value)]])


def row(*values):
    return np.array([values], float)


def layer(name, kind, inputs, outputs, params=(), **block):
    """A DagNN layer as ``saveobj`` gives it; names may be a char array or a cell."""

    def names(value):
        return value if isinstance(value, str) else list(value)

    return {
        "name": name,
        "type": kind,
        "inputs": names(inputs),
        "outputs": names(outputs),
        "params": names(params),
        "block": block,
    }


def param(name, value, learning_rate=1, weight_decay=1, **more):
    return {
        "name": name,
        "value": value,
        "learningRate": number(learning_rate),
        "weightDecay": number(weight_decay),
        **more,
    }


def matlab_size(*shape):
    """What MATLAB keeps of a shape: trailing axes of length 1 are dropped, down to two."""
    shape = list(shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    return shape


def small_network(rng):
    """conv (odd, not square), batch norm, ReLU, pooling, and a 1 x 1 convolution to one map."""

    def draw(*shape):
        return rng.standard_normal(matlab_size(*shape)).astype(np.float32)

    network = {
        "vars": [
            {"name": v, "precious": np.array([[v == "x3"]])}
            for v in ("in", "x1", "x2", "x3", "x4", "out")
        ],
        "params": [
            param("c1f", draw(3, 2, 2, 4)),
            param("c1b", draw(4, 1), 2, 0),
            param("bm", draw(4, 1)),
            param("bb", draw(1, 4)),
            param("bx", np.abs(draw(4, 2)) + 0.5, 0.05, 0),
            param("c2f", draw(1, 1, 4, 1)),
            param("c2b", draw(1, 1)),
        ],
        "layers": [
            layer(
                "c1",
                "dagnn.Conv",
                "in",
                ["x1"],
                ["c1f", "c1b"],
                size=row(3, 2, 2, 4),
                hasBias=np.array([[True]]),
                opts=["cuDNN"],
                pad=row(1, 0, 2, 1),
                stride=row(1, 1),
                dilate=row(1, 1),
            ),
            layer(
                "bn",
                "dagnn.BatchNorm",
                ["x1"],
                ["x2"],
                ["bm", "bb", "bx"],
                numChannels=np.zeros((0, 0)),
                epsilon=number(1e-4),
                opts=["NoCuDNN"],
            ),
            layer(
                "relu",
                "dagnn.ReLU",
                ["x2"],
                ["x3"],
                useShortCircuit=np.array([[True]]),
                leak=number(0),
                opts=[],
            ),
            layer(
                "pool",
                "dagnn.Pooling",
                ["x3"],
                "x4",
                method="max",
                poolSize=row(3, 2),
                opts=[],
                pad=row(0, 0, 0, 0),
                stride=row(2, 1),
            ),
            layer(
                "c2",
                "dagnn.Conv",
                ["x4"],
                ["out"],
                ["c2f", "c2b"],
                size=row(1, 1, 4),
                hasBias=np.array([[True]]),
                opts=[],
                pad=number(0),
                stride=number(1),
            ),
        ],
        "meta": {
            "normalization": {"averageImage": np.ones((1, 1, 3)), "border": row(0, 0)},
            "classes": ["a", "b"],
        },
    }
    return network


def by_name(network, name):
    return next(p["value"] for p in network["params"] if p["name"] == name)


def training_file(network):
    """Momenta like the parameters, 0 for the moments; Adam's state for one; two epochs."""
    momenta = [np.zeros((1, 1)) if p["name"] == "bx" else 2 * p["value"] for p in network["params"]]
    momenta[1] = {"m": momenta[1], "v": momenta[1] ** 2, "t": number(7)}
    epochs = [{"num": number(10), "objective": number(1 / e)} for e in (1, 2)]
    return {
        "net": network,
        "state": {"solverState": momenta, "learningRate": number(0.01)},
        "stats": {"train": epochs, "val": epochs[0]},
    }


def load_without_warning(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_network(path)
