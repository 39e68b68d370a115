"""Machine code of the kernels: compiled once, kept on disk, loaded without Numba.

Numba takes more than a second to load what it has cached, most of it to import itself. So the
kernels are compiled to one object file, which LLVM loads in a tenth of that.

The file lies in ``NUMBA_CACHE_DIR`` where that is set, else in this package's ``__pycache__``
where one may write there, else in the user's cache folder. Its name holds a digest of the
sources, the versions of Numba and LLVM, and the processor and its abilities: machine code of
another version or for another computer is never run.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from dagnet import atomic_write

_PACKAGE = Path(__file__).parent
# The kernels' sources, and what they take from outside their folder.
_SOURCES = (
    *sorted((_PACKAGE / "source").glob("*.py")),
    *(_PACKAGE / "build.py", _PACKAGE / "variants.py", _PACKAGE.parent / "winograd.py"),
)
_TYPES = {
    **dict.fromkeys("pdq", ctypes.c_void_p),
    "i": ctypes.c_int64,
    "f": ctypes.c_float,
}
_lock = threading.Lock()


def kernels() -> SimpleNamespace:
    """The kernels as functions, by name; they release Python's lock.

    What each takes stands in ``source``; arrays are given as addresses, and nothing is checked.
    Compiles them where that has not been done, and says so on stderr.
    """
    with _lock:
        return _load()


@cache
def _load() -> SimpleNamespace:
    key = _key()
    for folder in _folders():
        try:
            content = (folder / key).read_bytes()
        except OSError:
            continue
        return _link(content)
    content = _compile()
    for folder in _folders():
        try:
            with atomic_write(folder / key) as stream:
                stream.write(content)
        except OSError:
            continue
        break
    else:
        print("found no folder to cache the kernels in: set NUMBA_CACHE_DIR", file=sys.stderr)
    return _link(content)


def _key() -> str:
    """Name of the file with the machine code."""
    from llvmlite import binding

    digest = hashlib.sha256()
    for path in _SOURCES:
        digest.update(path.read_bytes())
    versions = [metadata.version(name) for name in ("numba", "llvmlite")]
    features = binding.get_host_cpu_features().flatten()
    host = [binding.get_process_triple(), binding.get_host_cpu_name(), features]
    digest.update("\n".join([*versions, *host]).encode())
    return f"kernels-{digest.hexdigest()[:32]}.bin"


def _folders() -> Iterator[Path]:
    """Where the file may lie, in order."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen) / "dsiam"
        return
    yield _PACKAGE / "__pycache__"
    user = os.environ.get("XDG_CACHE_HOME")
    yield (Path(user) if user else Path.home() / ".cache") / "dsiam"


def _compile() -> bytes:
    """The file's content: a line that lists the kernels, then the object code."""
    text = "compiling kernels, once; cached for later runs ..."
    print(text, end=" ", file=sys.stderr, flush=True)
    start = time.perf_counter()
    from .build import build

    table, code = build()
    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return json.dumps(table).encode() + b"\n" + code


def _link(content: bytes) -> SimpleNamespace:
    """Functions from the file's content."""
    from llvmlite import binding

    line, _, code = content.partition(b"\n")
    # What LLVM may make of loops that fill or copy.
    for name, function in (("memset", ctypes.memset), ("memmove", ctypes.memmove)):
        binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    binding.add_symbol("memcpy", ctypes.cast(ctypes.memmove, ctypes.c_void_p).value)
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    functions = {}
    for name, (symbol, arguments) in json.loads(line).items():
        kind = ctypes.CFUNCTYPE(None, *(_TYPES[letter] for letter in arguments))
        functions[name] = kind(engine.get_function_address(symbol))
    # The code lives as long as its engine.
    return SimpleNamespace(engine=engine, **functions)
