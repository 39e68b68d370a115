"""Tests of the compiled kernels' machine code: made once, kept, loaded without Numba."""

import os
import subprocess
import sys

import numpy as np
import pytest

from compiled_kernels import SINGLE, needs_numba
from layers.kernels import choice
from layers.kernels.compiled import machine_code
from layers.kernels.geometry import ConvGeometry

pytestmark = needs_numba

GEOMETRY = ConvGeometry(16, 16, 1, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 9, 9)
CHOOSE = """
import sys
import numpy as np
import layers
before = [name for name in ("numba", "llvmlite") if name in sys.modules]
from layers.kernels.choice import choose_conv
from layers.kernels.geometry import ConvGeometry
geometry = ConvGeometry(16, 16, 1, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 9, 9)
kernel = choose_conv(geometry, np.dtype(np.float32))
print(before, "compiled" in type(kernel).__module__, "numba" in sys.modules)
"""


def chosen(switch):
    """What a new process imports with the layers, chooses, and imports for it."""
    return subprocess.run(
        [sys.executable, "-c", CHOOSE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), choice.SWITCH: switch},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Times that the code was compiled; it is a copy of the real one, in a folder for the test."""
    machine_code.kernels()
    path = next(p for p in machine_code._folders() if (p / machine_code._key()).exists())
    content = (path / machine_code._key()).read_bytes()
    calls = []

    def compile_again():
        calls.append(1)
        return content

    monkeypatch.setattr(machine_code, "_compile", compile_again)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    return calls


def test_numba_is_not_imported_to_run_what_was_compiled():
    machine_code.kernels()
    assert chosen("1") == "[] True False"


def test_numpy_computes_where_numba_is_switched_off():
    assert chosen("0") == "[] False False"


def test_numpy_computes_where_the_compiler_fails(monkeypatch):
    def fail():
        raise RuntimeError("no such processor")

    monkeypatch.delenv(choice.SWITCH, raising=False)
    monkeypatch.setattr("layers.kernels.compiled.load", fail)
    choice._compiled.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no such processor"):
            kernel = choice.choose_conv.__wrapped__(GEOMETRY, SINGLE)
    finally:
        choice._compiled.cache_clear()
    assert "compiled" not in type(kernel).__module__


def test_what_was_compiled_is_kept(made, tmp_path):
    machine_code._load.__wrapped__()
    machine_code._load.__wrapped__()
    assert len(made) == 1
    assert [p.suffix for p in (tmp_path / "numba" / "dsiam").iterdir()] == [".bin"]


def test_a_folder_that_cannot_be_written_is_passed_over(made, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(machine_code, "_PACKAGE", blocked)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    machine_code._load.__wrapped__()
    assert len(list((tmp_path / "user" / "dsiam").iterdir())) == 1
    machine_code._load.__wrapped__()
    assert len(made) == 1


def test_kernels_work_where_nothing_can_be_kept(made, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
    assert machine_code._load.__wrapped__().moments is not None
    assert len(made) == 1


def test_code_of_other_sources_versions_or_processors_is_not_used(monkeypatch, tmp_path):
    from llvmlite import binding

    names = {machine_code._key()}
    source = tmp_path / "source.py"
    source.write_text("# changed")
    with monkeypatch.context() as patch:
        patch.setattr(machine_code, "_SOURCES", (*machine_code._SOURCES, source))
        names.add(machine_code._key())
    with monkeypatch.context() as patch:
        patch.setattr(machine_code.metadata, "version", lambda name: "0.0")
        names.add(machine_code._key())
    with monkeypatch.context() as patch:
        patch.setattr(binding, "get_host_cpu_name", lambda: "another")
        names.add(machine_code._key())
    assert len(names) == 4


def test_a_kernel_that_needs_numba_to_run_is_refused(monkeypatch):
    from layers.kernels.compiled import build

    def raises(x, n):
        if x[0] > n:
            raise ValueError
        x[0] = n

    monkeypatch.setattr(build, "KERNELS", {"raises": ("pi", raises)})
    with pytest.raises(RuntimeError, match="'raises'"):
        build.build()


def test_numbers_of_arguments_are_checked():
    with pytest.raises(TypeError, match="argument"):
        machine_code.kernels().moments(np.zeros(1).ctypes.data)
