"""Tests of layers.conv and of its im2row kernel."""

import json
from functools import partial

import numpy as np
import pytest
from scipy.signal import correlate2d

from dagnet import Context, ShapeError, Size, layer_class
from dagnet.geometry import POINT, compose
from errors import prove
from golden import GOLDENS, assert_passes, golden, golden_cases
from layers import Conv, conv, conv_backward
from layers.kernels import conv_im2row as im2row
from layers.kernels import registered

# x, filters, stride, pad, dilate
GRID = [
    ((2, 3, 6, 5), (4, 3, 3, 2), 1, 0, 1),
    ((2, 4, 7, 8), (6, 2, 3, 3), 1, 0, 1),
    ((3, 6, 5, 6), (3, 2, 2, 3), (2, 1), (1, 0, 2, 1), 1),
    ((2, 2, 9, 8), (3, 2, 3, 2), (2, 3), (1, 2, 3, 4), (2, 3)),
    ((2, 2, 6, 7), (2, 1, 3, 3), 2, 1, 1),
    ((2, 3, 4, 5), (5, 3, 1, 1), 1, 0, 1),
    ((2, 4, 4, 5), (6, 2, 1, 1), 1, 0, 1),
    ((2, 3, 4, 5), (2, 3, 1, 1), 2, (0, 1, 1, 0), 1),
    ((3, 2, 4, 3), (5, 2, 4, 3), 1, 0, 1),
]


def arrays(rng, x_shape, f_shape, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, f_shape, f_shape[:1])]


def place(stride=1, pad=0, dilate=1):
    """Stride, pad and dilate as the functions take them."""
    layer = Conv(stride=stride, pad=pad, dilate=dilate)
    return {"stride": layer.stride, "pad": layer.pad, "dilate": layer.dilate}


@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_gradient(rng, x_shape, f_shape, stride, pad, dilate):
    x, f, b = arrays(rng, x_shape, f_shape)
    prove(Conv(size=f_shape, stride=stride, pad=pad, dilate=dilate), [x], [f, b])


def test_gradient_without_bias(rng):
    x, f, _ = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    prove(Conv(size=f.shape, has_bias=False), [x], [f])


def test_gradient_without_filters(rng):
    x = rng.standard_normal((2, 3, 6, 7))
    bias = rng.standard_normal(3)
    params = [np.zeros((0, 0, 0, 0)), bias]
    prove(Conv(stride=(2, 3), pad=(1, 0, 2, 1)), [x], params, skip_params=[0])


def test_gradient_of_a_large_convolution_along_random_directions(rng):
    x, f, b = arrays(rng, (1, 8, 17, 17), (12, 4, 5, 5))
    prove(Conv(size=f.shape, pad=2), [x], [f, b])


@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_equals_scipys_correlation(rng, x_shape, f_shape, stride, pad, dilate):
    x, f, b = arrays(rng, x_shape, f_shape)
    where = place(stride, pad, dilate)
    (sv, sh), (top, bottom, left, right), (dv, dh) = where.values()
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out, group, kh, kw = f_shape
    dilated = np.zeros((out, group, (kh - 1) * dv + 1, (kw - 1) * dh + 1))
    dilated[:, :, ::dv, ::dh] = f
    y = conv(x, f, b, **where)
    for n in range(x_shape[0]):
        for k in range(out):
            first = k // (out // (x_shape[1] // group)) * group
            dense = sum(
                correlate2d(padded[n, first + c], dilated[k, c], mode="valid") for c in range(group)
            )
            np.testing.assert_allclose(y[n, k], dense[::sv, ::sh] + b[k], atol=1e-12)


def test_stride_is_the_dense_result_subsampled(rng):
    x, f, b = arrays(rng, (2, 3, 11, 10), (4, 3, 3, 2))
    dense = conv(x, f, b)
    np.testing.assert_allclose(
        conv(x, f, b, stride=(3, 2)), dense[:, :, ::3, ::2], rtol=0, atol=1e-13
    )


def test_pad_is_a_padded_input(rng):
    x, f, b = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (3, 0)))
    np.testing.assert_allclose(
        conv(x, f, b, pad=(1, 2, 3, 0)), conv(padded, f, b), rtol=0, atol=1e-13
    )


def test_dilation_is_a_filter_with_zeros_between(rng):
    x, f, b = arrays(rng, (2, 3, 9, 8), (4, 3, 3, 2))
    dilated = np.zeros((4, 3, 5, 4))
    dilated[:, :, ::2, ::3] = f
    np.testing.assert_allclose(
        conv(x, f, b, dilate=(2, 3)), conv(x, dilated, b), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("kernel", [(3, 2), (1, 1)])
def test_groups_are_convolutions_side_by_side(rng, kernel):
    x, f, b = arrays(rng, (2, 6, 7, 5), (9, 2, *kernel))
    parts = [
        conv(x[:, 2 * g : 2 * g + 2], f[3 * g : 3 * g + 3], b[3 * g : 3 * g + 3]) for g in range(3)
    ]
    np.testing.assert_allclose(conv(x, f, b), np.concatenate(parts, 1), rtol=0, atol=1e-13)


def test_a_convolution_worked_out_by_hand():
    x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    f = np.array([[[[1.0, 0.0], [0.0, -2.0]]]])
    y = conv(x, f, np.array([10.0]))
    assert y.tolist() == [[[[10 + 1 - 10, 10 + 2 - 12], [10 + 4 - 16, 10 + 5 - 18]]]]
    der_x, der_f, der_b = conv_backward(x, f, np.array([10.0]), np.ones_like(y))
    assert der_x.tolist() == [[[[1, 1, 0], [1, -1, -2], [0, -2, -2]]]]
    assert der_f.tolist() == [[[[12, 16], [24, 28]]]]
    assert der_b.tolist() == [4]


# From one output row of one sample at a time to everything at once.
@pytest.mark.parametrize("column_bytes", [1, 1500, 4000, 12000, 1 << 30])
@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_blocks_of_columns_change_nothing(rng, x_shape, f_shape, stride, pad, dilate, column_bytes):
    x, f, b = arrays(rng, x_shape, f_shape)
    where = tuple(place(stride, pad, dilate).values())
    forward = partial(im2row.conv_im2row, column_bytes=column_bytes)
    backward = partial(im2row.conv_im2row_backward, needs_x=True, column_bytes=column_bytes)
    y = forward(x, f, b, *where)
    np.testing.assert_allclose(y, conv(x, f, b, **place(stride, pad, dilate)), atol=1e-12)
    der_y = rng.standard_normal(y.shape)
    expected = conv_backward(x, f, b, der_y, **place(stride, pad, dilate))
    for actual, wanted in zip(backward(x, f, der_y, *where), expected):
        np.testing.assert_allclose(actual, wanted, atol=1e-12)


@pytest.mark.parametrize("kernel", registered("conv"), ids=lambda k: k.name)
def test_every_kernel_that_runs_here_agrees_with_the_reference(rng, kernel):
    x, f, b = arrays(rng, (2, 4, 9, 8), (6, 2, 3, 3), np.float32)
    if not kernel.fits(x):
        pytest.skip(f"{kernel.name} takes other arrays")
    where = ((2, 1), (1, 0, 0, 2), (1, 2))
    y = kernel.forward(x, f, b, *where)
    expected = im2row.conv_im2row(
        *(a.astype(np.float64) for a in (x, f, b)), *where, column_bytes=1 << 20
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_the_derivative_by_the_input_is_left_out_when_nobody_reads_it(rng):
    x, f, b = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    layer = Conv(size=f.shape)
    (y,), saved = layer.forward([x], [f, b], Context())
    whole, der_params = layer.backward([x], [f, b], [y], saved, Context())
    none, same_params = layer.backward([x], [f, b], [y], saved, Context(needs=(False,)))
    assert whole[0] is not None and none == [None]
    for a, c in zip(der_params, same_params):
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["number", "mask", "channels", "nothing"])
@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_a_weighted_sum_of_the_derivative_by_the_input_can_be_had_alone(
    rng, x_shape, f_shape, stride, pad, dilate, kind, dtype
):
    x, f, b = arrays(rng, x_shape, f_shape, dtype)
    weights = {
        "number": 2.5,
        "mask": rng.standard_normal(x_shape[2:]),
        "channels": rng.standard_normal((x_shape[1], 1, 1)),
        "nothing": np.zeros(x_shape[2:]),
    }
    weight = weights[kind]
    layer = Conv(size=f_shape, stride=stride, pad=pad, dilate=dilate)
    (y,), saved = layer.forward([x], [f, b], Context())
    der_y = rng.standard_normal(y.shape).astype(dtype)
    (whole,), ders = layer.backward([x], [f, b], [der_y], saved, Context())
    context = Context(weights=(weight,))
    (part,), same = layer.backward([x], [f, b], [der_y], saved, context)
    assert part.shape == x_shape and part.dtype == dtype
    expected = (weight * whole.astype(np.float64)).sum(axis=(1, 2, 3))
    bound = np.abs(weight * whole).sum() * (1e-6 if dtype is np.float32 else 1e-14)
    np.testing.assert_allclose((weight * part).sum(axis=(1, 2, 3)), expected, rtol=0, atol=bound)
    for a, c in zip(ders, same):
        np.testing.assert_array_equal(a, c)


def test_the_weighted_sum_without_filters(rng):
    x, bias = rng.standard_normal((2, 3, 6, 7)), np.zeros(3)
    layer = Conv(stride=(2, 3), pad=(1, 0, 2, 1))
    (y,), saved = layer.forward([x], [None, bias], Context())
    (whole,), _ = layer.backward([x], [None, bias], [y], saved, Context())
    (part,), _ = layer.backward([x], [None, bias], [y], saved, Context(weights=(1.0,)))
    np.testing.assert_allclose(part.sum((1, 2, 3)), whole.sum((1, 2, 3)), atol=1e-12)


@pytest.mark.parametrize("f_shape", [(4, 3, 3, 2), (4, 3, 1, 1)])
def test_single_precision_stays_single(rng, f_shape):
    x, f, b = arrays(rng, (2, 3, 6, 5), f_shape)
    x = x.astype(np.float32)
    y = conv(x, f, b, pad=(1, 1, 1, 1))
    ders = conv_backward(x, f, b, y, pad=(1, 1, 1, 1))
    assert {a.dtype for a in (y, *ders)} == {np.dtype(np.float32)}


def test_arrays_in_other_memory_orders_give_the_same_result(rng):
    x, f, b = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    y = conv(x, f, b)
    np.testing.assert_allclose(conv(np.asfortranarray(x), np.asfortranarray(f), b), y, atol=1e-13)
    for actual, expected in zip(
        conv_backward(x, f, b, np.asfortranarray(y)), conv_backward(x, f, b, y)
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_an_empty_bias_is_no_bias(rng):
    x, f, _ = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    np.testing.assert_array_equal(conv(x, f, np.zeros(0)), conv(x, f))
    assert conv_backward(x, f, np.zeros(0), conv(x, f))[2] is None


def test_a_bias_that_has_bias_switches_off_is_ignored(rng):
    x, f, b = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    layer = Conv(size=f.shape, has_bias=False)
    (y,), saved = layer.forward([x], [f, b], Context())
    np.testing.assert_array_equal(y, conv(x, f))
    assert layer.backward([x], [f, b], [y], saved, Context())[1][1] is None


def test_shapes_that_do_not_fit_are_refused(rng):
    x, f, b = arrays(rng, (2, 4, 6, 5), (4, 4, 3, 2))
    with pytest.raises(ShapeError, match="N, C, H, W") as error:
        conv(x[0], f, b)
    assert error.value.input == 0
    with pytest.raises(ShapeError, match=r"4 channels.*sees 3") as error:
        conv(x, f[:, :3], b)
    assert error.value.input == 0
    with pytest.raises(ShapeError, match="fall into groups"):
        conv(x, f[:3, :2], b[:3])  # two groups of three filters
    with pytest.raises(ShapeError, match="expected filters") as error:
        conv(x, f[0], b)
    assert error.value.param == 0
    with pytest.raises(ShapeError, match=r"bias of shape \(4,\)") as error:
        conv(x, f, b[:3])
    assert error.value.param == 1
    with pytest.raises(ShapeError, match=r"7x2.*6x5"):
        conv(x, np.zeros((4, 4, 7, 2)), b)
    with pytest.raises(ShapeError, match=r"7x2.*6x5"):
        conv(x, f, b, dilate=(3, 1))
    with pytest.raises(ShapeError, match="derivative by the output"):
        conv_backward(x, f, b, np.zeros((2, 4, 4, 3)))
    with pytest.raises(ShapeError, match="received none"):
        conv(x[:0], f, b)
    with pytest.raises(TypeError, match="uint8"):
        conv(x.astype(np.uint8), f, b)
    with pytest.raises(ValueError, match="dilate must be 1"):
        conv(x, None, b, dilate=(2, 2))


def test_settings_that_cannot_be_are_refused(rng):
    with pytest.raises(ValueError, match="size must be"):
        Conv(size=(3, 3))
    x, f, _ = arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2))
    with pytest.raises(ShapeError, match="has_bias"):
        Conv(size=f.shape).forward([x], [f], Context())


def test_initial_filters_have_the_variance_of_he(rng):
    filters, bias = Conv(size=(64, 32, 5, 5)).init_params(rng)
    assert filters.shape == (64, 32, 5, 5) and filters.dtype == np.float32
    assert filters.std() == pytest.approx(np.sqrt(2 / (32 * 25)), rel=0.01)
    assert bias.shape == (64,) and not bias.any()
    assert len(Conv(size=(4, 2, 3, 3), has_bias=False).init_params(rng, np.float64)) == 1
    assert Conv().init_params(rng)[0].size == 0


@pytest.mark.parametrize(("x_shape", "f_shape", "stride", "pad", "dilate"), GRID)
def test_output_sizes_are_those_of_the_output(rng, x_shape, f_shape, stride, pad, dilate):
    x, f, b = arrays(rng, x_shape, f_shape)
    layer = Conv(size=f_shape, stride=stride, pad=pad, dilate=dilate)
    assert (
        tuple(layer.get_output_sizes([Size(*x_shape)])[0])
        == conv(x, f, b, **place(stride, pad, dilate)).shape
    )


def test_output_size_without_filters(rng):
    layer = Conv(stride=(2, 3), pad=(1, 0, 2, 1))
    y = conv(rng.standard_normal((2, 3, 6, 7)), stride=layer.stride, pad=layer.pad)
    assert tuple(layer.get_output_sizes([Size(2, 3, 6, 7)])[0]) == y.shape


@golden("layers_vl_nnconv")
def test_equals_vl_nnconv(case):
    assert_passes(case)


REAL = [c for k in range(1, 6) for c in golden_cases(f"layers_vl_nnconv_real_conv{k}")]


@pytest.mark.parametrize("case", REAL, indirect=True)
def test_equals_vl_nnconv_at_siamfcs_sizes(case):
    assert_passes(case)


LISTING = GOLDENS / "siamfc_full_listing.json"
PREFIX = {"a": "exemplar", "b": "instance"}


def block(layer):
    """The layer of a listed one's type, sizes and places."""
    listed = layer["block"]
    settings = {k: listed[k] for k in ("pad", "stride", "dilate") if k in listed}
    if "size" in listed:
        kh, kw, group, out = listed["size"]
        settings |= {"size": (out, group, kh, kw)}
    if "poolSize" in listed:
        settings |= {"pool_size": listed["poolSize"], "method": listed["method"]}
    return layer_class(layer["type"])(**settings)


@pytest.mark.golden
@pytest.mark.skipif(not LISTING.is_file(), reason=f"golden file {LISTING.name} not found")
@pytest.mark.parametrize("net", ["instance239", "instance255"])
@pytest.mark.parametrize("branch", ["a", "b"])
def test_sizes_and_receptive_fields_equal_those_of_siamfc(net, branch):
    listing = json.loads(LISTING.read_text())[net]
    listed = {v["name"]: v for v in listing["vars"]}
    source = PREFIX[branch]

    def size_of(name):
        h, w, c, n = listed[name]["size"]
        return Size(n, c, h, w)

    fields = {source: POINT}
    for layer in listing["layers"]:
        if not layer["name"].startswith(f"{branch}_"):
            continue
        (given,), (made,) = layer["inputs"], layer["outputs"]
        built = block(layer)
        assert built.get_output_sizes([size_of(given)]) == [size_of(made)], layer["name"]
        ((own,),) = built.get_receptive_fields(1, 1)
        fields[made] = compose(fields[given], own)
        expected = {k: tuple(v) for k, v in listed[made][f"rf_{source}"].items()}
        assert fields[made]._asdict() == expected, layer["name"]
    assert fields[f"{branch}_feat"].size == (87, 87)
