"""The running average that losses and errors keep: the base of ``Loss`` and its kin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dagnet import Layer, Size, asnumpy, get_array_module


@dataclass(eq=False, kw_only=True)
class AveragedLoss(Layer):
    """A layer with one number for output and its running average: the base of losses and errors.

    Settings
    --------
    loss : str
        Name of the loss.
    ignore_average : bool
        Keep no running average.
    normalise : bool
        Average over cells and images; else the output is divided by them without having been
        multiplied by the batch size.
    opts : tuple
        Options of ``vl_nnloss``: names and values in turn.

    Attributes
    ----------
    average, num_averaged : numbers
        The running average and what it counts. They are not settings. On a GPU they may be
        arrays of shape () there, which spares a wait for the device after each forward
        (``float(layer.average)``); these are written in place.
    """

    num_inputs = (2, 2)
    # Each keeps an average of its own.
    mergeable = False

    loss: str = "softmaxlog"
    ignore_average: bool = False
    normalise: bool = True
    opts: tuple = ()
    average: Any = field(default=0.0, init=False)
    num_averaged: Any = field(default=0, init=False)

    def get_output_sizes(self, input_sizes):
        # The value is one number; MatConvNet's table gives it the batch size, and so its rows
        # can be compared with ours.
        return [Size(input_sizes[0].n, 1, 1, 1)]

    def accumulate(self, total: Any, count: Any) -> None:
        """Take ``total``, the sum of ``count`` new values, into the average; no sync on a GPU."""
        xp = get_array_module(total, count)
        if xp is not np and get_array_module(self.average) is np:
            self.average = xp.full((), self.average, np.float64)
            self.num_averaged = xp.full((), self.num_averaged, np.int64)
        seen = self.num_averaged + count
        # Before anything was counted the average stays 0.
        divisor = seen + (seen == 0)
        average = (self.num_averaged * self.average + total) / divisor
        if get_array_module(self.average) is np:
            self.average, self.num_averaged = float(average), int(seen)
        else:
            self.average[...], self.num_averaged[...] = average, seen

    def statistics(self):
        return None if self.ignore_average else {"average": float(self.average)}

    def statistics_state(self):
        return {"average": float(self.average), "num_averaged": int(self.num_averaged)}

    def load_statistics_state(self, state):
        self._set(state["average"], state["num_averaged"])

    def device_state(self):
        here = get_array_module(self.average) is np
        return [] if here else [self.average, self.num_averaged]

    def reset(self):
        self._set(0.0, 0)

    def _set(self, average: float, num_averaged: int) -> None:
        if get_array_module(self.average) is np:
            self.average, self.num_averaged = average, num_averaged
        else:
            self.average[...], self.num_averaged[...] = average, num_averaged

    def move(self, device):
        self.average = float(asnumpy(self.average))
        self.num_averaged = int(asnumpy(self.num_averaged))
