"""Processes that train together, played by threads: for tests of what they do, without MPI."""

from __future__ import annotations

import copy
import json
import threading

import numpy as np

from dagnet.communicator import Communicator


class Member(Communicator):
    """One of the threads of ``run_team``; sums are taken in the order of ranks."""

    def __init__(self, team, rank):
        self.rank, self.size = rank, team.size
        self._team = team
        self.sent = []

    def empty(self, count, dtype, device):
        return np.full(count, np.nan, dtype)

    def start_sum(self, array):
        self.sent.append(len(array))
        return Sum(self._team, self.rank, array, len(self.sent))

    def broadcast(self, array):
        return self._team.gather(self.rank, array)[0].copy()

    def broadcast_bytes(self, content):
        return self._team.gather(self.rank, content)[0]

    def exchange(self, value):
        # Through JSON, as between processes.
        return [json.loads(text) for text in self._team.gather(self.rank, json.dumps(value))]


class Sum:
    """A sum that the team forms when all wait for it."""

    def __init__(self, team, rank, array, number):
        self.team, self.rank, self.array, self.number = team, rank, array, number
        self.tests = 0

    def test(self):
        self.tests += 1

    def wait(self):
        parts = self.team.gather(self.rank, (self.number, self.array.copy()))
        assert len({number for number, _ in parts}) == 1, "sums were started in another order"
        self.array[...] = np.sum([array for _, array in parts], axis=0, dtype=self.array.dtype)


class Team:
    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size)
        self.held = [None] * size

    def gather(self, rank, value):
        self.held[rank] = value
        self.barrier.wait(timeout=60)
        everything = copy.copy(self.held)
        self.barrier.wait(timeout=60)
        return everything


def run_team(size, work):
    """``[work(communicator) for each of size members]``, all at the same time.

    What one of them raises ends the others' waiting, and is raised.
    """
    team = Team(size)
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = work(Member(team, rank))
        except threading.BrokenBarrierError:
            pass
        except BaseException as exc:
            errors.append((rank, exc))
            team.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise min(errors, key=lambda error: error[0])[1]
    return results
