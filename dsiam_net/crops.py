"""Crops around targets, which pairs for training are made of: cut, written and read."""

from .crop_store import ColourStatistics, CropError, CropStore, StoredTrack, Track
from .crop_writing import write_crops
from .published_crops import Crops, Square, crop_scale, get_crops, get_objects_extent, get_square

__all__ = [
    "ColourStatistics",
    "CropError",
    "CropStore",
    "Crops",
    "Square",
    "StoredTrack",
    "Track",
    "crop_scale",
    "get_crops",
    "get_objects_extent",
    "get_square",
    "write_crops",
]
