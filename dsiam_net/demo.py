"""Command: the whole way on generated video, in a few minutes, with nothing to download.

``python -m dsiam_net.demo`` builds the unrolled network, trains it for some steps, tracks a
generated video with what came out, and leaves figures, video and checkpoint. It starts from the
weights that come with the package, or from random ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dagnet import DagNN, TrainOptions, train_dag

from .analysis.responses import unrolled_with
from .branches import siamfc_branch
from .build_unrolled import print_network
from .cli import make_parser, run_command
from .drawing import draw_unrolled
from .figures import collect_responses, responses_over_frames
from .metrics import precision, success_auc
from .overlay import VideoWriter, draw_tracking
from .synthetic import SyntheticVideos
from .tracker import create_tracker
from .tracking import save_boxes, track
from .training import ClipBatches, KeepLambdasPositive, clip_batch, frame_stats, observe_moments
from .training_log import Progress, TrainingLog
from .unrolled import build_unrolled, freeze_moments, objectives
from .weights import RANDOM, default_weights, describe_weights, load_weights

# From random weights the published rates of 1e-7 and less would show nothing in a few steps; this
# one is a tenth of what SiamFC's training starts with, for the sum of ten frames' losses. Weights
# that were trained go on at the paper's first rate.
LEARNING_RATE, PUBLISHED_RATE = 1e-3, 1e-7
# Of the generated videos, one whose target differs enough from what is around it for a network
# that has hardly been trained.
VIDEO = 2


@dataclass(frozen=True)
class DemoFiles:
    """What the demo leaves in its folder."""

    folder: Path

    @property
    def graph(self) -> Path:
        return self.folder / "graph.svg"

    @property
    def training(self) -> Path:
        return self.folder / "training"

    @property
    def responses(self) -> Path:
        return self.folder / "responses.png"

    @property
    def network(self) -> Path:
        return self.folder / "dsiam.npz"

    @property
    def boxes(self) -> Path:
        return self.folder / "boxes.txt"

    @property
    def video(self) -> Path:
        return self.folder / "tracked.mp4"


def starting_network(weights: str, seed: int) -> DagNN:
    """The unrolled network with weights from a file, or random ones by ``seed``.

    With weights from a file the moments of its batch norms are kept.
    """
    if weights == RANDOM:
        branch = siamfc_branch()
        branch.init_params(np.random.default_rng(seed))
        return build_unrolled(branch)
    net = unrolled_with(load_weights(weights))
    freeze_moments(net)
    return net


def train_for_a_while(
    net: DagNN, videos: SyntheticVideos, steps: int, folder: Path, learning_rate: float
) -> DagNN:
    """Train on ``steps`` generated clips. What an earlier demo left in ``folder`` is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    get_batch = ClipBatches(net, videos)
    with Progress() as progress:
        net, _ = train_dag(
            net,
            get_batch,
            range(steps),
            options=TrainOptions(
                exp_dir=folder,
                batch_size=1,
                num_epochs=1,
                learning_rate=learning_rate,
                der_outputs=dict.fromkeys(objectives(net), 1),
            ),
            extract_stats=frame_stats,
            callbacks=[KeepLambdasPositive(), TrainingLog(folder), progress],
        )
    return net


def track_video(
    net: DagNN, videos: SyntheticVideos, length: int, files: DemoFiles
) -> tuple[float, float]:
    """Track a generated video with DSiamM; returns AUC and precision at 20 pixels."""
    frames, truth = videos.video(VIDEO, length)
    tracker = create_tracker("dsiamm", net)
    boxes = []
    with VideoWriter(files.video, fps=20) as video:
        steps = zip(track(tracker, frames, truth[0]), truth)
        for step, true_box in tqdm(steps, total=length, desc="track", unit="frame"):
            boxes.append(step.box)
            picture = draw_tracking(step.image, step.box, true_box, step.result, len(boxes))
            video.add(picture)
    save_boxes(files.boxes, np.array(boxes))
    return success_auc(np.array(boxes), truth), precision(np.array(boxes), truth)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and run the demo."""
    parser = make_parser("dsiam_net.demo", "Build, train and track on generated video.")
    parser.add_argument("--out", default="demo_output", metavar="DIR", help="where results go")
    parser.add_argument("--steps", type=int, default=16, help="training steps")
    parser.add_argument("--track-frames", type=int, default=60, help="frames to track")
    parser.add_argument("--seed", type=int, default=0, help="of weights and videos")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="to start from, or random (default: those that come with the package, where there "
        "are some)",
    )
    options = parser.parse_args(argv)
    start = options.weights or default_weights() or RANDOM
    files = DemoFiles(Path(options.out))

    print("1 of 4  the network")
    print(f"weights: {describe_weights(start)}")
    net = starting_network(start, options.seed)
    print_network(net)
    draw_unrolled(net, files.graph)

    print(f"\n2 of 4  training on {options.steps} clips of 10 generated frames")
    videos = SyntheticVideos(seed=options.seed, length=net.meta["unrolled"]["frames"])
    rate = LEARNING_RATE if start == RANDOM else PUBLISHED_RATE
    net = train_for_a_while(net, videos, options.steps, files.training, rate)
    if start == RANDOM:
        # Moments follow training slowly and start from zero: those of a clip are nearer.
        observe_moments(net, [clip_batch(net, [videos.clip(0, 0)])])
    net.save(files.network)

    print("\n3 of 4  responses over the frames of a clip")
    # As in training: batch norm on the clip's own statistics, unless they are kept.
    responses = collect_responses(net, videos.clip(0, options.steps), mode="normal")
    responses_over_frames(responses, files.responses, "a clip that was not trained on")

    print("\n4 of 4  tracking a generated video")
    auc, precise = track_video(net, videos, options.track_frames, files)
    words = (
        f"The network was trained for {options.steps} steps from random weights: enough to see "
        "every part at work,\nnot to track well everywhere."
        if start == RANDOM
        else f"The network came with the weights above and was trained for {options.steps} steps "
        "more."
    )
    print(closing_words(files, words, auc, precise))


def closing_words(files: DemoFiles, training: str, auc: float, precise: float) -> str:
    """What there is to look at."""
    return f"""
{training} On the generated video AUC {auc:.3f}, precision (20 px) {precise:.3f}.

Look at
  {files.graph}
      one frame of the unrolled network, and the chain of frames
  {files.training / "loss.png"}
      the loss of each step ({files.training / "log.csv"} has the numbers)
  {files.responses}
      what the network saw and answered in ten frames
  {files.video}
      the tracked video: truth green, DSiamM red
  {files.network}
      the trained network; track a folder of images or a video of yours with
      python -m dsiam_net.track SOURCE --weights {files.network} --init x,y,w,h
"""


if __name__ == "__main__":
    run_command(main)
