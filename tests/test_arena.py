"""Tests of dagnet.arena: requests that are in use together never share bytes."""

import numpy as np
import pytest

from dagnet.arena import ALIGNMENT, Arena, ArenaError, Recorder, Request, aligned, plan_arena
from simulated_cupy import installed


def random_requests(rng, count):
    """Requests of a step as it might be: pieces of many sizes, some given back, some kept."""
    time, open_, found = 0, [], {}
    sizes = []
    while len(sizes) < count or open_:
        if len(sizes) < count and (not open_ or rng.random() < 0.55):
            open_.append(len(sizes))
            sizes.append((int(2 ** rng.uniform(0, 20)), time))
        else:
            place = open_.pop(rng.integers(len(open_)))
            if rng.random() < 0.1:
                continue  # kept
            found[place] = time
        time += 1
    return [Request(size, begin, found.get(i)) for i, (size, begin) in enumerate(sizes)]


@pytest.mark.parametrize("seed", range(20))
def test_requests_in_use_together_share_no_bytes(seed):
    rng = np.random.default_rng(seed)
    requests = random_requests(rng, int(rng.integers(1, 120)))
    plan = plan_arena(requests)
    for i, (a, at) in enumerate(zip(requests, plan.offsets)):
        assert at % ALIGNMENT == 0 and at + a.size <= plan.size
        for b, bt in zip(requests[:i], plan.offsets[:i]):
            if a.meets(b):
                assert at + a.size <= bt or bt + b.size <= at
    assert plan.peak <= plan.size <= sum(aligned(request.size) for request in requests)
    # Greedy by size: how far above the least that any plan needs, measured over these steps.
    assert plan.size <= 1.3 * plan.peak


def test_in_use_together_is_what_a_clock_says(rng):
    """``meets`` against counting moments."""
    for _ in range(200):
        a, b = (
            Request(1, int(begin), None if rng.random() < 0.2 else int(begin + length))
            for begin, length in zip(rng.integers(0, 10, 2), rng.integers(1, 6, 2))
        )
        moments = [set(range(r.begin, 30 if r.end is None else r.end)) for r in (a, b)]
        assert a.meets(b) == b.meets(a) == bool(moments[0] & moments[1])


def test_one_piece_after_the_other_takes_the_room_of_the_largest():
    requests = [Request(1000 * (i + 1), 2 * i, 2 * i + 1) for i in range(5)]
    plan = plan_arena(requests)
    assert plan.size == plan.peak == aligned(5000) and plan.offsets == (0,) * 5


def test_what_is_kept_has_bytes_of_its_own_from_then_on():
    plan = plan_arena([Request(512, 0, 1), Request(512, 2, None), Request(512, 3, 4)])
    assert plan.offsets[0] in plan.offsets[1:] and plan.offsets[1] != plan.offsets[2]
    assert plan.size == 1024
    assert "arena of 0.0 MiB for 3 requests" in str(plan)


def test_a_step_without_requests_needs_no_memory():
    assert (plan_arena([]).size, plan_arena([]).peak) == (0, 0)


@pytest.fixture
def cupy():
    with installed():
        import cupy

        yield cupy


def step(cupy, x):
    y = x + 1
    y = y * 2
    z = (y - x)[1:]
    return z, y.sum()


def test_a_recorded_step_is_served_out_of_one_block(cupy):
    x = cupy.arange(1000, dtype="f8")
    expected = [a.get() for a in step(cupy, x)]
    recorder = Recorder()
    with cupy.cuda.using_allocator(recorder.malloc):
        kept = step(cupy, x)
    requests = recorder.finish()
    del kept
    # x + 1 and its double are both there until the second; then the double and the difference.
    assert [r.size for r in requests] == [8000, 8000, 8000, 8]
    assert [r.end is None for r in requests] == [False, False, True, True]
    plan = plan_arena(requests)
    assert plan.size == 2 * aligned(8000) + ALIGNMENT
    arena = Arena(plan)
    with cupy.cuda.using_allocator(arena.malloc):
        found = step(cupy, x)
    arena.finish()
    for a, b in zip(expected, found):
        assert a.tobytes() == b.get().tobytes()
        assert arena.block.ptr <= b.data.ptr < arena.block.ptr + plan.size


def test_another_step_is_refused(cupy):
    x = cupy.arange(1000, dtype="f8")
    recorder = Recorder()
    with cupy.cuda.using_allocator(recorder.malloc):
        step(cupy, x)
    plan = plan_arena(recorder.finish())
    for other, message in (
        (lambda: step(cupy, x[1:]), "request 0 of a step was 8000 bytes .* and is 7992 bytes"),
        (lambda: (step(cupy, x), x + 1), "request 4 of a step was no further one"),
        (lambda: [x + 1, x + 2, x + 3], "memory of request 0, which was given back by then"),
    ):
        arena = Arena(plan)
        with pytest.raises(ArenaError, match=message), cupy.cuda.using_allocator(arena.malloc):
            other()
    arena = Arena(plan)
    with pytest.raises(ArenaError, match="made 4 requests when it was recorded, and 0 now"):
        arena.finish()


def test_what_comes_back_after_the_step_is_none_of_its(cupy):
    recorder = Recorder()
    with cupy.cuda.using_allocator(recorder.malloc):
        kept = cupy.zeros(3)
    (request,) = recorder.finish()
    del kept
    assert request.end is None


def test_nothing_asks_for_no_memory(cupy):
    recorder = Recorder()
    with cupy.cuda.using_allocator(recorder.malloc):
        cupy.zeros(0)
    plan = plan_arena(recorder.finish())
    arena = Arena(plan)
    with cupy.cuda.using_allocator(arena.malloc):
        assert cupy.zeros(0).size == 0
    arena.finish()
