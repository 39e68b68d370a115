"""The networks that a tracker runs: a branch for features, and the search with V and W in it.

Source: ``get_simafcnet.m`` and ``reshapeNet_vgg.m`` of DSiam, ``update_v`` and ``update_w`` in its
``run_DSiam.m``. Layers have the public code's names: ``circonv1_1`` applies V to the template's
features of the first layer, ``circonv1_2`` W to the search region's, ``circonv2_1`` and
``circonv2_2`` those of the second feature layer, ``sumw`` fuses the two response maps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from dagnet import DagNN, asnumpy, get_array_module, to_device
from dagnet.backend import blas_threads, limit_blas_threads
from layers import CirConv, Conv, Elefusion, XCorr, rlr

from .branches import INPUT, extract_branch
from .settings import TrackerSettings
from .unrolled import lambda_name, rate_name

SCORE = "score"
# Before the names of the branch that computes features of a second size in the same evaluation.
TWIN = "twin_"
FUSION = "sumweights"
# Role -> which of a feature layer's transformations applies it.
TRANSFORMATIONS = {"v": 1, "w": 2}


class TrackingNet:
    """A feature branch taken out of a network, joined to the layers that compare and fuse.

    Parameters
    ----------
    source : DagNN
        A SiamFC network with both streams, a branch alone, or an unrolled (jointly trained)
        network. Parameters are shared with it as long as they stay on the CPU.
    features : sequence of one or two str
        Layers of the branch (or the variables that they write) whose features are compared,
        without the stream's prefix: ``('conv5', 'relu4')`` for SiamFC. The first one's map is
        fused with weight ``sumweights``, resized to the second one's.
    settings : TrackerSettings
        The shares ``v_lr`` and ``w_lr``, the lambdas, ``fusion_weight`` and ``adjust_factor`` are
        taken from here unless ``source`` holds the parameters (``cir11_lr`` ..., ``v_lambda`` ...,
        ``sumweights``, ``adjust_f`` and ``adjust_b``) itself, as a jointly trained network does.
        A share of 0 in the settings switches its transformation off in any case.
    device : 'cpu' or 'gpu'
    fusion_map : array (h, w), optional
        Weights of the first feature layer's map cell by cell, in place of ``sumweights``.

    Attributes
    ----------
    branch, search : DagNN
        Images to features, of one size or of two at once; search region and template features to
        response map.
    lambdas : dict of str to float
        The regularisation in use: ``v_lambda`` and ``w_lambda``, ``v1_lambda`` and ``w1_lambda``.
    filters : dict of str to array (1, C, h, w)
        What was learned: ``v1`` and ``w1`` of the first feature layer, ``v2`` and ``w2``; of shape
        (1, 1, 1, 1) while there is nothing.
    average_image : float32 array (3, h, w) or None
        What is subtracted from patches: the network's ``meta['normalization']['averageImage']``.

    Raises
    ------
    ValueError
        For another number of features, or a fusion map of another size than the response's.
    UnknownNameError
        If a feature is not in the network.
    """

    def __init__(
        self,
        source: DagNN,
        features: Sequence[str],
        settings: TrackerSettings,
        device: str = "cpu",
        fusion_map: np.ndarray | None = None,
    ):
        if len(features) not in (1, 2):
            raise ValueError(f"features must be one or two layers, received {list(features)}")
        self.device = device
        self.average_image = _average_image(source)
        self.branch, self._features = extract_branch(source, features)
        self.search, _ = extract_branch(source, features)
        self.lambdas: dict[str, float] = {}
        self._add_head(source, settings, fusion_map)
        for net in (self.branch, self.search):
            net.mode = "test"
            net.move(device)
            # As many as now, also where BLAS is told to use one thread around an evaluation.
            net.workers = blas_threads()
        _add_twin(self.branch)
        for name in self._features:
            self.branch.get_var(name).precious = True
            self.branch.get_var(TWIN + name).precious = True
        # A layer runs only if all its inputs have values; a disabled one does not look at them.
        self._unused = to_device(np.zeros((1, 1, 1, 1), np.float32), device)
        self._template: list | None = None
        self.forget()

    def sibling(self) -> TrackingNet:
        """A network for another target: layers and weights are shared, what was learned is not.

        Several of them are evaluated at once by ``respond_together`` and ``learn_together``.
        """
        other = copy.copy(self)
        other._template = None
        other.forget()
        return other

    @property
    def levels(self) -> range:
        """Numbers of the feature layers: 1, or 1 and 2."""
        return range(1, len(self._features) + 1)

    def features(self, patches: np.ndarray) -> list:
        """Features of patches (N, 3, S, S): one array (N, C, h, w) a layer, on the device."""
        return self.branches({"": patches})[""]

    def branches(self, patches: dict[str, np.ndarray]) -> dict[str, list]:
        """As ``features``, for patches of one size under ``''`` and of another under ``TWIN``."""
        names = {prefix: [prefix + name for name in self._features] for prefix in patches}
        self.branch.eval(
            {prefix + INPUT: to_device(array, self.device) for prefix, array in patches.items()},
            outputs=[name for group in names.values() for name in group],
        )
        return {
            prefix: [self.branch.get_var(name).value for name in group]
            for prefix, group in names.items()
        }

    def set_template(self, patch: np.ndarray) -> None:
        """Compute and keep the features of the template, a patch (3, S, S)."""
        self._template = self.features(patch[None])

    def respond(self, patches: np.ndarray) -> np.ndarray:
        """Response maps (N, h, w), in main memory, of search patches (N, 3, S, S).

        Raises
        ------
        RuntimeError
            If there is no template yet.
        """
        return respond_together([self], [patches])[0]

    def learn(
        self,
        target: np.ndarray | None = None,
        regions: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Learn V, W or both.

        Parameters
        ----------
        target : array (3, S, S), optional
            The target as it is now: V turns the template's features into those of this patch.
        regions : two arrays (3, S, S), optional
            The target's surroundings, as they are and with the background suppressed: W turns
            the features of the first into those of the second.
        """
        learn_together(
            [self], None if target is None else [target], None if regions is None else [regions]
        )

    def forget(self) -> None:
        """Switch V and W off until they are learned again."""
        self.filters = {f"{role}{n}": self._unused for role in TRANSFORMATIONS for n in self.levels}
        self._learned: frozenset[str] = frozenset()

    # Several targets

    def _search(self, networks: Sequence[TrackingNet], patches: Sequence[Any]) -> np.ndarray:
        """Response maps (K * S, h, w) of targets that have learned the same roles."""
        for role, which in TRANSFORMATIONS.items():
            for level in self.levels:
                block = self.search.get_layer(f"circonv{level}_{which}").block
                block.enable = role in networks[0]._learned
        scales = len(patches[0])
        inputs = {INPUT: to_device(_joined(patches), self.device)}
        for level in self.levels:
            inputs[f"template{level}"] = _for_each(
                [network._template[level - 1] for network in networks], scales
            )
            for name in (f"{role}{level}" for role in TRANSFORMATIONS):
                inputs[name] = _for_each([network.filters[name] for network in networks], scales)
        self.search.eval(inputs)
        return self.search.fetch([SCORE])[SCORE][:, 0]

    def _learn(
        self, networks: Sequence[TrackingNet], role: str, sources: list, targets: list
    ) -> None:
        """Learn the filters of a role from features (K, C, h, w), a pair for each layer."""
        for level, x, y in zip(self.levels, sources, targets):
            # The public code divides the power spectrum by the number of cells.
            penalty = x.dtype.type(self.lambdas[lambda_name(role, level)] * x[0, 0].size)
            with limit_blas_threads(1):
                filters, _ = rlr(x, y, penalty)
            for place, network in enumerate(networks):
                network.filters[f"{role}{level}"] = filters[place : place + 1]
        for network in networks:
            network._learned |= {role}

    # Building

    def _add_head(
        self, source: DagNN, settings: TrackerSettings, fusion_map: np.ndarray | None
    ) -> None:
        net = self.search
        maps = []
        for level, feature in zip(self.levels, self._features):
            template, instance = f"template{level}", feature
            for which, role, moved in ((1, "v", template), (2, "w", instance)):
                rate = rate_name(level, which)
                net.add_layer(
                    f"circonv{level}_{which}",
                    CirConv(enable=False),
                    [moved, f"{role}{level}"],
                    f"t_{moved}",
                    rate,
                )
                share = np.float32([getattr(settings, f"{role}_lr")])
                net.get_param(rate).value = _param(source, rate, share)
                name = lambda_name(role, level)
                value = _param(source, name, np.float32([getattr(settings, name)]))
                self.lambdas[name] = float(asnumpy(value).item())
            maps.append(f"xcorr{level - 1}_out")
            net.add_layer(
                f"xcorr{level - 1}", XCorr(), [f"t_{template}", f"t_{instance}"], maps[-1]
            )
        joined = maps[0]
        if len(maps) == 2:
            joined = "xcorr_out"
            net.add_layer("sumw", Elefusion(), maps, joined, FUSION)
            if fusion_map is None:
                weights = np.full(self._map_size(settings), settings.fusion_weight, np.float32)
                fusion_map = _param(source, FUSION, weights)
            elif fusion_map.shape != self._map_size(settings):
                raise ValueError(
                    f"the fusion map must be of {self._map_size(settings)} cells, the size of "
                    f"the response map, received {fusion_map.shape}"
                )
            net.get_param(FUSION).value = fusion_map.astype(np.float32)
        net.add_layer("adjust", Conv(size=(1, 1, 1, 1)), joined, SCORE, ["adjust_f", "adjust_b"])
        factor = np.full((1, 1, 1, 1), settings.adjust_factor, np.float32)
        net.get_param("adjust_f").value = _param(source, "adjust_f", factor)
        net.get_param("adjust_b").value = _param(source, "adjust_b", np.zeros(1, np.float32))

    def _map_size(self, settings: TrackerSettings) -> tuple[int, int]:
        """Size (h, w) of the response map: that of the last feature layer's."""
        sides = (settings.instance_size, settings.exemplar_size)
        instance, template = (
            self.branch.get_var_sizes({INPUT: (1, 3, side, side)})[self._features[-1]]
            for side in sides
        )
        return int(instance.h - template.h + 1), int(instance.w - template.w + 1)


def respond_together(
    networks: Sequence[TrackingNet], patches: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Responses of several targets, as ``TrackingNet.respond`` gives each, by one evaluation.

    There are two where some targets have V and W and others have not. Other rounding in the
    products of a greater batch is all that can differ.

    Parameters
    ----------
    networks : K networks, all ``sibling`` of one
    patches : K arrays (S, 3, H, W)
        Search patches of each target, as many of each.

    Returns
    -------
    list of K float32 arrays (S, h, w), in main memory

    Raises
    ------
    ValueError
        If the networks do not share their layers, or the targets differ in their patches' shape.
    RuntimeError
        If one of them has no template yet.
    """
    _check_siblings(networks)
    if len({array.shape for array in patches}) > 1:
        raise ValueError(
            "targets that are evaluated together need search patches of one shape, received "
            f"{[array.shape for array in patches]}"
        )
    if any(network._template is None for network in networks):
        raise RuntimeError("respond() was called before set_template(patch)")
    maps: list[Any] = [None] * len(networks)
    for learned in dict.fromkeys(network._learned for network in networks):
        members = [i for i, network in enumerate(networks) if network._learned == learned]
        found = networks[0]._search([networks[i] for i in members], [patches[i] for i in members])
        for i, part in zip(members, np.split(found, len(members))):
            maps[i] = part
    return maps


def learn_together(
    networks: Sequence[TrackingNet],
    targets: Sequence[np.ndarray] | None = None,
    regions: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> None:
    """Learn V, W or both for several targets, as ``TrackingNet.learn`` for each, in one evaluation.

    Parameters
    ----------
    networks : K networks, all ``sibling`` of one
    targets : K arrays (3, S, S), optional
    regions : K pairs of arrays (3, S, S), optional

    Raises
    ------
    ValueError
        If the networks do not share their layers.
    """
    _check_siblings(networks)
    first, patches = networks[0], {}
    if targets is not None:
        patches[""] = np.stack(targets)
    if regions is not None:
        # All surroundings, then all of them without their background.
        patches[TWIN] = np.stack([pair[i] for i in range(2) for pair in regions])
    features = first.branches(patches)
    if targets is not None:
        templates = [_joined(arrays) for arrays in zip(*(n._template for n in networks))]
        first._learn(networks, "v", templates, features[""])
    if regions is not None:
        count, both = len(networks), features[TWIN]
        first._learn(networks, "w", [f[:count] for f in both], [f[count:] for f in both])


def _check_siblings(networks: Sequence[TrackingNet]) -> None:
    if any(network.search is not networks[0].search for network in networks):
        raise ValueError(
            "targets are evaluated together by networks that share their layers: make those of "
            "further targets with sibling()"
        )


def _joined(arrays: Sequence[Any]) -> Any:
    """Arrays (N, ...) one after the other; of one alone itself."""
    if len(arrays) == 1:
        return arrays[0]
    return get_array_module(*arrays).concatenate(arrays)


def _for_each(arrays: Sequence[Any], times: int) -> Any:
    """Arrays (1, ...) of K targets as (K * times, ...); a single one serves all by itself."""
    if len(arrays) == 1:
        return arrays[0]
    joined = _joined(arrays)
    rest = joined.shape[1:]
    each = get_array_module(joined).broadcast_to(joined[:, None], (len(joined), times, *rest))
    return each.reshape(len(joined) * times, *rest)


def _add_twin(branch: DagNN) -> None:
    """Add the layers of a branch a second time, on an input and with variables of their own."""
    for record in list(branch.layers):
        branch.add_layer(
            TWIN + record.name,
            type(record.block)(**record.block.save()),
            [TWIN + v for v in record.inputs],
            [TWIN + v for v in record.outputs],
            record.params,
            skip_rebuild=True,
        )
    branch.rebuild()


def _param(source: DagNN, name: str, default: np.ndarray) -> np.ndarray:
    """The value of a parameter of ``source``, or ``default`` if it has none of this name."""
    index = source.get_param_index(name)
    value = None if index is None else source.params[index].value
    return default if value is None else value


def _average_image(net: DagNN) -> np.ndarray | None:
    """The average image in a network's meta data, as (3, h, w); a colour becomes (3, 1, 1)."""
    image = net.meta.get("normalization", {}).get("averageImage")
    if image is None or np.size(image) == 0:
        return None
    image = np.asarray(image, np.float32)
    return image.transpose(2, 0, 1) if image.ndim == 3 else image.reshape(-1, 1, 1)
