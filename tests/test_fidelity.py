"""Tests of dsiam_net.fidelity: the command that runs golden files."""

import json
import shutil

import numpy as np
import pytest
import scipy.io

from dsiam_net.fidelity.__main__ import main
from dsiam_net.fidelity.registry import MISSING
from dsiam_net.fidelity.run import check_folder
from golden import DATA, GOLDENS, golden_path
from golden_files import content, matlab, read_variables, rename_cases, write_golden
from mat_writers import write_mat73

needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="golden files not found")


def run(capsys, *arguments):
    """The command's exit status, and what it printed on standard output."""
    status = main([str(a) for a in arguments] + ["--quiet"])
    return status, capsys.readouterr().out


def row_of(text, file):
    (row,) = [line for line in text.splitlines() if line.startswith(f"{file} ")]
    return row


# The goldens


def test_the_goldens_that_come_with_the_tests_pass(capsys, tmp_path):
    status, text = run(capsys, DATA, "--json", tmp_path / "all.json")
    assert status == 0
    files = json.loads((tmp_path / "all.json").read_text())["files"]
    assert sorted(f["file"] for f in files) == sorted(p.name for p in DATA.glob("*.mat"))
    for file in files:
        assert file["status"] == "pass" and f" {len(file['cases'])} " in row_of(text, file["file"])
        meta = json.loads(str(scipy.io.loadmat(DATA / file["file"])["meta_json"][0]))
        assert [c["case"] for c in file["cases"]] == [m["name"] for m in meta]
        assert all(c["status"] in ("pass", "not yet") for c in file["cases"])


FAMILIES = {
    "layers": ["layers_*.mat"],
    "dsiam": ["dsiam_*.mat"],
    "siamfc": ["siamfc_*", "imresize.mat", "matlab_round.mat"],
    "networks": ["net_*", "simplenn_*"],
    "training": ["train_small_sgd_double.mat"],
    "tracking": ["track_siamfc5s_vot15_bag_matlab.mat", "track_dsiam_bag_1res_matlab.mat"],
}


@pytest.mark.golden
@needs_goldens
@pytest.mark.parametrize("family", FAMILIES)
def test_the_shared_goldens_pass(capsys, family):
    status, text = run(capsys, GOLDENS, "--files", *FAMILIES[family])
    assert status == 0, text
    assert "unused" not in text
    if family == "tracking":
        assert "input" in row_of(text, "frames_bag_01_08.mat")
        assert "input" in row_of(text, "track_net_weights.mat")


@pytest.mark.golden
@needs_goldens
def test_names_of_tracking_files_and_cases_do_not_matter(capsys, tmp_path):
    rename_cases(GOLDENS / "track_siamfc5s_vot15_bag_matlab.mat", tmp_path / "a.mat", "q{}".format)
    rename_cases(GOLDENS / "frames_bag_01_08.mat", tmp_path / "b.mat", "photo_{}".format)
    shutil.copy(GOLDENS / "track_net_weights.mat", tmp_path / "c.mat")
    # Another network and other frames lie there too.
    shutil.copy(GOLDENS / "track_vggmini_net.mat", tmp_path / "d.mat")
    shutil.copy(GOLDENS / "frames_skiing_06_10.mat", tmp_path / "e.mat")
    status, text = run(capsys, tmp_path)
    assert status == 0, text
    assert row_of(text, "a.mat").split()[-1] == "pass"
    for file in ("b.mat", "c.mat"):
        assert row_of(text, file).split()[-4:] == ["input", "used", "by", "a.mat"]
    for file in ("d.mat", "e.mat"):
        assert row_of(text, file).split()[-1] == "unused"


@pytest.mark.golden
@needs_goldens
def test_names_of_training_files_and_cases_do_not_matter(capsys, tmp_path):
    rename_cases(GOLDENS / "train_small_sgd_double.mat", tmp_path / "b.mat", lambda n: n[::-1])
    rename_cases(GOLDENS / "train_small_inputs.mat", tmp_path / "a.mat", lambda n: "images")
    status, text = run(capsys, tmp_path)
    assert status == 0 and row_of(text, "b.mat").split()[-1] == "pass", text


@pytest.mark.golden
@needs_goldens
def test_a_run_without_its_frames_fails_and_says_what_is_missing(capsys, tmp_path):
    shutil.copy(GOLDENS / "track_siamfc_skiing_matlab.mat", tmp_path)
    shutil.copy(GOLDENS / "frames_skiing_01_05.mat", tmp_path)
    status, text = run(capsys, tmp_path)
    assert status == 1
    assert "no files of the folder hold the 8 frames (func imread) of the video 'skiing'" in text


# What fails


@pytest.mark.parametrize(
    "file, case, field",
    [
        ("layers_vl_nnconv", "basic_d", "df"),
        ("layers_vl_nnbnorm", "bn_7_6_5_4_def_s", "dxg"),
        ("layers_vl_nnloss", "logistic_siamfc_n1_s", "dx2"),
        ("layers_vl_nnnormalize", "lrn5_d", "dx_exact"),
        ("layers_pure_m", "softmax_s", "dx"),
        ("dsiam_sumw", "sw_17_n1", "dw"),
        ("siamfc_labels", "cl_uniform_15", "weight"),
    ],
)
def test_an_array_that_is_one_percent_off_fails_and_is_named(capsys, tmp_path, file, case, field):
    variables = read_variables(DATA / f"{file}.mat")
    variables[f"{case}__{field}"] = variables[f"{case}__{field}"] * 1.01
    scipy.io.savemat(tmp_path / f"{file}.mat", variables)
    status, text = run(capsys, tmp_path)
    assert status == 1
    (line,) = [line for line in text.splitlines() if line.startswith("FAILED")]
    assert line.startswith(f"FAILED {file}.mat, case {case}, field {field}: error 9.9e-03, allowed")
    assert row_of(text, f"{file}.mat").split()[4].startswith("fail")


@pytest.mark.golden
@needs_goldens
def test_a_network_with_a_changed_parameter_fails_by_its_name(capsys, tmp_path):
    for name in ("simplenn_probe.mat", "simplenn_new_v6.mat", "simplenn_old_v6.mat"):
        shutil.copy(GOLDENS / name, tmp_path)
    data = bytearray((tmp_path / "simplenn_new_v6.mat").read_bytes())
    filters = scipy.io.loadmat(tmp_path / "simplenn_new_v6.mat")["layers"][0, 0]["weights"][0, 0]
    at = data.find(filters[0, 0].tobytes(order="F")[:16])
    data[at : at + 4] = np.float32(5).tobytes()
    (tmp_path / "simplenn_new_v6.mat").write_bytes(data)
    status, text = run(capsys, tmp_path)
    failed = [line for line in text.splitlines() if line.startswith("FAILED")]
    assert status == 1 and failed
    assert all("case probe, field x" in f and "(simplenn_new_v6.mat)" in f for f in failed)


def test_files_that_are_no_goldens_fail_and_say_why(capsys, tmp_path):
    (tmp_path / "text.mat").write_text("this is no .mat file, but long enough to look like one" * 9)
    scipy.io.savemat(tmp_path / "other.mat", {"a": np.ones(3), "b": np.ones(2)})
    scipy.io.savemat(tmp_path / "meta.mat", {"meta_json": "{"})
    scipy.io.savemat(tmp_path / "entry.mat", {"meta_json": '[{"name": "a"}]'})
    (tmp_path / "listing.json").write_text("[1, 2")
    status, text = run(capsys, tmp_path)
    assert status == 1
    for words in (
        "text.mat cannot be read as a .mat file",
        "other.mat holds a, b: expected a golden file",
        "meta.mat cannot be read as a golden file",
        "entry.mat: a case must have name, func and fields",
        "listing.json is no JSON file",
    ):
        assert f"{words}" in text
    assert "5 files: 5 fail" in text


def test_a_damaged_file_fails_and_the_others_run(capsys, tmp_path):
    whole = (DATA / "dsiam_sumw.mat").read_bytes()
    (tmp_path / "damaged.mat").write_bytes(whole[: len(whole) // 2])
    shutil.copy(DATA / "dsiam_sumw.mat", tmp_path)
    status, text = run(capsys, tmp_path)
    assert status == 1
    assert "damaged.mat" in text and row_of(text, "dsiam_sumw.mat").split()[4] == "pass"


def test_cases_that_cannot_be_run_fail_by_name(capsys, tmp_path):
    x = np.ones((2, 3, 1, 1))
    cases = {
        "a": ("vl_nnmystery", {}, {"x": x}),
        "b": ("vl_nnrelu", {}, {"x": x, "y": x}),
        "c": ("vl_nnpool", {}, {"x": x, "y": x, "dzdy": x, "dx": x}),
        "d": ("vl_nnloss", {"loss": "hungry"}, {"x": x, "c": x, "y": x, "dx": x}),
        "e": ("vl_nnconv", {}, {"x": x}),
    }
    variables = content(cases)
    write_golden(tmp_path / "own.mat", cases)
    del variables["a__x"]
    scipy.io.savemat(tmp_path / "less.mat", variables)
    status, text = run(capsys, tmp_path, "--files", "own.mat")
    assert status == 1
    for words in (
        "own.mat, case a (vl_nnmystery): nothing is known of the function 'vl_nnmystery'",
        "own.mat, case b (vl_nnrelu): GoldenError: case 'b' lacks the field 'dzdy'",
        "own.mat, case c (vl_nnpool): GoldenError: case 'c' lacks the option 'method'",
        "own.mat, case d (vl_nnloss): GoldenError: no loss 'hungry' is known",
        "own.mat, case e (vl_nnconv): it has no field to compare with",
    ):
        assert words in text
    status, text = run(capsys, tmp_path, "--files", "less.mat")
    assert status == 1
    assert "case a (vl_nnmystery): case 'a', field 'x': the file has no variable a__x" in text


def test_a_value_of_another_shape_or_without_a_number_fails(capsys, tmp_path):
    x = np.ones((2, 3, 1, 1))
    wrong = {"x": x, "y": np.ones((3, 2, 1, 1)), "dzdy": x, "dx": x * np.nan}
    write_golden(tmp_path / "own.mat", {"a": ("vl_nnrelu", {}, wrong)})
    status, text = run(capsys, tmp_path, "--json", tmp_path / "out" / "r.json")
    assert status == 1
    assert "case a, field y: found shape (1, 1, 2, 3), expected (1, 1, 3, 2)" in text
    assert "case a, field dx: error nan, allowed" in text
    (case,) = json.loads((tmp_path / "out" / "r.json").read_text())["files"][0]["cases"]
    assert [c["error"] for c in case["comparisons"]] == ["inf", "nan"]


# Goldens of other origin


def own_cases(rng):
    """Cases with names and sizes of their own, worked out by hand or with NumPy."""
    f = np.array([[[[1.0, 0.0], [0.0, -2.0]]]])
    x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    conv = {
        "x": matlab(x), "f": matlab(f), "b": np.array([10.0]), "dzdy": np.ones((2, 2)),
        "y": np.array([[1.0, 0], [-2, -3]]),
        "dx": np.array([[1.0, 1, 0], [1, -1, -2], [0, -2, -2]]),
        "df": np.array([[12.0, 16], [24, 28]]), "db": np.array([4.0]),
    }  # fmt: skip
    pool = {
        "x": np.array([[1.0, 5, 2], [7, 3, 9]]), "dzdy": np.array([[2.0, 3]]),
        "y": np.array([[7.0, 9]]), "dx": np.array([[0.0, 0, 0], [2, 0, 3]]),
    }  # fmt: skip
    z, area, der = (rng.standard_normal(s) for s in ((2, 3, 1), (4, 6, 1), (3, 4)))
    score = np.array([[(z * area[i : i + 2, j : j + 3]).sum() for j in range(4)] for i in range(3)])
    dz, darea = np.zeros(z.shape), np.zeros(area.shape)
    for i, j in np.ndindex(3, 4):
        dz += der[i, j] * area[i : i + 2, j : j + 3]
        darea[i : i + 2, j : j + 3] += der[i, j] * z
    xcorr = {"z": z, "x": area, "dzdy": der, "y": score, "dz": dz, "dx": darea}
    old, new = rng.standard_normal((2, 5, 7, 4))
    window = np.outer(np.hanning(5), np.hanning(7))[:, :, None]
    featf = np.fft.fft2(old * window, axes=(0, 1))
    alphaf = np.fft.fft2(new * window, axes=(0, 1)) / (np.abs(featf) ** 2 / 35 + 0.5)
    change = {"corrfeat": old, "new_corrfeat": new, "alphaf": alphaf, "featf": featf}
    options = {"stride": 1, "pad": 0, "dilate": 1, "hasBias": 1}
    pooling = {"method": "max", "pool": [2, 2], "stride": 1, "pad": 0}
    return {
        "worked_out": ("vl_nnconv", options, conv),
        "greatest": ("vl_nnpool", pooling, pool),
        "likeness": ("XCorr", {}, xcorr),
        "lesson": ("run_DSiam.m:update_change", {"lambda": 0.5, "issum": False}, change),
        "halves": ("round", {}, {"x": np.array([[0.5, -2.5]]), "y": np.array([[1.0, -3]])}),
    }


def test_a_golden_of_other_cases_and_sizes_passes(capsys, tmp_path, rng):
    write_golden(tmp_path / "mine.mat", own_cases(rng))
    status, text = run(capsys, tmp_path, "--verbose")
    assert status == 0, text
    assert "1 files: 1 pass; 5 cases: 5 pass" in text
    rows = [line.split() for line in text.splitlines()[2:7]]
    assert [r[0] for r in rows] == ["worked_out", "greatest", "likeness", "lesson", "halves"]
    assert all("pass" in r for r in rows)


def test_version_7_3_of_a_golden_is_read_too(capsys, tmp_path, rng):
    write_mat73(tmp_path / "mine.mat", content(own_cases(rng)))
    status, text = run(capsys, tmp_path)
    assert status == 0 and "5 cases: 5 pass" in text, text


def test_what_this_version_does_not_have_is_no_failure(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(MISSING, "vl_nnlater", "Later")
    x = np.ones((2, 3, 1, 1))
    write_golden(tmp_path / "later.mat", {"a": ("vl_nnlater", {}, {"x": x})})
    status, text = run(capsys, tmp_path)
    assert status == 0 and "FAILED" not in text
    assert row_of(text, "later.mat").endswith("not yet  not yet: Later (1)")


def test_accumulation_with_other_factors(capsys, tmp_path):
    a, b = np.array([[1.0, 2.0]]), np.array([[10.0, 20.0]])
    cases = {
        "step": ("vl_taccum", {"alpha": 1, "beta": 0.5}, {"a": a, "b": b, "y": a + 0.5 * b}),
        "none": ("vl_taccum", {"alpha": 2, "beta": 1}, {"a": a, "b": b, "y": 2 * a + b}),
    }
    write_golden(tmp_path / "sums.mat", cases)
    status, text = run(capsys, tmp_path)
    assert status == 0
    assert row_of(text, "sums.mat").endswith("pass, 1 not yet  not yet: vl_taccum with alpha 2 (1)")


def test_inputs_that_no_case_uses_are_reported(capsys, tmp_path, rng):
    frame = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_golden(tmp_path / "frames.mat", {"f0001": ("imread", {}, {"im": frame})})
    shutil.copy(DATA / "dsiam_sumw.mat", tmp_path)
    status, text = run(capsys, tmp_path)
    assert status == 0
    assert row_of(text, "frames.mat").split()[-1] == "unused"
    assert "2 files: 1 pass, 1 unused" in text


def test_a_crop_finds_its_frame_by_the_average_colour(capsys, tmp_path, rng):
    """A square box within the frame whose context needs no resizing, of the second frame."""
    frames = rng.integers(0, 256, (2, 90, 80, 3), dtype=np.uint8)
    images = {f"shot{k}": ("imread", {}, {"im": f}) for k, f in enumerate(frames, 5)}
    write_golden(tmp_path / "z_frames.mat", images)
    side, row, column = 40, 30, 20
    patch = frames[1, row : row + side, column : column + side].astype(np.float32)
    case = {
        "pos": np.array([[row + 1 + side / 2, column + 1 + side / 2]]),
        "targetSize": np.array([[20.0, 20.0]]),
        "avgChans": frames[1].mean(axis=(0, 1), dtype=np.float64)[None].astype(np.float32),
        "s_z": np.array([[40.0]]), "s_x": np.array([[40 * 255 / 127]]),
        "z_crop": patch, "z_orig_sum": np.array([[patch.sum(dtype=float)]]),
        "z_orig_size": np.array([[40.0, 40, 3]]),
    }  # fmt: skip
    write_golden(tmp_path / "crop.mat", {"own": ("get_subwindow_tracking", {}, case)})
    status, text = run(capsys, tmp_path)
    assert status == 0, text
    assert row_of(text, "z_frames.mat").endswith("used by crop.mat")


# The command


def test_patterns_choose_files(capsys):
    status, text = run(capsys, DATA, "--files", "layers_*", "dsiam_sumw.mat")
    assert status == 0
    assert "siamfc_labels" not in text and "layers_pure_m.mat" in text and "6 files" in text


def test_folders_without_anything_to_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        check_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no"):
        check_folder(tmp_path)
    with pytest.raises(ValueError, match=r"match tracks\*"):
        check_folder(DATA, ["tracks*"])


def test_progress_goes_to_standard_error(capsys):
    assert main([str(DATA), "--files", "dsiam_sumw.mat"]) == 0
    out, err = capsys.readouterr()
    assert "7/7" in err and "7/7" not in out


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_version_and_help_are_there(capsys, option):
    with pytest.raises(SystemExit) as exit:
        main([option])
    assert exit.value.code == 0
    assert ("DIR" if option == "--help" else "dsiam ") in capsys.readouterr().out


def test_files_that_come_with_the_tests_are_found():
    assert golden_path("dsiam_sumw.mat").is_file()
