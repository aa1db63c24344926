"""Graphs as ONNX models: attributes that ONNX wants as inputs become constants again.

The opset is 20, or the first that has all ops used. Constants of one repeated value are written as ConstantOfShape, so
that a model of such weights stays small. `save_onnx` puts weights beside the model when it would exceed `INLINE_BYTES`,
streaming them constant by constant, and renames finished files into place.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, defs, helper

from pimloom.errors import ModelError
from pimloom.ir.constants import Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import full_attributes
from pimloom.ir.types import TensorType

BASE_OPSET = 20
INLINE_BYTES = 1_500_000_000
"""Models with more bytes of constants than this keep them in a file beside the model."""

_IR_VERSION = 10
_FILLED_ELEMENTS = 1024
_ALIGNMENT_BYTES = 64

# Op -> first opset whose meaning is the normal form's, where that is not the opset of its first definition.
_FIRST_OPSET: Mapping[str, int] = {"GroupNormalization": 21}

Attributes = dict[str, Any]


@final
@dataclass(slots=True)
class _Writer:
    """The model that grows.

    Attributes:
        graph: what is written.
        initializers: constants as tensors.
        nodes: nodes in order.
        opset: the opset so far needed.
        stored: constants whose bytes are left out, by name.
    """

    graph: Graph
    inline: bool
    initializers: list[TensorProto] = field(default_factory=list[TensorProto])
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    opset: int = BASE_OPSET
    stored: dict[str, Constant] = field(default_factory=dict[str, Constant])
    taken: set[str] = field(default_factory=set[str])

    def constant(self, hint: str, array: np.ndarray[Any, Any]) -> str:
        """Adds a small constant and returns its name."""
        name, count = hint, 0
        while name in self.taken:
            count += 1
            name = f"{hint}_{count}"
        self.taken.add(name)
        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def ints(self, node: Node, what: str, values: Any) -> str:
        """Adds a list of integers that belongs to a node."""
        return self.constant(f"{node.name}.{what}", np.asarray(values, np.int64))

    def add(self, op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str, **attributes: Any) -> None:
        """Adds a node and raises the opset to one that has the op."""
        self.opset = max(self.opset, _first_opset(op, name))
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name=name, **attributes))


def _first_opset(op: str, name: str) -> int:
    if op in _FIRST_OPSET:
        return _FIRST_OPSET[op]
    try:
        defs.get_schema(op, BASE_OPSET, "")
    except defs.SchemaError:
        pass
    else:
        return BASE_OPSET
    try:
        return defs.get_schema(op, defs.onnx_opset_version(), "").since_version
    except defs.SchemaError:
        raise ModelError(
            f"node '{name}' ({op}): ONNX has no such op; export the graph as it was before the passes of a target"
        ) from None


Form = Callable[[_Writer, Node, Attributes], None]


def _with_inputs(**places: str) -> Form:
    """The form of an op that takes attributes as integer inputs after its tensors: attribute to ONNX input name."""

    def write(writer: _Writer, node: Node, attributes: Attributes) -> None:
        extra = tuple(writer.ints(node, what, attributes.pop(name)) for name, what in places.items())
        writer.add(node.op, (*node.inputs, *extra), node.outputs, node.name, **attributes)

    return write


def _as_it_is(writer: _Writer, node: Node, attributes: Attributes) -> None:
    writer.add(node.op, node.inputs, node.outputs, node.name, **attributes)


def _cast(writer: _Writer, node: Node, attributes: Attributes) -> None:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(str(attributes["to"])))
    writer.add("Cast", node.inputs, node.outputs, node.name, to=to)


def _clip(writer: _Writer, node: Node, attributes: Attributes) -> None:
    dtype = np.dtype(writer.graph.types[node.inputs[0]].dtype)
    lowest, highest = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = max(attributes["min"], lowest), min(attributes["max"], highest)
    bounds = (
        writer.constant(f"{node.name}.min", np.array(low, dtype)),
        writer.constant(f"{node.name}.max", np.array(high, dtype)),
    )
    writer.add("Clip", (*node.inputs, *bounds), node.outputs, node.name)


def _pad(writer: _Writer, node: Node, attributes: Attributes) -> None:
    fill = writer.constant(
        f"{node.name}.value", np.array(attributes["value"], writer.graph.types[node.inputs[0]].dtype)
    )
    pads = writer.ints(node, "pads", attributes["pads"])
    writer.add("Pad", (*node.inputs, pads, fill), node.outputs, node.name, mode=attributes["mode"])


def _reduce(writer: _Writer, node: Node, attributes: Attributes) -> None:
    rank = writer.graph.types[node.inputs[0]].rank
    axes = attributes.pop("axes") or tuple(range(rank))
    writer.add(node.op, (*node.inputs, writer.ints(node, "axes", axes)), node.outputs, node.name, **attributes)


def _reshape(writer: _Writer, node: Node, attributes: Attributes) -> None:
    shape = writer.ints(node, "shape", attributes["shape"])
    writer.add("Reshape", (*node.inputs, shape), node.outputs, node.name, allowzero=int(0 in attributes["shape"]))


def _resize(writer: _Writer, node: Node, attributes: Attributes) -> None:
    """Scales where they give the sizes exactly as ONNX computes them, else sizes."""
    shape, sizes = writer.graph.types[node.inputs[0]].shape, attributes.pop("sizes")
    scales, roi = attributes.pop("scales"), attributes.pop("roi", ())
    held = np.asarray(scales, np.float32)
    region = writer.constant(f"{node.name}.roi", np.asarray(roi, np.float32)) if roi else ""
    if scales and tuple(math.floor(float(s) * d) for s, d in zip(held, shape, strict=True)) == tuple(sizes):
        inputs = (region, writer.constant(f"{node.name}.scales", held))
    else:
        inputs = (region, "", writer.ints(node, "sizes", sizes))
    if attributes["coordinate_transformation_mode"] != "tf_crop_and_resize":
        attributes.pop("extrapolation_value", None)
    writer.add("Resize", (*node.inputs, *inputs), node.outputs, node.name, **attributes)


def _scalar_input(name: str) -> Form:
    """The form of an op that takes one attribute as a scalar input."""

    def write(writer: _Writer, node: Node, attributes: Attributes) -> None:
        number = writer.ints(node, name, attributes.pop(name))
        writer.add(node.op, (*node.inputs, number), node.outputs, node.name, **attributes)

    return write


def _top_k(writer: _Writer, node: Node, attributes: Attributes) -> None:
    k = writer.ints(node, "k", (attributes.pop("k"),))
    writer.add("TopK", (*node.inputs, k), node.outputs, node.name, **attributes)


def _one_hot(writer: _Writer, node: Node, attributes: Attributes) -> None:
    depth = writer.ints(node, "depth", attributes["depth"])
    writer.add("OneHot", (node.inputs[0], depth, node.inputs[1]), node.outputs, node.name, axis=attributes["axis"])


def _quantise(writer: _Writer, node: Node, attributes: Attributes) -> None:
    """Drops the newer attributes at their defaults; they need opset 21."""
    if not attributes.get("block_size"):
        attributes.pop("block_size", None)
    stated = attributes.pop("output_dtype", "")
    if stated:
        attributes["output_dtype"] = helper.np_dtype_to_tensor_dtype(np.dtype(str(stated)))
    dtypes = {writer.graph.types[v].dtype for v in (*node.inputs, *node.outputs) if v}
    if "block_size" in attributes or stated or dtypes & {"int16", "uint16"}:
        writer.opset = max(writer.opset, 21)
    writer.add(node.op, node.inputs, node.outputs, node.name, **attributes)


def _linear(writer: _Writer, node: Node, attributes: Attributes) -> None:
    """`x w + b` over the last axis, the form in which passes hold matrix products."""
    bias = "".join(node.inputs[2:3])
    product = f"{node.outputs[0]}.product" if bias else node.outputs[0]
    writer.add("MatMul", node.inputs[:2], (product,), node.name)
    if bias:
        writer.add("Add", (product, bias), node.outputs, f"{node.name}.bias")


def _window(writer: _Writer, node: Node, attributes: Attributes) -> None:
    """Convolutions and pools: empty lists, which stand for ONNX's defaults, are left out."""
    kept = {name: value for name, value in attributes.items() if value != ()}
    if node.op == "AveragePool" and kept.get("ceil_mode") and set(kept.get("dilations", (1,))) == {1}:
        kept.pop("dilations", None)
    writer.add(node.op, node.inputs, node.outputs, node.name, **kept)


_FORMS: Mapping[str, Form] = {
    "Cast": _cast, "Clip": _clip, "Pad": _pad, "Reshape": _reshape, "Resize": _resize, "TopK": _top_k,
    "OneHot": _one_hot,
    "Linear": _linear,
    "QuantizeLinear": _quantise, "DequantizeLinear": _quantise,
    "Squeeze": _with_inputs(axes="axes"), "Unsqueeze": _with_inputs(axes="axes"), "Expand": _with_inputs(shape="shape"),
    "Tile": _with_inputs(repeats="repeats"), "Split": _with_inputs(sizes="split"),
    "Slice": _with_inputs(starts="starts", ends="ends", axes="axes", steps="steps"),
    "CumSum": _scalar_input("axis"), "CumProd": _scalar_input("axis"), "Trilu": _scalar_input("k"),
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"), _window),
    **dict.fromkeys(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare"), _reduce,
    ),
}  # fmt: skip


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """Writes a float Graph as an ONNX model with all constants inside.

    Args:
        graph: in normal form, without quantised types.

    Returns:
        The model, of opset 20 or the first that has all ops used.

    Raises:
        ModelError: if a node has no ONNX form or a value is quantised.
    """
    return _model(_written(graph, inline=True))


def save_onnx(graph: Graph, path: str | Path) -> None:
    """Writes a float Graph as an ONNX file; constants of more than 1.5 GB in all go to `<name>.data` beside it.

    Files are written under temporary names and renamed when complete, so that nothing half-written remains.

    Raises:
        ModelError: if the graph has no ONNX form or the file cannot be written.
    """
    path = Path(path)
    total_bytes = sum(c.type.size_bytes for c in graph.constants.values() if not _is_filled(c))
    try:
        if total_bytes <= INLINE_BYTES:
            with _replacing(path) as file:
                file.write(to_onnx(graph).SerializeToString())
            return
        writer = _written(graph, inline=False)
        with _replacing(path.with_name(f"{path.name}.data")) as file:
            _store(writer, file, f"{path.name}.data")
        with _replacing(path) as file:
            file.write(_model(writer).SerializeToString())
    except OSError as error:
        raise ModelError(
            f"file '{path}': it cannot be written ({error.strerror}); check the folder and the free space"
        ) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that takes its name when it is complete and vanishes if writing fails."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _store(writer: _Writer, file: Any, location: str) -> None:
    """Writes the constants one after another and points their tensors at the places."""
    tensors = {tensor.name: tensor for tensor in writer.initializers}
    for name, constant in writer.stored.items():
        file.write(b"\0" * (-file.tell() % _ALIGNMENT_BYTES))
        offset = file.tell()
        np.ascontiguousarray(constant.array()).tofile(file)
        tensor = tensors[name]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", constant.type.size_bytes)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)


def _is_filled(constant: Constant) -> bool:
    return constant.fill_value is not None and constant.type.size > _FILLED_ELEMENTS


def _written(graph: Graph, *, inline: bool) -> _Writer:
    writer = _Writer(graph, inline, taken=set(graph.types))
    for value, type_ in graph.types.items():
        if type_.quant is not None:
            raise ModelError(f"value '{value}': it is quantised ({type_}); export the float graph")
    for name, constant in graph.constants.items():
        _write_constant(writer, name, constant)
    for node in graph.nodes:
        form = _FORMS.get(node.op, _as_it_is)
        attributes = {
            k: list(v) if isinstance(v, tuple) and form is _as_it_is else v for k, v in full_attributes(node).items()
        }
        form(writer, node, attributes)
    return writer


def _write_constant(writer: _Writer, name: str, constant: Constant) -> None:
    if _is_filled(constant):
        shape = writer.constant(f"{name}.shape", np.asarray(constant.type.shape, np.int64))
        value = helper.make_tensor("value", _element_type(constant.type), [1], [constant.fill_value or 0])
        writer.add("ConstantOfShape", (shape,), (name,), f"{name}.fill", value=value)
        return
    tensor = TensorProto(name=name, data_type=_element_type(constant.type), dims=constant.type.shape)
    if writer.inline:
        tensor.raw_data = np.ascontiguousarray(constant.array()).tobytes()
    else:
        writer.stored[name] = constant
    writer.initializers.append(tensor)


def _element_type(type_: TensorType) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(type_.dtype)))


def _model(writer: _Writer) -> onnx.ModelProto:
    graph = writer.graph

    def declared(value: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(value, _element_type(graph.types[value]), graph.types[value].shape)

    proto = onnx.GraphProto(name=graph.name or "graph")
    proto.node.extend(writer.nodes)
    proto.input.extend(declared(v) for v in graph.inputs)
    proto.output.extend(declared(v) for v in graph.outputs)
    proto.initializer.extend(writer.initializers)
    return helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", writer.opset)], ir_version=_IR_VERSION, producer_name="pimloom"
    )
