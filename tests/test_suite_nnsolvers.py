"""MatConvNet's test class nnsolvers: two classes of Gaussian samples are told apart."""

import numpy as np
import pytest

from dagnet import SGD, AdaDelta, AdaGrad, Adam, Batch, DagNN, RMSProp, TrainOptions, train_dag
from layers import Conv, Loss
from suite import over_kinds

# As there: samples of 15 x 10 x 5 numbers, a hundred of each class, batches of ten, one epoch.
HEIGHT, WIDTH, CHANNELS, EACH, BATCH = 15, 10, 5, 100, 10
SOLVERS = (SGD, AdaGrad, AdaDelta, RMSProp, Adam)
TOP1ERR, OBJECTIVE = 0.35, 0.5


def data():
    """Samples of two classes: one around the origin, one around a point drawn at random."""
    rng = np.random.default_rng(0)
    size = (CHANNELS, HEIGHT, WIDTH)
    first = 2 * rng.standard_normal((EACH, *size))
    second = 2 * rng.standard_normal(size) + 2 * rng.standard_normal((EACH, *size))
    filters = 1e-3 * rng.standard_normal((2, *size))
    return np.concatenate([first, second]), np.repeat([1.0, 2.0], EACH), filters, np.zeros(2)


def network(kind, form, filters, biases):
    """Logistic regression; ``kind.array`` gives the precision and the device."""
    filters, biases = kind.array(filters), kind.array(biases)
    if form == "simplenn":
        layers = [{"type": "conv", "weights": [filters, biases]}, {"type": "softmaxloss"}]
        net = DagNN.from_simple_nn(layers, canonical_names=True)
    else:
        net = DagNN()
        net.add_layer("conv", Conv(size=filters.shape), "input", "prediction", ["f", "b"])
        net.get_param("f").value, net.get_param("b").value = filters, biases
        net.add_layer("loss", Loss(), ["prediction", "label"], "objective")
    net.add_layer("top1err", Loss(loss="classerror"), ["prediction", "label"], "top1err")
    net.move(kind.device)
    return net


@over_kinds
@pytest.mark.parametrize("form", ["simplenn", "dagnn"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_epoch_tells_the_classes_apart(tmp_path, kind, form, solver):
    x, labels, filters, biases = data()
    net = network(kind, form, filters, biases)

    def get_batch(indexes, mode, epoch):
        return Batch({"input": kind.array(x[indexes]), "label": kind.array(labels[indexes])})

    options = TrainOptions(
        exp_dir=tmp_path, continue_=False, batch_size=BATCH, num_epochs=1, solver=solver()
    )
    net, state = train_dag(net, get_batch, range(2 * EACH), [0], options=options)
    figures = state.stats["train"][0]
    assert figures["top1err"] < TOP1ERR and figures["objective"] < OBJECTIVE
    assert all(p.value.dtype == kind.dtype for p in net.params)
