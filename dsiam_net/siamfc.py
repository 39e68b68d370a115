"""SiamFC's own network: two streams of one branch, correlated (``make_siameseFC.m``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagnet import DagNN
from layers import CenterThresholdError, Conv, Loss, MaxScoreError, XCorr

from .branches import INPUT, copy_params
from .unrolled import ADJUST

STREAMS = {"a_": "exemplar", "b_": "instance"}


def make_siamfc(branch: DagNN, feature: str = "feat") -> DagNN:
    """SiamFC: streams ``a_`` (input ``exemplar``) and ``b_`` (``instance``), xcorr and adjust.

    Parameters
    ----------
    branch : DagNN
        See ``dsiam_net.branches``; its parameters' arrays are shared.
    feature : str
        The variable that is correlated.

    Returns
    -------
    DagNN
        Output ``score``. Layers, variables and parameters have the names of the original's files.
    """
    net = DagNN()
    for prefix, source in STREAMS.items():
        for record in branch.layers:
            net.add_layer(
                prefix + record.name,
                type(record.block)(**record.block.save()),
                [source if v == INPUT else prefix + v for v in record.inputs],
                [prefix + v for v in record.outputs],
                record.params,
                skip_rebuild=True,
            )
    features = [prefix + feature for prefix in STREAMS]
    net.add_layer("xcorr", XCorr(), features, "xcorr_out", skip_rebuild=True)
    adjust = Conv(size=(1, 1, 1, 1))
    net.add_layer("adjust", adjust, "xcorr_out", "score", ["adjust_f", "adjust_b"])
    copy_params(branch, net)
    factor, bias = net.get_param("adjust_f"), net.get_param("adjust_b")
    factor.value = np.full((1, 1, 1, 1), ADJUST["siamfc"], dtype=np.float32)
    bias.value = np.zeros(1, dtype=np.float32)
    factor.learning_rate = 0.0
    return net


def add_losses(net: DagNN, instance_weights: Any, stride: int = 8) -> None:
    """Add ``objective``, ``errdisp`` and ``errmax`` (``experiment.m``'s ``setup_loss``).

    Inputs are then ``eltwise_label`` (N, 1, h, w) and ``label`` (N,), +1 or -1.

    Parameters
    ----------
    instance_weights : array (h, w)
        Of ``labels.create_labels``.
    stride : int
        Pixels of the instance a cell of the map.
    """
    loss = Loss(loss="logistic", instance_weights=instance_weights)
    net.add_layer("objective", loss, ["score", "eltwise_label"], "objective")
    block = CenterThresholdError(total_stride=stride)
    net.add_layer("errdisp", block, ["score", "label"], "errdisp")
    net.add_layer("errmax", MaxScoreError(), ["score", "label"], "errmax")
