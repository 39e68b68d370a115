"""Errors of the engine: each says what was expected, what was received, and what to do."""

from __future__ import annotations


class DagNNError(Exception):
    """Base of every error that the engine raises on purpose."""


class GraphError(DagNNError, ValueError):
    """The graph asked for cannot exist: a name used twice, two writers of one variable, a cycle."""


class UnknownNameError(DagNNError, KeyError):
    """A layer, variable or parameter of this name is not in the network."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, which would show quotes and escaped newlines.
        return str(self.args[0]) if self.args else ""


class ShapeError(DagNNError, ValueError):
    """An array has not the shape (or number of dimensions) that a layer needs.

    Raised by layers, which do not know the names of their arrays: ``input`` or ``param`` is the
    0-based place of the array among the layer's inputs or parameters, and the engine turns it
    into the name of the variable or parameter.
    """

    def __init__(self, message: str, *, input: int | None = None, param: int | None = None):
        super().__init__(message)
        self.input = input
        self.param = param


class LayerError(DagNNError, RuntimeError):
    """A layer failed; the message names the layer, its type and the shapes of its inputs."""


class LayerMemoryError(LayerError, MemoryError):
    """There was not enough memory for a layer; the values of the evaluation are freed.

    Attributes
    ----------
    requested : int or None
        Bytes that were asked for, where that is known.
    used, total : int or None
        Bytes of the GPU that were in use, by any program, and that it has; None on the CPU.
    """

    def __init__(
        self,
        message: str,
        *,
        requested: int | None = None,
        used: int | None = None,
        total: int | None = None,
    ):
        super().__init__(message)
        self.requested, self.used, self.total = requested, used, total


class BackendError(DagNNError, RuntimeError):
    """The device that was asked for cannot be used on this machine."""


class CheckpointError(DagNNError, ValueError):
    """A file is not a checkpoint or network of this software, or is damaged."""


class OutputError(DagNNError, OSError):
    """A file or folder cannot be written; the message says why, and what to do.

    ``errno`` is the system's number where the system refused.
    """


class FolderInUseError(DagNNError, RuntimeError):
    """Another run writes into this folder; the message names it."""
