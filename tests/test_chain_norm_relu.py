"""Tests of layers.chain.norm_relu: batch norm and ReLU as one layer of a network on a GPU."""

import numpy as np
import pytest

from cuda_arrays import there
from dagnet import DagNN, asnumpy, relative_error
from layers import BatchNorm, Conv, ReLU, Sum
from layers.chain import find_norm_relu
from layers.kernels import choose, reference
from test_chain_recognise import surroundings

OPERATIONS = ("batch_norm_relu", "batch_norm_relu_stored")


def network(stored=False, leak=0.0):
    """Two uses of one pair of batch norm and ReLU, and a batch norm without a ReLU."""
    net = DagNN()
    moments = "stored" if stored else "batch"
    names = ["m", "b", "s"]
    for k in "12":
        net.add_layer(
            f"norm{k}", BatchNorm(num_channels=4, moments=moments), f"x{k}", f"n{k}", names
        )
        net.add_layer(f"relu{k}", ReLU(leak=leak), f"n{k}", f"r{k}")
    net.add_layer("sum", Sum(), ["r1", "r2"], "t")
    net.add_layer("norm3", BatchNorm(num_channels=4), "t", "u", ["m3", "b3", "s3"])
    net.add_layer("conv", Conv(size=(1, 4, 1, 1), has_bias=False), "u", "y", "f")
    net.init_params(np.random.default_rng(5), np.float64)
    for name in ("s", "s3"):
        net.get_param(name).value[:] = [[0.1, 0.7], [0.2, 0.8], [0.3, 0.9], [0.4, 1.1]]
    net.get_param("b").value[:] = [0.3, -0.2, 0.1, 0.5]
    return net


def test_a_batch_norm_whose_output_a_relu_alone_reads_is_found():
    net = network()
    chains = find_norm_relu(surroundings(net))
    found = [[net.layers[k].name for k in chain.layers] for chain in chains]
    assert found == [["norm1", "relu1"], ["norm2", "relu2"]]
    assert len({chain.block for chain in chains}) == 1
    assert not find_norm_relu(surroundings(net, visible=["n1"], given=["n2"]))


@pytest.mark.parametrize("mode", ["normal", "test"])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_a_network_gives_what_its_layers_give_in_turn(cuda, rng, mode, stored, leak):
    inputs = {k: rng.standard_normal((3, 4, 5, 6)) for k in ("x1", "x2")}
    der = rng.standard_normal((3, 1, 5, 6))
    results = []
    for device, plan in (("cpu", False), ("gpu", True)):
        net = network(stored, leak)
        net.mode = mode
        net.get_var("y").precious = True
        net.move(device)
        given = inputs if device == "cpu" else {k: there(x) for k, x in inputs.items()}
        net.eval(given, {"y": der if device == "cpu" else there(der)}, plan=plan)
        results.append([asnumpy(net.get_var("y").value), *[asnumpy(p.der) for p in net.params]])
    for exact, ours in zip(*results, strict=True):
        assert relative_error(ours, exact) < 1e-10


def test_the_references_are_the_kernels_in_cuda(cuda, rng):
    x, der = rng.standard_normal((2, 3, 4, 5, 6))
    multipliers, biases = rng.standard_normal((2, 4))
    moments = rng.random((4, 2)) + 0.2
    for operation, needed in zip(OPERATIONS, ((), (True,))):
        kernels = choose(operation, there(x)), reference(operation)
        assert [kernel.name for kernel in kernels] == ["cuda", "reference"]
        found = []
        for kernel, carry in zip(kernels, (there, list)):
            own, scale, shift, der_y, given = carry([x, multipliers, biases, der, moments])
            y = kernel.forward(own, scale, shift, given if needed else 1e-4, 0.1)
            ders = kernel.backward(own, scale, der_y, given, *needed, 0.1, shift)
            found.append([*(y if isinstance(y, tuple) else (y,)), *ders])
        for ours, exact in zip(*found, strict=True):
            assert relative_error(asnumpy(ours), exact) < 1e-12
