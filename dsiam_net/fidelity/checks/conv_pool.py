"""Convolution and pooling: ``vl_nnconv``, ``vl_nnconvt``, ``vl_nnpool``."""

from __future__ import annotations

import numpy as np

from dagnet import Context
from layers import Conv, ConvTranspose, Pooling

from ..compare import Comparer, Comparison
from ..files import Case
from ..registry import checks


@checks("vl_nnconv")
def check_conv(case: Case) -> list[Comparison]:
    """Value and derivatives; fields that a flag or a missing bias left empty are passed over."""
    x = case.array("x")
    # Without filters vl_nnconv subsamples.
    empty = np.zeros((0, 0, 0, 0), x.dtype)
    params = [case.array("f") if case.has("f") else case.on_device(empty)]
    has_bias = case.has("b")
    if has_bias:
        params.append(case.on_device(case.vector("b")))
    layer = Conv(
        size=params[0].shape,
        has_bias=has_bias,
        stride=case.option("stride", 1),
        pad=case.option("pad", 0),
        dilate=case.option("dilate", 1),
    )
    (y,), saved = layer.forward([x], params, Context())
    compare = Comparer(case)
    compare.present("y", y)
    if not case.has("dzdy"):
        return compare.found
    (der_x,), der_params = layer.backward([x], params, [case.array("dzdy")], saved, Context())
    der_filters = der_params[0]
    compare.present("dx", der_x)
    compare.present("df", der_filters)
    if has_bias:
        compare.present("db", der_params[1])
    if case.has("df_sub"):
        compare.field("df_sub", der_filters[:: int(case.option("dfstep"))])
    if case.has("df_sum4", "df_sum123"):
        sums = der_filters.astype(np.float64)
        compare.field("df_sum4", sums.sum(axis=0, keepdims=True))
        compare.field("df_sum123", sums.sum(axis=(1, 2, 3)))
    return compare.found


@checks("vl_nnconvt")
def check_conv_transpose(case: Case) -> list[Comparison]:
    # Filters kh x kw x K x C become (C, K, kh, kw), as they are here.
    x, filters = case.array("x"), case.array("f")
    has_bias = case.has("b")
    params = [filters, case.on_device(case.vector("b"))] if has_bias else [filters]
    layer = ConvTranspose(
        size=filters.shape,
        has_bias=has_bias,
        upsample=case.option("upsample", 1),
        crop=case.option("crop", 0),
        num_groups=case.option("numGroups", 1),
    )
    (y,), saved = layer.forward([x], params, Context())
    (der_x,), der_params = layer.backward([x], params, [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    for field, actual in zip(("y", "dx", "df", "db"), (y, der_x, *der_params)):
        compare.field(field, actual)
    return compare.found


@checks("vl_nnpool")
def check_pool(case: Case) -> list[Comparison]:
    layer = Pooling(
        method=case.option("method"),
        pool_size=case.option("pool"),
        stride=case.option("stride", 1),
        pad=case.option("pad", 0),
    )
    (y,), saved = layer.forward([case.array("x")], [], Context())
    (der_x,), _ = layer.backward([None], [], [case.array("dzdy")], saved, Context())
    compare = Comparer(case)
    compare.field("y", y)
    compare.field("dx", der_x)
    return compare.found
