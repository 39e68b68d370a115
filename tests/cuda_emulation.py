"""``cupy.RawModule`` without a card: kernels compiled by ``g++``, run on the host's arrays.

``cuda_emulation.hpp`` has CUDA's part. Launches are stricter than CuPy's: an argument that is not
of the type that the kernel declares, an array that is not in C order, or a grid that no card takes
is an error here, where a card would compute rubbish.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import simulated_streams as streams
from simulated_cuda import compute, refuse

HEADER = Path(__file__).with_name("cuda_emulation.hpp")
BINARIES = Path(__file__).parent / "__pycache__"
COMMAND = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
COMMAND += ["-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-clobbered", "-x", "c++"]
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
MOST_THREADS, MOST_BLOCKS = 1024, 2**31 - 1
SCALARS = {"long long": (int, ctypes.c_longlong), "double": (float, ctypes.c_double)}


class CompileError(Exception):
    """The compiler is missing or refused a source."""


def array_types(options: tuple[str, ...]) -> dict[str, np.dtype]:
    """What arrays of each type of a source have for dtype."""
    (real,) = (o.removeprefix("-DREAL=") for o in options if o.startswith("-DREAL="))
    types = {"float": "f4", "double": "f8", "int": "i4", "unsigned char": "u1"}
    types |= {"long long": "i8", "REAL": types[real]}
    types["Complex"] = {"float": "c8", "double": "c16"}[real]
    return {name: np.dtype(code) for name, code in types.items()}


def parameters(declared: str) -> list[tuple[str, bool]]:
    """(type, whether a pointer) of each parameter of a kernel."""
    found = []
    for part in " ".join(declared.split()).split(","):
        kind = re.sub(r"\bconst\b|\b__restrict__\b", "", part).strip().rpartition(" ")[0].strip()
        pointer = "*" in part
        found.append((kind.replace("*", "").strip(), pointer))
    return found


def _wrapper(name: str, kinds: list[tuple[str, bool]]) -> str:
    values = [
        f"({kind}*)values[{i}]" if pointer else f"*({kind}*)values[{i}]"
        for i, (kind, pointer) in enumerate(kinds)
    ]
    return (
        f"static void call_{name}(void** values) {{ {name}({', '.join(values)}); }}\n"
        f'extern "C" int launch_{name}(unsigned grid, unsigned size, void** values) '
        f"{{ return emulation::launch(call_{name}, grid, size, values); }}\n"
    )


@cache
def compiled(code: str, options: tuple[str, ...]) -> ctypes.PyDLL:
    """A source with its launchers as a library; binaries are kept beside the tests' own."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise CompileError("g++ is not on the path")
    kernels = [(name, parameters(declared)) for name, declared in KERNEL.findall(code)]
    text = HEADER.read_text() + code + "".join(_wrapper(*kernel) for kernel in kernels)
    defines = [option for option in options if option.startswith("-D")]
    key = hashlib.sha256("\0".join([text, *COMMAND, *defines]).encode()).hexdigest()[:32]
    library = BINARIES / f"cuda-{key}.so"
    if not library.exists():
        BINARIES.mkdir(exist_ok=True)
        part = library.with_suffix(f".{os.getpid()}")
        command = [compiler, *COMMAND, *defines, "-", "-o", str(part)]
        run = subprocess.run(command, input=text, text=True, capture_output=True)
        if run.returncode:
            raise CompileError(run.stderr)
        part.replace(library)
    # With the interpreter's lock held: shared memory is one for all launches.
    return ctypes.PyDLL(str(library))


class RawKernel:
    """One kernel; a call launches it."""

    def __init__(self, name: str, declared: str, library: ctypes.PyDLL, types: dict):
        self.name = name
        self._parameters, self._types = parameters(declared), types
        self._launch = getattr(library, f"launch_{name}")

    def __call__(self, grid: tuple, block: tuple, arguments: tuple) -> None:
        assert len(grid) == len(block) == 1 and 1 <= grid[0] <= MOST_BLOCKS
        assert 1 <= block[0] <= MOST_THREADS
        if len(arguments) != len(self._parameters):
            raise TypeError(f"{self.name} takes {len(self._parameters)}, got {len(arguments)}")
        for place, (argument, (_, pointer)) in enumerate(zip(arguments, self._parameters)):
            if pointer and isinstance(argument, np.ndarray):
                raise TypeError(f"{self.name}, argument {place}: an array of the host")
        hosts = tuple(getattr(argument, "_host", argument) for argument in arguments)
        for host in hosts:
            if isinstance(host, np.ndarray):
                streams.used(host)
        self._values(hosts)
        compute(self._run, (grid, block, hosts), {}, writes=True)

    def _values(self, hosts: tuple) -> list:
        """Arguments as the launcher takes them; errors where they do not fit."""
        return [
            self._value(place, argument, *parameter)
            for place, (argument, parameter) in enumerate(zip(hosts, self._parameters))
        ]

    def _run(self, grid: tuple, block: tuple, hosts: tuple) -> None:
        values = self._values(hosts)
        pointers = (ctypes.c_void_p * len(values))(
            *(
                v if isinstance(v, int) else ctypes.addressof(v) if v is not None else None
                for v in values
            )
        )
        if self._launch(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), pointers):
            raise RuntimeError(f"{self.name}: a barrier that not all threads of a block reach")

    def _value(self, place: int, argument: Any, kind: str, pointer: bool) -> Any:
        where = f"{self.name}, argument {place}"
        if not pointer:
            python, converter = SCALARS[kind]
            if type(argument) is not python:
                raise TypeError(f"{where}: {kind} needs {python}, received {type(argument)}")
            return converter(argument)
        if type(argument) is int and argument == 0:
            return None
        if not isinstance(argument, np.ndarray):
            raise TypeError(f"{where}: {kind}* needs an array or 0, received {type(argument)}")
        host = argument
        if host.dtype != self._types[kind]:
            raise TypeError(f"{where}: {kind}* needs {self._types[kind]}, received {host.dtype}")
        if not host.flags.c_contiguous:
            raise ValueError(f"{where}: the array is not in C order")
        return host.ctypes.data


class RawModule:
    """A source and its kernels, with the arguments of CuPy's class that are used here."""

    def __init__(self, *, code: str, options: tuple[str, ...]):
        self._code, self._options = code, options
        self._loaded = False

    def compile(self) -> None:
        compiled(self._code, self._options)

    def get_function(self, name: str) -> RawKernel:
        if not self._loaded:
            refuse("loading a module")
        self._loaded = True
        declared = dict(KERNEL.findall(self._code))
        library = compiled(self._code, self._options)
        return RawKernel(name, declared[name], library, array_types(self._options))
