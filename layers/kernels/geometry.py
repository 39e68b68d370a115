"""What a convolution is asked for, in numbers: the key that its kernel is chosen and kept by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dagnet import ShapeError

from .windows import output_size


@dataclass(frozen=True)
class ConvGeometry:
    """Sizes of a convolution, as ``layers.conv.conv`` has them.

    Attributes
    ----------
    channels, out : int
        Of the input and of the output.
    groups : int
        Filter groups; a divisor of both.
    kernel : (kh, kw)
    stride, dilate : (vertical, horizontal)
    pad : (top, bottom, left, right)
    height, width : int
        Of the input, padding not included.

    Raises
    ------
    ShapeError
        If the groups do not divide the channels, or the filters are larger than the padded input.
    """

    channels: int
    out: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int]
    dilate: tuple[int, int]
    height: int
    width: int

    def __post_init__(self):
        if self.channels % self.groups or self.out % self.groups:
            raise ShapeError(
                f"{self.channels} channels and {self.out} filters do not fall into "
                f"{self.groups} equal groups"
            )
        # An error here is better than an empty output somewhere inside a kernel.
        _ = self.out_size

    @cached_property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        extent = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilate))
        return output_size((self.height, self.width), extent, self.stride, self.pad)

    @property
    def out_height(self) -> int:
        return self.out_size[0]

    @property
    def out_width(self) -> int:
        return self.out_size[1]

    @property
    def group_channels(self) -> int:
        """Channels that each filter sees."""
        return self.channels // self.groups

    @property
    def group_out(self) -> int:
        """Filters in a group."""
        return self.out // self.groups

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the input with its padding."""
        top, bottom, left, right = self.pad
        return self.height + top + bottom, self.width + left + right
