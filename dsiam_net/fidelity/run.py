"""Going through a folder of golden files: what becomes of each file and case."""

from __future__ import annotations

import fnmatch
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dagnet import DagNNError

from .checks.networks import check_branch_listing, check_layer_listing, check_siamfc_listing
from .compare import Comparison
from .files import GoldenError, GoldenFolder
from .registry import FAIL, INPUT, NOT_YET, PASS, CaseResult, check_case

# Status of a file with inputs that no case used.
UNUSED = "unused"
LISTED = "listing"


@dataclass
class FileResult:
    """What came of one file.

    Attributes
    ----------
    file : str
    cases : list of CaseResult
    message : str
        Why the file could not be read, if it could not.
    used_by : list of str
        The files whose cases used this one.
    """

    file: str
    cases: list[CaseResult] = field(default_factory=list)
    message: str = ""
    used_by: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """'fail' if anything failed; 'pass' if anything was compared; else what its cases are."""
        found = {case.status for case in self.cases}
        if self.message or FAIL in found:
            return FAIL
        for status in (PASS, NOT_YET):
            if status in found:
                return status
        return INPUT if self.used_by else UNUSED

    @property
    def worst(self) -> tuple[CaseResult, Comparison] | None:
        """The comparison that used up most of its bound, and its case; the first of equal ones."""
        pairs = [(case, c) for case in self.cases for c in case.comparisons]
        return max(pairs, key=lambda p: (p[1].closeness, p[1].error), default=None)

    def count(self, status: str) -> int:
        return sum(case.status == status for case in self.cases)


def _listing_case(name: str, compare: Callable[[], list[Comparison]]) -> CaseResult:
    try:
        found = compare()
    except Exception as exc:
        # Like the cases of a golden file: one that cannot be run must not end the others' run.
        return CaseResult(name, LISTED, FAIL, message=f"{type(exc).__name__}: {exc}")
    status = PASS if found and all(c.passed for c in found) else FAIL
    return CaseResult(name, LISTED, status, found, "" if found else "nothing to compare")


def _read_listing(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise GoldenError(f"{path.name} is no JSON file: {exc}") from exc


def _check_listing(folder: GoldenFolder, path: Path) -> Iterator[CaseResult]:
    """A JSON file: a list of a network's layers, or networks and branches by name."""
    content = _read_listing(path)
    if isinstance(content, list) and content and all("block" in entry for entry in content):
        yield _listing_case(path.stem, lambda: check_layer_listing(folder, path, content))
        return
    if not isinstance(content, dict) or not content:
        raise GoldenError(
            f"{path.name}: expected a list of layers with their blocks, or networks by name"
        )
    for name, entry in content.items():
        check = check_siamfc_listing if isinstance(entry, dict) else check_branch_listing
        yield _listing_case(name, lambda check=check, entry=entry: check(entry))


def check_file(folder: GoldenFolder, path: Path, step: Callable[[], Any]) -> FileResult:
    """Run all cases of a file; ``step`` is called after each."""
    result = FileResult(path.name)
    try:
        kind = folder.kind(path)
        if kind == "golden":
            golden = folder.golden(path)
            for name in golden.names():
                result.cases.append(_run_case(golden, name))
                step()
        elif kind == "listing":
            for case in _check_listing(folder, path):
                result.cases.append(case)
                step()
        elif kind == "network":
            folder.network(path)  # can be read, or says why not
    except (DagNNError, OSError, ValueError) as exc:
        result.message = str(exc)
    return result


def _run_case(golden: Any, name: str) -> CaseResult:
    try:
        case = golden.case(name)
    except GoldenError as exc:
        return CaseResult(name, golden.entry(name)["func"], FAIL, message=str(exc))
    return check_case(case)


def _count(folder: GoldenFolder, paths: Sequence[Path]) -> int:
    """How many cases there are, for the progress bar."""
    total = 0
    for path in paths:
        try:
            kind = folder.kind(path)
            if kind == "golden":
                total += len(folder.golden(path).names())
            elif kind == "listing":
                content = _read_listing(path)
                total += len(content) if isinstance(content, dict) else 1
        except DagNNError:
            continue  # reported when the file's turn comes
    return total


def check_folder(
    path: str | Path,
    patterns: Sequence[str] = (),
    progress: bool = False,
    device: str = "cpu",
) -> list[FileResult]:
    """Run every golden file of a folder.

    Parameters
    ----------
    path : path of the folder
        Files that cases refer to (frames, networks, inputs) are looked for here too.
    patterns : sequence of str
        Shell patterns of the files to run; all of them where there are none.
    progress : bool
        A progress bar over the cases, on standard error.
    device : 'cpu' or 'gpu'
        Where layers and networks are computed.

    Returns
    -------
    list of FileResult
        One for each file that was run and, behind them, each file of inputs that these used.

    Raises
    ------
    ValueError
        If the folder has no file to run.
    """
    folder = GoldenFolder(path, device)
    if not folder.path.is_dir():
        raise ValueError(f"{path} is no folder; expected one with golden files (.mat, .json)")
    chosen = [
        p
        for p in folder.paths()
        if not patterns or any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns)
    ]
    if not chosen:
        which = f" that match {' '.join(patterns)}" if patterns else ""
        raise ValueError(f"{path} holds no .mat or .json files{which}")
    with tqdm(
        total=_count(folder, chosen), unit="case", file=sys.stderr, disable=not progress
    ) as bar:
        results = []
        for file in chosen:
            bar.set_description(file.name)
            results.append(check_file(folder, file, bar.update))
    run = {result.file for result in results}
    results += [FileResult(name) for name in sorted(folder.used) if name not in run]
    for result in results:
        result.used_by = sorted(folder.used.get(result.file, ()))
    return results
