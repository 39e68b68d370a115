"""What a model card says that a program knows: the file's own card, and how it was trained."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from dagnet import atomic_write, storage

from .shipped import Card

# Between these two lines a model card has the table of the file of weights.
BEGIN, END = "<!-- file of weights: begin -->", "<!-- file of weights: end -->"
# Settings of a run that say where and how long, not what was trained.
LEFT_OUT = ("exp_dir", "out", "json", "draw", "restart", "threads", "checkpoint_every")


def run_settings(path: str | os.PathLike) -> dict[str, Any]:
    """Settings and number of epochs of the run that wrote a checkpoint; {} of other files.

    Of folders and files only the last part of the name is kept.
    """
    if Path(path).suffix.lower() != ".npz":
        return {}
    state = storage.load_tree(path).get("state")
    if state is None:
        return {}
    settings = {
        name: _without_folders(value)
        for name, value in state["settings"].items()
        if name not in LEFT_OUT and value is not None
    }
    return {"epoch": state["epoch"], **settings}


def _without_folders(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_folders(item) for item in value]
    if isinstance(value, str):
        return PurePath(value).name
    return value if isinstance(value, (bool, int, float)) else str(value)


def update_card(path: str | os.PathLike, card: Card) -> None:
    """Write the table of a file of weights into a model card, in the place of the one there.

    Raises
    ------
    ValueError
        If the document has not the two marks.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: expected the lines {BEGIN!r} and {END!r} of a model card")
    with atomic_write(path, "w") as file:
        file.write(f"{before}{BEGIN}\n\n{card.table()}\n{END}{after}")
