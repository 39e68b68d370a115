"""Wires of a schematic: right-angled ways from boxes in rows to boxes in rows further down.

A wire leaves its source, runs down beside or between the boxes (its trunk), turns in the channel
above the row of a target and enters the target from above. No wire passes through a box, and no
two wires run along each other: in each channel every wire that turns has a track of its own,
shared only with wires that do not come near it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]

# Inches.
TRACK = 0.085  # between neighbouring tracks of a channel
LEAD = 0.05  # above the first track
TAIL = 0.12  # below the last one: the arrow's head
GAP = 0.085  # between rows where no wire turns
PORT = 0.18  # between neighbouring entries of a box
MARGIN = 0.07  # between a wire and what is not its own
SIDE = 0.14  # from a box to a trunk beside it


@dataclass
class Box:
    """A rectangle in a row.

    Attributes
    ----------
    name : str
    row : int
    x : float
        Centre.
    width, height : float
    ordered : bool
        Whether wires enter in the order of the box's inputs; else from where they come.
    top : float
        Found by ``route``.
    """

    name: str
    row: int
    x: float
    width: float
    height: float
    ordered: bool = False
    top: float = 0.0

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


@dataclass
class Wire:
    """What runs from one box to others: ``(target, place among the target's inputs)`` each."""

    name: str
    source: str
    targets: list[tuple[str, int]]


@dataclass
class _Trunk:
    """The vertical part of a wire; ``ports`` are its entries (x) by target."""

    wire: Wire
    x: float
    side: bool
    targets: list[str]
    ports: dict[str, float] = field(default_factory=dict)
    tracks: dict[int, int] = field(default_factory=dict)


@dataclass
class Routes:
    """Where everything lies; y grows downwards.

    Attributes
    ----------
    paths : dict of (wire, target) to points
        From where the way leaves what is drawn already for the wire's targets before.
    dots : list of points
        Where a wire branches; where two wires cross there is none.
    trunks : dict of wire to x
        Of its part that reaches furthest down.
    bottom : float
        Lower end of the last row.
    """

    paths: dict[tuple[str, str], list[Point]]
    dots: list[Point]
    trunks: dict[str, float]
    bottom: float


def route(
    boxes: Iterable[Box],
    wires: Sequence[Wire],
    top: float = 0.0,
    padding: Mapping[int, float] | None = None,
) -> Routes:
    """Place rows one under the other, with room for the wires between, and lead the wires.

    Parameters
    ----------
    boxes : iterable of Box
        Their ``top`` is set. Boxes of a row must not overlap.
    wires : sequence of Wire
        Targets must lie in rows below the source's.
    top : float
        Upper end of the first row.
    padding : dict of row to height, optional
        Extra room above a row's tracks.
    """
    router = _Router({box.name: box for box in boxes})
    router.lead(wires)
    return router.place(top, padding or {})


class _Router:
    def __init__(self, boxes: dict[str, Box]):
        self.boxes = boxes
        self.rows: dict[int, list[Box]] = {}
        for box in boxes.values():
            self.rows.setdefault(box.row, []).append(box)
        self.trunks: list[_Trunk] = []

    # Across

    def lead(self, wires: Sequence[Wire]) -> None:
        """Choose x of all trunks and entries, and the tracks between them."""
        beside = []
        for wire in wires:
            source = self.boxes[wire.source]
            wall = self._wall(source)
            near = [name for name, _ in wire.targets if self.boxes[name].row <= wall]
            far = [name for name, _ in wire.targets if self.boxes[name].row > wall]
            if near:
                self.trunks.append(_Trunk(wire, source.x, False, near))
            if far:
                beside.append(_Trunk(wire, source.right + SIDE, True, far))
        for trunk in beside:
            trunk.x = self._free_column(trunk)
            self.trunks.append(trunk)
        for box in self.boxes.values():
            self._choose_ports(box)
        for row in self.rows:
            self._choose_tracks(row)

    def _wall(self, source: Box) -> float:
        """The first row below ``source`` with a box right under its middle."""
        rows = [b.row for b in self.boxes.values() if b.row > source.row and _spans(b, source.x)]
        return min(rows, default=float("inf"))

    def _last_row(self, trunk: _Trunk) -> int:
        return max(self.boxes[name].row for name in trunk.targets)

    def _free_column(self, trunk: _Trunk) -> float:
        """The first x right of the source where nothing is in a trunk's way."""
        first, last = self.boxes[trunk.wire.source].row, self._last_row(trunk)
        x = trunk.x
        while True:
            free = not any(
                _spans(box, x) for row in range(first, last) for box in self.rows.get(row, [])
            ) and not any(
                abs(other.x - x) < MARGIN
                and self.boxes[other.wire.source].row < last
                and self._last_row(other) > first
                for other in self.trunks
            )
            if free:
                return x
            x += MARGIN

    def _choose_ports(self, box: Box) -> None:
        entries = [
            (place, trunk)
            for trunk in self.trunks
            for name, place in trunk.wire.targets
            if name == box.name and name in trunk.targets
        ]
        if not entries:
            return
        step = min(PORT, (box.width - MARGIN) / len(entries))
        if box.ordered:
            entries.sort(key=lambda entry: entry[0])
            ports = _spread(box.x, len(entries), step)
            for (_, trunk), x in zip(entries, ports):
                trunk.ports[box.name] = x
            return
        trunks = sorted((trunk for _, trunk in entries), key=lambda trunk: trunk.x)
        straight = [t for t in trunks if box.left + MARGIN <= t.x <= box.right - MARGIN]
        for trunk in straight:
            trunk.ports[box.name] = trunk.x
        rest = [t for t in trunks if t not in straight]
        if not straight:
            for trunk, x in zip(rest, _spread(box.x, len(rest), step)):
                trunk.ports[box.name] = x
            return
        lefts = [t for t in reversed(rest) if t.x < box.x]
        rights = [t for t in rest if t.x >= box.x]
        low, high = straight[0].x, straight[-1].x
        left_step = min(PORT, (low - box.left) / (len(lefts) + 0.5))
        right_step = min(PORT, (box.right - high) / (len(rights) + 0.5))
        for k, trunk in enumerate(lefts, start=1):
            trunk.ports[box.name] = low - k * left_step
        for k, trunk in enumerate(rights, start=1):
            trunk.ports[box.name] = high + k * right_step

    def _distance(self, trunk: _Trunk, name: str) -> tuple[int, float]:
        return self.boxes[name].row, abs(trunk.ports[name] - trunk.x)

    def _turns(self, trunk: _Trunk, row: int) -> list[float]:
        """Entries in a row that the trunk does not meet straight."""
        ports = [trunk.ports[name] for name in trunk.targets if self.boxes[name].row == row]
        return [x for x in ports if abs(x - trunk.x) > 1e-6]

    def _choose_tracks(self, row: int) -> None:
        spans = []
        for trunk in self.trunks:
            turns = self._turns(trunk, row)
            if turns:
                spans.append((min([*turns, trunk.x]), max([*turns, trunk.x]), trunk))
        ends: list[float] = []
        for low, high, trunk in sorted(spans, key=lambda span: (span[0], span[1])):
            free = [k for k, end in enumerate(ends) if end + 2 * MARGIN < low]
            track = free[0] if free else len(ends)
            if not free:
                ends.append(high)
            ends[track] = high
            trunk.tracks[row] = track

    # Down

    def place(self, top: float, padding: Mapping[int, float]) -> Routes:
        """Choose y of everything."""
        y, channels = top, {}
        for row in sorted(self.rows):
            if channels:
                y += padding.get(row, 0)
                channels[row] = y + LEAD
                tracks = [trunk.tracks[row] + 1 for trunk in self.trunks if row in trunk.tracks]
                y += LEAD + (max(tracks) - 1) * TRACK + TAIL if tracks else GAP
            else:
                channels[row] = y
            height = max(box.height for box in self.rows[row])
            for box in self.rows[row]:
                box.top = y + (height - box.height) / 2
            y += height
        routes = Routes({}, [], {}, y)
        for trunk in self.trunks:
            self._draw(trunk, channels, routes)
        return routes

    def _draw(self, trunk: _Trunk, channels: Mapping[int, float], routes: Routes) -> None:
        source = self.boxes[trunk.wire.source]
        start = [(trunk.x, source.bottom)]
        if trunk.side:
            start = [(source.right, source.middle), (trunk.x, source.middle)]
        routes.trunks[trunk.wire.name] = trunk.x
        last = self._last_row(trunk)
        down, reached = None, {}  # how far the trunk, and each side of each row, is drawn
        for name in sorted(trunk.targets, key=lambda n: self._distance(trunk, n)):
            target, port = self.boxes[name], trunk.ports[name]
            turn = abs(port - trunk.x) > 1e-6
            y = channels[target.row] + trunk.tracks[target.row] * TRACK if turn else target.top
            side = (target.row, port > trunk.x)
            if turn and side in reached:
                points = [(reached[side], y)]
            elif down is not None:
                points = [(trunk.x, down), (trunk.x, y)] if y > down else [(trunk.x, y)]
            else:
                points = [*start, (trunk.x, y)]
            if turn:
                points += [(port, y), (port, target.top)]
                reached[side] = port
            down = y if down is None else max(down, y)
            routes.paths[trunk.wire.name, name] = points
        for row, track in trunk.tracks.items():
            y = channels[row] + track * TRACK
            turns = self._turns(trunk, row)
            low, high = min(turns), max(turns)
            straight = any(
                self.boxes[name].row == row and abs(trunk.ports[name] - trunk.x) <= 1e-6
                for name in trunk.targets
            )
            ways = (low < trunk.x) + (high > trunk.x) + (straight or last > row)
            if ways > 1:
                routes.dots.append((trunk.x, y))
            ends = (min(low, trunk.x), max(high, trunk.x))
            routes.dots += [(x, y) for x in turns if x not in ends]


def _spans(box: Box, x: float) -> bool:
    return box.left - MARGIN < x < box.right + MARGIN


def _spread(x: float, count: int, step: float) -> list[float]:
    return [x + (k - (count - 1) / 2) * step for k in range(count)]
