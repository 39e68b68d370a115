"""Tests of dsiam_net.unrolled, branches and siamfc: the network that the paper counts."""

from collections import Counter

import networkx
import numpy as np
import pytest

from dagnet import UnknownNameError
from dsiam_net.branches import copy_params, extract_branch, siamfc_branch, vgg19_branch
from dsiam_net.siamfc import make_siamfc
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from tiny import CHANNELS, smooth_clip, tiny_branch, tiny_unrolled

# Section by section what the supplement's Figure 1 shows of a frame, with two feature layers.
FRAME = {
    "Crop": 3,
    "Eltwise": 1,
    "dagnn.Conv": 5 * 5 + 1,
    "dagnn.BatchNorm": 5 * 4,
    "dagnn.ReLU": 5 * 4,
    "dagnn.Pooling": 5 * 2,
    "RLR": 4,
    "CirConv": 4,
    "XCorr": 2,
    "Elefusion": 1,
    "dagnn.Loss": 1,
    "centerThrErr": 1,
    "MaxScoreErr": 1,
}
PARAMETERS = {
    *(f"conv{i}{p}" for i in range(1, 6) for p in "fb"),
    *(f"bn{i}{p}" for i in range(1, 5) for p in "mbx"),
    "adjust_f",
    "adjust_b",
    *(f"cir{level}{which}_lr" for level in (1, 2) for which in (1, 2)),
    "v_lambda",
    "w_lambda",
    "v1_lambda",
    "w1_lambda",
    "sumweights",
}


@pytest.fixture(scope="module")
def full():
    return build_unrolled(siamfc_branch())


def test_ten_frames_are_940_layers_and_33_parameters(full):
    assert len(full.layers) == 940
    assert len(full.params) == 33
    assert {p.name for p in full.params} == PARAMETERS


@pytest.mark.parametrize("t", [1, 2, 10])
def test_a_frame_has_the_94_layers_of_the_papers_figure(full, t):
    types = Counter(r.type for r in full.layers if r.name.startswith(f"f{t}_"))
    assert types == FRAME
    assert sum(types.values()) == 94


def test_every_layer_is_live(full):
    graph = full.to_networkx()
    results = [f"{name}{t}" for name in ("objective", "errdisp", "errmax") for t in range(1, 11)]
    live = set().union(*(networkx.ancestors(graph, ("var", name)) for name in results))
    assert {("layer", r.name) for r in full.layers} <= live


def test_a_frame_learns_from_the_frame_before_and_tracks_in_its_own(full):
    def inputs(name):
        return full.get_layer(name).inputs

    state = ["score3", "center3", "sides", "color"]
    assert inputs("f4_crop_o") == ["frame3", *state]
    assert inputs("f4_crop_g") == ["frame3", *state]
    assert inputs("f4_crop_z") == ["frame4", *state]
    assert full.get_layer("f4_crop_z").outputs == ["f4_z", "center4"]
    assert inputs("f1_crop_o")[0] == inputs("f1_crop_z")[0] == "frame1"
    assert inputs("f4_o1_conv1") == ["template"]
    assert inputs("f4_mask") == ["f4_g"]
    assert inputs("f4_rlr11") == ["f4_o1_feat", "f4_o_feat"]
    assert inputs("f4_rlr22") == ["f4_g_x14", "f4_gbar_x14"]
    assert inputs("f4_cir11")[0] == "f4_o1_feat" and inputs("f4_cir22")[0] == "f4_z_x14"
    assert full.get_layer("f4_rlr11").params == ["v_lambda"]
    assert full.get_layer("f4_rlr22").params == ["w1_lambda"]
    assert full.get_layer("f4_cir21").params == ["cir21_lr"]


def test_parameters_start_from_the_public_values(full):
    values = {p.name: p.value for p in full.params}
    assert values["v_lambda"] == np.float32(1e-5) and values["w1_lambda"] == 10
    assert values["cir11_lr"] == np.float32(0.49) and values["cir22_lr"] == np.float32(0.29)
    assert values["sumweights"].shape == (17, 17) and np.all(
        values["sumweights"] == np.float32(0.8)
    )
    for name in ("v_lambda", "cir12_lr", "sumweights"):
        assert (full.get_param(name).learning_rate, full.get_param(name).weight_decay) == (1, 0)
    assert full.get_param("adjust_f").learning_rate == 0
    assert full.get_param("bn2x").train_method == "average"


def test_one_feature_layer_leaves_fusion_and_the_second_layers_out():
    net = build_unrolled(siamfc_branch(), UnrolledSettings(features=("feat",)))
    assert len(net.layers) == 10 * (94 - 2 - 2 - 1 - 1)
    assert {p.name for p in net.params} == PARAMETERS - {
        "sumweights",
        "v1_lambda",
        "w1_lambda",
        "cir21_lr",
        "cir22_lr",
    }


def test_vgg19_gives_maps_of_two_sizes_that_are_fused_at_the_larger():
    net = build_unrolled(
        vgg19_branch(), UnrolledSettings(frames=1, features=("relu5_4", "relu4_4"))
    )
    assert net.get_param("sumweights").value.shape == (17, 17)
    assert net.meta["unrolled"]["stride"] == 8
    assert len(net.params) == 32 + 2 + 4 + 4 + 1


def test_the_first_frame_can_stay_untransformed():
    settings = UnrolledSettings(frames=2, transform_first_frame=False)
    net = build_unrolled(siamfc_branch(), settings)
    enabled = {r.name: r.block.enable for r in net.layers if r.type == "CirConv"}
    assert not any(enabled[f"f1_cir{i}{j}"] for i in (1, 2) for j in (1, 2))
    assert all(enabled[f"f2_cir{i}{j}"] for i in (1, 2) for j in (1, 2))


def test_without_transformations_a_frame_is_siamfc(rng):
    """The first frame's response, untransformed, is that of SiamFC's own network on its crops."""
    settings = {"frames": 1, "features": ("feat",), "transform_first_frame": False}
    net = tiny_unrolled(rng, **settings)
    siamese = make_siamfc(extract_branch(net, ("feat",))[0])
    copy_params(net, siamese)
    net.get_var("f1_z").precious = True
    batch = clip_batch(net, [smooth_clip(rng, frames=1)], np.float64)
    net.eval(batch.inputs)
    crop = net.get_var("f1_z").value
    siamese.eval({"exemplar": batch.inputs["template"], "instance": crop})
    expected = siamese.get_var("score").value
    assert np.abs(net.get_var("score1").value - expected).max() < 1e-12 * np.abs(expected).max()


def test_frames_after_the_first_use_what_the_frame_before_taught(rng):
    clip = smooth_clip(rng, frames=3)
    net = tiny_unrolled(rng, frames=3)
    batch = clip_batch(net, [clip], np.float64)
    net.eval(batch.inputs)
    before = [net.get_var(f"score{t}").value.copy() for t in (1, 2, 3)]
    batch.inputs["frame2"] = batch.inputs["frame2"] + rng.normal(
        0, 20, batch.inputs["frame2"].shape
    )
    net.eval(batch.inputs)
    after = [net.get_var(f"score{t}").value for t in (1, 2, 3)]
    assert np.array_equal(before[0], after[0])
    assert not np.allclose(before[1], after[1]) and not np.allclose(before[2], after[2])


def test_a_branch_comes_back_out_of_the_networks_it_was_built_into(rng):
    branch = tiny_branch(rng)
    unrolled = build_unrolled(branch, UnrolledSettings(frames=2))
    siamese = make_siamfc(branch)
    for net in (branch, siamese, unrolled):
        found, features = extract_branch(net, ("conv5", "relu4"))
        assert features == ["feat", "x14"]
        assert [r.name for r in found.layers] == [r.name for r in branch.layers]
        assert [r.block.save() for r in found.layers] == [r.block.save() for r in branch.layers]
        assert found.get_inputs() == ["input"]
        for parameter in branch.params:
            assert np.array_equal(found.get_param(parameter.name).value, parameter.value)
            same = found.get_param(parameter.name)
            assert same.learning_rate == parameter.learning_rate


def test_features_that_are_not_there_are_refused():
    with pytest.raises(UnknownNameError, match="x99"):
        build_unrolled(siamfc_branch(), UnrolledSettings(features=("feat", "x99")))
    with pytest.raises(UnknownNameError, match="features feat, x99 are not all in the network"):
        extract_branch(siamfc_branch(), ("feat", "x99"))


def test_weights_of_another_network_are_refused(rng):
    target = build_unrolled(tiny_branch(rng), UnrolledSettings(frames=1))
    other = siamfc_branch()
    other.init_params(0)
    with pytest.raises(
        ValueError, match=r"'conv1f' has shape \(96, 3, 11, 11\).*\(12, 3, 11, 11\)"
    ):
        copy_params(other, target)


@pytest.mark.parametrize("settings", [{"frames": 0}, {"features": ()}])
def test_settings_that_make_no_network_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).rstrip("s")):
        UnrolledSettings(**settings)


def test_crops_too_small_for_the_branch_are_refused():
    with pytest.raises(ValueError, match="too small to correlate"):
        build_unrolled(siamfc_branch(), UnrolledSettings(exemplar_size=127, search_size=119))


def test_the_small_channels_are_those_of_the_goldens():
    shapes = {p.name: p for p in make_siamfc(siamfc_branch(CHANNELS)).params}
    assert len(shapes) == 24
