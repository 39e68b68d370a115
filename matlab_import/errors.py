"""The error of everything that reads MATLAB files."""

from __future__ import annotations

from dagnet import DagNNError


class MatFileError(DagNNError, ValueError):
    """A file is not a ``.mat`` file, is damaged, or holds something else than was asked for.

    The message names the file, what was expected and what was found.
    """
