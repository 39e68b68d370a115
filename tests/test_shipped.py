"""Tests of dsiam_net.shipped, ship, model_card and of what commands do without ``--weights``."""

import argparse
import importlib.resources
import json

import numpy as np
import pytest

from dagnet import CheckpointError, DagNN, TrainState, save_checkpoint, storage
from dsiam_net import shipped
from dsiam_net.branches import siamfc_branch
from dsiam_net.build_unrolled import main as build
from dsiam_net.evaluate import main as evaluate
from dsiam_net.model_card import BEGIN, END
from dsiam_net.options import add_network_options, complete_options, make_network
from dsiam_net.settings import PRESETS
from dsiam_net.ship import main as ship
from dsiam_net.shipped import FILE, LIMIT, equal_penalty, read_card, save_half
from dsiam_net.siamfc import add_losses, make_siamfc
from dsiam_net.track import main as track
from dsiam_net.tracker import create_tracker
from dsiam_net.tracking_net import TrackingNet
from dsiam_net.unrolled import LEARNING_RATES, V_LAMBDA, build_unrolled
from dsiam_net.weights import describe_weights, load_weights, random_siamfc, weights_path
from dsiam_net.weights_options import add_weights_options, complete_weights
from evaluation_stubs import write_sequence
from tiny import SEARCH_SIZE, tiny_branch, tiny_unrolled

ABOUT = {"name": "tiny", "release": "3", "summary": "random numbers"}


@pytest.fixture
def siamfc(rng):
    net = make_siamfc(tiny_branch(rng, np.float32))
    net.get_param("adjust_b").value = np.float32([0.125])
    add_losses(net, np.ones((7, 7)))
    return net


@pytest.fixture
def joint(rng):
    return tiny_unrolled(rng, np.float32)


@pytest.fixture
def in_package(tmp_path, monkeypatch, siamfc):
    """A SiamFC network with small filters in the place of the package's weights."""
    folder = tmp_path / "pretrained"
    monkeypatch.setattr("dsiam_net.shipped.pretrained_folder", lambda: folder)
    save_half(siamfc, folder / FILE, **ABOUT)
    return folder / FILE


def values(net):
    return {p.name: p.value for p in net.params}


def assert_rounded(read, written):
    """All values in single precision; filters rounded to 11 bits, the others as they were."""
    assert read.keys() == written.keys()
    for name, value in written.items():
        assert read[name].dtype == np.float32 and read[name].shape == value.shape
        if name.startswith("conv") and name.endswith("f"):
            # Below 6e-5 half precision has steps of 6e-8.
            np.testing.assert_allclose(read[name], value, rtol=2**-11, atol=3e-8)
            assert (read[name] != value).any()
        else:
            np.testing.assert_array_equal(read[name], value)


def test_a_siamfc_is_read_as_it_was_written_but_for_half_precision(siamfc, tmp_path):
    card = save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    net = load_weights(tmp_path / "a.npz")
    assert_rounded(values(net), values(siamfc))
    assert card.kind == "SiamFC" and card.parameters == len(siamfc.params)
    assert read_card(tmp_path / "a.npz") == card
    assert net.meta["card"]["sha256"] == card.sha256
    # Losses are left out, streams are both there.
    assert net.get_layer_index("objective") is None
    assert net.get_inputs() == ["exemplar", "instance"]


def test_a_jointly_trained_network_keeps_its_33_parameters(joint, tmp_path):
    card = save_half(joint, tmp_path / "a.npz", **ABOUT)
    net = load_weights(tmp_path / "a.npz")
    assert len(net.params) == card.parameters == 33 and card.kind == "DSiam"
    assert_rounded(values(net), values(joint))
    assert len(net.layers) == 94 and net.meta["unrolled"]["frames"] == 1
    assert net.meta["unrolled"]["search_size"] == SEARCH_SIZE
    factors = [(p.name, p.learning_rate, p.weight_decay, p.train_method) for p in net.params]
    assert sorted(factors) == sorted(
        (p.name, p.learning_rate, p.weight_decay, p.train_method) for p in joint.params
    )


def test_the_average_image_stays_and_other_notes_do_not(siamfc, tmp_path):
    image = np.arange(3, dtype=np.float32).reshape(1, 1, 3)
    siamfc.meta = {"normalization": {"averageImage": image}, "notes": "where it was trained"}
    save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    meta = load_weights(tmp_path / "a.npz").meta
    assert meta.keys() == {"normalization", "card"}
    np.testing.assert_array_equal(meta["normalization"]["averageImage"], image)


def test_what_was_learned_wins_over_presets_and_presets_fill_in(siamfc, joint, tmp_path):
    settings = PRESETS["released"].replace(instance_size=SEARCH_SIZE)
    rates = {"v_lr": "cir11_lr", "w_lr": "cir12_lr"}
    for name, source in (("siamfc", siamfc), ("joint", joint)):
        save_half(source, tmp_path / f"{name}.npz", **ABOUT)
        net = TrackingNet(load_weights(tmp_path / f"{name}.npz"), ("feat", "x14"), settings)
        for setting, rate in rates.items():
            value = float(net.search.get_param(rate).value.item())
            expected = source.get_param(rate).value if source is joint else None
            assert value == pytest.approx(
                getattr(settings, setting) if expected is None else expected.item(), rel=1e-6
            )
        for lambda_name, value in net.lambdas.items():
            learned = joint.get_param(lambda_name).value.item()
            preset = getattr(settings, lambda_name)
            assert value == pytest.approx(learned if source is joint else preset, rel=1e-6)
        weights = net.search.get_param("sumweights").value
        expected = joint.get_param("sumweights").value if source is joint else 1.0
        np.testing.assert_array_equal(weights, np.broadcast_to(np.float32(expected), (7, 7)))
        bias = net.search.get_param("adjust_b").value
        np.testing.assert_array_equal(bias, source.get_param("adjust_b").value)


def test_trackers_take_the_scale_penalty_of_the_file(siamfc, tmp_path):
    save_half(siamfc, tmp_path / "a.npz", scale_penalty=0.9, **ABOUT)
    assert "| scale_penalty | 0.9 |" in read_card(tmp_path / "a.npz").table()
    tracker = create_tracker("siamfc", load_weights(tmp_path / "a.npz"))
    assert tracker.settings == PRESETS["siamfc"].replace(scale_penalty=0.9)
    save_half(siamfc, tmp_path / "b.npz", **ABOUT)
    assert "scale_penalty" not in read_card(tmp_path / "b.npz").table()
    tracker = create_tracker("siamfc", load_weights(tmp_path / "b.npz"))
    assert tracker.settings == PRESETS["siamfc"]
    for wrong in (0.0, 1.5, np.nan):
        with pytest.raises(ValueError, match="scale_penalty must be in"):
            save_half(siamfc, tmp_path / "c.npz", scale_penalty=wrong, **ABOUT)


def test_a_file_of_before_cards_had_a_scale_penalty_is_read(siamfc, tmp_path):
    save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    content = storage.load_tree(tmp_path / "a.npz")
    del content["card"]["scale_penalty"]
    storage.save_tree(tmp_path / "a.npz", content | {"version": 1})
    assert "scale_penalty" not in load_weights(tmp_path / "a.npz").meta


def test_an_equal_penalty_costs_another_scale_what_it_did():
    penalty = equal_penalty(0.9745, 1.5, 4.0)
    assert (1 - penalty) * 4.0 == pytest.approx((1 - 0.9745) * 1.5)
    assert equal_penalty(0.9, 2.0, 2.0) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="greater than 0"):
        equal_penalty(0.9, -1.0, 2.0)


def test_responses_are_those_of_the_network_to_half_precision(joint, tmp_path, rng):
    save_half(joint, tmp_path / "a.npz", **ABOUT)
    settings = PRESETS["released"].replace(instance_size=SEARCH_SIZE)
    template = rng.uniform(0, 255, (3, 127, 127)).astype(np.float32)
    search = rng.uniform(0, 255, (1, 3, SEARCH_SIZE, SEARCH_SIZE)).astype(np.float32)
    maps = []
    for source in (joint, load_weights(tmp_path / "a.npz")):
        net = TrackingNet(source, ("feat", "x14"), settings)
        net.set_template(template)
        net.learn(target=template)
        maps.append(net.respond(search))
    difference = np.abs(maps[0] - maps[1]).max() / np.ptp(maps[0])
    assert 0 < difference < 0.02


def test_a_full_sized_network_fits_into_the_package(tmp_path):
    for name, net in (
        ("siamfc", random_siamfc(0)),
        ("joint", build_unrolled(random_siamfc(0))),
    ):
        save_half(net, tmp_path / f"{name}.npz", **ABOUT)
        assert (tmp_path / f"{name}.npz").stat().st_size < LIMIT


def test_values_that_were_changed_are_refused(siamfc, tmp_path):
    path = tmp_path / "a.npz"
    save_half(siamfc, path, **ABOUT)
    content = storage.load_tree(path)
    content["branch"]["params"][0]["value"].flat[0] += 1
    storage.save_tree(path, content)
    with pytest.raises(CheckpointError, match=r"a\.npz: the values are not those"):
        load_weights(path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"version": shipped.VERSION + 1}, "later version"),
        ({"card": {"name": "a"}}, "no card"),
        ({"branch": {}}, "lacks values"),
        ({"version": None}, "expected a file of format"),
    ],
)
def test_damaged_files_are_refused(siamfc, tmp_path, change, words):
    save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    storage.save_tree(tmp_path / "a.npz", storage.load_tree(tmp_path / "a.npz") | change)
    with pytest.raises(CheckpointError, match=words):
        load_weights(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"b\.npz"):
        load_weights(tmp_path / "b.npz")


def test_networks_without_values_are_not_written(siamfc, tmp_path):
    siamfc.get_param("adjust_b").value = np.float32([np.nan])
    with pytest.raises(ValueError, match="'adjust_b' has NaN or inf"):
        save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    siamfc.get_param("conv2b").value = None
    with pytest.raises(ValueError, match="'conv2b' has no value"):
        save_half(siamfc, tmp_path / "a.npz", **ABOUT)
    assert not (tmp_path / "a.npz").exists()


def test_the_packages_folder_is_found_beside_the_code(monkeypatch):
    monkeypatch.undo()  # the fixture of all tests points elsewhere
    folder = shipped.pretrained_folder()
    assert folder == importlib.resources.files("dsiam_net") / "pretrained"
    assert (folder / "README.md").is_file()
    path = shipped.shipped_path()
    if path is not None:
        # What is shipped keeps its promises.
        assert path.stat().st_size < LIMIT
        assert len(load_weights(path).params) in (24, 33)


def test_without_weights_in_the_package_a_file_is_asked_for():
    assert shipped.shipped_path() is None
    with pytest.raises(FileNotFoundError, match="without weights of its own"):
        weights_path("shipped")
    with pytest.raises(ValueError, match="give --weights FILE or --random-weights"):
        complete_weights(argparse.Namespace(weights=None, random_weights=False))


def test_the_packages_weights_are_named(in_package):
    assert weights_path("shipped") == in_package
    assert describe_weights("shipped").startswith("shipped with the package, tiny 3 (SiamFC, sha")
    assert describe_weights("some/net.npz") == "net.npz"


def test_random_weights_stay_within_reach(in_package, capsys):
    parser = argparse.ArgumentParser()
    add_weights_options(parser.add_argument_group("weights"))
    for words in (["--weights", "random"], ["--random-weights"]):
        options = parser.parse_args(words)
        complete_weights(options)
        assert options.random_weights and options.weights is None
    assert capsys.readouterr().err == ""
    options = parser.parse_args([])
    complete_weights(options, quiet=True)
    assert options.weights == "shipped" and capsys.readouterr().err == ""
    complete_weights(parser.parse_args([]))
    assert capsys.readouterr().err.startswith("weights: shipped with the package, tiny 3")


def test_track_uses_the_packages_weights(in_package, tmp_path, capsys):
    write_sequence(tmp_path / "A", 3, 0)
    found = {}
    for name, more in (("default", []), ("given", ["--weights", str(in_package)])):
        boxes, record = tmp_path / f"{name}.txt", tmp_path / f"{name}.json"
        track([str(tmp_path / "A"), "--save-boxes", str(boxes), "--save-json", str(record), *more])
        said = capsys.readouterr().err
        assert ("weights: shipped with the package" in said) == (name == "default")
        found[name] = boxes.read_text(), json.loads(record.read_text())["weights"]
    assert found["default"][0] == found["given"][0]
    assert found["default"][1] == "shipped"


def test_evaluate_uses_the_packages_weights(in_package, tmp_path, capsys):
    write_sequence(tmp_path / "data" / "A", 3, 0)
    out = tmp_path / "out"
    arguments = ["--trackers", "siamfc", "--data", str(tmp_path / "data"), "--out", str(out)]
    assert evaluate([*arguments, "--jobs", "1", "--no-plots"]) == 0
    assert "weights: shipped with the package, tiny 3" in capsys.readouterr().err


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    options = parser.parse_args(["--frames", "1", *words])
    complete_options(options)
    return options


def test_networks_are_built_with_the_packages_weights(in_package, siamfc, capsys):
    options = parsed()
    assert options.weights == "shipped"
    assert "weights: shipped with the package" in capsys.readouterr().err
    net = make_network(options)
    filters = net.get_param("conv3f").value
    np.testing.assert_allclose(filters, siamfc.get_param("conv3f").value, rtol=1e-3, atol=1e-7)
    # What the file has not keeps its first value.
    assert net.get_param("v_lambda").value.item() == pytest.approx(V_LAMBDA["siamfc"])
    assert net.get_param("cir11_lr").value.item() == pytest.approx(LEARNING_RATES["v"])
    assert parsed("--weights", "random").weights is None
    assert parsed("--backbone", "vgg19").weights is None
    build(["--frames", "1"])
    assert "parameters 33" in capsys.readouterr().out


def test_without_weights_in_the_package_networks_are_random():
    assert parsed().weights is None


def write_checkpoint(path, net):
    settings = {
        "data": ["/somewhere/sequences"], "num_clips": 12, "exp_dir": "/somewhere/runs",
        "learning_rate": (1e-7, 1e-9), "weights": "/somewhere/siamfc.npz", "memory_budget": None,
    }  # fmt: skip
    save_checkpoint(path, net, TrainState(epoch=4, settings=settings))
    return path


def test_one_command_makes_a_file_of_a_checkpoint_and_fills_in_the_card(joint, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "net-epoch-4.npz", joint)
    document = tmp_path / "card.md"
    document.write_text(f"# Card\n\n{BEGIN}\nold\n{END}\n\nLimits.\n")
    arguments = [
        str(checkpoint), "--out", str(tmp_path / "dsiam.npz"), "--release", "1",
        "--summary", "a few | clips", "--card", str(document),
    ]  # fmt: skip
    ship(arguments)
    card = read_card(tmp_path / "dsiam.npz")
    assert card.training == {
        "epoch": 4, "data": ["sequences"], "num_clips": 12, "learning_rate": [1e-7, 1e-9],
        "weights": "siamfc.npz",
    }  # fmt: skip
    text = document.read_text()
    assert text.startswith("# Card\n") and text.endswith(f"{END}\n\nLimits.\n")
    assert "old" not in text and "somewhere" not in text
    assert "| summary | a few \\| clips |" in text and f"| sha256 | {card.sha256} |" in text
    output = capsys.readouterr().out
    assert card.sha256 in output and " MB" in output
    assert_rounded(values(load_weights(tmp_path / "dsiam.npz")), values(joint))
    # Again: the table is put in the place of the first one.
    ship(arguments)
    assert document.read_text() == text


def test_the_model_card_of_the_project_can_be_filled_in():
    folder = importlib.resources.files("dsiam_net").parent / "docs" / "model_card.md"
    text = folder.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)


def test_a_card_without_marks_and_a_file_of_another_name_are_refused(joint, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "net-epoch-4.npz", joint)
    common = [str(checkpoint), "--release", "1", "--summary", "none", "--out"]
    with pytest.raises(ValueError, match=r"FILE\.npz"):
        ship([*common, str(tmp_path / "dsiam.mat")])
    (tmp_path / "card.md").write_text("# Card\n")
    with pytest.raises(ValueError, match="expected the lines"):
        ship([*common, str(tmp_path / "a.npz"), "--card", str(tmp_path / "card.md")])


def test_networks_that_are_no_checkpoint_have_no_settings(tmp_path):
    branch = siamfc_branch((4, 4, 4, 4, 4))
    branch.init_params(0)
    branch.save(tmp_path / "net.npz")
    assert isinstance(load_weights(tmp_path / "net.npz"), DagNN)
    card = [str(tmp_path / "net.npz"), "--out", str(tmp_path / "a.npz"), "--release", "0"]
    ship([*card, "--summary", "none"])
    assert read_card(tmp_path / "a.npz").training == {}
