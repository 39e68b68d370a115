"""Cutting patches out of frames on CUDA: ``crop.cu``."""

from __future__ import annotations

from typing import Any

from dagnet import get_array_module

from .launch import MOST_BLOCKS, launch, launch_over, offer


def _prepared(image: Any, center: Any, side: Any, color: Any) -> tuple[str, list[Any]]:
    """What the kernels' names end with for frames of this type, and their first arguments."""
    xp = get_array_module(center)
    ending = "_bytes" if image.dtype == "uint8" else ""
    if not ending:
        image = image.astype(center.dtype, copy=False)
    return ending, [xp.ascontiguousarray(a) for a in (image, color, center, side)]


def _crop(image: Any, center: Any, side: Any, color: Any, size: int) -> Any:
    ending, arrays = _prepared(image, center, side, color)
    patches = get_array_module(center).empty((*image.shape[:2], size, size), center.dtype)
    arguments = (*arrays, patches, size, *image.shape[1:])
    launch_over("crop", f"crop{ending}", center.dtype, patches.size, arguments)
    return patches


def _crop_backward(
    image: Any, center: Any, side: Any, color: Any, der_patch: Any, needs_image: bool
) -> tuple[Any, Any]:
    xp = get_array_module(center)
    dtype, samples = center.dtype, len(center)
    ending, arrays = _prepared(image, center, side, color)
    der_patch = xp.ascontiguousarray(der_patch.astype(dtype, copy=False))
    sizes = (der_patch.shape[2], *image.shape[1:])
    der_center = xp.empty((samples, 2), dtype)
    arguments = (*arrays, der_patch, der_center, *sizes, samples)
    launch("crop", f"crop_slopes{ending}", dtype, min(samples, MOST_BLOCKS), arguments)
    if not needs_image:
        return der_center, None
    der_image = xp.empty(image.shape, dtype)
    arguments = (*arrays[2:], der_patch, der_image, *sizes)
    launch_over("crop", "crop_image", dtype, der_image.size, arguments)
    return der_center, der_image


offer("crop", _crop, _crop_backward)
