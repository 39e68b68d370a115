"""Which check runs the cases of which original function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .compare import Comparison, NotYetError
from .files import Case

Check = Callable[[Case], list[Comparison]]

PASS, FAIL, NOT_YET, INPUT = "pass", "fail", "not yet", "input"

# Cases of these functions hold inputs of others: nothing was computed.
INPUTS = ("", "imread")

# Functions of the originals that this version of the software has no counterpart of.
MISSING: dict[str, str] = {}

_CHECKS: dict[str, Check] = {}


def checks(*functions: str) -> Callable[[Check], Check]:
    """Decorator: register a check for the cases of these functions."""

    def register(check: Check) -> Check:
        for function in functions:
            _CHECKS[function] = check
        return check

    return register


@dataclass(frozen=True)
class CaseResult:
    """What came of one case.

    Attributes
    ----------
    case, function : str
    status : 'pass', 'fail', 'not yet' or 'input'
    comparisons : list of Comparison
    message : str
        What is missing, or why the case could not be run.
    unread : list of str
        Fields of the case that the check had no use for.
    """

    case: str
    function: str
    status: str
    comparisons: list[Comparison] = field(default_factory=list)
    message: str = ""
    unread: list[str] = field(default_factory=list)


def check_case(case: Case) -> CaseResult:
    """Run the check of a case's function; what goes wrong in it is the case's failure."""
    name, function = case.name, case.function
    if function in _CHECKS:
        try:
            found = _CHECKS[function](case)
        except NotYetError as exc:
            return CaseResult(name, function, NOT_YET, message=str(exc))
        except Exception as exc:
            # The cases are other people's: one that cannot be run must not end the others' run.
            return CaseResult(name, function, FAIL, message=f"{type(exc).__name__}: {exc}")
        if not found:
            return CaseResult(name, function, FAIL, message="it has no field to compare with")
        status = PASS if all(c.passed for c in found) else FAIL
        return CaseResult(name, function, status, found, unread=case.unread())
    if function in MISSING:
        return CaseResult(name, function, NOT_YET, message=MISSING[function])
    if function in INPUTS:
        return CaseResult(name, function, INPUT)
    known = ", ".join(sorted({*_CHECKS, *MISSING}))
    message = f"nothing is known of the function {function!r}; known are {known}"
    return CaseResult(name, function, FAIL, message=message)
