"""Reads the nodes of an ONNX model in order, opening functions, branches and loops, into an Assembly.

Where a node's meaning comes from, in this order: a function that the model defines; the table of normalisers; the op
table, for ops that pass as they are; the function body in ONNX's own definition of the op. Names live in scopes: the
graph, the bodies of If, Loop and Scan, which see the names around them, and functions, which do not.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto, defs, helper

from pimloom.errors import ModelError
from pimloom.frontends import (
    onnx_attention,
    onnx_blocks,
    onnx_math,
    onnx_ml,
    onnx_quantised,
    onnx_recurrent,
    onnx_sampled,
    onnx_shapes,
    onnx_signal,
    onnx_spatial,
)
from pimloom.frontends.onnx_assembly import Assembly
from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import concat, reshape_to
from pimloom.frontends.onnx_tensors import FOUR_BITS, TensorSource, read_sparse
from pimloom.ir.graph import Node
from pimloom.ir.ops import op_names, op_of
from pimloom.ir.types import TensorType

OLDEST_OPSET = 7
MAX_TRIPS = 1000
"""Loops and scans of at most this many steps are unrolled."""

MAX_READ = 300_000
"""Nodes read in all, those of functions and loops counted at each use."""

MAX_DEPTH = 40
"""Functions, branches and loops inside each other."""

_OWN_DOMAINS = ("", "ai.onnx")
_FUSED_DOMAIN = "com.microsoft"
_LEARNT_DOMAIN = "ai.onnx.ml"
_LAID_OUT_DOMAIN = "com.microsoft.nchwc"

_NORMALISERS: Mapping[tuple[str, str], Normaliser] = {
    **{
        ("", op): row
        for module in (
            onnx_shapes,
            onnx_spatial,
            onnx_sampled,
            onnx_math,
            onnx_signal,
            onnx_attention,
            onnx_recurrent,
            onnx_quantised,
        )
        for op, row in module.ROWS.items()
    },
    **{
        (_FUSED_DOMAIN, op): row
        for module in (onnx_spatial, onnx_math, onnx_attention, onnx_quantised, onnx_blocks)
        for op, row in module.FUSED_ROWS.items()
    },
    **{(_LEARNT_DOMAIN, op): row for op, row in onnx_ml.ROWS.items()},
}
_CONTROL_OPS = ("If", "Loop", "Scan", "SequenceMap")

_REASONS: Mapping[str, str] = {
    "NonMaxSuppression": "how many boxes it keeps depends on the numbers, and a program has static shapes; end the network before it",
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
        "it draws random numbers, and a program computes the same each time; export for inference, or make the numbers an input",
    ),
    **dict.fromkeys(
        ("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder"),
        "it works on text or files; do that before the network and begin the network behind it",
    ),
}
"""Why ops of ONNX have no normal form, and what to do."""

# Attributes that say how to compute, not what: dropped without a word.
_IDLE_ATTRIBUTES = frozenset({"stash_type", "consumed_inputs", "saturate", "round_mode", "precision"})


@final
@dataclass(slots=True)
class Scope:
    """The names of one graph, body or function.

    Attributes:
        prefix: put before the names of nodes and values when they become public.
        opsets: version of each domain.
        parent: the scope around a body; None for graphs and functions.
        arguments: attributes that a function was called with.
        values: what each name stands for.
        depth: number of bodies and functions around.
    """

    prefix: str
    opsets: Mapping[str, int]
    parent: Scope | None = None
    arguments: Mapping[str, AttributeProto] = field(default_factory=dict[str, AttributeProto])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    depth: int = 0

    def find(self, name: str) -> Value | None:
        """What a name stands for, here or around."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return None


@final
@dataclass(slots=True)
class Reader:
    """Reads nodes into an assembly.

    Attributes:
        assembly: receives nodes and constants.
        functions: the functions that the model defines, by domain and name.
        source: reads tensors.
        place: what is being read, for messages about faults that nothing foresaw.
    """

    assembly: Assembly
    functions: Mapping[tuple[str, str], FunctionProto]
    source: TensorSource
    place: str = "model"
    n_read: int = 0

    def initializers(self, graph: GraphProto, scope: Scope) -> None:
        """Defines the constants of a graph or body."""
        for tensor in graph.initializer:
            self.place = f"tensor '{tensor.name}'"
            source = self.source if scope.parent is None else replace(self.source, spans={})
            self._bind_constant(scope, tensor.name, source.read(tensor, tensor.name))
            if tensor.data_type in FOUR_BITS:
                self.assembly.four_bit.add(str(scope.values[tensor.name]))
        for sparse in graph.sparse_initializer:
            self.place = f"sparse tensor '{sparse.values.name}'"
            self._bind_constant(scope, sparse.values.name, read_sparse(sparse, self.source, sparse.values.name))

    def _bind_constant(self, scope: Scope, name: str, constant: Any) -> None:
        if not name or name in scope.values:
            raise ModelError(f"tensor '{name}': the name is {'used twice' if name else 'missing'}; the file is damaged")
        self.bind(scope, name, self.assembly.constant(constant))

    def bind(self, scope: Scope, name: str, value: Value) -> None:
        """Gives a value a name in a scope."""
        scope.values[name] = value
        if isinstance(value, str):
            self.assembly.publish(value, scope.prefix + name, scope.depth)

    def nodes(self, nodes: Sequence[NodeProto], scope: Scope) -> None:
        """Reads nodes, sorting them first if they are out of order."""
        for proto in _in_order(nodes, scope):
            self.node(proto, scope)

    def node(self, proto: NodeProto, scope: Scope) -> None:
        """Reads one node: its values are put into normal form and bound to its output names."""
        name = scope.prefix + _node_name(proto)
        former_place, self.place = self.place, f"node '{name}' ({proto.op_type})"
        self.n_read += 1
        if self.n_read > MAX_READ or scope.depth > MAX_DEPTH:
            raise ModelError(f"{self.place}: the network is too large or too deeply nested when unrolled; simplify its loops")
        call = self._call(proto, scope, name)
        former = self.assembly.begin(name)
        results = self._values_of(call, proto, scope)
        self.assembly.end(former)
        self._bind_outputs(call, results, scope)
        self.place = former_place

    def _call(self, proto: NodeProto, scope: Scope, name: str) -> Call:
        domain = "" if proto.domain in _OWN_DOMAINS else proto.domain
        values: list[Value] = []
        for place, value_name in enumerate(proto.input):
            value = scope.find(value_name) if value_name else ""
            if value is None:
                raise ModelError(f"node '{name}' ({proto.op_type}): input {place} '{value_name}' is not defined; the file is damaged")
            values.append(value)
        attributes = {k: v for k, v in ((a.name, self._attribute(a, scope)) for a in proto.attribute) if v is not None}
        outputs = tuple(proto.output)
        return Call(self.assembly, proto.op_type, domain, name, scope.opsets.get(domain, 0), tuple(values), attributes, outputs)

    def _attribute(self, proto: AttributeProto, scope: Scope) -> Any:
        """The Python value of an attribute; None if it refers to an argument that the function was not given."""
        if proto.ref_attr_name:
            if proto.ref_attr_name not in scope.arguments:
                return None
            proto = scope.arguments[proto.ref_attr_name]
        value = helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if proto.type == AttributeProto.STRINGS:
            return tuple(v.decode("utf-8", "replace") for v in value)
        return tuple(value) if isinstance(value, list) else value

    def _bind_outputs(self, call: Call, results: tuple[Value, ...], scope: Scope) -> None:
        for place, name in enumerate(call.outputs):
            if not name:
                continue
            if name in scope.values:
                raise call.fault(f"output '{name}' is defined twice; the file is damaged")
            result = results[place] if place < len(results) else ""
            if result == "":
                raise call.fault(f"its output {place} '{name}' is not supported; remove what reads it")
            self.bind(scope, name, result)

    def _values_of(self, call: Call, proto: NodeProto, scope: Scope) -> tuple[Value, ...]:
        function = self.functions.get((call.domain, call.op))
        if function is not None:
            return self._function(call, function, proto, scope)
        if call.domain == "" and call.opset < OLDEST_OPSET:
            raise call.fault(f"the model imports no usable opset of ONNX (found {call.opset}); export with opset 9 or newer")
        if call.domain == "" and call.op in _CONTROL_OPS:
            return self._control(call, scope)
        if (call.domain, call.op) in _NORMALISERS and _is_plain(call):
            return _NORMALISERS[call.domain, call.op](call)
        if call.domain == "" and _has_row(call.op) and _is_plain(call):
            return _as_it_is(call)
        body = _defined_body(call) if call.domain or call.op not in _REASONS else None
        if body is not None:
            return self._function(call, body, proto, scope, _defaults(call))
        raise _unknown(call)

    def _function(
        self,
        call: Call,
        function: FunctionProto,
        proto: NodeProto,
        scope: Scope,
        defaults: Iterable[AttributeProto] = (),
    ) -> tuple[Value, ...]:
        """Reads the body of a function in the place of its call."""
        arguments = {a.name: a for a in (*defaults, *function.attribute_proto)}
        for attribute in proto.attribute:
            given = scope.arguments.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if given is not None:
                arguments[attribute.name] = given
        opsets = {**scope.opsets, **_opsets(function.opset_import)}
        inner = Scope(f"{call.name}/", opsets, None, arguments, depth=scope.depth + 1)
        for place, name in enumerate(function.input):
            inner.values[name] = call.values[place] if place < len(call.values) else ""
        if len(call.values) > len(function.input):
            raise call.fault(f"{len(call.values)} inputs for a function of {len(function.input)}; the file is damaged")
        self.nodes(function.node, inner)
        return tuple(inner.values.get(name, "") for name in function.output)

    def _control(self, call: Call, scope: Scope) -> tuple[Value, ...]:
        if call.op == "If":
            return self._branch(call, scope)
        if call.op == "SequenceMap":
            return self._sequence_map(call, scope)
        return self._loop(call, scope) if call.op == "Loop" else self._scan(call, scope)

    def _sequence_map(self, call: Call, scope: Scope) -> tuple[Value, ...]:
        """The body for each element of the sequence; further sequences go along with it, tensors are shared."""
        body, length = _body_of(call, "body"), len(call.sequence(0))
        columns = [value if isinstance(value, tuple) else (value,) * length for value in call.values]
        if any(len(column) != length for column in columns):
            raise call.fault(f"its sequences have {', '.join(str(len(c)) for c in columns)} elements; equal lengths expected")
        rows = [self._body(call, body, row, scope, f"/{step}") for step, row in enumerate(zip(*columns, strict=True))]
        made = [tuple(v for v in column if isinstance(v, str)) for column in zip(*rows, strict=True)]
        return tuple(made) if rows else ((),) * len(body.output)

    def _branch(self, call: Call, scope: Scope) -> tuple[Value, ...]:
        """The branch that a known condition chooses; both, and a choice between their values, where it is computed."""
        if self.assembly.known(call.value(0)) is not None:
            chosen = "then_branch" if call.scalar(0, "the condition") else "else_branch"
            return self._body(call, _body_of(call, chosen), (), scope, "")
        then, otherwise = (self._body(call, _body_of(call, f"{tag}_branch"), (), scope, f"/{tag}") for tag in ("then", "else"))
        return tuple(_chosen(call, a, b) for a, b in zip(then, otherwise, strict=True))

    def _body(self, call: Call, body: GraphProto, given: Sequence[Value], scope: Scope, tag: str) -> tuple[Value, ...]:
        """Reads a branch or one step of a loop."""
        if len(given) != len(body.input):
            raise call.fault(f"its body takes {len(body.input)} inputs, {len(given)} are given; the file is damaged")
        inner = Scope(f"{call.name}{tag}/", scope.opsets, scope, scope.arguments, depth=scope.depth + 1)
        for declared, value in zip(body.input, given, strict=True):
            inner.values[declared.name] = value
        self.initializers(body, inner)
        self.nodes(body.node, inner)
        results = [inner.find(output.name) for output in body.output]
        if any(result is None for result in results):
            raise call.fault("an output of its body is never defined; the file is damaged")
        return tuple(result for result in results if result is not None)

    def _loop(self, call: Call, scope: Scope) -> tuple[Value, ...]:
        """Unrolls a loop whose trip count and conditions are known."""
        body = _body_of(call, "body")
        carried: tuple[Value, ...] = call.values[2:]
        n_trips = call.int(0, "the trip count") if call.has(0) else None
        running = bool(call.scalar(1, "the condition")) if call.has(1) else True
        scans: list[tuple[Value, ...]] = []
        while running and (n_trips is None or len(scans) < n_trips):
            step = len(scans)
            if step >= MAX_TRIPS:
                raise call.fault(f"more than {MAX_TRIPS} steps; loops are unrolled, shorten it")
            first = (call.numbers(step, "int64"), call.numbers(np.array(True), "bool"))
            results = self._body(call, body, (*first, *carried), scope, f"/{step}")
            if len(results) <= len(carried):
                raise call.fault("its body has too few outputs; the file is damaged")
            running = self._keeps_running(call, results[0])
            carried = results[1 : 1 + len(carried)]
            scans.append(results[1 + len(carried) :])
        stacked = _stacked(call, scans, axes=None) if scans else ("",) * (len(body.output) - 1 - len(carried))
        return (*carried, *stacked)

    def _keeps_running(self, call: Call, condition: Value) -> bool:
        array = self.assembly.known(condition) if isinstance(condition, str) else None
        if array is None or array.size != 1:
            raise call.fault("its condition depends on the network's inputs; only loops of known length can be unrolled")
        return bool(array.reshape(-1)[0])

    def _scan(self, call: Call, scope: Scope) -> tuple[Value, ...]:
        """Unrolls a scan over the steps of its inputs."""
        if call.opset < 9:
            raise call.fault("Scan before opset 9 is not supported; export with opset 9 or newer")
        body, n_scanned = _body_of(call, "body"), call.required("num_scan_inputs")
        n_states = call.n_inputs - n_scanned
        if not 0 < n_scanned <= call.n_inputs:
            raise call.fault(f"num_scan_inputs is {n_scanned}, expected 1 to {call.n_inputs}")
        steps = list(zip(*(self._scan_input(call, n_states, i) for i in range(n_scanned)), strict=True))
        states, scans = tuple(call.values[:n_states]), []
        for step, parts in enumerate(steps):
            results = self._body(call, body, (*states, *parts), scope, f"/{step}")
            states = results[:n_states]
            scans.append(results[n_states:])
        if not scans:
            raise call.fault("it has no steps; at least one is expected")
        n_outputs = len(scans[0])
        axes = call.listed("scan_output_axes") or (0,) * n_outputs
        directions = call.listed("scan_output_directions") or (0,) * n_outputs
        return (*states, *_stacked(call, scans, axes, directions))

    def _scan_input(self, call: Call, n_states: int, place: int) -> list[str]:
        value, type_ = call.value(n_states + place), call.type(n_states + place)
        axis = call.axis((call.listed("scan_input_axes") or (0,) * (place + 1))[place], type_.rank)
        n_steps = type_.shape[axis]
        if n_steps > MAX_TRIPS:
            raise call.fault(f"{n_steps} steps; at most {MAX_TRIPS} are unrolled, shorten the sequence")
        parts = [call.emit("Squeeze", p, axes=(axis,)) for p in onnx_shapes.split_equal(call, value, axis, max(n_steps, 1))]
        is_reversed = (call.listed("scan_input_directions") or (0,) * (place + 1))[place]
        return parts[::-1] if is_reversed else parts


def _stacked(
    call: Call, scans: Sequence[tuple[Value, ...]], axes: tuple[int, ...] | None, directions: tuple[int, ...] = ()
) -> tuple[Value, ...]:
    """The values of all steps stacked along a new axis, one result per scanned output."""
    results: list[Value] = []
    for place, column in enumerate(zip(*scans, strict=True)):
        parts = [part for part in column if isinstance(part, str) and part]
        if len(parts) != len(column):
            raise call.fault("a scanned output is a sequence, tensors are expected")
        axis = call.axis(axes[place] if axes else 0, call.type_of(parts[0]).rank + 1)
        ordered = parts[::-1] if directions and directions[place] else parts
        results.append(concat(call, tuple(call.emit("Unsqueeze", part, axes=(axis,)) for part in ordered), axis))
    return tuple(results)


def _chosen(call: Call, then: Value, otherwise: Value) -> Value:
    """One of two values, by a condition that depends on the network's inputs."""
    if then == otherwise:
        return then
    if not (isinstance(then, str) and isinstance(otherwise, str)) or call.type_of(then) != call.type_of(otherwise):
        raise call.fault(
            "its condition depends on the network's inputs, and its branches make values of different shapes or types; static "
            "shapes cannot say that, so export the branch that is wanted"
        )
    if call.type(0).size != 1:
        raise call.fault(f"its condition is {call.type(0)}, expected one element")
    return call.emit("Where", reshape_to(call, call.value(0), ()), then, otherwise)


def _node_name(proto: NodeProto) -> str:
    return proto.name or next((o for o in proto.output if o), "") or proto.op_type


def _body_of(call: Call, name: str) -> GraphProto:
    body = call.required(name)
    if not isinstance(body, GraphProto):
        raise call.fault(f"attribute '{name}' is no graph; the file is damaged")
    return body


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain in _OWN_DOMAINS else entry.domain: entry.version for entry in imports}


def _as_it_is(call: Call) -> tuple[Value, ...]:
    """An op whose ONNX form is the normal form: known attributes are copied, others must be idle."""
    n_outputs = max((i + 1 for i, name in enumerate(call.outputs) if name), default=1)
    row = op_of(Node(call.op, (), ()))
    unknown = sorted(set(call.attributes) - set(row.attributes) - _IDLE_ATTRIBUTES)
    if unknown:
        raise call.fault(f"attribute '{unknown[0]}' is not supported; known: {', '.join(row.attributes) or 'none'}")
    if row.n_outputs > 0 and n_outputs > row.n_outputs:
        raise call.fault(f"its output {n_outputs - 1} is not supported; remove what reads it")
    attributes = {name: value for name, value in call.attributes.items() if name in row.attributes}
    return call.emit_many(max(n_outputs, row.n_outputs), call.op, *call.tensors(), **attributes)


def _defined_body(call: Call) -> FunctionProto | None:
    """The function body in ONNX's definition of an op, if there is one."""
    try:
        schema: Any = defs.get_schema(call.op, call.opset, call.domain)
    except defs.SchemaError:
        return None
    if schema.has_context_dependent_function:
        types = [_proto_type(call, value) for value in call.values]
        names = [f"i{i}" if value else "" for i, value in enumerate(call.values)]
        proto = helper.make_node(call.op, names, list(call.outputs), domain=call.domain, **call.attributes)
        content = schema.get_context_dependent_function_with_opset_version(call.opset, proto.SerializeToString(), types)
    elif schema.has_function:
        content = schema.get_function_with_opset_version(call.opset)
    else:
        return None
    if not content:
        return None
    body = FunctionProto()
    body.ParseFromString(content)
    return body


def _defaults(call: Call) -> list[AttributeProto]:
    """Default attributes in ONNX's definition of an op."""
    schema = defs.get_schema(call.op, call.opset, call.domain)
    return [a.default_value for a in schema.attributes.values() if a.default_value.name]


def _proto_type(call: Call, value: Value) -> bytes:
    if not isinstance(value, str):
        raise call.fault("sequences are not supported here; use tensors")
    if not value:
        return TypeProto().SerializeToString()
    held: TensorType = call.type_of(value)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(held.dtype)), held.shape).SerializeToString()


@functools.cache
def _has_row(op: str) -> bool:
    """Whether an op of ONNX has a row in the op table; rows of our own that ONNX does not know do not count."""
    return defs.has(op) and op in op_names()


def _is_plain(call: Call) -> bool:
    """Whether a node is of the kind that our own tables treat; for others the op's definition is read."""
    if call.domain == "" and call.op == "LayerNormalization":
        return not (call.has_output(1) or call.has_output(2))
    return call.domain != "" or call.op != "Attention" or onnx_attention.is_plain(call)


def _unknown(call: Call) -> ModelError:
    if call.domain == _LEARNT_DOMAIN and call.op in onnx_ml.REASONS:
        return call.fault(f"it is not supported: {onnx_ml.REASONS[call.op]}")
    if call.domain == _LAID_OUT_DOMAIN:
        return call.fault(
            "ONNX Runtime laid the weights out for the processor it ran on; use the model from before that, or save it with "
            "graph_optimization_level ORT_ENABLE_EXTENDED"
        )
    if call.domain == "" and call.op in _REASONS:
        return call.fault(f"it is not supported: {_REASONS[call.op]}")
    if call.domain == "" and defs.has(call.op):
        return call.fault("this op of ONNX is not supported; write it with other ops, or end the network before it")
    return call.fault(
        f"op '{call.op}' of domain '{call.domain or 'ai.onnx'}' (opset {call.opset}) is not known; "
        "replace it in the model, or export it as ONNX's own ops or as a local function"
    )


def _free_names(nodes: Sequence[NodeProto], bound: set[str]) -> set[str]:
    """Names that nodes read but do not define, bodies included."""
    bound = bound | {name for node in nodes for name in node.output}
    free: set[str] = set()
    for node in nodes:
        free.update(name for name in node.input if name and name not in bound)
        for body in _bodies(node):
            own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
            free.update(_free_names(body.node, bound | own))
    return free


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]


def _needs(node: NodeProto) -> set[str]:
    names = {name for name in node.input if name}
    for body in _bodies(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        names.update(_free_names(body.node, own) | ({output.name for output in body.output} - own - _made(body.node)))
    return names


def _made(nodes: Sequence[NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output}


def _in_order(nodes: Sequence[NodeProto], scope: Scope) -> list[NodeProto]:
    """The nodes such that each comes after what it reads, otherwise in their own order; ModelError for cycles."""
    maker = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in nodes]
    n_missing = [0] * len(nodes)
    for place, node in enumerate(nodes):
        sources = {maker[name] for name in _needs(node) if name in maker}
        n_missing[place] = len(sources)
        for source in sources:
            readers[source].append(place)
    ready = [place for place, count in enumerate(n_missing) if not count]
    heapq.heapify(ready)
    ordered: list[NodeProto] = []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(nodes[place])
        for reader in readers[place]:
            n_missing[reader] -= 1
            if not n_missing[reader]:
                heapq.heappush(ready, reader)
    if len(ordered) < len(nodes):
        names = ", ".join(f"'{_node_name(node)}'" for node, count in zip(nodes, n_missing, strict=True) if count)
        raise ModelError(
            f"{scope.prefix or 'graph'}: {len(nodes) - len(ordered)} nodes form a cycle or follow one: {names:.80}; "
            "a network must be free of cycles, use Loop or Scan"
        )
    return ordered
