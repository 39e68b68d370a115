"""MatConvNet's test class nndagnn: which values and derivatives a DagNN keeps."""

import numpy as np
import pytest

from dagnet import DagNN, get_array_module
from lenet import NUM_CLASSES, lenet_layers
from suite import over_kinds

# As there: random numbers of this deviation, twenty images of 32 x 32 pixels.
RANGE, NUM_IMAGES, SIDE = 128, 20, 32
INPUTS, OUTPUT, NUM_LAYERS = {"x0", "label"}, "x8", 8


@pytest.fixture
def make(rng):
    """A function that makes the network of a kind, and its inputs."""

    def network(kind):
        net = DagNN.from_simple_nn(lenet_layers(kind, RANGE, rng))
        net.move(kind.device)
        x = kind.array(RANGE * rng.standard_normal((NUM_IMAGES, 1, SIDE, SIDE)))
        labels = kind.array(rng.integers(1, NUM_CLASSES + 1, NUM_IMAGES))
        assert set(net.get_inputs()) == INPUTS and net.get_outputs() == [OUTPUT]
        return net, {"x0": x, "label": labels}

    return network


def kept(net, what="value"):
    return {v.name for v in net.vars if getattr(v, what) is not None}


@over_kinds
def test_forward_keeps_the_output_and_backward_the_inputs(make, kind):
    net, inputs = make(kind)
    net.eval(inputs)
    assert kept(net) == {OUTPUT}
    net.reset()
    net.eval(inputs, {OUTPUT: 1})
    assert kept(net) == INPUTS
    for parameter in net.params:
        assert parameter.der.dtype == kind.dtype and parameter.der.shape == parameter.value.shape
        xp = get_array_module(parameter.der)
        assert xp.isfinite(parameter.der).all() and xp.any(parameter.der != 0)


@over_kinds
def test_without_conserve_memory_everything_is_kept(make, kind):
    net, inputs = make(kind)
    net.conserve_memory = False
    everything = {v.name for v in net.vars}
    net.eval(inputs)
    assert kept(net) == everything and len(everything) == NUM_LAYERS + 2
    net.reset()
    net.eval(inputs, {OUTPUT: 1})
    assert kept(net) == everything
    # The labels are constants; of the image there is a derivative, as of everything computed.
    assert kept(net, "der") == everything - {"label"}


@over_kinds
def test_a_precious_variable_is_kept(make, kind):
    net, inputs = make(kind)
    (name,) = net.layers[2].outputs
    net.get_var(name).precious = True
    net.eval(inputs)
    assert kept(net) == {OUTPUT, name}
    net.eval(inputs, {OUTPUT: 1})
    assert kept(net) == INPUTS | {name} and name in kept(net, "der")


@over_kinds
def test_every_variable_has_receptive_fields_in_every_other(make, kind):
    net, _ = make(kind)
    for variable in net.vars:
        fields = net.get_var_receptive_fields(variable.name)
        assert set(fields) == {v.name for v in net.vars}
    # Behind 5, 2, 5, 2, 4: 5 + 1 + 2 * 4 + 2 * 1 + 4 * 3 cells, with a stride of 2 * 2.
    field = net.get_var_receptive_fields("x0")["x5"]
    assert (field.size, field.stride) == ((28, 28), (4, 4))
    # The first window's centre lies 13.5 cells behind the first cell, which is 1.
    assert field.offset == (14.5, 14.5)
    assert np.isnan(net.get_var_sizes({})["x5"].h)
