"""Tests of what becomes of a lack of memory within a layer: what is said, and what is left."""

import contextlib
import io
import weakref
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dagnet import (
    DagNN,
    ElementWise,
    LayerMemoryError,
    ReadAhead,
    asnumpy,
    load_checkpoint,
    memory_shortage,
    train_dag,
)
from dagnet.shortage import is_of_gpu, requested_bytes
from dsiam_net.cli import run_command
from dsiam_net.training import ClipBatches, clip_batch
from dsiam_net.unrolled import objectives
from simulated_cupy import CUDARuntimeError, installed
from simulated_device import OutOfMemoryError, memory
from test_upload import Listed, Toys
from tiny import smooth_clip, tiny_unrolled
from toy_layers import Times, array
from toy_training import bytes_of, options, toy_net

HUGE = 2**50


@pytest.fixture(autouse=True)
def simulated():
    with installed():
        yield


@dataclass(eq=False, kw_only=True)
class Greedy(ElementWise):
    """``y = x``; it lacks memory in one direction."""

    backward_uses_inputs: ClassVar = False
    direction: str = "none"

    def forward(self, inputs, params, context):
        if self.direction == "forward":
            np.empty(HUGE // 8)
        return [inputs[0] * 1.0], None

    def backward(self, inputs, params, der_outputs, saved, context):
        if self.direction == "backward":
            raise MemoryError("no more")
        return [der_outputs[0]], []


def chain(direction):
    net = DagNN()
    net.add_layer("times", Times(), "x", "a", "w")
    net.add_layer("greedy", Greedy(direction=direction), "a", "b")
    net.add_layer("again", Times(), "b", "y", "w")
    net.get_param("w").value = array(3.0)
    return net


@pytest.mark.parametrize("plan", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_layer_and_its_direction_are_named(direction, workers, plan):
    net = chain(direction)
    net.workers = workers
    with pytest.raises(LayerMemoryError, match=rf"layer 'greedy' .*, {direction}: out") as caught:
        net.eval({"x": array(2.0)}, {"y": array(1.0)}, plan=plan)
    error = caught.value
    assert isinstance(error, MemoryError) and memory_shortage(error) == str(error)
    assert "a smaller batch, fewer frames or a memory budget takes less" in str(error)
    assert error.used is error.total is None
    if direction == "forward":
        assert error.requested == HUGE and f"{HUGE:,} bytes asked for" in str(error)
    else:
        assert error.requested is None and "(no more)" in str(error)


def test_what_was_computed_is_freed_while_the_error_is_looked_at():
    net, kept = chain("backward"), []

    class Watched(Times):
        def forward(self, inputs, params, context):
            outputs, saved = super().forward(inputs, params, context)
            kept.append(weakref.ref(outputs[0]))
            return outputs, saved

    net.layers[0].block = Watched()
    net.rebuild()
    with pytest.raises(LayerMemoryError) as caught:
        net.eval({"x": np.ones(9)}, {"y": np.ones(9)})
    assert caught.value.__traceback__ is not None
    assert len(kept) == 1 and kept[0]() is None
    assert all(v.value is None and v.der is None for v in net.vars)
    net.layers[1].block.direction = "none"
    net.eval({"x": array(2.0)}, {"y": array(1.0)})
    assert net.get_param("w").der == 12.0


def step(net, batch):
    net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
    return {p.name: asnumpy(p.der) for p in net.params}


def test_on_a_gpu_the_bytes_of_the_device_are_told_whichever_allocation_fails(monkeypatch):
    """One of the allocations of a step is one too many; the step after is whole."""
    rng = np.random.default_rng(2)
    net = tiny_unrolled(rng, np.float32, frames=2)
    net.move("gpu")
    batch = clip_batch(net, [smooth_clip(rng, 2, dtype=np.float32)])
    expected = step(net, batch)
    before = memory.taken
    step(net, batch)
    number, directions, layers = memory.taken - before, set(), set()
    for place in range(1, number, number // 7):
        memory.fail_at = memory.taken + place
        with pytest.raises(MemoryError) as caught:
            step(net, batch)
        memory.fail_at = None
        error = caught.value
        assert all(v.value is None and v.der is None for v in net.vars)
        assert all(p.der is None for p in net.params) and not net.requirements
        if isinstance(error, LayerMemoryError):
            assert error.total == memory.total and error.used == memory.total - memory.free
            assert f"{error.requested:,} bytes asked for, 5,368,709,120 of the GPU's" in str(error)
            directions |= {d for d in ("forward", "backward") if f", {d}: " in str(error)}
            layers.add(str(error).split("'")[1])
        found = step(net, batch)
        assert all(np.array_equal(found[name], der) for name, der in expected.items())
    assert directions == {"forward", "backward"} and len(layers) > 3


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_run_that_lacks_memory_goes_on_from_its_last_checkpoint(tmp_path, monkeypatch, device):
    # Captures would call layers once more than there are steps.
    chosen = {"num_epochs": 2, "batch_size": 2, "checkpoint_every": 1, "capture": False}

    def run(folder):
        net = toy_net()
        net.move(device)
        with ReadAhead(Toys(device)) as reader:
            net, _ = train_dag(net, reader, range(8), options=options(folder, **chosen))
        net.move("cpu")
        return bytes_of(net)

    undisturbed = run(tmp_path / "whole")
    clean, calls = Times.forward, []

    def forward(self, inputs, params, context):
        calls.append(1)
        if len(calls) == 7:
            memory.fail_at = memory.taken
            if device == "cpu":
                raise MemoryError
        return clean(self, inputs, params, context)

    monkeypatch.setattr(Times, "forward", forward)
    with pytest.raises(LayerMemoryError, match="layer 'times'"):
        run(tmp_path / "broken")
    memory.fail_at = None
    _, state = load_checkpoint(tmp_path / "broken" / "net-partial.npz")
    assert (state.epoch, state.step) == (2, 2)
    assert run(tmp_path / "broken") == undisturbed


def test_a_batch_that_finds_no_room_is_told_where_it_is_asked_for():
    rng = np.random.default_rng(3)
    net = tiny_unrolled(rng, np.float32)
    net.move("gpu")
    clips = Listed([smooth_clip(rng, dtype=np.float32)])
    memory.fail_at = memory.taken + 1
    with ReadAhead(ClipBatches(net, clips)) as reader:
        reader.expect([((0,), "train", 1)])
        with pytest.raises(MemoryError, match="Out of memory allocating"):
            reader([0], "train", 1)


@pytest.mark.parametrize(
    "error",
    [
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"),
        type("CUBLASError", (RuntimeError,), {"__module__": "cupy_backends.cuda.libs.cublas"})(
            "CUBLAS_STATUS_ALLOC_FAILED"
        ),
        OutOfMemoryError(512, 2048),
    ],
)
def test_cuda_s_libraries_say_it_each_in_its_way(error):
    assert memory_shortage(error) == str(error) and is_of_gpu(error)
    assert requested_bytes(error) == (512 if isinstance(error, OutOfMemoryError) else None)


def test_another_error_of_cuda_is_none():
    assert memory_shortage(CUDARuntimeError("cudaErrorIllegalAddress")) is None
    assert not is_of_gpu(ValueError()) and requested_bytes(ValueError()) is None


def test_a_command_tells_it_in_a_line():
    def main(_):
        rng = np.random.default_rng(2)
        net = tiny_unrolled(rng, np.float32, frames=2)
        net.move("gpu")
        batch = clip_batch(net, [smooth_clip(rng, 2, dtype=np.float32)])
        memory.fail_at = memory.taken + 9
        step(net, batch)

    errors = io.StringIO()
    with pytest.raises(SystemExit) as stop, contextlib.redirect_stderr(errors):
        run_command(main, "a smaller --memory-budget or --frames")
    (line,) = errors.getvalue().splitlines()
    assert stop.value.code == 2
    assert line.startswith("error: not enough memory on the GPU (layer '") and "bytes" in line
    assert line.endswith(
        "end other programs that use it, or take a smaller --memory-budget or --frames, and give "
        "the command again"
    )
