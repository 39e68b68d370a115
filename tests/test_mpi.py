"""Tests of runs under mpiexec: two processes against one, and what happens when one dies."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dagnet import load_checkpoint
from dagnet.mpi import GPUS, choose_gpu, join, launched_rank, launched_size
from dsiam_net import pretrain, train
from dsiam_net.branches import siamfc_branch
from dsiam_net.fidelity.checks.training import CANCELLED
from dsiam_net.pretraining_log import read_steps
from dsiam_net.training_log import read_log
from evaluation_stubs import write_sequence
from golden import ROOT
from pair_sources import Blobs
from tiny import CHANNELS, write_siamfc, write_two_clips

MEMBER = ROOT / "tests" / "mpi_member.py"
# Loaded machines are slow; what hangs is ended.
LONGEST = 300
ENVIRONMENT = {
    **os.environ,
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    # Open MPI asks for these where tests run as root, or on few cores.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


@pytest.fixture(scope="session")
def mpiexec():
    """The mpiexec that belongs to this Python's mpi4py; skips where there is none."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[dev]'")
    tried = []
    for path in (Path(sys.executable).parent / "mpiexec", shutil.which("mpiexec")):
        if path is None or not Path(path).exists():
            continue
        code = "from mpi4py import MPI; assert MPI.COMM_WORLD.size == 2"
        run = subprocess.run(
            [path, "-n", "2", sys.executable, "-c", code],
            **{"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": LONGEST},
        )
        if run.returncode == 0:
            return str(path)
        tried.append(f"{path} is of another MPI than mpi4py")
    pytest.skip("; ".join(tried) or "there is no mpiexec: pip install mpich")


@pytest.fixture
def start(mpiexec, tmp_path):
    """``start(count, command, *arguments)``: a run of ``mpi_member.py``."""
    started = []

    def run(count, command, *arguments):
        members = tmp_path / "members"
        members.mkdir(exist_ok=True)
        words = [sys.executable, MEMBER, members, command, *arguments]
        process = subprocess.Popen(
            [mpiexec, "-n", str(count), *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def mpirun(start):
    """``mpirun(count, command, *arguments)``: what it printed; it must end well."""

    def run(*words):
        process = start(*words)
        out, err = process.communicate(timeout=LONGEST)
        assert process.returncode == 0, err
        return out, err

    return run


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_siamfc(tmp_path_factory.mktemp("weights") / "small.npz")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_two_clips(tmp_path_factory.mktemp("data"))


def training(weights, data, exp_dir, *more):
    return [
        *("--data", str(data), "--weights", str(weights), "--exp-dir", str(exp_dir)),
        *("--frames", "2", "--num-clips", "10", "--epochs", "1"),
        *("--learning-rate", "1e-3", "1e-3", *map(str, more)),
    ]


def params(path):
    return {p.name: p.value for p in load_checkpoint(path)[0].params}


def momenta(path):
    return load_checkpoint(path)[1].solver_state


def assert_close(found, expected, adam=False):
    """Equal to 1e-6; by Adam, which divides derivatives and their rounding by their own size, of
    one at least."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Batch statistics take the effect of these biases away. What they learn is the rounding of
        # sums whose order differs: small beside what they are added to, unless Adam enlarges it.
        if name in CANCELLED and adam:
            continue
        scale = max(np.abs(value).max(), 1.0 if adam or name in CANCELLED else 1e-30)
        assert np.abs(found[name] - value).max() <= 1e-6 * scale, name


def sub_batches(monkeypatch, module, count):
    """Let a command of one process divide steps of as many clips into sub-batches."""
    options = module.train_options

    def divided(*arguments):
        chosen = options(*arguments)
        size = chosen.batch_size * count
        return replace(chosen, batch_size=size, num_sub_batches=count)

    monkeypatch.setattr(module, "train_options", divided)


def test_everything_a_communicator_does(mpirun):
    assert mpirun(3, "operations")[0].split("\n")[:-1] == ["all well with 3"]


@pytest.mark.parametrize("more", [(), ("--solver", "adam", "--crops", "ground-truth")])
def test_two_processes_take_five_steps_of_one_with_two_sub_batches(
    mpirun, weights, data, tmp_path, monkeypatch, more
):
    out, _ = mpirun(2, "train", *training(weights, data, tmp_path / "two", *more))
    assert out.count("train epoch 1") == out.count("learning-rate") == 1
    sub_batches(monkeypatch, train, 2)
    train.main(training(weights, data, tmp_path / "one", *more))
    found, expected = (tmp_path / name / "net-epoch-1.npz" for name in ("two", "one"))
    assert load_checkpoint(found)[1].stats["train"][0]["steps"] == 5
    assert_close(params(found), params(expected), adam="adam" in more)
    begun = {p.name: p.value for p in load_checkpoint(expected)[0].params}
    assert len(begun) == 33


def test_the_log_has_the_means_of_both_processes(mpirun, weights, data, tmp_path):
    # Steps that change nothing: clip by clip the losses are those of one process.
    still = ("--learning-rate", "1e-30", "1e-30", "--weight-decay", "0", "--freeze-bn")
    mpirun(2, "train", *training(weights, data, tmp_path / "two", *still))
    train.main(training(weights, data, tmp_path / "one", *still))
    one, two = (read_log(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert (len(one), len(two)) == (10, 5)
    for name in ("objective", "errdisp", "errmax"):
        pairs = np.reshape([row[name] for row in one], (5, 2)).mean(axis=1)
        assert [row[name] for row in two] == pytest.approx(pairs, rel=1e-6)
    assert not (tmp_path / "two" / ".lock").exists()


def pretraining(exp_dir, *more):
    return [
        *("--crops", "crops", "--exp-dir", str(exp_dir), "--instance-size", "159"),
        *("--num-pairs", "14", "--val-pairs", "4", "--epochs", "1", "--batch-size", "1"),
        *("--learning-rate", "1e-3", "1e-3", *map(str, more)),
    ]


def test_pretraining_by_two_is_that_of_one_with_two_sub_batches(mpirun, tmp_path, monkeypatch):
    mpirun(2, "pretrain", *pretraining(tmp_path / "two"))
    monkeypatch.setattr(pretrain, "siamfc_branch", lambda: siamfc_branch(CHANNELS))
    monkeypatch.setattr(pretrain, "make_source", lambda options: Blobs(159, jitter=4))
    monkeypatch.setattr(pretrain, "write_contact_sheet", lambda *_, **__: None)
    sub_batches(monkeypatch, pretrain, 2)
    pretrain.main(pretraining(tmp_path / "one"))
    found, expected = (tmp_path / name / "net-epoch-1.npz" for name in ("two", "one"))
    assert_close(params(found), params(expected))
    assert read_steps(tmp_path / "two" / "log.csv")["step"].tolist() == [1, 2, 3, 4, 5]
    # Each pair counts once: in one process the figures are of its last sub-batch alone.
    (figures,) = load_checkpoint(found)[1].stats["val"]
    assert figures["sums"]["objective"][1] == 4
    assert (tmp_path / "two" / "siamfc.npz").exists()


def test_a_run_that_goes_on_repeats_to_the_bit_and_other_numbers_are_refused(
    mpirun, start, weights, data, tmp_path, capsys
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    few = ("--num-clips", 4)
    mpirun(2, "train", *training(weights, data, whole, *few, "--epochs", 2))
    mpirun(2, "train", *training(weights, data, broken, *few))
    mpirun(2, "train", *training(weights, data, broken, *few, "--epochs", 2))
    name = "net-epoch-2.npz"
    for kept in (params, momenta):
        first, second = kept(whole / name), kept(broken / name)
        assert all(np.array_equal(first[key], second[key]) for key in first | second)
    assert [r["objective"] for r in read_log(whole / "log.csv")] == [
        r["objective"] for r in read_log(broken / "log.csv")
    ]
    process = start(3, "train", *training(weights, data, broken, *few, "--epochs", 3))
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    assert err.count("was written by 2 processes that train together, and this run has 3") == 1


def wait_for(condition, process):
    end = time.monotonic() + LONGEST
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run_with_the_last_checkpoint_whole(
    start, mpirun, weights, data, tmp_path, rank
):
    arguments = training(weights, data, tmp_path / "run", "--num-clips", 2, "--epochs", 400)
    process = start(2, "train", *arguments, "--checkpoint-every", 1)
    checkpoint = tmp_path / "run" / "net-epoch-2.npz"
    wait_for(checkpoint.exists, process)
    pids = [int((tmp_path / "members" / f"pid-{r}").read_text()) for r in range(2)]
    os.kill(pids[rank], signal.SIGKILL)
    process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    for pid in pids:
        wait_gone(pid)
    for path in (tmp_path / "run").glob("net-*.npz"):
        load_checkpoint(path)
    last = max(load_checkpoint(p)[1].epoch for p in (tmp_path / "run").glob("net-epoch-*.npz"))
    # It goes on, to what an undisturbed run gives.
    arguments[arguments.index("400")] = str(last + 1)
    mpirun(2, "train", *arguments)
    whole = [str(tmp_path / "whole") if a == str(tmp_path / "run") else a for a in arguments]
    mpirun(2, "train", *whole)
    name = f"net-epoch-{last + 1}.npz"
    first, second = params(tmp_path / "run" / name), params(tmp_path / "whole" / name)
    assert all(np.array_equal(first[key], second[key]) for key in first | second)


def wait_gone(pid):
    end = time.monotonic() + LONGEST
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.05)


def test_an_error_of_one_process_ends_all(start, weights, data, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    for image in (broken / "Second" / "img").iterdir():
        image.write_bytes(b"no image")
    process = start(2, "train", *training(weights, broken, tmp_path / "run", "--epochs", 9))
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode != 0
    assert "error: " in err and "Second" in err


def test_evaluation_by_two_gives_the_results_of_one(mpirun, weights, tmp_path):
    for seed, name in enumerate("ABC"):
        write_sequence(tmp_path / "data" / name, 3 + seed, seed)

    def arguments(out):
        return [
            *("--trackers", "siamfc", "--weights", weights, "--data", tmp_path / "data"),
            *("--out", out, "--no-plots", "--jobs", "1"),
        ]

    out, err = mpirun(2, "evaluate", *arguments(tmp_path / "two"))
    assert "3 of 3 sequences compared" in out and err.count(" frames in ") == 3
    assert "process 0: [1/" in err and "process 1: [1/" in err
    one, _ = mpirun(1, "evaluate", *arguments(tmp_path / "one"))
    assert without_speed(out) == without_speed(one)
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.txt")}
    assert files == {p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*.txt")}
    for path in files:
        if "time" not in path.name:
            assert (tmp_path / "one" / path).read_text() == (tmp_path / "two" / path).read_text()
    # What is finished is not done again.
    _, err = mpirun(2, "evaluate", *arguments(tmp_path / "two"))
    assert " frames in " not in err


def without_speed(table):
    """Frames a second are the numbers with one decimal."""
    return re.sub(r" +\d+\.\d(?!\d)", " -", table)


# Without mpiexec


@pytest.mark.parametrize(
    "environment, size, rank",
    [
        ({}, 1, 0),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}, 4, 3),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, 2, 0),
        ({"PMIX_RANK": "5", "SLURM_STEP_NUM_TASKS": "8"}, 8, 5),
        # A shell within a job of Slurm is not a run of several processes.
        ({"SLURM_STEP_NUM_TASKS": "8"}, 1, 0),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "1"}, 1, 0),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, 1, 0),
    ],
)
def test_launchers_say_who_this_is(environment, size, rank):
    assert (launched_size(environment), launched_rank(environment)) == (size, rank)


@pytest.mark.parametrize(
    "environment, gpu",
    [
        ({"PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, "1"),
        ({"PMI_SIZE": "4", "MPI_LOCALRANKID": "3", GPUS: "4,6"}, "6"),
        ({"PMI_SIZE": "4", "MPI_LOCALRANKID": "3", GPUS: "GPU-7"}, "GPU-7"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, "0"),
        ({"PMI_SIZE": "2"}, None),
        ({"PMI_SIZE": "1", "MPI_LOCALRANKID": "0"}, None),
        ({}, None),
    ],
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(environment, gpu):
    choose_gpu(environment)
    assert environment.get(GPUS) == gpu


def test_a_run_of_one_process_does_not_import_mpi4py():
    code = (
        "import sys\nfrom dsiam_net.cli import join_workers\n"
        "assert join_workers().size == 1\nassert 'mpi4py' not in sys.modules"
    )
    environment = {k: v for k, v in ENVIRONMENT.items() if launched_size({k: v}) == 1}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_an_error_of_the_program_itself_is_told_once(mpiexec):
    code = "from dsiam_net.cli import *; run_command(lambda _: {}[join_workers().rank])"
    for words in ([], [mpiexec, "-n", "1"]):
        run = subprocess.run(
            [*words, sys.executable, "-c", code],
            **{"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": LONGEST},
        )
        assert run.returncode == 1
        assert run.stderr.count("KeyError: 0") == 1


def test_without_mpi4py_several_processes_do_not_begin(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(Exception, match=r"2 processes were started.*pip install 'dsiam\[mpi\]'"):
        join({"PMI_SIZE": "2"})


def test_a_launcher_of_another_mpi_is_told_from_a_single_run(mpiexec):
    code = "from dsiam_net.cli import *; run_command(lambda _: join_workers())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**ENVIRONMENT, "MV2_COMM_WORLD_SIZE": "4"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert "4 processes were started, and mpi4py sees 1" in run.stderr
