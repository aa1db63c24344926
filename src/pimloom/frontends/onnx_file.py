"""Opens ONNX files: large weights stay in the file and are mapped, the rest is parsed.

A model is a protocol buffer; parsing it whole would copy every weight, and the library refuses buffers above 2 GiB. So
the wire form is walked first: `ModelProto.graph` (field 7) `.initializer` (5) `.raw_data` (9). Raw data of
`MAPPED_BYTES` or more is left out of the buffer that is parsed, and its place in the file is kept as a `RawSpan`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from pimloom.errors import ModelError
from pimloom.frontends.onnx_tensors import RawSpan, TensorSource

MAPPED_BYTES = 1 << 20
"""Raw data at least this large stays in the file."""

MAX_PARSED_BYTES = 2**31 - 1
"""The protocol buffer library's limit for what is left to parse."""

_GRAPH, _INITIALIZER, _RAW_DATA, _NAME = 7, 5, 9, 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_ADVICE = "give the path of an .onnx file"


class _NotWalkableError(Exception):
    """The bytes are no protocol buffer, or one of unusual form: the parser decides."""


def open_model(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, TensorSource, str]:
    """Parses a model; returns it with the source of its tensors and a name for it.

    Raises:
        ModelError: if the file cannot be read or is no ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return source, TensorSource(None, {}), source.graph.name or "model"
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(bytes(source) if isinstance(source, bytearray) else source)
        model, spans = _parse(view, view, "model")
        return model, TensorSource(None, spans), model.graph.name or "model"
    if not isinstance(source, str | Path):
        raise ModelError(
            f"model: found {type(source).__name__}, expected a path, bytes or an onnx.ModelProto; {_ADVICE}"
        )
    path = Path(source)
    model, spans = _parse_file(path)
    return model, TensorSource(path.parent, spans), path.stem


def _parse_file(path: Path) -> tuple[onnx.ModelProto, dict[str, RawSpan]]:
    where = f"file '{path}'"
    try:
        if path.is_dir():
            raise ModelError(f"{where}: it is a directory; {_ADVICE}")
        if not path.exists():
            raise ModelError(f"{where}: there is no such file; {_ADVICE}")
        if not path.is_file():
            raise ModelError(f"{where}: it is not a regular file; {_ADVICE}")
        if path.stat().st_size == 0:
            raise ModelError(f"{where}: it is empty; export the model again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                return _parse(view, path, where)
            finally:
                view.release()
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: it cannot be read ({error}); check the path and its permissions") from error


def _parse(view: memoryview, source: Path | memoryview, where: str) -> tuple[onnx.ModelProto, dict[str, RawSpan]]:
    spans: dict[str, RawSpan] = {}
    try:
        small = _without_raw(view, source, spans)
    except _NotWalkableError:
        spans = {}
        small = b"" if len(view) > MAX_PARSED_BYTES else bytes(view)
    model = onnx.ModelProto()
    try:
        if not small:
            raise DecodeError("unreadable")
        model.ParseFromString(small)
    except DecodeError as error:
        raise ModelError(
            f"{where}: it is not an ONNX model or is damaged; {_ADVICE} or export the model again"
        ) from error
    if not model.HasField("graph"):
        raise ModelError(f"{where}: it holds no ONNX graph; {_ADVICE}")
    _check_text(model, where)
    return model, spans


def _check_text(model: onnx.ModelProto, where: str) -> None:
    """Refuses names that are no text: the parser hands out the bytes of a damaged string as they are."""
    names: list[object] = [model.graph.name]
    _gather_graph_names(model.graph, names)
    for function in model.functions:
        names += [function.name, function.domain, *function.input, *function.output]
        _gather_node_names(function.node, names)
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"{where}: it holds the name {name!r:.60}, which is no text; the file is damaged")


def _gather_graph_names(graph: onnx.GraphProto, names: list[object]) -> None:
    names += [value.name for value in (*graph.input, *graph.output)]
    names += [tensor.name for tensor in graph.initializer]
    names += [d.dim_param for value in graph.input for d in value.type.tensor_type.shape.dim]
    names += [sparse.values.name for sparse in graph.sparse_initializer]
    _gather_node_names(graph.node, names)


def _gather_node_names(nodes: Iterable[onnx.NodeProto], names: list[object]) -> None:
    for node in nodes:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        for attribute in node.attribute:
            names += [attribute.name, attribute.ref_attr_name]
            if attribute.HasField("g"):
                _gather_graph_names(attribute.g, names)


def _without_raw(view: memoryview, source: Path | memoryview, spans: dict[str, RawSpan]) -> bytes:
    """The model's bytes without the raw data of large initializers, which `spans` receives."""
    parts: list[bytes] = []
    n_graphs = 0
    for field, start, body, end in _fields(view, 0, len(view)):
        if field == _GRAPH:
            n_graphs += 1
            graph = _graph_without_raw(view, body, end, source, spans)
            parts.append(_delimited(_GRAPH, graph))
        else:
            parts.append(bytes(view[start:end]))
    if n_graphs > 1:
        raise _NotWalkableError
    small = b"".join(parts)
    if len(small) > MAX_PARSED_BYTES:
        raise _NotWalkableError
    return small


def _graph_without_raw(
    view: memoryview, start: int, end: int, source: Path | memoryview, spans: dict[str, RawSpan]
) -> bytes:
    parts: list[bytes] = []
    for field, first, body, stop in _fields(view, start, end):
        if field == _INITIALIZER and stop - body >= MAPPED_BYTES:
            parts.append(_delimited(_INITIALIZER, _tensor_without_raw(view, body, stop, source, spans)))
        else:
            parts.append(bytes(view[first:stop]))
    return b"".join(parts)


def _tensor_without_raw(
    view: memoryview, start: int, end: int, source: Path | memoryview, spans: dict[str, RawSpan]
) -> bytes:
    parts: list[bytes] = []
    name = ""
    raw: list[RawSpan] = []
    for field, first, body, stop in _fields(view, start, end):
        if field == _RAW_DATA and stop - body >= MAPPED_BYTES:
            raw.append(RawSpan(source, body, stop - body))
            continue
        if field == _NAME:
            name = bytes(view[body:stop]).decode("utf-8", "replace")
        parts.append(bytes(view[first:stop]))
    if len(raw) > 1 or (raw and (not name or name in spans)):
        raise _NotWalkableError
    if raw:
        spans[name] = raw[0]
    return b"".join(parts)


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (field number, start of the field, start of its body, end) of one message."""
    place = start
    while place < end:
        first = place
        tag, place = _varint(view, place, end)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            length, place = _varint(view, place, end)
            body, place = place, place + length
        elif wire == _VARINT:
            body = place
            _, place = _varint(view, place, end)
        elif wire in (_FIXED64, _FIXED32):
            body, place = place, place + (8 if wire == _FIXED64 else 4)
        else:
            raise _NotWalkableError
        if place > end or field == 0:
            raise _NotWalkableError
        yield field if wire == _BYTES else -1, first, body, place


def _varint(view: memoryview, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise _NotWalkableError
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _NotWalkableError


def _delimited(field: int, body: bytes) -> bytes:
    return _encoded(field << 3 | _BYTES) + _encoded(len(body)) + body


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
