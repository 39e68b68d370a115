"""Memory that an evaluation is expected to take, and how to fit it into a budget.

Counted are values of variables, derivatives, and what layers keep for backward, in single
precision, for the plan's units one after the other. Not counted are parameters and their
derivatives, and what a layer needs only while it runs.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .errors import DagNNError
from .geometry import Size
from .plan import Plan, Unit
from .printing import BYTES

if TYPE_CHECKING:
    from .net import DagNN


def variable_bytes(net: DagNN, sizes: Mapping[str, Size]) -> list[float]:
    """Bytes of each variable; 0 where the size is not known."""
    known = (sizes.get(v.name) for v in net.vars)
    return [BYTES * z.count if z is not None and z.known else 0.0 for z in known]


def saved_bytes(net: DagNN, unit: Unit, sizes: Mapping[str, Size]) -> float:
    """Bytes that a unit's forward keeps for its backward, besides variables that live anyway."""
    read = [sizes[net.vars[v].name] for v in unit.inputs]
    if not all(size.known for size in read):
        return 0.0
    if unit.family is None:
        return unit.block.saved_bytes(read)
    return sum(unit.block.saved_bytes([size]) for size in read)


def expected_peak(
    net: DagNN, plan: Plan, sizes: Mapping[str, Size], derivatives: bool = True
) -> float:
    """Expected bytes at the height of an evaluation, forward and (with ``derivatives``) backward.

    Parameters
    ----------
    plan : Plan
    sizes : dict of name to Size
        Of all variables; those not known count nothing.
    """
    count = variable_bytes(net, sizes)
    saved = [0.0 if unit.recompute else saved_bytes(net, unit, sizes) for unit in plan.units]
    kept = {
        v
        for unit in plan.units
        if derivatives and (unit.block.backward_uses_inputs or unit.recompute)
        for v in unit.inputs
    }
    stays = {v for v, variable in enumerate(net.vars) if variable.precious or not variable.fanout}
    alive = sum(count[v] for v, variable in enumerate(net.vars) if variable.fanin == 0)
    peak, reads = alive, list(plan.reads)
    freed: set[int] = set()
    for unit, keeps in zip(plan.units, saved):
        alive += sum(count[v] for v in unit.outputs) + (keeps if derivatives else 0.0)
        peak = max(peak, alive)
        for v in unit.inputs:
            reads[v] -= 1
            if reads[v] == 0 and v not in kept | stays and net.vars[v].fanin:
                alive -= count[v]
                freed.add(v)
    if not derivatives:
        return peak
    written = {v for unit in plan.units for v in unit.outputs}
    differentiated: set[int] = set()
    for unit, keeps in zip(reversed(plan.units), reversed(saved)):
        again = saved_bytes(net, unit, sizes) if unit.recompute else 0.0
        new = {v for v in unit.inputs if v in written} - differentiated
        differentiated |= new
        alive += sum(count[v] for v in new)
        peak = max(peak, alive + again)
        alive -= keeps
        for v in unit.outputs:
            alive -= count[v] if v in differentiated else 0.0
            alive -= count[v] if v not in freed | stays else 0.0
    return peak


def fit(net: DagNN, plan: Plan, sizes: Mapping[str, Size], budget: float | None) -> Plan:
    """Note the expected peak in a plan; run chains again in backward until it is in the budget.

    Those that come first are chosen first: what they keep waits for backward the longest.

    Raises
    ------
    DagNNError
        If the budget cannot be met.
    """
    peak = expected_peak(net, plan, sizes)
    if budget is None or peak <= budget:
        return dataclasses.replace(plan, peak_bytes=peak or float("nan"))
    chosen = [
        place
        for place, unit in enumerate(plan.units)
        if not unit.block.random and saved_bytes(net, unit, sizes)
    ]

    def with_first(count: int) -> Plan:
        units = list(plan.units)
        for place in chosen[:count]:
            units[place] = dataclasses.replace(units[place], recompute=True)
        changed = dataclasses.replace(plan, units=units)
        return dataclasses.replace(changed, peak_bytes=expected_peak(net, changed, sizes))

    # The more is run again, the lower the peak: a search in halves tries few of the counts.
    count = bisect_left(range(len(chosen) + 1), -budget, key=lambda n: -with_first(n).peak_bytes)
    if count <= len(chosen):
        return with_first(count)
    peak = with_first(len(chosen)).peak_bytes
    raise DagNNError(
        f"a memory budget of {budget / 2**20:.0f} MiB cannot be met: with everything that can be "
        f"run again in backward, {peak / 2**20:.0f} MiB are expected for values, derivatives and "
        "what layers keep; use a larger budget, fewer frames or smaller images"
    )
