"""The tables that the command prints, and the JSON that it writes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from dagnet import atomic_write

from .compare import Comparison
from .registry import FAIL, INPUT, NOT_YET, PASS, CaseResult
from .run import UNUSED, FileResult

# So many failures of a file are printed one by one.
MOST_FAILURES = 20
# Of more files than this that use one, the number is shown.
FEW = 2


def _error(comparison: Comparison) -> str:
    if math.isinf(comparison.error):
        return "differs"
    text = "0" if comparison.error == 0 else f"{comparison.error:.1e}"
    return f"{text} {comparison.unit}".rstrip()


def _bound(comparison: Comparison) -> str:
    return "equal" if comparison.allowed == 0 else f"{comparison.allowed:.0e}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= FEW else f"{len(names)} files"


def _notes(cases: Sequence[CaseResult]) -> list[str]:
    """Notes of the comparisons that passed, each once."""
    notes = (c.note for case in cases for c in case.comparisons if c.passed and c.note)
    return list(dict.fromkeys(notes))


def _missing(cases: Sequence[CaseResult]) -> str:
    """What is not yet there, each once, with the count of its cases."""
    counts: dict[str, int] = {}
    for case in cases:
        if case.status == NOT_YET:
            counts[case.message] = counts.get(case.message, 0) + 1
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _status(result: FileResult) -> str:
    """The status, with the count of cases that are not yet there among others that are."""
    missing = result.count(NOT_YET)
    mixed = missing and result.status != NOT_YET
    return f"{result.status}, {missing} not yet" if mixed else result.status


def _file_row(result: FileResult) -> list[str]:
    worst, missing = result.worst, _missing(result.cases)
    notes = _notes(result.cases)
    if missing:
        notes.append(f"not yet: {missing}")
    if result.used_by:
        notes.append(f"used by {_few(result.used_by)}")
    if result.message:
        notes.append(result.message)
    return [
        result.file,
        str(len(result.cases) or ""),
        *((_error(worst[1]), _bound(worst[1])) if worst else ("", "")),
        _status(result),
        "; ".join(notes),
    ]


def _case_rows(result: FileResult) -> Iterator[list[str]]:
    for case in result.cases:
        one = FileResult(result.file, [case])
        worst = one.worst
        at = worst[1].what if worst else ""
        yield [
            f"  {case.case}",
            case.function,
            *((_error(worst[1]), _bound(worst[1])) if worst else ("", "")),
            case.status,
            "; ".join(filter(None, [at, *_notes([case]), case.message])),
        ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; the last column, of notes, may be of any length."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines


def table(results: Sequence[FileResult], verbose: bool = False) -> str:
    """A row a file; with ``verbose`` a row a case below it.

    The error shown is that which used up most of its bound: ``max|a-b| / max|b|``, or
    ``max|a-b|`` where a unit stands behind it.
    """
    rows = [["file", "cases", "worst error", "allowed", "result", "note"]]
    for result in results:
        rows.append(_file_row(result))
        if verbose:
            rows.extend(_case_rows(result))
    return "\n".join(_aligned(rows))


def failures(results: Sequence[FileResult]) -> list[str]:
    """A line for each thing that failed: file, case and field."""
    lines = []
    for result in results:
        found = [f"{result.file}: {result.message}"] if result.message else []
        for case in result.cases:
            where = f"{result.file}, case {case.case}"
            if case.status == FAIL and case.message:
                found.append(f"{where} ({case.function}): {case.message}")
            for comparison in case.comparisons:
                if not comparison.passed:
                    found.append(f"{where}, field {comparison.what}: {_told(comparison)}")
        lines += found[:MOST_FAILURES]
        if len(found) > MOST_FAILURES:
            lines.append(f"{result.file}: {len(found) - MOST_FAILURES} more")
    return lines


def _told(comparison: Comparison) -> str:
    if math.isinf(comparison.error):
        return comparison.note
    return f"error {_error(comparison)}, allowed {comparison.allowed:.1e}"


def summary(results: Sequence[FileResult]) -> str:
    """One line that counts files and cases."""
    cases = {status: sum(r.count(status) for r in results) for status in (PASS, FAIL, NOT_YET)}
    files = {status: 0 for status in (PASS, FAIL, NOT_YET, INPUT, UNUSED)}
    for result in results:
        files[result.status] += 1
    counted = ", ".join(f"{count} {status}" for status, count in files.items() if count)
    return f"{len(results)} files: {counted}; {sum(cases.values())} cases: " + ", ".join(
        f"{n} {s}" for s, n in cases.items() if n
    )


def _plain(value: float) -> float | str:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else str(value)


def as_json(results: Sequence[FileResult]) -> dict[str, Any]:
    """Everything that was compared, for other programs."""
    return {
        "files": [
            {
                "file": result.file,
                "status": result.status,
                "message": result.message,
                "used_by": result.used_by,
                "cases": [
                    {
                        "case": case.case,
                        "function": case.function,
                        "status": case.status,
                        "message": case.message,
                        "fields_not_used": case.unread,
                        "comparisons": [
                            {
                                "field": c.what,
                                "error": _plain(c.error),
                                "allowed": c.allowed,
                                "unit": c.unit or "relative",
                                "passed": c.passed,
                                "note": c.note,
                            }
                            for c in case.comparisons
                        ],
                    }
                    for case in result.cases
                ],
            }
            for result in results
        ]
    }


def write_json(results: Sequence[FileResult], path: str | os.PathLike) -> None:
    """Write ``as_json``; the file appears when it is complete."""
    text = json.dumps(as_json(results), indent=1)
    with atomic_write(path) as stream:
        stream.write(f"{text}\n".encode())
