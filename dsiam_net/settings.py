"""The tracker's settings, one a line with its meaning and unit, and presets of published values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """Every number of the tracker. The defaults are those of the authors' public code.

    Lengths are in pixels of the frame, of a patch (the square given to the network) or in cells
    of the response map, as each line says. Sources: ``fcnet_init.m``, ``optpars.m`` and
    ``run_DSiam.m`` of DSiam, ``tracker.m`` and ``params-5s.txt`` of SiamFC.
    """

    # Patches
    exemplar_size: int = 127  # side of the template's patch, patch pixels
    instance_size: int = 255  # side of the search region's patch, patch pixels
    context_amount: float = 0.5  # margin around the box, as a fraction of (width + height)

    # Search over scales
    num_scales: int = 3  # patches a frame: 1, 3, 5, ...
    scale_step: float = 1.0375  # ratio of the sides of neighbouring scales
    scale_penalty: float = 0.9745  # factor on the scores of all scales but the middle one
    scale_lr: float = 0.58  # how far size and search side go towards the best scale, 0 to 1
    min_side_ratio: float = 0.2  # least search side, as a fraction of the first frame's
    max_side_ratio: float = 5.0  # greatest search side, as a fraction of the first frame's

    # From response to position
    response_up: int = 16  # bicubic enlargement of the response map, cells to finer cells
    window_influence: float = 0.176  # share of the cosine window in the final map, 0 to 1
    total_stride: int = 8  # patch pixels from one cell of the response to the next

    # Transformations V (of the template) and W (of the search region); 1: second feature layer
    v_lr: float = 0.49  # share of the transformed template features, 0 to 1; 0 switches V off
    w_lr: float = 0.29  # share of the transformed search features, 0 to 1; 0 switches W off
    v_lambda: float = 1e-5  # regularisation of V, in units of |F(x)|^2 / n
    w_lambda: float = 10.0  # regularisation of W, in units of |F(x)|^2 / n
    v1_lambda: float = 1e-5  # the same for the second feature layer
    w1_lambda: float = 10.0  # the same for the second feature layer

    # Fusion of two feature layers, and scaling of the response
    fusion_weight: float = 1.0  # weight of the first layer's map (one minus it: the second's)
    adjust_factor: float = 1e-8  # factor on the response of a network without an adjust layer

    # Targets that are tall, lost or outside the frame
    tall_ratio: float = 2.0  # height / width above which a target counts as tall
    tall_rate: float = 0.98  # factor on a tall target's size when its context is measured
    lost_score: float = 0.0  # a best score of this or less means that the target is lost
    lost_growth: float = 1.1  # factor on the search side for each frame that is lost
    max_frames_outside: int = 2  # times outside the frame until the search restarts at its centre

    def __post_init__(self):
        for name in ("exemplar_size", "instance_size", "response_up", "total_stride"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(
            self.instance_size >= self.exemplar_size,
            "instance_size",
            f"at least exemplar_size ({self.exemplar_size})",
            self.instance_size,
        )
        _require(
            self.num_scales >= 1 and self.num_scales % 2 == 1,
            "num_scales",
            "an odd number of at least 1",
            self.num_scales,
        )
        _require(self.scale_step > 1, "scale_step", "greater than 1", self.scale_step)
        for name in ("scale_lr", "window_influence", "v_lr", "w_lr"):
            _require(0 <= getattr(self, name) <= 1, name, "in [0, 1]", getattr(self, name))
        for name in ("v_lambda", "w_lambda", "v1_lambda", "w1_lambda"):
            _require(getattr(self, name) > 0, name, "greater than 0", getattr(self, name))
        _require(
            0 < self.min_side_ratio <= 1 <= self.max_side_ratio,
            "min_side_ratio and max_side_ratio",
            "around 1 and greater than 0",
            (self.min_side_ratio, self.max_side_ratio),
        )

    @property
    def scales(self) -> tuple[float, ...]:
        """Factors on the search side, from the smallest to the greatest; 1 is in the middle."""
        half = self.num_scales // 2
        return tuple(self.scale_step**k for k in range(-half, half + 1))

    def replace(self, **changes: Any) -> TrackerSettings:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def table(self) -> str:
        """The settings as lines of text, to be printed at the start of a run."""
        return "\n".join(f"{name:20s} {value}" for name, value in dataclasses.asdict(self).items())


def _require(condition: bool, name: str, expected: str, received: Any) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, received {received!r}")


PRESETS: dict[str, TrackerSettings] = {
    # The authors' public code with their SiamFC network (fcnet_init.m, case 'siamfc').
    "released": TrackerSettings(),
    # The same with VGG-19 (fcnet_init.m, case 'vgg19').
    "released-vgg19": TrackerSettings(v_lambda=10.0, v1_lambda=10.0, fusion_weight=0.8),
    # SiamFC's own tracker with three scales (tracker.m) and with five (params-5s.txt).
    "siamfc": TrackerSettings(scale_lr=0.59, v_lr=0.0, w_lr=0.0),
    "siamfc-5s": TrackerSettings(
        num_scales=5,
        scale_step=1.0255,
        scale_penalty=0.962,
        scale_lr=0.34,
        window_influence=0.168,
        v_lr=0.0,
        w_lr=0.0,
    ),
    # DSiam on SiamFC's features with the damping that the authors note for them in fcnet_init.m,
    # which is SiamFC's own; the code then sets VGG-19's for both. See docs/tracker.md.
    "paper": TrackerSettings(scale_lr=0.59),
}


def get_preset(name: str, **changes: Any) -> TrackerSettings:
    """Settings of the preset ``name`` (a key of ``PRESETS``), with ``changes`` applied.

    Raises
    ------
    ValueError
        If there is no such preset, or a changed value is out of its range.
    TypeError
        If a change names no setting.
    """
    try:
        preset = PRESETS[name]
    except KeyError:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; received {name!r}") from None
    return preset.replace(**changes)
