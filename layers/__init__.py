"""layers: the vocabulary of MatConvNet's DagNN and of DSiam, one layer a file.

Importing this package registers every layer with ``dagnet``.
"""

from .center_threshold_error import CenterThresholdError, center_threshold_error, precision_auc
from .cir_conv import CirConv, cir_conv, cir_conv_backward, cir_conv_sum
from .crop import Crop, find_peak
from .loss import LOSSES, AveragedLoss, Loss, LossFunction, loss, loss_backward
from .max_score_error import MaxScoreError, max_score_error
from .relu import ReLU, relu, relu_backward
from .resize import imresize, imresize_adjoint, resize_matrix
from .rlr import RLR, filter_from_pair, rlr, rlr_backward, update_change
from .xcorr import XCorr, xcorr, xcorr_backward

__all__ = [
    "LOSSES",
    "RLR",
    "AveragedLoss",
    "CenterThresholdError",
    "CirConv",
    "Crop",
    "Loss",
    "LossFunction",
    "MaxScoreError",
    "ReLU",
    "XCorr",
    "center_threshold_error",
    "cir_conv",
    "cir_conv_backward",
    "cir_conv_sum",
    "filter_from_pair",
    "find_peak",
    "imresize",
    "imresize_adjoint",
    "loss",
    "loss_backward",
    "max_score_error",
    "precision_auc",
    "relu",
    "relu_backward",
    "resize_matrix",
    "rlr",
    "rlr_backward",
    "update_change",
    "xcorr",
    "xcorr_backward",
]
