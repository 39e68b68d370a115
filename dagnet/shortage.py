"""What a machine lacked, told from whatever was raised for it."""

from __future__ import annotations

# Of OpenCV's errors, StsNoMem.
_OPENCV_NO_MEMORY = -4


def memory_shortage(exc: BaseException | None) -> str | None:
    """What memory was wanted for, if an exception is, or was raised for, a lack of memory.

    Libraries say it in many ways: Python and NumPy with MemoryError, OpenCV with an error of its
    own, and a thread that gets no stack is a RuntimeError.

    Returns
    -------
    str or None
        None for any other exception.
    """
    while exc is not None:
        if isinstance(exc, MemoryError):
            return str(exc) or "the system gave no more"
        if getattr(exc, "code", None) == _OPENCV_NO_MEMORY and hasattr(exc, "err"):
            return str(exc.err)
        if isinstance(exc, RuntimeError) and "can't start new thread" in str(exc):
            return "a thread could not be started"
        exc = exc.__cause__
    return None
