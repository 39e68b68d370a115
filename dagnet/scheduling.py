"""Running tasks that depend on one another, side by side on worker threads.

NumPy and BLAS release Python's lock while they compute, so threads are enough. What is added up
over tasks is added in a fixed order, so results do not depend on which task was faster.
"""

from __future__ import annotations

import contextvars
import heapq
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any


def run_tasks(
    order: Sequence[Hashable],
    needs: Mapping[Hashable, set],
    run: Callable[[Any], None],
    workers: int,
) -> None:
    """Run ``run(task)`` for every task once those that it needs are done.

    Parameters
    ----------
    order : sequence of tasks
        In an order in which they could be run one after the other; of several that are ready the
        earliest is taken.
    needs : dict of task to set of tasks
    run : function
    workers : int
        Number of threads, the calling one among them.

    Raises
    ------
    What ``run`` raises first; no task is begun after that.
    """
    if workers <= 1:
        for task in order:
            run(task)
        return
    _Pool(order, needs, run).work_with(workers)


class _Pool:
    def __init__(self, order: Sequence[Hashable], needs: Mapping[Hashable, set], run: Callable):
        self.tasks = list(order)
        self.run = run
        place = {task: i for i, task in enumerate(self.tasks)}
        self.missing = [len(needs[task]) for task in self.tasks]
        self.followers: list[list[int]] = [[] for _ in self.tasks]
        for i, task in enumerate(self.tasks):
            for needed in needs[task]:
                self.followers[place[needed]].append(i)
        self.ready = [i for i, count in enumerate(self.missing) if count == 0]
        self.left = len(self.tasks)
        self.changed = threading.Condition()
        self.error: BaseException | None = None

    def work_with(self, workers: int) -> None:
        # Threads see what is set for the calling one alone, np.errstate for instance.
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._work,), daemon=True)
            for _ in range(workers - 1)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work()
        except BaseException as exc:
            # Ctrl-C reaches the calling thread while it waits.
            self._fail(exc)
        for thread in threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def _work(self) -> None:
        while True:
            with self.changed:
                while not self.ready and self.left and self.error is None:
                    self.changed.wait()
                if self.error is not None or not self.left:
                    return
                place = heapq.heappop(self.ready)
            try:
                self.run(self.tasks[place])
            except BaseException as exc:
                self._fail(exc)
                return
            with self.changed:
                self.left -= 1
                for follower in self.followers[place]:
                    self.missing[follower] -= 1
                    if self.missing[follower] == 0:
                        heapq.heappush(self.ready, follower)
                self.changed.notify_all()

    def _fail(self, exc: BaseException) -> None:
        with self.changed:
            if self.error is None:
                self.error = exc
            self.changed.notify_all()


class OrderedSum:
    """A sum whose terms may arrive in any order and are added in a fixed one.

    Parameters
    ----------
    sources : sequence
        Who brings a term, in the order of addition; each brings one, or None.
    start : array or None
        What the sum begins with; it is not written to.
    """

    def __init__(self, sources: Sequence[Hashable], start: Any = None):
        self._sources = list(sources)
        self._next = 0
        self._early: dict[Hashable, Any] = {}
        self._total = start
        self._owned = False
        self._lock = threading.Lock()

    def add(self, source: Hashable, term: Any) -> bool:
        """Bring the term of ``source``; True if the sum is complete with it."""
        with self._lock:
            self._early[source] = term
            while self._next < len(self._sources) and self._sources[self._next] in self._early:
                self._take(self._early.pop(self._sources[self._next]))
                self._next += 1
            return self._next == len(self._sources)

    def _take(self, term: Any) -> None:
        if term is None:
            return
        if self._total is None:
            self._total = term
        elif self._owned:
            self._total += term
        else:
            # The first term may be an array of somebody else.
            self._total = self._total + term
            self._owned = True

    @property
    def total(self) -> Any:
        """The sum of what was added so far; None without a term."""
        return self._total
