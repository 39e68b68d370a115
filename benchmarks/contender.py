"""Sides of a benchmark in processes of their own, so that neither disturbs the other.

Each side has its threads, its memory and its environment; while one works, the others sleep. A
``Contender`` stands in the measuring process for such a process; run as a program, this file is
that process, which answers pickled requests on its standard input.
"""

from __future__ import annotations

import importlib
import os
import pickle
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
STATUS = Path("/proc/self/status")
MEGABYTE = 2**20
# Side of the matrices whose product measures the machine.
GEMM_SIDE = 3072


class Seconds(NamedTuple):
    """How long a run took: by the clock, and of the processor in all threads.

    ``launched`` is when the host had nothing more to do: on a GPU before the run was over.
    """

    wall: float
    processor: float
    launched: float | None = None


class ContenderError(ChildProcessError):
    """A side of the benchmark failed."""


class Contender:
    """A process that runs one side.

    Parameters
    ----------
    module : str
        ``'ours'`` or ``'with_torch'``.
    threads : int
        Of the libraries that compute.
    environment : dict of str, optional
        Further variables of its environment.
    """

    def __init__(self, module: str, threads: int, environment: Mapping[str, str] | None = None):
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict(environment or {})
        self._process = subprocess.Popen(
            [sys.executable, __file__, module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | variables,
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _ask(self, request: str, *arguments: Any) -> Any:
        try:
            pickle.dump((request, arguments), self._process.stdin)
            self._process.stdin.flush()
            fine, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            raise ContenderError(
                f"a process of the benchmark ended with status {status} during {request!r}; out "
                "of memory?"
            ) from None
        if not fine:
            raise ContenderError(answer)
        return answer

    def make(self, work: str, *arguments: Any, **options: Any) -> None:
        """Prepare the module's class ``work`` with these arguments."""
        self._ask("make", work, arguments, options)

    def run(self, times: int = 1) -> list[Seconds]:
        """Run what was made some times."""
        return [Seconds(*taken) for taken in self._ask("run", times)]

    def results(self) -> dict[str, Any]:
        """Arrays that the last run left."""
        return self._ask("call", "results")

    def plan(self) -> str:
        """What our engine makes of the network."""
        return self._ask("call", "plan")

    def expected_bytes(self) -> float:
        """The memory that our engine expects a step to take, without the process itself."""
        return self._ask("call", "expected_bytes")

    def traffic(self) -> float:
        """The bytes that the layers of a step read and write, by our engine's plan."""
        return self._ask("call", "traffic")

    def profile(self, runs: int) -> list[Any]:
        """Times of a step's layers on the GPU, ``profiling.LayerTime``."""
        return self._ask("call", "profile", runs)

    def memory(self) -> tuple[float, float]:
        """Megabytes resident before the first run, and at the peak since the process began."""
        return self._ask("memory")

    def card_memory(self) -> tuple[float, float] | None:
        """Megabytes of the GPU taken before the work was made, and now; None on the CPU."""
        return self._ask("card_memory")

    def gemm(self) -> float:
        """GF/s of a product of large single-precision matrices, the best of several."""
        return self._ask("gemm")

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function of the module returns."""
        return self._ask("ask", function, *arguments)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class _Server:
    """The process itself."""

    def __init__(self, module: str, threads: int):
        self.module = importlib.import_module(module)
        if module == "with_torch":
            self.module.torch.set_num_threads(threads)
        self.work: Any = None
        self.device = "cpu"
        self.before = 0.0
        self.card_before = 0.0

    def make(self, work: str, arguments: tuple, options: dict) -> None:
        self.device = options.get("device", "cpu")
        self.module.prepare(self.device, options.pop("tf32", False))
        self.card_before = self._card_taken()
        self.work = getattr(self.module, work)(*arguments, **options)
        self.before = resident()

    def run(self, times: int) -> list[tuple[float, float, float]]:
        taken = []
        for _ in range(times):
            self.module.wait(self.device)
            wall, processor = time.perf_counter(), time.process_time()
            self.work.run()
            launched = time.perf_counter() - wall
            self.module.wait(self.device)
            taken.append((time.perf_counter() - wall, time.process_time() - processor, launched))
        return taken

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.work, method)(*arguments)

    def ask(self, function: str, *arguments: Any) -> Any:
        return getattr(self.module, function)(*arguments)

    def memory(self) -> tuple[float, float]:
        return self.before, peak_resident()

    def card_memory(self) -> tuple[float, float] | None:
        return None if self.device == "cpu" else (self.card_before, self._card_taken())

    def _card_taken(self) -> float:
        return self.module.card_taken(self.device) / MEGABYTE

    def gemm(self) -> float:
        return gemm_speed()


def resident() -> float:
    """Megabytes of main memory that this process has now."""
    if STATUS.exists():
        return _status("VmRSS")
    import psutil

    return psutil.Process().memory_info().rss / MEGABYTE


def peak_resident() -> float:
    """The most megabytes of main memory that this process has had."""
    if STATUS.exists():
        # Not getrusage's figure: that begins with what the process's parent had.
        return _status("VmHWM")
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def _status(field: str) -> float:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def gemm_speed(repeats: int = 5) -> float:
    """GF/s of NumPy's product of large single-precision matrices, the best of some."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, GEMM_SIDE, GEMM_SIDE), dtype=np.float32)
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        np.matmul(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * GEMM_SIDE**3 / best / 1e9


def serve(module: str, threads: int) -> None:
    """Answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What libraries print must not get between the answers.
    os.dup2(2, 1)
    server = _Server(module, threads)
    while True:
        try:
            request, arguments = pickle.load(requests)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = True, getattr(server, request)(*arguments)
        except KeyboardInterrupt:
            return
        except Exception as exc:
            last = traceback.extract_tb(exc.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            answer = False, f"{module}: {type(exc).__name__} ({where}): {exc}"
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
