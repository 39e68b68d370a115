"""Tests of the NumPy kernels of feature chains: maps, scratch memory, convolutions, activation."""

import gc
import threading
from fractions import Fraction

import numpy as np
import pytest

from dagnet import ShapeError
from dagnet.scheduling import run_tasks
from layers import conv, conv_backward, max_pool, relu
from layers.kernels import activation as activations
from layers.kernels import choice, rows, winograd
from layers.kernels.activation import Activation, RowActivation
from layers.kernels.geometry import ConvGeometry
from layers.kernels.maps import MapLayout, add_to_maps, fill_maps, from_maps, plain_layout, runs
from layers.kernels.rows import RowsConv, cut
from layers.kernels.scratch import SMALLEST, Lease, Pool, pooled, scratch
from layers.kernels.winograd import WinogradConv, cook_toom

ONE = (1, 1)
NO_PAD = (0, 0, 0, 0)
# kernel, stride, pad, dilate, groups, size
TRANSFORMED = [
    ((3, 3), ONE, NO_PAD, ONE, 1, (9, 12)),
    ((3, 3), ONE, (1, 1, 1, 1), ONE, 3, (23, 14)),
    ((5, 5), ONE, (1, 2, 0, 3), ONE, 2, (12, 9)),
    ((5, 5), ONE, (2, 2, 2, 2), ONE, 1, (5, 30)),
    ((3, 3), ONE, NO_PAD, ONE, 2, (3, 3)),
]
OTHERS = [
    ((11, 11), (2, 2), NO_PAD, ONE, 1, (33, 40)),
    ((1, 1), ONE, NO_PAD, ONE, 2, (7, 8)),
    ((1, 1), (2, 1), (0, 1, 1, 0), ONE, 2, (7, 8)),
    ((3, 2), (2, 3), (1, 2, 0, 1), (2, 3), 2, (17, 19)),
    ((2, 3), (1, 2), (0, 0, 2, 0), (2, 1), 1, (10, 11)),
    ((2, 4), (3, 5), (0, 1, 2, 0), ONE, 3, (14, 21)),
]
CONVOLUTIONS = [(RowsConv, case) for case in TRANSFORMED + OTHERS]
CONVOLUTIONS += [(WinogradConv, case) for case in TRANSFORMED]
DOUBLE, SINGLE = 1e-13, 1e-5


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def run_conv(kind, case, dtype, rng, samples=2):
    """A kernel's results, and those of ``layers.conv`` in double precision."""
    kernel_size, stride, pad, dilate, groups, size = case
    x = rng.standard_normal((samples, 6, *size)).astype(dtype)
    f = rng.standard_normal((12, 6 // groups, *kernel_size)).astype(dtype)
    geometry = ConvGeometry(6, 12, groups, kernel_size, stride, pad, dilate, *size)
    kernel = kind(geometry, np.dtype(dtype))
    # What a kernel must not read is NaN, and so is what it must write.
    maps = np.full(kernel.input_layout.shape(samples), np.nan, dtype)
    fill_maps(x, kernel.input_layout, maps)
    weights = kernel.prepare(f)
    y = np.full(kernel.output_layout.shape(samples), np.nan, dtype)
    kernel.forward(maps, weights, y)
    where = {"stride": stride, "pad": pad, "dilate": dilate}
    x, f = x.astype(np.float64), f.astype(np.float64)
    expected = conv(x, f, **where)
    der = rng.standard_normal(expected.shape).astype(dtype)
    der_y, der_maps = np.empty_like(y), np.full_like(maps, np.nan)
    fill_maps(der, kernel.output_layout, der_y)
    part = kernel.backward(maps, weights, der_y, der_maps)
    actual = (
        from_maps(y, kernel.output_layout),
        from_maps(der_maps, kernel.input_layout),
        kernel.finish(part),
    )
    np.testing.assert_array_equal(part, kernel.backward(maps, weights, der_y, None))
    return actual, (expected, *conv_backward(x, f, None, der.astype(np.float64), **where)[:2])


@pytest.mark.parametrize(("kind", "case"), CONVOLUTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, DOUBLE), (np.float32, SINGLE)])
def test_a_convolution_and_its_derivatives_are_the_layers(rng, kind, case, dtype, bound):
    for a, b in zip(*run_conv(kind, case, dtype, rng)):
        assert a.dtype == dtype and relative(a, b) < bound


@pytest.mark.parametrize(("kind", "case"), CONVOLUTIONS, ids=str)
def test_small_blocks_and_threads_change_nothing_but_rounding(rng, kind, case, monkeypatch):
    state = rng.bit_generator.state
    whole, _ = run_conv(kind, case, np.float64, rng, samples=3)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 1)
    monkeypatch.setattr(rows, "DER_BLOCK_BYTES", 1)
    monkeypatch.setattr(winograd, "BLOCK_BYTES", 1)
    monkeypatch.setattr(winograd, "SAMPLES_BYTES", 1)
    found = []

    def run(_):
        found.append(run_conv(kind, case, np.float64, rng, samples=3))

    for workers in (1, 3):
        rng.bit_generator.state = state
        run_tasks([0], {0: set()}, run, workers)
    (alone, _), (together, _) = found
    for a, b, c in zip(whole, alone, together):
        assert relative(b, a) < DOUBLE
        np.testing.assert_array_equal(b, c)


@pytest.mark.parametrize("side", [3, 5])
def test_the_transformations_are_exact(side):
    a_t, g, b_t = cook_toom(winograd.TILE, side, winograd.POINTS[side])
    cells = winograd.TILE + side - 1
    assert all(v.denominator == 1 for row in b_t for v in row)
    for i in range(winograd.TILE):
        for j in range(side):
            for k in range(cells):
                # y_i takes g_j d_k exactly if k = i + j.
                taken = sum(a_t[i][p] * g[p][j] * b_t[p][k] for p in range(cells))
                assert taken == Fraction(int(k == i + j))


def test_a_known_transformation():
    # F(2, 3) of Lavin and Gray, section 4.1, with rows scaled as here.
    a_t, g, b_t = cook_toom(2, 3, (0, 1, -1))
    product = [
        [sum(a_t[i][p] * b_t[p][k] * g[p][1] for p in range(4)) for k in range(4)] for i in range(2)
    ]
    assert a_t == [[1, 1, 1, 0], [0, 1, -1, 1]]
    assert product == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_which_convolutions_can_be_transformed():
    def geometry(kernel, stride=ONE, dilate=ONE):
        return ConvGeometry(4, 4, 1, kernel, stride, NO_PAD, dilate, 20, 20)

    assert winograd.fits(geometry((3, 3))) and winograd.fits(geometry((5, 5)))
    for other in (
        geometry((3, 5)),
        geometry((7, 7)),
        geometry((3, 3), (1, 2)),
        geometry((3, 3), ONE, (2, 2)),
    ):
        assert not winograd.fits(other)


def test_a_geometry_that_cannot_be_is_refused():
    with pytest.raises(ShapeError, match="3 equal groups"):
        ConvGeometry(4, 6, 3, (3, 3), ONE, NO_PAD, ONE, 9, 9)
    with pytest.raises(ShapeError, match="5x3 cells"):
        ConvGeometry(4, 6, 2, (3, 3), ONE, NO_PAD, (2, 1), 4, 9)
    geometry = ConvGeometry(4, 6, 2, (3, 2), (2, 1), (1, 0, 0, 2), ONE, 9, 8)
    assert (geometry.out_height, geometry.out_width, geometry.padded) == (4, 9, (10, 10))
    assert (geometry.group_channels, geometry.group_out) == (2, 3)


# Maps


@pytest.mark.parametrize("groups", [1, 2, 20])
def test_features_go_into_maps_and_back(rng, groups):
    x = rng.standard_normal((2, 40, 4, 5))
    layout = MapLayout(40, groups, 8, 9, 1, 2, 4, 5)
    maps = np.full(layout.shape(2), np.nan)
    fill_maps(x, layout, maps)
    np.testing.assert_array_equal(from_maps(maps, layout), x)
    assert maps.sum() == pytest.approx(x.sum()) and not maps[:, :, 0].any()
    assert maps[1, -1, 1, 2, -1] == x[1, -1, 0, 0]
    add_to_maps(x, layout, maps)
    np.testing.assert_array_equal(from_maps(maps, layout), 2 * x)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (4, 2), (2, 3), (3, 4)])
def test_runs_of_channels_are_the_same_channels_in_both_maps(first, second):
    a, b = (plain_layout(12, groups, 1, 1) for groups in (first, second))
    channels = np.arange(12)
    seen = []
    for group_a, own_a, group_b, own_b, place in runs(a, b):
        np.testing.assert_array_equal(channels.reshape(first, -1)[group_a, own_a], channels[place])
        np.testing.assert_array_equal(channels.reshape(second, -1)[group_b, own_b], channels[place])
        seen += channels[place].tolist()
    assert seen == channels.tolist()


def test_work_is_cut_into_equal_parts_in_order():
    assert cut([], 4) == []
    assert cut(range(3), 8) == [range(0, 1), range(1, 2), range(2, 3)]
    assert [len(c) for c in cut(range(10), 4)] == [2, 3, 2, 3]


# Scratch memory


def test_memory_is_used_again():
    pool = Pool()
    lease = Lease(pool)
    first = lease.array((1000, 100), np.float32)
    first[...] = 1
    address = first.ctypes.data
    assert address % 64 == 0 and pool.free_bytes == 0
    lease.release()
    assert pool.free_bytes >= first.nbytes
    again = Lease(pool).array((99_000,), np.float32)
    assert again.ctypes.data == address
    del again, first
    gc.collect()
    pool.clear()
    assert pool.free_bytes == 0


def test_a_lease_that_is_dropped_gives_its_memory_back():
    pool = Pool()
    lease = Lease(pool)
    lease.array((SMALLEST,), np.uint8)
    del lease
    assert pool.free_bytes >= SMALLEST


def test_only_so_much_is_kept():
    pool = Pool(limit=4 * SMALLEST, region=2 * SMALLEST)
    lease = Lease(pool)
    for _ in range(10):
        lease.array((SMALLEST,), np.uint8)
    lease.array((10,), np.uint8)
    assert pool.held_bytes == 10 * SMALLEST and pool.free_bytes == 0
    lease.release()
    assert pool.held_bytes == pool.free_bytes == 4 * SMALLEST


def test_free_memory_serves_every_size():
    pool = Pool()
    for count in (8, 4, 2, 1):
        leases = [Lease(pool) for _ in range(count)]
        for lease in leases:
            lease.array((8 // count * SMALLEST,), np.uint8)
        # In an order in which neighbours are found on either side, on both and on none.
        for lease in leases[1::2] + leases[::2]:
            lease.release()
        assert pool.held_bytes == pool.free_bytes == 8 * SMALLEST


def test_pieces_of_random_sizes_never_overlap():
    rng = np.random.default_rng(0)
    pool, live = Pool(region=64 * SMALLEST), []
    for mark in range(1, 500):
        if len(live) > 12:
            lease, array, own = live.pop(rng.integers(len(live)))
            assert (array == own).all()
            lease.release()
        lease = Lease(pool)
        array = lease.array((int(rng.integers(SMALLEST // 8, 8 * SMALLEST)),), np.int64)
        array[...] = mark
        live.append((lease, array, mark))
    assert all((array == own).all() for _, array, own in live)


def test_a_pooled_array_gives_its_memory_back_with_its_last_view():
    pool = Pool()
    array = pooled((4, SMALLEST), np.float32, pool)
    assert array.shape == (4, SMALLEST) and array.dtype == np.float32
    assert array.flags.c_contiguous and array.flags.writeable
    used = pool.held_bytes
    view = array[1:]
    del array
    assert pool.free_bytes == 0
    del view
    assert pool.free_bytes == used == 16 * SMALLEST
    assert pooled((3,), np.float64, pool).flags.owndata


def test_what_comes_back_while_the_pool_is_at_work_is_not_lost():
    pool = Pool()
    lease = Lease(pool)
    lease.array((SMALLEST,), np.uint8)
    with pool._lock:
        # As if Python collected it on this very thread.
        lease.release()
    assert pool.free_bytes == SMALLEST


def test_threads_never_share_a_buffer():
    def work(mark):
        for _ in range(200):
            with scratch((SMALLEST,), np.uint8) as a, scratch((SMALLEST,), np.uint8) as b:
                a[...], b[...] = mark, mark + 1
                assert a[0] == a[-1] == mark and b[0] == b[-1] == mark + 1

    errors = []

    def run(mark):
        try:
            work(mark)
        except AssertionError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(2 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# Activation

ACTIVATIONS = [
    Activation(),
    Activation(relu=True),
    Activation(relu=True, leak=0.3),
    Activation(pool=((3, 3), (2, 2))),
    Activation(relu=True, pool=((2, 3), (3, 1))),
    Activation(relu=True, leak=0.3, pool=((2, 2), (2, 2))),
]


def arrays(rng, activation, groups=(2, 1), size=(11, 14)):
    """A convolution's output with rows and columns too many, and layouts of both maps."""
    layout_y = MapLayout(12, groups[0], size[0] + 2, size[1] + 3, 0, 0, *size)
    height, width = activation.output_size(*size)
    layout_maps = MapLayout(12, groups[1], height + 3, width + 4, 1, 2, height, width)
    y = np.full(layout_y.shape(2), np.nan)
    x = rng.standard_normal((2, 12, *size))
    fill_maps(x, layout_y, y)
    for axis, end in ((2, size[0]), (3, size[1])):
        y[(slice(None),) * axis + (slice(end, None),)] = np.nan
    return x, y, layout_y, layout_maps


@pytest.mark.parametrize("size", [(11, 14), (1, 1), (150, 150)])
def test_moments_are_those_of_each_sample(rng, size):
    x, y, *_ = arrays(rng, Activation(), size=size)
    x += 1e4
    y += 1e4
    mean, variance = RowActivation().moments(y, *size)
    np.testing.assert_allclose(mean, x.mean(axis=(2, 3)), rtol=1e-14)
    np.testing.assert_allclose(variance, x.var(axis=(2, 3)), rtol=1e-11, atol=1e-15)


def test_moments_are_accurate_in_single_precision(rng):
    _, y, *_ = arrays(rng, Activation(), size=(90, 90))
    y = (y * 0.01 + 30).astype(np.float32)
    exact = y[:, :, :90, :90].astype(np.float64)
    mean, variance = RowActivation().moments(y, 90, 90)
    np.testing.assert_allclose(mean, exact.mean(axis=(2, 3)).reshape(2, -1), rtol=1e-8)
    np.testing.assert_allclose(variance, exact.var(axis=(2, 3)).reshape(2, -1), rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("groups", [(2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("affine", ["both", "shift", "none"])
def test_an_activation_is_the_layers(rng, activation, groups, affine):
    x, y, layout_y, layout_maps = arrays(rng, activation, groups)
    scale = rng.standard_normal((2, 12)) if affine == "both" else None
    shift = rng.standard_normal((2, 12)) if affine != "none" else None
    z = x if scale is None else x * scale[:, :, None, None]
    z = z if shift is None else z + shift[:, :, None, None]
    expected = relu(z, activation.leak) if activation.relu else z
    if activation.pool:
        expected = max_pool(expected, activation.pool[0], stride=activation.pool[1])[0]
    maps = np.full(layout_maps.shape(2), 7.0)
    RowActivation().forward(y, layout_y, scale, shift, activation, maps, layout_maps)
    np.testing.assert_array_equal(from_maps(maps, layout_maps), expected)
    layout_maps.valid(maps)[...] = 7
    assert (maps == 7).all()  # nothing else was written


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("block", [1, 1 << 30])
def test_sums_and_derivative_of_an_activation(rng, activation, block, monkeypatch):
    monkeypatch.setattr(activations, "BLOCK_BYTES", block)
    kernel = RowActivation()
    x, y, layout_y, layout_maps = arrays(rng, activation)
    scale, shift, mean, a, b = rng.standard_normal((5, 2, 12))
    maps, der_maps = np.zeros((2, *layout_maps.shape(2)))
    kernel.forward(y, layout_y, scale, shift, activation, maps, layout_maps)
    fill_maps(
        rng.standard_normal((2, 12, layout_maps.height, layout_maps.width)), layout_maps, der_maps
    )
    how = (y, layout_y, scale, shift, activation, maps, layout_maps, der_maps)
    der_y = np.full_like(y, np.nan)
    s1, s2 = kernel.sums(*how, mean, der_y)
    kernel.backward(*how, a, b, der_y)
    der = from_maps(der_y, layout_y)
    assert np.abs(der_y).sum() == pytest.approx(np.abs(der).sum())  # zeros beyond
    # The derivative by z is what is left; a step along it changes the output as it says.
    over = (slice(None), slice(None), None, None)
    dz = (der - a[over] - b[over] * x) / scale[over]
    np.testing.assert_allclose(s1, dz.sum(axis=(2, 3)), atol=1e-10)
    np.testing.assert_allclose(s2, (dz * (x - mean[over])).sum(axis=(2, 3)), atol=1e-10)
    step = 1e-6
    direction = rng.standard_normal(x.shape)
    values = []
    for sign in (1, -1):
        moved = np.empty_like(y)
        fill_maps(x + sign * step * direction, layout_y, moved)
        out = np.zeros(layout_maps.shape(2))
        kernel.forward(moved, layout_y, scale, shift, activation, out, layout_maps)
        values.append((out * der_maps).sum())
    along = (dz * scale[over] * direction).sum()
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(along, rel=1e-6)


def test_which_convolution_is_chosen(monkeypatch):
    monkeypatch.setattr(choice, "_compiled", lambda: None)
    choice.choose_conv.cache_clear()

    def kind(channels, size, dtype=np.float32):
        geometry = ConvGeometry(channels, 48, 2, (3, 3), ONE, NO_PAD, ONE, *size)
        return type(choice.choose_conv(geometry, np.dtype(dtype)))

    least = 2 * choice.WINOGRAD_CHANNELS
    assert kind(least, (9, 9)) is kind(least, (3, 30)) is kind(least, (9, 9), float) is WinogradConv
    assert kind(least - 2, (9, 9)) is RowsConv
    assert kind(least, (9, 9), np.float16) is RowsConv
    choice.choose_conv.cache_clear()
