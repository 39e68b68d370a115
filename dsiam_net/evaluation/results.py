"""Result files: the boxes and times of a tracker on a sequence, in OTB's and GOT-10k's layouts.

::

    OTB/TRACKER/SEQUENCE.txt                     x,y,w,h a frame: the got10k toolkit's OTB layout
    OTB/TRACKER/times/SEQUENCE_time.txt          seconds a frame
    OTB-mat/SEQUENCE_TRACKER.mat                 results{1}.res: OTB's MATLAB toolkit
    GOT-10k/TRACKER/SEQUENCE/SEQUENCE_001.txt    x,y,w,h a frame: GOT-10k's layout
    GOT-10k/TRACKER/SEQUENCE/SEQUENCE_time.txt   seconds a frame

All three are written; any of them is read, with numbers separated by commas, tabs or spaces. Runs
from other starts (TRE, SRE) have a file each::

    TRE/TRACKER/SEQUENCE/from_0017.txt           x,y,w,h a frame from frame 17 on
    SRE/TRACKER/SEQUENCE/scale_8.txt             x,y,w,h a frame
    .../times/from_0017_time.txt                 seconds a frame
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dagnet import atomic_write
from matlab_import import MatFileError, read_mat

from ..boxes import polygon_to_box
from ..sequences import read_regions
from ..tracking import save_boxes
from .protocol import Run

OTB, OTB_MAT, GOT10K = "OTB", "OTB-mat", "GOT-10k"
# The got10k toolkit numbers targets only where both files of boxes have content; the first of
# OTB's Human4 has none.
GOT10K_NAMES = {"Human4.2": "Human4"}


class ResultError(ValueError):
    """A result file is not as it must be; the message names it."""


def toolkit_name(sequence: str) -> str:
    """The name by which the got10k toolkit knows one of OTB's sequences."""
    return GOT10K_NAMES.get(sequence, sequence)


def spellings(sequence: str) -> list[str]:
    """Names, in lower case, that a sequence's files may have, the likeliest first.

    Targets are numbered as ``Jogging.1``, ``Jogging-1`` or ``Jogging_1``; the first target's file
    may be without number, and so may Human4's second.
    """
    match = re.fullmatch(r"(.+)\.(\d+)", sequence)
    stem, number = (match[1], match[2]) if match else (sequence, "1")
    numbered = [f"{stem}{mark}{number}" for mark in ".-_"]
    if not match:
        names = [stem, *numbered]
    elif number == "1" or sequence in GOT10K_NAMES:
        names = [*numbered, stem]
    else:
        names = numbered
    return [name.lower() for name in names]


# Writing


def boxes_file(root: str | os.PathLike, tracker: str, sequence: str) -> Path:
    """The file that is written last: where it is, the sequence is finished."""
    return Path(root) / OTB / tracker / f"{toolkit_name(sequence)}.txt"


def write_run(
    root: str | os.PathLike, tracker: str, sequence: str, boxes: np.ndarray, times: np.ndarray
) -> None:
    """Write boxes (T, 4) and times (T,), seconds, in all layouts, each file whole or not at all.

    Numbers in text are written so that reading gives the same ones.
    """
    root, name = Path(root), toolkit_name(sequence)
    folder = root / GOT10K / tracker / name
    _write_times(folder / f"{name}_time.txt", times)
    save_boxes(folder / f"{name}_001.txt", boxes)
    _write_mat(root / OTB_MAT / f"{sequence.replace('.', '-')}_{tracker}.mat", boxes, times)
    _write_times(root / OTB / tracker / "times" / f"{name}_time.txt", times)
    save_boxes(boxes_file(root, tracker, sequence), boxes)


class RunFiles(Protocol):
    """Where the runs of an evaluation are kept; it is sent to other processes."""

    def boxes_file(self, root: str | os.PathLike, tracker: str, sequence: str) -> Path:
        """The file that is written last: where it is, the run is finished."""

    def write(
        self,
        root: str | os.PathLike,
        tracker: str,
        sequence: str,
        boxes: np.ndarray,
        times: np.ndarray,
    ) -> None:
        """Write boxes (T, 4) and times (T,), seconds, each file whole or not at all."""


class OnePassFiles:
    """``RunFiles`` of one-pass evaluation: all layouts."""

    boxes_file = staticmethod(boxes_file)
    write = staticmethod(write_run)


@dataclass(frozen=True)
class StartFiles:
    """``RunFiles`` of runs from other starts, whose sequences are named ``SEQUENCE/START``.

    ``kind`` is the folder: TRE or SRE.
    """

    kind: str

    def boxes_file(self, root: str | os.PathLike, tracker: str, sequence: str) -> Path:
        """As ``RunFiles``."""
        return Path(root) / self.kind / tracker / f"{sequence}.txt"

    def write(
        self,
        root: str | os.PathLike,
        tracker: str,
        sequence: str,
        boxes: np.ndarray,
        times: np.ndarray,
    ) -> None:
        """As ``RunFiles``."""
        path = self.boxes_file(root, tracker, sequence)
        _write_times(path.parent / "times" / f"{path.stem}_time.txt", times)
        save_boxes(path, boxes)


def _write_times(path: Path, times: np.ndarray) -> None:
    with atomic_write(path, "w") as file:
        file.writelines(f"{time:.8f}\n" for time in times)


def _write_mat(path: Path, boxes: np.ndarray, times: np.ndarray) -> None:
    """OTB's MATLAB structure: ``results{1}`` with the fields that its toolkit reads."""
    frames = len(boxes)
    results = np.empty((1, 1), dtype=object)
    results[0, 0] = {
        "res": boxes,
        "type": "rect",
        "fps": frames / max(float(np.sum(times)), np.finfo(float).tiny),
        "len": float(frames),
        "annoBegin": 1.0,
        "startFrame": 1.0,
    }
    # Imported here since few runs write MATLAB's files.
    from scipy.io import savemat

    with atomic_write(path) as file:
        savemat(file, {"results": results}, do_compression=True)


# Reading


def read_run(root: str | os.PathLike, sequence: str) -> Run | None:
    """A tracker's result on a sequence from its folder, of any layout.

    Parameters
    ----------
    root : path of a folder
        With ``SEQUENCE.txt``, a folder ``SEQUENCE`` with ``SEQUENCE_001.txt``, or
        ``SEQUENCE_*.mat``; upper and lower case do not matter, nor does how targets are numbered.
    sequence : str

    Returns
    -------
    Run, or None if there is no such file. Polygons become boxes.

    Raises
    ------
    ResultError, SequenceError, MatFileError
        If a file cannot be read, or is not such a result.
    OSError
        If the folder cannot be listed.
    """
    entries = {path.name.lower(): path for path in sorted(Path(root).iterdir())}
    for name in spellings(sequence):
        text, folder = entries.get(f"{name}.txt"), entries.get(name)
        if text is not None and text.is_file():
            times = _read_times(text.parent / "times" / f"{text.stem}_time.txt", 1)
            return Run(read_boxes(text)[None], times)
        if folder is not None and folder.is_dir():
            run = _read_repetitions(folder)
            if run is not None:
                return run
        matlab = [
            path
            for key, path in entries.items()
            if key.endswith(".mat") and (key[:-4] == name or key.startswith(f"{name}_"))
        ]
        if len(matlab) > 1:
            raise ResultError(
                f"{root}: expected one result of {sequence}, found "
                f"{', '.join(path.name for path in matlab)}"
            )
        if matlab:
            return _read_mat(matlab[0])
    return None


def read_boxes(path: str | os.PathLike) -> np.ndarray:
    """Boxes (T, 4) from one file of results: text, or OTB's .mat. Polygons become boxes.

    Raises
    ------
    ResultError, SequenceError, MatFileError
        If the file cannot be read, or is not such a result.
    """
    path = Path(path)
    if path.suffix.lower() == ".mat":
        return _read_mat(path).boxes[0]
    regions = read_regions(path)
    return polygon_to_box(regions) if regions.shape[1] == 8 else regions


def read_start(root: str | os.PathLike, sequence: str) -> Run | None:
    """A tracker's run from another start, of the name ``SEQUENCE/START``, from its folder.

    None if there is no such file; errors as ``read_run``.
    """
    path = Path(root) / f"{sequence}.txt"
    if not path.is_file():
        return None
    times = _read_times(path.parent / "times" / f"{path.stem}_time.txt", 1)
    return Run(read_boxes(path)[None], times)


def _read_repetitions(folder: Path) -> Run | None:
    """GOT-10k's ``NAME_001.txt, NAME_002.txt, ...`` in a folder of that name."""
    pattern = re.compile(re.escape(folder.name) + r"_\d+\.txt", re.IGNORECASE)
    files = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    if not files:
        return None
    boxes = [read_boxes(path) for path in files]
    if len({len(b) for b in boxes}) > 1:
        raise ResultError(
            f"{folder}: expected repetitions of the same length, received "
            f"{', '.join(f'{p.name} with {len(b)}' for p, b in zip(files, boxes))} boxes"
        )
    return Run(np.stack(boxes), _read_times(folder / f"{folder.name}_time.txt", len(boxes)))


def _read_times(path: Path, repetitions: int) -> np.ndarray | None:
    """Times (R, T) from a column for each repetition, or one for all; None without a file."""
    if not path.is_file():
        return None
    try:
        rows = [
            [float(word) for word in re.split(r"[,;\s]+", line.strip())]
            for line in path.read_text().rstrip().splitlines()
        ]
        return np.array(rows).T[:repetitions]
    except ValueError as exc:
        raise ResultError(f"{path}: expected numbers of seconds, as many a line: {exc}") from exc


def _read_mat(path: Path) -> Run:
    variables = read_mat(path)
    result = variables.get("results", variables)
    if isinstance(result, list):
        if len(result) != 1:
            raise ResultError(
                f"{path}: expected one run (one-pass evaluation), found {len(result)}"
            )
        result = result[0]
    if not isinstance(result, dict) or "res" not in result:
        raise MatFileError(f"{path}: expected OTB's results{{1}}.res, found no such variable")
    kind = result.get("type", "rect")
    boxes = np.asarray(result["res"], dtype=np.float64)
    if kind != "rect" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ResultError(
            f"{path}: expected boxes (T, 4) of type 'rect', received type {kind!r} of shape "
            f"{boxes.shape}"
        )
    fps = np.ravel(np.asarray(result.get("fps", np.nan), dtype=np.float64))
    times = None
    if fps.size == 1 and np.isfinite(fps[0]) and fps[0] > 0:
        times = np.full((1, len(boxes)), 1 / fps[0])
    return Run(boxes[None], times)
