"""Whether long runs stay as they begin: memory and time of each frame and each step.

``python benchmarks/endurance.py [--frames 10000] [--steps 2000] [--out endurance_output]``

``dsiam_net.track`` follows a target through a generated video, and ``dsiam_net.train`` trains on
generated clips; both as they are, in processes of their own, with a small network unless
``--weights`` names another. Compared are the second tenth of a run and its last: what is filled
once, as buffers and plans, is there after the first. Writes ``endurance.npz`` and a figure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dagnet import atomic_write
from dsiam_net import track, train
from dsiam_net.branches import siamfc_branch
from dsiam_net.cli import make_parser, print_settings, run_command
from dsiam_net.overlay import VideoWriter
from dsiam_net.siamfc import make_siamfc
from dsiam_net.sources import VideoFile
from dsiam_net.text_table import columns
from dsiam_net.training_log import Progress
from endurance_figure import write_figure
from machine import describe
from reporting import print_machine, require_positive

MIB = 2**20
# Channels of the small network: SiamFC's layers with a few per cent of its work.
CHANNELS = (12, 16, 24, 24, 16)
# Frames of the video, pixels, and of a clip that is trained on.
HEIGHT, WIDTH, CLIP_FRAMES = 240, 320, 2
RADIUS = 20
# A run is compared tenth by tenth; fewer frames or steps make no tenths.
PARTS = 10
VIDEO, START = "generated.mp4", f"{WIDTH / 2 - RADIUS},{HEIGHT / 2 - RADIUS},{2 * RADIUS},40"


@dataclass(frozen=True, eq=False)
class Course:
    """What was noted after each frame or step: seconds since the first, resident memory."""

    unit: str
    seconds: np.ndarray
    bytes: np.ndarray

    def memory(self) -> tuple[float, float]:
        """MiB in the second and the last tenth, medians."""
        return _second_and_last(self.bytes / MIB, np.median)

    def each(self, mean: bool = False) -> tuple[float, float]:
        """Milliseconds of one, in the second and the last tenth: medians, or means."""
        return _second_and_last(1e3 * np.diff(self.seconds), np.mean if mean else np.median)

    def growth(self) -> float:
        """By what part of itself memory has grown."""
        before, after = self.memory()
        return after / before - 1


def _second_and_last(values: np.ndarray, summary) -> tuple[float, float]:
    parts = np.array_split(values, PARTS)
    return float(summary(parts[1])), float(summary(parts[-1]))


class Notes:
    """Time and memory, noted ``count`` times at most; room for them is taken at once."""

    def __init__(self, count: int):
        self.values = np.zeros((count, 2))
        self.number = 0
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._state = open("/proc/self/statm", "rb", buffering=0)

    def add(self) -> None:
        self._state.seek(0)
        resident = int(self._state.read().split()[1]) * self._page
        self.values[self.number] = time.perf_counter(), resident
        self.number += 1

    def save(self, path: str) -> None:
        np.save(path, self.values[: self.number])


# Generated video


def generated_frames(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames, uint8 (H, W, 3), of a disc that wanders over noise; one after the other."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(60, 200, (12, 16, 3)).astype(np.float32)
    scene = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    scene = scene.astype(np.uint8)
    for number in range(count):
        frame = scene.copy()
        x = WIDTH / 2 + 0.35 * WIDTH * np.sin(number / 60)
        y = HEIGHT / 2 + 0.3 * HEIGHT * np.sin(number / 47)
        place = round(x), round(y)
        cv2.circle(frame, place, RADIUS, (230, 40, 60), -1)
        cv2.circle(frame, place, RADIUS // 2, (250, 240, 90), -1)
        yield frame


def write_given(folder: Path, frames: int) -> None:
    """The video, and a small network with random filters."""
    with VideoWriter(folder / VIDEO) as video:
        for frame in generated_frames(frames):
            video.add(frame)
    branch = siamfc_branch(CHANNELS)
    branch.init_params(0)
    for parameter in branch.params:
        if parameter.train_method == "average":
            parameter.value = np.tile(np.float32([0, 1]), (len(parameter.value), 1))
    make_siamfc(branch).save(folder / "small.npz")


# The two runs, each in a process of its own


def track_video(folder: Path, weights: str, tracker: str, count: int) -> None:
    """``dsiam_net.track`` on the video, noting each frame as it is asked for."""
    notes = Notes(count)

    class Noted(VideoFile):
        def frames(self, every=1, limit=None):
            for frame in super().frames(every, limit):
                notes.add()
                yield frame

    track.open_source = lambda text, target: Noted(text)
    boxes = str(folder / "boxes.txt")
    words = ["--weights", weights, "--init", START, "--tracker", tracker, "--quiet"]
    track.main([str(folder / VIDEO), "--save-boxes", boxes, *words])
    notes.save(str(folder / "frames.npy"))


def train_network(folder: Path, weights: str, count: int) -> None:
    """``dsiam_net.train`` on generated clips, noting each step, with its log and checkpoints."""
    notes = Notes(count)

    class Noted(Progress):
        def after_step(self, mode, epoch, step, steps, stats):
            super().after_step(mode, epoch, step, steps, stats)
            notes.add()

    train.Progress = Noted
    words = ["--weights", weights, "--frames", str(CLIP_FRAMES), "--num-clips", str(count)]
    train.main(["--synthetic", "--exp-dir", str(folder / "run"), "--epochs", "1", *words])
    notes.save(str(folder / "steps.npy"))


def measure(unit: str, folder: Path, *words: str) -> Course:
    """Run this file as one of the two, and read what was noted."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--be", unit, "--out", str(folder), *words]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds, resident = np.load(folder / f"{unit}.npy").T
    return Course(unit, seconds - seconds[0], resident)


def table(courses: Sequence[Course]) -> str:
    """Memory and time of each course, in its second and its last tenth."""
    rows = [["", "number", "MiB", "last", "growth", "ms each", "last", "mean", "last", "all, s"]]
    for course in courses:
        (memory, memory_last), (each, each_last) = course.memory(), course.each()
        mean, mean_last = course.each(mean=True)
        numbers = [f"{v:.1f}" for v in (memory, memory_last)] + [f"{100 * course.growth():+.2f} %"]
        numbers += [f"{v:.2f}" for v in (each, each_last, mean, mean_last)]
        count = str(len(course.seconds))
        rows.append([course.unit, count, *numbers, f"{course.seconds[-1]:.0f}"])
    return columns(rows)


def main(argv: Sequence[str] | None = None) -> list[Course]:
    """Parse the arguments, measure, print and draw; what was measured."""
    parser = make_parser("benchmarks/endurance.py", __doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=10_000, help="of the video")
    parser.add_argument("--steps", type=int, default=2_000, help="of training")
    parser.add_argument("--weights", metavar="FILE", help="of another network than the small one")
    parser.add_argument("--tracker", default="dsiamm", help="as of dsiam_net.track")
    parser.add_argument("--out", default="endurance_output", help="folder of the results")
    parser.add_argument("--figure", metavar="FILE", help="(default: endurance.png there)")
    parser.add_argument("--be", choices=("frames", "steps"), help="be one of the runs")
    options = parser.parse_args(argv)
    require_positive(parser, options, "frames", "steps")
    folder = Path(options.out)
    if options.be == "frames":
        track_video(folder, options.weights, options.tracker, options.frames)
        return []
    if options.be == "steps":
        train_network(folder, options.weights, options.steps)
        return []
    print_settings(options)
    print_machine(describe(1))
    courses = []
    with tempfile.TemporaryDirectory(prefix="endurance-") as temporary:
        given = Path(temporary)
        write_given(given, options.frames)
        weights = ("--weights", options.weights or str(given / "small.npz"))
        counts = {"frames": options.frames, "steps": options.steps}
        for unit, count in counts.items():
            words = (f"--{unit}", str(count), "--tracker", options.tracker, *weights)
            courses.append(measure(unit, given, *words))
            print(table(courses[-1:]), flush=True)
    with atomic_write(folder / "endurance.npz") as file:
        np.savez(file, **{c.unit: np.stack([c.seconds, c.bytes]) for c in courses})
    write_figure(courses, options.figure or folder / "endurance.png")
    return courses


if __name__ == "__main__":
    run_command(lambda argv: main(argv) and None, "fewer --frames")
