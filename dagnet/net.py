"""``DagNN``: a network that is a directed acyclic graph of layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import contents, storage
from .backend import Packed, check_device, get_array_module, to_device
from .errors import DagNNError, LayerError
from .execution import Evaluation, LateInputs
from .explaining import explain
from .geometry import POINT, UNKNOWN_SIZE, ReceptiveField, Size, compose, join
from .graph import Graph
from .memory import fit
from .parameter_server import ParameterServer
from .plan import Plan, condition, make_plan
from .printing import print_network
from .records import Variable
from .requirements import Package, Requirement
from .shortage import free_all

# Training and validation alternate; a tracker has a plan for each kind of image.
PLANS_KEPT = 8
_MODES = {"normal": "normal", "train": "normal", "test": "test"}


class DagNN(Graph):
    """A network of layers, after MatConvNet's ``dagnn.DagNN`` (``matlab/+dagnn/@DagNN``).

    Attributes
    ----------
    layers, vars, params : lists of records
        See :class:`dagnet.graph.Graph`.
    meta : dict
        Anything that belongs to the network (input normalisation, class names); saved with it.
    mode : 'normal' or 'test'
        In ``test`` batch norm uses stored moments. ``'train'`` is accepted for ``'normal'``.
    conserve_memory : bool
        Free values and derivatives as soon as nothing needs them, except of precious variables.
    accumulate_param_ders : bool
        Add derivatives of parameters to those of the evaluation before.
    parameter_server : ParameterServer or None
        Receives ``push(name, derivative)`` as soon as all uses of a parameter are in, and not at
        all in evaluations with ``hold_on=True``; the parameter's ``der`` is then None.
    rng : numpy.random.Generator
        Source of the random numbers that layers draw (dropout).
    workers : int or None
        Threads of an evaluation on the CPU; by default as many as BLAS uses for a product
        (``OPENBLAS_NUM_THREADS`` and its like set both). Which layers run side by side does not
        change the numbers; how many threads BLAS has for a product may, by rounding.
    device : 'cpu' or 'gpu'
        Where parameters live; see ``move``.
    """

    def __init__(self):
        super().__init__()
        self.meta: dict[str, Any] = {}
        self.conserve_memory = True
        self.accumulate_param_ders = False
        self.parameter_server: ParameterServer | None = None
        self.rng = np.random.default_rng(0)
        self.workers: int | None = None
        # Of the last evaluation, on a device: conditions that nobody has looked at yet, and
        # values that were fetched.
        self.requirements: list[Requirement] = []
        self.fetched: dict[str, np.ndarray] = {}
        # Variables whose values came late in the last evaluation.
        self.late_variables: list[Variable] = []
        self._mode = "normal"
        self._device = "cpu"
        self._plans: dict[tuple, Plan] = {}

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode must be 'normal' (or 'train') or 'test', received {mode!r}")
        self._mode = _MODES[mode]

    @property
    def device(self) -> str:
        return self._device

    # Evaluation

    def eval(
        self,
        inputs: Mapping[str, Any],
        der_outputs: Mapping[str, Any] | None = None,
        *,
        late_inputs: LateInputs | None = None,
        hold_on: bool = False,
        outputs: Iterable[str] | None = None,
        plan: bool = True,
        memory_budget: float | None = None,
    ) -> None:
        """Compute variables from ``inputs`` and, where asked for, derivatives.

        Values and derivatives are read from ``get_var(name)`` and ``get_param(name)`` afterwards.
        With ``conserve_memory`` those that another layer has read are gone, unless precious. A
        layer that lacks an input is skipped, with all that depends on it.

        Parameters
        ----------
        inputs : dict of name to array
            Values of input variables, or of any variable whose own layer is then skipped.
        der_outputs : dict of name to array or number, optional
            Derivatives of the scalar by these variables: ``{'objective': 1}``.
        late_inputs : function, optional
            For inputs that depend on computed variables: when all layers that can run have run,
            it is called once with a read-only mapping of variable names to values and returns a
            dict of further inputs; the layers that waited for them run then. They count as
            constants in backward.
        hold_on : bool
            More evaluations follow before the derivatives of parameters are complete.
        outputs : names of variables, optional
            What is asked for, besides ``der_outputs``; layers that it does not depend on are not
            run. By default everything is computed.
        plan : bool
            Run layers that compute the same once, and chains of layers as one (``plan()`` tells
            which); the results are those of running every layer in turn, to rounding. Without
            ``conserve_memory``, where every value and derivative is looked at, each layer runs in
            any case.

        memory_budget : float, optional
            Bytes that values, derivatives and what layers keep may take, as ``plan`` expects them:
            forward of as many units as necessary is run a second time in backward.

        Raises
        ------
        TypeError
            If ``inputs`` or ``der_outputs`` is not a dict.
        UnknownNameError
            If a name is not a variable's.
        DagNNError
            If a derivative is asked for from a variable that was not computed, or the memory
            budget cannot be met.
        ShapeError, LayerError
            If a layer cannot work with what it is given; layer, variables and shapes are named.
        LayerMemoryError
            If there is not enough memory for a layer, which is named, with the bytes. All values
            and derivatives are freed then, and the network can be evaluated again.
        """
        der_outputs = {} if der_outputs is None else der_outputs
        for what, given in (("inputs", inputs), ("der_outputs", der_outputs)):
            if not isinstance(given, Mapping):
                raise TypeError(
                    f"{what} must be a dict of variable names and arrays, received "
                    f"{type(given).__name__}"
                )
            for name in given:
                self.get_var(name)
        # Values of an earlier evaluation must not pass for values of this one.
        for variable in [v for v in self.vars if v.fanin] + self.late_variables:
            variable.value = None
        self.late_variables = []
        self.fetched = {}
        for name, value in inputs.items():
            self.get_var(name).value = value
        what = self._plan(
            inputs, der_outputs, outputs, plan and self.conserve_memory, memory_budget
        )
        evaluation = Evaluation(self, what, der_outputs)
        try:
            evaluation.forward(late_inputs)
            if der_outputs:
                evaluation.backward(hold_on)
        except MemoryError as exc:
            del evaluation
            free_all(self, exc)
            raise

    def fetch(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Values of variables in host memory.

        Those of a device come by one transfer, and with them what layers required of their
        values there; what was fetched is kept until the next evaluation.

        Raises
        ------
        UnknownNameError
            If a name is not a variable's.
        ShapeError, LayerError
            If a value was not what a layer required (``dagnet.require``).
        """
        names = list(names)
        missing = [name for name in dict.fromkeys(names) if name not in self.fetched]
        if missing or self.requirements:
            self.take(self.pack(missing))
        return {name: self.fetched[name] for name in names}

    def pack(self, names: Iterable[str]) -> Package:
        """Values of variables, and what layers required of values, ready for one transfer.

        On a device this is work of the device alone, which can be part of a captured step;
        ``take`` waits for it.
        """
        names = list(names)
        noted, self.requirements = self.requirements, []
        arrays = [requirement.holds for requirement in noted]
        arrays += [self.get_var(name).value for name in names]
        if get_array_module(*arrays) is np:
            return Package(names, noted, arrays, None)
        return Package(names, noted, [], Packed(arrays))

    def take(self, package: Package) -> None:
        """Bring a package's values, for ``fetch``; errors as there."""
        found = package.get()
        count = len(package.requirements)
        for requirement, holds in zip(package.requirements, found):
            if not holds:
                error = requirement.complain()
                if requirement.record is None:
                    raise error
                raise explain(error, requirement.record, [], [], "forward")
        self.fetched |= zip(package.names, found[count:])

    def check_values(self) -> None:
        """Look at what layers required of values in evaluations on a device; errors as ``fetch``.

        On the CPU it was looked at in the evaluation.
        """
        if self.requirements:
            self.fetch(())

    def plan(
        self,
        outputs: Iterable[str] | None = None,
        *,
        input_sizes: Mapping[str, Sequence[int]] | None = None,
        memory_budget: float | None = None,
    ) -> Plan:
        """What ``eval`` runs when ``outputs`` (default: all) is asked for; it can be printed.

        Parameters
        ----------
        outputs : names of variables, optional
        input_sizes : dict of name to (N, C, H, W), optional
            With it the memory that is expected is known.
        memory_budget : float, optional
            As in ``eval``; it needs ``input_sizes``.

        Raises
        ------
        DagNNError
            If the budget cannot be met.
        """
        sizes = self.get_var_sizes(input_sizes or {})
        merge = self.conserve_memory
        plan = make_plan(self, outputs=outputs, merge=merge, sizes=sizes, device=self.device)
        return fit(self, plan, sizes, memory_budget)

    def _plan(
        self,
        inputs: Mapping[str, Any],
        der_outputs: Mapping[str, Any],
        outputs: Iterable[str] | None,
        merge: bool,
        memory_budget: float | None,
    ) -> Plan:
        """The plan of an evaluation; the last few are kept."""
        asked = None if outputs is None else [*outputs, *der_outputs]
        present = [i for i, v in enumerate(self.vars) if v.value is not None]
        values = {self.vars[i].name: self.vars[i].value for i in present}
        shapes = {
            name: value.shape
            for name, value in values.items()
            if len(getattr(value, "shape", ())) == 4
        }
        key = (
            condition(self),
            tuple(present),
            tuple(shapes.items()),
            tuple(getattr(p.value, "shape", None) for p in self.params),
            tuple(inputs),
            tuple(der_outputs),
            None if asked is None else tuple(asked),
            merge,
            memory_budget,
        )
        if key not in self._plans:
            for record in self.layers:
                record.block.planned = True
            sizes = self.get_var_sizes(shapes)
            plan = make_plan(
                self,
                outputs=asked,
                given=inputs,
                seen=der_outputs,
                merge=merge,
                present=present,
                sizes=sizes,
                device=self.device,
            )
            if memory_budget is not None:
                plan = fit(self, plan, sizes, memory_budget)
            while len(self._plans) >= PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        return self._plans[key]

    def set_parameter_server(self, server: ParameterServer) -> None:
        """Send derivatives of parameters to ``server``."""
        self.parameter_server = server

    def clear_parameter_server(self) -> None:
        """Keep derivatives of parameters in the network again."""
        self.parameter_server = None

    # Life

    def reset(self) -> None:
        """Forget values, derivatives and running statistics; parameters stay."""
        self.clear_parameter_server()
        for variable in self.vars:
            variable.value = variable.der = None
        for parameter in self.params:
            parameter.der = None
        for record in self.layers:
            record.block.reset()

    def move(self, device: str) -> None:
        """Carry parameters and constants to ``'cpu'`` or ``'gpu'``; values are reset.

        Raises
        ------
        BackendError
            If the device cannot be used here.
        """
        check_device(device)
        self.reset()
        for parameter in self.params:
            parameter.value = to_device(parameter.value, device)
        for record in self.layers:
            record.block.move(device)
        self._device = device

    def init_params(self, rng: np.random.Generator | int = 0, dtype: Any = np.float32) -> None:
        """Draw initial values of all parameters that their layers know how to draw.

        A parameter that several layers share is drawn once, by the first of them. One whose layer
        has no rule keeps its value.

        Raises
        ------
        LayerError
            If a layer lacks a setting that it needs to draw them.
        """
        rng = np.random.default_rng(rng)
        drawn = set()
        for record in self.layers:
            if set(record.params) <= drawn:
                continue
            try:
                values = record.block.init_params(rng, dtype)
            except ValueError as exc:
                raise LayerError(f"layer {record.name!r} ({record.type}): {exc}") from exc
            for name, value in zip(record.params, values):
                if name not in drawn:
                    self.get_param(name).value = to_device(value, self.device)
                    drawn.add(name)

    # Geometry

    def get_var_sizes(self, input_sizes: Mapping[str, Sequence[int]]) -> dict[str, Size]:
        """Sizes ``(N, C, H, W)`` of all variables from those given; NaN where unknown.

        Parameters
        ----------
        input_sizes : dict of name to (N, C, H, W)
            Of inputs, or of any variables; these stay as they are given.

        Raises
        ------
        UnknownNameError
            If a name is not a variable's.
        DagNNError
            If a size has not four entries.
        """
        sizes = {variable.name: UNKNOWN_SIZE for variable in self.vars}
        for name, size in input_sizes.items():
            if len(size) != 4:
                raise DagNNError(f"size of {name!r} must be (N, C, H, W), received {tuple(size)}")
            sizes[self.get_var(name).name] = Size(*size)
        for index in self._order:
            record = self.layers[index]
            outputs = record.block.get_output_sizes([sizes[v] for v in record.inputs])
            sizes.update((v, z) for v, z in zip(record.outputs, outputs) if v not in input_sizes)
        return sizes

    def get_var_receptive_fields(self, name: str) -> dict[str, ReceptiveField | None]:
        """Receptive field of every variable in the variable ``name``.

        None where the variable does not depend on it; NaN where the field is not known or the
        ways to it have different strides.
        """
        fields: dict[str, ReceptiveField | None] = {v.name: None for v in self.vars}
        fields[self.get_var(name).name] = POINT
        for index in self._order:
            record = self.layers[index]
            own = record.block.get_receptive_fields(len(record.inputs), len(record.outputs))
            for j, output in enumerate(record.outputs):
                ways = [fields[output]] if fields[output] is not None else []
                ways += [
                    compose(fields[v], own[i][j])
                    for i, v in enumerate(record.inputs)
                    if fields[v] is not None and own[i][j] is not None
                ]
                fields[output] = join(ways)
        return fields

    # Printing

    def print(self, input_sizes: Mapping[str, Sequence[int]] | None = None, **options: Any) -> Any:
        """Text: tables of layers, variables, parameters, times, or a dot graph; or a ``digraph``.

        See :func:`dagnet.printing.print_network` for the options.
        """
        return print_network(self, input_sizes, **options)

    def __str__(self) -> str:
        return self.print()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {len(self.layers)} layers, {len(self.vars)} variables, "
            f"{len(self.params)} parameters; mode {self.mode}, on the {self.device}>"
        )

    # Files

    @staticmethod
    def from_simple_nn(
        layers: Sequence[Mapping[str, Any]],
        meta: Mapping[str, Any] | None = None,
        canonical_names: bool = False,
    ) -> DagNN:
        """Build a network from a chain of SimpleNN layers; see ``dagnet.from_simple_nn``."""
        from .simplenn import from_simple_nn

        return from_simple_nn(layers, meta, canonical_names)

    def to_dict(self) -> dict[str, Any]:
        """The network as plain containers and NumPy arrays (MATLAB's ``saveobj``)."""
        return contents.to_dict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DagNN:
        """Build a network from ``to_dict``'s containers (MATLAB's ``loadobj``); on the CPU.

        The network shares no array and no container with ``content``.

        Raises
        ------
        DagNNError
            If a layer's type is not registered, or does not know one of the settings.
        """
        return contents.fill(cls(), content)

    def copy(self) -> DagNN:
        """A deep copy on the CPU of all that ``save`` writes: structure, parameters and meta.

        The copy's mode and the like are those of a new network, as in MatConvNet.
        """
        return type(self).from_dict(self.to_dict())

    def save(self, path: str | os.PathLike) -> None:
        """Write the network to a ``.npz`` file (no pickle), under a temporary name first."""
        storage.save_tree(
            path,
            {"format": contents.FORMAT, "version": contents.FORMAT_VERSION, "net": self.to_dict()},
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> DagNN:
        """Read a network that ``save`` wrote, or that of a checkpoint.

        Raises
        ------
        CheckpointError
            If the file is not one, is damaged, or is of a later version.
        """
        content = contents.check_format(
            path, storage.load_tree(path), contents.FORMAT, contents.CHECKPOINT_FORMAT
        )
        return cls.from_dict(content["net"])
