"""SiamFC networks trained in PyTorch, as the network of 35 layers that MatConvNet's files hold.

Two projects publish such networks, and their state dicts name the same tensors differently:

* huanglianghua/siamfc-pytorch (``siamfc/backbones.py``, ``AlexNetV1``): ``backbone.conv1.0.weight``
  is the convolution and ``backbone.conv1.1.*`` the batch norm of the first stage. Its first
  version had one sequence, ``feature.0.weight``, ``feature.1.*``. Batch norm has epsilon 1e-6;
  the response is the correlation times 1e-3.
* StrangerZhang/SiamFC-PyTorch (``siamfc/alexnet.py``): the same sequence as ``features.*``, with
  PyTorch's epsilon 1e-5, and ``corr_bias``, which is added to the scaled response.

All have SiamFC's geometry (no padding; strides 2, 2, 1, 2; two filter groups in conv2, conv4 and
conv5) and, like MatConvNet's, read RGB images of 0 to 255 without subtracting a mean: neither
channels nor filters need reordering. PyTorch divides by ``sqrt(running_var + epsilon)`` where
MatConvNet's moments hold that root itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dagnet import DagNN
from dagnet.simplenn import from_simple_nn
from layers import CenterThresholdError, Conv, Loss, MaxScoreError, XCorr

from .errors import MatFileError

STAGES = (1, 2, 3, 4, 5)
# Strides of the convolutions and, after the first two stages, of the max pooling of 3 x 3.
_CONV_STRIDE = {1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
_POOLED_STAGES = (1, 2)
_POOL = {"type": "pool", "method": "max", "pool": (3, 3), "stride": 2}
_KERNELS = {1: 11, 2: 5, 3: 3, 4: 3, 5: 3}

# Places of the convolutions in the networks that are one sequence; batch norm comes next.
_SEQUENCE = {1: 0, 2: 4, 3: 8, 4: 11, 5: 14}
_SEQUENCE_KEY = re.compile(r"^(?P<sequence>features?)\.\d+\.")

OUT_SCALE = 1e-3
_EPSILON = {"backbone": 1e-6, "feature": 1e-6, "features": 1e-5}
# AlexNetV2 has pooling of stride 1 in stage 2, which only its last stage's 32 filters tell.
_ALEXNET_V2_FILTERS = (96, 32)

# Learning rates and weight decays of MatConvNet's SiamFC (vid_create_net.m).
_CONV_TRAINING = {"learning_rate": (1, 2), "weight_decay": (1, 0)}
_BATCH_NORM_TRAINING = {"learning_rate": (2, 1, 0.05), "weight_decay": (0, 0, 0)}


def load_siamfc_pth(path: str | PathLike, epsilon: float | None = None) -> DagNN:
    """Read a SiamFC network that was saved by PyTorch.

    Parameters
    ----------
    path : path of a file that ``torch.save`` wrote: a state dict, or a dict that holds one as
        ``state_dict``, ``model`` or ``net``
    epsilon : as in ``siamfc_from_state_dict``

    Returns
    -------
    DagNN
        See ``siamfc_from_state_dict``.

    Raises
    ------
    MatFileError
        If PyTorch is not installed, the file is not one of its files, or the state dict is not
        SiamFC's. Files are read with ``weights_only=True``: code in them is not run.
    OSError
        If there is no such file or it cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):
        pass  # a file that cannot be opened is an OSError, whatever PyTorch would make of it
    try:
        import torch
    except ImportError as exc:
        raise MatFileError(
            f"{path}: reading it needs PyTorch, which is not installed: pip install torch"
        ) from exc
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        # torch.load fails in as many ways as there are kinds of files, some with many lines.
        reason = f"{type(exc).__name__}: {exc}".partition("\n")[0]
        raise MatFileError(
            f"{path}: expected a state dict saved by PyTorch, found a file that it cannot read "
            f"({reason})"
        ) from exc
    tensors = _state_dict(content)
    if tensors is None:
        raise MatFileError(
            f"{path}: expected a state dict saved by PyTorch, found {type(content).__name__}"
        )
    arrays = {
        name: tensor.detach().to(torch.float32).numpy()
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }
    try:
        return siamfc_from_state_dict(arrays, epsilon)
    except MatFileError as exc:
        raise MatFileError(f"{path}: {exc}") from exc


def _state_dict(content: Any) -> Mapping[str, Any] | None:
    if not isinstance(content, Mapping):
        return None
    for name in ("state_dict", "model", "net"):
        if isinstance(content.get(name), Mapping):
            return content[name]
    return content


def siamfc_from_state_dict(arrays: Mapping[str, np.ndarray], epsilon: float | None = None) -> DagNN:
    """Build SiamFC from the arrays of a PyTorch state dict.

    Parameters
    ----------
    arrays : dict of name to array
        Filters (out, in / groups, kh, kw), everything else (C,). Names as the module's docstring
        has them; prefixes ``module.`` and ``net.`` are dropped.
    epsilon : float, optional
        Batch norm's epsilon, which a state dict does not hold. Default: that of the project whose
        names it has.

    Returns
    -------
    DagNN
        35 layers and 24 parameters, float32, with the names of MatConvNet's SiamFC: inputs
        ``exemplar`` and ``instance``, features ``a_feat`` and ``b_feat``, response ``score``,
        then ``objective`` (logistic, without instance weights), ``errdisp`` and ``errmax``.

    Raises
    ------
    MatFileError
        If tensors are missing or not SiamFC's.
    """
    arrays = {re.sub(r"^((module|net)\.)+", "", name): array for name, array in arrays.items()}
    layout, places = _places(arrays)
    if epsilon is None:
        epsilon = _EPSILON[layout]
    branch = from_simple_nn(_branch(arrays, places, epsilon))
    bias = np.asarray(arrays.get("corr_bias", [0.0]), np.float32).reshape(1)
    return _siamese(branch, OUT_SCALE, bias)


def _places(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[int, tuple[str, str]]]:
    """The layout's name, and for each stage the prefixes of convolution and batch norm."""
    for prefix in ("backbone.", ""):
        if f"{prefix}conv1.0.weight" in arrays:
            return "backbone", {s: (f"{prefix}conv{s}.0.", f"{prefix}conv{s}.1.") for s in STAGES}
    for name in arrays:
        match = _SEQUENCE_KEY.match(name)
        if match:
            sequence = match["sequence"]
            return sequence, {
                s: (f"{sequence}.{i}.", f"{sequence}.{i + 1}.") for s, i in _SEQUENCE.items()
            }
    found = ", ".join(list(arrays)[:4]) or "nothing"
    raise MatFileError(
        "expected the state dict of a SiamFC network (backbone.conv1.0.weight ..., or "
        f"features.0.weight ...), found {found}{', ...' if len(arrays) > 4 else ''}"
    )


def _branch(
    arrays: Mapping[str, np.ndarray], places: Mapping[int, tuple[str, str]], epsilon: float
) -> list[dict[str, Any]]:
    """The five stages as layers of a SimpleNN network."""

    def get(name: str) -> np.ndarray:
        if name not in arrays:
            raise MatFileError(f"expected the state dict of a SiamFC network, found no {name}")
        return np.ascontiguousarray(arrays[name], np.float32)

    entries: list[dict[str, Any]] = []
    filters = {}
    for stage in STAGES:
        conv, norm = places[stage]
        filters[stage] = get(conv + "weight")
        kernel = _KERNELS[stage]
        if filters[stage].shape[2:] != (kernel, kernel):
            raise MatFileError(
                f"{conv}weight: expected filters of {kernel} x {kernel}, "
                f"found shape {filters[stage].shape}"
            )
        entries.append(
            {
                "type": "conv",
                "name": f"conv{stage}",
                "weights": [filters[stage], get(conv + "bias")],
                "stride": _CONV_STRIDE[stage],
                **_CONV_TRAINING,
            }
        )
        if stage == STAGES[-1]:
            _refuse_other_networks(arrays, norm, filters)
            return entries
        mean, variance = get(norm + "running_mean"), get(norm + "running_var")
        sigma = np.sqrt(variance + np.float32(epsilon))
        entries.append(
            {
                "type": "bnorm",
                "name": f"bn{stage}",
                "weights": [
                    get(norm + "weight"),
                    get(norm + "bias"),
                    np.stack([mean, sigma], axis=1),
                ],
                "epsilon": epsilon,
                **_BATCH_NORM_TRAINING,
            }
        )
        entries.append({"type": "relu", "name": f"relu{stage}"})
        if stage in _POOLED_STAGES:
            entries.append({**_POOL, "name": f"pool{stage}"})
    return entries


def _refuse_other_networks(
    arrays: Mapping[str, np.ndarray], norm: str, filters: Mapping[int, np.ndarray]
) -> None:
    if norm + "weight" in arrays:
        raise MatFileError(
            "expected SiamFC's network (AlexNetV1), found a batch norm after conv5 "
            f"({norm}weight), as AlexNetV3 has it"
        )
    if (len(filters[1]), len(filters[5])) == _ALEXNET_V2_FILTERS:
        raise MatFileError(
            "expected SiamFC's network (AlexNetV1, stride 8), found 32 filters in conv5, as "
            "AlexNetV2 (stride 4) has them"
        )


def _siamese(branch: DagNN, scale: float, bias: np.ndarray) -> DagNN:
    """Two copies of the branch that share parameters, correlated (``make_siameseFC.m``)."""
    net = DagNN()
    last = branch.layers[-1].outputs[0]
    for prefix, image in (("a_", "exemplar"), ("b_", "instance")):
        names = {"x0": image, last: f"{prefix}feat"}
        for record in branch.layers:
            net.add_layer(
                prefix + record.name,
                type(record.block)(**record.block.save()),
                [names.get(v, prefix + v) for v in record.inputs],
                [names.get(v, prefix + v) for v in record.outputs],
                record.params,
                skip_rebuild=True,
            )
    net.add_layer("xcorr", XCorr(), ["a_feat", "b_feat"], "xcorr_out", skip_rebuild=True)
    adjust = Conv(size=(1, 1, 1, 1))
    net.add_layer(
        "adjust", adjust, "xcorr_out", "score", ["adjust_f", "adjust_b"], skip_rebuild=True
    )
    net.add_layer(
        "objective",
        Loss(loss="logistic"),
        ["score", "eltwise_label"],
        "objective",
        skip_rebuild=True,
    )
    net.add_layer(
        "errdisp", CenterThresholdError(), ["score", "label"], "errdisp", skip_rebuild=True
    )
    net.add_layer("errmax", MaxScoreError(), ["score", "label"], "errmax", skip_rebuild=True)
    net.rebuild()
    for parameter in branch.params:
        record = net.get_param(parameter.name)
        record.value = parameter.value
        record.learning_rate = parameter.learning_rate
        record.weight_decay = parameter.weight_decay
    factor = net.get_param("adjust_f")
    factor.value, factor.learning_rate = np.full((1, 1, 1, 1), scale, np.float32), 0.0
    net.get_param("adjust_b").value = bias
    return net
