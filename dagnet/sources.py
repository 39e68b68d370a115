"""Who brings what to the sums of backward: derivatives by variables and by parameters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from .plan import Unit


@dataclass(frozen=True)
class Sources:
    """The terms of each sum, and which unit waits for which.

    Attributes
    ----------
    tasks : list of int
        Places of the units that run backward, in order.
    variables : dict of int to list
        For a variable that units read, ``(place, number of the input)`` of each reading.
    params : dict of int to list
        For a parameter, ``(place or ('family', number), number of the parameter)`` of each use.
    members : dict of int to list of int
        For a family of chains, the places of its units.
    needs : dict of int to set of int
        The units whose derivatives a unit waits for.
    """

    tasks: list[int]
    variables: dict[int, list[tuple]]
    params: dict[int, list[tuple]]
    members: dict[int, list[int]]
    needs: dict[int, set[int]]


def find_sources(units: Mapping[int, Unit], tasks: Sequence[int]) -> Sources:
    """Follow the units ``tasks``, in the order of backward."""
    found = Sources(list(tasks), {}, {}, {}, {place: set() for place in tasks})
    written = {v: place for place in tasks for v in units[place].outputs}
    for place in tasks:
        unit = units[place]
        for i, v in enumerate(unit.inputs):
            found.variables.setdefault(v, []).append((place, i))
            if v in written:
                found.needs[written[v]].add(place)
        source: Hashable = place
        if unit.family is not None:
            members = found.members.setdefault(unit.family, [])
            members.append(place)
            if len(members) > 1:
                continue
            # All calls of a family bring one term together.
            source = ("family", unit.family)
        for i, p in enumerate(unit.params):
            found.params.setdefault(p, []).append((source, i))
    return found
