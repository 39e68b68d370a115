"""Reading features at other places: ``vl_nnroipool``, ``vl_nnbilinearsampler``."""

from __future__ import annotations

import numpy as np

from dagnet import Context, asnumpy
from layers import BilinearSampler, ROIPooling

from ..compare import Comparer, Comparison, relative
from ..files import Case
from ..original_formulas import bilinear_sampler_cpu_grid
from ..registry import checks


@checks("vl_nnroipool")
def check_roi_pooling(case: Case) -> list[Comparison]:
    """Regions are 5 x K."""
    layer = ROIPooling(
        method=case.option("method"),
        subdivisions=case.option("subdivisions"),
        transform=case.option("transform", 1),
    )
    x = case.array("x")
    rois = case.on_device(case.matlab("rois").reshape(5, -1, order="F").T)
    (y,), saved = layer.forward([x, rois], [], Context())
    (der_x, _), _ = layer.backward([x, rois], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found


@checks("vl_nnbilinearsampler")
def check_bilinear_sampler(case: Case) -> list[Comparison]:
    """Grids are 2 x H x W x N; where the CPU code errs they are such that the layer does too."""
    layer = BilinearSampler()
    x, grid = case.array("x"), _grid(case, "grid")
    original = bilinear_sampler_cpu_grid(grid, x.shape[2:])
    inputs = [x, case.on_device(original)]
    (y,), saved = layer.forward(inputs, [], Context())
    ders, _ = layer.backward(inputs, [], [case.array("dzdy")], saved, Context())
    lost = np.isnan(original).any(axis=1)
    note = "above and left of the features the original's bounds, kept in original_formulas.py"
    compare = Comparer(case)
    compare.field("y", y, note=note if lost.any() else "")
    compare.field("dx", ders[0])
    compare.add(relative("dgrid", ders[1], _grid(case, "dgrid"), compare.allowed))
    (exact,), _ = layer.forward([x, case.on_device(grid)], [], Context())
    inside = np.broadcast_to(~lost[:, None], exact.shape)
    where = "y where the original's bounds hold"
    compare.add(relative(where, asnumpy(exact)[inside], case.tensor("y")[inside], compare.allowed))
    return compare.found


def _grid(case: Case, field: str) -> np.ndarray:
    """A grid as (N, 2, H, W)."""
    return np.ascontiguousarray(case.matlab(field).transpose(3, 0, 1, 2))
