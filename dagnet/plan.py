"""What of a network is run, and in what order: equal layers once, needless ones not at all.

Layers of one type, with equal settings, that read the same variables and parameters compute the
same value. Of such a group the plan runs the first; the others' outputs are its outputs. Their
readers' derivatives add up before its one backward pass. In the unrolled network of DSiam the
template's features are computed once, not once a frame.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from .layer import Layer

if TYPE_CHECKING:
    from .net import DagNN


@dataclass(frozen=True)
class Plan:
    """The layers that an evaluation runs.

    Attributes
    ----------
    order : list of int
        Indexes of the layers to run, in order.
    copies : dict of int to list of int
        For each of them the layers that it stands for, itself first.
    shared : list of int
        For each variable the one whose value it has: its own index unless it was merged.
    pruned : list of int
        Layers that nothing asked for depends on.
    reads : list of int
        How many of the layers to run read each variable.
    needs : dict of int to set of int
        For each layer to run those that write what it reads.
    types : dict of int to str
        Type of each layer, for the summary.
    """

    order: list[int]
    copies: dict[int, list[int]]
    shared: list[int]
    pruned: list[int]
    reads: list[int]
    needs: dict[int, set[int]]
    types: dict[int, str]

    @property
    def merged(self) -> list[int]:
        """Layers that another one stands for."""
        return [copy for group in self.copies.values() for copy in group[1:]]

    @property
    def width(self) -> float:
        """How many layers can run side by side on average: layers by the longest chain of them."""
        height: dict[int, int] = {}
        for index in self.order:
            height[index] = 1 + max((height[i] for i in self.needs[index]), default=0)
        return len(self.order) / max(height.values(), default=1)

    def __str__(self) -> str:
        total = len(self.order) + len(self.merged) + len(self.pruned)
        lines = [
            f"layers {total}: {len(self.order)} are run, {len(self.merged)} are merged into one of "
            f"those, {len(self.pruned)} are not needed"
        ]
        for what, layers in (("merged", self.merged), ("not needed", self.pruned)):
            if layers:
                counts = Counter(self.types[i] for i in layers).most_common()
                lines.append(f"{what}: " + ", ".join(f"{count} {kind}" for kind, count in counts))
        return "\n".join(lines)


def make_plan(
    net: DagNN,
    *,
    outputs: Iterable[str] | None = None,
    given: Iterable[str] = (),
    merge: bool = True,
) -> Plan:
    """Plan an evaluation of a network as it stands now.

    Parameters
    ----------
    outputs : names of variables, optional
        What is asked for; by default everything that the network computes.
    given : names of variables
        Those whose values the caller brings; their own layers are not merged.
    merge : bool
        Whether equal layers are run once.

    Raises
    ------
    UnknownNameError
        If an output is not a variable.
    """
    given = {net.get_var_index(name) for name in given}
    chosen, pruned = _choose(net, outputs)
    shared = list(range(len(net.vars)))
    first: dict[Any, int] = {}
    copies: dict[int, list[int]] = {}
    for index in chosen:
        record = net.layers[index]
        alike = record.block.mergeable and not record.block.random
        if merge and alike and not given.intersection(record.output_indexes):
            signature = (
                type(record.block),
                settings_key(record.block),
                tuple(shared[v] for v in record.input_indexes),
                tuple(record.param_indexes),
                len(record.outputs),
            )
            leader = first.setdefault(signature, index)
        else:
            leader = index
        copies.setdefault(leader, []).append(index)
        for own, other in zip(record.output_indexes, net.layers[leader].output_indexes):
            shared[own] = other
    order = [index for index in chosen if index in copies]
    reads = [0] * len(net.vars)
    for index in order:
        for v in net.layers[index].input_indexes:
            reads[shared[v]] += 1
    writer = {v: index for index in order for v in net.layers[index].output_indexes}
    needs = {
        index: {writer[shared[v]] for v in net.layers[index].input_indexes if shared[v] in writer}
        for index in order
    }
    types = {i: record.type for i, record in enumerate(net.layers)}
    return Plan(order, copies, shared, pruned, reads, needs, types)


def _choose(net: DagNN, outputs: Iterable[str] | None) -> tuple[list[int], list[int]]:
    """Layers that ``outputs`` depend on, in order, and the rest."""
    order = net.get_layer_execution_order()
    if outputs is None:
        return order, []
    needed = {net.get_var_index(net.get_var(name).name) for name in outputs}
    chosen = set()
    for index in reversed(order):
        record = net.layers[index]
        if needed.intersection(record.output_indexes):
            chosen.add(index)
            needed.update(record.input_indexes)
    return [i for i in order if i in chosen], [i for i in order if i not in chosen]


def settings_key(block: Layer) -> tuple:
    """A layer's settings as something that can be compared and hashed.

    Arrays among them are equal if they are the same object.
    """
    return tuple(_freeze(getattr(block, name)) for name in _setting_names(type(block)))


@cache
def _setting_names(kind: type[Layer]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.init)


def _freeze(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(entry) for entry in value)
    if isinstance(value, dict):
        return tuple(sorted((key, _freeze(entry)) for key, entry in value.items()))
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        # True and 1 are equal in Python, and not the same setting.
        return type(value), value
    return id(value)
