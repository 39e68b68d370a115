"""What TF32 does to a training step: how far losses and derivatives are from double precision.

``python benchmarks/tf32.py [--frames 10]`` (needs a GPU)
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

from agreement import distances
from dagnet import asnumpy
from dagnet.backend import set_tf32
from dsiam_net.clips import Clip
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import objectives
from problems import Size, make_clip, make_net

Values = Mapping[str, np.ndarray]


def step_values(size: Size, clip: Clip, dtype: type, device: str, seed: int = 0) -> Values:
    """One step of the unrolled network with random filters.

    Returns
    -------
    dict
        ``score`` (T, h, w), ``loss`` (T,), ``center`` (T, 2) and ``der NAME`` of each parameter.
    """
    net = make_net(size, seed, dtype)
    net.move(device)
    batch = clip_batch(net, [clip], dtype)
    net.eval(batch.inputs, dict.fromkeys(objectives(net), 1), late_inputs=batch.late_inputs)
    frames = range(1, size.frames + 1)

    def values(name: str) -> np.ndarray:
        return np.stack([asnumpy(net.get_var(f"{name}{t}").value) for t in frames])

    found = {"score": values("score")[:, 0, 0], "center": values("center")[:, 0]}
    found["loss"] = values("objective").reshape(-1)
    return found | {f"der {p.name}": asnumpy(p.der) for p in net.params}


def effect(size: Size, device: str = "gpu", seed: int = 0) -> dict[str, tuple[float, float]]:
    """Distances of single precision and of TF32 from double precision, by name.

    ``max|a - b| / max|b|`` of what ``step_values`` returns, see ``agreement.distances``. On the
    CPU, which has no TF32, the two are equal. Where rounding moves the peak of a response, the
    crops after it lie elsewhere, and all that follows from them: ``center`` shows it.
    """
    clip = make_clip(size.frames, seed)
    reference = step_values(size, clip, np.float64, device, seed)
    found = []
    for tf32 in (False, True):
        if device == "gpu":
            set_tf32(tf32)
        found.append(distances(step_values(size, clip, np.float32, device, seed), reference))
    if device == "gpu":
        set_tf32(False)
    single, rounded = found
    return {name: (single[name], rounded[name]) for name in reference}


def table(found: Mapping[str, tuple[float, float]]) -> str:
    """``effect`` as text, a value a row."""
    lines = [f"{'':16s} {'single':>8s} {'TF32':>8s}"]
    lines += [f"{name:16s} {single:8.1e} {tf32:8.1e}" for name, (single, tf32) in found.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure a step of the full size, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10)
    options = parser.parse_args()
    print("max|a - b| / max|b| against double precision")
    print(table(effect(Size(options.frames))))


if __name__ == "__main__":
    main()
