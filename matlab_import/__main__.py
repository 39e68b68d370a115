"""``python -m matlab_import``: look at a MATLAB file, or convert it to the native format."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from dagnet import DagNNError, __version__

from .errors import MatFileError
from .info import describe
from .siamfc_pth import load_siamfc_pth
from .training import TrainingFile, load_training

PROGRAM = "python -m matlab_import"
_PTH_SUFFIXES = (".pth", ".pt", ".tar")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Read networks of MatConvNet (DagNN or SimpleNN, .mat of version 5 to 7.3) and "
        "SiamFC networks of PyTorch (.pth).",
    )
    parser.add_argument("--version", action="version", version=f"matlab_import {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser(
        "info",
        help="print a network's layers, parameters, meta data and training statistics",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    convert = commands.add_parser(
        "convert",
        help="write a network in the native format (.npz)",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for command in (info, convert):
        command.add_argument("file", metavar="FILE", type=Path, help="a .mat or .pth file")
        command.add_argument(
            "--pth",
            action="store_true",
            help="read FILE as PyTorch's whatever its name; .pth, .pt and .tar always are",
        )
    convert.add_argument("out", metavar="OUT.npz", type=Path, help="the file to write")
    return parser


def _load(path: Path, pth: bool) -> TrainingFile:
    if pth or path.suffix.lower() in _PTH_SUFFIXES:
        return TrainingFile(load_siamfc_pth(path), {}, {})
    return load_training(path)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "convert" and arguments.out.suffix != ".npz":
        raise MatFileError(f"{arguments.out}: expected a name that ends in .npz for the output")
    content = _load(arguments.file, arguments.pth)
    if arguments.command == "info":
        print(describe(content))
        return
    content.net.save(arguments.out)
    print(
        f"{arguments.out}: {len(content.net.layers)} layers, {len(content.net.params)} parameters"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 after an error, told in one line."""
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            _run(arguments)
            status = 0
        except (DagNNError, OSError) as exc:
            print(f"{PROGRAM}: error: {' '.join(str(exc).split())}", file=sys.stderr)
            status = 2
    for warning in caught:
        print(f"{PROGRAM}: warning: {warning.message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
