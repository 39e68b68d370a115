"""Finding the chains of a network that run as one, and what runs them."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache

from dagnet import Chain, FusedLayer, Surroundings, register_finder
from layers.batch_norm import BatchNorm
from layers.conv import Conv
from layers.pooling import Pooling
from layers.relu import ReLU

from .chain import FeatureChain
from .plain import PlainChain
from .stages import REMEMBERED, Stage, make_stage

# A chain with fewer filters than this in every stage runs by its layers' functions (PlainChain).
# Measured, forward and backward of SiamFC's branch: up to 16 filters the layers take 0.5 to 0.8 of
# FeatureChain's time, with 24 0.6 on small inputs and 0.9 on inputs of 255, where FeatureChain
# needs less memory; with more it is faster.
LEAST_FILTERS = 24
# So does one whose convolutions take fewer products than this an image: FeatureChain goes through
# images one by one, and small ones cost it more than they save. Measured, forward and backward:
# SiamFC's branch with 24 filters takes as long either way at 16 to 36 million, LeNet on digits (2
# million) 4.5 times as long by FeatureChain.
LEAST_PRODUCTS = 20e6


@register_finder("cpu")
def find_feature_chains(around: Surroundings) -> list[Chain]:
    """All chains of ``Conv [BatchNorm] [ReLU] [Pooling]`` stages, each as long as it can be.

    A stage takes up a layer if that alone reads the output of the one before it, and nobody looks
    at it. A stage's own output may be looked at and read by others: it is one of the chain's
    outputs then. Pooling that pads or averages is not taken up, nor a convolution without filters,
    or with filters of a single number, which has nothing to gain. Layers of other types, classes
    derived from these among them, run as ever.
    """
    taken: set[int] = set()
    chains = []
    for index in around.order:
        if index not in taken and _is_filter(around, index):
            layers, stages, outputs = _follow(around, index, taken)
            taken.update(layers)
            chains.append(_make_chain(around, layers, stages, outputs))
    return chains


@lru_cache(REMEMBERED)
def _block(stages: tuple[Stage, ...], few: bool) -> FusedLayer:
    """The layer that runs such stages: always the same, for a new one puts plans out of date."""
    return PlainChain(stages=stages) if few else FeatureChain(stages=stages)


def _make_chain(
    around: Surroundings, layers: list[int], stages: list[Stage], outputs: list[int]
) -> Chain:
    records = [around.net.layers[index] for index in layers]
    few = max(stage.size[0] for stage in stages) < LEAST_FILTERS
    return Chain(
        layers=tuple(layers),
        block=_block(tuple(stages), few or _products(around, layers) < LEAST_PRODUCTS),
        input=around.shared[records[0].input_indexes[0]],
        outputs=tuple(outputs),
        params=tuple(p for record in records for p in record.param_indexes),
    )


def _products(around: Surroundings, layers: list[int]) -> float:
    """Products of numbers that the convolutions take for an image; infinite if not known."""
    products = 0.0
    for index in layers:
        record = around.net.layers[index]
        if isinstance(record.block, Conv):
            size = around.sizes.get(record.outputs[0])
            if size is None or not size.known:
                return math.inf
            products += size.h * size.w * math.prod(record.block.size)
    return products


def _follow(
    around: Surroundings, index: int, taken: set[int]
) -> tuple[list[int], list[Stage], list[int]]:
    """Layers, stages and outputs of the chain that begins with a convolution."""
    layers: list[int] = []
    stages: list[Stage] = []
    outputs: list[int] = []
    while True:
        own, stage = _stage(around, index)
        layers += own
        output = around.net.layers[own[-1]].output_indexes[0]
        readers = around.readers.get(output, [])
        following = [reader for reader in readers if _is_filter(around, reader)]
        goes_on = len(following) == 1 and following[0] not in taken and output not in around.given
        visible = output in around.visible or not goes_on or len(readers) > 1
        stages.append(dataclasses.replace(stage, visible=visible))
        if visible:
            outputs.append(output)
        if not goes_on:
            return layers, stages, outputs
        (index,) = following


def _stage(around: Surroundings, index: int) -> tuple[list[int], Stage]:
    """Layers of the stage that begins with a convolution, and its settings."""
    net = around.net
    layers = [index]
    parts: dict[type, object] = {}
    for kind in (BatchNorm, ReLU, Pooling):
        follower = _only_reader(around, layers[-1])
        if follower is None:
            break
        block = net.layers[follower].block
        if type(block) is kind and _can_be_taken_up(block):
            parts[kind] = block
            layers.append(follower)
    blocks = [parts.get(kind) for kind in (BatchNorm, ReLU, Pooling)]
    return layers, make_stage(net.layers[index].block, *blocks)


def _only_reader(around: Surroundings, index: int) -> int | None:
    """The layer that alone reads a layer's output, if nobody else looks at it."""
    (output,) = around.net.layers[index].output_indexes
    readers = around.readers.get(output, [])
    if output in around.visible or output in around.given or len(readers) != 1:
        return None
    return readers[0]


def _can_be_taken_up(block: BatchNorm | ReLU | Pooling) -> bool:
    return not isinstance(block, Pooling) or (block.method == "max" and not any(block.pad))


def _is_filter(around: Surroundings, index: int) -> bool:
    """Whether a layer is a convolution that a chain can begin or go on with."""
    record = around.net.layers[index]
    block = record.block
    if type(block) is not Conv or math.prod(block.size[1:]) <= 1:
        return False
    filters = around.net.params[record.param_indexes[0]].value
    return len(record.params) == 1 + block.has_bias and (
        filters is None or tuple(filters.shape) == block.size
    )
