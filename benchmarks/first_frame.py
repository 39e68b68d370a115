"""How V and W change the response of the first frame (docs/network.md).

``python benchmarks/first_frame.py --weights FILE --data DIR...``
"""

from __future__ import annotations

import argparse

import numpy as np

from dsiam_net.branches import copy_params, extract_branch
from dsiam_net.clips import ClipSampler
from dsiam_net.sequences import find_sequences
from dsiam_net.training import clip_batch
from dsiam_net.unrolled import UnrolledSettings, build_unrolled
from dsiam_net.weights import load_weights


def main() -> None:
    """Print, for a clip of each sequence, both responses' range, correlation and peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    options = parser.parse_args()
    source = load_weights(options.weights)
    branch, features = extract_branch(source, ("feat", "x14"))
    for sequence in find_sequences(options.data):
        clip = ClipSampler([sequence], length=1).clip(0, 0)
        maps = []
        for transform in (False, True):
            settings = UnrolledSettings(
                frames=1, features=tuple(features), transform_first_frame=transform
            )
            net = build_unrolled(branch, settings)
            copy_params(source, net)
            net.eval(clip_batch(net, [clip]).inputs)
            maps.append(net.get_var("score1").value[0, 0])
        without, transformed = maps
        same = without.argmax() == transformed.argmax()
        print(
            f"{sequence.name:12s} without {without.min():6.2f} to {without.max():5.2f}   "
            f"with {transformed.min():6.2f} to {transformed.max():5.2f}   correlation "
            f"{np.corrcoef(without.ravel(), transformed.ravel())[0, 1]:.4f}   "
            f"{'same peak' if same else 'another peak'}"
        )


if __name__ == "__main__":
    main()
