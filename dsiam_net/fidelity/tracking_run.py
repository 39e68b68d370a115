"""Runs of our trackers over the frames of a golden run of the original trackers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from dagnet import DagNN, DagNNError, asnumpy, relative_error
from dagnet.backend import tree_to_device
from layers import Conv

from ..branches import FEATURES, INPUT, extract_branch, siamfc_branch
from ..patches import ExactPatches
from ..settings import PRESETS, TrackerSettings
from ..tracker import Tracker, TrackResult, create_tracker, known_features
from .files import Case, GoldenError, GoldenFile, GoldenFolder
from .frames import Video, video_of

START, RESULT = ("fcnet_init",), ("run_DSiam", "tracker.m")
UPDATE = ("fcn_update", "tracker_eval (siamfc)")
# Of features every so many channels are stored.
CHANNEL_STEP = 16

# Settings by the names that the originals give them.
OPTIONS = {
    "vlr": "v_lr", "wlr": "w_lr", "v_lambda": "v_lambda", "w_lambda": "w_lambda",
    "v1_lambda": "v1_lambda", "w1_lambda": "w1_lambda", "contextAmount": "context_amount",
    "exemplarSize": "exemplar_size", "instanceSize": "instance_size", "numScale": "num_scales",
    "scaleStep": "scale_step", "scalePenalty": "scale_penalty", "scaleLR": "scale_lr",
    "wInfluence": "window_influence", "responseUp": "response_up", "totalStride": "total_stride",
}  # fmt: skip


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


@dataclass
class Run:
    """A run over all frames; entry 0 of ``frames`` is the state after ``init``."""

    settings: TrackerSettings
    frames: list[Frame]
    numbers: dict[str, int]

    def frame(self, case: Case) -> Frame:
        """What the run left of a case's frame."""
        return self.frames[self.numbers[case.name] - 1]


def siamfc_from_parameters(path: Path) -> DagNN:
    """A SiamFC branch with its adjust layer, from a file of its parameters by name.

    Filters may be stored as integers ``conv1f_q`` and a factor ``conv1f_scale``.
    """
    content = scipy.io.loadmat(path)
    shapes = [
        content[f"conv{k}f_q" if f"conv{k}f_q" in content else f"conv{k}f"].shape
        for k in range(1, 6)
    ]
    net = siamfc_branch([shape[3] for shape in shapes])
    net.add_layer("adjust", Conv(size=(1, 1, 1, 1)), "xcorr_out", "score", ["adjust_f", "adjust_b"])
    for parameter in net.params:
        name = parameter.name
        if f"{name}_q" in content:
            value = content[f"{name}_q"].astype(np.float32) * np.float32(content[f"{name}_scale"])
        else:
            value = content[name].astype(np.float32)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif name == "adjust_f":
            value = value.reshape(1, 1, 1, 1)
        elif not name.endswith("x"):  # moments are (C, 2), everything else a vector
            value = value.reshape(-1)
        parameter.value = np.ascontiguousarray(value)
    return net


def _is_vgg(features: tuple[str, ...]) -> bool:
    return features[0] == FEATURES["vgg19"][0]


def matlab_axes(batch: Any) -> np.ndarray:
    """(N, C, H, W) as MATLAB's (H, W, C, N)."""
    return asnumpy(batch).transpose(2, 3, 1, 0)


@dataclass(frozen=True)
class Original:
    """What a golden file says of the run that it was made by."""

    golden: GoldenFile
    start: Case | None
    result: Case
    first_update: Case
    numbers: dict[str, int]

    @property
    def is_dsiam(self) -> bool:
        return self.start is not None

    @property
    def boxes(self) -> np.ndarray:
        return self.result.matrix("res" if self.is_dsiam else "bboxes")

    @property
    def tracker(self) -> str:
        if not self.is_dsiam:
            return "siamfc"
        return "dsiamm" if str(self.result.option("nettype")).startswith("1") else "dsiam"

    @property
    def region(self) -> np.ndarray:
        return self.start.vector("initrect") if self.is_dsiam else self.boxes[0]

    def settings(self, features: tuple[str, ...]) -> TrackerSettings:
        """The settings recorded, over those of the preset for such features."""
        recorded = self.start.options if self.is_dsiam else self.result.options
        preset = "siamfc" if not self.is_dsiam else "released"
        if self.is_dsiam and _is_vgg(features):
            preset = "released-vgg19"
        changes = {ours: recorded[name] for name, ours in OPTIONS.items() if name in recorded}
        return PRESETS[preset].replace(**changes)

    def video(self) -> Video:
        if self.is_dsiam:
            colour = np.asarray(self.start.option("avgChans"))
            return video_of(self.start, len(self.boxes), colour=colour)
        return video_of(self.result, len(self.boxes), name=self.result.option("video"))

    def template(self) -> list[np.ndarray]:
        """The template's features that the file has, (H, W, C / 16, 1), outermost first."""
        if not self.is_dsiam:
            return [self.first_update.matlab("z_features_sub")]
        fields = ("corrfeat1_sub", "corrfeat2_sub")[: 2 if self.tracker == "dsiamm" else 1]
        return [self.start.matlab(name) for name in fields]


def read_original(golden: GoldenFile) -> Original:
    """Read a golden run off its file: cases by their functions, frames by number or order."""
    numbers, number = {}, 1
    for entry in golden.meta:
        if entry["func"] in UPDATE:
            number = int((entry.get("opts") or {}).get("frame", number + 1))
            numbers[entry["name"]] = number
    start = next(golden.cases(*START), None)
    result = next(golden.cases(*RESULT), None)
    update = next(golden.cases(*UPDATE), None)
    if result is None or update is None:
        raise GoldenError(f"{golden.path.name} lacks the run's result ({' or '.join(RESULT)})")
    return Original(golden, start, result, update, numbers)


def _networks(folder: GoldenFolder):
    for path in folder.of_kind("parameters"):
        yield path, siamfc_from_parameters(path)
    yield from folder.networks()


def _fits(net: DagNN, features: tuple[str, ...], size: int, template: list[np.ndarray]) -> bool:
    """Whether the template's features have the sizes that the file has of them."""
    branch, names = extract_branch(net, features)
    sizes = branch.get_var_sizes({INPUT: (1, 3, size, size)})
    for name, array in zip(names, template):
        _, channels, height, width = sizes[name]
        if array.shape[:3] != (height, width, -(-channels // CHANNEL_STEP)):
            return False
    return True


def _make_tracker(original: Original, net: DagNN, features: tuple[str, ...]) -> Tracker:
    settings, fusion_map = original.settings(features), None
    if original.is_dsiam:
        override = original.start.options.get("adjust_b_override")
        if override is not None:
            net.get_param("adjust_b").value = np.float32([override])
    if len(features) == 2 and not _is_vgg(features):
        # fcnet_init loads the map for SiamFC's network; VGG-19's weight is a number.
        side = settings.instance_size - settings.exemplar_size
        cells = side // settings.total_stride + 1
        fusion_map = original.golden.folder.fusion_map((cells, cells), original.golden)
    return create_tracker(
        original.tracker,
        net,
        settings,
        features=features,
        device=original.golden.folder.device,
        patches=RecordingPatches(),
        fusion_map=fusion_map,
    )


def _find_tracker(original: Original, frame: np.ndarray) -> Tracker:
    """A tracker on the folder's network that the run was made with.

    Of several whose features have the right sizes, that whose features of the template are
    nearest to the original's.
    """
    folder, found = original.golden.folder, []
    template = original.template()
    for path, net in _networks(folder):
        try:
            features = known_features(net)[: len(template)]
            if _fits(net, features, original.settings(features).exemplar_size, template):
                found.append((path, net, features))
        except (DagNNError, ValueError):
            continue  # a network for something else
    if not found:
        sizes = " and ".join("x".join(map(str, a.shape[:2])) for a in template)
        raise GoldenError(
            f"no file of the folder holds a network whose template features are of {sizes} cells "
            f"and {' and '.join(str(a.shape[2]) for a in template)} times {CHANNEL_STEP} channels"
        )
    trackers = []
    for path, net, features in found:
        tracker = _make_tracker(original, net.copy(), features)
        error = 0.0
        if len(found) > 1:
            tracker.init(frame, original.region)
            (patch,) = tracker.patches.crops
            computed = matlab_axes(tracker.network.features(patch[None])[0])
            error = relative_error(computed[:, :, ::CHANNEL_STEP], template[0])
        trackers.append((error, path, tracker))
    _, path, tracker = min(trackers, key=lambda t: t[0])
    folder.mark_used(path, original.golden)
    tracker.patches.crops.clear()
    return tracker


@lru_cache(maxsize=1)
def run_like(golden: GoldenFile) -> Run:
    """Our tracker over the frames of a golden run."""
    original = read_original(golden)
    video = original.video()
    first = video.frame(1, golden)
    tracker = _find_tracker(original, first)
    network, patches, computed = tracker.network, tracker.patches, []
    compute = network.branches

    def record(patches):
        found = compute(patches)
        computed.extend(tree_to_device(list(found.values()), "cpu"))
        return found

    network.branches = record

    tracker.init(first, original.region)
    target, side = tracker.target, tracker.side
    start = (target.centre, target.size, side)
    frames = [Frame(*start, *start, target.box, None, None, list(patches.crops), list(computed))]
    for number in range(2, len(original.boxes) + 1):
        before = frames[-1]
        patches.crops, patches.pyramids = [], []
        computed.clear()
        box = tracker.update(video.frame(number, golden))
        target = tracker.target
        frames.append(
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
                tree_to_device(network.filters, "cpu"),
            )
        )
    return Run(tracker.settings, frames, original.numbers)
