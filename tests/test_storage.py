"""Tests of dagnet.storage and dagnet.files: trees of containers and arrays in files."""

import os
import pickle
import stat
import zipfile

import numpy as np
import pytest

from dagnet import CheckpointError, atomic_write
from dagnet.storage import load_tree, save_tree

ARRAYS = {
    "single": np.arange(6, dtype=np.float32).reshape(2, 3),
    "double": np.array([0.1, -np.inf, np.nan]),
    "complex": np.array([[1 + 2j, -3j]], dtype=np.complex64),
    "whole": np.array([2**63, 1], dtype=np.uint64),
    "logical": np.array([True, False]),
    "text": np.array(["a", "größer"]),
    "number": np.array(2.5),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "matlab's order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every other": np.arange(10.0)[::2],
}
PLAIN = [
    None,
    True,
    -7,
    10**30,
    0.1,
    float("inf"),
    "",
    "naïve 目标 \0 \n \ud800",
    [],
    (),
    {},
    [1, (2, [3.0, None])],
    ((1,), [2]),
    {"dict": {"array": "array0"}, "list": [], "": 1, "a.b": (None,)},
]


def round_trip(tree, folder):
    save_tree(folder / "tree.npz", tree)
    return load_tree(folder / "tree.npz")


def same(a, b):
    """Equal in value, and in type at every depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("tree", PLAIN, ids=repr)
def test_plain_values_come_back_with_their_types(tree, tmp_path):
    assert same(round_trip(tree, tmp_path), tree)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_bit_for_bit(name, tmp_path):
    array = ARRAYS[name]
    found = round_trip({"here": [array]}, tmp_path)["here"][0]
    assert isinstance(found, np.ndarray) and found.dtype == array.dtype
    assert found.shape == array.shape and found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "number", [np.float32(0.1), np.int16(-3), np.bool_(True), np.complex64(1j)], ids=repr
)
def test_numpys_numbers_come_back_as_numbers_of_their_type(number, tmp_path):
    found = round_trip((number,), tmp_path)[0]
    assert type(found) is type(number) and found == number


def test_a_python_complex_comes_back_equal(tmp_path):
    assert round_trip([1 + 2j], tmp_path) == [1 + 2j]


def test_nan_comes_back(tmp_path):
    assert np.isnan(round_trip([float("nan")], tmp_path)[0])


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"a": [1, {"b": object()}]}, r"tree\.a\[1\]\.b: cannot save an object of type object"),
        ((set(),), r"tree\[0\]: cannot save an object of type set"),
        ({"a": {3: 1}}, r"tree\.a: keys must be strings, received 3"),
        ([np.array([{}], dtype=object)], r"tree\[0\]: cannot save an object of type ndarray"),
        ([np.zeros(2, dtype=[("o", object)])], r"tree\[0\]: cannot save"),
        ([np.zeros(2, dtype=[("o", object)])[0]], r"tree\[0\]: cannot save .* void"),
        ([np.float32], r"tree\[0\]: cannot save an object of type type"),
        ([b"bytes"], r"tree\[0\]: cannot save an object of type bytes"),
    ],
)
def test_objects_of_other_kinds_are_refused_with_their_place(tree, message, tmp_path):
    path = tmp_path / "tree.npz"
    with pytest.raises(TypeError, match=message):
        save_tree(path, tree)
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_taken_as_it_is(tmp_path):
    save_tree(str(tmp_path / "checkpoint"), [1])
    assert load_tree(str(tmp_path / "checkpoint")) == [1]


class Bomb:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def write_pickle(path):
    path.write_bytes(pickle.dumps(Bomb(path.with_name("exploded"))))


def write_pickled_array(path):
    np.save(path.open("wb"), np.array([Bomb(path.with_name("exploded"))]), allow_pickle=True)


def write_archive_of_pickles(path):
    array = np.array([Bomb(path.with_name("exploded"))])
    np.savez(path.open("wb"), tree=np.array("1"), array0=array)


def write_tree(text):
    def write(path):
        np.savez(path.open("wb"), tree=np.array(text))

    return write


def write_compressed_oddly(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tree.npy", b"not an array")


FOREIGN = {
    "nothing": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("epoch 1\nepoch 2\n"),
    "pickle": write_pickle,
    "pickled array": write_pickled_array,
    "archive of pickles": write_archive_of_pickles,
    "one array": lambda path: np.save(path.open("wb"), np.zeros(3)),
    "archive without a tree": lambda path: np.savez(path.open("wb"), x=np.zeros(3)),
    "zip of other things": write_compressed_oddly,
    "tree that is no JSON": write_tree("{"),
    "tree of an unknown kind": write_tree('{"set": [1]}'),
    "tree without its array": write_tree('{"array": "array0"}'),
    "tree whose reference is a list": write_tree('{"array": []}'),
    "tree whose dict is a list": write_tree('{"dict": []}'),
    "tree whose list is a number": write_tree('{"list": 3}'),
    "tree with two kinds": write_tree('{"list": [], "tuple": []}'),
    "tree too deep": write_tree('{"list": [' * 9999 + "]}" * 9999),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_refused_in_one_line_and_nothing_in_it_runs(kind, tmp_path):
    path = tmp_path / "file.npz"
    FOREIGN[kind](path)
    with pytest.raises(CheckpointError) as caught:
        load_tree(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a file of this software, or damaged or truncated")
    assert "\n" not in message
    assert not (tmp_path / "exploded").exists()


def test_what_cannot_be_opened_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tree(tmp_path / "missing.npz")
    with pytest.raises(IsADirectoryError):
        load_tree(tmp_path)


TREE = {"version": 1, "net": [np.arange(4.0), ("a", np.float32(2))]}


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    path = tmp_path / "tree.npz"
    save_tree(path, TREE)
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_tree(path)


def test_a_changed_byte_is_noticed_or_has_no_effect(tmp_path):
    path = tmp_path / "tree.npz"
    save_tree(path, TREE)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = load_tree(path)
        except CheckpointError:
            refused += 1
        else:
            assert repr(found) == repr(TREE)
    assert refused > 0


# Writing so that an interruption leaves the old file or the new one


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(error, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as stream:
        stream.write(b"half of the n")
        stream.flush()
        raise error
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_tree_that_fails_midway_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "tree.npz"
    save_tree(path, [1])

    def fail(stream, **arrays):
        stream.write(b"PK")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space"):
        save_tree(path, [2])
    assert load_tree(path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["tree.npz"]


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path, "w") as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_missing_folders_are_made(tmp_path):
    save_tree(tmp_path / "runs" / "first" / "tree.npz", [1])
    assert load_tree(tmp_path / "runs" / "first" / "tree.npz") == [1]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        save_tree(tmp_path / "tree.npz", [1])
        assert os.umask(umask) == umask  # looking at it has not changed it
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "tree.npz").stat().st_mode) == mode
