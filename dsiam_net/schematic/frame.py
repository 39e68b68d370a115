"""One frame of an unrolled network with all its layers.

Layers, variables, parameters and wires are read from the network; what this module knows is where
on the page each kind of layer stands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from dagnet import DagNN, Filter, LayerRecord
from layers.crop import GIVEN

from ..listing import (
    branch_layers,
    branch_of,
    crop_frames,
    feature_names,
    frame_layers,
    frames_of_variables,
    input_sizes,
    parameter_shapes,
    short_type,
)
from ..unrolled import BRANCHES
from .page import PALE, SMALL, TEXT, Page
from .routing import PORT, Box, Routes, Wire, route

# Paul Tol's light colours, made for cells with text, and paler ones.
COLORS = {
    "Crop": "#EE8866",
    "Eltwise": "#F6C4B2",
    "Conv": "#77AADD",
    "BatchNorm": "#C9E4F7",
    "ReLU": "#F5ECC0",
    "Pooling": "#DDDDDD",
    "RLR": "#FFAABB",
    "CirConv": "#BBCC33",
    "XCorr": "#44BB99",
    "Elefusion": "#99DDFF",
    "Loss": "#EEDD88",
    "centerThrErr": "#F7F3DC",
    "MaxScoreErr": "#FFFFFF",
}
OTHER_COLOR = "#CCBBDD"
SHADE = "#F3F3F3"

# Inches: boxes of layers, pills of variables, and the grid of a frame.
BRANCH_BOX = (1.56, 0.185)
CROP_BOX = (1.3, 0.2)
LEARNED_BOX = (1.1, 0.2)
PILL = 0.18
SLOT = 1.22  # from one feature layer's box to the next one's
COLUMN = 2.75  # from one branch to the next
FIRST_COLUMN = 3.1
NOTES = 1.82  # width of the notes left of the branches

BRANCH_TITLES = {
    "o1": "O₁: the template",
    "o": "O: target in frame {before}",
    "g": "G: surroundings in frame {before}",
    "gbar": "Ḡ: the same without background",
    "z": "Z: search region of frame {now}",
}
STAGES = {
    "Crop": "cut around the peak of the response before",
    "RLR": "learn V (from O₁ to O) and W (from G to Ḡ)",
    "CirConv": "apply V to O₁, and W to Z",
    "XCorr": "correlate: a response for each feature layer",
}
CROP_AT_GIVEN_CENTER = "cut around the given centre"


def times(numbers: Iterable[object]) -> str:
    """``96×3×11×11``."""
    return "×".join(map(str, numbers))


class Frame:
    """One frame with all its layers."""

    def __init__(self, net: DagNN, t: int):
        self.net, self.t = net, t
        self.records = frame_layers(net, t)
        self.sizes = net.get_var_sizes(input_sizes(net))
        self.shapes = parameter_shapes(net)
        self.writer, self.readers = frames_of_variables(net)
        self.levels = feature_names(net, t)
        self.depth = max(len(branch_layers(net, t, branch)) for branch in BRANCHES)
        column = max(COLUMN, 0.1 + SLOT * len(self.levels))
        self.columns = {b: FIRST_COLUMN + column * k for k, b in enumerate(BRANCHES)}
        self.boxes: dict[str, Box] = {}
        self.pills: dict[str, str] = {}  # name of the box to the text on it
        self.wires: dict[str, Wire] = {}
        self._place_layers()
        self._place_inputs()
        self._place_outputs()
        self._connect()

    def short(self, name: str) -> str:
        return name.removeprefix(f"f{self.t}_")

    def size_text(self, variable: str) -> str:
        """Channels, height and width of a map; nothing for a position or a colour."""
        size = self.sizes[variable]
        return "" if (size.h, size.w) == (1, 1) else times(f"{n:.0f}" for n in size[1:])

    def param_text(self, name: str) -> str:
        """A parameter's name, and its shape unless it is one number."""
        shape = self.shapes[name]
        return name if shape is None or math.prod(shape) == 1 else f"{name} {times(shape)}"

    # Places

    def slot(self, branch: str, level: int) -> float:
        """Centre of what belongs to a feature layer (from 0) below a branch: its trunk, left of
        the centre for all but the first, goes straight in."""
        return self.columns[branch] - 0.05 + SLOT * level

    def _level(self, variable: str) -> int:
        branch = branch_of(variable, self.t)
        return self.levels.index(self.short(variable).removeprefix(f"{branch}_"))

    def _add(
        self, name: str, row: int, x: float, size: tuple[float, float], ordered: bool = False
    ) -> None:
        self.boxes[name] = Box(name, row, x, *size, ordered)

    def _place_layers(self) -> None:
        learn = 3 + self.depth
        self.rows = {"RLR": learn, "CirConv": learn + 1, "XCorr": learn + 2}
        correlations = [r for r in self.records if r.type == "XCorr"]
        self.tail = sum(self.slot("g", k) for k in range(len(correlations))) / len(correlations)
        fused = any(r.type == "Elefusion" for r in self.records)
        self.rows |= {"Elefusion": learn + 3, "adjust": learn + 3 + fused}
        self.rows["losses"] = self.rows["adjust"] + 1
        losses = [r for r in self.records if f"score{self.t}" in r.inputs]
        depth = Counter()
        for record in self.records:
            branch = branch_of(record.name, self.t)
            if branch:
                self._add(record.name, 3 + depth[branch], self.columns[branch], BRANCH_BOX)
                depth[branch] += 1
            elif record.type == "Crop":
                column = self.columns[self.short(record.outputs[0])]
                self._add(record.name, 1, column, CROP_BOX, ordered=True)
            elif record.type == "Eltwise":
                self._add(record.name, 2, self.columns[self.short(record.outputs[0])], LEARNED_BOX)
            elif record.type in ("RLR", "CirConv"):
                # Below the branch that V or W leads to, or that it is applied to.
                variable = record.inputs[-1 if record.type == "RLR" else 0]
                x = self.slot(branch_of(variable, self.t), self._level(variable))
                self._add(record.name, self.rows[record.type], x, LEARNED_BOX)
            elif record.type == "XCorr":
                x = self.slot("g", correlations.index(record))
                self._add(record.name, self.rows["XCorr"], x, LEARNED_BOX)
            elif record.type == "Elefusion":
                width = SLOT * (len(correlations) - 1) + 0.7
                self._add(record.name, self.rows["Elefusion"], self.tail, (width, LEARNED_BOX[1]))
            elif record in losses:
                x = self.tail + 1.75 * (losses.index(record) - (len(losses) - 1) / 2)
                self._add(record.name, self.rows["losses"], x, LEARNED_BOX)
            else:
                self._add(record.name, self.rows["adjust"], self.tail, BRANCH_BOX)

    def _add_pill(self, name: str, row: int, x: float, text: str) -> None:
        self.pills[name] = text
        self._add(name, row, x, (Page.pill_width(text), PILL))

    def _place_inputs(self) -> None:
        written = {v for r in self.records for v in r.outputs}
        inputs = dict.fromkeys(v for r in self.records for v in r.inputs if v not in written)
        images = crop_frames(self.net, self.t)
        columns = list(self.columns.values())
        # Between the crops, two and two.
        between = [columns[k] + shift for k in (1, 2) for shift in (0.95, 1.85)]
        beside = [self.tail - 1.75, self.tail + 1.75]
        for variable in inputs:
            text = f"{variable} {self.size_text(variable)}".rstrip()
            reader = next(r for r in self.records if variable in r.inputs)
            x = self.boxes[reader.name].x
            if variable in images:
                # Its first reader's first entry lies right under it.
                text = f"{variable} 3×H×W"
                self._add_pill(variable, 0, x - 2 * PORT, text)
            elif reader.type == "Crop":
                self._add_pill(variable, 0, between.pop(0), text)
            elif branch_of(reader.name, self.t):
                self._add_pill(variable, 0, x, text)
            else:
                self._add_pill(variable, self.rows["adjust"], beside.pop(0), text)

    def _place_outputs(self) -> None:
        """Pills of what goes to the next frame, and of what no layer reads."""
        for record in self.records:
            box = self.boxes[record.name]
            for k, variable in enumerate(record.outputs):
                onward = sorted(self.readers[variable] - {self.t})
                name = f"out:{variable}"
                text = self.short(variable)
                if onward:
                    text += " → frame " + ", ".join(map(str, onward))
                if record.type == "Crop" and k > 0:
                    text += "" if onward or f"center{self.t}" == variable else " (not read)"
                    x = box.right + 0.16 + Page.pill_width(text) / 2
                    self._add_pill(name, box.row, x, text)
                elif onward:
                    self._add_pill(name, self.rows["losses"], self.tail + 3.5, text)
                elif box.row == self.rows["losses"]:
                    self._add_pill(name, box.row + 1, box.x, text)

    def _connect(self) -> None:
        for record in self.records:
            for place, variable in enumerate(record.inputs):
                self._wire(variable).targets.append((record.name, place))
        for name in self.pills:
            variable = name.removeprefix("out:")
            if name != variable and self.boxes[name].row > self._source(variable).row:
                self._wire(variable).targets.append((name, 0))

    def _source(self, variable: str) -> Box:
        record = next((r for r in self.records if variable in r.outputs), None)
        return self.boxes[variable if record is None else record.name]

    def _wire(self, variable: str) -> Wire:
        source = self._source(variable).name
        return self.wires.setdefault(variable, Wire(variable, source, []))

    # Ink

    def draw(self, page: Page, top: float) -> float:
        """Draw the frame from ``top`` on; returns its lower end."""
        page.widen(self.slot("z", len(self.levels) - 1) + 0.9)
        title = f"Frame {self.t}: {len(self.records)} layers"
        page.text(page.margin, top, title, 11, weight="bold")
        note = f"names are without the prefix f{self.t}_; sizes are channels × height × width"
        page.text(page.margin + 2.2, top + 0.02, note, TEXT, color=PALE)
        padding = {1: 0.02, 3: 0.2, self.rows["RLR"]: 0.12}
        padding |= {row: 0.1 for row in range(self.rows["CirConv"], self.rows["losses"] + 1)}
        routes = route(self.boxes.values(), list(self.wires.values()), top + 0.2, padding)
        self._draw_branches(page)
        page.wires(routes)
        for record in self.records:
            self._draw_layer(page, record)
        for name, text in self.pills.items():
            page.pill(self.boxes[name], text, name)
        self._draw_beside(page)
        self._draw_names(page, routes)
        self._draw_notes(page)
        below = next(box.bottom for box in self.boxes.values() if box.row == self.rows["XCorr"])
        return max(routes.bottom, self._draw_legend(page, below + 0.15)) + page.margin

    def _draw_branches(self, page: Page) -> None:
        """Shades behind the branches, and what each is."""
        for branch, x in self.columns.items():
            boxes = [self.boxes[r.name] for r in branch_layers(self.net, self.t, branch)]
            top, bottom = boxes[0].top - 0.06, boxes[-1].bottom + 0.05
            page.shade(x - BRANCH_BOX[0] / 2 - 0.06, top, BRANCH_BOX[0] + 0.12, bottom - top, SHADE)
            title = BRANCH_TITLES[branch].format(before=max(self.t - 1, 1), now=self.t)
            page.text(x + 0.06, top - 0.1, title, TEXT, weight="bold")

    def _draw_layer(self, page: Page, record: LayerRecord) -> None:
        box = self.boxes[record.name]
        page.box(box, COLORS.get(short_type(record), OTHER_COLOR), record.name)
        branch = branch_of(record.name, self.t)
        name = self.short(record.name).removeprefix(f"{branch}_")
        detail = ", ".join(self.param_text(name) for name in record.params)
        if branch or record.type == "Crop":
            detail = self.size_text(record.outputs[0])
        if not detail:
            page.text(box.x, box.middle, name, TEXT, "center", weight="bold", width=box.width - 0.1)
            return
        space = box.width - 0.2
        page.text(box.left + 0.06, box.middle, name, TEXT, weight="bold", width=0.48 * space)
        page.text(box.right - 0.06, box.middle, detail, SMALL, "right", width=0.52 * space)

    def _draw_beside(self, page: Page) -> None:
        """Arrows from crops to their positions beside them."""
        for name in self.pills:
            variable = name.removeprefix("out:")
            if name != variable and name not in dict(self._wire(variable).targets):
                source, pill = self._source(variable), self.boxes[name]
                y = source.middle
                page.wire([(source.right, y), (pill.left, y)], f"{variable}--{name}")

    def _draw_names(self, page: Page, routes: Routes) -> None:
        """Names of the variables between layers, beside their wires."""
        for record in self.records:
            variable, branch = record.outputs[0], branch_of(record.name, self.t)
            readers = [name for name, _ in self._wire(variable).targets if name not in self.pills]
            if branch:
                # Within a branch the boxes say enough.
                readers = [name for name in readers if branch_of(name, self.t) is None]
            if not readers or record.type in ("Crop", "Eltwise"):
                continue
            name = self.short(variable).removeprefix(f"{branch}_")
            if not branch:
                name += f" {self.size_text(variable)}"
            y = self.boxes[record.name].bottom + 0.08
            page.text(routes.trunks[variable] + 0.05, y, name, SMALL)

    def _draw_notes(self, page: Page) -> None:
        """Left of the branches: their parameters, and what each stage does."""
        right = FIRST_COLUMN - BRANCH_BOX[0] / 2 - 0.2
        rows = branch_layers(self.net, self.t, BRANCHES[0])
        head = self.boxes[rows[0].name].top - 0.16
        page.text(right, head, "parameters of the branches", TEXT, "right", weight="bold")
        for record in rows:
            words = [self.param_text(name) for name in record.params]
            if isinstance(record.block, Filter):
                window, stride = record.block.get_kernel_size(), record.block.stride[0]
                words += [] if words else [f"window {window[0]}×{window[1]}"]
                words += [f"stride {stride}"] if stride > 1 else []
            y = self.boxes[record.name].middle
            page.text(right, y, ", ".join(words), SMALL, "right", width=NOTES)
        for record in self.records:
            text = STAGES.get(record.type)
            if record.type == "Crop" and record.block.mode == GIVEN:
                text = CROP_AT_GIVEN_CENTER
            first = next(r for r in self.records if r.type == record.type)
            if text and record is first:
                y = self.boxes[record.name].middle
                page.text(right, y, text, SMALL + 0.4, "right", width=NOTES, style="italic")

    def _draw_legend(self, page: Page, top: float) -> float:
        counts = Counter(short_type(record) for record in self.records)
        page.text(page.margin, top, "layers of the frame by type", TEXT, weight="bold")
        rows = 5
        for k, (kind, count) in enumerate(counts.items()):
            x, y = page.margin + 1.45 * (k // rows), top + 0.14 + 0.2 * (k % rows)
            page.shade(x, y, 0.26, 0.14, COLORS.get(kind, OTHER_COLOR), edge=True)
            page.text(x + 0.34, y + 0.07, f"{kind} ({count})", TEXT)
        y = top + 0.14 + 0.2 * rows + 0.08
        page.text(page.margin, y, "rounded: variables from and to outside", TEXT)
        page.text(page.margin, y + 0.16, "a dot: a wire branches; without a dot wires cross", TEXT)
        return y + 0.16
