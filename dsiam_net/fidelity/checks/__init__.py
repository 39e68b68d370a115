"""The checks, a module a family of the originals' functions; importing them registers them."""

from . import (  # noqa: F401
    accumulation,
    arrangement,
    cfnet,
    conv_pool,
    distance,
    dsiam,
    networks,
    normalisation,
    pairs,
    pointwise,
    resize,
    sampling,
    scores,
    siamfc,
    start,
    tracking,
    training,
)
