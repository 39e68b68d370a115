"""Dropout, MatConvNet's ``dagnn.DropOut`` and ``vl_nndropout``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dagnet import ElementWise, get_array_module, register_layer

# Seeds of masks: below 2^53, so that a checkpoint's number, a double, holds one exactly.
SEEDS = 2**53


def dropout_mask(x: Any, rate: float, rng: np.random.Generator) -> Any:
    """A mask for ``x``: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    The kept cells are scaled up, so that the expected output is the input, and nothing is to be
    scaled when the network is used.

    Parameters
    ----------
    x : array
        Of any shape; the mask has its shape, dtype and device.
    rate : float
        In ``[0, 1)``.
    rng : numpy.random.Generator
        Numbers are drawn in single precision and on the CPU, whatever ``x`` is: the same masks
        in every precision and on every device.

    Raises
    ------
    ValueError
        If the rate is outside its range.
    """
    _check_rate(rate)
    kept = rng.random(x.shape, dtype=np.float32) >= rate
    return get_array_module(x).asarray(kept.astype(x.dtype) * x.dtype.type(1 / (1 - rate)))


def dropout(x: Any, mask: Any) -> Any:
    """``mask . x``, in the dtype of ``x``. The derivative by ``x`` is ``dropout(der_y, mask)``."""
    return mask.astype(x.dtype, copy=False) * x


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), received {rate!r}")


@register_layer("dagnn.DropOut")
@dataclass(eq=False, kw_only=True)
class DropOut(ElementWise):
    """Sets cells to 0 at random while a network is trained; in mode ``'test'`` passes them on.

    The mask comes from the generator that the evaluation hands to this use of the layer
    (``DagNN.rng``, which the training loop seeds by run, epoch and step), so a run repeats, and
    one that is resumed goes on as if it had not stopped.

    Settings
    --------
    rate : float
        Probability that a cell is set to 0, in ``[0, 1)``.
    frozen : bool
        Use the last mask again and again, and draw one only if there is none: for numerical
        derivatives. The layer keeps the mask's seed, not the mask; an input of another shape
        gets the mask that this seed gives for it.

    Notes
    -----
    As in the original, ``reset`` forgets the mask and clears ``frozen``; ``DagNN.reset`` and
    ``move`` call it, and the training loop around every epoch. A checkpoint within an epoch keeps
    a frozen mask.
    """

    backward_uses_inputs: ClassVar[bool] = False
    random: ClassVar[bool] = True

    rate: float = 0.5
    frozen: bool = False

    def __post_init__(self):
        _check_rate(self.rate)
        self.rate, self.frozen = float(self.rate), bool(self.frozen)
        self._seed: int | None = None

    def forward(self, inputs, params, context):
        (x,) = inputs
        if context.mode == "test":
            return [x], None
        if not self.frozen or self._seed is None:
            if context.rng is None:
                raise ValueError("dropout draws numbers: give a generator, Context(rng=...)")
            self._seed = int(context.rng.integers(SEEDS))
        mask = dropout_mask(x, self.rate, np.random.default_rng(self._seed))
        return [dropout(x, mask)], mask

    def backward(self, inputs, params, der_outputs, saved, context):
        (der_y,) = der_outputs
        return [der_y if saved is None else dropout(der_y, saved)], []

    def statistics_state(self):
        return {"mask_seed": self._seed} if self.frozen and self._seed is not None else None

    def load_statistics_state(self, state):
        self._seed = int(state["mask_seed"])

    def reset(self):
        self._seed = None
        self.frozen = False
