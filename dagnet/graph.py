"""Structure of a network: adding, removing and renaming, and the order of execution."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .errors import GraphError, UnknownNameError
from .layer import Layer
from .records import LayerRecord, Parameter, Variable

if TYPE_CHECKING:
    import networkx


def _names(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


class Graph:
    """Layers, variables and parameters, and how they hang together.

    Attributes
    ----------
    layers, vars, params : list of LayerRecord, Variable, Parameter
        In order of creation. Variables and parameters appear when a layer names them and go when
        no layer does.
    """

    def __init__(self):
        self.layers: list[LayerRecord] = []
        self.vars: list[Variable] = []
        self.params: list[Parameter] = []
        self._layer_index: dict[str, int] = {}
        self._var_index: dict[str, int] = {}
        self._param_index: dict[str, int] = {}
        self._writer: dict[str, str] = {}
        self._order: list[int] = []
        self._version = 0

    # Looking up

    def get_layer_index(self, name: str) -> int | None:
        """Place of a layer in ``layers``, or None if there is none of this name.

        Indexes hold until the structure changes.
        """
        return self._layer_index.get(name)

    def get_var_index(self, name: str) -> int | None:
        """Place of a variable in ``vars``, or None."""
        return self._var_index.get(name)

    def get_param_index(self, name: str) -> int | None:
        """Place of a parameter in ``params``, or None."""
        return self._param_index.get(name)

    def get_layer(self, name: str) -> LayerRecord:
        """The record of a layer. UnknownNameError if there is none of this name."""
        return self.layers[self._find("layer", name, self._layer_index)]

    def get_var(self, name: str) -> Variable:
        """The record of a variable. UnknownNameError if there is none of this name."""
        return self.vars[self._find("variable", name, self._var_index)]

    def get_param(self, name: str) -> Parameter:
        """The record of a parameter. UnknownNameError if there is none of this name."""
        return self.params[self._find("parameter", name, self._param_index)]

    def get_inputs(self) -> list[str]:
        """Names of the variables that no layer writes."""
        return [v.name for v in self.vars if v.fanin == 0]

    def get_outputs(self) -> list[str]:
        """Names of the variables that no layer reads."""
        return [v.name for v in self.vars if v.fanout == 0]

    def get_layer_execution_order(self) -> list[int]:
        """Indexes of the layers in the order in which ``eval`` runs them."""
        return list(self._order)

    @staticmethod
    def _find(kind: str, name: str, index: dict[str, int]) -> int:
        try:
            return index[name]
        except KeyError:
            near = difflib.get_close_matches(str(name), index, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise UnknownNameError(
                f"no {kind} {name!r} in the network of {len(index)} {kind}s{hint}"
            ) from None

    # Changing

    def add_layer(
        self,
        name: str,
        block: Layer,
        inputs: str | Iterable[str],
        outputs: str | Iterable[str],
        params: str | Iterable[str] = (),
        *,
        skip_rebuild: bool = False,
    ) -> None:
        """Add a layer that reads ``inputs`` and ``params`` and writes ``outputs``.

        Variables and parameters of these names are created where they do not exist.

        Parameters
        ----------
        skip_rebuild : bool
            Leave indexes and order to a later ``rebuild()``, which large networks call once. A
            cycle is then found there.

        Raises
        ------
        GraphError
            If the name is taken, an output is already written by another layer, the layer cannot
            take this number of inputs, outputs or parameters, or a cycle would arise. The network
            is left as it was.
        """
        record = LayerRecord(name, block, _names(inputs), _names(outputs), _names(params))
        self._check_record(record)
        self.layers.append(record)
        self._layer_index[name] = len(self.layers) - 1
        for output in record.outputs:
            self._writer[output] = name
        self._add_names(record)
        if not skip_rebuild:
            try:
                self.rebuild()
            except GraphError:
                self.layers.pop()
                self.rebuild()
                raise

    def remove_layer(self, names: str | Iterable[str]) -> None:
        """Remove one layer or several, and the variables and parameters that none uses then."""
        doomed = {self.get_layer(name).name for name in _names(names)}
        self.layers = [record for record in self.layers if record.name not in doomed]
        self.rebuild()

    def rename_layer(self, old: str, new: str, *, quiet: bool = False) -> None:
        """Give a layer another name. GraphError if it is taken.

        UnknownNameError if there is no layer ``old``; with ``quiet`` nothing happens then.
        """
        if quiet and old not in self._layer_index:
            return
        record = self.get_layer(old)
        _check_new_name("layer", old, new, self._layer_index)
        record.name = new
        self.rebuild()

    def rename_var(self, old: str, new: str, *, quiet: bool = False) -> None:
        """Give a variable another name in every layer.

        If a variable of the new name exists, the two become one, which is how a network is joined
        to another. GraphError if two layers would then write it, or a cycle would arise.
        UnknownNameError if there is no variable ``old``; with ``quiet`` nothing happens then.
        """
        if quiet and old not in self._var_index:
            return
        variable = self.get_var(old)
        _check_new_name("variable", old, new, ())

        def change():
            for record in self.layers:
                record.inputs = [new if v == old else v for v in record.inputs]
                record.outputs = [new if v == old else v for v in record.outputs]
            if new not in self._var_index:
                variable.name = new

        self._try_change(change)

    def rename_param(self, old: str, new: str, *, quiet: bool = False) -> None:
        """Give a parameter another name in every layer. GraphError if it is taken.

        UnknownNameError if there is no parameter ``old``; with ``quiet`` nothing happens then.
        """
        if quiet and old not in self._param_index:
            return
        parameter = self.get_param(old)
        _check_new_name("parameter", old, new, self._param_index)
        for record in self.layers:
            record.params = [new if p == old else p for p in record.params]
        parameter.name = new
        self.rebuild()

    def set_layer_inputs(self, name: str, inputs: str | Iterable[str]) -> None:
        """Let a layer read other variables."""
        self._rewire(name, inputs=_names(inputs))

    def set_layer_outputs(self, name: str, outputs: str | Iterable[str]) -> None:
        """Let a layer write other variables."""
        self._rewire(name, outputs=_names(outputs))

    def set_layer_params(self, name: str, params: str | Iterable[str]) -> None:
        """Let a layer use other parameters."""
        self._rewire(name, params=_names(params))

    def rebuild(self) -> None:
        """Bring fan-in, fan-out, indexes and the order of execution up to date.

        To be called after ``layers`` or a layer's ``inputs``, ``outputs`` or ``params`` were
        changed by hand. Variables and parameters that no layer names any more are dropped, and
        those that are new are made.

        Raises
        ------
        GraphError
            If two layers write one variable, or the graph has a cycle; layers and variables are
            named.
        """
        readers: dict[str, int] = {}
        users: dict[str, int] = {}
        writer: dict[str, str] = {}
        for record in self.layers:
            for variable in record.inputs:
                readers[variable] = readers.get(variable, 0) + 1
            for parameter in record.params:
                users[parameter] = users.get(parameter, 0) + 1
            for variable in record.outputs:
                if variable in writer:
                    raise GraphError(_two_writers(variable, writer[variable], record.name))
                writer[variable] = record.name
        order = self._sort(writer)

        self._index_names()
        for record in self.layers:
            self._add_names(record)
        for variable in self.vars:
            variable.fanin = int(variable.name in writer)
            variable.fanout = readers.get(variable.name, 0)
        for parameter in self.params:
            parameter.fanout = users.get(parameter.name, 0)
        self.vars = [v for v in self.vars if v.fanin + v.fanout > 0]
        self.params = [p for p in self.params if p.fanout > 0]
        self._writer = writer
        self._index_names()
        self._layer_index = {record.name: i for i, record in enumerate(self.layers)}
        for record in self.layers:
            record.input_indexes = [self._var_index[v] for v in record.inputs]
            record.output_indexes = [self._var_index[v] for v in record.outputs]
            record.param_indexes = [self._param_index[p] for p in record.params]
        self._order = order
        self._version += 1

    def to_networkx(self) -> networkx.DiGraph:
        """The graph with a node for each layer and variable.

        Nodes are ``('layer', name)`` with attributes ``type`` and ``params``, and ``('var',
        name)`` with attribute ``precious``; edges run from inputs through layers to outputs.
        """
        import networkx

        graph = networkx.DiGraph()
        for variable in self.vars:
            graph.add_node(("var", variable.name), precious=variable.precious)
        for record in self.layers:
            node = ("layer", record.name)
            graph.add_node(node, type=record.type, params=list(record.params))
            graph.add_edges_from((("var", v), node) for v in record.inputs)
            graph.add_edges_from((node, ("var", v)) for v in record.outputs)
        return graph

    # Inside

    def _add_names(self, record: LayerRecord) -> None:
        """Create the variables and parameters of a layer that do not exist."""
        for name in [*record.inputs, *record.outputs]:
            if name not in self._var_index:
                self._var_index[name] = len(self.vars)
                self.vars.append(Variable(name))
        attributes = record.block.param_attributes()
        for place, name in enumerate(record.params):
            if name not in self._param_index:
                own = attributes[place] if place < len(attributes) else {}
                self._param_index[name] = len(self.params)
                self.params.append(Parameter(name, **own))

    def _check_record(self, record: LayerRecord) -> None:
        if not isinstance(record.block, Layer):
            raise GraphError(
                f"layer {record.name!r}: block must be an instance of dagnet.Layer, received "
                f"{type(record.block).__name__}"
            )
        what = f"layer {record.name!r} ({record.type})"
        if not record.name or not isinstance(record.name, str):
            raise GraphError(f"a layer's name must be a non-empty string, received {record.name!r}")
        if record.name in self._layer_index:
            other = self.layers[self._layer_index[record.name]]
            raise GraphError(
                f"there is already a layer {record.name!r} ({other.type}, writes "
                f"{', '.join(other.outputs)}); choose another name or remove it first"
            )
        _check_arity(what, record)
        for output in record.outputs:
            if output in self._writer:
                raise GraphError(_two_writers(output, self._writer[output], record.name))

    def _index_names(self) -> None:
        self._var_index = {v.name: i for i, v in enumerate(self.vars)}
        self._param_index = {p.name: i for i, p in enumerate(self.params)}

    def _rewire(
        self,
        name: str,
        inputs: list[str] | None = None,
        outputs: list[str] | None = None,
        params: list[str] | None = None,
    ) -> None:
        record = self.get_layer(name)

        def change():
            record.inputs = record.inputs if inputs is None else inputs
            record.outputs = record.outputs if outputs is None else outputs
            record.params = record.params if params is None else params
            _check_arity(f"layer {name!r} ({record.type})", record)

        self._try_change(change)

    def _try_change(self, change) -> None:
        """Run ``change`` and rebuild; if the graph is then impossible, undo it and raise."""
        before = [(r, r.inputs, r.outputs, r.params) for r in self.layers]
        names = [(v, v.name) for v in self.vars]
        try:
            change()
            self.rebuild()
        except GraphError:
            for record, inputs, outputs, params in before:
                record.inputs, record.outputs, record.params = inputs, outputs, params
            for variable, old_name in names:
                variable.name = old_name
            self.rebuild()
            raise

    def _sort(self, writer: dict[str, str]) -> list[int]:
        """Order by falling distance to the sinks, ties by place: MatConvNet's order."""
        place = {record.name: i for i, record in enumerate(self.layers)}
        before = [
            [place[writer[v]] for v in record.inputs if v in writer] for record in self.layers
        ]
        readers = [0] * len(self.layers)
        for sources in before:
            for source in sources:
                readers[source] += 1
        height = [1] * len(self.layers)
        ready = [i for i, count in enumerate(readers) if count == 0]
        done = 0
        while ready:
            current = ready.pop()
            done += 1
            for source in before[current]:
                height[source] = max(height[source], height[current] + 1)
                readers[source] -= 1
                if readers[source] == 0:
                    ready.append(source)
        if done < len(self.layers):
            raise GraphError(self._describe_cycle(before))
        return sorted(range(len(self.layers)), key=lambda i: -height[i])

    def _describe_cycle(self, before: Sequence[Sequence[int]]) -> str:
        import networkx

        graph = networkx.DiGraph((s, i) for i, sources in enumerate(before) for s in sources)
        steps = []
        for source, target in networkx.find_cycle(graph):
            first, second = self.layers[source], self.layers[target]
            shared = next(v for v in first.outputs if v in second.inputs)
            steps.append(
                f"layer {first.name!r} writes {shared!r}, which layer {second.name!r} reads"
            )
        return "the graph has a cycle: " + "; ".join(steps)


def _check_new_name(kind: str, old: str, new: str, taken: Iterable[str]) -> None:
    if not new or not isinstance(new, str):
        raise GraphError(
            f"cannot rename {kind} {old!r}: a name must be a non-empty string, received {new!r}"
        )
    if new in taken:
        raise GraphError(f"cannot rename {kind} {old!r}: there is already a {kind} {new!r}")


def _two_writers(variable: str, first: str, second: str) -> str:
    return (
        f"variable {variable!r} would be written by two layers, {first!r} and {second!r}; "
        "each variable has one writer: rename an output"
    )


def _check_arity(what: str, record: LayerRecord) -> None:
    block = record.block
    for kind, names, (least, most) in (
        ("input", record.inputs, block.num_inputs),
        ("output", record.outputs, block.num_outputs),
        ("parameter", record.params, block.num_params),
    ):
        if len(names) < least or (most is not None and len(names) > most):
            wanted = f"{least}" if least == most else f"{least} to {most or 'any number of'}"
            raise GraphError(
                f"{what} takes {wanted} {kind}s, received {len(names)}: "
                f"{', '.join(names) or 'none'}"
            )
        for name in names:
            if not isinstance(name, str) or not name:
                raise GraphError(
                    f"{what}: names of {kind}s must be non-empty strings, received {name!r}"
                )
    if len(set(record.outputs)) < len(record.outputs):
        raise GraphError(f"{what} writes a variable twice: {', '.join(record.outputs)}")
    both = set(record.inputs) & set(record.outputs)
    if both:
        raise GraphError(
            f"{what} would read and write {', '.join(sorted(both))}: a cycle of one layer"
        )
