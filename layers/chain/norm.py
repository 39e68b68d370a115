"""Bias and batch norm of a stage as vectors: one factor and one summand for each channel.

The convolution's kernel gives ``y`` without its bias ``c``. With moments ``mean, sigma`` of
``y + c``, batch norm gives ``z = g (y + c - mean) / sigma + b``, so with ``about = mean - c``

    scale = g / sigma,   shift = b - scale about,   z = scale y + shift.

Batch statistics: ``about`` is the mean of ``y`` alone, so the bias falls out of ``z`` and its
derivative is exactly 0; it only shows in the mean that is observed.

**Derivatives** from ``s1 = sum dz`` and ``s2 = sum dz (y - about)``, with ``t = (y - about) /
sigma``: ``dg = sum dz t = s2 / sigma`` and ``db = s1``. With batch statistics of ``m`` values the
derivative by ``y`` (``layers.batch_norm.batch_norm_backward``) is
``scale (dz - s1/m - t dg/m) = scale dz + a + d y`` with ``d = -scale s2 / (sigma^2 m)`` and
``a = -scale s1/m - d about``. With given moments it is ``scale dz``; its sum, ``scale s1``, is the
derivative by ``c``, ``-scale s1`` that by the mean and ``-scale dg`` that by sigma. Nothing is
divided by ``g``.

All vectors are worked out in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagnet import ShapeError

from .stages import Norm, Stage


@dataclass(frozen=True)
class StageParams:
    """A stage's parameters: filters as they are, vectors in double precision or None.

    Attributes
    ----------
    filters : array (out, C / groups, kh, kw)
    bias, multipliers, biases : arrays (out,)
    moments : array (out, 2)
    """

    filters: np.ndarray
    bias: np.ndarray | None = None
    multipliers: np.ndarray | None = None
    biases: np.ndarray | None = None
    moments: np.ndarray | None = None


def part_params(stages: Sequence[Stage], params: Sequence[Any]) -> list[list[Any]]:
    """Part a chain's parameters by stage.

    Raises
    ------
    ShapeError
        If there are too many or too few, or one has another shape than the stage expects.
    """
    expected = sum(stage.num_params for stage in stages)
    if len(params) != expected:
        raise ShapeError(f"expected {expected} parameters, received {len(params)}")
    parted, first = [], 0
    for stage in stages:
        own = list(params[first : first + stage.num_params])
        out = stage.size[0]
        shapes = [stage.size, *[(out,)] * (len(own) - 1)]
        if stage.norm is not None:
            shapes[-1] = (out, 2)
        for place, (array, shape) in enumerate(zip(own, shapes), first):
            if tuple(array.shape) != shape:
                raise ShapeError(
                    f"expected a parameter of shape {shape}, received {tuple(array.shape)}",
                    param=place,
                )
        parted.append(own)
        first += len(own)
    return parted


def take_params(stages: Sequence[Stage], params: Sequence[Any]) -> list[StageParams]:
    """``part_params``, with vectors in double precision."""
    taken = []
    for stage, (filters, *vectors) in zip(stages, part_params(stages, params)):
        vectors = [vector.astype(np.float64) for vector in vectors]
        bias = vectors.pop(0) if stage.has_bias else None
        taken.append(StageParams(filters, bias, *vectors))
    return taken


@dataclass(frozen=True)
class Affine:
    """What a stage does to ``y`` before its ReLU: arrays (N, out), double precision, or None.

    Attributes
    ----------
    scale, shift : factor and summand
    about : what ``y`` is centred by
    sigma : deviations
    observed : array (B, out, 2) or None
        Batch moments of each branch.
    """

    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    about: np.ndarray | None = None
    sigma: np.ndarray | None = None
    observed: np.ndarray | None = None

    def cast(self, name: str, dtype: np.dtype) -> np.ndarray | None:
        """A vector as kernels take it."""
        vector = getattr(self, name)
        return None if vector is None else np.ascontiguousarray(vector, dtype)


def uses_stored(norm: Norm | None, mode: str) -> bool:
    """Whether there is a batch norm, and its moments are the stored ones."""
    return norm is not None and (norm.stored or mode == "test")


def check_moments(moments: np.ndarray) -> None:
    """Raise unless every stored sigma is positive, as ``layers.batch_norm`` does."""
    if not bool((moments[:, 1] > 0).all()):
        raise ValueError("stored moments must have a positive sigma in every channel")


def given_affine(params: StageParams, samples: int) -> Affine:
    """Without batch norm, or with stored moments: the same for every sample."""

    def each(vector):
        return None if vector is None else np.tile(vector, (samples, 1))

    if params.moments is None:
        return Affine(shift=each(params.bias))
    check_moments(params.moments)
    mean, sigma = params.moments.T
    about = mean if params.bias is None else mean - params.bias
    scale = params.multipliers / sigma
    shift = params.biases - scale * about
    return Affine(each(scale), each(shift), each(about), each(sigma))


def batch_affine(
    params: StageParams,
    epsilon: float,
    means: np.ndarray,
    variances: np.ndarray,
    branches: list[slice],
) -> Affine:
    """With the batch statistics of each branch.

    Parameters
    ----------
    means, variances : arrays (N, out)
        Of each sample's ``y``.
    branches : slices of samples
    """
    about, sigma = np.empty_like(means), np.empty_like(means)
    observed = np.empty((len(branches), means.shape[1], 2))
    for branch, moments in zip(branches, observed):
        mean = means[branch].mean(axis=0)
        variance = (variances[branch] + (means[branch] - mean) ** 2).mean(axis=0)
        about[branch] = mean
        sigma[branch] = moments[:, 1] = np.sqrt(variance + epsilon)
        moments[:, 0] = mean if params.bias is None else mean + params.bias
    scale = params.multipliers / sigma
    return Affine(scale, params.biases - scale * about, about, sigma, observed)


def fold(params: StageParams) -> StageParams:
    """The same with the batch norm's factor in the filters, and all else in the bias."""
    affine = given_affine(params, 1)
    filters = params.filters * affine.scale[0][:, None, None, None]
    return StageParams(filters, bias=affine.shift[0])


def der_affine(
    affine: Affine,
    has_bias: bool,
    s1: np.ndarray,
    s2: np.ndarray | None,
    cells: int,
    branches: list[slice],
    weights: list[int],
) -> tuple[np.ndarray | None, np.ndarray | None, list[np.ndarray]]:
    """Vectors ``a`` and ``d`` of the derivative by ``y``, and derivatives by a stage's vectors.

    Parameters
    ----------
    s1, s2 : arrays (N, out)
    cells : int
        Height times width of ``y``.
    branches : slices of samples
    weights : list of int
        How often the observation of each branch counts.

    Returns
    -------
    a, d : arrays (N, out), or None
    ders : list of arrays
        By the bias, if there is one, and by multipliers, biases and moments, if there is a batch
        norm; for batch moments the weighted sum of observations.
    """
    if affine.sigma is None:
        return None, None, [s1.sum(axis=0)] if has_bias else []
    products = s2 / affine.sigma
    ders = [products.sum(axis=0), s1.sum(axis=0)]
    if affine.observed is None:
        by_mean = (affine.scale * s1).sum(axis=0)
        by_sigma = (affine.scale * products).sum(axis=0)
        moments = -np.stack([by_mean, by_sigma], axis=1)
        return None, None, ([by_mean] if has_bias else []) + [*ders, moments]
    moments = np.tensordot(np.asarray(weights, np.float64), affine.observed, 1)
    a, d = np.empty_like(s1), np.empty_like(s1)
    for branch in branches:
        count = (branch.stop - branch.start) * cells
        scale = affine.scale[branch] / count
        d[branch] = -scale * s2[branch].sum(axis=0) / affine.sigma[branch] ** 2
        a[branch] = -scale * s1[branch].sum(axis=0) - d[branch] * affine.about[branch]
    return a, d, ([np.zeros(s1.shape[1])] if has_bias else []) + [*ders, moments]
