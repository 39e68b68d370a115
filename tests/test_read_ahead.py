"""Tests of dagnet.read_ahead: batches made in threads, in order, ahead of their use."""

import threading
import time

import numpy as np
import pytest

from dagnet import Callback, DagNNError, ReadAhead, StopTraining, load_checkpoint, train_dag
from toy_training import bytes_of, get_batch, options, toy_net

WAIT = 10.0


class Watched:
    """A source of batches that remembers what it was asked for, and by which threads."""

    def __init__(self, fail=None):
        self.asked, self.threads, self.fail = [], set(), fail

    def __call__(self, indexes, mode, epoch):
        self.asked.append((tuple(indexes), mode, epoch))
        self.threads.add(threading.current_thread().name)
        if (mode, epoch) == self.fail:
            raise OSError("crops/00012.jpg: cannot be read")
        return get_batch(indexes, mode, epoch)


def requests(count):
    return [((i,), "train", 1) for i in range(count)]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_training_from_batches_read_ahead_gives_equal_bits(tmp_path, threads, parts):
    chosen = {"num_epochs": 3, "num_sub_batches": parts, "batch_size": 3, "epoch_size": 5}
    plain, _ = train_dag(
        toy_net(), get_batch, range(6), [6, 7], options=options(tmp_path / "a", **chosen)
    )
    source = Watched()
    with ReadAhead(source, threads) as reader:
        ahead, state = train_dag(
            toy_net(), reader, range(6), [6, 7], options=options(tmp_path / "b", **chosen)
        )
    assert bytes_of(ahead) == bytes_of(plain)
    assert "MainThread" not in source.threads
    assert len(state.stats["val"]) == 3


def test_a_run_that_goes_on_within_an_epoch_reads_only_what_is_left(tmp_path):
    chosen = {"num_epochs": 2, "batch_size": 2, "checkpoint_every": 1}
    whole = Watched()
    train_dag(toy_net(), whole, range(8), [0], options=options(tmp_path / "a", **chosen))

    class Interrupt(Callback):
        def after_step(self, mode, epoch, step, steps, stats):
            if (mode, epoch, step) == ("train", 2, 2):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ReadAhead(Watched()) as reader:
        train_dag(
            toy_net(),
            reader,
            range(8),
            [0],
            options=options(tmp_path / "b", **chosen),
            callbacks=[Interrupt()],
        )
    rest = Watched()
    with ReadAhead(rest) as reader:
        train_dag(toy_net(), reader, range(8), [0], options=options(tmp_path / "b", **chosen))
    # An epoch is four steps and a validation; the checkpoint of a step follows its callbacks.
    assert rest.asked == whole.asked[6:]


def test_at_most_depth_batches_are_made_ahead():
    source = Watched()
    with ReadAhead(source, threads=2, depth=3) as reader:
        reader.expect(requests(20))
        for taken in range(4):
            deadline = time.monotonic() + WAIT
            while len(source.asked) < 3 + taken and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert len(source.asked) == 3 + taken
            reader([taken], "train", 1)


def test_what_a_thread_raises_is_raised_where_its_batch_is_asked_for(tmp_path):
    seen = []

    class Steps(Callback):
        def after_step(self, mode, epoch, step, steps, stats):
            seen.append((mode, epoch, step))

    with pytest.raises(OSError, match=r"00012\.jpg: cannot be read"):
        with ReadAhead(Watched(fail=("val", 1)), threads=2) as reader:
            train_dag(
                toy_net(),
                reader,
                range(8),
                [0],
                options=options(tmp_path),
                callbacks=[Steps()],
            )
    assert seen == [("train", 1, 1), ("train", 1, 2)]


def test_closing_begins_nothing_further_and_ends_the_threads():
    release, source = threading.Event(), Watched()

    def slow(indexes, mode, epoch):
        release.wait(WAIT)
        return source(indexes, mode, epoch)

    before = threading.active_count()
    reader = ReadAhead(slow, threads=1, depth=5)
    reader.expect(requests(20))
    threading.Timer(0.05, release.set).start()
    reader.close()
    assert len(source.asked) <= 1
    time.sleep(0.1)
    assert threading.active_count() <= before


def test_the_wait_for_a_batch_is_measured():
    def slow(indexes, mode, epoch):
        time.sleep(0.05)
        return get_batch(indexes, mode, epoch)

    with ReadAhead(slow, threads=1, depth=1) as reader:
        reader.expect(requests(2))
        reader([0], "train", 1)
        assert reader.waited >= 0.04
        time.sleep(0.2)
        reader([1], "train", 1)
        assert reader.waited < 0.04


def test_another_order_than_the_announced_one_is_refused():
    with ReadAhead(Watched()) as reader:
        reader.expect(requests(3))
        with pytest.raises(DagNNError, match=r"asked for is \(\(2,\), 'train', 1\)"):
            reader([2], "train", 1)


def test_without_an_announcement_a_batch_is_made_at_once():
    with ReadAhead(Watched()) as reader:
        np.testing.assert_array_equal(reader([3], "train", 1).inputs["x"], [0.5])


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_no_thread_or_no_batch_is_refused(sizes):
    with pytest.raises(ValueError, match="a thread and a batch at least"):
        ReadAhead(get_batch, *sizes)


def test_a_callback_ends_training_after_an_epoch(tmp_path):
    class Enough(Callback):
        def after_epoch(self, net, state):
            if state.epoch == 2:
                raise StopTraining

    _, state = train_dag(
        toy_net(), get_batch, [0], options=options(tmp_path, num_epochs=9), callbacks=[Enough()]
    )
    assert state.epoch == 2
    assert load_checkpoint(tmp_path / "net-epoch-2.npz")[1].step == -1
    assert not (tmp_path / "net-epoch-3.npz").exists()
