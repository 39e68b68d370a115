"""Tests of what the packages and commands import: slow libraries come in where they are used."""

import subprocess
import sys

import pytest

# Each takes longer to import than the package that would bring it.
SLOW = {"matplotlib", "scipy", "h5py", "networkx", "imageio", "imageio_ffmpeg", "cupy", "numba"}
COMMANDS = ("track", "train", "evaluate", "build_unrolled")


@pytest.mark.parametrize("module", ["dsiam_net", *(f"dsiam_net.{name}" for name in COMMANDS)])
def test_importing_brings_no_slow_library(module):
    code = f"import sys, {module}; print(*({SLOW!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
