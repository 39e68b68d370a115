"""Random networks of convolutions, batch norms and poolings: the plan gives what the layers give.

Each network is evaluated layer by layer (``plan=False``) and by its plan, with merged, fused and
batched layers, in double precision, and every value and derivative that can be seen is compared.
"""

import numpy as np
import pytest

from dagnet import DagNN
from feature_chains import fuse_everything
from layers import BatchNorm, Conv, Eltwise, Pooling, ReLU

CHANNELS = 8


@pytest.fixture(params=["FeatureChain", "PlainChain"], autouse=True)
def kind(request, monkeypatch):
    """The networks here are small: they run as ``PlainChain`` unless that is forbidden."""
    if request.param == "FeatureChain":
        fuse_everything(monkeypatch)


def add_stage(net, rng, name, source, shared, shrink=False):
    """A convolution, perhaps with what may follow it; returns the last variable's name."""
    kernel = int(rng.choice([1, 3, 3, 5]))
    groups = int(rng.choice([1, 1, 2]))
    bias = bool(rng.random() < 0.7)
    pad = kernel // 2 if rng.random() < 0.8 else 0
    stride = 2 if shrink and rng.random() < 0.2 else 1
    block = Conv(
        size=(CHANNELS, CHANNELS // groups, kernel, kernel), pad=pad, stride=stride, has_bias=bias
    )
    kind = f"{shared}_{kernel}_{groups}"
    net.add_layer(
        f"{name}_conv", block, source, f"{name}_y", [f"{kind}_f", f"{kind}_b"][: 1 + bias]
    )
    last = f"{name}_y"
    if rng.random() < 0.6:
        moments = "stored" if rng.random() < 0.2 else "batch"
        names = [f"{shared}_{part}" for part in ("m", "o", "x")]
        block = BatchNorm(num_channels=CHANNELS, epsilon=1e-4, moments=moments)
        net.add_layer(f"{name}_bn", block, last, f"{name}_n", names)
        last = f"{name}_n"
    if rng.random() < 0.7:
        leak = 0.1 if rng.random() < 0.3 else 0.0
        net.add_layer(f"{name}_relu", ReLU(leak=leak), last, f"{name}_r", [])
        last = f"{name}_r"
    if shrink and rng.random() < 0.5:
        method = rng.choice(["max", "max", "avg"])
        pad = (0, 1, 0, 1) if rng.random() < 0.3 else 0
        block = Pooling(method=str(method), pool_size=2, stride=int(rng.choice([1, 2])), pad=pad)
        net.add_layer(f"{name}_pool", block, last, f"{name}_p", [])
        last = f"{name}_p"
    return last


def random_net(seed):
    """Branches of equal make on several inputs, some again with other settings, some joined."""
    rng = np.random.default_rng(seed)
    net = DagNN()
    ends = []
    for branch in range(int(rng.integers(2, 6))):
        # Branches of one kind have the same draws, so the same layers and parameters.
        kind = int(rng.integers(0, 2))
        draws = np.random.default_rng([seed, kind])
        last = f"x{branch % 3}"
        seen = []
        for i in range(int(draws.integers(1, 4))):
            last = add_stage(net, draws, f"b{branch}_{i}", last, f"k{kind}_{i}", shrink=i == 0)
            seen.append(last)
        ends.append(last)
        if rng.random() < 0.4:
            tap = seen[int(rng.integers(len(seen)))]
            net.add_layer(f"b{branch}_tap", ReLU(), tap, f"tap{branch}")
        if rng.random() < 0.3:
            net.get_var(last).precious = True
    for i in range(len(ends) - 1):
        if rng.random() < 0.5:
            # What one branch gives goes through the first kind's layers again.
            add_stage(net, np.random.default_rng([seed, 7]), f"next{i}", ends[i], "next")
    factor = Eltwise(operation="prod", constant=np.full((1, 1, 1, 1), 0.5))
    net.add_layer("half", factor, ends[0], "halved")
    net.init_params(seed, np.float64)
    for parameter in net.params:
        shape = parameter.value.shape
        if parameter.name.endswith("_x"):
            parameter.value = np.stack(
                [rng.normal(0, 0.1, shape[0]), rng.uniform(0.5, 2, shape[0])], 1
            )
        elif parameter.name.endswith(("_m", "_o", "_b")):
            parameter.value = rng.normal(0, 1, shape)
    return net


def evaluate(net, inputs, ders, plan):
    net.eval(inputs, ders, plan=plan)
    found = {f"value {v.name}": v.value for v in net.vars if v.precious}
    found |= {f"der {v.name}": v.der for v in net.vars if v.precious or v.fanin == 0}
    found |= {f"der {p.name}": p.der for p in net.params}
    net.eval(inputs, plan=plan)
    return found | {f"value {v.name}": v.value for v in net.vars if v.precious or v.fanout == 0}


@pytest.mark.parametrize("mode", ["normal", "test"])
@pytest.mark.parametrize("seed", range(30))
def test_the_plan_gives_what_the_layers_give_one_by_one(seed, mode):
    rng = np.random.default_rng([seed, 1])
    net = random_net(seed)
    net.mode = mode
    net.workers = 1 + seed % 2
    sizes = {"x0": (2, CHANNELS, 33, 31), "x1": (1, CHANNELS, 33, 31), "x2": (2, CHANNELS, 36, 30)}
    inputs = {name: rng.standard_normal(sizes[name]) for name in net.get_inputs()}
    net.eval(inputs, plan=False)
    ends = {name: net.get_var(name).value for name in net.get_outputs()}
    ders = {name: rng.standard_normal(value.shape) for name, value in ends.items()}
    plain, planned = (evaluate(net, inputs, ders, plan) for plan in (False, True))
    merged = [names for names in net.plan().aliases if len(names) > 1]
    for v in [v for names in merged for v in names]:
        # The derivative by variables that were merged is the sum over them.
        plain.pop(f"der {net.vars[v].name}", None)
        planned.pop(f"der {net.vars[v].name}", None)
    assert plain.keys() == planned.keys()
    scale = max(np.abs(v).max() for k, v in plain.items() if k.startswith("der") and v is not None)
    for name, value in plain.items():
        if value is None:
            assert planned[name] is None, name
            continue
        # Derivatives that cancel (biases before batch norm) are compared with the others.
        size = max(np.abs(value).max(), 1e-3 * scale if name.startswith("der") else 1e-3)
        assert np.abs(planned[name] - value).max() < 1e-9 * size, name
