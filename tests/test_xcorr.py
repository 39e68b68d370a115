"""Tests of layers.xcorr."""

import math

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import XCorr, xcorr, xcorr_backward
from suite import check_derivatives, over_kinds

# (N_z, C, h, w), (N, H, W)
SHAPES = [
    ((1, 3, 3, 3), (1, 7, 7)),
    ((3, 2, 2, 3), (3, 5, 6)),
    ((3, 2, 4, 1), (3, 5, 4)),
    ((1, 2, 2, 2), (3, 4, 3)),  # one template for a batch
    ((2, 3, 1, 1), (2, 3, 2)),
    ((2, 2, 3, 4), (2, 3, 4)),  # as large as the search region
    ((1, 2, 3, 1), (1, 6, 1)),  # vectors
    ((1, 2, 1, 2), (1, 1, 5)),
]


def by_hand(z, x):
    """The definition, one cell after the other."""
    n, _, height, width = x.shape
    h, w = z.shape[2:]
    y = np.zeros((n, 1, height - h + 1, width - w + 1))
    for s in range(n):
        template = z[s if len(z) == n else 0]
        for i, j in np.ndindex(*y.shape[2:]):
            y[s, 0, i, j] = (template * x[s, :, i : i + h, j : j + w]).sum()
    return y


@pytest.mark.parametrize("z_shape, x_shape", SHAPES)
def test_gradient(rng, z_shape, x_shape):
    z = rng.standard_normal(z_shape)
    x = rng.standard_normal((x_shape[0], z_shape[1], *x_shape[1:]))
    prove(XCorr(), [z, x])
    size = (x_shape[1] - z_shape[2] + 1, x_shape[2] - z_shape[3] + 1)
    prove(XCorr(weight=rng.standard_normal(size)), [z, x])


@pytest.mark.parametrize("z_shape, x_shape", SHAPES)
def test_gradient_with_a_number_that_is_added(rng, z_shape, x_shape):
    z = rng.standard_normal(z_shape)
    x = rng.standard_normal((x_shape[0], z_shape[1], *x_shape[1:]))
    size = (x_shape[1] - z_shape[2] + 1, x_shape[2] - z_shape[3] + 1)
    for numbers in {1, x_shape[0]}:
        bias = rng.standard_normal((numbers, 1, 1, 1))
        prove(XCorr(bias=True), [z, x, bias])
        prove(XCorr(bias=True, weight=rng.standard_normal(size)), [z, x, bias])


@over_kinds
@pytest.mark.parametrize("numbers", [1, 3])
def test_derivatives_with_a_number_in_both_precisions_and_on_every_device(rng, kind, numbers):
    inputs = [rng.standard_normal(s) for s in ((3, 2, 3, 4), (3, 2, 7, 6), (numbers, 1, 1, 1))]
    check_derivatives(kind, XCorr(bias=True), inputs)


def test_a_number_for_each_sample_is_added_to_its_map(rng):
    z, x = rng.standard_normal((3, 2, 2, 3)), rng.standard_normal((3, 2, 5, 6))
    bias = np.array([1.0, -2.0, 0.5]).reshape(3, 1, 1, 1)
    (y,), _ = XCorr(bias=True).forward([z, x, bias], [], Context())
    np.testing.assert_allclose(y, by_hand(z, x) + bias, atol=1e-13)
    single = [a.astype(np.float32) for a in (z, x)]
    (y,), saved = XCorr(bias=True).forward([*single, bias], [], Context())
    assert y.dtype == np.float32
    ders, _ = XCorr(bias=True).backward([*single, bias], [], [y], saved, Context())
    assert [d.dtype for d in ders] == [np.float32, np.float32, np.float64]


@pytest.mark.parametrize(
    "bias, shapes, place, message",
    [
        (True, [], None, "with bias expected 3 inputs"),
        (False, [(1, 1, 1, 1)], None, "without bias expected 2 inputs"),
        (True, [(2, 1, 1, 1)], 2, "one number for all samples or for each"),
        (True, [(3, 1, 5, 5)], 2, "one number for all samples or for each"),
        (True, [(3,)], 2, "one number for all samples or for each"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(bias, shapes, place, message):
    inputs = [np.zeros((3, 3, 3, 3)), np.zeros((3, 3, 7, 7)), *map(np.zeros, shapes)]
    with pytest.raises(ShapeError, match=message) as caught:
        XCorr(bias=bias).forward(inputs, [], Context())
    assert caught.value.input == place


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-13)])
@pytest.mark.parametrize("z_shape, x_shape", SHAPES)
def test_is_the_sum_over_the_window_of_each_cell(rng, z_shape, x_shape, dtype, tolerance):
    z = rng.standard_normal(z_shape).astype(dtype)
    x = rng.standard_normal((x_shape[0], z_shape[1], *x_shape[1:])).astype(dtype)
    y = xcorr(z, x)
    assert y.dtype == dtype
    assert np.abs(y - by_hand(z.astype(float), x.astype(float))).max() < tolerance * 10
    assert all(d.dtype == dtype for d in xcorr_backward(z, x, y))


@golden("siamfc_xcorr")
def test_equals_the_original(case):
    assert_passes(case)


@golden("siamfc_xcorr_real")
def test_equals_the_original_at_the_size_of_siamfc(case):
    assert_passes(case)


def test_one_template_for_a_batch_is_its_copies(rng):
    z, x = rng.standard_normal((1, 4, 3, 3)), rng.standard_normal((3, 4, 6, 6))
    copies = np.repeat(z, 3, axis=0)
    assert np.allclose(xcorr(z, x), xcorr(copies, x), atol=1e-13)
    der = rng.standard_normal((3, 1, 4, 4))
    dz, dx = xcorr_backward(z, x, der)
    dz_copies, dx_copies = xcorr_backward(copies, x, der)
    assert np.allclose(dz, dz_copies.sum(axis=0, keepdims=True))
    assert np.allclose(dx, dx_copies)


def test_the_peak_lies_where_the_template_was_cut(rng):
    x = rng.standard_normal((1, 8, 20, 21))
    y = xcorr(x[:, :, 5:11, 9:15], x)
    assert np.unravel_index(y.argmax(), y.shape)[2:] == (5, 9)


def test_sizes_are_those_of_the_output_and_the_field_is_the_whole_plane():
    z, x = np.zeros((2, 4, 3, 2)), np.zeros((2, 4, 8, 9))
    (y,), _ = XCorr().forward([z, x], [], Context())
    assert XCorr().get_output_sizes([Size(*z.shape), Size(*x.shape)]) == [Size(*y.shape)]
    fields = XCorr().get_receptive_fields(2, 1)
    assert [f[0].size for f in fields] == [(math.inf, math.inf)] * 2
    sizes = [Size(*z.shape), Size(*x.shape), Size(2, 1, 1, 1)]
    assert XCorr(bias=True).get_output_sizes(sizes) == [Size(*y.shape)]
    assert len(XCorr(bias=True).get_receptive_fields(3, 1)) == 3


def test_settings_of_saved_siamfc_networks_are_accepted():
    layer = XCorr(
        opts=("cuDNN",),
        expect=None,
        visualization_active=0,
        visualization_grid_sz=8,
        weight=np.zeros((0, 0)),
    )
    assert layer.weight is None
    assert layer.save()["opts"] == ("cuDNN",)


@pytest.mark.parametrize(
    "z_shape, x_shape, place, message",
    [
        ((1, 3, 3, 3), (1, 2, 7, 7), 1, "same channels"),
        ((2, 3, 3, 3), (3, 3, 7, 7), 0, "one template, or one for each"),
        ((1, 3, 8, 3), (1, 3, 7, 7), 0, "must not be larger"),
        ((3, 3, 3), (1, 3, 7, 7), 0, "N, C, H, W"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(z_shape, x_shape, place, message):
    with pytest.raises(ShapeError, match=message) as caught:
        XCorr().forward([np.zeros(z_shape), np.zeros(x_shape)], [], Context())
    assert caught.value.input == place


def test_a_weight_of_another_size_is_refused():
    inputs = [np.zeros((1, 3, 3, 3)), np.zeros((1, 3, 7, 7))]
    with pytest.raises(ShapeError, match="weight"):
        XCorr(weight=np.ones((4, 5))).forward(inputs, [], Context())
    with pytest.raises(ValueError, match="weight"):
        XCorr(weight=np.ones(5))


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_derivatives_that_nobody_reads_are_not_computed(rng, needs):
    z, x = rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((2, 3, 5, 4))
    (y,), saved = XCorr().forward([z, x], [], Context())
    both, _ = XCorr().backward([z, x], [], [y], saved, Context())
    ders, _ = XCorr().backward([z, x], [], [y], saved, Context(needs=needs))
    for need, der, expected in zip(needs, ders, both):
        assert np.array_equal(der, expected) if need else der is None
