"""Chains of layers that compute features, run as one: settings, executor, and their finder."""

from .chain import FeatureChain
from .norm_relu import NormRelu, find_norm_relu
from .plain import PlainChain
from .recognise import find_feature_chains
from .stages import Norm, Stage, make_stage

__all__ = [
    "FeatureChain",
    "Norm",
    "NormRelu",
    "PlainChain",
    "Stage",
    "find_feature_chains",
    "find_norm_relu",
    "make_stage",
]
