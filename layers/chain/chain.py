"""A chain of convolutions, batch norms, ReLUs and poolings that runs as one layer.

What makes it faster than its layers one after the other:

* Kernels that the layers cannot use: they keep maps in an order of their own (channels last),
  transform filters once for an evaluation, and add up the derivatives by filters in the
  transformed space.
* Bias, batch norm, ReLU and pooling are one pass over the convolution's output, ``y``.
* Only ``y`` and a few vectors a channel are kept for backward. The inputs of convolutions, which
  follow from them in that one pass, are computed again.
* Several equal chains run as one, on all their samples.
* With stored moments and no derivatives asked for, batch norm is part of filters and bias.

**Backward** runs the stages in reverse order. ``layers.kernels.activation`` derives what passes
ReLU, pooling and batch norm, ``layers.chain.norm`` the vectors, and each convolution's kernel its
own adjoint; where a stage's output is an output of the chain, its derivative is added to what
comes from the next stage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagnet import Context, FusedLayer, ShapeError
from dagnet.family import Rest
from layers.kernels.conv_kernel import ConvKernel
from layers.kernels.maps import add_to_maps, fill_maps, from_maps
from layers.kernels.scratch import Lease
from layers.kernels.windows import check_der_y, check_features

from .norm import Affine, batch_affine, der_affine, given_affine, uses_stored
from .projection import project
from .stages import Stage, Step, lay_out
from .weights import Weights, make_weights


@dataclass
class Group:
    """Branches whose inputs have one shape and dtype, and run as one.

    Attributes
    ----------
    branches : list of int
        Their places among the inputs.
    samples : list of slice
        For each of them its samples in the maps.
    steps : tuple of Step
    dtype : numpy.dtype
    lease : Lease
        Owns the memory of ``ys``.
    ys : list of arrays
        Outputs of convolutions, stage by stage, for backward; that of a last one that nothing
        follows is not needed.
    affines : list of Affine
    """

    branches: list[int]
    samples: list[slice]
    steps: tuple[Step, ...]
    dtype: np.dtype
    lease: Lease = field(default_factory=Lease)
    ys: list[np.ndarray] = field(default_factory=list)
    affines: list[Affine] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.samples[-1].stop


@dataclass
class StagePart:
    """What a call adds to the derivatives by one stage's parameters.

    Attributes
    ----------
    kernel : ConvKernel
        Knows how to finish ``filters``.
    filters : any
    vectors : list of arrays
        By bias, multipliers, biases, moments, as far as there are such; double precision.
    """

    kernel: ConvKernel
    filters: Any
    vectors: list[np.ndarray]

    def __iadd__(self, other: StagePart) -> StagePart:
        self.filters += other.filters
        for own, others in zip(self.vectors, other.vectors):
            own += others
        return self


# For each precision that inputs had, a part for each stage, or None.
Part = dict[np.dtype, list]
# Called with a stage's place once its part is complete.
StageDone = Callable[[int], None]


@dataclass(eq=False, kw_only=True)
class FeatureChain(FusedLayer):
    """Equal chains of stages, one for each input.

    Inputs: features (N, C, H, W), of any shapes. Outputs: of each chain those of the stages that
    are ``visible``, (N, C', H', W'). Parameters: of each stage its filters, bias if it has one,
    and multipliers, biases and moments if it has a batch norm.

    Settings
    --------
    stages : tuple of Stage
    """

    stages: tuple[Stage, ...] = ()

    def key(self):
        return self.stages

    def begin(self, params, context):
        return make_weights(self.stages, params, context.mode)

    def forward(self, inputs, params, context):
        """Outputs of all chains, and for backward what the layers' formulas need.

        Raises
        ------
        ShapeError, TypeError, ValueError
            As the layers do.
        """
        outputs: list[list] = [[] for _ in inputs]
        groups = self._group(inputs)
        for group in groups:
            self._forward(group, inputs, context, outputs)
        flat = [output for branch in outputs for output in branch]
        return flat, groups if context.derivatives else None

    def recall(self, inputs, params, context):
        """What ``forward`` keeps; what only outputs need is not computed."""
        groups = self._group(inputs)
        for group in groups:
            self._forward(group, inputs, context)
        return groups

    def backward(self, inputs, params, der_outputs, saved, context):
        """Derivatives by the inputs, and a part for ``add`` and ``finish``."""
        shown = sum(stage.visible for stage in self.stages)
        by_branch = [list(der_outputs[b * shown : (b + 1) * shown]) for b in range(len(inputs))]
        der_inputs: list[Any] = [None] * len(inputs)
        total: Part = {}
        for group in saved:
            parts = total.setdefault(group.dtype, [None] * len(self.stages))
            way = _Backward(self.stages, group, inputs, by_branch, context)
            way.run(der_inputs, parts, self._hand_over(context.rest, total, saved))
        return der_inputs, total

    def _hand_over(self, rest: Rest | None, total: Part, groups: Sequence[Group]) -> StageDone:
        """What is done when a stage's part is complete: with the last group of the last call its
        derivatives are known and handed over."""
        others = {} if rest is None or rest.total is None else rest.total
        (dtype, *more) = {group.dtype for group in groups} | set(others)
        if rest is None or len(groups) > 1 or more:
            # Sums would be formed in another order, of parts that are not there yet.
            return lambda stage: None
        firsts = list(itertools.accumulate((s.num_params for s in self.stages), initial=0))
        known = others.setdefault(dtype, [None] * len(self.stages))

        def done(stage: int) -> None:
            own = total[dtype]
            _add_part(known, stage, own[stage])
            own[stage] = None
            for i, der in enumerate(self._finish(stage, {dtype: known})):
                rest.hand_over(firsts[stage] + i, der)
            known[stage] = None

        return done

    def add(self, total, part):
        for dtype, stages in part.items():
            known = total.setdefault(dtype, [None] * len(stages))
            for place, stage in enumerate(stages):
                _add_part(known, place, stage)
        return total

    def finish(self, total, params, shared, context):
        return [der for place in range(len(self.stages)) for der in self._finish(place, total)]

    def _finish(self, place: int, total: Part) -> list[Any]:
        """Derivatives by one stage's parameters."""
        ders: list[Any] = [None] * self.stages[place].num_params
        for dtype, parts in total.items():
            part = parts[place]
            if part is None:
                continue
            vectors = [vector.astype(dtype) for vector in part.vectors]
            arrays = [part.kernel.finish(part.filters), *vectors]
            ders = [a if b is None else b + a for a, b in zip(arrays, ders)]
        return ders

    def saved_bytes(self, input_sizes):
        """Bytes of the convolutions' outputs; a last one without activation is not kept."""
        (size,) = input_sizes
        if not size.known:
            return 0.0
        n, c, h, w = (int(v) for v in size)
        try:
            steps = lay_out(self.stages, c, h, w, np.dtype(np.float32))
        except ShapeError:
            # The evaluation will tell, better than an estimate could.
            return 0.0
        kept = steps[:-1] if self.stages[-1].is_bare else steps
        return float(sum(4 * math.prod(step.layout_y.shape(n)) for step in kept))

    def _group(self, inputs: Sequence[np.ndarray]) -> list[Group]:
        """Branches of one shape and dtype together, in order of the first of each."""
        alike: dict[Any, list[int]] = {}
        for branch, x in enumerate(inputs):
            check_features(x)
            alike.setdefault((x.shape, x.dtype), []).append(branch)
        groups = []
        for (shape, dtype), branches in alike.items():
            n, *size = shape
            steps = lay_out(self.stages, *size, dtype)
            samples = [slice(k * n, (k + 1) * n) for k in range(len(branches))]
            groups.append(Group(branches, samples, steps, dtype))
        return groups

    def _forward(
        self,
        group: Group,
        inputs: Sequence[np.ndarray],
        context: Context,
        outputs: list[list] | None = None,
    ) -> None:
        """Run a group; outputs are appended to those of each branch, if anybody wants them."""
        weights: Weights = context.shared
        keep = context.derivatives
        memory = Lease()
        maps = _input_maps(group, inputs, memory)
        last = len(group.steps) - 1
        # The last stage that something is kept of.
        top = last - self.stages[last].is_bare
        steps = group.steps if outputs is not None else group.steps[: top + 1]
        for place, step in enumerate(steps):
            stage, kernel, layout = step.stage, step.conv, step.layout_y
            spent, memory = memory, Lease()
            bare = place == last and stage.is_bare
            owner = group.lease if keep and not bare else spent
            y = owner.array(layout.shape(group.count), group.dtype)
            kernel.forward(maps, weights.filters(place, kernel, keep), y)
            own = weights.params(place, keep)
            if stage.norm is None or uses_stored(stage.norm, context.mode):
                affine = given_affine(own, group.count)
            else:
                moments = step.activation.moments(y, layout.height, layout.width)
                affine = batch_affine(own, stage.norm.epsilon, *moments, group.samples)
            if bare:
                shift = affine.cast("shift", group.dtype)
                for branch, samples in zip(group.branches, group.samples):
                    output = from_maps(y[samples], layout)
                    if shift is not None:
                        output += shift[samples, :, None, None]
                    outputs[branch].append(output)
                return
            if keep:
                group.ys.append(y)
                group.affines.append(affine)
            if outputs is None and place == top:
                return
            maps = _activate(group, place, y, affine, memory)
            spent.release()
            if outputs is not None and stage.visible:
                for branch, samples in zip(group.branches, group.samples):
                    outputs[branch].append(from_maps(maps[samples], step.layout_maps))


def _add_part(known: list[StagePart | None], place: int, part: StagePart | None) -> None:
    if known[place] is None:
        known[place] = part
    elif part is not None:
        known[place] += part


def _input_maps(group: Group, inputs: Sequence[np.ndarray], memory: Lease) -> np.ndarray:
    layout = group.steps[0].layout_in
    maps = memory.array(layout.shape(group.count), group.dtype)
    for branch, samples in zip(group.branches, group.samples):
        fill_maps(inputs[branch], layout, maps[samples])
    return maps


def _activate(group: Group, place: int, y: np.ndarray, affine: Affine, memory: Lease) -> np.ndarray:
    """The output of a stage from that of its convolution."""
    step = group.steps[place]
    maps = memory.array(step.layout_maps.shape(group.count), group.dtype)
    step.layout_maps.clear_border(maps)
    step.activation.forward(
        y,
        step.layout_y,
        affine.cast("scale", group.dtype),
        affine.cast("shift", group.dtype),
        step.stage.activation,
        maps,
        step.layout_maps,
    )
    return maps


class _Backward:
    """One group's way back."""

    def __init__(
        self,
        stages: tuple[Stage, ...],
        group: Group,
        inputs: Sequence[np.ndarray],
        der_outputs: list[list],
        context: Context,
    ):
        self.stages = stages
        self.group = group
        self.inputs = inputs
        self.context = context
        self.weights: Weights = context.shared
        shown = [place for place, stage in enumerate(stages) if stage.visible]
        # Stage -> derivatives by its output, for each branch of the group.
        self.ders = {
            place: [der_outputs[branch][k] for branch in group.branches]
            for k, place in enumerate(shown)
        }
        # The last stage of each branch that the derivative passes through; -1 if there is none.
        self.last = [
            max((p for p, ders in self.ders.items() if ders[b] is not None), default=-1)
            for b in range(len(group.branches))
        ]

    def run(self, der_inputs: list, parts: list[StagePart | None], done: StageDone) -> None:
        """Add to the part of each stage, which is ``done`` then; derivatives by inputs are written
        to ``der_inputs``."""
        group = self.group
        top = max(self.last)
        for place in range(len(self.stages) - 1, top, -1):
            done(place)
        if top < 0:
            return
        wanted = [b for b in group.branches if self.context.needs_input(b)]
        weighed = all(self.context.weight(b) is not None for b in wanted)
        memory = Lease()
        maps = der_maps = None
        for place in range(top, -1, -1):
            step = group.steps[place]
            spent, memory = memory, Lease()
            der_y = spent.array(step.layout_y.shape(group.count), group.dtype)
            if place == top and self._ends_bare(place):
                vectors = self._take_bare(place, der_y)
            else:
                if place == top:
                    maps = _activate(group, place, group.ys[place], group.affines[place], spent)
                    der_maps = spent.array(maps.shape, group.dtype)
                    step.layout_maps.valid(der_maps)[...] = 0
                self._add_outputs(place, der_maps)
                vectors = self._pass_activation(place, maps, der_maps, der_y)
            if place > 0:
                before = place - 1
                maps = _activate(group, before, group.ys[before], group.affines[before], memory)
            else:
                maps = _input_maps(group, self.inputs, memory)
            if place == 0 and weighed:
                self._project(wanted, der_y, der_inputs)
            whole = place > 0 or (wanted and not weighed)
            der_maps = memory.array(maps.shape, group.dtype) if whole else None
            filters = self.weights.filters(place, step.conv, True)
            part = step.conv.backward(maps, filters, der_y, der_maps)
            # At once: those of all stages are as large as the filters of all.
            _add_part(parts, place, StagePart(step.conv, part, vectors))
            done(place)
            spent.release()
        for branch, samples in zip(group.branches, group.samples):
            if branch in wanted and not weighed:
                der_inputs[branch] = from_maps(der_maps[samples], group.steps[0].layout_in)

    def _project(self, wanted: list[int], der_y: np.ndarray, der_inputs: list) -> None:
        """The derivatives by inputs of which only a weighted sum is used."""
        step = self.group.steps[0]
        for branch, samples in zip(self.group.branches, self.group.samples):
            if branch in wanted:
                weighting = self.context.weight(branch)
                convolved = self.weights.convolved(weighting, step)
                der_inputs[branch] = project(weighting, step, convolved, der_y[samples])

    def _ends_bare(self, place: int) -> bool:
        """Whether a stage's output is its convolution's, and nothing reads it within the chain."""
        return place == len(self.stages) - 1 and self.stages[place].is_bare

    def _shape(self, place: int, samples: slice) -> tuple[int, int, int, int]:
        layout = self.group.steps[place].layout_maps
        return samples.stop - samples.start, layout.channels, layout.height, layout.width

    def _take_bare(self, place: int, der_y: np.ndarray) -> list[np.ndarray]:
        """The derivative by a last convolution's output is the chain's own."""
        layout = self.group.steps[place].layout_y
        total = np.zeros(layout.channels)
        for der, samples in zip(self.ders[place], self.group.samples):
            if der is None:
                der_y[samples] = 0
                continue
            check_der_y(der, self._shape(place, samples))
            fill_maps(der, layout, der_y[samples])
            total += der.sum(axis=(0, 2, 3))
        return [total] if self.stages[place].has_bias else []

    def _add_outputs(self, place: int, der_maps: np.ndarray) -> None:
        """Add the derivatives by a stage's output that come from outside."""
        for der, samples in zip(self.ders.get(place, ()), self.group.samples):
            if der is not None:
                check_der_y(der, self._shape(place, samples))
                add_to_maps(der, self.group.steps[place].layout_maps, der_maps[samples])

    def _pass_activation(
        self, place: int, maps: np.ndarray, der_maps: np.ndarray, der_y: np.ndarray
    ) -> list[np.ndarray]:
        """Fill ``der_y``; the derivatives by the stage's vectors."""
        group, step, stage = self.group, self.group.steps[place], self.stages[place]
        affine, dtype = group.affines[place], group.dtype
        kernel, y = step.activation, group.ys[place]
        how = (
            *(y, step.layout_y, affine.cast("scale", dtype), affine.cast("shift", dtype)),
            *(stage.activation, maps, step.layout_maps, der_maps),
        )
        s1, s2 = kernel.sums(*how, affine.cast("about", dtype), der_y)
        # Layers that no derivative reaches do not run backward, and observe nothing.
        weights = [
            self.context.uses[branch] if last >= place else 0
            for branch, last in zip(group.branches, self.last)
        ]
        cells = step.layout_y.height * step.layout_y.width
        a, d, vectors = der_affine(affine, stage.has_bias, s1, s2, cells, group.samples, weights)
        cast = [None if v is None else np.ascontiguousarray(v, dtype) for v in (a, d)]
        kernel.backward(*how, *cast, der_y)
        return vectors
