"""Command: compare with outputs of the original MATLAB code.

``python -m dsiam_net.fidelity DIR``
"""

from __future__ import annotations

from collections.abc import Sequence

from ..cli import add_device_options, choose_device, make_parser, run_command
from .registry import FAIL
from .report import failures, summary, table, write_json
from .run import check_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the checks, print the table; 1 if anything failed."""
    parser = make_parser(
        "dsiam_net.fidelity",
        "Run every golden file of a folder (outputs of the original MATLAB code, laid out as "
        "docs/fidelity.md says) and print how far this software is from each. Exit status 1 if "
        "anything failed; what this version does not have yet is no failure.",
    )
    parser.add_argument("directory", metavar="DIR", help="folder with the golden files")
    parser.add_argument(
        "--files", metavar="PATTERN", nargs="+", default=(), help="only files like 'layers_*.mat'"
    )
    add_device_options(parser)
    parser.add_argument("--json", metavar="FILE", help="write every comparison here")
    parser.add_argument("--verbose", action="store_true", help="a row for each case")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(argv)
    choose_device(options)
    results = check_folder(
        options.directory, options.files, progress=not options.quiet, device=options.device
    )
    print(table(results, options.verbose))
    for line in failures(results):
        print(f"FAILED {line}")
    print(summary(results))
    if options.json:
        write_json(results, options.json)
    return int(any(result.status == FAIL for result in results))


if __name__ == "__main__":
    run_command(main)
