"""Options that build the unrolled network: the same for ``build_unrolled`` and ``train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dagnet import DagNN
from layers.crop import MODES

from .branches import FEATURES, copy_params, extract_branch, siamfc_branch, vgg19_branch
from .cli import add_device_options
from .unrolled import (
    ADJUST,
    CROP_GRADIENTS,
    RESPONSE,
    V_LAMBDA,
    UnrolledSettings,
    build_unrolled,
    freeze_moments,
    resolve_crop_gradient,
)
from .weights import RANDOM, default_weights, describe_weights, load_weights

BACKBONES = {"siamfc": siamfc_branch, "vgg19": vgg19_branch}


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the network."""
    group = parser.add_argument_group("network")
    group.add_argument("--frames", type=int, default=10, help="frames of the unrolled network")
    group.add_argument(
        "--backbone",
        default="siamfc",
        metavar="siamfc|vgg19|FILE",
        help="feature branch; FILE is any network (.mat or .npz), its features named by "
        "--feature-layers",
    )
    group.add_argument(
        "--feature-layers",
        metavar="A,B",
        help="feature variables, or the layers that write them, outermost first "
        "(default: feat,x14 of SiamFC; x36,x27 of VGG-19)",
    )
    group.add_argument(
        "--single-layer",
        action="store_true",
        help="the first feature layer alone: DSiam, not DSiamM",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help=".mat, .pth or .npz with weights, or random (by --seed); without it those that come "
        "with the package, and where there are none, or with another backbone, random ones",
    )
    group.add_argument(
        "--crops",
        choices=tuple(CROP_GRADIENTS),
        default=RESPONSE,
        help="what a frame's crops are cut around: the peak of the response before, or the true "
        "box of the frame before (teacher forcing: frames do not wait for one another)",
    )
    group.add_argument(
        "--crop-gradient",
        choices=MODES,
        help="how crops pass derivatives on to the response before (default: pool; none with "
        "--crops ground-truth, where no other is taken)",
    )
    group.add_argument(
        "--freeze-bn", action="store_true", help="batch norm with stored moments, kept as they are"
    )
    group.add_argument(
        "--no-first-frame-transform",
        action="store_true",
        help="no V and W in frame 1, as the tracker has it",
    )
    group.add_argument("--seed", type=int, default=0, help="of everything random")
    add_device_options(group)
    group.add_argument(
        "--out",
        metavar="FILE.npz",
        help="write the network here; FILE.mat is MatConvNet's format, with the solver's state "
        "and the statistics after training",
    )
    group.add_argument("--json", metavar="FILE", help="write layers and parameters here, as JSON")
    group.add_argument(
        "--draw", metavar="FILE.svg", help="draw one frame, and the frames as a chain, here"
    )


def complete_options(options: argparse.Namespace) -> None:
    """Fill in the options whose default depends on another one, or on what the package has.

    Raises
    ------
    ValueError
        If the two contradict each other.
    """
    options.crop_gradient = resolve_crop_gradient(options.crops, options.crop_gradient)
    if options.weights is None and options.backbone == "siamfc":
        options.weights = default_weights()
        if options.weights:
            print(f"weights: {describe_weights(options.weights)}", file=sys.stderr)
    elif options.weights == RANDOM:
        options.weights = None


def feature_layers(options: argparse.Namespace) -> tuple[str, ...]:
    """The feature layers that the options ask for.

    Raises
    ------
    ValueError
        If a backbone from a file comes without names, or the options contradict each other.
    """
    if options.feature_layers:
        names = tuple(name.strip() for name in options.feature_layers.split(","))
        if not all(names):
            raise ValueError(f"--feature-layers has an empty name: {options.feature_layers!r}")
    elif options.backbone in FEATURES:
        names = FEATURES[options.backbone]
    else:
        raise ValueError(
            f"--backbone {options.backbone}: name the feature layers with --feature-layers"
        )
    return names[:1] if options.single_layer else names


def network_settings(options: argparse.Namespace) -> UnrolledSettings:
    """Settings of the unrolled network from the options; see ``UnrolledSettings`` for errors."""
    # A network from a file has SiamFC's first values, unless it is VGG-19.
    kind = "vgg19" if options.backbone == "vgg19" else "siamfc"
    return UnrolledSettings(
        frames=options.frames,
        features=feature_layers(options),
        crops=options.crops,
        crop_gradient=options.crop_gradient,
        freeze_bn=options.freeze_bn,
        transform_first_frame=not options.no_first_frame_transform,
        v_lambda=V_LAMBDA[kind],
        adjust=ADJUST[kind],
    )


def make_network(options: argparse.Namespace) -> DagNN:
    """Build the unrolled network that the options describe, with weights, on its device.

    Parameters that the file of weights does not have keep their first values.
    """
    settings = network_settings(options)
    source = load_weights(options.weights) if options.weights else None
    if options.backbone not in BACKBONES:
        backbone = load_weights(Path(options.backbone))
        branch, features = extract_branch(backbone, settings.features)
        source = source or backbone
    elif source is not None:
        branch, features = extract_branch(source, settings.features)
    else:
        branch, features = BACKBONES[options.backbone](), settings.features
        branch.init_params(np.random.default_rng(options.seed))
    settings = UnrolledSettings(**{**vars(settings), "features": tuple(features)})
    net = build_unrolled(branch, settings)
    if source is not None:
        copy_params(source, net)
    if options.freeze_bn:
        freeze_moments(net)
    net.move(options.device)
    return net
