"""Receptive fields that several layers have in common."""

from __future__ import annotations

import math

from dagnet import ReceptiveField

# Each cell of the output sees the whole plane of the input. MatConvNet's convention for it, and
# that of the original layers, is a field of infinite size.
WHOLE_PLANE = ReceptiveField((math.inf, math.inf), (1, 1), (1, 1))
