"""ONNX files as Graphs.

`load_onnx` accepts opsets 7 to the newest of the installed onnx package. The Graph it returns is static and in normal
form: shape arithmetic is computed while reading, automatic padding is resolved, recurrent ops and loops are unrolled,
fused ops are decomposed. Floats are float32 (see `onnx_tensors`); large weights stay in the file until their numbers
are needed.

Any fault of the file ends in a ModelError. Faults that no check foresaw are caught in one place, `load_onnx`, which
names the node or tensor that was being read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import GraphProto, ValueInfoProto, defs

from pimloom.errors import ModelError
from pimloom.frontends.onnx_assembly import Assembly
from pimloom.frontends.onnx_file import open_model
from pimloom.frontends.onnx_read import OLDEST_OPSET, Reader, Scope
from pimloom.frontends.onnx_tensors import FOUR_BITS, TensorSource, check_shape, graph_dtype
from pimloom.ir.graph import Graph
from pimloom.ir.types import TensorType

Shapes = Mapping[str, tuple[int, ...] | int]

_OWN_DOMAINS = ("", "ai.onnx")


def load_onnx(
    source: str | Path | bytes | onnx.ModelProto, shapes: Shapes | None = None, name: str | None = None
) -> Graph:
    """Reads an ONNX model into a Graph in normal form.

    Args:
        source: path of a file, its bytes, or a parsed model. External data is found from a path only.
        shapes: the shape of an input by its name, or the size of a symbolic dimension by its name. A symbolic first
            dimension of an input that is not given is taken as the batch and becomes 1.
        name: what reports call the network; by default the file's name.

    Returns:
        The Graph. Its inputs and outputs keep the model's names.

    Raises:
        ModelError: if the model is malformed, too large, or uses something that is not supported.
    """
    reader = Reader(Assembly(), {}, TensorSource(None, {}))
    try:
        return _load(reader, source, shapes or {}, name)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{reader.place}: it cannot be read ({type(error).__name__}: {str(error)[:200]}); the model is damaged "
            "or not valid ONNX"
        ) from error


def _load(reader: Reader, source: str | Path | bytes | onnx.ModelProto, shapes: Shapes, name: str | None) -> Graph:
    model, reader.source, own_name = open_model(source)
    graph = model.graph
    reader.functions = {("" if f.domain in _OWN_DOMAINS else f.domain, f.name): f for f in model.functions}
    scope = Scope("", _opsets(model))
    if not graph.node:
        raise ModelError(f"model '{own_name}': it has no nodes; there is nothing to compile")
    if not graph.output:
        raise ModelError(f"model '{own_name}': it has no outputs; export it again")
    reader.initializers(graph, scope)
    for value, type_ in _input_types(graph, shapes).items():
        reader.place = f"input '{value}'"
        scope.values[value] = reader.assembly.input(value, type_)
    reader.place = f"model '{own_name}'"
    reader.nodes(graph.node, scope)
    reader.place = f"model '{own_name}'"
    return reader.assembly.finish(name or own_name, _outputs(graph, scope))


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    opsets = {"" if entry.domain in _OWN_DOMAINS else entry.domain: entry.version for entry in model.opset_import}
    newest = defs.onnx_opset_version()
    own = opsets.get("", newest)
    if not OLDEST_OPSET <= own <= newest:
        raise ModelError(
            f"model: opset {own} found, {OLDEST_OPSET} to {newest} expected; export it with another opset or use "
            "onnx.version_converter"
        )
    return opsets


def _outputs(graph: GraphProto, scope: Scope) -> dict[str, str]:
    outputs: dict[str, str] = {}
    for declared in graph.output:
        value = scope.find(declared.name)
        if not isinstance(value, str) or not value:
            raise ModelError(
                f"output '{declared.name}': it is {'a sequence' if value else 'never defined'}; a tensor is expected"
            )
        if declared.name in outputs:
            raise ModelError(f"output '{declared.name}': it is listed twice; the file is damaged")
        outputs[declared.name] = value
    return outputs


def _input_types(graph: GraphProto, shapes: Shapes) -> dict[str, TensorType]:
    """Types of the inputs that are no initializers, with symbolic dimensions bound."""
    constants = {tensor.name for tensor in graph.initializer} | {
        sparse.values.name for sparse in graph.sparse_initializer
    }
    declared = [value for value in graph.input if value.name not in constants]
    names = [value.name for value in declared]
    if len(set(names)) != len(names) or "" in names:
        raise ModelError(f"graph: an input is listed twice or has no name: {names[:8]}; the file is damaged")
    symbols = _bound_symbols(declared, shapes)
    for key in shapes:
        if key not in names and key not in symbols:
            raise ModelError(
                f"shape for '{key}': there is no such input or dimension; inputs: {', '.join(names) or 'none'}"
            )
    return {value.name: _input_type(value, shapes, symbols) for value in declared}


def _dimensions(value: ValueInfoProto) -> list[str | int] | None:
    """Sizes and symbols of an input's dimensions, "?" where there is neither; None if the rank is unknown."""
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"input '{value.name}': it is no tensor; sequences, maps and optional values cannot be inputs")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else (d.dim_param or "?") for d in tensor.shape.dim
    ]


def _bound_symbols(declared: list[ValueInfoProto], shapes: Shapes) -> dict[str, int]:
    """The size of every symbolic dimension that is given, follows from a given shape, or is the batch."""
    symbols: dict[str, int] = {}
    batches: list[str] = []
    for value in declared:
        dimensions = _dimensions(value) or []
        given = _given_shape(value, shapes)
        for place, symbol in enumerate(dimensions):
            if not isinstance(symbol, str) or symbol == "?":
                continue
            if given is not None and place < len(given):
                _bind(symbols, symbol, given[place], value.name)
            elif symbol in shapes:
                size = shapes[symbol]
                _bind(symbols, symbol, size if isinstance(size, int) else size[0], value.name)
            elif place == 0:
                batches.append(symbol)
    for symbol in batches:
        symbols.setdefault(symbol, 1)
    return symbols


def _bind(symbols: dict[str, int], symbol: str, size: int, where: str) -> None:
    if symbols.setdefault(symbol, size) != size:
        raise ModelError(
            f"input '{where}': dimension '{symbol}' is {size} here and {symbols[symbol]} elsewhere; give equal sizes"
        )


def _given_shape(value: ValueInfoProto, shapes: Shapes) -> tuple[int, ...] | None:
    given = shapes.get(value.name)
    if given is None:
        return None
    shape = (given,) if isinstance(given, int) else tuple(given)
    if any(d < 1 for d in shape):
        raise ModelError(f"input '{value.name}': shape {list(shape)} is given; every size must be 1 or more")
    return shape


def _input_type(value: ValueInfoProto, shapes: Shapes, symbols: Mapping[str, int]) -> TensorType:
    where = f"input '{value.name}'"
    dimensions, given = _dimensions(value), _given_shape(value, shapes)
    if value.type.tensor_type.elem_type in FOUR_BITS:
        raise ModelError(f"{where}: 4-bit integers are supported as stored weights only; use 8-bit inputs")
    dtype = graph_dtype(value.type.tensor_type.elem_type, where)
    if dimensions is None and given is None:
        raise ModelError(f"{where}: its shape is not stated; bind it with --shape {value.name}=1,3,224,224")
    if dimensions is not None and given is not None:
        _check_given(where, dimensions, given)
    shape = given if given is not None else _static(value.name, dimensions or [], symbols)
    check_shape(where, shape)
    return TensorType(dtype, shape)


def _check_given(where: str, dimensions: list[str | int], given: tuple[int, ...]) -> None:
    if len(given) != len(dimensions):
        raise ModelError(
            f"{where}: {len(given)} dimensions are given, the model has {len(dimensions)}: {_listed(dimensions)}"
        )
    for place, (held, size) in enumerate(zip(dimensions, given, strict=True)):
        if isinstance(held, int) and held != size and place > 0:
            raise ModelError(
                f"{where}: dimension {place} is {held} in the model, {size} is given; only symbolic dimensions can "
                "be bound"
            )


def _static(name: str, dimensions: list[str | int], symbols: Mapping[str, int]) -> tuple[int, ...]:
    sizes: list[int] = []
    for place, dimension in enumerate(dimensions):
        if isinstance(dimension, int):
            sizes.append(dimension)
        elif dimension in symbols:
            sizes.append(symbols[dimension])
        elif place == 0 and dimension == "?":
            sizes.append(1)
        else:
            example = ",".join(
                str(d) if isinstance(d, int) else "1" if i == 0 else "N" for i, d in enumerate(dimensions)
            )
            raise ModelError(
                f"input '{name}': dimension '{dimension}' is symbolic; bind it with --shape {name}={example}"
            )
    return tuple(sizes)


def _listed(dimensions: list[str | int]) -> str:
    return f"[{', '.join(map(str, dimensions))}]"
