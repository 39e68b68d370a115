"""Processes that train one network together: what the training loop asks of them.

There is one training loop. It always has a communicator; that of a single process, ``SINGLE``,
does nothing. ``dagnet.mpi.join`` gives that of a run which ``mpiexec`` started.
"""

from __future__ import annotations

from typing import Any, Protocol

from .parameter_server import ParameterServer


class Pending(Protocol):
    """A sum over the processes that is under way."""

    def test(self) -> None:
        """Let it get on; returns at once."""

    def wait(self) -> None:
        """Return once it is there."""


class Communicator:
    """The processes of a run; this class is a run of one process.

    What has to be called by all processes is called by them in the same order. ``rank`` counts
    them from 0; process 0 is the one that writes.

    Attributes
    ----------
    rank, size : int
        Which process this is, and how many there are.
    local_size : int
        How many of them are on this machine.
    any_thread : bool
        Whether ``start_sum`` may be called from any thread, one at a time; else by the one that
        imported this package alone.
    """

    rank = 0
    size = 1
    local_size = 1
    any_thread = True

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def server(self, net: Any) -> ParameterServer | None:
        """What adds up the derivatives of ``net`` over the processes; None if there is but one."""
        if self.size == 1:
            return None
        from .fused_sums import FusedSums

        return FusedSums(net, self)

    def empty(self, count: int, dtype: Any, device: str) -> Any:
        """An array (count,) for ``start_sum`` of what lies on ``device``."""
        raise NotImplementedError

    def start_sum(self, array: Any) -> Pending:
        """Begin to put the sum over all processes in the place of each one's ``array``.

        It must not be touched before ``wait`` of what is returned.
        """
        raise NotImplementedError

    def broadcast(self, array: Any) -> Any:
        """The first process's array, of this one's shape, dtype and device."""
        return array

    def broadcast_bytes(self, content: bytes) -> bytes:
        """The first process's bytes."""
        return content

    def exchange(self, value: Any) -> list[Any]:
        """What each process gave, in the order of their ranks: values that JSON knows."""
        return [value]


SINGLE = Communicator()


def broadcast_tree(tree: Any, communicator: Communicator) -> Any:
    """Containers (dicts, lists, tuples) with the first process's arrays in place of their own.

    All processes have containers of the same kind, keys and shapes. What is no array is left.
    """
    if isinstance(tree, dict):
        return {key: broadcast_tree(entry, communicator) for key, entry in tree.items()}
    if isinstance(tree, (list, tuple)):
        entries = [broadcast_tree(entry, communicator) for entry in tree]
        return entries if isinstance(tree, list) else tuple(entries)
    return communicator.broadcast(tree) if hasattr(tree, "dtype") else tree
