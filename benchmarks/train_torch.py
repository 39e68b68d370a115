"""Training of DSiam with PyTorch's autograd: the other half of ``train_job.py``.

``python benchmarks/train_torch.py --clips FILE --start FILE.npz --exp-dir DIR``

What ``python -m dsiam_net.train`` does for one epoch: frames are decoded by OpenCV, a clip is a
step, SGD with momentum has a rate and a decay for each parameter, a row a step goes to
``log.csv``, and a checkpoint is written at the end. It imports nothing of this project.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch

from torch_network import TorchDSiam
from with_torch import DEVICES, prepare

LAMBDA_MIN = 1e-12


def read_clips(path: Path) -> list[tuple[list[Path], np.ndarray]]:
    """Frames and boxes (T, 4) of the clips that a text file lists, a line a frame."""
    clips: dict[int, tuple[list[Path], list[list[float]]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        number, rest = line.split(",", 1)
        name, *box = rest.rsplit(",", 4)
        frames, boxes = clips.setdefault(int(number), ([], []))
        frames.append(path.parent / name)
        boxes.append([float(value) for value in box])
    return [(frames, np.array(boxes)) for frames, boxes in clips.values()]


def clip_inputs(net: TorchDSiam, paths: list[Path], boxes: np.ndarray) -> dict[str, torch.Tensor]:
    """The arrays that the network wants, from files and boxes (1-based x, y, w, h)."""
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    frames = torch.from_numpy(np.stack(images)).to(net.device)
    frames = frames.permute(0, 3, 1, 2).float().contiguous()
    true = boxes[:, 1::-1] - 1 + (boxes[:, 3:1:-1] - 1) / 2
    width, height = boxes[0, 2:]
    margin = (width + height) / 2
    side = math.sqrt((width + margin) * (height + margin))
    clip = {
        "frames": frames,
        "true": net.tensor(true),
        "score0": net.tensor(np.zeros((1, 1, *net.map_size))),
        "center0": net.tensor(true[0]),
        "sides": net.tensor([side, side * net.search_size / net.exemplar_size]),
        "color": frames[0].mean(dim=(1, 2)),
    }
    middle = [(length - 1) // 2 for length in net.map_size]
    clip["score0"][0, 0, middle[0], middle[1]] = 1
    clip["template"] = net.crop(
        frames[0], clip["color"], clip["center0"], clip["sides"][0], net.exemplar_size
    )
    return clip


def make_optimizer(
    net: TorchDSiam, factors: dict[str, list[float]], options: argparse.Namespace
) -> torch.optim.SGD:
    """SGD with each parameter's own rate and decay."""
    groups = [
        {
            "params": [parameter],
            "lr": options.learning_rate * factors[name][0],
            "weight_decay": options.weight_decay * factors[name][1],
        }
        for name, parameter in net.params.items()
    ]
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)


def train(options: argparse.Namespace) -> None:
    """One epoch over the listed clips, in their order."""
    torch.set_num_threads(options.threads)
    with np.load(options.start) as start:
        arrays = dict(start)
    about = json.loads(str(arrays.pop("about")))
    geometry = {**about["geometry"], "mask": arrays.pop("mask")}
    prepare(options.device, options.tf32)
    net = TorchDSiam(
        arrays, geometry, channels_last=options.channels_last, device=DEVICES[options.device]
    )
    optimizer = make_optimizer(net, about["factors"], options)
    folder = Path(options.exp_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as stream:
        log = csv.writer(stream)
        log.writerow(["step", "objective", "errdisp", "errmax"])
        for step, (paths, boxes) in enumerate(read_clips(Path(options.clips)), start=1):
            net.zero_grad()
            found = net.forward(clip_inputs(net, paths, boxes))
            loss = torch.stack(found["loss"]).sum()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, parameter in net.params.items():
                    if name.endswith("_lambda"):
                        parameter.clamp_(min=LAMBDA_MIN)
            errors = torch.stack([torch.stack(pair) for pair in found["errors"]]).mean(dim=0)
            log.writerow([step, loss.item(), *errors.tolist()])
            stream.flush()
    state = {"params": net.params, "running": net.running, "optimizer": optimizer.state_dict()}
    torch.save(state, folder / "checkpoint.pt")


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--clips", required=True, help="text file that names frames and boxes")
    parser.add_argument("--start", required=True, help="parameters, from train_job.py")
    parser.add_argument("--exp-dir", required=True, help="log and checkpoint")
    parser.add_argument("--learning-rate", type=float, default=1e-7, help="of the epoch")
    parser.add_argument("--momentum", type=float, default=0.9, help="of the solver")
    parser.add_argument("--weight-decay", type=float, default=5e-4, help="of what decays")
    parser.add_argument("--channels-last", action="store_true", help="memory format")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--tf32", action="store_true", help="products in TF32, on the GPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
