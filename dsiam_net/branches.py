"""Feature branches: the network that turns an image into feature maps, built or taken from a file.

A branch is a ``DagNN`` with one input variable, ``input``. SiamFC's variables and parameters have
the names of ``siamese-fc/training/vid_create_net.m``, VGG-19's those of ``fromSimpleNN``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dagnet import DagNN, UnknownNameError
from layers import BatchNorm, Conv, Pooling, ReLU

INPUT = "input"
# Features of a branch, outermost first: the last one's response map sets the size of the others'.
FEATURES = {"siamfc": ("feat", "x14"), "vgg19": ("x36", "x27")}
# vl_nnbnorm's default when siamese-fc was written (MatConvNet v1.0-beta20).
SIAMFC_EPSILON = 1e-4
# What a branch's names are preceded by in files: a branch alone, a SiamFC network's exemplar
# stream, the template branch of frame 1 of an unrolled network.
PREFIXES = ("", "a_", "f1_o1_")
VGG19_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def siamfc_branch(
    channels: Sequence[int] = (96, 256, 384, 384, 256), epsilon: float = SIAMFC_EPSILON
) -> DagNN:
    """SiamFC's AlexNet-like branch: conv1 bn1 relu1 pool1 ... conv5, without parameter values.

    conv2, conv4 and conv5 have two filter groups. Training factors are those of
    ``vid_create_net.m`` (filters 1, biases 2, batch norm 2, 1 and 0.05; weight decay on filters
    alone).

    Parameters
    ----------
    channels : sequence of int
        Output channels of conv1 to conv5.
    epsilon : float
        Of the batch norms.
    """
    # kernel, stride, groups, pool after it
    shapes = (
        (11, 2, 1, True),
        (5, 1, 2, True),
        (3, 1, 1, False),
        (3, 1, 2, False),
        (3, 1, 2, False),
    )
    net, source, count, before = DagNN(), INPUT, 0, 3

    def add(name, block, params=()):
        nonlocal source, count
        count += 1
        target = "feat" if name == "conv5" else f"x{count}"
        net.add_layer(name, block, source, target, params, skip_rebuild=True)
        source = target

    for i, (out, (kernel, stride, groups, pool)) in enumerate(zip(channels, shapes), start=1):
        size = (out, before // groups, kernel, kernel)
        add(f"conv{i}", Conv(size=size, stride=stride), [f"conv{i}f", f"conv{i}b"])
        if i < len(shapes):
            block = BatchNorm(num_channels=out, epsilon=epsilon)
            add(f"bn{i}", block, [f"bn{i}m", f"bn{i}b", f"bn{i}x"])
            add(f"relu{i}", ReLU())
        if pool:
            add(f"pool{i}", Pooling(method="max", pool_size=3, stride=2))
        before = out
    net.rebuild()
    factors = {"f": (1.0, 1.0), "b": (2.0, 0.0), "m": (2.0, 0.0), "x": (0.05, 0.0)}
    for parameter in net.params:
        rate, decay = factors[parameter.name[-1]]
        if parameter.name.startswith("bn") and parameter.name.endswith("b"):
            rate = 1.0
        parameter.learning_rate, parameter.weight_decay = rate, decay
    return net


def vgg19_branch() -> DagNN:
    """VGG-19's convolutions up to relu5_4, named as ``fromSimpleNN`` names them."""
    net, count, before = DagNN(), 0, 3

    def add(name, block, params=()):
        nonlocal count
        source = INPUT if count == 0 else f"x{count}"
        count += 1
        net.add_layer(name, block, source, f"x{count}", params, skip_rebuild=True)

    for i, (depth, out) in enumerate(VGG19_BLOCKS, start=1):
        for j in range(1, depth + 1):
            name = f"conv{i}_{j}"
            add(name, Conv(size=(out, before, 3, 3), pad=1), [f"{name}f", f"{name}b"])
            add(f"relu{i}_{j}", ReLU())
            before = out
        if i < len(VGG19_BLOCKS):
            add(f"pool{i}", Pooling(method="max", pool_size=2, stride=2))
    net.rebuild()
    return net


def feature_variables(net: DagNN, features: Sequence[str], prefix: str = "") -> list[str] | None:
    """Variables that ``features`` mean, each the name of a variable or of the layer that writes
    it, preceded by ``prefix``; None if one is not there."""
    found = []
    for feature in features:
        name = prefix + feature
        if net.get_var_index(name) is not None:
            found.append(name)
        elif net.get_layer_index(name) is not None:
            found.append(net.get_layer(name).outputs[0])
        else:
            return None
    return found


def extract_branch(net: DagNN, features: Sequence[str]) -> tuple[DagNN, list[str]]:
    """Take the branch that computes ``features`` out of a network.

    Parameters
    ----------
    net : DagNN
        A branch alone, a SiamFC network with both streams, or an unrolled network.
    features : sequence of str
        Names of variables, or of the layers that write them, without the stream's prefix.

    Returns
    -------
    branch : DagNN
        With input variable ``input``; parameters share their arrays with ``net``.
    names : list of str
        The feature variables of the branch.

    Raises
    ------
    UnknownNameError
        If a feature is not in the network.
    ValueError
        If the features depend on more than one input.
    """
    for prefix in PREFIXES:
        variables = feature_variables(net, features, prefix)
        if variables is not None:
            break
    else:
        raise UnknownNameError(
            f"features {', '.join(features)} are not all in the network, with none of the "
            f"prefixes {', '.join(repr(p) for p in PREFIXES)}; its variables: "
            f"{', '.join(v.name for v in net.vars[:40])}" + (", ..." if len(net.vars) > 40 else "")
        )
    needed, chosen = set(variables), []
    for index in reversed(net.get_layer_execution_order()):
        record = net.layers[index]
        if needed.intersection(record.outputs):
            chosen.append(record)
            needed.update(record.inputs)
    written = {v for record in chosen for v in record.outputs}
    sources = needed - written
    if len(sources) != 1:
        raise ValueError(
            f"features {', '.join(features)} must depend on one input, "
            f"they depend on {', '.join(sorted(sources)) or 'none'}"
        )
    (source,) = sources

    def short(name: str) -> str:
        return INPUT if name == source else name.removeprefix(prefix)

    branch = DagNN()
    for record in reversed(chosen):
        branch.add_layer(
            record.name.removeprefix(prefix),
            type(record.block)(**record.block.save()),
            [short(v) for v in record.inputs],
            [short(v) for v in record.outputs],
            record.params,
            skip_rebuild=True,
        )
    branch.rebuild()
    copy_params(net, branch)
    branch.meta = dict(net.meta)
    return branch, [short(v) for v in variables]


def copy_params(source: DagNN, target: DagNN) -> list[str]:
    """Give parameters of ``target`` the values and training attributes of ``source``'s, by name.

    Arrays are shared, not copied; one that is None in ``source`` leaves the value as it is.
    Returns the names whose values were taken.

    Raises
    ------
    ValueError
        If a parameter has a value of another shape in ``target``.
    """
    common = []
    for parameter in target.params:
        index = source.get_param_index(parameter.name)
        if index is None:
            continue
        other = source.params[index]
        parameter.train_method = other.train_method
        parameter.learning_rate = other.learning_rate
        parameter.weight_decay = other.weight_decay
        if other.value is None:
            continue
        if parameter.value is not None and parameter.value.shape != other.value.shape:
            raise ValueError(
                f"parameter {parameter.name!r} has shape {other.value.shape} in the weights, the "
                f"network needs {parameter.value.shape}: the weights are of another network"
            )
        parameter.value = other.value
        common.append(parameter.name)
    return common


def cast_params(net: DagNN, dtype: type) -> None:
    """Give all parameters the dtype ``dtype``."""
    for parameter in net.params:
        if parameter.value is not None:
            parameter.value = np.ascontiguousarray(parameter.value, dtype=dtype)
