"""The networks and frames of the tracking goldens, and runs of our trackers over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.io

from dagnet import DagNN
from dsiam_net.branches import siamfc_branch
from dsiam_net.patches import ExactPatches
from dsiam_net.settings import TrackerSettings, get_preset
from dsiam_net.tracker import TrackResult, create_tracker
from dsiam_net.weights import load_fusion_map, load_weights
from golden import GOLDENS, SHARED, load_case
from layers import Conv

FUSION_MAP = SHARED / "reference_results" / "sumw.mat"


@lru_cache(maxsize=1)
def siamfc_net() -> DagNN:
    """The full-size SiamFC network of the tracking goldens: its branch and its adjust layer."""
    content = scipy.io.loadmat(GOLDENS / "track_net_weights.mat")
    net = siamfc_branch()
    net.add_layer("adjust", Conv(size=(1, 1, 1, 1)), "xcorr_out", "score", ["adjust_f", "adjust_b"])
    for parameter in net.params:
        name = parameter.name
        if f"{name}_q" in content:
            value = content[f"{name}_q"].astype(np.float32) * np.float32(content[f"{name}_scale"])
            value = value.transpose(3, 2, 0, 1)
        else:
            value = content[name].astype(np.float32)
            if name == "adjust_f":
                value = value.reshape(1, 1, 1, 1)
            elif not name.endswith("x"):  # moments are (C, 2), everything else a vector
                value = value.reshape(-1)
        parameter.value = np.ascontiguousarray(value)
    return net


def golden_net(file: str) -> tuple[DagNN, TrackerSettings, tuple[str, ...]]:
    """Network, settings and features of a tracking golden."""
    if "vggmini" in file:
        net = load_weights(GOLDENS / "track_vggmini_net.mat")
        return net, get_preset("released-vgg19"), ("relu5_4", "relu4_4")
    net = siamfc_net().copy()
    features = ("conv5", "relu4") if "1res" in file else ("conv5",)
    if "dsiam" not in file:
        return net, get_preset("siamfc-5s" if "siamfc5s" in file else "siamfc"), features
    override = load_case(file, "init").options.get("adjust_b_override")
    if override is not None:
        net.get_param("adjust_b").value = np.float32([override])
    return net, get_preset("released"), features


def golden_frame(file: str, number: int) -> np.ndarray:
    """Frame ``number`` (from 1), uint8 (H, W, 3), that the golden ``file`` was tracked on."""
    if "bag" in file:
        source = "frames_bag_01_08"
    else:
        source = "frames_skiing_01_05" if number <= 5 else "frames_skiing_06_10"
    return load_case(source, f"f{number:04d}").matlab("im")[:, :, :, 0]


class RecordingPatches(ExactPatches):
    """Exact patches that remember what they cut."""

    def __init__(self):
        self.crops: list[np.ndarray] = []
        self.pyramids: list[np.ndarray] = []

    def pyramid(self, *arguments):
        kept = self.crops
        self.crops = []  # the crops that a pyramid is made of are not remembered
        pyramid = super().pyramid(*arguments)
        self.crops = kept
        self.pyramids.append(pyramid)
        return pyramid

    def crop(self, *arguments, **options):
        crop = super().crop(*arguments, **options)
        self.crops.append(crop)
        return crop


@dataclass
class Frame:
    """What a run left of one frame: state before and after, and what was computed."""

    centre_before: np.ndarray
    size_before: np.ndarray
    side_before: float
    centre: np.ndarray
    size: np.ndarray
    side: float
    box: np.ndarray
    result: TrackResult | None
    pyramid: np.ndarray | None
    crops: list[np.ndarray]
    features: list[list[np.ndarray]]
    filters: dict[str, np.ndarray] = field(default_factory=dict)


def first_region(file: str) -> np.ndarray:
    """The region that the run of a golden started from."""
    if "dsiam" in file:
        return load_case(file, "init").vector("initrect")
    if "bag" in file:  # SiamFC's golden holds the box that it made of the same polygon
        return first_region("track_dsiam_bag_0res_matlab")
    return load_case(file, "res").matlab("bboxes")[0, :, 0, 0]


@lru_cache(maxsize=1)
def golden_run(file: str) -> list[Frame]:
    """Our tracker over the frames of a golden; entry 0 is the state after ``init``."""
    result = load_case(file, "res")
    frames = len(result.matlab("res" if "dsiam" in file else "bboxes"))
    net, settings, features = golden_net(file)
    patches = RecordingPatches()
    name = "siamfc" if "dsiam" not in file else "dsiamm" if len(features) == 2 else "dsiam"
    fusion_map = None
    if len(features) == 2 and "vgg" not in file:
        fusion_map = load_fusion_map(FUSION_MAP)
    tracker = create_tracker(
        name, net, settings, features=features, patches=patches, fusion_map=fusion_map
    )
    network, computed = tracker.network, []
    compute = network.features
    network.features = lambda patches: computed.append(compute(patches)) or computed[-1]

    tracker.init(golden_frame(file, 1), first_region(file))
    target = tracker.target
    run = [
        Frame(
            target.centre,
            target.size,
            tracker.side,
            target.centre,
            target.size,
            tracker.side,
            target.box,
            None,
            None,
            list(patches.crops),
            list(computed),
        )
    ]
    for number in range(2, frames + 1):
        before = run[-1]
        patches.crops, patches.pyramids = [], []
        computed.clear()
        box = tracker.update(golden_frame(file, number))
        target = tracker.target
        run.append(
            Frame(
                before.centre,
                before.size,
                before.side,
                target.centre,
                target.size,
                tracker.side,
                box,
                tracker.last,
                patches.pyramids[0],
                patches.crops,
                list(computed),
                dict(network.filters),
            )
        )
    return run


def matlab_axes(batch: Any) -> np.ndarray:
    """(N, C, H, W) as MATLAB's (H, W, C, N)."""
    return np.asarray(batch).transpose(2, 3, 1, 0)
