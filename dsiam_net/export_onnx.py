"""Command: write the feature branch of a network as an ONNX file.

``python -m dsiam_net.export_onnx --weights FILE --out FILE.onnx``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from .adapters.onnx import BOUND, OnnxError, compare_onnx, save_onnx, to_onnx
from .branches import INPUT, extract_branch
from .cli import make_parser, run_command
from .tracker import known_features
from .weights_options import add_weights_options, complete_weights, make_network

# Rows and columns of the images that an export is checked on: unequal, as its axes are free.
CHECKED_SIZE = (135, 167)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dsiam_net.export_onnx",
        "Write the branch that turns images into features as an ONNX model, with free numbers of "
        "images, rows and columns, and compare what onnxruntime makes of it with eval. Batch norm "
        "computes as in mode 'test'.",
    )
    add_weights_options(parser.add_argument_group("network"))
    parser.add_argument(
        "--feature-layers",
        metavar="A,B",
        help="feature variables, or the layers that write them (default: those of SiamFC, VGG-19 "
        "or the unrolled network in the file)",
    )
    parser.add_argument("--out", metavar="FILE.onnx", required=True, help="where to write")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare (onnxruntime is not needed then)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, export, compare.

    Raises
    ------
    OnnxError
        If the results differ by more than ``BOUND``; the file is written nevertheless.
    """
    options = _parser().parse_args(argv)
    complete_weights(options)
    net = make_network(options)
    layers = options.feature_layers
    features = [n.strip() for n in layers.split(",")] if layers else known_features(net)
    branch, outputs = extract_branch(net, features)
    model = to_onnx(branch, outputs)
    save_onnx(model, options.out)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    print(f"{options.out}: {INPUT} (N, {channels}, H, W) -> {', '.join(outputs)}")
    if options.no_check:
        return
    size = (2, channels, *CHECKED_SIZE)
    images = np.random.default_rng(options.seed).uniform(0, 255, size)
    errors = compare_onnx(options.out, branch, outputs, images)
    for name, error in errors.items():
        print(f"{name}: onnxruntime differs from eval by {error:.1e} of the largest value")
    if max(errors.values()) > BOUND:
        raise OnnxError(f"{options.out}: the results differ by more than {BOUND:g}")


if __name__ == "__main__":
    run_command(main)
