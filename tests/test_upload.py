"""Tests of sending ahead: the order of streams, buffers, what is waited for. On the stand-in for
CuPy, where a copy is made as late as it may be and memory that is not ready is refused."""

import threading
import time

import numpy as np
import pytest

from dagnet import Batch, HostBatches, ReadAhead, asnumpy, to_device, train_dag
from dagnet.upload import Uploads
from dsiam_net.clips import Clip
from dsiam_net.pretraining import PairBatches
from dsiam_net.training import ClipBatches, clip_batch, frame_stats
from dsiam_net.unrolled import objectives
from pair_sources import Blobs
from simulated_cupy import installed
from simulated_streams import Event, Stream, StreamError, empty_pinned
from test_pretraining import tiny_siamfc
from tiny import smooth_clip, tiny_unrolled
from toy_training import C, X, bytes_of, options, toy_net

WAIT = 20.0


@pytest.fixture(autouse=True)
def transfers():
    with installed() as count:
        yield count


def arrays(k=0):
    return {
        "bytes": np.arange(7, dtype=np.uint8) + k,
        "single": np.float32([[1.5, -2.0], [3.0, k]]),
        "double": np.arange(300.0) + k,
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        got = asnumpy(found[name])
        assert got.dtype == array.dtype and np.array_equal(got, array), name


# The stand-in


def uploaded(stream, values):
    """An array that is being copied from pinned memory on a stream, and that memory."""
    import cupy

    pinned = empty_pinned(values.shape, values.dtype)
    pinned[...] = values
    with stream:
        array = cupy.empty(values.shape, values.dtype)
    array.set(pinned, stream=stream)
    return array, pinned


def test_memory_is_read_after_the_event_of_its_write_alone():
    stream = Stream(non_blocking=True)
    array, _ = uploaded(stream, np.arange(3.0))
    with pytest.raises(StreamError, match="has not waited for the event"):
        array + 1
    early = Event()
    with pytest.raises(StreamError):
        Stream.null.wait_event(early)
        array.get()
    Stream.null.wait_event(stream.record())
    assert (array + 1).get().tolist() == [1, 2, 3]


def test_a_pinned_buffer_that_is_written_to_before_its_copy_shows():
    stream = Stream(non_blocking=True)
    array, pinned = uploaded(stream, np.arange(3.0))
    pinned[0] = 9
    Stream.null.wait_event(stream.record())
    assert array.get().tolist() == [9, 1, 2]
    array, pinned = uploaded(stream, np.arange(3.0))
    event = stream.record()
    assert not event.done and event.done
    pinned[0] = 9
    Stream.null.wait_event(event)
    assert array.get().tolist() == [0, 1, 2]


def test_a_pinned_buffer_that_is_given_back_before_its_copy_shows():
    stream = Stream(non_blocking=True)
    array, pinned = uploaded(stream, np.arange(3.0))
    del pinned
    Stream.null.wait_event(stream.record())
    with pytest.raises(StreamError, match="given back before"):
        array.get()


def test_memory_is_given_out_again_after_the_event_of_its_last_read_alone():
    stream = Stream(non_blocking=True)
    array, _ = uploaded(stream, np.arange(3.0))
    Stream.null.wait_event(stream.record())
    array + 1
    del array
    with pytest.raises(StreamError, match="read, or was before it was freed"):
        uploaded(stream, np.arange(3.0))
    stream.wait_event(Stream.null.record())
    uploaded(stream, np.arange(3.0))


# Uploads


def test_what_is_received_is_what_was_sent(transfers):
    uploads = Uploads()
    sent = [uploads.send(arrays(k)) for k in range(3)]
    before = transfers.to_host
    received = [uploads.receive(s) for s in sent]
    assert transfers.to_host == before  # nobody waited
    for k, found in enumerate(received):
        same(found, arrays(k))
        assert not any(
            np.shares_memory(a._host, b._host)
            for a, b in zip(found.values(), received[k - 1].values())
        )
    uploads.close()


def test_one_copy_carries_all_arrays(transfers):
    uploads = Uploads()
    before = transfers.to_device
    uploads.send(arrays())
    assert transfers.to_device == before + 1


def test_blocks_and_buffers_are_given_back_when_nothing_needs_them():
    """Many rounds, each of which computes with what it received; the stand-in finds too early."""
    uploads, total = Uploads(), 0.0
    ahead = [uploads.send(arrays(k)) for k in range(2)]
    for k in range(12):
        found = uploads.receive(ahead.pop(0))
        total += float((found["double"] * 2).sum())
        ahead.append(uploads.send(arrays(k + 2)))
        assert len(uploads._copying) <= 4
    assert total == sum(2 * arrays(k)["double"].sum() for k in range(12))
    uploads.close()
    assert uploads._copying == []


# Reading ahead


class Toys(HostBatches):
    """The toy problem's batches, with what was read and finished, and where."""

    def __init__(self, device, fail=None):
        self.device, self.fail = device, fail
        self.reads, self.finishes = [], []

    def read(self, indexes, mode, epoch):
        self.reads.append(threading.current_thread().name)
        if (mode, epoch) == self.fail:
            raise OSError("crops/00012.jpg: cannot be read")
        return {"x": X[indexes], "c": C[indexes]}

    def finish(self, arrays):
        self.finishes.append(threading.current_thread().name)
        return Batch(arrays)


def train(folder, get_batch, **more):
    net = toy_net()
    net.move(get_batch.device if hasattr(get_batch, "device") else get_batch._get_batch.device)
    chosen = options(folder, num_epochs=3, batch_size=2)
    net, state = train_dag(net, get_batch, range(8), [0, 1], options=chosen, **more)
    net.move("cpu")
    return bytes_of(net), state


@pytest.mark.parametrize("threads", [1, 3])
def test_training_on_batches_sent_ahead_gives_equal_bits(tmp_path, threads):
    plain, _ = train(tmp_path / "a", Toys("gpu"))
    source = Toys("gpu")
    with ReadAhead(source, threads) as reader:
        ahead, state = train(tmp_path / "b", reader)
    assert ahead == plain and len(state.stats["val"]) == 3
    assert "MainThread" not in source.reads and set(source.finishes) == {"MainThread"}


def test_on_the_cpu_a_thread_makes_the_whole_batch(tmp_path):
    source = Toys("cpu")
    with ReadAhead(source) as reader:
        ahead, _ = train(tmp_path / "a", reader)
    assert ahead == train(tmp_path / "b", Toys("cpu"))[0]
    assert "MainThread" not in source.finishes[:-1]


def test_what_a_thread_raises_is_raised_where_its_batch_is_asked_for(tmp_path):
    with pytest.raises(OSError, match=r"00012\.jpg: cannot be read"):
        with ReadAhead(Toys("gpu", fail=("val", 1)), threads=2) as reader:
            train(tmp_path, reader)


def test_the_next_batch_is_on_its_way_before_the_figures_of_a_step_are_read(tmp_path, transfers):
    """While the figures of step k are asked for, the copy of step k + 1 has begun already."""
    seen = []

    class Counted(ReadAhead):
        pass

    with Counted(Toys("gpu")) as reader:
        sent = []
        send = reader._uploads.send
        reader._uploads.send = lambda given: (send(given), sent.append(1))[0]

        def figures(stats, net):
            taken = len(seen) + 1
            deadline = time.monotonic() + WAIT
            while len(sent) < min(taken + 1, 5) and time.monotonic() < deadline:
                time.sleep(0.001)
            seen.append(len(sent) >= min(taken + 1, 5))
            return stats

        net = toy_net()
        net.move("gpu")
        chosen = options(tmp_path, num_epochs=1, batch_size=2)
        train_dag(net, reader, range(8), [0, 1], options=chosen, extract_stats=figures)
    assert seen == [True] * 5


@pytest.mark.parametrize("crops", ["response", "ground-truth"])
def test_no_step_waits_for_its_batch(transfers, crops):
    """Of a step of the unrolled network the host waits for the figures alone, once."""
    rng = np.random.default_rng(5)
    clips = [smooth_clip(rng, dtype=np.float32) for _ in range(4)]
    gradient = "pool" if crops == "response" else "none"
    net = tiny_unrolled(rng, np.float32, crops=crops, crop_gradient=gradient)
    net.move("gpu")
    with ReadAhead(ClipBatches(net, Listed(clips))) as reader:
        reader.expect([((k,), "train", 1) for k in range(4)])
        waits = []
        for k in range(4):
            before = transfers.to_host
            batch = reader([k], "train", 1)
            net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
            frame_stats({}, net)
            waits.append(transfers.to_host - before)
    assert waits[2:] == [1, 1]  # the first ones make the plan, which looks at settings


class Listed:
    def __init__(self, clips):
        self.clips = clips

    def clip(self, epoch, index):
        return self.clips[index]


def bytes_clip(rng):
    clip = smooth_clip(rng, dtype=np.float32)
    return Clip(np.clip(np.rint(clip.frames), 0, 255).astype(np.uint8), clip.boxes)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_frames_of_bytes_give_the_numbers_of_the_same_frames_of_floating_point(device):
    clip = bytes_clip(np.random.default_rng(6))
    floating = Clip(clip.frames.astype(np.float32), clip.boxes)
    found = []
    for given in (clip, floating):
        net = tiny_unrolled(np.random.default_rng(7), np.float32)
        net.move(device)
        batch = clip_batch(net, [given])
        assert batch.inputs["frame1"].dtype == given.frames.dtype
        net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
        found.append([asnumpy(p.der).tobytes() for p in net.params])
    assert found[0] == found[1]


def test_a_clip_and_pairs_that_were_sent_ahead_are_those_that_are_made_at_once():
    rng = np.random.default_rng(8)
    net = tiny_unrolled(rng, np.float32)
    net.move("gpu")
    pairs = tiny_siamfc()
    pairs.move("gpu")
    for get_batch in (
        ClipBatches(net, Listed([bytes_clip(rng)] * 2)),
        PairBatches(Blobs(159, jitter=8), pairs),
    ):
        whole = get_batch([0, 1], "train", 1)
        with ReadAhead(get_batch) as reader:
            reader.expect([((0, 1), "train", 1)])
            ahead = reader([0, 1], "train", 1)
            same(ahead.inputs, {name: asnumpy(a) for name, a in whole.inputs.items()})
    assert to_device(np.zeros(1), "gpu").dtype == np.float64
