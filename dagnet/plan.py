"""What of a network is run, and in what order.

Equal layers once: layers of one type, with equal settings, that read the same variables and
parameters compute the same value. Of such a group the plan runs the first; the others' outputs
are its outputs, and their readers' derivatives add up before its one backward pass. In the
unrolled network of DSiam the template's features are computed once, not once a frame.

Needless layers not at all: those that nothing asked for depends on.

Chains as one: layers for which a faster joint way is known (``dagnet.fusion``) run as one unit,
and equal chains whose inputs exist at the same time as one call. Which ones those are follows
from the depth of each chain: the number of chains that its input comes through. Chains of one
depth do not depend on one another, so bringing them together makes no cycle.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import asnumpy
from .errors import DagNNError
from .fusion import Chain, FusedLayer, Surroundings, find_chains
from .geometry import Size
from .layer import Layer

if TYPE_CHECKING:
    from .net import DagNN

# Equal chains in one call: their products then have rows enough to use the filters well, and what
# the call needs beside the results stays small.
CHAINS_AT_ONCE = 4


@dataclass(frozen=True)
class Unit:
    """What is run at a time: a layer, or equal chains of layers by one ``FusedLayer``.

    Attributes
    ----------
    block : Layer
    chains : tuple of tuples of int
        The layers of each chain; a plain layer is one chain of one layer.
    inputs, outputs : tuples of int
        Indexes of the variables that hold the values, chain after chain.
    params : tuple of int
        Indexes of parameters.
    uses : tuple of int
        For each chain the number of equal ones that it stands for, itself included.
    family : int or None
        Units of fused layers with one number share prepared parameters.
    recompute : bool
        Whether forward is run again in backward, instead of keeping what backward needs.
    """

    block: Layer
    chains: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: tuple[int, ...]
    uses: tuple[int, ...]
    family: int | None = None
    recompute: bool = False

    @cached_property
    def layers(self) -> list[int]:
        """Indexes of the layers that the unit runs."""
        return [index for chain in self.chains for index in chain]


@dataclass(frozen=True)
class Plan:
    """The units that an evaluation runs.

    Attributes
    ----------
    units : list of Unit
        In order.
    needs : list of set of int
        For each unit the places of those that write what it reads.
    copies : dict of int to list of int
        For each layer to run the layers that it stands for, itself first.
    shared : list of int
        For each variable the one whose value it has: its own index unless it was merged.
    pruned : list of int
        Layers that nothing asked for depends on.
    reads : list of int
        How many times units read each variable.
    aliases : list of list of int
        For each variable those whose value it holds, itself first; empty for a merged one.
    types : dict of int to str
        Type of each layer, for the summary.
    layer_bytes : float
        Mean size of what a layer writes, in single precision; NaN where nothing is known of it.
    peak_bytes : float
        Expected memory of variables, derivatives and what layers keep, at its height, in single
        precision; NaN where the sizes of variables are not known. Parameters, and what a layer
        needs while it runs, come on top.
    notes : dict
        What evaluations found out that follows from the plan.
    """

    units: list[Unit]
    needs: list[set[int]]
    copies: dict[int, list[int]]
    shared: list[int]
    pruned: list[int]
    reads: list[int]
    aliases: list[list[int]]
    types: dict[int, str] = field(repr=False)
    layer_bytes: float = float("nan")
    peak_bytes: float = float("nan")
    notes: dict[Any, list] = field(default_factory=dict, repr=False, compare=False)

    @property
    def order(self) -> list[int]:
        """Indexes of the layers to run."""
        return [index for unit in self.units for index in unit.layers]

    @property
    def merged(self) -> list[int]:
        """Layers that another one stands for."""
        return [copy for group in self.copies.values() for copy in group[1:]]

    @property
    def fused(self) -> list[int]:
        """Layers that run as part of a chain."""
        return [i for unit in self.units if unit.family is not None for i in unit.layers]

    def __str__(self) -> str:
        merged = self.merged
        ran = len(self.order)
        lines = [
            f"layers {ran + len(merged) + len(self.pruned)}: {ran} are run, {len(merged)} are "
            f"merged into one of those, {len(self.pruned)} are not needed"
        ]
        for what, layers in (("merged", merged), ("not needed", self.pruned)):
            if layers:
                lines.append(f"{what}: {self._count(layers)}")
        chains = [unit for unit in self.units if unit.family is not None]
        if chains:
            fused = self.fused
            count = sum(len(unit.chains) for unit in chains)
            sizes = Counter(len(unit.chains) for unit in chains)
            calls = ", ".join(
                f"{number} of {size}" for size, number in sorted(sizes.items(), reverse=True)
            )
            lines += [
                f"fused: {len(fused)} layers into {count} chains ({self._count(fused)})",
                f"batched: {count} chains run in {len(chains)} calls ({calls} chains)",
            ]
        again = [unit for unit in self.units if unit.recompute]
        if again:
            count = sum(len(unit.chains) for unit in again)
            lines.append(f"recomputed in backward: {count} chains")
        lines.append(f"units: {len(self.units)}")
        if self.peak_bytes == self.peak_bytes:
            lines.append(
                f"expected peak: {self.peak_bytes / 2**20:.0f} MiB of values, derivatives and what "
                "layers keep"
            )
        return "\n".join(lines)

    def _count(self, layers: Iterable[int]) -> str:
        counts = Counter(self.types[i] for i in layers).most_common()
        return ", ".join(f"{count} {kind}" for kind, count in counts)


def make_plan(
    net: DagNN,
    *,
    outputs: Iterable[str] | None = None,
    given: Iterable[str] = (),
    seen: Collection[str] = (),
    merge: bool = True,
    present: Collection[int] | None = None,
    sizes: Mapping[str, Size] | None = None,
    device: str = "cpu",
) -> Plan:
    """Plan an evaluation of a network as it stands now.

    Parameters
    ----------
    outputs : names of variables, optional
        What is asked for; by default everything that the network computes.
    given : names of variables
        Those whose values the caller brings; their own layers are not merged.
    seen : names of variables
        Those that the caller gives a derivative for; none if there is no backward pass.
    merge : bool
        Whether equal layers are run once and chains as one; else each layer is a unit.
    present : indexes of variables, optional
        Those that have a value before the evaluation; by default all that no layer writes. Chains
        that wait for something else are not brought together with those that do not.
    sizes : dict of name to Size, optional
        Sizes of variables: where they are known, only chains of one size are brought together.
    device : 'cpu' or 'gpu'

    Raises
    ------
    UnknownNameError
        If an output is not a variable.
    """
    given = {net.get_var_index(name) for name in given}
    chosen, pruned = _choose(net, outputs)
    copies, shared = _merge(net, chosen, given, merge)
    order = [index for index in chosen if index in copies]
    aliases: list[list[int]] = [[] for _ in net.vars]
    for v, leader in enumerate(shared):
        # The leader comes first: it is not merged, so it is its own leader.
        aliases[leader].insert(0 if v == leader else len(aliases[leader]), v)
    units = [_plain(net, index, shared, copies) for index in order]
    if merge:
        visible = {
            shared[v]
            for v, variable in enumerate(net.vars)
            if variable.precious or variable.fanout == 0
        }
        visible.update(shared[net.get_var_index(name)] for name in seen)
        readers: dict[int, list[int]] = {}
        for unit in units:
            for v in unit.inputs:
                readers.setdefault(v, []).append(unit.chains[0][0])
        # By a precious variable the whole derivative is looked at: no chain passes through one.
        ends = {shared[v] for v, variable in enumerate(net.vars) if variable.precious and seen}
        around = Surroundings(
            net, order, shared, readers, visible | given, given | ends, sizes or {}
        )
        chains = [c for c in find_chains(device, around) if _alike(c, copies)]
        if chains:
            units = _fuse(net, units, chains, copies, present, sizes or {})
    reads = [0] * len(net.vars)
    for unit in units:
        for v in unit.inputs:
            reads[v] += 1
    types = {i: record.type for i, record in enumerate(net.layers)}
    units, needs = _sort(units, {index: place for place, index in enumerate(order)})
    written = [(sizes or {}).get(name) for index in order for name in net.layers[index].outputs]
    known = [4.0 * size.count for size in written if size is not None and size.known]
    layer_bytes = sum(known) / len(order) if known else float("nan")
    return Plan(units, needs, copies, shared, pruned, reads, aliases, types, layer_bytes)


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


def _merge(
    net: DagNN, chosen: list[int], given: set[int], merge: bool
) -> tuple[dict[int, list[int]], list[int]]:
    """``copies`` and ``shared`` of the plan."""
    shared = list(range(len(net.vars)))
    first: dict[Any, int] = {}
    copies: dict[int, list[int]] = {}
    for index in chosen:
        record = net.layers[index]
        alike = record.block.mergeable and not record.block.random
        leader = index
        if merge and alike and not given.intersection(record.output_indexes):
            signature = (
                type(record.block),
                settings_key(record.block),
                tuple(shared[v] for v in record.input_indexes),
                tuple(record.param_indexes),
                len(record.outputs),
            )
            leader = first.setdefault(signature, index)
        copies.setdefault(leader, []).append(index)
        for own, other in zip(record.output_indexes, net.layers[leader].output_indexes):
            shared[own] = other
    return copies, shared


def _plain(net: DagNN, index: int, shared: list[int], copies: Mapping[int, list[int]]) -> Unit:
    """A unit of one layer."""
    record = net.layers[index]
    return Unit(
        block=record.block,
        chains=((index,),),
        inputs=tuple(shared[v] for v in record.input_indexes),
        outputs=tuple(record.output_indexes),
        params=tuple(record.param_indexes),
        uses=(len(copies[index]),),
    )


def take_apart(plan: Plan, net: DagNN, unit: Unit) -> list[Unit]:
    """The layers of a unit as units of their own, in order."""
    return [_plain(net, index, plan.shared, plan.copies) for index in unit.layers]


def _fuse(
    net: DagNN,
    units: list[Unit],
    chains: list[Chain],
    copies: Mapping[int, list[int]],
    present: Collection[int] | None,
    sizes: Mapping[str, Size],
) -> list[Unit]:
    """Put chains in place of their layers, those that can run at one time in one unit."""
    by_head = {chain.layers[0]: chain for chain in chains}
    inside = {index for chain in chains for index in chain.layers}
    if present is None:
        present = {v for v, variable in enumerate(net.vars) if variable.fanin == 0}
    ready, depth = set(present), [0] * len(net.vars)
    families: dict[Any, tuple[int, FusedLayer]] = {}
    groups: dict[Any, list[Chain]] = {}
    result = []
    for unit in units:
        index = unit.chains[0][0]
        chain = by_head.get(index)
        if chain is not None:
            key = (type(chain.block), chain.block.key(), chain.params)
            family, _ = families.setdefault(key, (len(families), chain.block))
            level = depth[chain.input]
            # Chains of another size would wait for these, where they can fill what time is left.
            size = sizes.get(net.vars[chain.input].name)
            size = size if size is not None and size.known else None
            groups.setdefault((chain.input in ready, level, family, size), []).append(chain)
            outputs, runs = chain.outputs, chain.input in ready
            level += 1
        elif index in inside:
            continue
        else:
            result.append(unit)
            outputs, runs = unit.outputs, ready.issuperset(unit.inputs)
            level = max((depth[v] for v in unit.inputs), default=0)
        for v in outputs:
            depth[v] = level
            if runs:
                ready.add(v)
    blocks = dict(families.values())
    for (_, _, family, _), group in groups.items():
        for first in range(0, len(group), CHAINS_AT_ONCE):
            part = group[first : first + CHAINS_AT_ONCE]
            result.append(
                Unit(
                    block=blocks[family],
                    chains=tuple(chain.layers for chain in part),
                    inputs=tuple(chain.input for chain in part),
                    outputs=tuple(v for chain in part for v in chain.outputs),
                    params=part[0].params,
                    uses=tuple(len(copies[chain.layers[0]]) for chain in part),
                    family=family,
                )
            )
    return result


def _alike(chain: Chain, copies: Mapping[int, list[int]]) -> bool:
    """Whether each layer of a chain stands for as many layers as the others."""
    return len({len(copies[index]) for index in chain.layers}) == 1


def _sort(units: list[Unit], places: Mapping[int, int]) -> tuple[list[Unit], list[set[int]]]:
    """Units in an order in which they can run, as near as possible to that of their layers."""
    units = sorted(units, key=lambda unit: places[unit.chains[0][0]])
    writer = {v: place for place, unit in enumerate(units) for v in unit.outputs}
    needs = [{writer[v] for v in unit.inputs if v in writer} for unit in units]
    followers: list[list[int]] = [[] for _ in units]
    for place, needed in enumerate(needs):
        for other in needed:
            followers[other].append(place)
    missing = [len(needed) for needed in needs]
    ready = [place for place, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for follower in followers[place]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) != len(units):
        stuck = [units[place].block for place, count in enumerate(missing) if count]
        raise DagNNError(f"chains were brought together that depend on one another: {stuck}")
    new = {place: i for i, place in enumerate(order)}
    return [units[i] for i in order], [{new[j] for j in needs[i]} for i in order]


def condition(net: DagNN) -> tuple:
    """All of a network that the work of an evaluation depends on, besides what it is given and the
    shapes of parameters; hashable."""
    return (
        net._version,
        Layer.changed,
        tuple([record.block for record in net.layers]),
        tuple([i for i, v in enumerate(net.vars) if v.precious]),
        net.mode,
        net.conserve_memory,
        net.device,
    )


def settings_key(block: Layer) -> tuple:
    """A layer's settings as something that can be compared and hashed.

    Arrays among them are equal if their dtypes, shapes and bytes are.
    """
    return tuple(_freeze(getattr(block, name)) for name in block.setting_names())


def _freeze(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(entry) for entry in value)
    if isinstance(value, dict):
        return tuple(sorted((key, _freeze(entry)) for key, entry in value.items()))
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        # True and 1 are equal in Python, and not the same setting.
        return type(value), value
    if hasattr(value, "dtype"):
        array = np.ascontiguousarray(asnumpy(value))
        return array.dtype.str, array.shape, hashlib.blake2b(array.view(np.uint8)).digest()
    return id(value)
