"""CFNet: a tracker's network with a correlation filter in it, and its baseline without one.

Valmadre et al., "End-to-end representation learning for Correlation Filter based tracking", CVPR
2017; ``make_net.m``, ``make_branch_alexnet.m``, ``make_siamese.m`` and the settings of
``run_experiment_*.m`` of the CFNet code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagnet import DagNN, Layer, Size
from layers import (
    BatchNorm,
    CenterThresholdError,
    Conv,
    CorrFilter,
    CropMargin,
    IOUErrorScore,
    LogisticLoss,
    MulConst,
    Pooling,
    ReLU,
    XCorr,
    gaussian_response,
)
from layers.window import hann_plane

from .pretraining import draw_filters

# Kernel, filter groups, whether a pooling of 3 x 3 comes after it: conv1 to conv5.
CONVOLUTIONS = ((11, 1, True), (5, 2, True), (3, 1, False), (3, 2, False), (3, 2, False))
# Streams and their inputs.
STREAMS = {"br1_": "exemplar", "br2_": "instance"}
# Learning rate and weight decay by what a parameter's name ends in (make_branch_alexnet.m).
CONV = {"f": (1.0, 1.0), "b": (2.0, 0.0)}
NORM = {"m": (2.0, 0.0), "b": (1.0, 0.0), "x": (0.05, 0.0)}
# Those of the last layer (make_net.m), and first gain and offset of the filter's scores.
FINAL_CONV = {"f": (1.0, 0.0), "b": (2.0, 0.0)}
FINAL_NORM = {"m": (2.0, 0.0), "b": (1.0, 0.0), "x": (0.3, 0.0)}
GAIN, OFFSET = 1.0, -0.5


@dataclass(frozen=True)
class CFNetSettings:
    """What a network of the CFNet paper is made of.

    Attributes
    ----------
    channels : tuple of int
        Output channels of conv1, conv2, ..., up to five.
    conv1_stride : int
    pool_strides : tuple of int
        Of pool1 and pool2.
    last_relu : bool
        Whether the last convolution has a batch norm and a ReLU behind it.
    corr_filter : bool
        With a correlation filter, or, as the baseline, with a correlation alone.
    exemplar_size, instance_size : int
        Sides of the patches, pixels.
    lambda_ : float
        The correlation filter's weight of the template's square.
    sigma : float
        Of the response that it is learned for, pixels.
    margin : int
        Cells that are cut off each side of the template.
    """

    channels: tuple[int, ...]
    conv1_stride: int = 2
    pool_strides: tuple[int, int] = (2, 1)
    last_relu: bool = True
    corr_filter: bool = True
    exemplar_size: int = 255
    instance_size: int = 255
    lambda_: float = 10.0
    sigma: float = 8.0
    margin: int = 16


VARIANTS = {
    "cfnet-conv1": CFNetSettings(channels=(32,), conv1_stride=4),
    "cfnet-conv2": CFNetSettings(channels=(96, 32)),
    "cfnet-conv5": CFNetSettings(channels=(96, 256, 384, 384, 32), last_relu=False),
    "baseline-conv5": CFNetSettings(
        channels=(96, 256, 384, 384, 32), last_relu=False, corr_filter=False, exemplar_size=127
    ),
}


def make_cfnet(settings: str | CFNetSettings = "cfnet-conv2", seed: int = 0) -> DagNN:
    """A network of the CFNet paper with first values, to be trained or to take others' weights.

    Parameters
    ----------
    settings : a name in ``VARIANTS``, or CFNetSettings
    seed : int
        Of the filters.

    Returns
    -------
    DagNN
        Inputs ``exemplar`` and ``instance`` (N, 3, H, W), 0 to 255; output ``score``. Layers,
        variables and parameters have the names of the original's files.

    Raises
    ------
    ValueError
        If the variant is not known, or the settings make no network.
    """
    if isinstance(settings, str):
        if settings not in VARIANTS:
            raise ValueError(f"no network {settings!r}; choose one of {', '.join(VARIANTS)}")
        settings = VARIANTS[settings]
    if not 1 <= len(settings.channels) <= len(CONVOLUTIONS):
        raise ValueError(f"channels must be one to five numbers, received {settings.channels!r}")
    net = DagNN()
    for prefix, source in STREAMS.items():
        _add_stream(net, settings, prefix, source)
    if settings.corr_filter:
        _join_by_filter(net, settings)
        draw_filters(net, seed)
        net.get_param("fin_adjustf").value = np.full((1, 1, 1, 1), GAIN, np.float32)
        net.get_param("fin_adjustb").value = np.full(1, OFFSET, np.float32)
    else:
        net.add_layer("join_xcorr", XCorr(), ["br1_out", "br2_out"], "join_out")
        _add(net, "fin_adjust_bn", BatchNorm(num_channels=1), "join_out", "score", FINAL_NORM)
        draw_filters(net, seed)
    return net


def _add(
    net: DagNN,
    name: str,
    block: Layer,
    source: str,
    target: str,
    factors: dict[str, tuple[float, float]],
    params: str | None = None,
) -> None:
    """Add a layer whose parameters are called ``params``, by default its name, and an ending."""
    names = [f"{params or name}{ending}" for ending in factors]
    net.add_layer(name, block, source, target, names)
    for param, (rate, decay) in zip(names, factors.values()):
        net.get_param(param).learning_rate, net.get_param(param).weight_decay = rate, decay


def _add_stream(net: DagNN, settings: CFNetSettings, prefix: str, source: str) -> None:
    """conv1 bn1 relu1 pool1 conv2 ... of one stream; the streams share their parameters."""
    layers, before, last = [], 3, len(settings.channels)
    for i, out in enumerate(settings.channels, start=1):
        kernel, groups, pool = CONVOLUTIONS[i - 1]
        stride = settings.conv1_stride if i == 1 else 1
        block = Conv(size=(out, before // groups, kernel, kernel), stride=stride)
        layers.append((f"conv{i}", block, CONV))
        if i < last or settings.last_relu:
            layers.append((f"bn{i}", BatchNorm(num_channels=out), NORM))
            layers.append((f"relu{i}", ReLU(), {}))
        if pool and i < last:
            block = Pooling(method="max", pool_size=3, stride=settings.pool_strides[i - 1])
            layers.append((f"pool{i}", block, {}))
        before = out
    for count, (name, block, factors) in enumerate(layers, start=1):
        target = f"{prefix}x{count}" if count < len(layers) else f"{prefix}out"
        _add(net, prefix + name, block, source, target, factors, f"br_{name}")
        source = target


def _join_by_filter(net: DagNN, settings: CFNetSettings) -> None:
    """A window, the filter, its middle, which is correlated with the instance, and ``adjust``."""
    side = settings.exemplar_size
    size = net.get_var_sizes({"exemplar": Size(1, 3, side, side)})["br1_out"]
    stride = net.get_var_receptive_fields("exemplar")["br1_out"].stride[0]
    plane = (int(size.h), int(size.w))
    block = CorrFilter(lambda_=settings.lambda_, bias=False)
    net.add_layer("join_cf_window", MulConst(), "br1_out", "join_cf_example", "join_window")
    net.add_layer("join_cf", block, "join_cf_example", "join_tmpl", "join_cf_target")
    block = CropMargin(margin=settings.margin)
    net.add_layer("join_crop_z", block, "join_tmpl", "join_tmpl_cropped")
    net.add_layer("join_xcorr", XCorr(), ["join_tmpl_cropped", "br2_out"], "join_out")
    _add(net, "fin_adjust", Conv(size=(1, 1, 1, 1)), "join_out", "score", FINAL_CONV)
    response = gaussian_response(plane, settings.sigma / stride)
    net.get_param("join_window").value = hann_plane(*plane).astype(np.float32)
    net.get_param("join_cf_target").value = response.astype(np.float32)


def add_losses(net: DagNN, stride: int = 4) -> None:
    """Add ``objective``, ``errdisp`` and ``iou`` (``setup_loss`` of CFNet's ``experiment.m``).

    Inputs are then ``eltwise_label`` and ``eltwise_weight`` (N, 1, h, w), ``label`` (N,), +1 or -1,
    and ``exemplar_size`` and ``instance_size`` (N, 2), height and width of the target in pixels.

    Parameters
    ----------
    stride : int
        Pixels of the instance a cell of the map.
    """
    inputs = ["score", "eltwise_label", "eltwise_weight"]
    net.add_layer("objective", LogisticLoss(), inputs, "objective")
    block = CenterThresholdError(total_stride=stride)
    net.add_layer("errdisp", block, ["score", "label"], "errdisp")
    inputs = ["score", "label", "exemplar_size", "instance_size"]
    net.add_layer("iou", IOUErrorScore(stride=stride), inputs, "iou")
