"""Crop: the patch of a frame around the peak of the previous frame's response (DSiam), or around
a centre that is given.

Not to be confused with MatConvNet's ``dagnn.Crop``, which cuts one variable to the size of
another: that is ``layers.CropLike``, in ``layers/crop_like.py``. This one's type name is ``Crop``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dagnet import (
    UNKNOWN,
    Layer,
    ShapeError,
    Size,
    get_array_module,
    register_layer,
    require,
)
from dagnet.backend import constant_like

from .kernels import Kernel, choose, register

# What becomes of the derivative by a patch that was cut around a response's peak.
MODES = ("pool", "scatter", "none", "soft")
# The mode without a response: the patch lies around a centre that is given.
GIVEN = "given"
# Column of the input ``sides`` that holds the side of each kind of crop.
SIDES = {"exemplar": 0, "search": 1}


class Taps(NamedTuple):
    """Bilinear sampling along one axis: two source cells and their weights for each sample.

    ``low``, ``high`` : integer arrays (M,), clipped to the axis; ``low_weight``,
    ``high_weight`` : (M,), zero where the cell lies outside; ``low_inside``, ``high_inside`` :
    (M,), 1 inside and 0 outside, the derivatives of the weights up to sign.
    """

    low: Any
    high: Any
    low_weight: Any
    high_weight: Any
    low_inside: Any
    high_inside: Any


def axis_taps(center: Any, side: Any, size: int, length: int) -> Taps:
    """Where the ``size`` samples of a span of ``side`` cells around ``center`` fall on an axis.

    Cell ``k`` covers ``[k - 0.5, k + 0.5]``; sample ``j`` lies at
    ``center + (j - (size - 1) / 2) * side / size``.
    """
    xp = get_array_module(center)
    dtype = center.dtype
    steps = xp.arange(size, dtype=dtype) - dtype.type((size - 1) / 2)
    position = center + steps * (side / size)
    low = xp.floor(position)
    fraction = position - low
    high = low + 1
    low_inside = ((low >= 0) & (low < length)).astype(dtype)
    high_inside = ((high >= 0) & (high < length)).astype(dtype)
    return Taps(
        xp.clip(low, 0, length - 1).astype(xp.int64),
        xp.clip(high, 0, length - 1).astype(xp.int64),
        (1 - fraction) * low_inside,
        fraction * high_inside,
        low_inside,
        high_inside,
    )


def sample(image: Any, color: Any, rows: Taps, columns: Taps, out: Any) -> None:
    """Write bilinear samples of ``image`` (C, H, W), surrounded by ``color`` (C,), to ``out``.

    With ``R`` and ``K`` the sampling matrices of rows and columns, ``R (image - color) K' +
    color``: outside the image the difference is zero.
    """
    difference = _rows_then_columns(image, color, rows, columns)
    get_array_module(image).add(difference, color[:, None, None], out=out)


def _rows_then_columns(
    image: Any, color: Any, rows: Taps, columns: Taps, slope: str | None = None
) -> Any:
    """``R (image - color) K'``; with ``slope`` 'rows' or 'columns' that matrix's derivative."""
    xp = get_array_module(image)
    color = color[:, None, None]
    down, across = _span(rows), _span(columns)
    part = image[:, down, across]
    halves = []
    for cells, weights in zip((rows.low, rows.high), _weights(rows, slope == "rows")):
        half = xp.take(part, cells - down.start, axis=1).astype(weights.dtype, copy=False)
        half -= color
        half *= weights[:, None]
        halves.append(half)
    lines = xp.add(*halves, out=halves[0])
    halves = []
    for cells, weights in zip((columns.low, columns.high), _weights(columns, slope == "columns")):
        half = xp.take(lines, cells - across.start, axis=2)
        half *= weights
        halves.append(half)
    return xp.add(*halves, out=halves[0])


def _span(taps: Taps) -> slice:
    """The cells that lie between the taps, as far as that is known without asking a device."""
    if get_array_module(taps.low) is np:
        return slice(int(taps.low[0]), int(taps.high[-1]) + 1)
    return slice(0, None)


def _weights(taps: Taps, slope: bool) -> tuple[Any, Any]:
    if slope:
        return -taps.low_inside, taps.high_inside
    return taps.low_weight, taps.high_weight


def _matrix(taps: Taps, length: int) -> Any:
    """The sampling matrix of an axis, dense (M, length)."""
    xp = get_array_module(taps.low)
    cells = xp.arange(length)
    return (taps.low[:, None] == cells) * taps.low_weight[:, None] + (
        taps.high[:, None] == cells
    ) * taps.high_weight[:, None]


def _square_taps(image: Any, center: Any, side: Any, size: int) -> list[tuple[Taps, Taps]]:
    """Those of rows and columns of each sample's patch."""
    lengths = image.shape[2:]
    return [
        tuple(axis_taps(place[k], length, size, lengths[k]) for k in (0, 1))
        for place, length in zip(center, side)
    ]


def _crop(image: Any, center: Any, side: Any, color: Any, size: int) -> Any:
    """Patches (N, C, size, size) of ``side`` (N,) cells around ``center`` (N, 2)."""
    xp = get_array_module(center)
    patches = xp.empty((*image.shape[:2], size, size), center.dtype)
    for i, taps in enumerate(_square_taps(image, center, side, size)):
        sample(image[i], color[i], *taps, out=patches[i])
    return patches


def _crop_backward(
    image: Any, center: Any, side: Any, color: Any, der_patch: Any, needs_image: bool
) -> tuple[Any, Any]:
    """Derivatives of ``_crop`` by ``center`` and, if wanted, by ``image``."""
    xp = get_array_module(center)
    height, width = image.shape[2:]
    slopes, images = [], []
    for i, taps in enumerate(_square_taps(image, center, side, der_patch.shape[2])):
        for axis in ("rows", "columns"):
            slope = _rows_then_columns(image[i], color[i], *taps, slope=axis)
            slopes.append((der_patch[i] * slope).sum())
        if needs_image:
            rows, columns = (_matrix(t, n) for t, n in zip(taps, (height, width)))
            images.append(rows.T @ der_patch[i] @ columns)
    return xp.stack(slopes).reshape(-1, 2), xp.stack(images) if needs_image else None


register("crop", Kernel("reference", _crop, _crop_backward))


def _find_peak(scores: Any) -> Any:
    xp = get_array_module(scores)
    n, _, height, _ = scores.shape
    flat = xp.argmax(scores[:, 0].transpose(0, 2, 1).reshape(n, -1), axis=1)
    return xp.stack([flat % height, flat // height], axis=1)


register("find_peak", Kernel("reference", _find_peak, None))


def find_peak(scores: Any) -> Any:
    """(row, column) of the maximum of each map (N, 1, H, W), 0-based integers (N, 2).

    Ties go to the first in column-major order, as MATLAB's ``find(..., 1)`` has it.
    """
    return choose("find_peak", scores).forward(scores)


def soft_peak(scores: Any, temperature: float) -> tuple[Any, Any]:
    """Mean cell (N, 2) under ``softmax(scores / temperature)``, and those weights (N, H, W)."""
    xp = get_array_module(scores)
    logits = scores[:, 0] / scores.dtype.type(temperature)
    weights = xp.exp(logits - logits.max(axis=(1, 2), keepdims=True))
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    rows, columns = _cells(scores)
    return xp.stack(
        [(weights.sum(axis=2) * rows).sum(axis=1), (weights.sum(axis=1) * columns).sum(axis=1)],
        axis=1,
    ), weights


def _cells(scores: Any) -> tuple[Any, Any]:
    xp = get_array_module(scores)
    height, width = scores.shape[2:]
    return xp.arange(height, dtype=scores.dtype), xp.arange(width, dtype=scores.dtype)


@register_layer("Crop")
@dataclass(eq=False, kw_only=True)
class Crop(Layer):
    """Cut a square patch out of a frame, around the peak of a response (DSiam, Figure 1 of the
    supplement), or around a given centre.

    Not ``dagnn.Crop``: that is ``CropLike``.

    Inputs
    ------
    ``image, scores, center, sides, color``; without ``scores`` in mode ``given``.

    image : (N, C, H, W)
        Frame, 0 to 255; unsigned bytes or floating point.
    scores : (N, 1, h, w)
        Response map of the frame before; its dtype is that of the outputs.
    center : (N, 2)
        Position ``c`` (row, column) in frame pixels, 0-based, that the map is centred on. In mode
        ``given`` that of the patch; its dtype is then that of the outputs.
    sides : (N, 2)
        ``(s_z, s_x)``: sides in frame pixels of the exemplar and of the search region. Constant.
    color : (N, C)
        What surrounds the frame: the mean colour of the clip's first frame. Constant.

    Outputs
    -------
    patch : (N, C, size, size)
    center : (N, 2)
        ``c' = c + (peak - centre of the map) * stride * s_x / search_size``; in mode ``given``
        ``c' = c``.

    The patch is the square of side ``s`` around ``c'``, sampled bilinearly at ``size x size``
    points; what lies outside the frame has the colour ``color``. Sides are not rounded.

    The place of a maximum has no derivative, so the supplement defines one, as max-pooling does.
    With ``P`` the derivative by the patch, the derivative by ``scores`` is, by ``mode``:

    ``pool`` (the default)
        ``sum(P)`` over pixels and channels, at the peak;
    ``scatter``
        each pixel's, summed over channels, at the cell of the map that lies there (pixels beyond
        the map are left out);
    ``none``
        zero;
    ``soft`` (not in the paper)
        nothing is defined: the peak is the mean cell under ``softmax(scores / temperature)``, so
        patch and position are differentiable by ``image``, ``scores`` and ``center``, exactly.
        Only here ``center`` gives and takes a derivative.

    ``given`` (not in the paper)
        There is no response. Nothing is differentiated, ``center`` neither: it is known before
        anything is computed (the true box's, when the network is trained by teacher forcing).

    Settings
    --------
    size : int
        Side of the patch, pixels (127 or 255).
    side : 'exemplar' or 'search'
        Whether the side is ``s_z`` or ``s_x``.
    mode : str
    stride : int
        Pixels of the search crop that a cell of the map stands for.
    search_size : int
        Side of the search crop, pixels, that ``s_x`` frame pixels became.
    temperature : float
        Of the softmax in mode ``soft``, in units of the scores.
    """

    num_outputs: ClassVar[tuple[int, int]] = (2, 2)
    backward_uses_inputs: ClassVar[bool] = False

    size: int = 255
    side: str = "search"
    mode: str = "pool"
    stride: int = 8
    search_size: int = 255
    temperature: float = 0.1

    def __post_init__(self):
        if self.mode not in (*MODES, GIVEN):
            raise ValueError(f"mode must be one of {(*MODES, GIVEN)}, received {self.mode!r}")
        if self.side not in SIDES:
            raise ValueError(f"side must be one of {tuple(SIDES)}, received {self.side!r}")
        for name in ("size", "stride", "search_size", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, received {getattr(self, name)!r}")

    @property
    def num_inputs(self) -> tuple[int, int]:
        return (4, 4) if self.mode == GIVEN else (5, 5)

    def differentiable_inputs(self, num_inputs):
        if self.mode == "soft":
            return (True, True, True, False, False)
        passes_on = self.mode in ("pool", "scatter")
        return tuple(passes_on and i == 1 for i in range(num_inputs))

    def weigh(self, input_weights, num_outputs):
        # The patch's derivative, summed over pixels and channels; the centre has none.
        return [1.0 if self.mode == "pool" else None, None]

    def forward(self, inputs, params, context):
        _check_inputs(inputs, self.mode == GIVEN)
        if self.mode == GIVEN:
            image, center, sides, color = inputs
            sides, color = (a.astype(center.dtype, copy=False) for a in (sides, color))
            _require_finite(center, "the given centre")
            return [self._cut(image, center, sides, color), center.copy()], None
        image, scores, center, sides, color = inputs
        dtype = scores.dtype
        center, sides, color = (a.astype(dtype, copy=False) for a in (center, sides, color))
        weights = None
        if self.mode == "soft":
            peak, weights = soft_peak(scores, self.temperature)
        else:
            peak = find_peak(scores)
        moved = center + (peak.astype(dtype, copy=False) - _middle(scores)) * self._cell(sides)
        if self.mode == "soft":  # of the others a peak is a cell, whatever the scores are
            _require_finite(moved, "the mean cell of the response")
        patch = self._cut(image, moved, sides, color)
        saved = {"shape": scores.shape, "peak": peak, "moved": moved, "center": center}
        saved |= {"sides": sides, "weights": weights, "image_size": image.shape[2:]}
        if self.mode == "soft":
            saved |= {"image": image, "color": color}
        return [patch, moved], saved

    def backward(self, inputs, params, der_outputs, saved, context):
        der_patch, der_center = der_outputs
        none = [None] * len(inputs)
        if self.mode in ("none", GIVEN) or (self.mode != "soft" and der_patch is None):
            return none, []
        if self.mode == "soft":
            return self._backward_soft(der_patch, der_center, saved, context), []
        place = self._pool if self.mode == "pool" else self._scatter
        return [None, place(der_patch, saved), None, None, None], []

    def get_output_sizes(self, input_sizes):
        n, c = input_sizes[0][:2]
        return [Size(n, c, self.size, self.size), Size(n, 2, 1, 1)]

    def saved_bytes(self, input_sizes):
        # Positions and, in mode soft, a map of weights; frames live anyway.
        return 0.0

    def get_receptive_fields(self, num_inputs, num_outputs):
        # Where the patch lies depends on the map, so no fixed field exists.
        return [[UNKNOWN] * num_outputs for _ in range(num_inputs)]

    def _cut(self, image: Any, moved: Any, sides: Any, color: Any) -> Any:
        """Patches (N, C, size, size) around ``moved``."""
        side = sides[:, SIDES[self.side]]
        return choose("crop", moved).forward(image, moved, side, color, self.size)

    def _cell(self, sides: Any) -> Any:
        """Frame pixels that a cell of the map stands for, (N, 1)."""
        return sides[:, 1:2] * (self.stride / self.search_size)

    def _pool(self, der_patch: Any, saved: dict) -> Any:
        xp = get_array_module(der_patch)
        der_scores = xp.zeros(saved["shape"], dtype=der_patch.dtype)
        samples = xp.arange(len(der_patch))
        peak = saved["peak"]
        der_scores[samples, 0, peak[:, 0], peak[:, 1]] = der_patch.sum(axis=(1, 2, 3))
        return der_scores

    def _scatter(self, der_patch: Any, saved: dict) -> Any:
        """``A' Q B``: ``Q`` the derivative summed over channels, ``A`` and ``B`` the matrices
        that tell which cell of the map a row or column of the patch lies in."""
        xp = get_array_module(der_patch)
        cell = self._cell(saved["sides"])
        side = saved["sides"][:, SIDES[self.side]]
        steps = xp.arange(self.size, dtype=der_patch.dtype) - (self.size - 1) / 2
        der_scores = xp.zeros(saved["shape"], dtype=der_patch.dtype)
        for i, total in enumerate(der_patch.sum(axis=1)):
            hits = []
            for axis, length in enumerate(saved["shape"][2:]):
                position = saved["moved"][i, axis] + steps * (side[i] / self.size)
                place = (position - saved["center"][i, axis]) / cell[i] + (length - 1) / 2
                nearest = xp.floor(place + 0.5)
                hits.append((nearest[:, None] == xp.arange(length)).astype(der_patch.dtype))
            der_scores[i, 0] = hits[0].T @ total @ hits[1]
        return der_scores

    def _backward_soft(self, der_patch: Any, der_center: Any, saved: dict, context: Any) -> list:
        """Derivatives by image, scores and center.

        With ``D = image - color``, ``patch = R D K' + color``, and ``R'`` written for the
        derivative of ``R`` by the position: the derivative by the position's row is
        ``sum(P . (R' D K'))``, by its column ``sum(P . (R D K''))``, by the image ``R^T P K``.
        The position is ``c + k (E[cell] - middle)`` with ``k`` pixels a cell, so the derivative
        by ``c`` is that by the position, ``g``, and the derivative by ``scores`` is
        ``k/temperature . weight . ((cell - E[cell]) . g)``.
        """
        weights, peak = saved["weights"], saved["peak"]
        xp = get_array_module(weights)
        dtype = weights.dtype
        moved = saved["moved"]
        der_moved = xp.zeros_like(moved) if der_center is None else der_center.astype(dtype)
        der_image = None
        if der_patch is not None:
            sides = saved["sides"][:, SIDES[self.side]]
            place = (saved["image"], moved, sides, saved["color"])
            kernel = choose("crop", moved)
            slopes, der_image = kernel.backward(*place, der_patch, context.needs_input(0))
            der_moved = der_moved + slopes
        rows, columns = _cells(weights[:, None])
        pull = der_moved * self._cell(saved["sides"]) / dtype.type(self.temperature)
        along = (rows - peak[:, :1]) * pull[:, :1]
        across = (columns - peak[:, 1:]) * pull[:, 1:]
        der_scores = (weights * (along[:, :, None] + across[:, None, :]))[:, None]
        return [der_image, der_scores, der_moved, None, None]


def _middle(scores: Any) -> Any:
    return constant_like(scores, _map_middle, *scores.shape[2:], scores.dtype.char)


def _map_middle(height: int, width: int, dtype: str) -> np.ndarray:
    return np.array([(height - 1) / 2, (width - 1) / 2], dtype=dtype)


def _require_finite(place: Any, what: str) -> None:
    """Refuse positions that are NaN or infinite."""
    require(
        get_array_module(place).isfinite(place),
        lambda: ValueError(
            f"{what} is not finite, so no patch lies there: if this is a training that has "
            "diverged, go on from an earlier checkpoint with a lower learning rate"
        ),
    )


def _check_inputs(inputs: Any, given: bool) -> None:
    """Refuse inputs that do not belong together; ``given``: there is no response among them."""
    image = inputs[0]
    if image.ndim != 4:
        raise ShapeError(f"a frame must be (N, C, H, W), received {image.shape}", input=0)
    n, channels = image.shape[:2]
    wanted = [
        ((n, 2), "a position (row, column)"),
        ((n, 2), "the sides (s_z, s_x)"),
        ((n, channels), "a colour for each sample"),
    ]
    if not given:
        wanted.insert(0, ((n, 1, None, None), "a response map"))
    for place, (array, (lengths, meaning)) in enumerate(zip(inputs[1:], wanted), start=1):
        if array.ndim != len(lengths) or any(
            w is not None and w != s for w, s in zip(lengths, array.shape)
        ):
            shape = ", ".join("any" if w is None else str(w) for w in lengths)
            raise ShapeError(
                f"{meaning} must have shape ({shape}) for frames {image.shape}, "
                f"received {array.shape}",
                input=place,
            )
    if given and inputs[1].dtype.kind != "f":
        raise TypeError(
            "a given center must be of floating point, its precision is the patch's; received "
            f"{inputs[1].dtype}"
        )
