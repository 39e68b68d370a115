"""Tests of layers.scale."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError, Size
from errors import prove
from layers import Scale
from suite import check_derivatives, over_kinds

# features, multipliers, biases
SHAPES = [
    ((2, 3, 4, 5), (1, 3, 1, 1), (1, 3, 1, 1)),
    ((2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 4, 4)),
    ((2, 3, 4, 5), (2, 1, 4, 5), (1, 3, 1, 5)),  # biases of another shape
    ((3, 2, 1, 1), (1, 2, 4, 3), (1, 1, 4, 1)),  # features that are repeated
    ((2, 3, 4, 5), (3, 1, 1), (5,)),
    ((2, 3, 4, 5), (1, 1, 1, 1), (1, 3, 4, 5)),
]


def arrays(rng, shapes):
    return [rng.standard_normal(s) for s in shapes]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_gradient(rng, shapes, inputs):
    given = arrays(rng, shapes)
    prove(Scale(), given[:inputs], given[inputs:])


@pytest.mark.parametrize("shapes", SHAPES)
def test_gradient_without_bias(rng, shapes):
    x, a, _ = arrays(rng, shapes)
    prove(Scale(has_bias=False), [x], [a])


@over_kinds
@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("dim", [2, 3, 1, 0])
def test_suite_scale(rng, kind, dim, inputs):
    """MatConvNet's test class Scale, ``data_and_parameters`` and ``data_only``."""
    x, a, b = arrays(rng, [(2, 3, 15, 14)] * 3)
    a, b = a.sum(axis=dim, keepdims=True), b.sum(axis=dim, keepdims=True)
    given = [x, a, b]
    check_derivatives(kind, Scale(size=a.shape), given[:inputs], given[inputs:])


def test_a_scale_worked_out_by_hand():
    x = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    a = np.array([10.0, 100.0]).reshape(1, 2, 1, 1)
    b = np.array([1.0, 5.0]).reshape(1, 1, 1, 2)
    layer = Scale()
    (y,), saved = layer.forward([x], [a, b], Context())
    assert y.tolist() == [[[[11, 25]], [[301, 405]]]]
    (der_x,), (der_a, der_b) = layer.backward([x], [a, b], [np.ones_like(y)], saved, Context())
    assert der_x.tolist() == [[[[10, 10]], [[100, 100]]]]
    assert der_a.ravel().tolist() == [3, 7] and der_b.ravel().tolist() == [2, 2]


def test_sizes_of_what_is_repeated_are_the_longest(rng):
    for shapes in SHAPES:
        x, a, b = arrays(rng, shapes)
        (y,), _ = Scale().forward([x, a, b], [], Context())
        padded = [Size(*(1,) * (4 - len(s)), *s) for s in shapes]
        assert tuple(Scale().get_output_sizes(padded)[0]) == y.shape
    with_size = Scale(size=(1, 2, 4, 3), has_bias=False)
    assert with_size.get_output_sizes([Size(3, 2, 1, np.nan)])[0][:3] == (3, 2, 4)
    unknown = Scale().get_output_sizes([Size(np.nan, 3, 4, 5), Size(1, 3, 1, 1)])[0]
    assert np.isnan(unknown.n) and unknown[1:] == (3, 4, 5)


def test_it_starts_as_the_identity(rng):
    net = DagNN()
    net.add_layer("scale", Scale(size=(1, 3, 1, 1)), "x", "y", ["a", "b"])
    net.init_params()
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    net.eval({"x": x})
    np.testing.assert_array_equal(net.get_var("y").value, x)
    assert Scale().init_params(rng) == []
    (multipliers,) = Scale(size=(3, 1, 1), has_bias=False).init_params(rng)
    assert multipliers.shape == (1, 3, 1, 1)


def test_what_does_not_fit_is_refused(rng):
    x, a, b = arrays(rng, SHAPES[0])
    with pytest.raises(ShapeError, match="3 in all"):
        Scale().forward([x], [a], Context())
    with pytest.raises(ShapeError, match="2 in all"):
        Scale(has_bias=False).forward([x, a, b], [], Context())
    with pytest.raises(ShapeError, match="axes of length 1") as error:
        Scale().forward([x], [a, b[:, :2]], Context())
    assert error.value.param == 1
    with pytest.raises(ShapeError, match="axes of length 1") as error:
        Scale().forward([x, a[:, :2]], [b], Context())
    assert error.value.input == 1
    with pytest.raises(ShapeError, match="axes of length 1"):
        Scale(has_bias=False).forward([x], [np.ones((2, 2, 3, 4, 5))], Context())
    with pytest.raises(ValueError, match="size"):
        Scale(size=(0, 3))
