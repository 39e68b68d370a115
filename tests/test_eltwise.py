"""Tests of layers.eltwise."""

import numpy as np
import pytest

from dagnet import POINT, Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import Eltwise, background_mask
from layers.window import hamming, hann

SHAPES = [(1, 2, 4, 4), (3, 1, 5, 4), (2, 3, 3, 6), (2, 2, 1, 5)]


def run(layer, *inputs):
    return layer.forward(list(inputs), [], Context())[0][0]


@pytest.mark.parametrize("operation", ["prod", "sum", "max"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient(rng, shape, operation):
    a, b = rng.standard_normal((2, *shape))
    prove(Eltwise(operation=operation), [a, b])
    for places in (slice(2, None), slice(1, None), slice(0, None)):
        constant = rng.standard_normal(shape[places])
        prove(Eltwise(operation=operation, constant=constant), [a])
    prove(Eltwise(operation=operation, constant=rng.standard_normal((1, 1, *shape[2:]))), [a])


def test_values_worked_out_by_hand():
    a, b = np.array([[1.0, -2.0]]), np.array([[3.0, -4.0]])
    assert run(Eltwise(operation="prod"), a, b).tolist() == [[3, 8]]
    assert run(Eltwise(operation="sum"), a, b).tolist() == [[4, -6]]
    assert run(Eltwise(operation="max"), a, b).tolist() == [[3, -2]]


def test_a_tie_of_the_maximum_gives_its_derivative_to_the_first():
    a, b, der = np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 4.0]), np.array([7.0, 8.0, 9.0])
    layer = Eltwise(operation="max")
    _, saved = layer.forward([a, b], [], Context())
    ders, _ = layer.backward([None, None], [], [der], saved, Context())
    assert [d.tolist() for d in ders] == [[7, 0, 9], [0, 8, 0]]


@golden("dsiam_init", lambda name: name == "saliency")
def test_the_background_mask_is_the_public_code_s(case):
    assert_passes(case)


@golden("dsiam_sumw", lambda name: name == "mul")
def test_the_product_with_a_mask_equals_mul(case):
    assert_passes(case)


def test_the_mask_is_hamming_down_and_hann_across():
    mask = background_mask(255, 127)
    assert mask.dtype == np.float32 and mask.max() == 1
    assert np.abs(mask[:, 0]).max() == 0  # Hann is zero at its ends
    assert mask[0, 127] == pytest.approx(0.08, rel=1e-3)  # Hamming is not
    assert np.unravel_index(mask.argmax(), mask.shape) == (127, 127)


def test_windows_are_matlab_s_symmetric_ones():
    assert np.allclose(hann(5), [0, 0.5, 1, 0.5, 0])
    assert np.allclose(hamming(5), [0.08, 0.54, 1, 0.54, 0.08])
    assert hann(1).tolist() == hamming(1).tolist() == [1]


def test_the_constant_takes_the_input_s_precision(rng):
    x = rng.standard_normal((1, 1, 4, 4)).astype(np.float32)
    layer = Eltwise(constant=np.ones((4, 4)))
    y = run(layer, x)
    (der,), _ = layer.backward([None], [], [x], None, Context())
    assert y.dtype == der.dtype == np.float32


def test_the_constant_is_saved_and_moved_with_the_layer():
    layer = Eltwise(constant=[[1.0, 2.0]])
    layer.move("cpu")
    assert layer.save()["constant"].tolist() == [[1, 2]]


def test_sizes_are_those_of_the_first_input():
    size = Size(1, 2, 3, 4)
    assert Eltwise().get_output_sizes([size, size]) == [size]
    assert Eltwise().get_receptive_fields(2, 1) == [[POINT], [POINT]]


def test_bad_calls_are_refused():
    x = np.ones((1, 3, 4, 5))
    with pytest.raises(ValueError, match="operation"):
        Eltwise(operation="mean")
    with pytest.raises(ShapeError, match="same shape") as caught:
        run(Eltwise(), x, x[:, :1])
    assert caught.value.input == 1
    with pytest.raises(ShapeError, match="without the setting"):
        run(Eltwise(), x)
    with pytest.raises(ShapeError, match="with the setting"):
        run(Eltwise(constant=x), x, x)
    for shape in [(5, 4), (2, 1, 3, 4, 5), (2, 3, 4, 5)]:
        with pytest.raises(ShapeError, match="does not broadcast"):
            run(Eltwise(constant=np.ones(shape)), x)


def test_what_is_kept_for_backward_is_what_was_announced(rng):
    a, b = rng.standard_normal((2, 2, 3, 5, 4)).astype(np.float32)
    for operation in ("prod", "sum", "max"):
        layer = Eltwise(operation=operation)
        _, saved = layer.forward([a, b], [], Context())
        kept = 0 if saved is None else saved.nbytes
        assert layer.saved_bytes([Size(*a.shape)] * 2) == kept
