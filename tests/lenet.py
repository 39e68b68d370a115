"""LeNet, the network of MatConvNet's test classes of networks (nndagnn, nnsimplenn, nnmnist)."""

from __future__ import annotations

from typing import Any

import numpy as np

# Output and input channels, height and width of the filters of the four convolutions.
FILTERS = ((20, 1, 5, 5), (50, 20, 5, 5), (500, 50, 4, 4), (10, 500, 1, 1))
NUM_CLASSES = 10


def lenet_layers(kind: Any, factor: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """SimpleNN layers: convolutions of Gaussian filters times ``factor``, and the softmax loss.

    ``kind`` (``suite.Kind``) gives the precision and the device of the weights.
    """
    conv = [
        {
            "type": "conv",
            "weights": [kind.array(factor * rng.standard_normal(s)), kind.array(np.zeros(s[0]))],
            "stride": 1,
            "pad": 0,
        }
        for s in FILTERS
    ]
    pool = {"type": "pool", "method": "max", "pool": (2, 2), "stride": 2, "pad": 0}
    first, second, third, fourth = conv
    loss = {"type": "softmaxloss"}
    return [first, pool, second, pool, third, {"type": "relu"}, fourth, loss]
