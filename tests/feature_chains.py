"""Chains of layers for tests: the layers one after the other, to compare fused ones with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from dagnet import Context, FusedLayer, Layer
from layers import BatchNorm, Conv, Pooling, ReLU
from layers.chain import FeatureChain, make_stage, recognise
from layers.chain.stages import lay_out
from layers.kernels import choice


def fuse_everything(monkeypatch):
    """Let ``FeatureChain`` run chains of few filters, and on small images, too."""
    monkeypatch.setattr(recognise, "LEAST_FILTERS", 1)
    monkeypatch.setattr(recognise, "LEAST_PRODUCTS", 0)


def transform_everything(monkeypatch):
    """Let Winograd's convolution be chosen for few channels too."""
    monkeypatch.setattr(choice, "WINOGRAD_CHANNELS", 1)
    forget_choices()


def forget_choices():
    """Choose kernels anew."""
    choice.choose_conv.cache_clear()
    lay_out.cache_clear()


@dataclass
class LayeredChain:
    """Layers, the parameters of each, and which outputs are looked at."""

    # The fused layer that is compared with them.
    kind: ClassVar[type[FusedLayer]] = FeatureChain

    layers: list
    params: list
    visible: list
    stages: tuple

    @property
    def fused(self):
        return self.kind(stages=self.stages)

    @property
    def flat_params(self):
        return [p for own in self.params for p in own]

    @property
    def param_names(self):
        """Type of the layer and place among its parameters, for each parameter."""
        return [
            (type(layer).__name__, k)
            for layer, own in zip(self.layers, self.params)
            for k in range(len(own))
        ]

    def forward(self, x, mode):
        """Outputs that are looked at, and what backward needs."""
        outputs, used = [], []
        for layer, own, visible in zip(self.layers, self.params, self.visible):
            (y,), saved = layer.forward([x], own, Context(mode=mode))
            used.append((x, saved))
            x = y
            if visible:
                outputs.append(y)
        return outputs, used

    def backward(self, used, ders, mode):
        """Derivatives by the input and by all parameters; None for those not reached."""
        der, ders, result = None, list(ders), []
        for k in range(len(self.layers) - 1, -1, -1):
            layer, own, (x, saved) = self.layers[k], self.params[k], used[k]
            if self.visible[k]:
                more = ders.pop()
                der = more if der is None else der if more is None else der + more
            if der is None:
                result = [None] * len(own) + result
                continue
            (der,), der_own = layer.backward([x], own, [der], saved, Context(mode=mode))
            result = list(der_own) + result
        return der, result


def make_chain(rng, channels, *parts, dtype=np.float64, draw=None):
    """A chain of stages, each ``(Conv, BatchNorm or None, ReLU or None, Pooling or None, seen)``.

    ``draw(shape)`` draws filters and biases; batch norms have random parameters.
    """
    draw = draw or rng.standard_normal
    layers, params, visible, stages = [], [], [], []
    for conv, norm, relu, pool, seen in parts:
        out = conv.size[0]
        scale = np.sqrt(np.prod(conv.size[1:])) if draw == rng.standard_normal else 1
        own = [draw(conv.size) / scale, *([draw((out,))] if conv.has_bias else [])]
        layers.append(conv)
        params.append(own)
        if norm is not None:
            moments = np.stack([rng.standard_normal(out), rng.uniform(0.5, 1.5, out)], axis=1)
            layers.append(norm)
            params.append([rng.standard_normal(out), rng.standard_normal(out), moments])
        for layer in (relu, pool):
            if layer is not None:
                layers.append(layer)
                params.append([])
        visible += [False] * (len(layers) - len(visible) - 1) + [seen]
        stages.append(make_stage(conv, norm, relu, pool, visible=seen))
    params = [[p.astype(dtype) for p in own] for own in params]
    return LayeredChain(layers, params, visible, tuple(stages))


def random_chain(rng, channels, dtype=np.float64):
    """One to three stages of any kind."""
    parts = []
    for _ in range(rng.integers(1, 4)):
        groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
        out = int(rng.choice([6, 12, 18]))
        side = int(rng.choice([1, 3, 3, 5, 5, 11]))
        kernel = (side, side) if rng.random() < 0.8 else (3, 2)
        plain = rng.random() < 0.6
        conv = Conv(
            size=(out, channels // groups, *kernel),
            stride=(1, 1) if plain else (2, int(rng.integers(1, 3))),
            pad=(4,) * 4 if side == 11 else tuple(rng.integers(0, 3, 4) * int(rng.integers(0, 2))),
            dilate=(1, 1) if plain or side > 3 else (1, 2),
            has_bias=bool(rng.integers(0, 2)),
        )
        stored = "stored" if rng.random() < 0.3 else "batch"
        norm = BatchNorm(epsilon=1e-4, moments=stored) if rng.random() < 0.6 else None
        relu = ReLU(leak=float(rng.choice([0, 0, 0.25]))) if rng.random() < 0.6 else None
        pool = None
        if rng.random() < 0.5:
            size = [(3, 3), (2, 2), (2, 3), (1, 1)][rng.integers(4)]
            pool = Pooling(pool_size=size, stride=[(2, 2), (1, 1), (2, 3)][rng.integers(3)])
        parts.append([conv, norm, relu, pool, bool(rng.random() < 0.4)])
        channels = out
    parts[-1][-1] = True
    return make_chain(rng, None, *parts, dtype=dtype)


def evaluate(chain, inputs, ders, *, mode="normal", uses=None, needs=None):
    """Outputs, derivatives by inputs and by parameters of the fused chain."""
    fused, params = chain.fused, chain.flat_params
    shared = fused.begin(params, Context(mode=mode))
    context = Context(mode=mode, shared=shared, uses=uses or (1,) * len(inputs), needs=needs)
    outputs, saved = fused.forward(inputs, params, context)
    der_inputs, part = fused.backward(inputs, params, ders(outputs), saved, context)
    return outputs, der_inputs, fused.finish(part, params, shared, context)


class Alone(Layer):
    """One fused chain as a layer of its own, for the numerical check."""

    num_params = (0, None)

    def __init__(self, chain):
        self.fused = chain.fused

    def forward(self, inputs, params, context):
        shared = self.fused.begin(params, context)
        outputs, saved = self.fused.forward(inputs, params, replace(context, shared=shared))
        return outputs, (shared, saved)

    def backward(self, inputs, params, der_outputs, saved, context):
        shared, saved = saved
        context = replace(context, shared=shared)
        ders, part = self.fused.backward(inputs, params, der_outputs, saved, context)
        return ders, self.fused.finish(part, params, shared, context)
