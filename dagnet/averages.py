"""Figures of training: the running averages of losses, and those of several processes as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .net import DagNN


def loss_averages(stats: dict, net: DagNN) -> dict:
    """Running averages of all layers that keep one, by the name of their first output."""
    for record in net.layers:
        figures = record.block.statistics()
        if figures is not None:
            stats[record.outputs[0]] = figures["average"]
    return stats


def accumulate_stats(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figures of one epoch of several workers as one (``accumulateStats``).

    Parameters
    ----------
    parts : sequence of dict
        The figures of each worker, numbers by name, among them ``num``, how many elements it saw.

    Returns
    -------
    dict
        ``num``, the sum, and of each other figure the mean weighted by ``num``.

    Raises
    ------
    ValueError
        If no worker saw an element, or they have other figures.
    """
    names = list(parts[0]) if parts else []
    if any(set(part) != set(names) for part in parts):
        received = " and ".join(str(list(part)) for part in parts)
        raise ValueError(f"workers must have the same figures, received {received}")
    total = sum(part["num"] for part in parts)
    if not total:
        raise ValueError("no worker saw an element: there is nothing to average")
    means = {name: sum(part[name] * part["num"] for part in parts) / total for name in names}
    return {**means, "num": total}
