"""Running tasks that depend on one another, side by side on worker threads.

NumPy and BLAS release Python's lock while they compute, so threads are enough. What is added up
over tasks is added in a fixed order, so results do not depend on which task was faster.

A task that can be cut into independent pieces calls ``share``: workers that have nothing else to
do take pieces of it.
"""

from __future__ import annotations

import contextvars
import heapq
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

# The crew that the present thread works in.
_crew: contextvars.ContextVar[_Crew | None] = contextvars.ContextVar("crew", default=None)


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
    _Crew(order, needs, run).work_with(workers)


def share(run: Callable[[Any], Any], pieces: Iterable[Any]) -> list:
    """``[run(piece) for piece in pieces]``, by all workers that are free.

    Within a task of ``run_tasks`` the pieces may run at the same time, on other threads and in
    any order; elsewhere they run one after the other. They must not write to the same memory.

    Raises
    ------
    What a piece raises first; no piece is begun after that.
    """
    crew = _crew.get()
    pieces = list(pieces)
    if crew is None or len(pieces) < 2:
        return [run(piece) for piece in pieces]
    return crew.share(run, pieces)


class _Job:
    """Pieces of one task that workers take."""

    def __init__(self, run: Callable[[Any], Any], pieces: list):
        self.run = run
        self.pieces = pieces
        self.results: list[Any] = [None] * len(pieces)
        self.next = 0
        self.left = len(pieces)
        self.error: BaseException | None = None

    def work(self, place: int) -> None:
        """Run a piece; what it raises is kept for the task that shares."""
        try:
            self.results[place] = self.run(self.pieces[place])
        except BaseException as exc:
            self.error = self.error or exc


class _Crew:
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
        self.jobs: list[_Job] = []
        self.changed = threading.Condition()
        self.error: BaseException | None = None

    def work_with(self, workers: int) -> None:
        token = _crew.set(self)
        try:
            # Threads see what is set for the calling one alone, np.errstate for instance.
            threads = [
                threading.Thread(
                    target=contextvars.copy_context().run, args=(self._work,), daemon=True
                )
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
        finally:
            _crew.reset(token)
        if self.error is not None:
            raise self.error

    def share(self, run: Callable[[Any], Any], pieces: list) -> list:
        job = _Job(run, pieces)
        with self.changed:
            self.jobs.append(job)
            self.changed.notify_all()
        while (place := self._take(job)) is not None:
            job.work(place)
            self._done(job)
        with self.changed:
            while job.left:
                self.changed.wait()
        if job.error is not None:
            raise job.error
        return job.results

    def _take(self, job: _Job) -> int | None:
        """The next piece of a job; None if all are taken, or one failed."""
        with self.changed:
            return self._take_locked(job)

    def _take_locked(self, job: _Job) -> int | None:
        if job.error is not None:
            job.left -= len(job.pieces) - job.next
            job.next = len(job.pieces)
        place = job.next if job.next < len(job.pieces) else None
        if place is not None:
            job.next += 1
        if job.next == len(job.pieces) and job in self.jobs:
            self.jobs.remove(job)
        return place

    def _done(self, job: _Job) -> None:
        with self.changed:
            job.left -= 1
            if job.left == 0:
                self.changed.notify_all()

    def _work(self) -> None:
        while True:
            with self.changed:
                while not (self.ready or self.jobs) and self.left and self.error is None:
                    self.changed.wait()
                if self.error is not None or not self.left:
                    return
                # Helping comes first: one large task at a time needs the least memory.
                job = self.jobs[0] if self.jobs else None
                place = heapq.heappop(self.ready) if job is None else self._take_locked(job)
            if job is not None:
                if place is not None:
                    job.work(place)
                    self._done(job)
                continue
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
    add : function, optional
        ``add(total, term)`` returns the sum of two terms and may write to its first argument,
        which is a term. By default arrays are added, and no term is written to.
    lock : threading.Lock, optional
        One for many sums, where one thread alone adds; by default each sum has its own.
    """

    __slots__ = ("_add", "_early", "_lock", "_next", "_owned", "_sources", "_total")

    def __init__(
        self,
        sources: Sequence[Hashable],
        start: Any = None,
        add: Callable[[Any, Any], Any] | None = None,
        lock: Any = None,
    ):
        self._sources = sources
        self._add = add
        self._next = 0
        # Terms that wait for earlier ones; made when the first comes early.
        self._early: dict[Hashable, Any] | None = None
        self._total = start
        self._owned = False
        self._lock = lock or threading.Lock()

    def add(self, source: Hashable, term: Any) -> bool:
        """Bring the term of ``source``; True if the sum is complete with it."""
        with self._lock:
            sources = self._sources
            if not self._early and self._next < len(sources) and sources[self._next] == source:
                # The usual case: nobody came early.
                if term is not None:
                    self._take(term)
                self._next += 1
                return self._next == len(sources)
            if self._early is None:
                self._early = {}
            self._early[source] = term
            while self._next < len(sources) and sources[self._next] in self._early:
                self._take(self._early.pop(sources[self._next]))
                self._next += 1
            return self._next == len(sources)

    def _take(self, term: Any) -> None:
        if term is None:
            return
        if self._total is None:
            self._total = term
        elif self._add is not None:
            self._total = self._add(self._total, term)
        elif self._owned:
            self._total += term
        else:
            # The first term may be an array of somebody else.
            self._total = self._total + term
            self._owned = True

    def lacks_only(self, source: Hashable) -> bool:
        """Whether the term of ``source`` is the last one, and all others are added."""
        with self._lock:
            return self._sources[self._next :] == [source]

    @property
    def total(self) -> Any:
        """The sum of what was added so far; None without a term."""
        return self._total
