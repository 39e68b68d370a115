"""The entries of a network: layers, variables and parameters, as MatConvNet's struct arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .layer import Layer

TRAIN_METHODS = ("gradient", "average")


@dataclass
class Variable:
    """A variable of the network.

    Attributes
    ----------
    name : str
    value, der : array or None
        Present value, and derivative of the scalar that the last backward pass differentiated.
    fanin, fanout : int
        Number of layers that write and read it.
    precious : bool
        Value and derivative are kept, whatever ``conserve_memory`` says.
    """

    name: str
    value: Any = None
    der: Any = None
    fanin: int = 0
    fanout: int = 0
    precious: bool = False


@dataclass
class Parameter:
    """A parameter of the network.

    Attributes
    ----------
    name : str
    value, der : array or None
    fanout : int
        Number of layers that use it; its derivative is the sum over them.
    train_method : 'gradient' or 'average'
        ``average`` is for batch-norm moments: the "derivative" is the sum of the moments that the
        uses observed, and the value moves towards their mean.
    learning_rate, weight_decay : float
        Factors of the training loop's own.
    """

    name: str
    value: Any = None
    der: Any = None
    fanout: int = 0
    train_method: str = "gradient"
    learning_rate: float = 1.0
    weight_decay: float = 1.0


@dataclass
class LayerRecord:
    """A layer's place in the network: its object (``block``) and the names that it is tied to.

    ``forward_time`` and ``backward_time`` are seconds spent in the last evaluation, or None. What
    was run for several layers, equal ones or chains, is noted at the first of them.
    """

    name: str
    block: Layer
    inputs: list[str]
    outputs: list[str]
    params: list[str]
    input_indexes: list[int] = field(default_factory=list)
    output_indexes: list[int] = field(default_factory=list)
    param_indexes: list[int] = field(default_factory=list)
    forward_time: float | None = None
    backward_time: float | None = None

    @property
    def type(self) -> str:
        """Name of the layer's type as ``.mat`` files give it (``'dagnn.Conv'``)."""
        return self.block.type_name or type(self.block).__name__
