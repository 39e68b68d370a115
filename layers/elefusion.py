"""Elefusion: the fusion of the response maps of several feature layers, Eq. 7 of the paper.

``S = sum_l Y^l . S^l`` with maps of weights ``Y^l`` that add up to one in every cell. ``L - 1`` of
them are stored and the last is one minus their sum, so training cannot break the constraint. For
two feature layers it is the public code's ``Sum_w.m`` with its ``sumweights``, of which the
derivatives were wrong (docs/errata.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dagnet import ElementWise, ShapeError, register_layer

from .kernels import Kernel, choose, register
from .resize import imresize, imresize_adjoint


def _last_weight(weights: list) -> Any:
    remaining = 1 - weights[0]
    for weight in weights[1:]:
        remaining -= weight
    return remaining


def _elefusion(maps: list, weights: list) -> Any:
    *first, last = maps
    fused = _last_weight(weights) * last
    for weight, response in zip(weights, first):
        fused += weight * response
    return fused


def _elefusion_backward(maps: list, weights: list, der: Any) -> tuple[list, list]:
    der_maps = [weight * der for weight in (*weights, _last_weight(weights))]
    der_weights = [((m - maps[-1]) * der).sum(axis=(0, 1)) for m in maps[:-1]]
    return der_maps, der_weights


register("elefusion", Kernel("reference", _elefusion, _elefusion_backward))


def elefusion(maps: list, weights: list) -> Any:
    """``sum_l Y^l . S^l``, the last ``Y^l`` being one minus the sum of the others.

    Parameters
    ----------
    maps : L arrays (N, C, H, W)
    weights : L - 1 arrays (H, W)

    Returns
    -------
    array (N, C, H, W)
    """
    return choose("elefusion", maps[-1]).forward(maps, weights)


def elefusion_backward(maps: list, weights: list, der: Any) -> tuple[list, list]:
    """Derivatives of ``elefusion``; with ``G = dL/dS``

        dL/dS^l = Y^l . G                                for every l, Y^L = 1 - sum of the others
        dL/dY^l = sum over N, C of (S^l - S^L) . G       since dY^L = -dY^l

    Returns
    -------
    der_maps : L arrays (N, C, H, W)
    der_weights : L - 1 arrays (H, W)
    """
    return choose("elefusion", der).backward(maps, weights, der)


@register_layer("Elefusion")
@dataclass(eq=False, kw_only=True)
class Elefusion(ElementWise):
    """Weighted sum of response maps, with a weight for each cell.

    Inputs: ``L >= 2`` maps (N, C, H, W). Maps that have not the size of the last one are resized
    to it, bicubically, as the public code does. Parameters: ``L - 1`` maps of weights (H, W) of the
    last input's size, for the first ``L - 1`` inputs. Output: (N, C, H, W), like the last input.

    Settings
    --------
    num_maps : int
        ``L``.
    """

    num_inputs: ClassVar[tuple[int, int | None]] = (2, None)
    num_params: ClassVar[tuple[int, int | None]] = (1, None)

    num_maps: int = 2

    def __post_init__(self):
        if self.num_maps < 2:
            raise ValueError(f"num_maps must be at least 2, received {self.num_maps!r}")

    def _check(self, inputs: Any, params: Any) -> None:
        if len(inputs) != self.num_maps or len(params) != self.num_maps - 1:
            raise ShapeError(
                f"expected {self.num_maps} maps and {self.num_maps - 1} parameters (the setting "
                f"num_maps is {self.num_maps}), received {len(inputs)} and {len(params)}"
            )
        last = inputs[-1]
        for place, response in enumerate(inputs):
            if response.ndim != 4 or response.shape[:2] != last.shape[:2]:
                raise ShapeError(
                    f"expected maps (N, C, H, W) with N and C of the last input, {last.shape}, "
                    f"received {response.shape}",
                    input=place,
                )
        for place, weight in enumerate(params):
            if tuple(weight.shape) != tuple(last.shape[2:]):
                raise ShapeError(
                    f"expected weights of the last map's size {last.shape[2:]}, received shape "
                    f"{weight.shape}",
                    param=place,
                )

    def _prepare(self, inputs: Any, params: Any) -> tuple[list, list]:
        """Maps of one size and weights, in the dtype of the last map."""
        last = inputs[-1]
        maps = [m.astype(last.dtype, copy=False) for m in inputs]
        maps = [m if m.shape == last.shape else imresize(m, size=last.shape[2:]) for m in maps]
        return maps, [w.astype(last.dtype, copy=False) for w in params]

    def forward(self, inputs, params, context):
        self._check(inputs, params)
        return [elefusion(*self._prepare(inputs, params))], None

    def backward(self, inputs, params, der_outputs, saved, context):
        maps, weights = self._prepare(inputs, params)
        der_maps, der_weights = elefusion_backward(maps, weights, der_outputs[0])
        size = maps[-1].shape[2:]
        der_inputs = [
            d if i.shape == d.shape else imresize_adjoint(d, i.shape, size=size)
            for d, i in zip(der_maps, inputs)
        ]
        return der_inputs, [d.astype(w.dtype, copy=False) for d, w in zip(der_weights, params)]

    def get_output_sizes(self, input_sizes):
        return [input_sizes[-1]]

    def param_attributes(self):
        # Decay would pull the shares of the first maps to zero.
        return [{"weight_decay": 0.0}] * (self.num_maps - 1)
