"""Exact and fast patches side by side: boxes, scores and speed (docs/tracker.md).

``python benchmarks/exact_fast.py --weights FILE --data DIR...`` (or ``--large``)

Times are of the processor, medians over frames: they hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np

from dsiam_net.boxes import SEARCH_SIZE, TEMPLATE_SIZE, iou
from dsiam_net.metrics import success_auc
from dsiam_net.patches import ExactPatches
from dsiam_net.patches_fast import FastPatches
from dsiam_net.sequences import Sequence, find_sequences
from dsiam_net.settings import get_preset
from dsiam_net.tracker import TRACKERS, create_tracker
from dsiam_net.weights import load_weights


class Timed:
    """Patches that note the processor seconds spent in them."""

    def __init__(self, patches):
        self.patches = patches
        self.seconds = 0.0

    def __getattr__(self, name):
        method = getattr(self.patches, name)

        def timed(*arguments):
            start = time.process_time()
            result = method(*arguments)
            self.seconds += time.process_time() - start
            return result

        return timed


class Run(NamedTuple):
    """Boxes (T, 4), AUC, and median milliseconds of a frame: the whole, and patches alone."""

    boxes: np.ndarray
    auc: float
    whole: float
    patches: float


def run(name: str, net, sequence: Sequence, patches, frames: int | None) -> Run:
    """Track the first ``frames`` frames."""
    timed = Timed(patches)
    tracker = create_tracker(name, net, patches=timed)
    tracker.init(sequence.frame(0), sequence.boxes[0])
    boxes, whole, alone = [tracker.box], [], []
    for index in range(1, min(len(sequence), frames or len(sequence))):
        frame = sequence.frame(index)
        start, timed.seconds = time.process_time(), 0.0
        boxes.append(tracker.update(frame))
        whole.append(time.process_time() - start)
        alone.append(timed.seconds)
    auc = success_auc(boxes, sequence.boxes[: len(boxes)])
    return Run(np.array(boxes), auc, 1000 * np.median(whole), 1000 * np.median(alone))


# Width and height of a frame and side of the search region, pixels.
LARGE = ((1920, 1080, 300), (1920, 1080, 1500), (3840, 2160, 8100))


def large_frames() -> None:
    """Print how long a frame's patches take (three scales, template, surroundings), milliseconds.

    The frames are noise.
    """
    rng = np.random.default_rng(0)
    for width, height, side in LARGE:
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        centre, spent = (height / 2, width / 2), []
        for patches in (ExactPatches(), FastPatches()):
            colour = patches.average_colour(patches.image(frame))
            seconds = []
            for _ in range(5):
                start = time.process_time()
                image = patches.image(frame)
                sides = [side * scale for scale in get_preset("siamfc").scales]
                patches.pyramid(image, centre, sides, SEARCH_SIZE, colour)
                template_side = side * TEMPLATE_SIZE / SEARCH_SIZE
                patches.crop(image, centre, template_side, TEMPLATE_SIZE, colour)
                patches.crop(image, centre, side, SEARCH_SIZE, colour)
                seconds.append(time.process_time() - start)
            spent.append(1000 * np.median(seconds))
        print(f"{width} x {height}, side {side}: exact {spent[0]:.1f}, fast {spent[1]:.1f} ms")


def main() -> None:
    """Print a row a tracker and sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights")
    parser.add_argument("--data", nargs="+")
    parser.add_argument("--trackers", nargs="+", choices=TRACKERS, default=["siamfc", "dsiamm"])
    parser.add_argument("--frames", type=int, help="the first N frames of each sequence only")
    parser.add_argument("--large", action="store_true", help="patches of large frames alone")
    options = parser.parse_args()
    if options.large:
        large_frames()
        return
    if not (options.weights and options.data):
        parser.error("give --weights and --data, or --large")
    net = load_weights(options.weights)
    print("| tracker | sequence | frames | AUC exact | fast | overlap mean | least | ", end="")
    print("ms a frame exact | fast | ms of patches exact | fast |")
    print("| --- " * 11 + "|")
    for name in options.trackers:
        aucs = []
        for sequence in find_sequences(options.data):
            exact, fast = (
                run(name, net, sequence, patches, options.frames)
                for patches in (ExactPatches(), FastPatches())
            )
            shared = iou(exact.boxes, fast.boxes)
            aucs.append((exact.auc, fast.auc))
            print(
                f"| {name} | {sequence.name} | {len(exact.boxes)} | {exact.auc:.3f} | "
                f"{fast.auc:.3f} | {shared.mean():.3f} | {shared.min():.3f} | {exact.whole:.0f} | "
                f"{fast.whole:.0f} | {exact.patches:.1f} | {fast.patches:.1f} |",
                flush=True,
            )
        mean = np.mean(aucs, axis=0)
        print(f"| {name} | mean | | {mean[0]:.3f} | {mean[1]:.3f} | | | | | | |")


if __name__ == "__main__":
    main()
