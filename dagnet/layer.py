"""The base of every layer, and the registry that finds a layer by the name of its type.

A layer is a small object that holds settings and knows its mathematics; it knows nothing of the
graph that it stands in. MatConvNet's ``dagnn.Layer`` (``matlab/+dagnn/Layer.m``) is the model;
what the engine does around a layer (fan-in of derivatives, freeing of memory) is in
``dagnet.execution``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from .errors import DagNNError
from .geometry import POINT, UNKNOWN, ReceptiveField, Size

Arrays = Sequence[Any]
_UNSET = object()


@dataclass(frozen=True)
class Context:
    """What a layer is told about the evaluation it takes part in.

    Attributes
    ----------
    mode : 'normal' or 'test'
        ``DagNN.mode``: batch statistics and dropout, or stored moments and no dropout.
    needs : tuple of bool, or None
        In ``backward``: which inputs' derivatives anybody will read, one entry an input. A layer
        may return ``None`` for the others and save the work. ``None`` means all.
    weights : tuple or None
        In ``backward``: for each input ``None``, or a weighting ``w`` (a number, or an array that
        broadcasts to a sample): of the derivative ``d`` only ``sum w d`` over each sample will be
        used, and any derivative with this sum will do. ``None`` means that all is used, as it is.
    rng : numpy.random.Generator or None
        In ``forward`` of a layer with ``random = True`` (dropout): a generator for this use of it.
    derivatives : bool
        In ``forward``: whether ``backward`` follows. If not, ``saved`` is thrown away, and what
        only backward needs is not worth computing.
    uses : tuple of int
        In ``backward`` of a ``FusedLayer``; see there.
    shared : any
        What ``FusedLayer.begin`` returned.
    rest : dagnet.family.Rest or None
        In ``backward`` of a ``FusedLayer``; see there.
    """

    mode: str = "normal"
    needs: tuple[bool, ...] | None = None
    weights: tuple[Any, ...] | None = None
    rng: np.random.Generator | None = None
    derivatives: bool = True
    uses: tuple[int, ...] = (1,)
    shared: Any = None
    rest: Any = None

    def needs_input(self, index: int) -> bool:
        """Whether the derivative by input ``index`` (0-based) will be read."""
        return self.needs is None or self.needs[index]

    def weight(self, index: int) -> Any:
        """The weighting of the derivative by input ``index``, or None; see ``weights``."""
        return None if self.weights is None else self.weights[index]


@dataclass(eq=False, kw_only=True)
class Layer:
    """Base class of layers. A subclass is a keyword-only dataclass whose fields are its settings.

    A subclass defines ``forward`` and ``backward`` and, where its outputs are not shaped like its
    inputs, ``get_output_sizes`` and ``get_receptive_fields``. An unknown setting is refused by
    the constructor.

    Class attributes
    ----------------
    num_inputs, num_outputs, num_params : (int, int or None)
        Least and greatest number of each; ``None`` is no limit.
    backward_uses_inputs : bool
        Whether ``backward`` reads its ``inputs``. Where no reader of a variable does, the engine
        frees the variable's value after its last use in forward. A layer that keeps what it
        needs in ``saved`` sets it to False.
    mergeable : bool
        Whether two layers of this type with the same settings, inputs and parameters compute the
        same, so that the engine may run one of them for both. Layers that keep statistics of
        their own set it to False.
    random : bool
        Whether ``forward`` draws numbers from ``context.rng``, which others do not get.
    """

    # Counts assignments to settings of layers that were planned: those plans are out of date.
    changes: ClassVar[Iterator[int]] = itertools.count(1)
    changed: ClassVar[int] = 0
    # Whether there is a plan with this layer in it; set for each by itself.
    planned = False

    type_name: ClassVar[str] = ""
    num_inputs: ClassVar[tuple[int, int | None]] = (1, 1)
    num_outputs: ClassVar[tuple[int, int | None]] = (1, 1)
    num_params: ClassVar[tuple[int, int | None]] = (0, 0)
    backward_uses_inputs: ClassVar[bool] = True
    mergeable: ClassVar[bool] = True
    random: ClassVar[bool] = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self.planned and name in _setting_names(type(self)):
            if getattr(self, name, _UNSET) is not value:
                Layer.changed = next(Layer.changes)
        object.__setattr__(self, name, value)

    def forward(self, inputs: Arrays, params: Arrays, context: Context) -> tuple[list, Any]:
        """Compute the outputs.

        Parameters
        ----------
        inputs, params : sequences of arrays
            Values of the layer's input variables and parameters, in order.
        context : Context

        Returns
        -------
        outputs : list of arrays
            One for each output variable.
        saved : any
            Handed back to ``backward`` of this same use of the layer; ``None`` if nothing is
            needed. Nothing that backward needs may be kept on ``self``: one layer object can
            stand in several places.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")

    def backward(
        self, inputs: Arrays, params: Arrays, der_outputs: Arrays, saved: Any, context: Context
    ) -> tuple[list, list]:
        """Compute derivatives of a scalar by inputs and parameters.

        Parameters
        ----------
        inputs, params : as in ``forward``
            ``inputs`` may hold ``None`` where ``backward_uses_inputs`` is False.
        der_outputs : sequence of arrays or None
            Derivatives by the outputs. ``None`` stands for zero where a layer has several
            outputs and the scalar does not depend on this one; they are never all ``None``.
        saved : any
            What ``forward`` returned.
        context : Context

        Returns
        -------
        der_inputs : list of arrays or None
            One for each input; ``None`` stands for zero.
        der_params : list of arrays or None
            One for each parameter. For a parameter of train method ``average`` (batch-norm
            moments) the new observation in place of a derivative.
        """
        raise TypeError(f"{type(self).__name__} does not define backward")

    # Geometry

    def get_output_sizes(self, input_sizes: Sequence[Size]) -> list[Size]:
        """Sizes ``(N, C, H, W)`` of the outputs from those of the inputs (NaN where unknown)."""
        return [input_sizes[0]]

    def get_receptive_fields(
        self, num_inputs: int, num_outputs: int
    ) -> list[list[ReceptiveField | None]]:
        """Receptive field of each output in each input: ``[input][output]``.

        None where an output does not depend on the values of an input.
        """
        return [[UNKNOWN] * num_outputs for _ in range(num_inputs)]

    def saved_bytes(self, input_sizes: Sequence[Size]) -> float:
        """Expected bytes of what ``forward`` keeps for ``backward``, in single precision.

        Its inputs, where ``backward_uses_inputs``, are not counted. By default nothing, or as much
        as the outputs for a layer that does without its inputs.
        """
        if self.backward_uses_inputs:
            return 0.0
        return sum(4.0 * size.count for size in self.get_output_sizes(input_sizes) if size.known)

    # Parameters

    def init_params(self, rng: np.random.Generator, dtype: Any = np.float32) -> list[np.ndarray]:
        """Draw initial values of the layer's parameters, one array for each."""
        return []

    def param_attributes(self) -> list[dict[str, Any]]:
        """Training attributes that this layer wants its parameters to start with.

        One dict for each parameter, with any of ``train_method``, ``learning_rate``,
        ``weight_decay``; missing entries keep the engine's defaults (``'gradient'``, 1, 1).
        """
        return []

    # Life in a network

    def weigh(self, input_weights: Sequence[Any], num_outputs: int) -> list[Any]:
        """How ``backward`` weighs the derivatives by outputs, of which it needs a sum alone.

        For each output ``None``, or a weighting ``w`` as ``Context`` describes it: ``backward``
        uses nothing of the derivative by this output but ``sum w d`` over each sample. Those that
        write the derivative may then save the rest.

        Parameters
        ----------
        input_weights : sequence
            The same for the derivatives by the inputs, as those that write the inputs have it.
        """
        return [None] * num_outputs

    def differentiable_inputs(self, num_inputs: int) -> tuple[bool, ...]:
        """Which inputs can receive a derivative at all under the present settings."""
        return (True,) * num_inputs

    def update_statistics(self, inputs: Arrays, outputs: Arrays) -> None:
        """Called once after each forward; losses keep their running average here."""

    def statistics(self) -> dict[str, float] | None:
        """Running averages for the training log, or None for a layer that has none."""
        return None

    def statistics_state(self) -> dict[str, float] | None:
        """What a checkpoint must hold for ``statistics`` to go on from there."""
        return None

    def load_statistics_state(self, state: dict[str, float]) -> None:
        """Go on from what ``statistics_state`` gave."""

    def device_state(self) -> list[Any]:
        """Arrays on a device that ``update_statistics`` reads and writes, in place."""
        return []

    def reset(self) -> None:
        """Forget running statistics (``DagNN.reset``)."""

    def move(self, device: str) -> None:
        """Carry constant arrays among the settings to ``device`` ('cpu' or 'gpu')."""

    # Settings

    def save(self) -> dict[str, Any]:
        """Settings by name, as given to the constructor."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of the settings that the constructor accepts."""
        return _setting_names(cls)


@cache
def _setting_names(kind: type[Layer]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.init)


@dataclass(eq=False, kw_only=True)
class ElementWise(Layer):
    """A layer whose outputs have the size of its first input, cell by cell."""

    def get_receptive_fields(self, num_inputs, num_outputs):
        return [[POINT] * num_outputs for _ in range(num_inputs)]


def _pair(value: Any, name: str) -> tuple[int, int]:
    values = tuple(int(v) for v in np.atleast_1d(value))
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or min(values) < 1:
        raise ValueError(f"{name} must be one or two positive integers, received {value!r}")
    return values


@dataclass(eq=False, kw_only=True)
class Filter(Layer):
    """A layer that slides a window over the plane (MatConvNet's ``dagnn.Filter``).

    Settings
    --------
    pad : int, (vertical, horizontal) or (top, bottom, left, right)
    stride, dilate : int or (vertical, horizontal)
    """

    pad: Any = (0, 0, 0, 0)
    stride: Any = (1, 1)
    dilate: Any = (1, 1)

    def __post_init__(self):
        pad = tuple(int(p) for p in np.atleast_1d(self.pad))
        if len(pad) == 1:
            pad *= 4
        elif len(pad) == 2:
            pad = (pad[0], pad[0], pad[1], pad[1])
        if len(pad) != 4 or min(pad) < 0:
            raise ValueError(
                "pad must be one, two or four non-negative integers (top, bottom, left, right), "
                f"received {self.pad!r}"
            )
        self.pad = pad
        self.stride = _pair(self.stride, "stride")
        self.dilate = _pair(self.dilate, "dilate")

    def get_kernel_size(self) -> tuple[int, int]:
        """Height and width of the window, in cells, before dilation."""
        return (1, 1)

    def _extent(self) -> tuple[int, int]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.get_kernel_size(), self.dilate))

    def get_output_sizes(self, input_sizes):
        n, c, h, w = input_sizes[0]
        top, bottom, left, right = self.pad
        eh, ew = self._extent()
        # np.trunc is MATLAB's fix; NaN (unknown) passes through it.
        height = np.trunc((h + top + bottom - eh) / self.stride[0]) + 1
        width = np.trunc((w + left + right - ew) / self.stride[1]) + 1
        return [Size(n, c, height, width)]

    def get_receptive_fields(self, num_inputs, num_outputs):
        eh, ew = self._extent()
        offset = (1 - self.pad[0] + (eh - 1) / 2, 1 - self.pad[2] + (ew - 1) / 2)
        field = ReceptiveField(size=(eh, ew), stride=self.stride, offset=offset)
        return [[field] * num_outputs for _ in range(num_inputs)]


_REGISTRY: dict[str, type[Layer]] = {}


def register_layer(type_name: str):
    """Class decorator: register a layer under the type name that ``.mat`` files give it.

    Raises
    ------
    DagNNError
        If another class already has this name.
    """

    def register(cls: type[Layer]) -> type[Layer]:
        known = _REGISTRY.get(type_name)
        if known is not None and _full_name(known) != _full_name(cls):
            raise DagNNError(
                f"layer type {type_name!r} is already registered by {_full_name(known)}; choose "
                f"another name for {_full_name(cls)}"
            )
        cls.type_name = type_name
        _REGISTRY[type_name] = cls
        return cls

    return register


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def layer_class(type_name: str) -> type[Layer]:
    """Return the layer class registered as ``type_name`` (``'dagnn.Conv'``, ``'CirConv'``).

    Raises
    ------
    DagNNError
        If no class has this name; the message lists those that are known.
    """
    try:
        return _REGISTRY[type_name]
    except KeyError:
        known = ", ".join(sorted(_REGISTRY)) or "none (import layers first)"
        raise DagNNError(
            f"no layer type {type_name!r} is registered; known types: {known}"
        ) from None


def registered_layers() -> dict[str, type[Layer]]:
    """All registered layer classes by type name (a copy)."""
    return dict(_REGISTRY)
