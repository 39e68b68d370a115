"""``python -m matlab_import``: look at a network's file, convert it, or fetch an original one."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dagnet import CheckpointError, DagNN, DagNNError, __version__, load_checkpoint

from .errors import MatFileError
from .fetch import SOURCES, fetch
from .info import describe
from .saving import save_network
from .siamfc_pth import load_siamfc_pth
from .simplenn_saving import save_simplenn
from .training import TrainingFile, load_training

PROGRAM = "python -m matlab_import"
_PTH_SUFFIXES = (".pth", ".pt", ".tar")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Read and write networks of MatConvNet (DagNN or SimpleNN, .mat of version 5 "
        "to 7.3), read SiamFC networks of PyTorch (.pth), and fetch the originals.",
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
        help="write a network in the native format (.npz) or MatConvNet's (.mat)",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for command in (info, convert):
        command.add_argument("file", metavar="FILE", type=Path, help="a .mat, .npz or .pth file")
        command.add_argument(
            "--pth",
            action="store_true",
            help="read FILE as PyTorch's whatever its name; .pth, .pt and .tar always are",
        )
    convert.add_argument(
        "out", metavar="OUT", type=Path, help="the file to write, OUT.npz or OUT.mat"
    )
    convert.add_argument(
        "--v73", action="store_true", help="write OUT.mat in version 7.3 (HDF5), not 7"
    )
    convert.add_argument(
        "--simplenn", action="store_true", help="write OUT.mat as a SimpleNN, if it is a chain"
    )
    get = commands.add_parser(
        "fetch",
        help="download an original network from its authors' address",
        description="Networks: "
        + "; ".join(f"{name}: {source.what}" for name, source in SOURCES.items())
        + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    get.add_argument("name", choices=SOURCES, metavar="NAME", help=", ".join(SOURCES))
    get.add_argument("--to", metavar="DIR", type=Path, default=Path(), help="where to put it")
    get.add_argument("--url", help="another address of the same file (default: the authors')")
    return parser


def _load(path: Path, pth: bool) -> TrainingFile:
    if pth or path.suffix.lower() in _PTH_SUFFIXES:
        return TrainingFile(load_siamfc_pth(path), {}, {})
    return _load_native(path) if path.suffix.lower() == ".npz" else load_training(path)


def _load_native(path: Path) -> TrainingFile:
    """A checkpoint with the solver's state and statistics, or a network alone."""
    try:
        net, state = load_checkpoint(path)
    except CheckpointError:
        return TrainingFile(DagNN.load(path), {}, {})
    entries = [state.solver_state.get(parameter.name) for parameter in net.params]
    return TrainingFile(net, {"solver_state": entries}, state.stats)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "fetch":
        _fetch(arguments)
    elif arguments.command == "info":
        print(describe(_load(arguments.file, arguments.pth)))
    else:
        _convert(arguments)


def _convert(arguments: argparse.Namespace) -> None:
    out = arguments.out
    if out.suffix not in (".npz", ".mat"):
        raise MatFileError(f"{out}: expected a name that ends in .npz or .mat for the output")
    if out.suffix == ".npz" and (arguments.v73 or arguments.simplenn):
        raise MatFileError(f"{out}: --v73 and --simplenn are for an output OUT.mat")
    content = _load(arguments.file, arguments.pth)
    if out.suffix == ".npz":
        content.net.save(out)
    else:
        save = save_simplenn if arguments.simplenn else save_network
        # The state of a DagNN has an entry for each parameter, that of a SimpleNN for each layer.
        state = {} if arguments.simplenn and "solver_state" in content.state else content.state
        save(content.net, out, "7.3" if arguments.v73 else "7", state, content.stats)
    print(f"{out}: {len(content.net.layers)} layers, {len(content.net.params)} parameters")


def _fetch(arguments: argparse.Namespace) -> None:
    source = SOURCES[arguments.name]
    if arguments.url:
        source = replace(source, url=arguments.url)
    path, digest = fetch(source, arguments.to)
    print(f"{path}: {path.stat().st_size:,} bytes\nSHA-256 {digest}")


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
