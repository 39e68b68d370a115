"""From data sets as they are published to what training reads: index, selection, clips, crops.

Each subcommand of ``python -m dsiam_net.data`` is a module here with ``NAME``, ``HELP``,
``add_options(parser)`` and ``run(options)``.
"""
