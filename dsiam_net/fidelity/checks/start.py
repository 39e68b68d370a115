"""How DSiam starts: ``fcnet_init.m``'s windows, ``obj_initialize``, ``optpars``."""

from __future__ import annotations

import re

import numpy as np

from layers.eltwise import background_mask
from layers.window import hamming, hann

from ...settings import PRESETS
from ...target import dsiam_target, tall_rate
from ..compare import Comparer, Comparison
from ..files import DOUBLE, Case
from ..registry import checks

WINDOWS = {"hann": hann, "hamming": hamming}


@checks("fcnet_init.m")
def check_windows(case: Case) -> list[Comparison]:
    """The mask that darkens the surroundings, and the windows that it is made of."""
    compare = Comparer(case)
    if case.has("window"):
        size = case.matlab("window").shape[0]
        compare.field("window", background_mask(size, size // 2))
    for field in case.arrays:
        named = re.fullmatch(r"(hann|hamming)(\d+)", field)
        if named:
            compare.field(field, WINDOWS[named.group(1)](int(named.group(2))), DOUBLE)
    return compare.found


@checks("obj_initialize")
def check_first_target(case: Case) -> list[Comparison]:
    target = dsiam_target(case.vector("region"), case.option("imsize"))
    compare = Comparer(case, 0.0)
    for field, actual in (
        ("pos", target.centre),
        ("targetsz", target.size),
        ("base_targetsz", target.size),
        ("targetLoc", target.box),
    ):
        compare.field(field, actual)
    return compare.found


@checks("optpars")
def check_tall_rate(case: Case) -> list[Comparison]:
    compare = Comparer(case, 0.0)
    rate = tall_rate(case.vector("targetsz"), PRESETS["released"])
    compare.field("targetszrate", np.asarray(rate))
    return compare.found
