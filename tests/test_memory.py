"""The memory that the engine expects an evaluation to take, against what NumPy allocates."""

import tracemalloc

import numpy as np
import pytest

from dsiam_net.branches import siamfc_branch
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import UnrolledSettings, build_unrolled, objectives
from layers.kernels.scratch import Buffer, Pool

# What plans expect is measured here, --no-plan or not.
pytestmark = pytest.mark.of_plan

FRAMES = 6
# What a unit of one frame needs while it runs comes on top of what the plan counts for all.
WORK = 1.25


@pytest.fixture
def plain_memory(monkeypatch):
    """Every buffer is an array of its own, which ``tracemalloc`` sees."""
    monkeypatch.setattr(Pool, "take", lambda self, size: Buffer(np.empty(size, np.uint8)))


def problem(**settings):
    """A network of full-size images and few channels, and a batch for it."""
    branch = siamfc_branch((24, 32, 48, 48, 32))
    branch.init_params(np.random.default_rng(0))
    net = build_unrolled(branch, UnrolledSettings(frames=FRAMES, **settings))
    net.workers = 1
    return net, clip_batch(net, [SyntheticVideos(length=10).clip(0, 0)])


def allocated(net, batch, **options):
    """Bytes that NumPy has allocated at the height of a step."""
    ders = dict.fromkeys(objectives(net), 1)

    def step():
        net.eval(batch.inputs, ders, late_inputs=batch.late_inputs, **options)

    # What is made once, and modules that are imported, are not a step's.
    step()
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def expected(net, batch, **options):
    sizes = {name: value.shape for name, value in batch.inputs.items() if value.ndim == 4}
    return net.plan(input_sizes=sizes, **options).peak_bytes


@pytest.mark.parametrize(
    "settings", [{}, {"crops": "ground-truth", "crop_gradient": "none"}], ids=["predicted", "known"]
)
def test_a_step_takes_the_memory_that_its_plan_expects(plain_memory, settings):
    net, batch = problem(**settings)
    bytes_expected = expected(net, batch)
    assert 0.8 * bytes_expected < allocated(net, batch) < WORK * bytes_expected


def test_a_step_stays_within_its_memory_budget(plain_memory):
    net, batch = problem()
    budget = 0.7 * expected(net, batch)
    assert expected(net, batch, memory_budget=budget) <= budget
    assert allocated(net, batch, memory_budget=budget) < WORK * budget


def test_a_memory_budget_does_not_change_a_bit():
    net, batch = problem()
    ders = dict.fromkeys(objectives(net), 1)
    found = []
    for budget in (None, 0.6 * expected(net, batch)):
        net.eval(batch.inputs, ders, late_inputs=batch.late_inputs, memory_budget=budget)
        found.append({p.name: p.der for p in net.params})
    for name, der in found[0].items():
        np.testing.assert_array_equal(der, found[1][name], err_msg=name)
