"""layers: the vocabulary of MatConvNet's DagNN and of DSiam, one layer a file.

Importing this package registers every layer with ``dagnet``, and the way in which chains of them
are found and run as one.
"""

from . import chain  # noqa: F401  (registers itself)
from .affine_grid_generator import AffineGridGenerator, affine_grid, affine_grid_backward
from .averaged_loss import AveragedLoss
from .batch_norm import (
    BatchNorm,
    batch_norm,
    batch_norm_backward,
    batch_norm_stored,
    batch_norm_stored_backward,
)
from .bilinear_sampler import BilinearSampler, bilinear_sampler, bilinear_sampler_backward
from .center_threshold_error import CenterThresholdError, center_threshold_error, precision_auc
from .cir_conv import CirConv, cir_conv, cir_conv_backward, cir_conv_sum
from .concat import Concat, concat, concat_backward
from .conv import Conv, conv, conv_backward
from .conv_transpose import ConvTranspose, conv_transpose, conv_transpose_backward
from .corr_filter import CorrFilter, corr_filter, corr_filter_backward, gaussian_response
from .crop import Crop, find_peak
from .crop_like import CropLike, cut_borders, cut_borders_backward
from .crop_margin import CropMargin
from .dropout import DropOut, dropout, dropout_mask
from .elefusion import Elefusion, elefusion, elefusion_backward
from .eltwise import Eltwise, background_mask
from .iou_error_score import IOUErrorScore, iou_error
from .logistic_loss import LogisticLoss
from .loss import Loss, loss, loss_backward
from .loss_functions import LOSSES, LossFunction
from .lrn import LRN, lrn, lrn_backward
from .max_score_error import MaxScoreError, max_score_error
from .mul_const import MulConst
from .norm_offset import NormOffset, norm_offset, norm_offset_backward
from .normalize_lp import NormalizeLp, normalize_lp, normalize_lp_backward
from .pdist import PDist, pdist, pdist_backward
from .pooling import Pooling, avg_pool, avg_pool_backward, max_pool, max_pool_backward
from .relu import ReLU, relu, relu_backward
from .resize import imresize, imresize_adjoint, resize_matrix
from .rlr import RLR, filter_from_pair, rlr, rlr_backward, update_change
from .roi_pooling import (
    ROIPooling,
    avg_roi_pool,
    avg_roi_pool_backward,
    max_roi_pool,
    max_roi_pool_backward,
)
from .scale import Scale, scale, scale_backward
from .sigmoid import Sigmoid, sigmoid, sigmoid_backward
from .softmax import SoftMax, softmax, softmax_backward
from .softmax_loss import softmax_loss, softmax_loss_backward
from .spatial_norm import SpatialNorm, spatial_norm, spatial_norm_backward
from .sum import Sum
from .uniform_scaling_grid_generator import (
    UniformScalingGridGenerator,
    uniform_scaling_grid,
    uniform_scaling_grid_backward,
)
from .xcorr import XCorr, xcorr, xcorr_backward

__all__ = [
    "LOSSES",
    "LRN",
    "RLR",
    "AffineGridGenerator",
    "AveragedLoss",
    "BatchNorm",
    "BilinearSampler",
    "CenterThresholdError",
    "CirConv",
    "Concat",
    "Conv",
    "ConvTranspose",
    "CorrFilter",
    "Crop",
    "CropLike",
    "CropMargin",
    "DropOut",
    "Elefusion",
    "Eltwise",
    "IOUErrorScore",
    "LogisticLoss",
    "Loss",
    "LossFunction",
    "MaxScoreError",
    "MulConst",
    "NormOffset",
    "NormalizeLp",
    "PDist",
    "Pooling",
    "ROIPooling",
    "ReLU",
    "Scale",
    "Sigmoid",
    "SoftMax",
    "SpatialNorm",
    "Sum",
    "UniformScalingGridGenerator",
    "XCorr",
    "affine_grid",
    "affine_grid_backward",
    "avg_pool",
    "avg_pool_backward",
    "avg_roi_pool",
    "avg_roi_pool_backward",
    "background_mask",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_stored",
    "batch_norm_stored_backward",
    "bilinear_sampler",
    "bilinear_sampler_backward",
    "center_threshold_error",
    "cir_conv",
    "cir_conv_backward",
    "cir_conv_sum",
    "concat",
    "concat_backward",
    "conv",
    "conv_backward",
    "conv_transpose",
    "conv_transpose_backward",
    "corr_filter",
    "corr_filter_backward",
    "cut_borders",
    "cut_borders_backward",
    "dropout",
    "dropout_mask",
    "elefusion",
    "elefusion_backward",
    "filter_from_pair",
    "find_peak",
    "gaussian_response",
    "imresize",
    "imresize_adjoint",
    "iou_error",
    "loss",
    "loss_backward",
    "lrn",
    "lrn_backward",
    "max_pool",
    "max_pool_backward",
    "max_roi_pool",
    "max_roi_pool_backward",
    "max_score_error",
    "norm_offset",
    "norm_offset_backward",
    "normalize_lp",
    "normalize_lp_backward",
    "pdist",
    "pdist_backward",
    "precision_auc",
    "relu",
    "relu_backward",
    "resize_matrix",
    "rlr",
    "rlr_backward",
    "scale",
    "scale_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_loss",
    "softmax_loss_backward",
    "spatial_norm",
    "spatial_norm_backward",
    "uniform_scaling_grid",
    "uniform_scaling_grid_backward",
    "update_change",
    "xcorr",
    "xcorr_backward",
]
