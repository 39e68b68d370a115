"""No way in: nothing that is read runs, writes outside its folder, or takes memory without end."""

import _pickle
import json
import pickle
import re
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import scipy.io

from dagnet import CheckpointError, DagNN, TrainState, load_checkpoint, save_checkpoint
from dagnet.storage import load_tree, save_tree
from dsiam_net.analysis.challenge import parse_entrants
from dsiam_net.clips import read_clips
from dsiam_net.crops import CropError, CropStore, Track, write_crops
from dsiam_net.datasets.text import read_regions
from dsiam_net.evaluation.results import read_run
from dsiam_net.preparation.annotation import read_annotation
from dsiam_net.sequences import SequenceError, read_otb
from dsiam_net.shipped import save_half
from dsiam_net.siamfc import make_siamfc
from dsiam_net.weights import load_fusion_map, load_weights
from evaluation_stubs import write_sequence
from golden import ROOT
from matlab_import import MatFileError, load_training, read_mat, save_network
from tiny import tiny_branch

PACKAGES = ("dagnet", "layers", "dsiam_net", "matlab_import")


# Nothing is unpickled


class Unpickled(Exception):
    """Raised by whatever would unpickle."""


@pytest.fixture
def no_pickle(monkeypatch):
    """Every way to unpickle, in Python and in C, raises."""

    def refuse(*_, **__):
        raise Unpickled

    for module in (pickle, _pickle):
        for name in ("load", "loads", "Unpickler"):
            monkeypatch.setattr(module, name, refuse)


def files(folder):
    """A file of every kind that is read, with what reads it."""
    net = make_siamfc(tiny_branch(np.random.default_rng(1), np.float32))
    net.get_param("adjust_b").value = np.float32([0.5])
    sequence = write_sequence(folder / "Video", 3)
    paths = {name: folder / name for name in ("net.npz", "epoch.npz", "half.npz", "a.mat", "b.mat")}
    net.save(paths["net.npz"])
    save_checkpoint(paths["epoch.npz"], net, TrainState(epoch=1))
    save_half(net, paths["half.npz"], name="a", release="1", summary="b")
    save_network(net, paths["a.mat"])
    save_network(net, paths["b.mat"], "7.3")
    scipy.io.savemat(folder / "map.mat", {"sumw": np.ones((3, 3))})
    write_crops([Track("t", "v", sequence.paths, sequence.boxes)], folder / "crops", workers=1)
    image = sequence.paths[0]
    (folder / "clips.txt").write_text(f"0,{image},1,2,3,4\n")
    (folder / "Video.txt").write_text("1,2,3,4\n")
    xml = "<annotation><size><width>8</width><height>6</height></size></annotation>"
    (folder / "frame.xml").write_text(xml)
    return {
        "network": (DagNN.load, paths["net.npz"]),
        "checkpoint": (load_checkpoint, paths["epoch.npz"]),
        "shipped weights": (load_weights, paths["half.npz"]),
        "MATLAB 7": (load_training, paths["a.mat"]),
        "MATLAB 7.3": (load_training, paths["b.mat"]),
        "fusion map": (load_fusion_map, folder / "map.mat"),
        "crop store": (lambda path: CropStore(path).read(0, 0), folder / "crops"),
        "clips": (lambda path: read_clips(path)[0].read(), folder / "clips.txt"),
        "boxes": (read_regions, folder / "Video.txt"),
        "results": (lambda path: read_run(path, "Video"), folder),
        "annotation": (read_annotation, folder / "frame.xml"),
        "sequence": (lambda path: read_otb(path).frame(0), folder / "Video"),
    }


def test_no_kind_of_file_is_unpickled(tmp_path, no_pickle):
    for kind, (read, path) in files(tmp_path).items():
        try:
            assert read(path) is not None
        except Unpickled:
            pytest.fail(f"a {kind} is unpickled")


def test_no_source_unpickles_or_runs_what_it_reads():
    forbidden = re.compile(
        r"^\s*(import|from) (pickle|cPickle|dill|shelve|joblib|marshal)\b"
        r"|allow_pickle=True|(?<![\w.])(?<!def )(eval|exec)\(|weights_only=False|shell=True",
        re.MULTILINE,
    )
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found = forbidden.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found[0]}"
    loads = (ROOT / "matlab_import" / "siamfc_pth.py").read_text(encoding="utf-8")
    assert loads.count("torch.load(") == loads.count("weights_only=True)") == 1


# Nothing is written outside


def all_files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "..", "a/../../../out", "~/out", "\0"])
def test_crops_of_any_name_stay_in_their_store(tmp_path, rng, name):
    cv2.imwrite(str(tmp_path / "1.png"), rng.integers(0, 256, (40, 40, 3), np.uint8))
    track = Track(name, name, [tmp_path / "1.png"], [[10, 10, 12, 12]])
    store = write_crops([track], tmp_path / "deep" / "er" / "store", workers=1)
    assert len(store) == 1
    inside = {f for f in all_files(tmp_path) if f.startswith("deep/er/store/")}
    assert all_files(tmp_path) == {"1.png", *inside} and len(inside) == 3


@pytest.mark.parametrize(
    "change",
    [{"folder": "../../secret"}, {"folder": "/etc"}, {"files": ["../../passwd.jpg"]}],
)
def test_an_index_of_crops_names_nothing_outside_its_store(tmp_path, rng, change):
    cv2.imwrite(str(tmp_path / "1.png"), rng.integers(0, 256, (40, 40, 3), np.uint8))
    write_crops([Track("t", "v", [tmp_path / "1.png"], [[9, 9, 12, 12]])], tmp_path / "s")
    path = tmp_path / "s" / "index.json"
    content = json.loads(path.read_text())
    content["tracks"][0].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(CropError, match="lies outside the store"):
        CropStore(tmp_path / "s")


def test_names_of_trackers_are_no_paths(tmp_path):
    for name in ("../x", "a/b", "/x"):
        with pytest.raises(ValueError, match="cannot be a path"):
            parse_entrants(f"{name}=boxes.txt")


def test_a_list_of_clips_writes_nothing_and_refuses_what_is_no_image(tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "clips.txt").write_text("0,../secret,1,2,3,4\n")
    (clip,) = read_clips(tmp_path / "lists" / "clips.txt")
    with pytest.raises(SequenceError, match="cannot decode image") as caught:
        clip.read()
    assert "secret" not in str(caught.value).replace("../secret", "")
    assert all_files(tmp_path) == {"secret", "lists/clips.txt"}


# Nothing takes memory without end


def npy_header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("shape", ["(250000000000,)", "(1000000, 1000000, 1)", "(-3,)", "(2, 3)"])
def test_an_array_that_is_less_than_it_says_is_refused(tmp_path, shape):
    save_tree(tmp_path / "tree.npz", {"a": np.arange(4, dtype=np.float32)})
    with (
        zipfile.ZipFile(tmp_path / "tree.npz") as before,
        zipfile.ZipFile(tmp_path / "bad.npz", "w") as after,
    ):
        after.writestr("tree.npy", before.read("tree.npy"))
        after.writestr("array0.npy", npy_header(shape) + bytes(16))
    with pytest.raises(CheckpointError, match=r"array0\.npy: 16 bytes for an array of|damaged"):
        load_tree(tmp_path / "bad.npz")


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path):
    many = np.zeros(200_000_000, np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", tree=np.array('{"array": "a"}'), a=many)
    assert (tmp_path / "bomb.npz").stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match=r"200\d+ bytes, when unpacked, in a file that may"):
        load_tree(tmp_path / "bomb.npz")
    # What others compressed is read.
    np.savez_compressed(tmp_path / "fine.npz", tree=np.array('{"array": "a"}'), a=many[:10_000_000])
    assert len(load_tree(tmp_path / "fine.npz")) == 10_000_000


def test_a_mat_file_that_unpacks_without_end_is_refused(tmp_path):
    many = np.zeros(200_000_000, np.uint8)
    scipy.io.savemat(tmp_path / "bomb.mat", {"a": many}, do_compression=True)
    assert (tmp_path / "bomb.mat").stat().st_size < 1_000_000
    with pytest.raises(MatFileError, match="compressed data of more than"):
        read_mat(tmp_path / "bomb.mat")
    parts = {f"a{n}": many[:40_000_000] for n in range(4)}
    scipy.io.savemat(tmp_path / "parts.mat", parts, do_compression=True)
    with pytest.raises(MatFileError, match="compressed data of more than"):
        read_mat(tmp_path / "parts.mat")
    scipy.io.savemat(tmp_path / "fine.mat", {"a": many[:10_000_000]}, do_compression=True)
    assert read_mat(tmp_path / "fine.mat")["a"].size == 10_000_000


def test_structs_without_fields_do_not_fill_the_memory(tmp_path):
    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def content(count):
        flags = element(6, struct.pack("<II", 2, 0))
        size, name = element(5, struct.pack("<ii", count, 1)), element(1, b"s")
        names = element(5, struct.pack("<i", 1)) + element(1, b"")
        header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
        return header + element(14, flags + size + name + names)

    (tmp_path / "few.mat").write_bytes(content(5))
    assert len(read_mat(tmp_path / "few.mat")["s"]) == 5
    (tmp_path / "many.mat").write_bytes(content(2_000_000_000))
    with pytest.raises(MatFileError, match="less or more than it says"):
        read_mat(tmp_path / "many.mat")


def test_a_broken_stream_in_a_mat_file_is_damage(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(1000.0)}, do_compression=True)
    whole = (tmp_path / "a.mat").read_bytes()
    packed = zlib.compress(bytes(4000))[:-8]
    tag = struct.pack("<II", 15, len(packed))
    (tmp_path / "b.mat").write_bytes(whole[:128] + tag + packed)
    with pytest.raises(MatFileError, match="truncated or damaged"):
        read_mat(tmp_path / "b.mat")
