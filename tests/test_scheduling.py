"""Tests of dagnet.scheduling, and of evaluations on several threads."""

import itertools
import threading
import time
import warnings

import numpy as np
import pytest

from dagnet import DagNN, LayerError
from dagnet.backend import blas_threads, limit_blas_threads
from dagnet.scheduling import OrderedSum, run_tasks
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import objectives
from test_plan import random_net
from tiny import smooth_clip, tiny_unrolled
from toy_layers import Drop, Times, array

NEEDS = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": set(), "f": {"e", "d"}}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_task_runs_once_and_after_those_that_it_needs(workers):
    done, lock = [], threading.Lock()

    def run(task):
        with lock:
            assert NEEDS[task] <= set(done)
        time.sleep(0.002)
        with lock:
            done.append(task)

    run_tasks(list("abcdef"), NEEDS, run, workers)
    assert sorted(done) == list("abcdef")


def test_independent_tasks_run_side_by_side():
    both = threading.Barrier(2, timeout=10)
    run_tasks(["a", "b"], {"a": set(), "b": set()}, lambda task: both.wait(), 2)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_error_is_raised_and_nothing_is_begun_after_it(workers):
    begun = []

    def run(task):
        begun.append(task)
        if task == "b":
            raise RuntimeError("b broke")

    with pytest.raises(RuntimeError, match="b broke"):
        run_tasks(list("abcdef"), NEEDS, run, workers)
    assert "d" not in begun and "f" not in begun


def test_an_interruption_ends_all_threads():
    def run(task):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.01)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(range(50), {i: set() for i in range(50)}, run, 3)
    assert threading.active_count() == before


def test_what_is_set_for_the_caller_holds_in_every_thread():
    both = threading.Barrier(2, timeout=10)

    def run(task):
        both.wait()
        np.array([1e308]) * np.array([10.0])

    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        run_tasks(["a", "b"], {"a": set(), "b": set()}, run, 2)


def test_a_sum_does_not_depend_on_the_order_of_arrival():
    terms = {"a": array(1e16), "b": array(1.0), "c": None, "d": array(-1e16), "e": array(3.0)}
    expected = ((1e16 + 1.0) - 1e16) + 3.0
    for order in itertools.permutations(terms):
        total = OrderedSum("abcde")
        complete = [total.add(source, terms[source]) for source in order]
        assert complete == [False] * 4 + [True]
        assert total.total == expected


def test_a_sum_leaves_the_arrays_that_it_was_given_alone():
    start, first, second = array(1.0), array(2.0), array(3.0)
    total = OrderedSum("ab", start)
    total.add("a", first)
    total.add("b", second)
    assert (start, first, second, total.total) == (1.0, 2.0, 3.0, 6.0)


def evaluate(net, inputs, ends, workers, **options):
    net.workers = workers
    with limit_blas_threads(1):
        net.eval(inputs, dict.fromkeys(ends, 1.0), **options)
    ders = {p.name: p.der for p in net.params}
    return ders | {name: net.get_var(name).der for name in net.get_inputs()}


@pytest.mark.parametrize("seed", range(8))
def test_the_numbers_are_the_same_bits_on_any_number_of_threads(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    inputs = {name: rng.uniform(-1, 1, 4) for name in net.get_inputs()}
    ends = [name for name in net.get_outputs() if name not in inputs]
    alone, together = (evaluate(net, inputs, ends, workers) for workers in (1, 4))
    for name, der in alone.items():
        assert np.array_equal(der, together[name]), name


def test_so_they_are_for_the_unrolled_network(rng):
    net = tiny_unrolled(rng, dtype=np.float32)
    batch = clip_batch(net, [smooth_clip(rng, dtype=np.float32)], np.float32)
    found = [
        evaluate(net, batch.inputs, objectives(net), workers, late_inputs=batch.late_inputs)
        for workers in (1, 3)
    ]
    for name, der in found[0].items():
        assert np.array_equal(der, found[1][name]), name


def test_layers_that_draw_numbers_draw_the_same_on_any_number_of_threads():
    def drawn(workers):
        net = DagNN()
        for i in range(6):
            net.add_layer(f"drop{i}", Drop(), "x", f"y{i}")
        net.workers = workers
        net.eval({"x": np.ones(20)})
        return np.stack([net.get_var(f"y{i}").value for i in range(6)])

    assert np.array_equal(drawn(1), drawn(4))
    assert len(np.unique(drawn(1), axis=0)) == 6


def test_an_error_in_a_thread_names_its_layer():
    net = DagNN()
    for i in range(8):
        net.add_layer(f"times{i}", Times(), "x", f"y{i}", f"w{i}")
        net.get_param(f"w{i}").value = array(1.0)
    net.get_param("w5").value = None
    net.workers = 4
    with pytest.raises(LayerError, match=r"layer 'times5'.*'w5' has no value"):
        net.eval({"x": array(1.0)})


def test_blas_threads_are_as_before_after_an_evaluation():
    before = blas_threads()
    net = DagNN()
    for i in range(4):
        net.add_layer(f"times{i}", Times(), "x", f"y{i}", "w")
    net.get_param("w").value = array(1.0)
    net.workers = 2
    net.eval({"x": array(1.0)})
    assert blas_threads() == before
