"""Tests of layers.elefusion."""

import numpy as np
import pytest

from dagnet import POINT, Context, ShapeError, Size, relative_error
from errors import prove
from golden import assert_passes, golden
from layers import Elefusion, elefusion, elefusion_backward, imresize

# (N, H, W) of the last map, and sizes of the others.
SAME = [((1, 5, 5), 2), ((3, 4, 5), 2), ((2, 3, 4), 3), ((3, 1, 6), 4)]
RESIZED = [((1, 6, 6), (3, 3)), ((3, 5, 4), (7, 9)), ((2, 4, 7), (4, 5)), ((2, 7, 3), (5, 6))]


@pytest.mark.parametrize("size, count", SAME)
def test_gradient(rng, size, count):
    n, h, w = size
    maps = [rng.standard_normal((n, 1, h, w)) for _ in range(count)]
    weights = [rng.standard_normal((h, w)) for _ in range(count - 1)]
    prove(Elefusion(num_maps=count), maps, weights)


@pytest.mark.parametrize("size, other", RESIZED)
def test_gradient_with_maps_of_other_sizes(rng, size, other):
    n, h, w = size
    maps = [rng.standard_normal((n, 1, *s)) for s in (other, (h, w), (h, w))]
    weights = [rng.standard_normal((h, w)) for _ in range(2)]
    prove(Elefusion(num_maps=3), maps, weights)
    prove(Elefusion(), maps[:2], weights[:1])


@golden("dsiam_sumw", lambda name: name.startswith("sw"))
def test_equals_sum_w(case):
    assert_passes(case)


@golden("dsiam_sumw", lambda name: name.startswith("sw_17"))
def test_the_derivatives_that_sum_w_handed_back_were_unweighted(case):
    """The original's formulas give the golden file's derivatives; the exact ones differ from them
    by what the errata say: the weights of both maps, and the sum over the batch for its mean."""
    maps, weight = [case.tensor("x1"), case.tensor("x2")], case.tensor("w")[0, 0]
    dzdy = case.tensor("dzdy")
    assert_passes(case)

    layer = Elefusion()
    _, saved = layer.forward(maps, [weight], Context())
    ders, (der_weight,) = layer.backward(maps, [weight], [dzdy], saved, Context())
    dx1, dx2, dw = (case.tensor(name) for name in ("dx1", "dx2", "dw"))
    assert relative_error(weight * dx1, ders[0]) < case.tolerance
    assert relative_error((1 - weight) * dx2, ders[1]) < case.tolerance
    assert relative_error(len(dzdy) * dw[0, 0], der_weight) < case.tolerance
    # Most of these weights are 1: the second map should get next to nothing, and got it all.
    assert np.abs(dx2).max() > 10 * np.abs(ders[1]).max()


def test_the_weights_add_up_to_one_whatever_is_stored(rng):
    response = rng.standard_normal((2, 1, 4, 5))
    weights = [10 * rng.standard_normal((4, 5)) for _ in range(2)]
    assert np.allclose(elefusion([response] * 3, weights), response, atol=1e-13)


def test_each_weight_picks_its_map(rng):
    maps = [rng.standard_normal((1, 1, 3, 3)) for _ in range(3)]
    one, none = np.ones((3, 3)), np.zeros((3, 3))
    assert np.allclose(elefusion(maps, [one, none]), maps[0])
    assert np.allclose(elefusion(maps, [none, one]), maps[1])
    assert np.array_equal(elefusion(maps, [none, none]), maps[2])


def test_moving_a_weight_moves_the_last_one_the_other_way(rng):
    """The derivative by a stored map is that of the pair: S^l gains what S^L loses."""
    maps = [rng.standard_normal((2, 1, 3, 4)) for _ in range(2)]
    der = rng.standard_normal((2, 1, 3, 4))
    der_maps, (der_weight,) = elefusion_backward(maps, [np.full((3, 4), 0.8)], der)
    assert np.allclose(der_maps[0] + der_maps[1], der)
    assert np.allclose(der_weight, ((maps[0] - maps[1]) * der).sum(axis=(0, 1)))


def test_a_map_of_another_size_is_resized_to_the_last_one_s(rng):
    small, last = rng.standard_normal((2, 1, 9, 9)), rng.standard_normal((2, 1, 17, 17))
    (y,), _ = Elefusion().forward([small, last], [np.full((17, 17), 0.3)], Context())
    assert np.allclose(y, 0.3 * imresize(small, size=(17, 17)) + 0.7 * last)


def test_single_precision_stays_single(rng):
    maps = [rng.standard_normal((1, 1, 3, 3)).astype(np.float32) for _ in range(2)]
    weight = rng.standard_normal((3, 3))
    (y,), _ = Elefusion().forward(maps, [weight], Context())
    ders, (der_weight,) = Elefusion().backward(maps, [weight], [y], None, Context())
    assert y.dtype == ders[0].dtype == ders[1].dtype == np.float32
    assert der_weight.dtype == weight.dtype


def test_the_weights_do_not_decay():
    assert Elefusion(num_maps=3).param_attributes() == [{"weight_decay": 0.0}] * 2


def test_sizes_are_those_of_the_last_map():
    sizes = [Size(1, 1, 9, 9), Size(1, 1, 17, 17)]
    assert Elefusion().get_output_sizes(sizes) == [sizes[1]]
    assert Elefusion().get_receptive_fields(2, 1) == [[POINT], [POINT]]


def test_bad_calls_are_refused():
    x, w = np.ones((1, 1, 4, 4)), np.ones((4, 4))

    def run(inputs, params, **settings):
        Elefusion(**settings).forward(inputs, params, Context())

    with pytest.raises(ValueError, match="num_maps"):
        Elefusion(num_maps=1)
    with pytest.raises(ShapeError, match="expected 3 maps and 2 parameters"):
        run([x, x], [w], num_maps=3)
    with pytest.raises(ShapeError, match="N and C of the last input") as caught:
        run([np.ones((2, 1, 4, 4)), x], [w])
    assert caught.value.input == 0
    with pytest.raises(ShapeError, match="last map's size") as caught:
        run([np.ones((1, 1, 5, 5)), x], [np.ones((5, 5))])
    assert caught.value.param == 0
