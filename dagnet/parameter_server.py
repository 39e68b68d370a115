"""What a parameter server must do: add up derivatives over several processes."""

from __future__ import annotations

from typing import Any, Protocol


class ParameterServer(Protocol):
    """Sums of derivatives over ``num_workers`` processes that train one network together.

    After MatConvNet's ``ParameterServer``. Given to ``DagNN.set_parameter_server``, it receives
    each parameter's derivative while backward goes on, so that it can be sent meanwhile; a
    parameter that no evaluated layer used is not pushed.

    Attributes
    ----------
    num_workers : int
        Processes whose derivatives are added up.
    """

    num_workers: int

    def push(self, name: str, der: Any) -> None:
        """Take over this process's derivative by the parameter ``name``."""

    def sync(self) -> None:
        """Called once a step, when all is pushed: wait until every process is there."""

    def pull(self, name: str) -> Any:
        """The sum over the processes, or None if none of them pushed the parameter."""
