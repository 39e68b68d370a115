"""A drawing of the unrolled network: its frames as a chain, and one frame with all its layers."""

from __future__ import annotations

import os

from dagnet import DagNN

from .figures import save_figure
from .listing import unrolled_meta
from .schematic import Chain, Frame, Page
from .unrolled import given_centers

# Sizes of text, points.
TITLE, NOTE = 13, 8
NOTE_COLOR = "#555555"


def draw_unrolled(net: DagNN, path: str | os.PathLike, frame: int | None = None) -> None:
    """Write the drawing of a network as SVG, PNG or PDF, by the path's suffix.

    Parameters and errors are those of ``unrolled_page``; ValueError for another suffix.
    """
    save_figure(unrolled_page(net, frame).figure, path)


def unrolled_page(net: DagNN, frame: int | None = None) -> Page:
    """Draw the network on one page: its frames as a chain, and one frame with all its layers.

    The page is A3, landscape; a deep branch or a long chain makes it higher. In the SVG each
    layer's box has the layer's name as id, each wire ``variable--layer``.

    Parameters
    ----------
    net : DagNN
        From ``build_unrolled``.
    frame : int, optional
        Which frame to draw in full (default: 2, or 1 if there is no other).

    Raises
    ------
    ValueError
        If the network is not an unrolled one, or has no such frame.
    """
    frames = unrolled_meta(net)["frames"]
    frame = min(2, frames) if frame is None else frame
    if not 1 <= frame <= frames:
        raise ValueError(f"frame must lie in 1 to {frames}, received {frame}")
    page = Page()
    _draw_title(page, net)
    chain = Chain(net, frame).draw(page, 0.72)
    page.fit(Frame(net, frame).draw(page, chain + 0.2))
    return page


def _draw_title(page: Page, net: DagNN) -> None:
    meta = unrolled_meta(net)
    plural = "" if meta["frames"] == 1 else "s"
    title = (
        f"DSiam unrolled over {meta['frames']} frame{plural}: {len(net.layers)} layers, "
        f"{len(net.params)} parameters"
    )
    page.text(page.margin, 0.36, title, TITLE, weight="bold")
    handing = "tracks, and hands its response and its position on"
    if given_centers(net):
        handing = "and tracks; its crops lie around a given centre"
    note = f"Every frame learns V and W from the frame before, {handing}; all frames use the same "
    note += "parameters."
    page.text(page.margin, 0.58, note, NOTE, color=NOTE_COLOR)
