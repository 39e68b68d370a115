"""Damaged network files: ``load_network`` loads them or raises its own error, and does no harm."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fuzz_runner import MEMORY, SECONDS, Outcome, Tally, Worker, damaged, fuzz
from golden import GOLDENS
from mat_networks import small_network
from matlab_import.mat_writing import write_mat

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits and /proc as Linux has them"
)

# Every network file of the goldens.
NETWORKS = (
    *(f"net_siamfc_small_{version}" for version in ("v6", "v7", "v73")),
    *(f"simplenn_{form}_{version}" for form in ("new", "old") for version in ("v6", "v7", "v73")),
    "track_vggmini_net",
)
VERSIONS = ("6", "7", "7.3")
# Mutations of each file; of ours in the fast tests fewer where the golden files are there too.
FAST, SLOW = 100, 2000
FAST_OURS = 20 if GOLDENS.is_dir() else FAST


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    with Worker([written_network(folder, version) for version in VERSIONS]) as worker:
        yield worker


def golden_network(name: str) -> Path:
    path = GOLDENS / f"{name}.mat"
    if not path.is_file():
        pytest.skip("golden files not found")
    return path


def written_network(folder: Path, version: str) -> Path:
    """A small network of every kind of field, as this project writes it."""
    path = folder / f"written_v{version.replace('.', '')}.mat"
    write_mat(path, {"net": small_network(np.random.default_rng(0))}, version)
    return path


def assert_harmless(tally: Tally) -> None:
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.counts["loaded"] and tally.counts["refused"], tally.row()
    assert tally.slowest <= SECONDS and tally.largest <= MEMORY


@pytest.mark.golden
@pytest.mark.parametrize("name", NETWORKS)
def test_a_damaged_golden_network_is_loaded_or_refused(worker, name):
    assert_harmless(fuzz(golden_network(name), FAST, worker))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_network_of_ours_is_loaded_or_refused(worker, tmp_path, version):
    assert_harmless(fuzz(written_network(tmp_path, version), FAST_OURS, worker))


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", NETWORKS)
def test_two_thousand_damaged_golden_networks_are_loaded_or_refused(worker, name):
    assert_harmless(fuzz(golden_network(name), SLOW, worker))


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_two_thousand_damaged_networks_of_ours_are_loaded_or_refused(worker, tmp_path, version):
    assert_harmless(fuzz(written_network(tmp_path, version), SLOW, worker))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_number_is_the_same_damage(tmp_path, version):
    path = written_network(tmp_path, version)
    for number in range(20):
        assert damaged(path, number) == damaged(path, number)
    assert len({damaged(path, number)[1] for number in range(20)}) > 15


HARM = {
    "crash": "import os; os.kill(os.getpid(), 11)",
    "error": "raise KeyError('net')",
    "forbidden": "eval('1 + 1')",
    "memory": "bytearray(2 << 30)",
    "too slow": "while True: pass",
}


@pytest.mark.parametrize("found", HARM)
def test_harm_would_be_noticed(tmp_path, monkeypatch, found):
    """The process that loads files, with a reader that does what must not be done."""
    package = tmp_path / "harmful" / "matlab_import"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class MatFileError(Exception): pass\n"
        "def load_network(path):\n"
        "    if path.endswith('sample.mat'): return\n"
        "    try:\n"
        f"        {HARM[found]}\n"
        "    except MemoryError as exc:\n"
        "        raise MatFileError('damaged') from exc\n"
    )
    monkeypatch.setattr("fuzz_runner.TESTS", _with_worker(tmp_path / "harmful"))
    with Worker([tmp_path / "sample.mat"]) as worker:
        outcome = worker.load(tmp_path / "net.mat")
    assert outcome.found == found, outcome


def _with_worker(folder: Path) -> Path:
    """A folder of tests beside the package, with the real process in it."""
    tests = folder / "tests"
    tests.mkdir()
    source = Path(__file__).with_name("fuzz_worker.py").read_text(encoding="utf-8")
    source = source.replace("SECONDS = 5", "SECONDS = 0")  # so that the test is short
    (tests / "fuzz_worker.py").write_text(source, encoding="utf-8")
    return tests


def test_a_tally_keeps_what_went_wrong_with_its_number():
    tally = Tally("net.mat")
    tally.add(0, "cut", Outcome("refused", "truncated", 0.1, 5))
    tally.add(1, "cut", Outcome("loaded", "", 0.2, 3))
    tally.add(2, "cut", Outcome("crash", "status -11"))
    assert tally.failures == ["net.mat, mutation 2 (cut): crash: status -11"]
    assert (tally.slowest, tally.largest) == (0.2, 5)
    assert tally.row().startswith("| net.mat | 3 | 1 | 1 | 1 | 0.20 |")
