"""MatConvNet's test class nnsimplenn: the options of ``vl_simplenn``."""

import pytest

from dagnet import DagNN
from dagnet.simplenn_eval import simple_nn
from lenet import NUM_CLASSES, lenet_layers
from suite import equal, over_kinds

# As there: random numbers of deviation 1, twenty images of 32 x 32 pixels.
NUM_IMAGES, SIDE = 20, 32
LAST = 8
CONVOLUTIONS = {0, 2, 4, 6}


@pytest.fixture
def make(rng):
    """A function that makes the network of a kind, its input and its labels."""

    def network(kind):
        net = DagNN.from_simple_nn(lenet_layers(kind, 1, rng))
        net.move(kind.device)
        x = kind.array(rng.standard_normal((NUM_IMAGES, 1, SIDE, SIDE)))
        return net, x, kind.array(rng.integers(1, NUM_CLASSES + 1, NUM_IMAGES))

    return network


def kept(results, what="x"):
    return {i for i, result in enumerate(results) if getattr(result, what) is not None}


def with_parameter_derivatives(results):
    return {i for i, result in enumerate(results) if result.dzdw}


@over_kinds
def test_forward_keeps_the_output_and_backward_derivatives_by_parameters(make, kind):
    net, x, labels = make(kind)
    res = simple_nn(net, x, labels=labels, conserve_memory=True)
    assert kept(res) == {LAST} and len(res) == LAST + 1
    res = simple_nn(net, x, 1, labels=labels, conserve_memory=True)
    assert kept(res) == {0, LAST} == kept(res, "dzdx")
    assert with_parameter_derivatives(res) == CONVOLUTIONS


@over_kinds
def test_without_conserve_memory_everything_is_kept(make, kind):
    net, x, labels = make(kind)
    everything = set(range(LAST + 1))
    assert kept(simple_nn(net, x, labels=labels)) == everything
    res = simple_nn(net, x, 1, labels=labels)
    assert kept(res) == everything == kept(res, "dzdx")
    assert all(res[i].dzdx.dtype == kind.dtype for i in everything)


@over_kinds
def test_the_output_of_a_precious_layer_is_kept(make, kind):
    net, x, labels = make(kind)
    net.get_var("x3").precious = True
    res = simple_nn(net, x, labels=labels, conserve_memory=True)
    assert kept(res) == {3, LAST}
    res = simple_nn(net, x, 1, labels=labels, conserve_memory=True)
    assert kept(res) == {0, 3, LAST} == kept(res, "dzdx")


@over_kinds
def test_derivatives_go_as_deep_as_they_are_asked_for(make, kind):
    net, x, labels = make(kind)
    options = {"labels": labels, "conserve_memory": True, "back_prop_depth": 3}
    # Without effect on a forward pass.
    assert kept(simple_nn(net, x, **options)) == {LAST}
    res = simple_nn(net, x, 1, **options)
    assert kept(res) == {LAST} == kept(res, "dzdx")
    # Layers 6 to 8 run backward: one convolution.
    assert with_parameter_derivatives(res) == {6}
    whole = simple_nn(net, x, 1, labels=labels)
    equal(res[6].dzdw[0], whole[6].dzdw[0], kind)


@over_kinds
def test_forward_can_be_skipped(make, kind):
    net, x, labels = make(kind)
    res = simple_nn(net, x, 1, labels=labels)
    again = simple_nn(net, x, 1, res, labels=labels, skip_forward=True)
    for before, after in zip(res, again):
        equal(after.x, before.x, kind)
        equal(after.dzdx, before.dzdx, kind)
        for der, expected in zip(after.dzdw, before.dzdw):
            equal(der, expected, kind)
    with pytest.raises(ValueError, match="skip_forward leaves nothing to do without"):
        simple_nn(net, x, labels=labels, skip_forward=True)
    with pytest.raises(ValueError, match="skip_forward needs the values"):
        simple_nn(net, x, 1, labels=labels, skip_forward=True)
