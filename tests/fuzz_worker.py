"""A process that loads network files under limits, for ``fuzz_runner``; run as a script.

Reads paths from standard input, a line each, and answers each with a line of JSON. Before it
starts it reads the files that its arguments name, so that everything is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path

# Processor seconds and bytes of address space that a load may take.
SECONDS = 5
MEMORY = 1 << 30

# Audit events of what reading a network file has no business with: see Python's table of them.
# A copy of the process (os.fork) tries files of version 7.3; what it uses is counted with the rest.
_FORBIDDEN = (
    *("compile", "exec", "import", "marshal.", "pickle.", "code.__new__", "function.__new__"),
    *("os.exec", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess."),
    *("os.chmod", "os.chown", "os.kill", "os.link", "os.mkdir", "os.remove", "os.rename"),
    *("os.rmdir", "os.symlink", "os.truncate", "os.utime", "shutil.", "tempfile."),
    *("ctypes.", "socket.", "urllib.", "sys.addaudithook"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What was done during a load that must not be done."""

    def __init__(self):
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple) -> None:
        """Note an audit event."""
        if not self.on:
            return
        if event == "open":
            _, mode, flags = arguments
            if (isinstance(flags, int) and flags & _WRITING) or set(str(mode or "")) & set("wax+"):
                self.seen.append(f"open {arguments}")
        elif event == "import" and sys.modules.get(arguments[0]) is not None:
            return
        elif event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {arguments}")


def _status(name: str) -> int:
    """A field of the process's memory status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def _seconds() -> float:
    """Processor time of this process and of the copies that ended."""
    copies = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + copies.ru_utime + copies.ru_stime


def _highest() -> int:
    """The most resident memory, of this process or of any copy so far."""
    copies = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return max(_status("VmHWM"), copies)


def _cause(exc: BaseException | None) -> str:
    """Whether memory ran out on the way to an error."""
    while exc is not None:
        if isinstance(exc, MemoryError):
            return "MemoryError"
        exc = exc.__cause__ or exc.__context__
    return ""


def main(samples: list[str]) -> None:
    """Answer until standard input ends."""
    from matlab_import import MatFileError, load_network

    # A graph with a circle would import it, and compile what it decorates at the first call.
    networkx = import_module("networkx")
    networkx.find_cycle(networkx.DiGraph([(0, 0)]))

    answers = os.fdopen(os.dup(1), "w")
    warnings.simplefilter("ignore")
    for sample in samples:
        with contextlib.suppress(MatFileError):
            load_network(sample)
    watch = Watch()
    sys.addaudithook(watch)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address_space = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.RLIM_INFINITY))
    clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        os.pwrite(clear, b"5", 0)  # the highest mark of resident memory starts anew
        before, start = _status("VmRSS"), _seconds()
        limit = int(time.process_time()) + SECONDS + 2
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        watch.seen.clear()
        watch.on = True
        found, error = "loaded", ""
        try:
            net = load_network(line.rstrip("\n"))
            del net
        except MatFileError as exc:
            watch.on = False
            found, error = "refused", str(exc)
            if _cause(exc):
                found, error = "memory", traceback.format_exc()
        except BaseException:
            watch.on = False
            found, error = "error", traceback.format_exc()
        watch.on = False
        answer = {
            "found": "forbidden" if watch.seen else found,
            "error": "; ".join(watch.seen) or error,
            "seconds": _seconds() - start,
            "bytes": max(_highest() - before, 0),
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
