"""Three steps of training a small SiamFC, against the original's DagNN and accumulateGradients."""

import pytest

from dagnet import DagNN
from dsiam_net.fidelity.checks.training import plan_of, run
from golden import assert_passes, golden_cases

# In double, in single, with Nesterov's momentum, and in two sub-batches.
RUNS = ("sgd_double", "sgd", "nesterov", "sgd_sub2")
CASES = [case for run in RUNS for case in golden_cases(f"train_small_{run}")]


@pytest.fixture(scope="module", params=["by plan", "layers in turn"], autouse=True)
def execution(request):
    """How networks are run; a run serves all of its cases, and nobody else."""
    run.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "layers in turn":
            patch.setitem(DagNN.eval.__kwdefaults__, "plan", False)
        yield
    run.cache_clear()


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_the_run_is_the_originals(case):
    assert_passes(case)
    plan = plan_of(case.golden)
    assert (plan.steps, plan.images) == (3, 2)
    assert bool(plan.options["nesterovUpdate"]) == ("nesterov" in case.file)
    assert plan.options["numSubBatches"] == (2 if "sub2" in case.file else 1)
