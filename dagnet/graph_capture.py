"""A step on a GPU that is captured once as a CUDA graph and then launched again and again.

A step is a function of arrays that does the same work each time: what it launches must not depend
on values, only on what its key says (shapes, modes, settings). The first time a step runs as it
is: kernels are compiled, FFTs planned, workspaces made. The second time its requests for memory
are recorded as well, and laid out in one arena (``dagnet.arena``). The third time it is captured:
its launches are noted, not run, with all memory from the arena. From then on the inputs are copied
to where the graph reads them and the graph is launched, by one call of the host.

What lives from step to step (parameters, the solver's state, running averages) must be written in
place, and lie outside of the arena.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .arena import Arena, ArenaPlan, Recorder, Request, plan_arena
from .backend import noting_constants

# Training and validation, each with whole batches and a smaller last one.
GRAPHS_KEPT = 4
# CuPy keeps 16 FFT plans by default; one that is dropped takes the workspace of a graph with it.
FFT_PLANS = 256


@dataclass
class _Graph:
    """What a launch needs, and what must live as long as there may be one."""

    graph: Any
    inputs: list[Any]
    result: Any
    arena: Arena
    kept: list[Any]


@dataclass
class _Step:
    """How far a step has come."""

    # Where the arrays lie that it writes in place, and these: kept, so that no others come there.
    places: list[tuple | None] | None = None
    fixed: list[Any] = field(default_factory=list)
    requests: tuple[Request, ...] = ()
    captured: _Graph | None = None


class StepGraphs:
    """Runs steps of a network on a GPU: plainly at first, then as graphs.

    Attributes
    ----------
    failure : str or None
        Why nothing is captured any more.
    """

    def __init__(self):
        self.failure: str | None = None
        self._steps: dict[Hashable, _Step] = {}
        self._block: Any = None
        plans = sys.modules["cupy"].fft.config.get_plan_cache()
        if 0 <= plans.get_size() < FFT_PLANS:
            plans.set_size(FFT_PLANS)

    def run(
        self,
        key: Hashable,
        inputs: Sequence[Any],
        step: Callable[[Sequence[Any]], Any],
        fixed: Sequence[Any] = (),
    ) -> Any:
        """Run ``step(inputs)``, by a launch if it was captured.

        Parameters
        ----------
        key : hashable
            All that the step's work depends on, but for shapes and dtypes of the arrays.
        inputs : sequence of arrays
            What differs from step to step. They are copied where the graph reads them.
        step : function of a sequence of arrays like ``inputs``
            Called in all runs but launches.
        fixed : sequence of arrays
            Those that the step reads and writes in place; with others it is recorded and captured
            again.

        Returns
        -------
        What ``step`` returned; of a launch, what it returned when it was captured: its arrays hold
        what this step computed. They are overwritten by the next launch.
        """
        if self.failure is not None:
            return step(inputs)
        shapes = tuple([(array.shape, array.dtype) for array in inputs])
        state = self._steps.pop((key, shapes), None)
        if state is None:
            while len(self._steps) >= GRAPHS_KEPT:
                del self._steps[next(iter(self._steps))]
            self._steps[key, shapes] = _Step()
            return step(inputs)
        self._steps[key, shapes] = state  # the last one is the one used last
        places = [_place(array) for array in fixed]
        if state.places != places:
            state.places, state.fixed, state.captured = places, list(fixed), None
            recorder = Recorder()
            with _steady(), sys.modules["cupy"].cuda.using_allocator(recorder.malloc):
                result = step(inputs)
                state.requests = recorder.finish()
            return result
        if state.captured is None:
            try:
                state.captured = self._capture(state, inputs, step)
            except Exception as exc:
                # Whatever CUDA has against it, there is another way.
                self.failure = f"{type(exc).__name__}: {exc}"
                self._steps.clear()
                warnings.warn(
                    "a step could not be captured as a CUDA graph, its kernels are launched one by "
                    f"one from now on ({self.failure})",
                    stacklevel=2,
                )
                return step(inputs)
        return self._launch(state.captured, inputs)

    def plans(self) -> list[ArenaPlan]:
        """The arenas of the graphs that are kept."""
        return [s.captured.arena.plan for s in self._steps.values() if s.captured is not None]

    def _capture(self, state: _Step, inputs: Sequence[Any], step: Callable) -> _Graph:
        cupy = sys.modules["cupy"]
        plan = plan_arena(state.requests)
        if self._block is None or self._block.size < plan.size:
            # What steps had until now waits in CuPy's pool for others.
            cupy.get_default_memory_pool().free_all_blocks()
            # Graphs run one after the other, so those that come can share the block.
            self._block = cupy.cuda.Memory(plan.size)
        arena = Arena(plan, self._block)
        buffers = [cupy.empty_like(array) for array in inputs]
        stream = cupy.cuda.Stream(non_blocking=True)
        with _steady(), stream, noting_constants() as constants:
            stream.begin_capture()
            try:
                with cupy.cuda.using_allocator(arena.malloc):
                    result = step(buffers)
                arena.finish()
            except BaseException:
                _abandon(stream)
                raise
            graph = stream.end_capture()
        fft_plans = [node.plan for _, node in cupy.fft.config.get_plan_cache()]
        return _Graph(graph, buffers, result, arena, [constants, fft_plans])

    def _launch(self, captured: _Graph, inputs: Sequence[Any]) -> Any:
        for buffer, array in zip(captured.inputs, inputs):
            buffer[...] = array
        # On the caller's stream, in order with what it did before and will do.
        captured.graph.launch()
        return captured.result


def _place(array: Any) -> tuple | None:
    """Where an array lies, and how."""
    if array is None:
        return None
    return array.data.ptr, array.shape, array.strides, array.dtype


@contextmanager
def _steady() -> Iterator[None]:
    """Memory comes back in the same order each time: Python collects no cycles meanwhile."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _abandon(stream: Any) -> None:
    """End a capture that failed; the stream is not used again."""
    try:
        stream.end_capture()
    except Exception:
        # CUDA says a second time that the capture is invalid.
        return
