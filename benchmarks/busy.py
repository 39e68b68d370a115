"""How much of the time a GPU computes, as ``nvidia-smi`` tells it."""

from __future__ import annotations

import os
import subprocess
from tempfile import TemporaryFile

import numpy as np

# Milliseconds between samples; the driver's own periods are 1/6 to 1 second.
PERIOD = 100


class BusyCard:
    """Within a ``with`` block the card is watched; ``share`` tells afterwards.

    Attributes
    ----------
    share : float or None
        Of the time from the first sample in which the card computed to the last such, the part in
        which a kernel ran: starting up and writing results at the end are left out. None where
        ``nvidia-smi`` is missing, or saw nothing.
    """

    def __init__(self):
        self.share: float | None = None

    def __enter__(self) -> BusyCard:
        # The first one that this process, and those it starts, may use.
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        command = ["nvidia-smi", *query, f"--loop-ms={PERIOD}", f"--id={card}"]
        self._samples = TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                command, stdout=self._samples, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            self._process = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._samples.seek(0)
        self.share = busy_share(self._samples.read())
        self._samples.close()


def busy_share(samples: str) -> float | None:
    """The share that samples tell, lines of per cent; None if the card never computed."""
    lines = [line.strip() for line in samples.splitlines()]
    # A line that was cut off at the end, or that says there is no figure, is none.
    percent = np.array([float(line) for line in lines if line.isdecimal()])
    (running,) = np.nonzero(percent)
    if not len(running):
        return None
    return float(percent[running[0] : running[-1] + 1].mean() / 100)
