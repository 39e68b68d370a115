"""A page for schematics: boxes, pills, wires and text in inches from the upper left corner."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path

from .routing import Box, Point, Routes

# A3, landscape, inches.
PAGE = (16.54, 11.69)
POINTS = 72  # an inch
# Sizes of text, points.
TEXT, SMALL = 7.0, 6.2
INK, PALE, WIRE = "#000000", "#555555", "#404040"
PILL_COLOR = "#FFFFFF"


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line of text, inches."""
    font = FontProperties(size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, False)[0] / POINTS


class Page:
    """One page. It grows to hold what is drawn, from A3 on."""

    margin = 0.3

    def __init__(self):
        self.figure = Figure(figsize=PAGE)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.width = PAGE[0]

    def widen(self, right: float) -> None:
        """Make the page wide enough for what ends at ``right``."""
        self.width = max(self.width, right + self.margin)

    def fit(self, bottom: float) -> None:
        """Give the page its size; ``bottom`` is the lower end of what is on it."""
        height = max(PAGE[1], bottom)
        self.figure.set_size_inches(self.width, height)
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(height, 0)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        align: str = "left",
        *,
        width: float | None = None,
        weight: str = "normal",
        style: str = "normal",
        color: str = INK,
    ) -> None:
        """A line of text around height ``y``; made smaller where it is wider than ``width``."""
        if width is not None:
            size *= min(1, width / max(text_width(text, size, weight), 1e-6))
        self.axes.text(
            x,
            y,
            text,
            fontsize=size,
            ha=align,
            va="center_baseline",
            fontweight=weight,
            fontstyle=style,
            color=color,
            parse_math=False,
        )

    def box(self, box: Box, color: str, name: str, line: float = 0.8) -> None:
        """A rectangle with the id ``name``."""
        self.axes.add_patch(
            Rectangle(
                (box.left, box.top),
                box.width,
                box.height,
                facecolor=color,
                edgecolor=INK,
                linewidth=line,
                gid=name,
                zorder=3,
            )
        )

    @staticmethod
    def pill_width(text: str) -> float:
        """Width of a pill with this text on it."""
        return text_width(text, SMALL) + 0.16

    def pill(self, box: Box, text: str, name: str | None = None) -> None:
        """A rounded box with text."""
        radius = box.height / 2
        self.axes.add_patch(
            FancyBboxPatch(
                (box.left, box.top),
                box.width,
                box.height,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=PILL_COLOR,
                edgecolor=INK,
                linewidth=0.6,
                gid=None if name is None else f"var:{name}",
                zorder=3,
            )
        )
        self.text(box.x, box.middle, text, SMALL, "center")

    def shade(
        self, x: float, y: float, width: float, height: float, color: str, edge: bool = False
    ) -> None:
        """A coloured rectangle behind everything."""
        self.axes.add_patch(
            Rectangle(
                (x, y),
                width,
                height,
                facecolor=color,
                edgecolor=INK if edge else "none",
                linewidth=0.6,
                zorder=0,
            )
        )

    def wire(self, points: Sequence[Point], name: str) -> None:
        """A line through ``points`` that ends in an arrow."""
        self.axes.add_patch(
            FancyArrowPatch(
                path=Outline(points),
                arrowstyle="-|>,head_length=3.2,head_width=1.5",
                mutation_scale=1,
                linewidth=0.7,
                color=WIRE,
                joinstyle="miter",
                gid=name,
                zorder=2,
            )
        )

    def wires(self, routes: Routes, prefix: str = "") -> None:
        """All wires of ``routes``, with ids ``variable--layer``, and their dots."""
        for (name, target), points in routes.paths.items():
            self.wire(points, f"{prefix}{name}--{target}")
        for point in routes.dots:
            self.axes.add_patch(Circle(point, 0.022, color=WIRE, zorder=2))
