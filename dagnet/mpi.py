"""The processes that ``mpiexec`` started, through mpi4py.

mpi4py is imported only in a run of several processes. Which one this is, is read from the
environment, where launchers say it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .backend import asnumpy, get_array_module, to_device
from .communicator import SINGLE, Communicator, Pending
from .errors import BackendError

# How many processes there are, as launchers say it: Open MPI, MPICH and Intel MPI (and Slurm's
# pmi2), MVAPICH2.
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
# Slurm's pmix says which process this is; their number is Slurm's own.
PMIX_RANK, SLURM_SIZE = "PMIX_RANK", "SLURM_STEP_NUM_TASKS"
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", PMIX_RANK)
# The place of this process among those of its machine.
LOCAL_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
GPUS = "CUDA_VISIBLE_DEVICES"
# 1 or 0: whether MPI can be given a GPU's memory, where it does not know itself.
CUDA_AWARE = "DSIAM_MPI_CUDA"
# Bytes of one message of a broadcast: MPI counts with 32 bits.
CHUNK_BYTES = 1 << 28
# Seconds that a launcher has to pass on what a process wrote before it ends all of them.
LAST_WORDS = 1.0


def launched_size(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes a launcher says there are; 1 where there was none."""
    names = (*SIZE_VARIABLES, SLURM_SIZE) if PMIX_RANK in environment else SIZE_VARIABLES
    return next((int(environment[name]) for name in names if name in environment), 1)


def launched_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Which of them this process is; 0 where there was no launcher."""
    if launched_size(environment) == 1:
        return 0
    return next((int(environment[name]) for name in RANK_VARIABLES if name in environment), 0)


def join(environment: MutableMapping[str, str] = os.environ) -> Communicator:
    """The communicator of this run: ``SINGLE`` if it is one of a single process.

    Raises
    ------
    BackendError
        If several processes were started and mpi4py is missing, or is of another MPI than the
        launcher: each process would take itself for the only one.
    """
    size = launched_size(environment)
    if size == 1:
        return SINGLE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as exc:
        raise BackendError(
            f"{size} processes were started, and mpi4py, by which they would train together, "
            f"cannot be used ({exc}): pip install 'dsiam[mpi]', with an MPI library that it finds"
        ) from exc
    if MPI.COMM_WORLD.size != size:
        raise BackendError(
            f"{size} processes were started, and mpi4py sees {MPI.COMM_WORLD.size}: mpiexec and "
            f"the library of mpi4py ({MPI.Get_library_version().splitlines()[0].strip()}) are of "
            "different MPIs; take the mpiexec that belongs to this library"
        )
    return MpiCommunicator()


def choose_gpu(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let each process of a machine see one GPU, its own; before CuPy is imported.

    Processes take the GPUs of ``CUDA_VISIBLE_DEVICES`` in turn, or, where it is not set, the one
    of their own number. Where one is named, a launcher has chosen.
    """
    local = next((int(environment[n]) for n in LOCAL_VARIABLES if n in environment), None)
    if local is None or launched_size(environment) == 1:
        return
    named = [name for name in environment.get(GPUS, "").split(",") if name.strip()]
    environment[GPUS] = named[local % len(named)] if named else str(local)


def abort(status: int) -> None:
    """End all processes of the run, if there are others: they wait for this one otherwise."""
    loaded = sys.modules.get("mpi4py.MPI")
    if loaded is None or not loaded.Is_initialized() or loaded.Is_finalized():
        return
    if loaded.COMM_WORLD.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        # A launcher that is told to end everything may not pass on what it has not read by then.
        time.sleep(LAST_WORDS)
        loaded.COMM_WORLD.Abort(status)


class MpiCommunicator(Communicator):
    """All processes that ``mpiexec`` started.

    Sums of arrays on a GPU go through MPI directly where it can take them (Open MPI and MPICH say
    so themselves; ``DSIAM_MPI_CUDA=1`` says it for others), else through pinned memory of the host.
    Open MPI has no non-blocking sums of a GPU's memory, so a thread waits in a blocking one.
    """

    def __init__(self):
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self.rank, self.size = self._world.rank, self._world.size
        self.local_size = self._world.Split_type(MPI.COMM_TYPE_SHARED).size
        self.any_thread = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        # The one thread that sums GPU memory, when there is any.
        self._pool: ThreadPoolExecutor | None = None

    def empty(self, count: int, dtype: Any, device: str) -> Any:
        if device == "cpu":
            return np.empty(count, dtype)
        if self.any_thread and cuda_aware(self._mpi):
            return to_device(np.empty(count, dtype), device)
        import cupyx

        return cupyx.empty_pinned((count,), dtype)

    def start_sum(self, array: Any) -> Pending:
        xp = get_array_module(array)
        if xp is np:
            return _Request(self._world.Iallreduce(self._mpi.IN_PLACE, array, self._mpi.SUM))
        # What computes the array is only queued on the device so far.
        written = xp.cuda.get_current_stream().record()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="sum")
        return _Waiting(self._pool.submit(self._sum, array, written))

    def _sum(self, array: Any, written: Any) -> None:
        written.synchronize()
        self._world.Allreduce(self._mpi.IN_PLACE, array, self._mpi.SUM)

    def broadcast(self, array: Any) -> Any:
        content = np.array(asnumpy(array), order="C")
        flat = content.reshape(-1).view(np.uint8)
        self._broadcast(flat)
        return get_array_module(array).asarray(content)

    def broadcast_bytes(self, content: bytes) -> bytes:
        (count, *_) = self.exchange(len(content))
        flat = np.frombuffer(content, np.uint8).copy() if self.is_first else np.empty(count, "u1")
        self._broadcast(flat)
        return flat.tobytes()

    def _broadcast(self, flat: np.ndarray) -> None:
        for start in range(0, len(flat), CHUNK_BYTES):
            self._world.Bcast(flat[start : start + CHUNK_BYTES], root=0)

    def exchange(self, value: Any) -> list[Any]:
        own = np.frombuffer(json.dumps(value).encode(), np.uint8)
        counts = np.empty(self.size, np.int32)
        self._world.Allgather(np.array([len(own)], np.int32), counts)
        texts = np.empty(int(counts.sum()), np.uint8)
        self._world.Allgatherv(own, [texts, counts])
        ends = np.cumsum(counts)
        return [json.loads(texts[e - n : e].tobytes()) for e, n in zip(ends, counts)]


class _Request:
    """A sum that MPI has under way."""

    def __init__(self, request: Any):
        self._request = request

    def test(self) -> None:
        self._request.Test()

    def wait(self) -> None:
        self._request.Wait()


class _Waiting:
    """A sum that a thread waits for."""

    def __init__(self, future: Future):
        self._future = future

    def test(self) -> None:
        """The thread needs no help."""

    def wait(self) -> None:
        self._future.result()


def cuda_aware(mpi: Any, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this MPI can be given the memory of a CUDA device."""
    said = environment.get(CUDA_AWARE)
    if said is not None:
        return said == "1"
    try:
        # Open MPI's and MPICH's extension; mpi4py does not wrap it.
        return bool(ctypes.CDLL(mpi.__file__).MPIX_Query_cuda_support())
    except (OSError, AttributeError):
        return False
