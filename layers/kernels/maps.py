"""Feature maps as the chain's kernels keep them: group by group, channels last.

A *map* is a C-contiguous array ``(N, G, rows, columns, C / G)``: ``N`` samples, ``G`` groups of
channels (those of the convolution that reads it; channel ``c`` is in group ``c // (C / G)``), and
a plane that may be larger than the features, which lie at ``[top : top + H, left : left + W]`` of
it. A convolution's padding, and whatever a kernel reads beyond it, are thus cells of the map, and
zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .scratch import pooled

# With fewer channels than this in a group they are copied one after the other.
FEW_CHANNELS = 16


@dataclass(frozen=True)
class MapLayout:
    """Where the features lie in a map.

    Attributes
    ----------
    channels, groups : int
    rows, columns : int
        Of the whole plane.
    top, left : int
        First row and column of the features.
    height, width : int
        Of the features.
    """

    channels: int
    groups: int
    rows: int
    columns: int
    top: int
    left: int
    height: int
    width: int

    @property
    def group_channels(self) -> int:
        return self.channels // self.groups

    def shape(self, samples: int) -> tuple[int, int, int, int, int]:
        """Shape of a map of so many samples."""
        return samples, self.groups, self.rows, self.columns, self.group_channels

    def valid(self, maps: np.ndarray) -> np.ndarray:
        """The features alone: a view ``(N, G, H, W, C / G)``."""
        top, left = self.top, self.left
        return maps[:, :, top : top + self.height, left : left + self.width]

    def clear_border(self, maps: np.ndarray) -> None:
        """Set everything around the features to zero."""
        bottom, right = self.top + self.height, self.left + self.width
        maps[:, :, : self.top] = 0
        maps[:, :, bottom:] = 0
        maps[:, :, self.top : bottom, : self.left] = 0
        maps[:, :, self.top : bottom, right:] = 0


def plain_layout(channels: int, groups: int, height: int, width: int) -> MapLayout:
    """A map that holds nothing but the features."""
    return MapLayout(channels, groups, height, width, 0, 0, height, width)


def runs(first: MapLayout, second: MapLayout) -> Iterator[tuple[int, slice, int, slice, slice]]:
    """Runs of channels that are neighbours in both of two maps of the same channels.

    Yields, for each, the group and the slice of that group's channels in the first map, the same
    for the second, and the slice of all channels.
    """
    edges = {*range(0, first.channels + 1, first.group_channels)}
    edges |= {*range(0, second.channels + 1, second.group_channels)}
    ends = sorted(edges)
    for start, end in pairwise(ends):
        places = []
        for layout in (first, second):
            group, channel = divmod(start, layout.group_channels)
            places += [group, slice(channel, channel + end - start)]
        yield (*places, slice(start, end))


def _by_group(x: np.ndarray, layout: MapLayout) -> np.ndarray:
    """Features (N, C, H, W) as a view in the order of axes of a map."""
    n, _, h, w = x.shape
    return x.reshape(n, layout.groups, layout.group_channels, h, w).transpose(0, 1, 3, 4, 2)


def fill_maps(x: np.ndarray, layout: MapLayout, maps: np.ndarray) -> None:
    """Write features ``x`` (N, C, H, W) into ``maps``, with zeros around them."""
    layout.clear_border(maps)
    source, valid = _by_group(x, layout), layout.valid(maps)
    if layout.group_channels < FEW_CHANNELS:
        # Inner loops over so few channels cost more than they move.
        for channel in range(layout.group_channels):
            valid[..., channel] = source[..., channel]
    else:
        valid[...] = source


def add_to_maps(x: np.ndarray, layout: MapLayout, maps: np.ndarray) -> None:
    """Add features ``x`` (N, C, H, W) to those in ``maps``."""
    valid = layout.valid(maps)
    valid += _by_group(x, layout)


def from_maps(maps: np.ndarray, layout: MapLayout) -> np.ndarray:
    """The features of a map as a new array (N, C, H, W)."""
    n = len(maps)
    x = pooled((n, layout.channels, layout.height, layout.width), maps.dtype)
    target, valid = _by_group(x, layout), layout.valid(maps)
    if layout.group_channels < FEW_CHANNELS:
        for channel in range(layout.group_channels):
            target[..., channel] = valid[..., channel]
    else:
        target[...] = valid
    return x
