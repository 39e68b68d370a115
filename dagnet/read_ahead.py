"""Batches made ahead of their use, in threads: ``cnn_train_dag``'s ``prefetch``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from .errors import DagNNError
from .train_options import Batch, GetBatch, Request


class ReadAhead:
    """A ``GetBatch`` that makes the batches of another one while training uses those before.

    ``train_dag`` announces the order of all batches (``expect``); ``threads`` threads make the
    next ``depth`` of them. Batches are handed out in order, and are those that ``get_batch`` would
    give: which thread made one, and when, does not matter. What ``get_batch`` raises is raised by
    the call that asks for that batch.

    The original asks ``getBatch`` for the batch after the next one and lets it start a read; here
    any number can be under way, and validation and the next epoch are known too, so that nothing
    waits where they begin.

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
            return future.result()
        finally:
            self.waited = time.perf_counter() - start

    def close(self) -> None:
        """Begin no further batch, and wait for the threads."""
        self._drop()
        self._pool.shutdown(wait=True, cancel_futures=True)

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
            future = self._pool.submit(self._get_batch, list(indexes), mode, epoch)
            self._pending.append((request, future))

    def _drop(self) -> None:
        self._requests = iter(())
        while self._pending:
            self._pending.popleft()[1].cancel()
