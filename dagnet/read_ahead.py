"""Batches made ahead of their use, in threads: ``cnn_train_dag``'s ``prefetch``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .backend import tree_to_device
from .errors import DagNNError
from .train_options import Batch, GetBatch, Request
from .upload import Uploads


class HostBatches:
    """A ``GetBatch`` in two parts, of which ``ReadAhead`` does the first ahead of its time.

    Between the two arrays go to the network's device; on a GPU, beside what it computes.

    Attributes
    ----------
    device : 'cpu' or 'gpu'
    """

    device: str

    def read(self, indexes: Sequence[int], mode: str, epoch: int) -> dict[str, np.ndarray]:
        """What a batch is made of, in host memory; called by any thread."""
        raise NotImplementedError

    def finish(self, arrays: dict[str, Any]) -> Batch:
        """The batch of what was read, which now is in the memory of ``device``."""
        raise NotImplementedError

    def __call__(self, indexes: Sequence[int], mode: str, epoch: int) -> Batch:
        """The batch, at once."""
        return self.finish(tree_to_device(self.read(indexes, mode, epoch), self.device))


class ReadAhead:
    """A ``GetBatch`` that makes the batches of another one while training uses those before.

    ``train_dag`` announces the order of all batches (``expect``); ``threads`` threads make the
    next ``depth`` of them. Batches are handed out in order, and are those that ``get_batch`` would
    give: which thread made one, and when, does not matter. What ``get_batch`` raises is raised by
    the call that asks for that batch.

    The original asks ``getBatch`` for the batch after the next one and lets it start a read; here
    any number can be under way, and validation and the next epoch are known too, so that nothing
    waits where they begin.

    Of ``HostBatches`` for a GPU the threads read, and send what they read to the device while it
    computes the batches before (``Uploads``); the batch is then finished by the thread that asks
    for it, and is whole until the next one is asked for.

    Use it as a context: at its end, after Ctrl-C too, nothing further is begun and the threads
    end with the batch that they are at.

    Parameters
    ----------
    get_batch : GetBatch
        Called by several threads at once, each time for another batch.
    threads : int
    depth : int, optional
        Batches that are under way or ready beside the one in use: by default two more than
        threads.

    Attributes
    ----------
    waited : float
        Seconds that the last call waited for its batch.
    """

    def __init__(self, get_batch: GetBatch, threads: int = 1, depth: int | None = None):
        depth = threads + 2 if depth is None else depth
        if threads < 1 or depth < 1:
            raise ValueError(
                f"reading ahead needs a thread and a batch at least, received {threads} threads "
                f"and {depth} batches"
            )
        self.waited = 0.0
        self._get_batch = get_batch
        self._depth = depth
        self._requests: Iterator[Request] = iter(())
        self._pending: deque[tuple[Request, Future]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        on_gpu = isinstance(get_batch, HostBatches) and get_batch.device == "gpu"
        self._uploads = Uploads() if on_gpu else None

    def expect(self, requests: Iterable[Request]) -> None:
        """Take the order in which batches will be asked for; reading begins."""
        self._drop()
        self._requests = iter(requests)
        self._fill()

    def __call__(self, indexes: Sequence[int], mode: str, epoch: int) -> Batch:
        """The batch, once it is there.

        Raises
        ------
        DagNNError
            If another batch is the next of those that were announced.
        """
        if not self._pending:
            return self._get_batch(indexes, mode, epoch)
        expected, future = self._pending.popleft()
        request = (tuple(indexes), mode, epoch)
        if request != expected:
            raise DagNNError(
                f"the batch read ahead is {expected}, asked for is {request}: ask for batches in "
                "the order that was announced"
            )
        self._fill()
        start = time.perf_counter()
        try:
            made = future.result()
        finally:
            self.waited = time.perf_counter() - start
        return (
            made if self._uploads is None else self._get_batch.finish(self._uploads.receive(made))
        )

    def close(self) -> None:
        """Begin no further batch, and wait for the threads."""
        self._drop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._uploads is not None:
            self._uploads.close()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def _fill(self) -> None:
        while len(self._pending) < self._depth:
            request = next(self._requests, None)
            if request is None:
                return
            indexes, mode, epoch = request
            future = self._pool.submit(self._begin, list(indexes), mode, epoch)
            self._pending.append((request, future))

    def _begin(self, indexes: list[int], mode: str, epoch: int) -> Any:
        """What a thread does for a batch."""
        if self._uploads is None:
            return self._get_batch(indexes, mode, epoch)
        return self._uploads.send(self._get_batch.read(indexes, mode, epoch))

    def _drop(self) -> None:
        self._requests = iter(())
        while self._pending:
            self._pending.popleft()[1].cancel()
