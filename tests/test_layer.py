"""Tests of dagnet.layer: the base class, the context, and the registry."""

from dataclasses import dataclass

import numpy as np
import pytest

from dagnet import (
    POINT,
    Context,
    DagNNError,
    ElementWise,
    Layer,
    layer_class,
    register_layer,
    registered_layers,
)
from layers import Conv, ReLU
from toy_layers import Times


@dataclass(eq=False, kw_only=True)
class Plain(Layer):
    """Settings of two kinds, and nothing else."""

    rate: float = 0.5
    name: str = "a"


def test_the_base_class_has_a_harmless_answer_to_everything_but_the_mathematics():
    layer = Plain()
    assert layer.init_params(np.random.default_rng(0)) == [] == layer.param_attributes()
    assert layer.statistics() is None is layer.statistics_state()
    assert layer.differentiable_inputs(2) == (True, True)
    for nothing in (
        layer.update_statistics([], []),
        layer.load_statistics_state({}),
        layer.reset(),
        layer.move("cpu"),
    ):
        assert nothing is None
    assert layer.get_receptive_fields(2, 1)[1][0].known is False
    assert ElementWise().get_receptive_fields(1, 2) == [[POINT, POINT]]


def test_a_layer_without_mathematics_says_so():
    with pytest.raises(TypeError, match="Plain does not define forward"):
        Plain().forward([], [], Context())
    with pytest.raises(TypeError, match="Plain does not define backward"):
        Plain().backward([], [], [], None, Context())


def test_settings_are_keywords_and_unknown_ones_are_refused():
    assert Plain.setting_names() == ("rate", "name")
    assert Plain(rate=0.25).save() == {"rate": 0.25, "name": "a"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'leak'"):
        Plain(leak=0.1)
    with pytest.raises(TypeError):
        Plain(0.5)


def test_every_layer_is_its_own_and_can_stand_in_sets():
    assert Plain() != Plain() and len({Plain(), Plain()}) == 2


def test_the_context_tells_which_derivatives_are_read():
    assert Context().needs_input(3)
    context = Context(needs=(True, False))
    assert context.needs_input(0) and not context.needs_input(1)


def test_layers_are_found_by_the_name_of_their_type():
    assert layer_class("dagnn.Conv") is Conv and Conv.type_name == "dagnn.Conv"
    known = registered_layers()
    assert known["dagnn.ReLU"] is ReLU and known["test.Times"] is Times
    known.clear()
    assert layer_class("dagnn.ReLU") is ReLU
    with pytest.raises(DagNNError, match=r"no layer type 'dagnn\.Convolution' .* dagnn\.Conv,"):
        layer_class("dagnn.Convolution")


def test_a_name_is_not_taken_from_another_layer():
    with pytest.raises(DagNNError, match=r"'test\.Times' is already registered by toy_layers\."):

        @register_layer("test.Times")
        class Other(Layer):
            pass

    # Of the same name, but of another module.
    stranger = type("Times", (Layer,), {"__module__": "elsewhere"})
    with pytest.raises(DagNNError, match=r"choose another name for elsewhere\.Times"):
        register_layer("test.Times")(stranger)
    assert layer_class("test.Times") is Times


def test_a_layer_may_be_registered_again_when_its_module_is_loaded_again():
    again = type("Plain", (Plain,), {"__module__": Plain.__module__})
    register_layer("test.Plain")(Plain)
    register_layer("test.Plain")(again)
    assert layer_class("test.Plain") is again
