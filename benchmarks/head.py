"""The head of the unrolled network layer by layer, and whole, beside PyTorch where it is installed.

``python benchmarks/head.py [--batch 1] [--frames 10] [--repeats 30] [--threads 1] [--wall]``

The head is what stands between the feature branches and the loss. Features have the sizes of
SiamFC's (22x22x256 and 24x24x384, of the template 6x6x256 and 8x8x384) in float32. Ours and
PyTorch's calls alternate; printed are medians in milliseconds, and where PyTorch runs, how far
outputs and derivatives lie from its. Times are of the processor, summed over threads: they hardly
depend on what else the machine does. ``--wall`` prints those of the clock.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dagnet import Context, DagNN, Layer, relative_error
from dagnet.backend import limit_blas_threads
from layers import RLR, CirConv, Conv, Crop, Elefusion, Eltwise, Loss, XCorr, background_mask

try:
    import torch
except ImportError:
    torch = None

MAP = (17, 17)
# Feature layer -> channels, side of the template's features, side of the search region's.
FEATURES = {1: (256, 6, 22), 2: (384, 8, 24)}
# Inputs of a frame at one feature layer; all frames have the first one in common.
ROLES = {"o1": 0, "o": 0, "g": 1, "gbar": 1, "z": 1}
LAMBDAS = {"v": 1e-5, "w": 10.0}
SHARES = {"v": 0.49, "w": 0.29}


class Case(NamedTuple):
    """A layer at one size. ``torch`` is the same in PyTorch: a function of all its arrays."""

    name: str
    layer: Layer
    inputs: list
    params: list
    torch: Callable | None


class Way(NamedTuple):
    """Forward, and backward of what forward returned: a list of derivatives."""

    forward: Callable[[], tuple[list, Any]]
    backward: Callable[[Any], list]


def cases(n: int, rng: np.random.Generator) -> list[Case]:
    """Every layer of the head, at the sizes of one frame."""

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    result = []
    for c, small, large in FEATURES.values():
        for role, side in (("v", small), ("w", large)):
            x, y, r = (normal(n, c, side, side) for _ in range(3))
            size = f"{side}x{side}x{c}"
            lam, share = np.float32([LAMBDAS[role]]), np.float32([SHARES[role]])
            result.append(Case(f"RLR {size}", RLR(), [x, y], [lam], torch_rlr))
            result.append(Case(f"CirConv {size}", CirConv(), [x, r], [share], torch_cir_conv))
        z, x = normal(n, c, small, small), normal(n, c, large, large)
        result.append(Case(f"XCorr {small}, {large}", XCorr(), [z, x], [], torch_xcorr))
    maps, labels = [normal(n, 1, *MAP) for _ in range(2)], label_map(n)
    result.append(Case("Elefusion", Elefusion(), maps, [0.8 * np.ones(MAP, "f4")], torch_fuse))
    loss = Loss(loss="logistic", instance_weights="balanced")
    result.append(Case("Loss", loss, [maps[0], labels], [], torch_loss))
    patch, mask = normal(n, 3, 255, 255), background_mask()
    result.append(Case("Eltwise", Eltwise(constant=mask), [patch], [], torch_mask))
    frame = rng.integers(0, 256, (n, 3, 480, 640), dtype=np.uint8)
    place = [np.float32([[240, 320]] * n), np.float32([[130, 260]] * n), normal(n, 3)]
    for side, size in (("exemplar", 127), ("search", 255)):
        block = Crop(size=size, side=side)
        result.append(Case(f"Crop {size}", block, [frame, maps[0], *place], [], None))
    return result


def label_map(n: int) -> np.ndarray:
    """Labels (N, 1, 17, 17): +1 within two cells of the centre, -1 elsewhere."""
    rows, columns = np.ogrid[-8:9, -8:9]
    near = np.where(rows**2 + columns**2 <= 4, 1, -1).astype(np.float32)
    return np.repeat(near[None, None], n, axis=0)


# The same in PyTorch


def hann(x):
    """The Hann window over the planes of ``x``."""
    rows, columns = (torch.hann_window(s, periodic=False) for s in x.shape[-2:])
    return torch.outer(rows, columns)


def torch_rlr(x, y, lam):
    """RLR."""
    w = hann(x)
    xh, yh = torch.fft.rfft2(w * x), torch.fft.rfft2(w * y)
    power = xh.real**2 + xh.imag**2 + lam * w.numel()
    return torch.fft.irfft2(xh.conj() * yh / power, s=x.shape[-2:])


def torch_cir_conv(x, r, lr):
    """CirConv."""
    spectrum = torch.fft.rfft2(r) * torch.fft.rfft2(hann(x) * x)
    return (1 - lr) * x + lr * torch.fft.irfft2(spectrum, s=x.shape[-2:])


def torch_xcorr(z, x):
    """XCorr."""
    n = x.shape[0]
    y = torch.nn.functional.conv2d(x.reshape(1, -1, *x.shape[2:]), z, groups=n)
    return y.reshape(n, 1, *y.shape[2:])


def torch_fuse(a, b, weights):
    """Elefusion of two maps."""
    return weights * a + (1 - weights) * b


def torch_loss(x, labels):
    """Loss."""
    positive = labels > 0
    weights = torch.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum())
    # As many positive cells in every sample: the counts above are N times a sample's.
    return (weights * torch.nn.functional.softplus(-labels * x)).sum()


def torch_mask(x):
    """Eltwise with the background mask."""
    return x * torch.from_numpy(background_mask())


def torch_head(frames: int, n: int) -> Callable:
    """The head as a function of features and parameters by name; returns the losses' sum."""
    labels = torch.from_numpy(label_map(n))

    def head(a):
        total = 0
        for t in range(frames):
            maps = []
            for level in FEATURES:
                o1, o, g, gbar, z = (a[variable(role, level, t)] for role in ROLES)
                v = torch_rlr(o1, o, a[f"v_lambda{level}"])
                w = torch_rlr(g, gbar, a[f"w_lambda{level}"])
                moved = torch_cir_conv(o1, v, a[f"v_lr{level}"])
                maps.append(torch_xcorr(moved, torch_cir_conv(z, w, a[f"w_lr{level}"])))
            fused = torch_fuse(*maps, a["sumweights"])
            total = total + torch_loss(a["adjust_f"] * fused + a["adjust_b"], labels)
        return total

    return head


# Both ways of each case


def our_way(case: Case, der: np.ndarray) -> Way:
    """The layer itself."""
    context = Context()
    ders = [der] if case.layer.num_outputs[0] == 1 else [der, None]

    def backward(saved):
        by_inputs, by_params = case.layer.backward(case.inputs, case.params, ders, saved, context)
        return [*by_inputs, *by_params]

    return Way(lambda: case.layer.forward(case.inputs, case.params, context), backward)


def torch_way(function: Callable, arrays: list, der: np.ndarray) -> Way:
    """``function`` with autograd; ``arrays`` as the layer has them."""
    tensors = [torch.from_numpy(a).clone().requires_grad_() for a in arrays]
    der = torch.from_numpy(np.asarray(der))

    def forward():
        y = function(*tensors)
        return [y.detach().numpy()], y

    def backward(y):
        ders = torch.autograd.grad(y, tensors, der, allow_unused=True)
        return [d if d is None else d.numpy() for d in ders]

    return Way(forward, backward)


def variable(role: str, level: int, t: int) -> str:
    """Name of an input of the head; ``o1`` is one for all frames."""
    return f"o1_{level}" if role == "o1" else f"f{t}_{role}_{level}"


def head_arrays(frames: int, n: int, rng: np.random.Generator) -> tuple[dict, dict]:
    """Inputs and parameters of the head, by name."""
    inputs = {
        variable(role, level, t): rng.standard_normal((n, c, *2 * (sides[place],)), np.float32)
        for t in range(frames)
        for level, (c, *sides) in FEATURES.items()
        for role, place in ROLES.items()
    }
    params = {"sumweights": np.full(MAP, 0.8), "adjust_b": np.zeros(1)}
    params["adjust_f"] = np.full((1, 1, 1, 1), 1e-3)
    for level in FEATURES:
        for role in "vw":
            params[f"{role}_lambda{level}"] = np.array([LAMBDAS[role]])
            params[f"{role}_lr{level}"] = np.array([SHARES[role]])
    return inputs, {name: value.astype(np.float32) for name, value in params.items()}


def head_net(frames: int, params: dict) -> DagNN:
    """The head as a network, the losses in ``objective{t}``."""
    net = DagNN()
    for t in range(frames):
        for level in FEATURES:
            o1, o, g, gbar, z = (variable(role, level, t) for role in ROLES)
            for role, pair, moved in (("v", [o1, o], o1), ("w", [g, gbar], z)):
                learned, out = f"f{t}_{role}_{level}", f"f{t}_{role}_{level}_out"
                net.add_layer(f"rlr_{learned}", RLR(), pair, learned, f"{role}_lambda{level}")
                net.add_layer(
                    f"cir_{learned}", CirConv(), [moved, learned], out, f"{role}_lr{level}"
                )
            pair = [f"f{t}_v_{level}_out", f"f{t}_w_{level}_out"]
            net.add_layer(f"xcorr{t}_{level}", XCorr(), pair, f"map{t}_{level}")
        maps = [f"map{t}_{level}" for level in FEATURES]
        net.add_layer(f"fuse{t}", Elefusion(), maps, f"fused{t}", "sumweights")
        adjust = Conv(size=(1, 1, 1, 1))
        net.add_layer(f"adjust{t}", adjust, f"fused{t}", f"score{t}", ["adjust_f", "adjust_b"])
        loss = Loss(loss="logistic", instance_weights="balanced")
        net.add_layer(f"loss{t}", loss, [f"score{t}", "labels"], f"objective{t}")
        net.get_var(f"objective{t}").precious = True  # read after backward
    for name, value in params.items():
        net.get_param(name).value = value
    return net


def head_ways(frames: int, n: int, rng: np.random.Generator) -> list[Way]:
    """The whole head as one forward + backward each; derivatives in the order of names."""
    inputs, params = head_arrays(frames, n, rng)
    net = head_net(frames, params)
    ones = {f"objective{t}": 1 for t in range(frames)}
    labels = {"labels": label_map(n)}

    def ours():
        net.eval(inputs | labels, ones)
        return [sum(net.get_var(name).value for name in ones)], None

    def our_ders(_):
        return [net.get_var(i).der for i in inputs] + [net.get_param(p).der for p in params]

    ways = [Way(ours, our_ders)]
    if torch is not None:
        both = inputs | params
        head = torch_head(frames, n)
        way = torch_way(lambda *a: head(dict(zip(both, a))), list(both.values()), np.float32(1))

        def theirs():
            (y,), graph = way.forward()
            return [y], way.backward(graph)

        ways.append(Way(theirs, lambda ders: ders))
    return ways


def measure(ways: list[Way], repeats: int, clock: Callable) -> list[tuple[float, float]]:
    """Median milliseconds of (forward, backward) of each way, called in turn."""
    times: list[tuple[list, list]] = [([], []) for _ in ways]
    for repeat in range(repeats + 2):
        for way, (forward, backward) in zip(ways, times):
            start = clock()
            _, saved = way.forward()
            middle = clock()
            way.backward(saved)
            end = clock()
            if repeat > 1:  # the first two rounds warm up
                forward.append(1e3 * (middle - start))
                backward.append(1e3 * (end - middle))
    return [tuple(statistics.median(series) for series in pair) for pair in times]


def difference(ours: Way, theirs: Way) -> tuple[float, float]:
    """Greatest relative errors of outputs and of derivatives against PyTorch's."""
    results = []
    for way in (ours, theirs):
        outputs, saved = way.forward()
        results.append((outputs, way.backward(saved)))
    (out, ders), (other_out, other_ders) = results
    both = [(a, b) for a, b in zip(ders, other_ders) if a is not None and b is not None]
    return relative_error(out[0], other_out[0]), max(relative_error(*pair) for pair in both)


def report(name: str, ways: list[Way], repeats: int, clock: Callable) -> None:
    """Print one line."""
    times = measure(ways, repeats, clock)
    line = f"{name:18s}" + "".join(f"{f:9.3f}{b:9.3f}" for f, b in times)
    if len(ways) == 2:
        line += "{:10.1e}{:9.1e}".format(*difference(*ways))
    print(line)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, workers and PyTorch")
    parser.add_argument("--wall", action="store_true", help="times of the clock")
    options = parser.parse_args()
    clock = time.perf_counter if options.wall else time.process_time
    rng = np.random.default_rng(0)
    heads = ["ours: fwd", "bwd"]
    if torch is not None:
        torch.set_num_threads(options.threads)
        heads += ["torch: fwd", "bwd", "out diff", "der diff"]
    print(f"ms, medians; batch {options.batch}, threads {options.threads}")
    print(" " * 16 + "".join(f"{head:>10s}" for head in heads))
    with limit_blas_threads(options.threads):
        for case in cases(options.batch, rng):
            outputs, _ = case.layer.forward(case.inputs, case.params, Context())
            der = rng.standard_normal(outputs[0].shape).astype(np.float32)
            ways = [our_way(case, der)]
            if torch is not None and case.torch is not None:
                ways.append(torch_way(case.torch, [*case.inputs, *case.params], der))
            report(case.name, ways, options.repeats, clock)
        # Forward and backward in one.
        ways = head_ways(options.frames, options.batch, rng)
        report(f"head, {options.frames} frames", ways, max(3, options.repeats // 6), clock)


if __name__ == "__main__":
    main()
