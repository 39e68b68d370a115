"""Tests of dsiam_net.evaluation.results: files of results."""

import numpy as np
import pytest
import scipy.io

from dsiam_net.evaluation.protocol import Run
from dsiam_net.evaluation.results import ResultError, read_run, spellings, toolkit_name, write_run
from dsiam_net.sequences import SequenceError
from matlab_import import MatFileError


@pytest.fixture
def boxes(rng):
    boxes = rng.uniform(-5, 300, (6, 4))
    boxes[3] = np.nan
    return boxes


@pytest.mark.parametrize("layout", ["OTB/mine", "GOT-10k/mine", "OTB-mat"])
def test_what_is_written_is_read_in_every_layout(tmp_path, boxes, layout):
    times = np.array([0.5, 0.1, 0.2, 0.1, 0.1, 0.25])
    write_run(tmp_path, "mine", "Deer", boxes, times)
    run = read_run(tmp_path / layout, "Deer")
    assert np.array_equal(run.boxes, boxes[None], equal_nan=True)
    assert np.ravel(run.times).sum() == pytest.approx(1.25)
    if layout != "OTB-mat":
        assert run.times.tolist() == [times.tolist()]


def test_a_run_leaves_these_files_and_no_others(tmp_path, boxes):
    write_run(tmp_path, "mine", "Jogging.2", boxes, np.ones(6))
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "GOT-10k/mine/Jogging.2/Jogging.2_001.txt",
        "GOT-10k/mine/Jogging.2/Jogging.2_time.txt",
        "OTB-mat/Jogging-2_mine.mat",
        "OTB/mine/Jogging.2.txt",
        "OTB/mine/times/Jogging.2_time.txt",
    ]


def test_the_mat_file_holds_what_otbs_toolkit_reads(tmp_path, boxes):
    write_run(tmp_path, "mine", "Deer", boxes, np.full(6, 0.25))
    results = scipy.io.loadmat(tmp_path / "OTB-mat" / "Deer_mine.mat", struct_as_record=False)
    cell = results["results"]
    assert cell.shape == (1, 1) and cell.dtype == object
    result = cell[0, 0][0, 0]
    assert np.array_equal(result.res, boxes, equal_nan=True)
    assert result.type.item() == "rect"
    assert (result.len.item(), result.fps.item()) == (6, 4)


def test_numpy_reads_the_text(tmp_path, boxes):
    write_run(tmp_path, "mine", "Deer", boxes, np.ones(6))
    read = np.loadtxt(tmp_path / "OTB" / "mine" / "Deer.txt", delimiter=",")
    assert np.array_equal(read, boxes, equal_nan=True)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", "   "])
def test_numbers_may_be_separated_in_any_way(tmp_path, separator):
    rows = [["1", "2", "3.5", "4"], ["5", "6", "7", "8e0"]]
    (tmp_path / "Deer.txt").write_text("".join(separator.join(r) + "\r\n" for r in rows))
    run = read_run(tmp_path, "Deer")
    assert run.boxes.tolist() == [[[1, 2, 3.5, 4], [5, 6, 7, 8]]]
    assert run.times is None


def test_polygons_become_boxes(tmp_path):
    (tmp_path / "bag.txt").write_text("1,1,11,1,11,6,1,6\n")
    # The upright polygon of 10 x 5 becomes a box of a pixel more on each side.
    assert read_run(tmp_path, "bag").boxes[0, 0, 2:] == pytest.approx([11, 6])


def test_repetitions_are_read_together(tmp_path):
    folder = tmp_path / "Deer"
    folder.mkdir()
    for number in (2, 1):
        (folder / f"Deer_{number:03d}.txt").write_text(f"{number},1,2,2\n{number},1,3,3\n")
    (folder / "Deer_time.txt").write_text("0.5,0.25\n0.125,1\n")
    run = read_run(tmp_path, "Deer")
    assert run.boxes[:, 0, 0].tolist() == [1, 2]
    assert run.times.tolist() == [[0.5, 0.125], [0.25, 1]]
    (folder / "Deer_003.txt").write_text("1,1,2,2\n")
    with pytest.raises(ResultError, match=r"Deer_003\.txt with 1"):
        read_run(tmp_path, "Deer")


@pytest.mark.parametrize(
    ("sequence", "file"),
    [
        ("Jogging", "Jogging.txt"),
        ("Jogging", "jogging-1.txt"),
        ("Jogging.1", "Jogging.txt"),
        ("Jogging.1", "Jogging_1.txt"),
        ("Jogging.2", "Jogging-2.txt"),
        ("Human4.2", "Human4.txt"),
        ("CarDark", "carDark.txt"),
    ],
)
def test_names_are_spelled_in_many_ways(tmp_path, sequence, file):
    (tmp_path / file).write_text("1,2,3,4\n")
    assert read_run(tmp_path, sequence) is not None


def test_the_second_target_is_never_the_first(tmp_path):
    (tmp_path / "Jogging.txt").write_text("1,2,3,4\n")
    (tmp_path / "Jogging.1.txt").write_text("1,2,3,4\n")
    assert read_run(tmp_path, "Jogging.2") is None
    assert spellings("Jogging.2") == ["jogging.2", "jogging-2", "jogging_2"]


def test_human4_has_the_toolkits_name(tmp_path):
    assert toolkit_name("Human4.2") == "Human4"
    write_run(tmp_path, "mine", "Human4.2", np.ones((2, 4)), np.ones(2))
    assert (tmp_path / "OTB" / "mine" / "Human4.txt").is_file()
    assert (tmp_path / "OTB-mat" / "Human4-2_mine.mat").is_file()
    for layout in ("OTB/mine", "GOT-10k/mine", "OTB-mat"):
        assert isinstance(read_run(tmp_path / layout, "Human4.2"), Run)


def test_other_peoples_mat_files_are_read(tmp_path):
    boxes = np.arange(8.0).reshape(2, 4)
    scipy.io.savemat(tmp_path / "deer_DSiam.mat", {"results": {"res": boxes, "type": "rect"}})
    assert read_run(tmp_path, "Deer").boxes.tolist() == [boxes.tolist()]


def test_files_that_are_no_results_are_named(tmp_path):
    cases = {
        "a.mat": ({"other": np.ones(3)}, MatFileError, "results"),
        "b.mat": ({"results": {"res": np.ones((2, 6)), "type": "ivtAff"}}, ResultError, "ivtAff"),
    }
    for name, (content, error, words) in cases.items():
        scipy.io.savemat(tmp_path / name, content)
        with pytest.raises(error, match=words):
            read_run(tmp_path, name[0])
    (tmp_path / "c.txt").write_text("1,2,3\n")
    with pytest.raises(SequenceError, match=r"c\.txt, line 1"):
        read_run(tmp_path, "c")
    (tmp_path / "d.txt").write_text("1,2,3,4\n")
    (tmp_path / "times").mkdir()
    (tmp_path / "times" / "d_time.txt").write_text("fast\n")
    with pytest.raises(ResultError, match=r"d_time\.txt"):
        read_run(tmp_path, "d")
    for tracker in ("one", "two"):
        scipy.io.savemat(tmp_path / f"e_{tracker}.mat", {"res": np.ones((1, 4))})
    with pytest.raises(ResultError, match=r"e_one\.mat, e_two\.mat"):
        read_run(tmp_path, "e")
    assert read_run(tmp_path, "f") is None
