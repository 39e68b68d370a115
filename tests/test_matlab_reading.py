"""Tests of the readers of matlab_import: every version gives the same plain form."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from golden import GOLDENS, SHARED
from mat_writers import WRITERS, Opaque, write_mat5, write_mat73
from matlab_import import MatFileError, MatlabObject, load_matrix, read_mat
from matlab_import.values import kind, number, structs, text, texts, to_python

SCIPY_FILES = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"

VALUES = {
    "scalar": np.array([[2.5]]),
    "row": np.array([[1.0, 2.0, 3.0]]),
    "column": np.array([[1.0], [2.0]], np.float32),
    "filters": np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5),
    "bytes": np.array([[1, 2], [3, 255]], np.uint8),
    "ints": np.array([[-7, 9]], np.int32),
    "yes": np.array([[True, False]]),
    "waves": np.array([[1 + 2j, 3 - 4j]]),
    "nothing": np.zeros((0, 0)),
    "word": "stride",
    "letter": "x",
    "greek": "αβγ",
    "no_word": "",
    "cell": ["a", np.array([[1.0]]), ["b", "c"]],
    "cell_of_one": ["a_x1"],
    "empty_cell": [],
    "struct": {"name": "conv1", "inner": {"pad": np.array([[0.0, 1.0, 2.0, 3.0]])}},
    "structs": [{"name": "a", "n": np.array([[1.0]])}, {"name": "b", "n": np.array([[2.0]])}],
}


def assert_same(found, expected, where="value"):
    """The same values in the same containers, with the same classes and axes."""
    assert isinstance(found, type(expected)), f"{where}: {kind(found)}, expected {kind(expected)}"
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name in expected:
            assert_same(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        assert np.array_equal(found, expected), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("name", VALUES)
def test_every_version_gives_the_same_plain_form(tmp_path, version, name):
    path = tmp_path / "file.mat"
    WRITERS[version](path, {name: VALUES[name]})
    assert_same(read_mat(path), {name: VALUES[name]})


@pytest.mark.parametrize("version", WRITERS)
def test_all_variables_of_a_file_are_read(tmp_path, version):
    path = tmp_path / "file.mat"
    WRITERS[version](path, VALUES)
    found = read_mat(path)
    assert_same({name: found[name] for name in VALUES}, VALUES)
    assert len(found) == len(VALUES)


@pytest.mark.parametrize("version", WRITERS)
def test_a_double_that_matlab_stores_as_a_small_integer_is_a_double(tmp_path, version):
    path = tmp_path / "file.mat"
    WRITERS[version](path, {"rate": np.array([[1.0]])})
    assert read_mat(path)["rate"].dtype == np.float64


def test_a_struct_array_of_one_element_stays_a_list():
    one, several = {"name": "a"}, [{"name": "a"}, {"name": "b"}]
    assert structs(one, "x") == [one]
    assert structs(several, "x") == several
    assert structs([], "x") == structs(np.zeros((0, 0)), "x") == []


def test_names_may_be_one_char_array_or_a_cell_of_them():
    assert texts("a", "x") == ["a"]
    assert texts(["a"], "x") == ["a"]
    assert texts(["a", "b"], "x") == ["a", "b"]
    assert texts([], "x") == texts(np.zeros((0, 0)), "x") == texts("", "x") == []


@pytest.mark.parametrize(
    "ask, value, words",
    [
        (structs, "conv", "struct array, found char 'conv'"),
        (structs, ["a", "b"], "struct array, found cell"),
        (text, np.ones((2, 3)), "char array, found 2 x 3 array of float64"),
        (texts, [np.ones((1, 1))], "cell of char arrays, found cell"),
        (texts, {"a": "b"}, "cell of char arrays, found struct with fields a"),
        (number, np.ones((1, 2)), "scalar, found 1 x 2 array"),
        (number, "7", "scalar, found char"),
        (number, MatlabObject("table"), "scalar, found object of class table"),
    ],
)
def test_another_kind_of_value_is_refused_with_what_was_found(ask, value, words):
    with pytest.raises(MatFileError, match="layer 3: expected a " + words):
        ask(value, "layer 3")


def test_python_form_has_python_scalars_and_keeps_arrays():
    found = to_python(
        {
            "a": np.array([[2.0]]),
            "b": [np.array([[True]]), "c"],
            "d": np.ones((1, 1, 3)),
            "e": MatlabObject("function_handle"),
            "f": np.array(["ab", "cd"]),
        }
    )
    assert (found["a"], found["b"], found["f"]) == (2.0, [True, "c"], ["ab", "cd"])
    assert type(found["a"]) is float and type(found["b"][0]) is bool
    assert found["d"].shape == (1, 1, 3)
    assert found["e"] == "<MATLAB object of class function_handle>"


# Version 7.3 in detail


def test_objects_of_matlab_classes_do_not_hide_the_rest_of_a_file(tmp_path):
    path = tmp_path / "file.mat"
    write_mat73(path, {"net": Opaque("dagnn.DagNN"), "epoch": np.array([[3.0]])})
    found = read_mat(path)
    assert found["net"] == MatlabObject("dagnn.DagNN")
    assert found["epoch"].item() == 3


def test_a_struct_array_of_none_and_a_struct_without_fields_are_read(tmp_path):
    path = tmp_path / "file.mat"
    with h5py.File(path, "w") as file:
        for name, size in (("none", (0, 1)), ("bare", (1, 1))):
            item = file.create_dataset(name, data=np.array(size, np.uint64))
            item.attrs["MATLAB_class"] = np.bytes_("struct")
            item.attrs["MATLAB_empty"] = np.uint8(1)
    assert read_mat(path) == {"bare": {}, "none": []}


def test_a_sparse_matrix_is_read_as_a_full_one(tmp_path):
    path = tmp_path / "file.mat"
    with h5py.File(path, "w") as file:
        group = file.create_group("m")
        group.attrs["MATLAB_class"] = np.bytes_("double")
        group.attrs["MATLAB_sparse"] = np.uint64(3)
        group["data"], group["ir"], group["jc"] = [5.0, 6.0, 7.0], [2, 0, 1], [0, 1, 1, 3]
    assert read_mat(path)["m"].tolist() == [[0, 0, 6], [0, 0, 7], [5, 0, 0]]


def test_rows_of_a_char_matrix_are_separate_texts(tmp_path):
    path = tmp_path / "file.mat"
    with h5py.File(path, "w") as file:
        rows = np.array([[ord(c) for c in row] for row in ("one", "two")], np.uint16)
        file["words"] = rows.T
        file["words"].attrs["MATLAB_class"] = np.bytes_("char")
    assert read_mat(path)["words"].tolist() == ["one", "two"]


# Files that MATLAB itself wrote, which come with SciPy's tests


def scipy_file(name):
    path = SCIPY_FILES / f"{name}.mat"
    if not path.is_file():
        pytest.skip("SciPy is installed without its test data")
    return read_mat(path)


def test_matlabs_own_version_73_equals_its_version_7():
    assert_same(scipy_file("testhdf5_7.4_GLNX86"), scipy_file("testdouble_7.4_GLNX86"))


@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_matlabs_own_files_are_read(version):
    assert_same(
        scipy_file(f"teststructarr_{version}")["teststructarr"],
        [
            {"one": np.array([[1.0]]), "two": np.array([[2.0]])},
            {"one": "number 1", "two": "number 2"},
        ],
    )
    assert_same(
        scipy_file(f"testcellnest_{version}")["testcellnest"],
        [
            np.array([[1.0]]),
            [np.array([[2.0]]), np.array([[3.0]]), [np.array([[4.0]]), np.array([[5.0]])]],
        ],
    )
    matrix = np.arange(1.0, 25.0).reshape(4, 3, 2).transpose(2, 1, 0)
    assert_same(scipy_file(f"test3dmatrix_{version}")["test3dmatrix"], matrix)
    turns = np.exp(1j * np.linspace(0, 2 * np.pi, 9)).reshape(1, -1)
    assert np.allclose(scipy_file(f"testcomplex_{version}")["testcomplex"], turns)
    assert scipy_file(f"testobject_{version}") == {"testobject": MatlabObject("inline")}


def test_matlabs_own_odd_values_are_read():
    assert_same(scipy_file("testbool_8_WIN64")["testbools"], np.array([[True], [False]]))
    assert scipy_file("test_empty_struct") == {"a": {}}
    assert scipy_file("parabola") == {"parabola": MatlabObject("function_handle")}
    assert scipy_file("testsimplecell") == {"s": {"mycell": ["a", "b", "c"]}}


@pytest.mark.golden
@pytest.mark.parametrize("name", ["net_siamfc_small", "simplenn_new", "simplenn_old"])
def test_the_versions_of_a_golden_file_have_the_same_content(name):
    if not (GOLDENS / f"{name}_v7.mat").is_file():
        pytest.skip("golden files not found")
    v6, v7, v73 = (read_mat(GOLDENS / f"{name}_{v}.mat") for v in ("v6", "v7", "v73"))
    assert_same(v6, v7)
    for found in (v7, v73):
        # The 7.3 file gives this one logical the class uint8.
        normalization = found.get("normalization") or found.get("meta", {})
        normalization = (
            normalization.get("normalization", normalization)
            if isinstance(normalization, dict)
            else {}
        )
        if "keepAspect" in normalization:
            normalization["keepAspect"] = normalization["keepAspect"].astype(bool)
    assert_same(dict(sorted(v73.items())), dict(sorted(v7.items())))


# Files that are none


def _npz(path):
    with path.open("wb") as stream:
        np.savez(stream, a=np.ones(3))


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file["data"] = np.ones(3)


FOREIGN = {
    "an empty file": lambda path: path.write_bytes(b""),
    "text that starts with 'conv1: 3x3": lambda path: path.write_text("conv1: 3x3\n" * 40),
    "a JPEG image": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(300)),
    "a zip archive": _npz,
    "an HDF5 file that MATLAB did not write": _hdf5,
    "bytes that start with 01 02 03": lambda path: path.write_bytes(bytes(range(1, 250))),
    "the header of version 5 cut off": lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"),
    "the header of version 7.3 without the HDF5 data": lambda path: path.write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600)
    ),
}


@pytest.mark.parametrize("found", FOREIGN)
def test_a_foreign_file_is_refused_with_what_it_is(tmp_path, found):
    path = tmp_path / "file.mat"
    FOREIGN[found](path)
    with pytest.raises(MatFileError) as error:
        read_mat(path)
    message = str(error.value)
    assert str(path) in message and found in message and "expected a MATLAB" in message


@pytest.mark.parametrize("version", ["version 6", "version 7", "version 7.3"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, version, part):
    path = tmp_path / "file.mat"
    WRITERS[version](path, {"net": {**VALUES["struct"], "value": VALUES["filters"]}})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(MatFileError, match="truncated or damaged"):
        read_mat(path)


@pytest.mark.parametrize("version", ["version 6", "version 7"])
def test_damage_anywhere_is_an_error_of_ours_or_harmless(tmp_path, rng, version):
    path = tmp_path / "file.mat"
    WRITERS[version](path, {"net": VALUES["structs"], "cell": VALUES["cell"]})
    content = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            read_mat(path)
        except MatFileError as error:
            assert str(path) in str(error)


# Of an uncompressed file with one double: 128 bytes of header, the tag of the matrix, its flags in
# 136 to 151, its size in 152 to 167, its name in 168 to 175, its data from 176.
DAMAGE = {
    "the unknown type 10761": (177, 42),
    "a complex array without imaginary part": (145, 8),
    "with less or more than it says": (163, 127),
    "an array of size": (163, 255),
    "an element of 2056 bytes": (181, 8),
    "an array of the unknown class 99": (144, 99),
}


@pytest.mark.parametrize("found", DAMAGE)
def test_damage_that_would_end_the_process_is_found_before(tmp_path, found):
    path = tmp_path / "file.mat"
    write_mat5(path, {"a": np.array([[1.5]])}, compressed=False)
    content = bytearray(path.read_bytes())
    place, value = DAMAGE[found]
    content[place] = value
    path.write_bytes(bytes(content))
    with pytest.raises(MatFileError, match=found):
        read_mat(path)


def test_a_missing_file_is_an_ordinary_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_mat(tmp_path / "none.mat")


# One matrix


@pytest.mark.parametrize("version", WRITERS)
def test_a_matrix_is_read_by_name_or_as_the_only_variable(tmp_path, version):
    path, weights = tmp_path / "file.mat", np.arange(6, dtype=np.float32).reshape(2, 3)
    WRITERS[version](path, {"sumw": weights})
    assert_same(load_matrix(path), weights)
    assert_same(load_matrix(path, "sumw"), weights)


@pytest.mark.parametrize(
    "variables, name, words",
    [
        ({"a": np.ones((2, 2)), "b": np.ones((2, 2))}, None, "say which one"),
        ({"a": np.ones((2, 2))}, "sumw", "expected a variable 'sumw', found a"),
        ({"sumw": "text"}, None, "numeric array with two axes, found char"),
        ({"sumw": np.ones((2, 2, 2))}, None, "numeric array with two axes, found 2 x 2 x 2"),
        ({"sumw": np.zeros((0, 0))}, None, "is empty"),
    ],
)
def test_a_file_without_the_matrix_is_refused(tmp_path, variables, name, words):
    path = tmp_path / "file.mat"
    write_mat5(path, variables)
    with pytest.raises(MatFileError, match=words):
        load_matrix(path, name)


@pytest.mark.golden
def test_the_authors_fusion_map_is_one_but_for_its_centre():
    path = SHARED / "reference_results" / "sumw.mat"
    if not path.is_file():
        pytest.skip("the authors' fusion map was not found")
    weights = load_matrix(path, "sumw")
    assert (weights.shape, weights.dtype) == ((17, 17), np.float32)
    row, column = np.indices(weights.shape) - 8
    # The 13 cells within 16 pixels, 2 cells, of the centre: SiamFC's positive labels.
    centre = row**2 + column**2 <= 4
    assert centre.sum() == 13
    assert np.array_equal(weights.round(3), np.where(centre, np.float32(0.992), 1))


@pytest.mark.parametrize("shape", [(0, 1 << 30), (1 << 30, 0)])
def test_an_empty_cell_array_with_a_long_side_takes_no_memory(tmp_path, shape):
    scipy.io.savemat(tmp_path / "a.mat", {"c": np.empty(shape, object)})
    assert read_mat(tmp_path / "a.mat")["c"] == []
