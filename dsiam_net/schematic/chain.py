"""The frames of an unrolled network as a chain of boxes."""

from __future__ import annotations

from dagnet import DagNN

from ..listing import crop_frames, crop_places, frame_layers, frames_of_variables, unrolled_meta
from .page import PALE, SMALL, TEXT, Page
from .routing import Box, Wire, route

# Inches: a frame's box, the first one's centre, and from one to the next.
BOX = (0.86, 0.36)
FIRST, PITCH = 2.6, 1.41
PILL = 0.18
# Frames in a row.
LENGTH = 10
SHADE, HIGHLIGHT = "#F3F3F3", "#FFF4D6"


class Chain:
    """The frames as boxes, and what goes into each, out of it, and from one to the next."""

    def __init__(self, net: DagNN, chosen: int):
        self.net = net
        self.chosen = chosen
        self.frames = unrolled_meta(net)["frames"]
        self.writer, self.readers = frames_of_variables(net)
        numbers = range(1, self.frames + 1)
        self.images = {v for t in numbers for v in crop_frames(net, t)}
        self.handed = {t: crop_places(net, t) for t in numbers}
        handed = {v for variables in self.handed.values() for v in variables}
        self.losses = {
            t: [r for r in frame_layers(net, t) if f"score{t}" in r.inputs] for t in numbers
        }
        late = {v for losses in self.losses.values() for r in losses for v in r.inputs}
        known = self.images | handed | late
        self.shared = [v for v in net.get_inputs() if v not in known]

    def draw(self, page: Page, top: float) -> float:
        """Draw rows of frames from ``top`` on; returns their lower end."""
        for first in range(1, self.frames + 1, LENGTH):
            numbers = range(first, min(first + LENGTH, self.frames + 1))
            top = self._draw_row(page, numbers, top) + 0.1
        return top

    def _draw_row(self, page: Page, numbers: range, top: float) -> float:
        def x(t: int) -> float:
            return FIRST + PITCH * (t - numbers[0])

        boxes = {f"chain{t}": Box(f"chain{t}", 1, x(t), *BOX) for t in numbers}
        wires = []
        pills = {",".join(self.shared): 1.0}
        for image in sorted(self.images, key=lambda v: min(self.readers[v])):
            if self.readers[image].intersection(numbers):
                # A frame that the row before reads as well stands left of the first.
                own = max(min(self.readers[image]), numbers[0] - 0.5)
                pills[image] = FIRST + PITCH * (own - numbers[0])
        for name, center in pills.items():
            text = name.replace(",", ", ")
            boxes[name] = Box(name, 0, center, page.pill_width(text), PILL)
            readers = set().union(*(self.readers[v] for v in name.split(",")))
            wires.append(Wire(name, name, [(f"chain{t}", 0) for t in numbers if t in readers]))
        routes = route(boxes.values(), wires, top)
        page.wires(routes, "chain:")
        for name in pills:
            page.pill(boxes[name], name.replace(",", ", "))
        for t in numbers:
            self._draw_frame(page, t, boxes[f"chain{t}"], last=t == numbers[-1])
        return routes.bottom + 0.5

    def _draw_frame(self, page: Page, t: int, box: Box, last: bool) -> None:
        chosen = t == self.chosen
        page.box(box, HIGHLIGHT if chosen else SHADE, f"chain{t}", 1.8 if chosen else 0.8)
        page.text(box.x, box.middle - 0.07, f"frame {t}", TEXT + 1, "center", weight="bold")
        count = len(frame_layers(self.net, t))
        page.text(box.x, box.middle + 0.09, f"{count} layers", SMALL, "center", color=PALE)
        self._draw_handed(page, t, box.left - PITCH + BOX[0], box.left, box.middle)
        if last and t < self.frames:
            end = box.right + PITCH - BOX[0]
            self._draw_handed(page, t + 1, box.right, end, box.middle)
        # Labels come in once the crops are known; losses and errors go out.
        inputs = [v for r in self.losses[t] for v in r.inputs if v not in self.writer]
        outputs = [v for r in self.losses[t] for v in r.outputs]
        low, high = box.bottom, box.bottom + 0.14
        for x, names, ends in (
            (box.x - 0.33, dict.fromkeys(inputs), (high, low)),
            (box.x + 0.3, outputs, (low, high)),
        ):
            page.wire([(x, y) for y in ends], f"chain:{','.join(names)}")
            for k, name in enumerate(names):
                page.text(x, high + 0.07 + 0.1 * k, name, SMALL - 0.4, "center")

    def _draw_handed(self, page: Page, t: int, left: float, right: float, y: float) -> None:
        """The arrow into frame ``t`` with what the frame before hands on.

        A given centre, in which the frame before has no part, comes from halfway.
        """
        names = self.handed[t]
        middle = (left + right) / 2
        start, lines = left, names
        if len(names) == 1:
            word, line, rest = names[0].partition("_")
            start, lines = middle, (word + line, rest)
        page.wire([(start, y), (right, y)], f"chain:{','.join(names)}")
        for text, place in zip(lines, (y - 0.08, y + 0.08)):
            page.text(middle - 0.03, place, text, SMALL, "center")
