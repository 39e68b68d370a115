"""Chains of layers that are computed as one: what the plan runs in their place.

A package that has a faster way through several layers registers a function that finds them in a
network; nothing else in a network, in a layer or in a user's program knows of it. What runs in
their place is a ``FusedLayer``, which takes several equal chains at once: the engine brings
together those whose inputs exist at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .geometry import Size
from .layer import Arrays, Context, Layer

if TYPE_CHECKING:
    from .net import DagNN


class FusedLayer(Layer):
    """What runs in place of a chain of layers, for one or several equal chains in one call.

    For ``B`` chains of ``K`` outputs each, ``forward`` takes ``B`` inputs, which may differ in
    shape, and returns ``B * K`` outputs, the first chain's first. ``backward`` takes as many
    derivatives (``None`` for zero) and returns ``(der_inputs, part)``: what the call adds to the
    derivatives by the parameters, in a form of its own. Parts are added up by ``add`` over all
    calls of an evaluation, in a fixed order, and ``finish`` turns the sum into derivatives.

    In both, ``context.shared`` is what ``begin`` made, once for an evaluation, of the parameters.
    In ``backward``, ``context.uses[b]`` tells of how many layers' uses chain ``b`` is the one that
    is run: observations for parameters of train method ``average`` (moments) count that often,
    derivatives do not.

    In ``backward`` of the call that completes the derivatives, ``context.rest`` is not None where
    they are sent to other processes. The layer may hand over each as soon as it knows it, so
    that it travels while the rest is computed: ``dagnet.family.Rest``.

    ``saved_bytes`` is asked for one chain, with the size of its input.

    Outputs and derivatives are those of running the layers in turn, to rounding.
    """

    def key(self) -> tuple:
        """Settings as something that can be compared: equal layers have equal keys."""
        raise TypeError(f"{type(self).__name__} does not define key")

    def begin(self, params: Arrays, context: Context) -> Any:
        """Prepare what all calls of an evaluation share; called before the first, once."""
        return None

    def recall(self, inputs: Arrays, params: Arrays, context: Context) -> Any:
        """What ``forward`` keeps for backward, made a second time; nobody asks for outputs."""
        return self.forward(inputs, params, context)[1]

    def add(self, total: Any, part: Any) -> Any:
        """``total + part``, in place where that is possible; neither is None."""
        raise TypeError(f"{type(self).__name__} does not define add")

    def finish(self, total: Any, params: Arrays, shared: Any, context: Context) -> list:
        """Derivatives by the parameters (or observations) from the sum of all parts."""
        raise TypeError(f"{type(self).__name__} does not define finish")


@dataclass(frozen=True)
class Chain:
    """Layers that a ``FusedLayer`` can run.

    Attributes
    ----------
    layers : tuple of int
        Indexes of the layers, in order.
    block : FusedLayer
    input : int
        Index of the one variable that the chain reads.
    outputs : tuple of int
        Indexes of the variables that it gives: all of its variables that are ``visible``.
    params : tuple of int
        Indexes of its parameters, in the order in which ``block`` takes them.
    """

    layers: tuple[int, ...]
    block: FusedLayer
    input: int
    outputs: tuple[int, ...]
    params: tuple[int, ...]


@dataclass(frozen=True)
class Surroundings:
    """What a finder is told about a network.

    Attributes
    ----------
    net : DagNN
    order : sequence of int
        Indexes of the layers that will run, in order.
    shared : sequence of int
        For each variable the index of the one that holds its value.
    readers : dict of int to list of int
        For a variable (one that holds a value) the layers to run that read it.
    visible : set of int
        Variables whose value somebody besides those readers looks at, or that the caller gives.
        A chain may pass through them, if they are among its outputs, but not through ``given``.
    given : set of int
        Variables at which a chain ends: the caller gives their value, or looks at the whole
        derivative by them.
    sizes : dict of str to Size
        Of variables, by name, as far as they are known.
    """

    net: DagNN
    order: Sequence[int]
    shared: Sequence[int]
    readers: Mapping[int, list[int]]
    visible: set[int]
    given: set[int]
    sizes: Mapping[str, Size] = field(default_factory=dict)


Finder = Callable[[Surroundings], list[Chain]]
_FINDERS: dict[str, list[Finder]] = {}


def register_finder(device: str) -> Callable[[Finder], Finder]:
    """Function decorator: find chains with it in networks on ``device`` ('cpu' or 'gpu')."""

    def register(finder: Finder) -> Finder:
        finders = _FINDERS.setdefault(device, [])
        if finder not in finders:
            finders.append(finder)
        return finder

    return register


def find_chains(device: str, around: Surroundings) -> list[Chain]:
    """Chains of a network on ``device``, no two with a layer in common; earlier finders first."""
    chains: list[Chain] = []
    taken: set[int] = set()
    for finder in _FINDERS.get(device, ()):
        for chain in finder(around):
            if taken.isdisjoint(chain.layers):
                chains.append(chain)
                taken.update(chain.layers)
    return chains
