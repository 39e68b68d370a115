"""Tests of writing .mat files: classes and sizes of all kinds of values, and interruptions."""

import numpy as np
import pytest
import scipy.io

from mat_networks import number, row
from matlab_import import MatFileError, read_mat
from matlab_import.mat_writing import VERSIONS, write_mat
from matlab_import.values import Cell, StructArray


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.mat"


VALUES = {
    "single": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "empty": np.zeros((3, 0), np.float32),
    "flags": np.array([[True, False]]),
    "integer": np.array([[3]], np.int32),
    "complex": np.array([[1 + 2j]]),
    "text": "héllo",
    "no_text": "",
    "rows": np.array(["abc", "def"]),
    "struct": {"x": number(1), "none": {}, "cell": Cell([], (0, 0)), "row": Cell([], (1, 0))},
    "column": Cell(["a", "b"], (2, 1)),
    "nested": Cell(["a", np.eye(2), Cell([{"q": "z"}])]),
    "cell_of_structs": Cell([{"a": "x"}, {"a": "y"}]),
    "structs": StructArray([{"a": "x", "b": row(1, 2)}, {"a": "y", "b": np.zeros((0, 0))}]),
    "grid": StructArray([{"a": c} for c in "wxyz"], (2, 2)),
    "no_structs": StructArray([], (0, 0), ("name", "value")),
}


def assert_same_value(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            assert_same_value(found[name], expected[name])
    elif isinstance(expected, list):
        assert found.shape == expected.shape and len(found) == len(expected)
        assert getattr(found, "fields", None) == getattr(expected, "fields", None)
        for a, b in zip(found, expected):
            assert_same_value(a, b)
    else:
        assert np.array_equal(found, expected)
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", VALUES)
def test_classes_and_sizes_of_all_kinds_of_values_are_written(name, version, out):
    write_mat(out, {"value": VALUES[name]}, version)
    assert_same_value(read_mat(out)["value"], VALUES[name])


def test_a_file_of_version_7_3_starts_as_matlabs_do(out):
    write_mat(out, {"value": number(1)}, "7.3")
    head = out.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file") and head[124:128] == b"\x00\x02IM"
    assert head[512:516] == b"\x89HDF"


def test_an_interruption_leaves_the_old_file(out, monkeypatch):
    write_mat(out, {"value": number(1)})
    before = out.read_bytes()

    def broken(stream, *_, **__):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(scipy.io, "savemat", broken)
    with pytest.raises(KeyboardInterrupt):
        write_mat(out, {"net": VALUES["struct"], "value": VALUES["single"]})
    assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 1


def test_what_does_not_fit_into_version_7_is_refused(out, monkeypatch):
    monkeypatch.setattr("matlab_import.mat_writing._LARGEST_VARIABLE", 90)
    with pytest.raises(MatFileError, match=r"'value' has more than 2 GB.*version 7\.3"):
        write_mat(out, {"net": VALUES["struct"], "value": VALUES["single"]})
    write_mat(out, {"net": VALUES["struct"], "value": VALUES["single"]}, "7.3")


def test_an_unknown_version_is_refused(out):
    with pytest.raises(MatFileError, match=r"6, 7, 7\.3, received '5'"):
        write_mat(out, {}, "5")
