"""Tests of layers.conv_transpose."""

import numpy as np
import pytest

from dagnet import Context, ShapeError, Size
from errors import prove
from golden import assert_passes, golden
from layers import ConvTranspose, conv, conv_transpose, conv_transpose_backward

# x, out / groups, kernel, upsample, crop, groups
GRID = [
    ((2, 3, 4, 5), 2, (3, 3), 1, 0, 1),
    ((2, 3, 4, 3), 2, (4, 3), 2, (1, 0, 2, 1), 1),
    ((2, 4, 3, 3), 3, (3, 2), (2, 3), (0, 1, 1, 0), 2),
    ((1, 6, 4, 2), 1, (2, 5), (3, 1), 1, 3),
    ((3, 2, 1, 1), 2, (4, 4), 2, (1, 1, 0, 2), 1),
    ((2, 2, 5, 4), 2, (1, 1), 2, 0, 1),  # the filters leave gaps
    ((2, 12, 9, 8), 8, (4, 4), 2, 1, 4),
]


def arrays(rng, x_shape, planes, kernel, groups):
    return (
        rng.standard_normal(x_shape),
        rng.standard_normal((x_shape[1], planes, *kernel)),
        rng.standard_normal(planes * groups),
    )


def brute(x, f, b, upsample, crop, groups):
    """Each cell of the input's contribution, one at a time."""
    n, c, h, w = x.shape
    _, planes, kh, kw = f.shape
    (uv, uh), (top, bottom, left, right) = upsample, crop
    y = np.zeros((n, planes * groups, uv * (h - 1) + kh, uh * (w - 1) + kw))
    for s, ch, p, q, k, i, j in np.ndindex(n, c, h, w, planes, kh, kw):
        out = (ch // (c // groups)) * planes + k
        y[s, out, p * uv + i, q * uh + j] += f[ch, k, i, j] * x[s, ch, p, q]
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right] + b[:, None, None]


@pytest.mark.parametrize(("shape", "planes", "kernel", "upsample", "crop", "groups"), GRID)
def test_gradient(rng, shape, planes, kernel, upsample, crop, groups):
    x, f, b = arrays(rng, shape, planes, kernel, groups)
    layer = ConvTranspose(size=f.shape, upsample=upsample, crop=crop, num_groups=groups)
    prove(layer, [x], [f, b])


def test_gradient_without_bias(rng):
    x, f, _ = arrays(rng, *GRID[1][:3], 1)
    prove(ConvTranspose(size=f.shape, has_bias=False, upsample=2), [x], [f])


@pytest.mark.parametrize(("shape", "planes", "kernel", "upsample", "crop", "groups"), GRID[:-1])
def test_equals_the_sum_over_cells_and_tells_its_size(
    rng, shape, planes, kernel, upsample, crop, groups
):
    x, f, b = arrays(rng, shape, planes, kernel, groups)
    layer = ConvTranspose(size=f.shape, upsample=upsample, crop=crop, num_groups=groups)
    (y,), _ = layer.forward([x], [f, b], Context())
    expected = brute(x, f, b, layer.upsample, layer.crop, groups)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    assert tuple(layer.get_output_sizes([Size(*shape)])[0]) == y.shape


def test_it_is_the_adjoint_of_the_convolution(rng):
    v = rng.standard_normal((2, 6, 8, 10))  # no row or column is left over by the stride
    f = rng.standard_normal((4, 3, 3, 4))  # two groups
    how = {"stride": (2, 3), "pad": (1, 0, 2, 1)}
    u = conv(v, f, **how)
    x = rng.standard_normal(u.shape)
    y = conv_transpose(x, f, upsample=(2, 3), crop=(1, 0, 2, 1), groups=2)
    np.testing.assert_allclose(np.vdot(u, x), np.vdot(v, y))


def test_bilinear_upsampling_worked_out_by_hand():
    f = np.array([0.5, 1.0, 0.5])
    f = np.outer(f, f)[None, None]
    x = np.array([[[[1.0, 3.0], [5.0, 7.0]]]])
    y = conv_transpose(x, f, upsample=(2, 2), crop=(1, 1, 1, 1))
    assert y.tolist() == [[[[1, 2, 3], [3, 4, 5], [5, 6, 7]]]]


def test_single_precision_stays_single(rng):
    x, f, b = arrays(rng, (2, 3, 4, 5), 2, (3, 3), 1)
    x = x.astype(np.float32)
    y = conv_transpose(x, f, b)
    ders = conv_transpose_backward(x, f, b, y)
    assert {a.dtype for a in (y, *ders)} == {np.dtype(np.float32)}


def test_a_derivative_that_nobody_reads_is_not_computed(rng):
    x, f, b = arrays(rng, (2, 3, 4, 5), 2, (3, 3), 1)
    layer = ConvTranspose(size=f.shape)
    (y,), saved = layer.forward([x], [f, b], Context())
    (der_x,), _ = layer.backward([x], [f, b], [y], saved, Context(needs=(False,)))
    assert der_x is None


def test_shapes_that_do_not_fit_are_refused(rng):
    x, f, b = arrays(rng, (2, 4, 4, 5), 2, (3, 3), 1)
    with pytest.raises(ShapeError, match="N, C, H, W"):
        conv_transpose(x[0], f, b)
    with pytest.raises(ShapeError, match="4 channels, the filters are for 3") as error:
        conv_transpose(x, f[:3], b)
    assert error.value.input == 0
    with pytest.raises(ShapeError, match="expected filters") as error:
        conv_transpose(x, f[0], b)
    assert error.value.param == 0
    with pytest.raises(ShapeError, match="3 groups do not divide"):
        conv_transpose(x, f, b, groups=3)
    with pytest.raises(ShapeError, match=r"bias of shape \(4,\)") as error:
        conv_transpose(x, f, b, groups=2)
    assert error.value.param == 1
    with pytest.raises(ShapeError, match=r"leaves nothing of an output of 6x7"):
        conv_transpose(x, f, b, crop=(3, 3, 0, 0))
    with pytest.raises(ShapeError, match="derivative by the output"):
        conv_transpose_backward(x, f, b, np.zeros((2, 2, 5, 5)))
    with pytest.raises(ShapeError, match="has_bias"):
        ConvTranspose(size=f.shape).forward([x], [f], Context())


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"size": (3, 3)}, {"upsample": 0}, {"crop": -1}, {"crop": (1, 2, 3)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ConvTranspose(**wrong)
    with pytest.raises(ValueError, match="num_groups"):
        ConvTranspose(num_groups=0)


def test_short_forms_of_settings():
    layer = ConvTranspose(upsample=2, crop=(1, 3))
    assert layer.upsample == (2, 2) and layer.crop == (1, 1, 3, 3)


def test_receptive_field_covers_exactly_the_cells_that_are_seen(rng):
    """Inputs that change an output cell are those within half the field's size of its centre."""
    f = np.ones((1, 1, 5, 4))
    layer = ConvTranspose(size=f.shape, has_bias=False, upsample=(2, 3), crop=(2, 1, 1, 2))
    ((field,),) = layer.get_receptive_fields(1, 1)
    assert field.stride == (1 / 2, 1 / 3)
    x = np.zeros((1, 1, 7, 6))
    for axis, length in enumerate(x.shape[2:]):
        seen = np.zeros((length, 40))
        for k in range(length):
            x[:] = 0
            x[(0, 0, k, 0) if axis == 0 else (0, 0, 0, k)] = 1
            (y,), _ = layer.forward([x], [f], Context())
            profile = y[0, 0].any(axis=1 - axis)
            seen[k, : len(profile)] = profile
        for p in range(len(profile)):
            center = field.offset[axis] + field.stride[axis] * p
            cells = np.arange(1, length + 1)
            inside = np.abs(cells - center) <= (field.size[axis] - 1) / 2 + 1e-9
            assert seen[:, p].astype(bool).tolist() == inside.tolist()


def test_geometry_of_a_layer_without_a_size_is_not_known():
    layer = ConvTranspose()
    assert not layer.get_output_sizes([Size(1, 2, 3, 4)])[0].known
    assert not layer.get_receptive_fields(1, 1)[0][0].known


def test_initial_filters(rng):
    layer = ConvTranspose(size=(32, 16, 5, 5), num_groups=2)
    filters, bias = layer.init_params(rng)
    assert filters.shape == (32, 16, 5, 5) and filters.dtype == np.float32
    assert filters.std() == pytest.approx(np.sqrt(2 / (32 * 25)), rel=0.02)
    assert bias.shape == (32,) and not bias.any()
    assert len(ConvTranspose(size=(2, 2, 3, 3), has_bias=False).init_params(rng)) == 1


@golden("layers_vl_nnconvt")
def test_equals_vl_nnconvt(case):
    assert_passes(case)
