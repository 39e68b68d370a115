"""What the commands share: version, help with defaults, and errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from dagnet import BackendError, DagNNError, __version__, memory_shortage
from dagnet.backend import DEVICES, set_tf32
from dagnet.communicator import Communicator
from dagnet.mpi import abort, choose_gpu, join, launched_rank, launched_size
from dagnet.shortage import is_of_gpu

# Exit status of a command that was given something it cannot work with.
USAGE_ERROR = 2
# Exit status after Ctrl-C.
INTERRUPTED = 130
# Seconds that other processes of a run leave to the first one to tell of an error.
FIRST_SPEAKS = 3
# Errors that tell what to do.
_BAD_INPUT = (DagNNError, OSError, ValueError, ImportError)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not for options that have none."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def make_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser for ``python -m name`` with ``--version`` and ``--help`` that shows defaults.

    Abbreviated options are refused.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dsiam {__version__}")
    return parser


def memory_size(text: str) -> float:
    """Bytes from a number with a unit, ``800MB`` or ``1.5GB`` (of 1024 each); for ``type=``."""
    units = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "B": 1}
    upper = text.strip().upper()
    unit = next((unit for unit in units if upper.endswith(unit)), "")
    try:
        size = float(upper.removesuffix(unit)) * units[unit]
    except (KeyError, ValueError):
        size = -1.0
    if not 0 < size < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected a size with its unit, such as 800MB or 1.5GB, received {text!r}"
        )
    return size


def pattern_factor(text: str) -> tuple[str, float]:
    """A pattern and a factor of 0 or more from ``NAME=FACTOR``; for ``type=``."""
    pattern, _, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not pattern or not 0 <= factor < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected NAME=FACTOR with a factor of 0 or more, received {text!r}"
        )
    return pattern, factor


def add_device_options(group: argparse._ActionsContainer) -> None:
    """Add where to compute, and in which precision there; see ``choose_device``."""
    group.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    group.add_argument(
        "--tf32",
        action="store_true",
        help="with --device gpu: matrix products in TF32, which is faster and has 10 bits after "
        "the point where single precision has 23",
    )


def add_launch_option(group: argparse._ActionsContainer) -> None:
    """Add how a training step's kernels are launched on a GPU (``TrainOptions.capture``)."""
    group.add_argument(
        "--plain-launches",
        action="store_true",
        help="with --device gpu: launch each kernel by itself, not each step as one CUDA graph",
    )


def check_precision(options: argparse.Namespace) -> None:
    """Refuse ``--tf32`` where there is none, with BackendError."""
    if options.tf32 and options.device != "gpu":
        raise BackendError(
            f"--tf32 is a precision of the GPU, and the device is {options.device!r}: give "
            "--device gpu too, or leave it away"
        )


def choose_device(options: argparse.Namespace) -> None:
    """Make the device ready that ``add_device_options`` was told.

    Raises
    ------
    BackendError
        If it cannot be used here, or not in this precision.
    """
    check_precision(options)
    if options.device == "gpu":
        set_tf32(options.tf32)


def print_settings(options: argparse.Namespace) -> None:
    """Print what a run was started with, an option a line."""
    width = max(len(name) for name in vars(options))
    for name, value in vars(options).items():
        shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        print(f"{name.replace('_', '-'):{width}}  {'' if shown is None else shown}")


def _words(exc: Exception, less_memory: str | None) -> str:
    """What to tell of an error; one that is no fault of the input is raised again."""
    wanted = memory_shortage(exc)
    if wanted is None:
        if isinstance(exc, _BAD_INPUT):
            return str(exc)
        raise exc
    told = exc if isinstance(exc, DagNNError) else wanted
    less = f", or take {less_memory}" if less_memory else ""
    where, more = "", "other programs, raise the process's limit (ulimit -v)"
    if is_of_gpu(exc):
        where, more = " on the GPU", "other programs that use it"
    return f"not enough memory{where} ({told}): end {more}{less}, and give the command again"


def join_workers(device: str = "cpu") -> Communicator:
    """The processes that ``mpiexec`` started this command in; most often this one alone.

    All but the first print nothing on standard output. On GPUs each has one of its own.
    """
    if device == "gpu":
        choose_gpu()
    workers = join()
    if not workers.is_first:
        sys.stdout = open(os.devnull, "w")
    return workers


def by_first(workers: Communicator, guard: AbstractContextManager) -> AbstractContextManager:
    """A context that the first process enters, for all."""
    return guard if workers.is_first else nullcontext()


@contextmanager
def _all_or_none() -> Iterator[None]:
    """A process that fails ends all of them: the others would wait for it without end."""
    try:
        yield
    except SystemExit as exc:
        if exc.code:
            abort(exc.code if isinstance(exc.code, int) else 1)
        raise
    except BaseException:
        if launched_size() > 1:
            # The interpreter does not come to print it.
            traceback.print_exc()
        abort(1)
        raise


def run_command(
    main: Callable[[Sequence[str] | None], int | None], less_memory: str | None = None
) -> None:
    """Run a command's ``main`` and end the program with its exit status (0 for None).

    A bad input ends it with one line and exit status 2, a lack of memory too, Ctrl-C with 130, as
    shells have it. Warnings are one line too, without the place in the code that they come from.

    Parameters
    ----------
    main : function of the command's arguments
    less_memory : str, optional
        With what the command needs less memory.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with _all_or_none():
        try:
            status = main(None)
        except Exception as exc:
            words = _words(exc, less_memory)
            print(f"{_who()}error: {words}", file=sys.stderr)
            status = USAGE_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            status = INTERRUPTED
        sys.exit(status or 0)


def _who() -> str:
    """Which of several processes speaks. What is wrong for all, the first says, and ends all."""
    rank = launched_rank()
    if rank == 0:
        return ""
    time.sleep(FIRST_SPEAKS)
    return f"process {rank}: "
