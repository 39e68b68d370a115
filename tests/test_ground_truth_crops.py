"""Tests of ``crops='ground-truth'``: crops around given centres, and what training gives them."""

import networkx
import numpy as np
import pytest

from dagnet import DagNN
from dsiam_net.branches import siamfc_branch
from dsiam_net.clips import Clip
from dsiam_net.training import (
    ClipBatches,
    center_shifts,
    clip_batch,
    observe_moments,
)
from dsiam_net.unrolled import UnrolledSettings, build_unrolled, given_centers, objectives
from layers import Crop
from tiny import SEARCH_SIZE, smooth_clip, tiny_unrolled

# The box of every test clip's first frame is 20 x 20 pixels: p = 20, s_z = 40.
SIDE = 40 * SEARCH_SIZE / 127
# Frame pixels that a pixel of the search crop, and a cell of the response, stands for.
PIXEL = SIDE / SEARCH_SIZE
CELL = 8 * PIXEL
MIDDLE = 3  # of the 7 x 7 response
ROUNDING = 1e-12


def given_net(rng, **settings):
    return tiny_unrolled(rng, crops="ground-truth", **settings)


def ramps(boxes, size=(150, 180)):
    """A clip whose frame ``t`` has the value 1000 t + row + 0.01 column at a pixel."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    frames = [np.stack([1000.0 * t + rows + 0.01 * columns] * 3) for t in range(1, len(boxes) + 1)]
    return Clip(np.stack(frames), np.array(boxes, dtype=np.float64))


def box_at(row, column):
    """A box of 20 x 20 pixels around a position (0-based): columns x - 1 to x + 18."""
    return [column - 8.5, row - 8.5, 20.0, 20.0]


POSITIONS = [(70.0, 80.0), (74.0, 83.0), (69.5, 90.0), (60.0, 91.0)]


@pytest.fixture(scope="module")
def net():
    return given_net(np.random.default_rng(1), frames=4)


@pytest.fixture(scope="module")
def clip():
    return ramps([box_at(*position) for position in POSITIONS])


# The graph


@pytest.fixture(scope="module")
def full():
    return [
        build_unrolled(siamfc_branch(), UnrolledSettings(crops=crops))
        for crops in ("response", "ground-truth")
    ]


def test_only_what_the_crops_read_is_another(full):
    response, given = full
    assert len(given.layers) == 940 and len(given.params) == 33
    for ours, theirs in zip(given.layers, response.layers, strict=True):
        for what in ("name", "type", "outputs", "params"):
            assert getattr(ours, what) == getattr(theirs, what)
        if ours.type != "Crop":
            assert ours.inputs == theirs.inputs
            assert ours.block.save().keys() == theirs.block.save().keys()


def test_a_frames_crops_lie_where_the_target_was_in_the_frame_before(full):
    def inputs(name):
        return full[1].get_layer(name).inputs

    assert inputs("f4_crop_o") == ["frame3", "given_center3", "sides", "color"]
    assert inputs("f4_crop_g") == ["frame3", "given_center3", "sides", "color"]
    assert inputs("f4_crop_z") == ["frame4", "given_center3", "sides", "color"]
    assert inputs("f1_crop_z") == ["frame1", "given_center1", "sides", "color"]
    assert inputs("f2_crop_g") == ["frame1", "given_center1", "sides", "color"]


def test_no_crop_waits_for_any_layer_and_no_response_for_another(full):
    response, given = (net.to_networkx() for net in full)
    for t in range(1, 11):
        for name in "ogz":
            crop = ("layer", f"f{t}_crop_{name}")
            assert {kind for kind, _ in networkx.ancestors(given, crop)} == {"var"}
            assert (t == 1) or ("var", f"score{t - 1}") in networkx.ancestors(response, crop)
        others = {("var", f"score{k}") for k in range(1, 11)}
        assert not others & networkx.ancestors(given, ("var", f"score{t}"))


def test_the_first_two_frames_learn_the_same_and_do_so_once(full):
    """Both learn from frame 1 around the same centre: three branches more need not run."""
    response, given = full
    branches = {net: sum(t == "dagnn.Conv" for t in types_run(net)) // 5 for net in full}
    assert branches[given] == branches[response] - 3
    assert types_run(response).count("RLR") == types_run(given).count("RLR") + 4


def types_run(net):
    """Types of the layers that the plan runs, without the adjust layers."""
    return [net.layers[i].type for i in net.plan().order if "adjust" not in net.layers[i].name]


@pytest.mark.parametrize("frames, names", [(1, ["1"]), (2, ["1"]), (4, ["1", "2", "3"])])
def test_a_network_has_a_centre_for_every_frame_but_the_last(frames, names):
    settings = UnrolledSettings(frames=frames, crops="ground-truth")
    net = build_unrolled(siamfc_branch(), settings)
    wanted = [f"given_center{name}" for name in names]
    assert list(given_centers(net)) == wanted
    assert [name for name in net.get_inputs() if "center" in name] == wanted
    assert net.meta["unrolled"]["crops"] == "ground-truth"


# The numbers


def test_at_the_networks_own_centres_the_numbers_are_those_of_frame_after_frame():
    clip = smooth_clip(np.random.default_rng(5), frames=4)
    settings = {"frames": 4, "crop_gradient": "none"}
    free, given = (
        tiny_unrolled(np.random.default_rng(2), crops=crops, **settings)
        for crops in ("response", "ground-truth")
    )
    ders = dict.fromkeys(objectives(free), 1)
    batch = clip_batch(free, [clip], np.float64)
    free.eval(batch.inputs, ders, late_inputs=batch.late_inputs)
    found = [free.get_var(f"center{t}").value for t in range(1, 5)]
    # The first response's peak is its middle, as it has to be for frames 1 and 2 to agree; then
    # the crops move, and not with the true target.
    assert np.allclose(found[0], found[1])
    assert not np.allclose(found[1], found[2]) and not np.allclose(found[2], found[3])

    batch = clip_batch(given, [clip], np.float64)
    assert not np.allclose(batch.inputs["given_center3"], found[3])
    for name, t in given_centers(given).items():
        batch.inputs[name] = found[t]
    given.eval(batch.inputs, ders, late_inputs=batch.late_inputs)
    for t in range(1, 5):
        for name in ("score", "center", "objective", "errdisp", "errmax"):
            assert_near(given.get_var(f"{name}{t}").value, free.get_var(f"{name}{t}").value)
    largest = max(np.abs(p.der).max() for p in free.params if p.train_method == "gradient")
    for parameter in given.params:
        assert_near(parameter.der, free.get_param(parameter.name).der, ROUNDING * largest)


def assert_near(value, expected, least=0.0):
    """Equal to rounding of the largest entry; ``least`` is what counts as zero."""
    error, scale = np.abs(value - expected).max(), np.abs(expected).max()
    assert error <= max(ROUNDING * scale, least), (error, scale)


def test_crops_lie_around_the_true_boxes(net, clip):
    """The mean of a ramp over a patch is its value at the patch's centre."""
    for name in (f"f{t}_{branch}" for t in range(1, 5) for branch in "ogz"):
        net.get_var(name).precious = True
    batch = clip_batch(net, [clip], np.float64)
    net.eval(batch.inputs)
    for t in range(1, 5):
        before = max(t - 1, 1)
        row, column = POSITIONS[before - 1]
        for branch, frame in (("o", before), ("g", before), ("z", t)):
            mean = net.get_var(f"f{t}_{branch}").value.mean()
            assert np.isclose(mean, 1000 * frame + row + 0.01 * column, rtol=0, atol=1e-9)
        assert np.array_equal(net.get_var(f"center{t}").value, [[row, column]])
    expected = 1000 + POSITIONS[0][0] + 0.01 * POSITIONS[0][1]
    assert np.isclose(batch.inputs["template"].mean(), expected)


def test_the_template_is_that_of_frame_after_frame(net, clip):
    free = tiny_unrolled(np.random.default_rng(1), frames=4)
    templates = [clip_batch(n, [clip], np.float64).inputs["template"] for n in (net, free)]
    assert np.array_equal(*templates)


def test_labels_lie_where_the_target_went_since_the_frame_before(net, clip):
    batch = clip_batch(net, [clip], np.float64)
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    rows, columns = np.mgrid[:7, :7]
    for t in range(1, 5):
        moved = np.subtract(POSITIONS[t - 1], POSITIONS[max(t - 1, 1) - 1])
        target = MIDDLE + moved / CELL
        centers = {f"center{k}": net.get_var(f"center{k}").value for k in range(1, 5)}
        late = batch.late_inputs(centers)
        assert np.allclose(late[f"target{t}"], target)
        near = np.hypot(rows - target[0], columns - target[1]) <= 2
        assert np.array_equal(late[f"label{t}"][0, 0], np.where(near, 1, -1))


def test_a_shift_moves_the_crops_and_with_them_the_target(net):
    still = ramps([box_at(70, 80)] * 4)
    # Eight pixels of the search crop are a cell. No crop lies at the last frame's centre.
    shifts = np.array([[[0, 0], [8, 0], [-4, 12], [99, 99]]], dtype=np.float64)
    batch = clip_batch(net, [still], np.float64, shifts=shifts)
    net.eval(batch.inputs, late_inputs=batch.late_inputs)
    wanted = [(70, 80), (70, 80), (70 + CELL, 80), (70 - CELL / 2, 80 + 1.5 * CELL)]
    for t, center in enumerate(wanted, start=1):
        assert np.allclose(net.get_var(f"center{t}").value, [center])
    late = batch.late_inputs({f"center{t}": np.array([c]) for t, c in enumerate(wanted, start=1)})
    assert np.allclose(late["target3"], [[MIDDLE - 1, MIDDLE]])
    assert np.allclose(late["target4"], [[MIDDLE + 0.5, MIDDLE - 1.5]])


def test_every_clip_of_a_batch_has_centres_of_its_own(net, clip):
    clips = [clip, ramps([box_at(50 + t, 60) for t in range(4)])]
    shifts = np.random.default_rng(3).normal(0, 5, (2, 4, 2))
    both = clip_batch(net, clips, np.float64, shifts).inputs
    for i, one in enumerate(clips):
        alone = clip_batch(net, [one], np.float64, shifts[i : i + 1]).inputs
        for name, value in alone.items():
            assert np.array_equal(both[name][i : i + 1], value), name


def test_in_single_precision_all_is_single(clip):
    net = given_net(np.random.default_rng(1), dtype=np.float32, frames=2)
    single = Clip(clip.frames.astype(np.float32), clip.boxes)
    batch = clip_batch(net, [single])
    assert batch.inputs["given_center1"].dtype == batch.inputs["template"].dtype == np.float32
    net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
    assert net.get_var("score2").value.dtype == net.get_param("conv1f").der.dtype == np.float32


def test_a_copy_and_a_network_of_before_there_was_a_choice_take_their_inputs(net, clip, tmp_path):
    net.save(tmp_path / "net.npz")
    loaded = DagNN.load(tmp_path / "net.npz")
    batch = clip_batch(loaded, [clip], np.float64)
    loaded.eval(batch.inputs)
    net.eval(clip_batch(net, [clip], np.float64).inputs)
    assert np.array_equal(loaded.get_var("score4").value, net.get_var("score4").value)

    old = tiny_unrolled(np.random.default_rng(1), frames=2)
    del old.meta["unrolled"]["crops"]
    assert "score0" in clip_batch(old, [clip], np.float64).inputs


def test_a_network_from_a_file_merges_equal_masks_too(net):
    # Frames 1 and 2 mask one patch; their masks are arrays of their own in a copy.
    assert len(net.copy().plan().order) == len(net.plan().order)


def test_moments_are_observed_in_all_frames():
    """Stored moments are the mean of those of all uses: here of conv1's maps, by their images."""
    net = given_net(np.random.default_rng(2), frames=2)
    moving = smooth_clip(np.random.default_rng(4), frames=2)
    batch = clip_batch(net, [moving], np.float64)
    observe_moments(net, [batch])
    uses = [f"f{t}_{b}" for t in (1, 2) for b in ("o", "g", "gbar", "z")]
    for name in uses:
        net.get_var(name).precious = True
    net.eval(batch.inputs)
    images = [batch.inputs["template"]] * 2 + [net.get_var(name).value for name in uses]
    filters, bias = net.get_param("conv1f").value, net.get_param("conv1b").value
    means = []
    for image in images:
        windows = np.lib.stride_tricks.sliding_window_view(image[0], (11, 11), axis=(1, 2))
        maps = np.einsum("chwij,ocij->ohw", windows[:, ::2, ::2], filters, optimize=True)
        means.append(maps.mean(axis=(1, 2)) + bias)
    assert np.allclose(net.get_param("bn1x").value[:, 0], np.mean(means, axis=0))


# The jitter


def test_shifts_are_uniform_in_their_bounds_but_for_the_first_frame():
    shifts = np.array([center_shifts(16.0, 3, [seed]) for seed in range(2000)])
    assert np.all(shifts[:, 0] == 0)
    free = shifts[:, 1:].reshape(-1)
    assert np.abs(free).max() <= 16 and np.abs(free).max() > 15.9
    # A uniform distribution: mean 0, variance P^2 / 3; to five standard errors of 8000 numbers.
    assert abs(free.mean()) < 5 * 16 / np.sqrt(3 * len(free))
    assert abs(free.var() - 16**2 / 3) < 5 * 16**2 * np.sqrt(4 / 45 / len(free))
    rows, columns = shifts[:, 1, 0], shifts[:, 1, 1]
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 5 / np.sqrt(len(rows))


class Still:
    """A source of clips: every clip the same."""

    def clip(self, epoch, index):
        return ramps([box_at(70, 80)] * 4)


def centers_of(batch):
    names = ("given_center1", "given_center2", "given_center3")
    return np.stack([batch.inputs[name] for name in names])


def test_jitter_is_new_in_each_epoch_and_the_same_when_asked_again(net):
    get_batch = ClipBatches(net, Still(), center_jitter=8.0, seed=4)
    first = centers_of(get_batch([0, 1], "train", 1))
    assert np.all(first[0] == [70, 80])
    distance = np.abs(first[1:] - [70, 80])
    assert np.all(distance <= 8 * PIXEL + 1e-5) and np.all(distance > 0)
    again = ClipBatches(net, Still(), center_jitter=8.0, seed=4)
    assert np.array_equal(first, centers_of(again([0, 1], "train", 1)))
    assert np.array_equal(first[:, 1:], centers_of(again([1], "train", 1)))
    for other in (
        again([0, 1], "train", 2),
        again([2, 3], "train", 1),
        ClipBatches(net, Still(), center_jitter=8.0, seed=5)([0, 1], "train", 1),
    ):
        assert not np.any(centers_of(other)[1:] == first[1:])


def test_validation_and_training_without_jitter_have_the_true_centres(net):
    for get_batch, mode in (
        (ClipBatches(net, Still(), center_jitter=8.0), "val"),
        (ClipBatches(net, Still()), "train"),
    ):
        assert np.all(centers_of(get_batch([0], mode, 1)) == [70, 80])


# What is refused


@pytest.mark.parametrize("mode", ["pool", "scatter", "soft"])
def test_a_derivative_by_a_response_that_is_not_there_is_refused(mode):
    with pytest.raises(ValueError, match=f"crop_gradient '{mode}' .* leave crop_gradient out"):
        UnrolledSettings(crops="ground-truth", crop_gradient=mode)


def test_the_way_of_the_derivative_follows_from_the_crops_unless_one_is_named():
    assert UnrolledSettings().crop_gradient == "pool"
    assert UnrolledSettings(crop_gradient="soft").crop_gradient == "soft"
    for wish in (None, "none"):
        settings = UnrolledSettings(crops="ground-truth", crop_gradient=wish)
        assert settings.crop_gradient == "none"
    for crops, mode in (("response", "pool"), ("ground-truth", "given")):
        net = build_unrolled(siamfc_branch(), UnrolledSettings(frames=1, crops=crops))
        modes = {record.block.mode for record in net.layers if isinstance(record.block, Crop)}
        assert modes == {mode}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"crops": "truth"}, "crops must be one of .*'ground-truth'.* received 'truth'"),
        ({"crop_gradient": "given"}, "crop_gradient must be one of .* received 'given'"),
    ],
)
def test_what_is_not_known_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        UnrolledSettings(**settings)


def test_shifts_and_jitter_where_no_centre_is_given_are_refused(clip):
    free = tiny_unrolled(np.random.default_rng(1), frames=4)
    with pytest.raises(ValueError, match="shifts are for crops 'ground-truth'"):
        clip_batch(free, [clip], np.float64, shifts=np.zeros((1, 4, 2)))
    with pytest.raises(ValueError, match="take crops 'ground-truth', or no jitter"):
        ClipBatches(free, Still(), center_jitter=4.0)


@pytest.mark.parametrize("jitter", [-1.0, np.nan, np.inf])
def test_a_jitter_that_is_no_distance_is_refused(net, jitter):
    with pytest.raises(ValueError, match="center_jitter must be 0 or more pixels"):
        ClipBatches(net, Still(), center_jitter=jitter)


def test_shifts_of_another_shape_are_refused(net, clip):
    with pytest.raises(ValueError, match=r"shifts must be \(1, 4, 2\) .* received \(4, 2\)"):
        clip_batch(net, [clip], np.float64, shifts=np.zeros((4, 2)))


@pytest.mark.parametrize("box", [[np.nan] * 4, [70, 60, 0, 20]])
def test_a_clip_without_a_box_where_crops_lie_is_refused(net, clip, box):
    boxes = clip.boxes.copy()
    boxes[2] = box
    with pytest.raises(ValueError, match="clip 1 of the batch has none in frame 3"):
        clip_batch(net, [clip, Clip(clip.frames, boxes)], np.float64)
