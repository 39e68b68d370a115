"""A training step with the execution plan and without, in one run (full size, float32).

``python benchmarks/plan.py [--steps 3] [--frames 10]``
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from dsiam_net.branches import siamfc_branch
from dsiam_net.synthetic import SyntheticVideos
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import UnrolledSettings, build_unrolled, objectives


def main() -> None:
    """Print the median seconds of forward + backward for each way of running the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--frames", type=int, default=10)
    options = parser.parse_args()
    branch = siamfc_branch()
    branch.init_params(np.random.default_rng(0))
    net = build_unrolled(branch, UnrolledSettings(frames=options.frames))
    batch = clip_batch(net, [SyntheticVideos(length=options.frames).clip(0, 0)])
    ones = dict.fromkeys(objectives(net), 1)
    ways = {
        "every layer in turn, BLAS threads": {"plan": False, "workers": 1},
        "every layer, side by side": {"plan": False, "workers": None},
        "plan, in turn, BLAS threads": {"plan": True, "workers": 1},
        "plan, side by side": {"plan": True, "workers": None},
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for step in range(options.steps + 1):
        for way, how in ways.items():
            net.workers = how["workers"]
            start = time.perf_counter()
            net.eval(batch.inputs, ones, late_inputs=batch.late_inputs, plan=how["plan"])
            if step:  # the first round warms up
                seconds[way].append(time.perf_counter() - start)
    for way, taken in seconds.items():
        print(f"{way:36s} {statistics.median(taken):6.2f} s")


if __name__ == "__main__":
    main()
