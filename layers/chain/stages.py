"""What a chain of layers is, as settings: one stage for each convolution and what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dagnet import ShapeError
from layers.batch_norm import BatchNorm
from layers.conv import Conv
from layers.kernels.activation import Activation, RowActivation
from layers.kernels.choice import choose_activation, choose_conv
from layers.kernels.conv_kernel import ConvKernel
from layers.kernels.geometry import ConvGeometry
from layers.kernels.maps import MapLayout, plain_layout
from layers.pooling import Pooling
from layers.relu import ReLU

# Layouts of so many chains and sizes of input are remembered.
REMEMBERED = 128
NOTHING = Activation()


@dataclass(frozen=True)
class Norm:
    """Settings of a batch norm.

    Attributes
    ----------
    epsilon : float
    stored : bool
        Whether stored moments are used in mode ``'normal'`` too.
    """

    epsilon: float
    stored: bool


@dataclass(frozen=True)
class Stage:
    """A convolution and what follows it: batch norm, ReLU, max pooling, each or none.

    Attributes
    ----------
    size : (out, C / groups, kh, kw)
    stride, dilate : (vertical, horizontal)
    pad : (top, bottom, left, right)
    has_bias : bool
    norm : Norm or None
    activation : Activation
        ReLU and pooling.
    visible : bool
        Whether the output is one of the chain's outputs.
    """

    size: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilate: tuple[int, int] = (1, 1)
    has_bias: bool = True
    norm: Norm | None = None
    activation: Activation = NOTHING
    visible: bool = True

    @property
    def num_params(self) -> int:
        """Filters, bias, and the batch norm's multipliers, biases and moments."""
        return 1 + self.has_bias + (3 if self.norm else 0)

    @property
    def is_bare(self) -> bool:
        """Whether nothing but a bias follows the convolution."""
        return self.norm is None and self.activation == NOTHING

    def geometry(self, channels: int, height: int, width: int) -> ConvGeometry:
        """The convolution's, on an input of this size."""
        out, group, *kernel = self.size
        groups, rest = divmod(channels, group)
        if rest or groups == 0 or out % groups:
            raise ShapeError(
                f"{channels} channels do not fall into groups for {out} filters that see {group} "
                "channels each",
                input=0,
            )
        return ConvGeometry(
            channels, out, groups, tuple(kernel), self.stride, self.pad, self.dilate, height, width
        )


def make_stage(
    conv: Conv,
    norm: BatchNorm | None = None,
    relu: ReLU | None = None,
    pool: Pooling | None = None,
    *,
    visible: bool = True,
) -> Stage:
    """The stage that layers make up."""
    return Stage(
        size=conv.size,
        stride=conv.stride,
        pad=conv.pad,
        dilate=conv.dilate,
        has_bias=conv.has_bias,
        norm=None if norm is None else Norm(norm.epsilon, norm.moments == "stored"),
        activation=Activation(
            relu=relu is not None,
            leak=0.0 if relu is None else float(relu.leak),
            pool=None if pool is None else (pool.pool_size, pool.stride),
        ),
        visible=visible,
    )


@dataclass(frozen=True)
class Step:
    """A stage at a size of its input: what it runs on, and how its arrays lie.

    Attributes
    ----------
    stage : Stage
    conv : ConvKernel
    activation : RowActivation
        Or another kernel of this kind.
    layout_y, layout_maps : MapLayout
        Of the convolution's output, and of the stage's, as the next stage wants it.
    """

    stage: Stage
    conv: ConvKernel
    activation: RowActivation
    layout_y: MapLayout
    layout_maps: MapLayout

    @property
    def layout_in(self) -> MapLayout:
        """Of the stage's input."""
        return self.conv.input_layout


@lru_cache(REMEMBERED)
def lay_out(
    stages: tuple[Stage, ...], channels: int, height: int, width: int, dtype: np.dtype
) -> tuple[Step, ...]:
    """Kernels and layouts of a chain for an input of this size.

    Raises
    ------
    ShapeError
        If channels or sizes do not fit.
    """
    sizes, kernels = [], []
    for stage in stages:
        geometry = stage.geometry(channels, height, width)
        kernels.append(choose_conv(geometry, dtype))
        height, width = stage.activation.output_size(*geometry.out_size)
        if min(height, width) < 1:
            raise ShapeError(
                f"the pooling window {stage.activation.pool[0]} is larger than its input "
                f"{geometry.out_size}",
                input=0,
            )
        channels = geometry.out
        sizes.append((channels, geometry.groups, height, width))
    layouts = [kernel.input_layout for kernel in kernels[1:]] + [plain_layout(*sizes[-1])]
    return tuple(
        Step(
            stage,
            kernel,
            choose_activation(dtype, kernel.output_layout, layout, stage.activation),
            kernel.output_layout,
            layout,
        )
        for stage, kernel, layout in zip(stages, kernels, layouts)
    )
