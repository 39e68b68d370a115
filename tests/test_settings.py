"""Tests of dsiam_net.settings."""

import dataclasses
import pickle

import pytest

from dsiam_net.settings import PRESETS, TrackerSettings, get_preset
from golden import golden

# Settings by the names that the originals give them.
DSIAM = {
    "vlr": "v_lr", "wlr": "w_lr", "v_lambda": "v_lambda", "w_lambda": "w_lambda",
    "v1_lambda": "v1_lambda", "w1_lambda": "w1_lambda", "contextAmount": "context_amount",
    "exemplarSize": "exemplar_size", "instanceSize": "instance_size", "numScale": "num_scales",
    "scaleStep": "scale_step", "scalePenalty": "scale_penalty", "scaleLR": "scale_lr",
    "wInfluence": "window_influence", "responseUp": "response_up", "totalStride": "total_stride",
}  # fmt: skip
SIAMFC = ("numScale", "scaleStep", "scalePenalty", "scaleLR", "wInfluence")


def assert_same(settings, options, names):
    for original in names:
        value = getattr(settings, DSIAM[original])
        assert value == pytest.approx(options[original], rel=1e-7), original


@golden("track_dsiam_1res_matlab", lambda name: name == "init")
def test_released_is_what_the_public_code_sets(case):
    settings = get_preset("released")
    assert_same(settings, case.options, DSIAM)
    assert settings.scales == pytest.approx(case.options["scales"], rel=1e-15)


@golden("track_dsiam_vggmini_1res_matlab", lambda name: name == "init")
def test_released_vgg19_is_what_the_public_code_sets(case):
    assert_same(get_preset("released-vgg19"), case.options, DSIAM)


@golden("track_siamfc_skiing_matlab", lambda name: name == "res")
def test_siamfc_is_what_its_own_tracker_sets(case):
    assert_same(get_preset("siamfc"), case.options, SIAMFC)


@golden("track_siamfc5s_skiing_matlab", lambda name: name == "res")
def test_siamfc_5s_is_what_its_own_tracker_sets(case):
    assert_same(get_preset("siamfc-5s"), case.options, SIAMFC)


@golden("track_siamfc_skiing_matlab", lambda name: name == "res")
def test_paper_is_released_with_the_damping_of_siamfc(case):
    paper = get_preset("paper")
    assert_same(paper, case.options, SIAMFC)
    assert paper.replace(scale_lr=get_preset("released").scale_lr) == get_preset("released")


def test_scales_are_powers_of_the_step_around_one():
    assert TrackerSettings(num_scales=1).scales == (1.0,)
    scales = TrackerSettings(num_scales=5, scale_step=2.0).scales
    assert scales == (0.25, 0.5, 1.0, 2.0, 4.0)


def test_settings_are_frozen_and_replaced_by_copies():
    settings = PRESETS["released"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.v_lr = 0.1
    assert settings.replace(v_lr=0.1).v_lr == 0.1
    assert get_preset("released", w_lr=0.0).w_lr == 0.0
    assert settings.v_lr == 0.49


def test_settings_survive_pickling_and_a_dict():
    settings = get_preset("siamfc-5s")
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert TrackerSettings(**dataclasses.asdict(settings)) == settings


def test_the_table_has_a_line_for_each_setting():
    lines = PRESETS["released"].table().splitlines()
    assert len(lines) == len(dataclasses.fields(TrackerSettings))
    assert "scale_lr             0.58" in lines


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exemplar_size", 0), ("instance_size", 100), ("num_scales", 2), ("num_scales", 0),
        ("scale_step", 1.0), ("scale_lr", 1.5), ("window_influence", -0.1), ("v_lr", 2),
        ("w_lambda", 0.0), ("v1_lambda", -1.0), ("min_side_ratio", 2.0), ("max_side_ratio", 0.5),
        ("total_stride", 0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        TrackerSettings(**{name: value})


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="released, released-vgg19, siamfc"):
        get_preset("papper")
    with pytest.raises(TypeError, match="v_learning_rate"):
        get_preset("released", v_learning_rate=0.1)
