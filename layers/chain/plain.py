"""Equal chains of few filters: their layers' own functions, on several branches in one call.

With few filters a layer's arithmetic takes no longer than calling it, so what saves time is to
call less: branches of one shape are put together as samples, and what only the chain sees stays
within it.

Batch norm takes its statistics from each branch alone. It treats every channel on its own, so
branches can stand side by side as channels for it: ``B`` branches of ``C`` channels are one input
of ``B C`` channels, whose multipliers are repeated ``B`` times.

ReLU is monotone, so its slope at a pooling window's winner is read off the pooled value, and its
own output need not be kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagnet import Context, FusedLayer, ShapeError, get_array_module, share
from layers.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_stored,
    batch_norm_stored_backward,
)
from layers.conv import conv, conv_backward, conv_projection, convolved_weighting
from layers.kernels.windows import check_der_y, check_features
from layers.pooling import max_pool, max_pool_backward
from layers.relu import relu, relu_backward

from .norm import part_params, uses_stored
from .stages import Stage

# Inputs of this many bytes run in one call; workers share the calls of a unit. Larger branches
# gain nothing from going together.
PIECE_BYTES = 1 << 20


@dataclass
class Used:
    """What backward of a stage needs: arrays of all branches of a piece, or None.

    Attributes
    ----------
    x : array (N, C, H, W)
        Input.
    y : array (N, out, H', W')
        What batch norm read.
    moments : array (B out, 2)
        Those of the batch, branch after branch; None where stored ones were used.
    winners, size : any
        As ``max_pool_backward`` takes them.
    output : array
        Of the stage.
    """

    x: Any
    y: Any = None
    moments: Any = None
    winners: Any = None
    size: tuple[int, int] | None = None
    output: Any = None


@dataclass
class Piece:
    """Branches that run in one call, of one shape and dtype.

    Attributes
    ----------
    branches : list of int
        Their places among the inputs.
    used : list of Used
        For each stage.
    """

    branches: list[int]
    used: list[Used] = field(default_factory=list)


class Shared:
    """What all calls of an evaluation share: parameters by stage, and convolved weightings."""

    def __init__(self, stages: Sequence[Stage], params: Sequence[Any]):
        self.params = part_params(stages, params)
        self._convolved: list[tuple] = []

    def convolved(self, weight: Any, x: Any, filters: Any, how: dict) -> Any:
        """The first convolution of a weighting, made once for inputs like ``x``.

        Two threads that make it at the same time make the same.
        """
        key = (x.shape[1:], x.dtype)
        for known, other, result in self._convolved:
            if other == key and (
                known is weight or get_array_module(known, weight).array_equal(known, weight)
            ):
                return result
        result = convolved_weighting(weight, x, filters, **how)
        self._convolved.append((weight, key, result))
        return result


@dataclass(eq=False, kw_only=True)
class PlainChain(FusedLayer):
    """Equal chains of stages, one for each input; inputs, outputs and parameters, and the setting,
    are those of ``FeatureChain``."""

    stages: tuple[Stage, ...] = ()

    def key(self):
        return self.stages

    def begin(self, params, context):
        return Shared(self.stages, params)

    def forward(self, inputs, params, context):
        """Outputs of all chains, and for backward what the layers' formulas need.

        Raises
        ------
        ShapeError, TypeError, ValueError
            As the layers do.
        """
        pieces = list(_cut(inputs))
        found = share(lambda piece: self._forward(piece, inputs, context), pieces)
        outputs: list[list] = [[] for _ in inputs]
        for piece, visible in zip(pieces, found):
            for stacked in visible:
                for branch, own in zip(piece.branches, _split(stacked, len(piece.branches))):
                    outputs[branch].append(own)
        return [y for own in outputs for y in own], pieces if context.derivatives else None

    def backward(self, inputs, params, der_outputs, saved, context):
        """Derivatives by the inputs, and by the parameters as the part."""
        der_inputs: list[Any] = [None] * len(inputs)
        way = _Backward(self.stages, inputs, der_outputs, context)
        total = None
        for found in share(way.run, saved):
            if found is not None:
                der_inputs = [a if b is None else b for a, b in zip(der_inputs, found[0])]
                total = found[1] if total is None else self.add(total, found[1])
        return der_inputs, total

    def add(self, total, part):
        return [b if a is None else a if b is None else a + b for a, b in zip(total, part)]

    def finish(self, total, params, shared, context):
        return total

    def saved_bytes(self, input_sizes):
        """Bytes of what batch norms read, of the stages' outputs, and of poolings' winners."""
        (size,) = input_sizes
        if not size.known:
            return 0.0
        total = 0.0
        n, channels, height, width = (int(v) for v in size)
        for stage in self.stages:
            try:
                geometry = stage.geometry(channels, height, width)
                y = geometry.out_size
            except ShapeError:
                # The evaluation will tell, better than an estimate could.
                return 0.0
            channels, (height, width) = geometry.out, stage.activation.output_size(*y)
            total += 4.0 * math.prod(y) * channels * n if stage.norm else 0.0
            total += 4.0 * height * width * channels * n
            if stage.activation.pool is not None:
                total += (height * y[1] + height * width) * channels * n
        return total

    def _forward(self, piece: Piece, inputs: Sequence[Any], context: Context) -> list:
        """Run a piece; returns the outputs of visible stages, of all branches together."""
        count = len(piece.branches)
        x, visible = _join([inputs[branch] for branch in piece.branches]), []
        for stage, params in zip(self.stages, context.shared.params):
            filters, bias, norm = _part(stage, params)
            y = z = conv(x, filters, bias, **_how(stage))
            used = Used(x, size=y.shape[2:])
            if stage.norm is not None:
                used.y = y
                if uses_stored(stage.norm, context.mode):
                    z = batch_norm_stored(y, *norm)
                else:
                    z, used.moments = _normalise(y, norm, stage.norm.epsilon, count)
            activation = stage.activation
            if activation.relu:
                z = relu(z, activation.leak)
            if activation.pool is not None:
                z, used.winners = max_pool(z, activation.pool[0], stride=activation.pool[1])
            used.output = x = z
            if context.derivatives:
                piece.used.append(used)
            if stage.visible:
                visible.append(z)
        return visible


class _Backward:
    """The way back of a call's pieces."""

    def __init__(
        self, stages: Sequence[Stage], inputs: Sequence, der_outputs: Sequence, context: Context
    ):
        self.stages = stages
        self.inputs = inputs
        self.context = context
        self.shared: Shared = context.shared
        shown = [place for place, stage in enumerate(stages) if stage.visible]
        by_branch = [der_outputs[b * len(shown) : (b + 1) * len(shown)] for b in range(len(inputs))]
        # Stage -> derivatives by its output, for each branch.
        self.ders = {place: [own[k] for own in by_branch] for k, place in enumerate(shown)}
        # The last stage of each branch that the derivative passes through; -1 if there is none.
        self.last = [
            max((place for place, own in zip(shown, ders) if own is not None), default=-1)
            for ders in by_branch
        ]

    def run(self, piece: Piece) -> tuple[list, list] | None:
        """Derivatives by all inputs, None for other pieces', and by all parameters."""
        top = max(self.last[branch] for branch in piece.branches)
        if top < 0:
            return None
        der, der_params = None, []
        for place in range(top, -1, -1):
            stage, used = self.stages[place], piece.used[place]
            der = self._with_outputs(piece, place, der)
            activation = stage.activation
            if activation.relu:
                der = relu_backward(used.output, der, activation.leak)
            if activation.pool is not None:
                size, stride = activation.pool
                der = max_pool_backward(der, used.winners, used.size, size, stride=stride)
            filters, bias, norm = _part(stage, self.shared.params[place])
            der_norm = []
            if stage.norm is not None:
                der, der_norm = self._backward_norm(piece, place, norm, der)
            whole = place > 0 or self._whole(piece)
            der_y = der
            der, *own = conv_backward(used.x, filters, bias, der_y, **_how(stage), needs_x=whole)
            der_params = [*own[: 1 + stage.has_bias], *der_norm, *der_params]
        count = sum(stage.num_params for stage in self.stages)
        der_params += [None] * (count - len(der_params))
        return self._by_inputs(piece, der, der_y), der_params

    def _with_outputs(self, piece: Piece, place: int, der: Any) -> Any:
        """A derivative by a stage's output, with those that come from outside."""
        given = (
            [self.ders[place][branch] for branch in piece.branches] if place in self.ders else []
        )
        if all(own is None for own in given):
            return der
        like = _split(piece.used[place].output, len(given))
        for own, y in zip(given, like):
            if own is not None:
                check_der_y(own, y.shape)
        given = [
            get_array_module(y).zeros_like(y) if own is None else own for own, y in zip(given, like)
        ]
        stacked = _join(given)
        return stacked if der is None else der + stacked

    def _backward_norm(self, piece: Piece, place: int, norm: list, der_z: Any) -> tuple[Any, list]:
        used = piece.used[place]
        multipliers, _, moments = norm
        if used.moments is None:
            der, *ders = batch_norm_stored_backward(used.y, multipliers, der_z, moments)
            return der, ders
        # Layers that no derivative reaches do not run backward, and observe nothing.
        weights = [
            self.context.uses[branch] if self.last[branch] >= place else 0
            for branch in piece.branches
        ]
        return _normalise_backward(used, multipliers, der_z, weights)

    def _whole(self, piece: Piece) -> bool:
        """Whether more than weighted sums of some derivative by an input is needed."""
        context = self.context
        return any(context.needs_input(b) and context.weight(b) is None for b in piece.branches)

    def _by_inputs(self, piece: Piece, der: Any, der_y: Any) -> list:
        der_inputs: list[Any] = [None] * len(self.inputs)
        ders = [None] * len(piece.branches) if der is None else _split(der, len(piece.branches))
        how = _how(self.stages[0])
        filters = self.shared.params[0][0]
        parts = _split(der_y, len(piece.branches))
        for branch, own, part in zip(piece.branches, ders, parts):
            if not self.context.needs_input(branch):
                continue
            if own is None:
                x, weight = self.inputs[branch], self.context.weight(branch)
                convolved = self.shared.convolved(weight, x, filters, how)
                own = conv_projection(x, filters, part, weight, convolved, **how)
            der_inputs[branch] = own
        return der_inputs


def _cut(inputs: Sequence[Any]) -> Iterator[Piece]:
    """Branches of one shape and dtype together, as many as ``PIECE_BYTES`` allows."""
    alike: dict[Any, list[int]] = {}
    for branch, x in enumerate(inputs):
        check_features(x)
        alike.setdefault((x.shape, x.dtype), []).append(branch)
    for branches in alike.values():
        step = max(1, PIECE_BYTES // inputs[branches[0]].nbytes)
        for first in range(0, len(branches), step):
            yield Piece(branches[first : first + step])


def _join(arrays: list) -> Any:
    """Branches' arrays as the samples of one."""
    return arrays[0] if len(arrays) == 1 else get_array_module(*arrays).concatenate(arrays)


def _split(array: Any, branches: int) -> list:
    """The adjoint of ``_join``: each branch's samples."""
    samples = len(array) // branches
    return [array[k * samples : (k + 1) * samples] for k in range(branches)]


def _side_by_side(array: Any, branches: int) -> Any:
    """Branches as channels: (B N, C, H, W) becomes (N, B C, H, W)."""
    n, c, h, w = array.shape
    parted = array.reshape(branches, n // branches, c, h, w)
    return parted.swapaxes(0, 1).reshape(n // branches, branches * c, h, w)


def _as_samples(array: Any, branches: int) -> Any:
    """The inverse of ``_side_by_side``."""
    n, c, h, w = array.shape
    parted = array.reshape(n, branches, c // branches, h, w)
    return parted.swapaxes(0, 1).reshape(n * branches, c // branches, h, w)


def _normalise(y: Any, norm: list, epsilon: float, branches: int) -> tuple[Any, Any]:
    """Batch norm with each branch's moments, and those."""
    multipliers, biases = (_join([vector] * branches) for vector in norm[:2])
    z, moments = batch_norm(_side_by_side(y, branches), multipliers, biases, epsilon)
    return _as_samples(z, branches), moments


def _normalise_backward(
    used: Used, multipliers: Any, der_z: Any, weights: list[int]
) -> tuple[Any, list]:
    """Derivative by what batch norm read, and by its parameters.

    ``weights`` tells how often each branch's moments count as observed.
    """
    branches = len(weights)
    der, *ders = batch_norm_backward(
        _side_by_side(used.y, branches),
        _join([multipliers] * branches),
        _side_by_side(der_z, branches),
        used.moments,
    )
    ders = [own.reshape(branches, -1).sum(axis=0) for own in ders]
    observed = used.moments.reshape(branches, -1, 2)
    total = sum(weight * own for weight, own in zip(weights, observed))
    return _as_samples(der, branches), [*ders, total]


def _part(stage: Stage, params: list) -> tuple[Any, Any, list]:
    """Filters, bias or None, and what belongs to the batch norm."""
    first = 1 + stage.has_bias
    return params[0], params[1] if stage.has_bias else None, params[first:]


def _how(stage: Stage) -> dict[str, Any]:
    return {"stride": stage.stride, "pad": stage.pad, "dilate": stage.dilate}
