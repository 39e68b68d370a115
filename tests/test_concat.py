"""Tests of layers.concat."""

import numpy as np
import pytest

from dagnet import Context, DagNN, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import Concat, concat, concat_backward
from suite import check_derivatives, over_kinds


@pytest.mark.parametrize("dim", range(4))
def test_gradient(rng, dim):
    shapes = [[2, 3, 4, 5] for _ in range(3)]
    for shape, length in zip(shapes, (3, 1, 2)):
        shape[dim] = length
    prove(Concat(dim=dim), [rng.standard_normal(s) for s in shapes])


@over_kinds
@pytest.mark.parametrize("dim", [2, 3, 1])
def test_suite_nnconcat(rng, kind, dim):
    """MatConvNet's test class nnconcat, ``basic`` and ``by_size``."""
    arrays = []
    for length in (3, 7, 2):
        shape = [3, 10, 4, 5]
        shape[dim] = length
        arrays.append(rng.standard_normal(shape))
    check_derivatives(kind, Concat(dim=dim), arrays)
    y = concat([kind.array(a) for a in arrays], dim)
    assert y.shape[dim] == 12
    parts = concat_backward(y, [3, 7, 2], dim)
    assert [p.shape for p in parts] == [a.shape for a in arrays]


def test_channels_are_joined_unless_told_otherwise(rng):
    a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 1, 4, 5))
    (y,), _ = Concat().forward([a, b], [], Context())
    np.testing.assert_array_equal(y[:, :3], a)
    np.testing.assert_array_equal(y[:, 3:], b)


def test_the_result_has_the_dtype_of_the_first():
    a, b = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2))
    assert concat([a, b]).dtype == np.float32


def test_backward_needs_no_values(rng):
    a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 1, 4, 5))
    layer = Concat()
    (y,), saved = layer.forward([a, b], [], Context())
    ders, _ = layer.backward([None, None], [], [y], saved, Context())
    np.testing.assert_array_equal(ders[1], b)


def test_sizes_and_receptive_fields():
    sizes = [Size(2, 3, 4, 5), Size(np.nan, 6, 4, np.nan)]
    assert Concat().get_output_sizes(sizes) == [Size(2, 9, 4, 5)]
    assert not Concat(dim=3).get_output_sizes(sizes)[0].known
    fields = Concat().get_receptive_fields(2, 1)
    assert len(fields) == 2 and fields[0][0].size == (1, 1)
    assert not Concat(dim=2).get_receptive_fields(2, 1)[1][0].known


def test_a_variable_that_is_joined_with_itself_gets_both_derivatives(rng):
    net = DagNN()
    net.add_layer("join", Concat(), ["x", "x"], "y")
    x = rng.standard_normal((1, 2, 3, 3))
    net.get_var("x").precious = True
    der = rng.standard_normal((1, 4, 3, 3))
    net.eval({"x": x}, {"y": der})
    np.testing.assert_allclose(net.get_var("x").der, der[:, :2] + der[:, 2:])


def test_arrays_that_do_not_fit_are_refused(rng):
    a = rng.standard_normal((2, 3, 4, 5))
    with pytest.raises(ShapeError, match="differ in C alone") as error:
        concat([a, a[:, :, 1:]])
    assert error.value.input == 1
    with pytest.raises(ShapeError, match="N, C, H, W"):
        concat([a[0], a[0]])
    with pytest.raises(ShapeError, match="4 long in C"):
        concat_backward(a, [3, 1])
    with pytest.raises(ValueError, match="dim"):
        Concat(dim=4)


@golden("layers_pure_m", lambda name: name.startswith("concat"))
def test_equals_vl_nnconcat(case):
    assert_passes(case)
