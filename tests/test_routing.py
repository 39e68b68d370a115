"""Tests of dsiam_net.schematic.routing."""

import itertools

import numpy as np
import pytest

from dsiam_net.schematic import Box, Wire, route


def segments(points):
    return list(itertools.pairwise(points))


def crosses(box: Box, start, end) -> bool:
    """Whether a segment runs through the inside of a box."""
    (x0, y0), (x1, y1) = start, end
    return (
        max(x0, x1) > box.left + 1e-6
        and min(x0, x1) < box.right - 1e-6
        and max(y0, y1) > box.top + 1e-6
        and min(y0, y1) < box.bottom - 1e-6
    )


def run_together(a, b) -> bool:
    """Whether two right-angled segments share more than a point."""
    for axis in (0, 1):
        other = 1 - axis
        if a[0][axis] == a[1][axis] and b[0][axis] == b[1][axis]:
            low = max(min(p[other] for p in s) for s in (a, b))
            high = min(max(p[other] for p in s) for s in (a, b))
            if abs(a[0][axis] - b[0][axis]) < 1e-6 and high - low > 1e-6:
                return True
    return False


def test_a_straight_wire_goes_from_bottom_to_top():
    boxes = [Box("a", 0, 2, 1, 0.2), Box("b", 1, 2.2, 1, 0.2)]
    routes = route(boxes, [Wire("w", "a", [("b", 0)])], top=1)
    assert boxes[0].top == 1 and boxes[1].top > boxes[0].bottom
    assert routes.paths["w", "b"] == [(2, boxes[0].bottom), (2, boxes[1].top)]
    assert routes.dots == [] and routes.bottom == boxes[1].bottom


def test_a_wire_turns_once_in_the_channel_above_its_target():
    boxes = [Box("a", 0, 0, 1, 0.2), Box("b", 1, 3, 1, 0.2)]
    (start, turn, over, end) = route(boxes, [Wire("w", "a", [("b", 0)])]).paths["w", "b"]
    assert start == (0, boxes[0].bottom) and end == (3, boxes[1].top)
    assert turn[0] == 0 and over[0] == 3 and turn[1] == over[1]
    assert boxes[0].bottom < turn[1] < boxes[1].top


def test_a_wire_past_a_box_leaves_at_the_side():
    boxes = [Box(n, k, 1, 1, 0.2) for k, n in enumerate("abc")]
    routes = route(boxes, [Wire("w", "a", [("b", 0), ("c", 0)])])
    path = routes.paths["w", "c"]
    assert path[0] == (boxes[0].right, boxes[0].middle)
    assert path[1][0] > boxes[1].right
    assert not any(crosses(boxes[1], *segment) for segment in segments(path))
    assert path[-1] == (pytest.approx(routes.paths["w", "c"][-2][0]), boxes[2].top)
    assert routes.trunks["w"] == path[1][0]


def test_entries_are_in_the_order_of_where_wires_come_from_or_of_inputs():
    def entries(ordered):
        boxes = [Box(n, 0, 3 * k, 1, 0.2) for k, n in enumerate("abc")]
        boxes.append(Box("t", 1, 3, 1.5, 0.2, ordered))
        wires = [Wire(n, n, [("t", place)]) for n, place in zip("abc", (2, 1, 0))]
        routes = route(boxes, wires)
        return [routes.paths[n, "t"][-1][0] for n in "abc"]

    assert entries(False) == sorted(entries(False)) and entries(False)[1] == 3
    assert entries(True) == sorted(entries(True), reverse=True)


def test_a_dot_stands_where_a_wire_branches_and_nowhere_else():
    boxes = [Box("a", 0, 0, 1, 0.2), Box("x", 0, 4, 1, 0.2)]
    boxes += [Box(n, 1, 2 * k, 1, 0.2) for k, n in enumerate("bcd")]
    one = route(boxes, [Wire("w", "a", [("d", 0)])])
    assert one.dots == []
    routes = route(boxes, [Wire("w", "a", [(n, 0) for n in "bcd"])])
    y = routes.paths["w", "d"][-2][1]
    # At the trunk, which goes straight on into b, and above c; the way ends at d.
    assert sorted(routes.dots) == [(0, pytest.approx(y)), (2, pytest.approx(y))]


def test_later_branches_begin_where_they_leave_the_wire():
    boxes = [Box("a", 0, 0, 1, 0.2)] + [Box(n, 1, 2 * k, 1, 0.2) for k, n in enumerate("bcd")]
    paths = route(boxes, [Wire("w", "a", [(n, 0) for n in "bcd"])]).paths
    drawn = [s for points in paths.values() for s in segments(points)]
    assert not any(run_together(a, b) for a, b in itertools.combinations(drawn, 2))


@pytest.mark.parametrize("seed", range(10))
def test_no_wire_touches_a_box_or_runs_along_another(seed):
    rng = np.random.default_rng(seed)
    count, depth = 5, 6
    # Columns a little apart, so that no two trunks begin at the same x.
    boxes = {
        (row, k): Box(f"{row},{k}", row, 2 * k + 0.11 * row, 1.2, 0.2)
        for row in range(depth)
        for k in range(count)
        if row in (0, depth - 1) or rng.random() < 0.6
    }
    wires = []
    free = {(row, k): 0 for row, k in boxes}
    for (row, k), box in boxes.items():
        below = [key for key in boxes if key[0] > row and free[key] < 3]
        chosen = rng.permutation(len(below))[: rng.integers(1, 3)]
        targets = [(boxes[below[i]].name, free[below[i]]) for i in chosen]
        for i in chosen:
            free[below[i]] += 1
        if targets:
            wires.append(Wire(f"w{row},{k}", box.name, targets))
    routes = route(boxes.values(), wires)
    assert len(routes.paths) == sum(len(wire.targets) for wire in wires)
    lines = [(w, s) for (w, _), points in routes.paths.items() for s in segments(points)]
    for (_, _), points in routes.paths.items():
        for start, end in segments(points):
            assert start[0] == end[0] or start[1] == end[1]
    for _, segment in lines:
        assert not any(crosses(box, *segment) for box in boxes.values())
    for (a, first), (b, second) in itertools.combinations(lines, 2):
        assert a == b or not run_together(first, second)
