"""Command: prepare data for training: index, selection, clips and crops.

``python -m dsiam_net.data COMMAND DIR --out OUT``
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from dagnet import lock_folder

from .cli import make_parser, print_settings, run_command
from .preparation import images, synthetic, vid
from .preparation.sequence_commands import GOT10K, LASOT, OTB, SEQUENCES

# Each has NAME, HELP, add_options(parser) and run(options); in the order of --help.
COMMANDS = (vid, GOT10K, LASOT, OTB, SEQUENCES, images, synthetic)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and run a subcommand."""
    parser = make_parser(
        "dsiam_net.data", "Prepare data for training: index, selection, clips and crops."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = vars(parser.parse_args(argv))
    run = options.pop("run")
    settings = Namespace(**options)
    print_settings(settings)
    with lock_folder(settings.out):
        run(settings)


if __name__ == "__main__":
    run_command(main, "fewer --jobs")
