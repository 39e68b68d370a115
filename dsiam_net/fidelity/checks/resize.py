"""``imresize``, and the rounding of MATLAB."""

from __future__ import annotations

import numpy as np

from layers import imresize

from ...patches import matlab_round
from ..compare import Comparer, Comparison
from ..files import Case, GoldenError
from ..registry import checks

# MATLAB's own doubles were printed with so many digits, those of one plane.
PRINTED = 1e-3


@checks("imresize")
def check_resize(case: Case) -> list[Comparison]:
    """Integers exactly. Octave's own result is not compared: shrinking it is another algorithm."""
    x, options = case.tensor("x"), case.options
    if "scale" in options:
        y = imresize(x, float(options["scale"]))
    elif "size" in options:
        y = imresize(x, size=tuple(int(v) for v in options["size"]))
    else:
        raise GoldenError("a case of imresize needs the option scale or size")
    compare = Comparer(case, 0.0 if y.dtype.kind in "iu" else None)
    compare.present("y_matlab", y)
    if case.has("expected"):
        planes = case.tensor("expected").shape[1]
        if y.dtype.kind in "iu":
            compare.field("expected", y[:, :planes])
        else:
            note = f"values printed by MATLAB, {PRINTED:.0e}"
            compare.field("expected", y[:, :planes], PRINTED, note=note)
    return compare.found


@checks("round")
def check_round(case: Case) -> list[Comparison]:
    compare = Comparer(case, 0.0)
    compare.field("y", np.asarray(matlab_round(case.vector("x"))))
    return compare.found
