"""Tests of layers.sum."""

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from layers import Sum


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradient(rng, count):
    prove(Sum(), [rng.standard_normal((2, 3, 5, 4)) for _ in range(count)])


def test_a_sum_worked_out_by_hand_leaves_its_inputs_alone():
    inputs = [np.full((1, 1, 1, 2), v) for v in (1.0, 10.0, 100.0)]
    (y,), _ = Sum().forward(inputs, [], Context())
    assert y.tolist() == [[[[111, 111]]]]
    assert [x[0, 0, 0, 0] for x in inputs] == [1, 10, 100]


def test_the_result_has_the_dtype_of_the_first():
    a, b = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2))
    (y,), _ = Sum().forward([a, b, b], [], Context())
    assert y.dtype == np.float32


def test_other_shapes_are_refused(rng):
    a = rng.standard_normal((2, 3, 4, 5))
    with pytest.raises(ShapeError, match="shape of the first") as error:
        Sum().forward([a, a, a[:, :1]], [], Context())
    assert error.value.input == 2


def test_sizes_are_what_any_input_tells():
    sizes = [Size(np.nan, 3, 4, np.nan), Size(2, 3, np.nan, 5)]
    assert Sum().get_output_sizes(sizes) == [Size(2, 3, 4, 5)]
    assert len(Sum().get_receptive_fields(3, 1)) == 3
