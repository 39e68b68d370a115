"""The unrolled network: DSiam over several frames of a video as one feed-forward graph.

A frame is 94 layers with two feature layers on SiamFC (Figure 1 of the supplement; the count of
each kind is our reconstruction, which gives the paper's 940 layers and 33 parameters). Names:
frame ``t`` (1 to T) has the layers ``f{t}_...``; its five branches are ``o1`` (the template),
``o`` and ``g`` (target and search region in the frame before), ``gbar`` (``g`` without its
background) and ``z`` (the search region).

Inputs of the network
---------------------
template : (N, 3, 127, 127), the target in the first frame
frame1 ... frameT : (N, 3, H, W), 0 to 255
score0 : (N, 1, h, w), a map whose peak is its centre
center0 : (N, 2), centre (row, column) of the first box, frame pixels, 0-based
given_center1 ... given_center{T-1} : (N, 2), with ``crops='ground-truth'`` in the place of
    ``score0`` and ``center0``: where the target is taken to be in frame ``t``, which the crops of
    frame ``t + 1`` lie around (and those of frame 1 around ``given_center1``)
sides : (N, 2), (s_z, s_x) of the first box, frame pixels
color : (N, 3), mean colour of the first frame
label1 ... labelT : (N, 1, h, w), +1 and -1; known once the crops are (``late_inputs``)
target1 ... targetT : (N, 2), the true target in cells of the map (row, column), 0-based
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dagnet import DagNN
from layers import (
    RLR,
    CenterThresholdError,
    CirConv,
    Conv,
    Crop,
    Elefusion,
    Eltwise,
    Loss,
    MaxScoreError,
    XCorr,
    background_mask,
)
from layers.crop import GIVEN, MODES

from .branches import INPUT, copy_params, feature_variables

# What the crops of a frame are cut around: the peak of the response of the frame before, or a
# position that is known beforehand, that of the true box. Their ways of passing derivatives on
# unless one is asked for.
RESPONSE, GROUND_TRUTH = "response", "ground-truth"
CROP_GRADIENTS = {RESPONSE: "pool", GROUND_TRUTH: "none"}

BRANCHES = ("o1", "o", "g", "gbar", "z")
ROLES = {1: "v", 2: "w"}
# Public values (fcnet_init.m): learning rates of V and W, lambda of W, lambda of V by backbone.
LEARNING_RATES = {"v": 0.49, "w": 0.29}
W_LAMBDA = 10.0
V_LAMBDA = {"siamfc": 1e-5, "vgg19": 10.0}
# fcnet_init.m's value for VGG-19, here for all: from the learned map of the public SiamFC
# variant, which is 1 almost everywhere, the second feature layer would get no derivative.
SUMWEIGHTS = 0.8
# add_adjust_layer's first value: SiamFC 1e-3 (make_siameseFC.m), VGG-19 1e-8 (reshapeNet_vgg.m).
ADJUST = {"siamfc": 1e-3, "vgg19": 1e-8}


@dataclass(frozen=True)
class UnrolledSettings:
    """What the unrolled network is made of.

    Attributes
    ----------
    frames : int
        Number of frames T.
    features : tuple of str
        Feature variables of the branch (or the layers that write them), outermost first.
    crops : 'response' or 'ground-truth'
        What the crops of a frame are cut around: the peak of the response of the frame before, as
        a tracker does it; or given centres, those of the true boxes (teacher forcing). Then no
        frame depends on the response of another.
    crop_gradient : 'pool', 'scatter', 'none' or 'soft', optional
        How the crops pass derivatives on to that response (see ``layers.Crop``); by default
        'pool'. With ``crops='ground-truth'`` there is none to pass them on to: only 'none' is
        taken, and is the default.
    freeze_bn : bool
        Batch norm with stored moments, which do not change.
    transform_first_frame : bool
        Whether frame 1 is transformed by V and W learned from the first frame itself. The tracker
        does not do so.
    exemplar_size, search_size : int
        Sides of the crops, pixels.
    v_lambda, w_lambda, adjust : float
        First values of the lambdas and of ``adjust_f``.
    temperature : float
        Of ``crop_gradient='soft'``.
    """

    frames: int = 10
    features: tuple[str, ...] = ("feat", "x14")
    crops: str = RESPONSE
    crop_gradient: str | None = None
    freeze_bn: bool = False
    transform_first_frame: bool = True
    exemplar_size: int = 127
    search_size: int = 255
    v_lambda: float = V_LAMBDA["siamfc"]
    w_lambda: float = W_LAMBDA
    adjust: float = ADJUST["siamfc"]
    temperature: float = 0.1

    def __post_init__(self):
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, received {self.frames}")
        if not 1 <= len(self.features) <= 9:
            raise ValueError(f"one to nine feature layers, received {len(self.features)}")
        chosen = resolve_crop_gradient(self.crops, self.crop_gradient)
        object.__setattr__(self, "crop_gradient", chosen)


def resolve_crop_gradient(crops: str, crop_gradient: str | None = None) -> str:
    """The ``crop_gradient`` that goes with ``crops``, where None asks for the default.

    Raises
    ------
    ValueError
        If either is not known, or the two contradict each other.
    """
    if crops not in CROP_GRADIENTS:
        raise ValueError(f"crops must be one of {tuple(CROP_GRADIENTS)}, received {crops!r}")
    if crop_gradient is None:
        return CROP_GRADIENTS[crops]
    if crop_gradient not in MODES:
        raise ValueError(f"crop_gradient must be one of {MODES}, received {crop_gradient!r}")
    if crops == GROUND_TRUTH and crop_gradient != "none":
        raise ValueError(
            f"crop_gradient {crop_gradient!r} passes derivatives on to the response that a crop "
            f"is cut around, and with crops {GROUND_TRUTH!r} there is none: leave crop_gradient "
            f"out (or 'none'), or take crops {RESPONSE!r}"
        )
    return crop_gradient


@dataclass(frozen=True)
class UnrolledGeometry:
    """Sizes that follow from branch and settings: ``map_size`` (h, w) in cells, ``stride`` in
    pixels of the search crop a cell."""

    map_size: tuple[int, int]
    stride: int


def lambda_name(role: str, level: int) -> str:
    """``v_lambda``, ``w_lambda`` of feature layer 1; ``v1_lambda`` ... of those after it."""
    return f"{role}_lambda" if level == 1 else f"{role}{level - 1}_lambda"


def rate_name(level: int, which: int) -> str:
    """``cir11_lr``: first digit the feature layer, second 1 for V and 2 for W."""
    return f"cir{level}{which}_lr"


def sumweights_names(levels: int) -> list[str]:
    """Names of the stored fusion maps of ``levels`` feature layers."""
    return ["sumweights" if i == 1 else f"sumweights{i}" for i in range(1, levels)]


def response_geometry(branch: DagNN, settings: UnrolledSettings) -> UnrolledGeometry:
    """Size and stride of the response map: those of the last feature layer.

    Raises
    ------
    ValueError
        If the branch cannot take crops of these sizes.
    """
    variables = _features(branch, settings.features)
    last = variables[-1]
    sizes = {}
    for kind, side in (("z", settings.search_size), ("o", settings.exemplar_size)):
        sizes[kind] = branch.get_var_sizes({INPUT: (1, 3, side, side)})[last]
    cells = tuple(int(z - o + 1) for z, o in zip(sizes["z"][2:], sizes["o"][2:]))
    if min(sizes["o"][2:]) < 1 or min(cells) < 1:
        raise ValueError(
            f"a template of {settings.exemplar_size} and a search region of "
            f"{settings.search_size} pixels give features {last!r} of {sizes['o'][2:]} and "
            f"{sizes['z'][2:]} cells: too small to correlate"
        )
    field = branch.get_var_receptive_fields(INPUT)[last]
    return UnrolledGeometry(cells, int(field.stride[0]))


def build_unrolled(branch: DagNN, settings: UnrolledSettings | None = None) -> DagNN:
    """Unroll DSiam on a feature branch.

    Parameters
    ----------
    branch : DagNN
        See ``dsiam_net.branches``. Its parameters' arrays are shared by the result.
    settings : UnrolledSettings

    Returns
    -------
    DagNN
        Layers and variables as the module's docstring names them; the maps ``score{t}``,
        positions ``center{t}`` and losses ``objective{t}`` are precious. ``meta['unrolled']``
        holds the settings.

    Raises
    ------
    UnknownNameError, ValueError
        If a feature is not in the branch, or the crops are too small for it.
    """
    settings = settings or UnrolledSettings()
    geometry = response_geometry(branch, settings)
    builder = _Builder(branch, settings, geometry)
    for t in range(1, settings.frames + 1):
        builder.add_frame(t)
    net = builder.net
    net.rebuild()
    copy_params(branch, net)
    _init_own_params(net, settings, geometry)
    if settings.freeze_bn:
        freeze_moments(net)
    for t in range(1, settings.frames + 1):
        for name in (f"score{t}", f"center{t}", f"objective{t}", f"errdisp{t}", f"errmax{t}"):
            net.get_var(name).precious = True
    net.meta = {
        **branch.meta,
        "unrolled": {
            "frames": settings.frames,
            "crops": settings.crops,
            "features": list(settings.features),
            "map_size": list(geometry.map_size),
            "stride": geometry.stride,
            "exemplar_size": settings.exemplar_size,
            "search_size": settings.search_size,
        },
    }
    return net


def freeze_moments(net: DagNN) -> None:
    """Make the batch norms use their stored moments, as constants."""
    for record in net.layers:
        if record.type == "dagnn.BatchNorm":
            record.block.moments = "stored"
            moments = net.get_param(record.params[2])
            moments.train_method = "gradient"
            moments.learning_rate = moments.weight_decay = 0.0


def objectives(net: DagNN) -> list[str]:
    """Names of the losses of an unrolled network, frame after frame."""
    return [f"objective{t}" for t in range(1, net.meta["unrolled"]["frames"] + 1)]


def given_centers(net: DagNN) -> dict[str, int]:
    """The inputs that crops are cut around, each with its frame; none with ``crops='response'``."""
    unrolled = net.meta["unrolled"]
    # Networks that were saved before there was a choice do not name it.
    if unrolled.get("crops", RESPONSE) == RESPONSE:
        return {}
    return {f"given_center{t}": t for t in range(1, max(unrolled["frames"], 2))}


def _features(branch: DagNN, features: Sequence[str]) -> list[str]:
    variables = feature_variables(branch, features)
    if variables is None:
        missing = [f for f in features if feature_variables(branch, [f]) is None]
        branch.get_var(missing[0])  # raises, with names that are near
    return variables


class _Builder:
    """Adds frames to a network."""

    def __init__(self, branch: DagNN, settings: UnrolledSettings, geometry: UnrolledGeometry):
        self.net = DagNN()
        self.branch = branch
        self.settings = settings
        self.geometry = geometry
        self.features = _features(branch, settings.features)
        self.mask = background_mask(settings.search_size, settings.exemplar_size)

    def add(self, name, block, inputs, outputs, params=()):
        self.net.add_layer(name, block, inputs, outputs, params, skip_rebuild=True)

    def add_frame(self, t: int) -> None:
        """The layers of frame ``t``: learn V and W from the frame before, then track."""
        # Frame 0 is frame 1 itself.
        previous = max(t - 1, 1)
        crop = {
            "o": ("exemplar", f"frame{previous}"),
            "g": ("search", f"frame{previous}"),
            "z": ("search", f"frame{t}"),
        }
        around = [f"score{t - 1}", f"center{t - 1}"]
        if self.settings.crops == GROUND_TRUTH:
            around = [f"given_center{previous}"]
        for name, (side, frame) in crop.items():
            center = f"center{t}" if name == "z" else f"f{t}_{name}_center"
            self.add(
                f"f{t}_crop_{name}",
                self._crop(side),
                [frame, *around, "sides", "color"],
                [f"f{t}_{name}", center],
            )
        self.add(
            f"f{t}_mask", Eltwise(operation="prod", constant=self.mask), f"f{t}_g", f"f{t}_gbar"
        )
        for name in BRANCHES:
            self._add_branch(f"f{t}_{name}_", "template" if name == "o1" else f"f{t}_{name}")
        maps = [
            self._add_level(t, level, feature) for level, feature in enumerate(self.features, 1)
        ]
        fused = maps[0]
        if len(maps) > 1:
            fused = f"f{t}_fused"
            block = Elefusion(num_maps=len(maps))
            self.add(f"f{t}_fuse", block, maps, fused, sumweights_names(len(maps)))
        self.add(
            f"f{t}_adjust",
            Conv(size=(1, 1, 1, 1)),
            fused,
            f"score{t}",
            ["adjust_f", "adjust_b"],
        )
        self._add_losses(t)

    def _crop(self, side: str) -> Crop:
        settings = self.settings
        return Crop(
            size=settings.exemplar_size if side == "exemplar" else settings.search_size,
            side=side,
            mode=GIVEN if settings.crops == GROUND_TRUTH else settings.crop_gradient,
            stride=self.geometry.stride,
            search_size=settings.search_size,
            temperature=settings.temperature,
        )

    def _add_branch(self, prefix: str, source: str) -> None:
        def name(variable):
            return source if variable == INPUT else prefix + variable

        for record in self.branch.layers:
            self.add(
                prefix + record.name,
                type(record.block)(**record.block.save()),
                [name(v) for v in record.inputs],
                [name(v) for v in record.outputs],
                record.params,
            )

    def _add_level(self, t: int, level: int, feature: str) -> str:
        """RLR, CirConv and XCorr of one feature layer; returns the response map's name."""
        sources = {1: ("o1", "o"), 2: ("g", "gbar")}
        transformed = {1: "o1", 2: "z"}
        enable = t > 1 or self.settings.transform_first_frame
        outputs = []
        for which, role in ROLES.items():
            learned = f"f{t}_{role}{level}"
            first, second = (f"f{t}_{branch}_{feature}" for branch in sources[which])
            self.add(
                f"f{t}_rlr{level}{which}", RLR(), [first, second], learned, lambda_name(role, level)
            )
            moved = f"f{t}_{transformed[which]}_{feature}"
            outputs.append(f"f{t}_{transformed[which]}_{role}{level}")
            self.add(
                f"f{t}_cir{level}{which}",
                CirConv(enable=enable),
                [moved, learned],
                outputs[-1],
                rate_name(level, which),
            )
        response = f"f{t}_xcorr{level}"
        self.add(f"f{t}_xcorr{level}", XCorr(), outputs, response)
        return response

    def _add_losses(self, t: int) -> None:
        score, label, target = f"score{t}", f"label{t}", f"target{t}"
        loss = Loss(loss="logistic", instance_weights="balanced")
        self.add(f"f{t}_objective", loss, [score, label], f"objective{t}")
        stride = self.geometry.stride
        self.add(
            f"f{t}_errdisp",
            CenterThresholdError(total_stride=stride),
            [score, label, target],
            f"errdisp{t}",
        )
        self.add(f"f{t}_errmax", MaxScoreError(), [score, label, target], f"errmax{t}")


def _init_own_params(net: DagNN, settings: UnrolledSettings, geometry: UnrolledGeometry) -> None:
    """First values of the parameters that are not the branch's; adjust keeps SiamFC's factors."""
    levels = len(settings.features)
    values: dict[str, np.ndarray] = {}
    for level in range(1, levels + 1):
        values[lambda_name("v", level)] = np.array([settings.v_lambda])
        values[lambda_name("w", level)] = np.array([settings.w_lambda])
        for which, role in ROLES.items():
            values[rate_name(level, which)] = np.array([LEARNING_RATES[role]])
    for i, name in enumerate(sumweights_names(levels)):
        # 0.8 for the outermost feature layer, the rest in equal parts.
        share = SUMWEIGHTS if i == 0 else (1 - SUMWEIGHTS) / (levels - 1)
        values[name] = np.full(geometry.map_size, share)
    for name, value in values.items():
        parameter = net.get_param(name)
        parameter.value = value.astype(np.float32)
        parameter.learning_rate, parameter.weight_decay = 1.0, 0.0
    # add_adjust_layer(net, 'adjust', ..., 1e-3, 0, 0, 1): the factor is not learned, the bias is;
    # both decay, as the parameters' defaults have it (goldens, behaviour 4).
    adjust_f, adjust_b = net.get_param("adjust_f"), net.get_param("adjust_b")
    adjust_f.value = np.full((1, 1, 1, 1), settings.adjust, dtype=np.float32)
    adjust_b.value = np.zeros(1, dtype=np.float32)
    adjust_f.learning_rate = 0.0
