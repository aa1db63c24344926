"""Normal forms of the ops that build, move or select data: whatever decides a shape becomes an attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from pimloom.frontends.onnx_call import MAX_LISTED, Array, Call, Normaliser, Value
from pimloom.frontends.onnx_tensors import FOUR_BITS, TensorSource, graph_dtype
from pimloom.ir.constants import Constant


def _alias(call: Call) -> tuple[Value, ...]:
    return (call.values[0],) if call.has(0) else (call.value(0),)


def _dropout(call: Call) -> tuple[Value, ...]:
    """Nothing at inference; the mask, where it is read, is all true."""
    training = call.has(2) and bool(call.known(2, "training_mode").any())
    if training and (call.scalar(1, "ratio") if call.has(1) else 0.5):
        raise call.fault("it is in training mode, which draws random numbers; export the model for inference")
    mask = call.assembly.fill(call.shape(0), 1, "bool") if call.has_output(1) else ""
    return (call.value(0), mask)


def _cast(call: Call) -> tuple[Value, ...]:
    if call.required("to") in FOUR_BITS:
        raise call.fault("4-bit integers are supported as stored weights only; cast to 8 bits")
    return (_cast_to(call, call.value(0), graph_dtype(call.required("to"), call.where)),)


def _cast_like(call: Call) -> tuple[Value, ...]:
    if call.value(1) in call.assembly.four_bit:
        raise call.fault("4-bit integers are supported as stored weights only; cast to 8 bits")
    return (_cast_to(call, call.value(0), call.type(1).dtype),)


def _cast_to(call: Call, value: str, dtype: str) -> str:
    return value if call.type_of(value).dtype == dtype else call.emit("Cast", value, to=dtype)


_CONSTANT_FORMS: Mapping[str, str] = {
    "value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64",
}  # fmt: skip


def _held(call: Call, tensor: TensorProto) -> Constant:
    """A tensor that stands in an attribute."""
    if tensor.data_location == TensorProto.EXTERNAL:
        raise call.fault("only initializers may lie in external files; save the model again")
    return TensorSource(None, {}).read(tensor, call.name)


def _constant_of_shape(call: Call) -> tuple[Value, ...]:
    tensor = call.attribute("value")
    number = np.zeros(1, np.float32) if tensor is None else _held(call, tensor).array()
    if number.size != 1:
        raise call.fault(f"attribute 'value' has {number.size} elements, expected one")
    return (call.assembly.fill(call.ints(0, "the shape"), number.reshape(-1)[0].item(), str(number.dtype)),)


def _shape(call: Call) -> tuple[Value, ...]:
    shape = call.shape(0)
    return (call.numbers(shape[call.attribute("start", 0) : call.attribute("end", len(shape))], "int64"),)


def _size(call: Call) -> tuple[Value, ...]:
    return (call.numbers(call.type(0).size, "int64"),)


def _range(call: Call) -> tuple[Value, ...]:
    start, limit, delta = (call.scalar(i, what) for i, what in enumerate(("start", "limit", "delta")))
    if not delta:
        raise call.fault("delta is 0, expected a step")
    count = (limit - start) / delta
    if not math.isfinite(count):
        raise call.fault(f"it counts from {start} to {limit}, finite bounds are expected")
    n = max(0, math.ceil(count))
    call.assembly.spend(n)
    return (call.numbers(start + np.arange(n) * delta, call.type(0).dtype),)


def _eye_like(call: Call) -> tuple[Value, ...]:
    shape = call.shape(0)
    dtype = graph_dtype(call.attribute("dtype"), call.where) if call.attribute("dtype") else call.type(0).dtype
    if len(shape) != 2:
        raise call.fault(f"input has shape {list(shape)}, expected a matrix")
    call.assembly.spend(math.prod(shape))
    return (call.numbers(np.eye(*shape, k=call.attribute("k", 0)), dtype),)


def _constant(call: Call) -> tuple[Value, ...]:
    for name, dtype in _CONSTANT_FORMS.items():
        if name in call.attributes:
            return (call.numbers(call.attributes[name], dtype),)
    tensor = call.attribute("value")
    if not isinstance(tensor, TensorProto):
        raise call.fault(f"its value is given by {sorted(call.attributes) or 'nothing'}; use a dense number tensor")
    value = call.assembly.constant(_held(call, tensor))
    if tensor.data_type in FOUR_BITS:
        call.assembly.four_bit.add(value)
    return (value,)


def reshape_to(call: Call, value: str, shape: tuple[int, ...]) -> str:
    """A Reshape node, or the value itself where it has the shape already."""
    return value if call.type_of(value).shape == shape else call.emit("Reshape", value, shape=shape)


def _reshape(call: Call) -> tuple[Value, ...]:
    wanted = call.ints(1, "the shape") if call.has(1) else call.listed("shape") or ()
    return (call.emit("Reshape", call.value(0), shape=_concrete(call, wanted)),)


def _concrete(call: Call, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with 0 (copy) and -1 (the rest) resolved."""
    held = call.type(0)
    keeps_zero = call.attribute("allowzero", 0)
    if not keeps_zero and any(d == 0 and i >= held.rank for i, d in enumerate(wanted)):
        raise call.fault(f"shape {list(wanted)} copies a dimension that {held} does not have")
    shape = [held.shape[i] if d == 0 and not keeps_zero else d for i, d in enumerate(wanted)]
    if any(d < -1 for d in shape) or shape.count(-1) > 1:
        raise call.fault(f"shape {list(wanted)} is not valid; at most one -1 and no other negative size are allowed")
    rest = math.prod(d for d in shape if d != -1)
    if -1 in shape:
        shape[shape.index(-1)] = held.size // rest if rest else 0
    if math.prod(shape) != held.size:
        raise call.fault(f"{held} has {held.size} elements and cannot take shape {list(wanted)}")
    return tuple(shape)


def _flatten(call: Call) -> tuple[Value, ...]:
    rank = call.type(0).rank
    axis = call.attribute("axis", 1)
    if not -rank <= axis <= rank:
        raise call.fault(f"axis {axis} is out of range for a value of {rank} dimensions")
    return (call.emit("Flatten", call.value(0), axis=axis + rank if axis < 0 else axis),)


def _axes_of(call: Call, place: int, rank: int) -> tuple[int, ...] | None:
    """Axes from an input (newer opsets) or the attribute (older ones), normalised; None if absent."""
    axes = call.ints(place, "the axes") if call.has(place) else call.listed("axes")
    return None if axes is None else call.axes(axes, rank)


def _squeeze(call: Call) -> tuple[Value, ...]:
    shape = call.shape(0)
    axes = _axes_of(call, 1, len(shape))
    if axes is None:
        axes = tuple(i for i, d in enumerate(shape) if d == 1)
    return (call.emit("Squeeze", call.value(0), axes=tuple(sorted(axes))),)


def _unsqueeze(call: Call) -> tuple[Value, ...]:
    listed = call.ints(1, "the axes") if call.has(1) else call.listed("axes") or ()
    axes = call.axes(listed, call.type(0).rank + len(listed))
    return (call.emit("Unsqueeze", call.value(0), axes=tuple(sorted(axes))),)


def _expand(call: Call) -> tuple[Value, ...]:
    wanted = call.ints(1, "the shape")
    if any(d < 0 for d in wanted):
        raise call.fault(f"shape {list(wanted)} has a negative size")
    try:
        shape = np.broadcast_shapes(call.shape(0), wanted)
    except ValueError:
        raise call.fault(f"{call.type(0)} cannot be expanded to shape {list(wanted)}") from None
    return (call.emit("Expand", call.value(0), shape=tuple(int(d) for d in shape)),)


def _tile(call: Call) -> tuple[Value, ...]:
    repeats = call.ints(1, "the repeats")
    if len(repeats) != call.type(0).rank or any(r < 0 for r in repeats):
        raise call.fault(
            f"repeats {list(repeats)} do not fit {call.type(0)}; expected one count of 0 or more per dimension"
        )
    return (call.emit("Tile", call.value(0), repeats=repeats),)


def _slice(call: Call) -> tuple[Value, ...]:
    if call.opset < 10:
        starts, ends, steps = call.listed("starts") or (), call.listed("ends") or (), None
        axes = call.listed("axes")
    else:
        starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
        axes = call.ints(3, "axes") if call.has(3) else None
        steps = call.ints(4, "steps") if call.has(4) else None
    shape = call.shape(0)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise call.fault(
            f"starts {list(starts)}, ends {list(ends)}, axes {list(axes)}, steps {list(steps)} do not fit together"
        )
    axes = call.axes(axes, len(shape))
    rows = [
        (axis, *bounds(s, e, step, shape[axis]), step)
        for s, e, axis, step in zip(starts, ends, axes, steps, strict=True)
    ]
    rows = [row for row in rows if row[1:] != (0, shape[row[0]], 1)]
    if not rows:
        return (call.value(0),)
    axes, starts, ends, steps = zip(*rows, strict=True)
    return (call.emit("Slice", call.value(0), starts=starts, ends=ends, axes=axes, steps=steps),)


def bounds(start: int, end: int, step: int, size: int) -> tuple[int, int]:
    """ONNX's start and end of a slice as numbers inside the dimension; an end before index 0 is `-size - 1`."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        start = min(max(start, 0), size)
        return start, max(min(max(end, 0), size), start)
    start = min(max(start, -1), size - 1)
    end = min(max(end, -1), size - 1)
    if start <= end or start < 0:
        return 0, 0
    return start, end if end >= 0 else -size - 1


def slice_axis(call: Call, value: str, axis: int, start: int, end: int) -> str:
    """The indices start..end-1 along one axis."""
    if (start, end) == (0, call.type_of(value).shape[axis]):
        return value
    return call.emit("Slice", value, starts=(start,), ends=(end,), axes=(axis,), steps=(1,))


def _pad(call: Call) -> tuple[Value, ...]:
    rank = call.type(0).rank
    if call.opset < 11:
        pads, fill = call.listed("pads") or (), call.attribute("value", 0.0)
    else:
        pads = call.ints(1, "the pads")
        fill = call.scalar(2, "the constant") if call.has(2) else 0.0
    if call.has(3):
        axes = call.axes(call.ints(3, "the axes"), rank)
        if len(pads) != 2 * len(axes):
            raise call.fault(f"{len(pads)} pads for {len(axes)} axes, expected two per axis")
        full = [0] * (2 * rank)
        for i, axis in enumerate(axes):
            full[axis], full[rank + axis] = pads[i], pads[len(axes) + i]
        pads = tuple(full)
    if len(pads) != 2 * rank:
        raise call.fault(f"{len(pads)} pads for {call.type(0)}, expected {2 * rank}")
    value = _cropped(call, call.value(0), pads)
    pads = tuple(max(p, 0) for p in pads)
    if not any(pads):
        return (value,)
    return (call.emit("Pad", value, pads=pads, mode=call.attribute("mode", "constant"), value=float(fill)),)


def _cropped(call: Call, value: str, pads: tuple[int, ...]) -> str:
    """Applies the negative pads."""
    shape = call.type_of(value).shape
    rank = len(shape)
    for axis, size in enumerate(shape):
        start, end = max(-pads[axis], 0), size - max(-pads[rank + axis], 0)
        if start > end:
            raise call.fault(f"pads {list(pads)} cut more than dimension {axis} has ({size})")
        value = slice_axis(call, value, axis, start, end)
    return value


def _split(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", 0), call.type(0).rank)
    size, n = call.shape(0)[axis], len(call.outputs)
    sizes = call.ints(1, "the sizes") if call.has(1) else call.listed("split")
    if sizes is None:
        n = call.attribute("num_outputs", n)
        if not 0 < n <= MAX_LISTED:
            raise call.fault(f"num_outputs is {n}, expected 1 or more")
        chunk = -(-size // n)
        sizes = tuple(max(0, min(chunk, size - i * chunk)) for i in range(n))
    if sum(sizes) != size or any(s < 0 for s in sizes) or len(sizes) < len(call.outputs):
        raise call.fault(
            f"sizes {list(sizes)} do not split dimension {axis} of {call.type(0)} into {len(call.outputs)} parts"
        )
    return split_sizes(call, call.value(0), axis, sizes)


def split_sizes(call: Call, value: str, axis: int, sizes: tuple[int, ...]) -> tuple[str, ...]:
    """The parts of a value along an axis."""
    return (value,) if len(sizes) == 1 else call.emit_many(len(sizes), "Split", value, axis=axis, sizes=sizes)


def split_equal(call: Call, value: str, axis: int, n_parts: int) -> tuple[str, ...]:
    """`n_parts` equal parts of a value along an axis; ModelError if it does not divide."""
    size = call.type_of(value).shape[axis]
    if size % n_parts:
        raise call.fault(f"dimension {axis} of {call.type_of(value)} does not divide into {n_parts} equal parts")
    return split_sizes(call, value, axis, (size // n_parts,) * n_parts)


def _concat(call: Call) -> tuple[Value, ...]:
    values = tuple(call.value(i) for i in range(call.n_inputs))
    return (concat(call, values, call.axis(call.required("axis"), call.type(0).rank)),)


def concat(call: Call, values: tuple[str, ...], axis: int) -> str:
    """A Concat node, or the value itself if there is but one."""
    return values[0] if len(values) == 1 else call.emit("Concat", *values, axis=axis)


def _transpose(call: Call) -> tuple[Value, ...]:
    rank = call.type(0).rank
    perm = call.listed("perm") or tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise call.fault(f"perm {list(perm)} is not a permutation of the {rank} dimensions of {call.type(0)}")
    return (transpose(call, call.value(0), perm),)


def transpose(call: Call, value: str, perm: tuple[int, ...]) -> str:
    """A Transpose node, or the value itself where nothing moves."""
    return value if perm == tuple(range(len(perm))) else call.emit("Transpose", value, perm=perm)


def _gather(call: Call) -> tuple[Value, ...]:
    return (call.emit("Gather", *call.tensors(), axis=call.axis(call.attribute("axis", 0), call.type(0).rank)),)


def _gather_elements(call: Call) -> tuple[Value, ...]:
    return (call.emit("GatherElements", *call.tensors(), axis=call.axis(call.attribute("axis", 0), call.type(0).rank)),)


def _scatter_elements(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", 0), call.type(0).rank)
    return (call.emit("ScatterElements", *call.tensors(), axis=axis, reduction=call.attribute("reduction", "none")),)


def _trilu(call: Call) -> tuple[Value, ...]:
    k = call.int(1, "k") if call.has(1) else 0
    return (call.emit("Trilu", call.value(0), upper=int(call.attribute("upper", 1)), k=k),)


def _top_k(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank)
    k = call.int(1, "k") if call.has(1) else call.required("k")
    if not 0 <= k <= call.shape(0)[axis]:
        raise call.fault(f"k is {k}, dimension {axis} of {call.type(0)} has {call.shape(0)[axis]} elements")
    largest, is_sorted = int(call.attribute("largest", 1)), int(call.attribute("sorted", 1))
    return call.emit_many(2, "TopK", call.value(0), k=k, axis=axis, largest=largest, sorted=is_sorted)


def _cumulative_sum(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.int(1, "the axis"), call.type(0).rank)
    exclusive, reverse = int(call.attribute("exclusive", 0)), int(call.attribute("reverse", 0))
    return (call.emit("CumSum", call.value(0), axis=axis, exclusive=exclusive, reverse=reverse),)


def _one_hot(call: Call) -> tuple[Value, ...]:
    depth = int(call.scalar(1, "depth"))
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank + 1)
    return (call.emit("OneHot", call.value(0), call.value(2), axis=axis, depth=depth),)


def _counted(call: Call, place: int, what: str) -> Array:
    """The numbers of an input on which the size of the result depends; ModelError if the network's inputs decide them."""
    return call.numbers_of(
        place,
        f"the size of its result depends on {what} (input {place}), and so on the network's inputs; a program has static "
        "shapes, so end the network before it",
    )


def _non_zero(call: Call) -> tuple[Value, ...]:
    return (call.numbers(np.array(np.nonzero(np.atleast_1d(_counted(call, 0, "the data")))), "int64"),)


def _unique(call: Call) -> tuple[Value, ...]:
    data = _counted(call, 0, "the data")
    axis = None if call.attribute("axis") is None else call.axis(call.attribute("axis"), data.ndim)
    unique, first, inverse, counts = np.unique(data, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not call.attribute("sorted", 1):
        order = np.argsort(first)
        unique = np.take(unique, order, axis=axis or 0)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    rest = (call.numbers(a, "int64") for a in (first, inverse, counts))
    return (call.assembly.constant(unique), *rest)


def _compress(call: Call) -> tuple[Value, ...]:
    """A Gather of the places where the known condition holds."""
    places = np.flatnonzero(_counted(call, 1, "the condition"))
    data, axis = call.value(0), call.attribute("axis")
    if axis is None:
        data, axis = reshape_to(call, data, (call.type(0).size,)), 0
    axis = call.axis(axis, call.type_of(data).rank)
    if places.size and places[-1] >= call.type_of(data).shape[axis]:
        raise call.fault(f"the condition selects index {places[-1]}, the axis has {call.type_of(data).shape[axis]}")
    return (call.emit("Gather", data, call.numbers(places, "int64"), axis=axis),)


def _reverse_sequence(call: Call) -> tuple[Value, ...]:
    """A Gather over the first two dimensions taken as one."""
    shape, time_axis = call.shape(0), call.attribute("time_axis", 0)
    lengths = call.ints(1, "the sequence lengths")
    if len(shape) < 2 or {time_axis, call.attribute("batch_axis", 1)} != {0, 1} or len(lengths) != shape[1 - time_axis]:
        raise call.fault(
            f"{len(lengths)} lengths and time axis {time_axis} do not fit {call.type(0)}; expected one length per "
            "sequence"
        )
    if any(not 0 <= length <= shape[time_axis] for length in lengths):
        raise call.fault(f"sequence lengths {list(lengths)[:8]} leave the {shape[time_axis]} steps")
    source = np.array([[*reversed(range(n)), *range(n, shape[time_axis])] for n in lengths], np.int64).reshape(
        len(lengths), -1
    )
    batch = np.arange(len(lengths))[:, None]
    index = (source * shape[1] + batch).T if time_axis == 0 else batch * shape[1] + source
    flat = call.emit("Reshape", call.value(0), shape=(shape[0] * shape[1], *shape[2:]))
    return (
        call.emit("Reshape", call.emit("Gather", flat, call.numbers(index.reshape(-1), "int64"), axis=0), shape=shape),
    )


def _center_crop_pad(call: Call) -> tuple[Value, ...]:
    shape = call.shape(0)
    listed = call.listed("axes")
    axes = call.axes(tuple(range(len(shape))) if listed is None else listed, len(shape))
    wanted = call.ints(1, "the shape")
    if len(wanted) != len(axes) or any(d < 0 for d in wanted):
        raise call.fault(
            f"shape {list(wanted)} does not fit the {len(axes)} axes; expected one size of 0 or more per axis"
        )
    value, pads = call.value(0), [0] * (2 * len(shape))
    for axis, size in zip(axes, wanted, strict=True):
        spare = size - shape[axis]
        if spare < 0:
            value = slice_axis(call, value, axis, -spare // 2, -spare // 2 + size)
        else:
            pads[axis], pads[len(shape) + axis] = spare // 2, spare - spare // 2
    return (call.emit("Pad", value, pads=tuple(pads), mode="constant", value=0.0) if any(pads) else value,)


def _sequence_construct(call: Call) -> tuple[Value, ...]:
    return (tuple(call.value(i) for i in range(call.n_inputs)),)


def _split_to_sequence(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", 0), call.type(0).rank)
    size = call.shape(0)[axis]
    squeezes = not call.has(1) and not call.attribute("keepdims", 1)
    if not call.has(1):
        sizes = (1,) * size
    elif call.known(1, "the split").ndim == 0:
        chunk = call.int(1, "the split")
        if chunk <= 0:
            raise call.fault(f"the split is {chunk}, expected 1 or more")
        sizes = tuple(min(chunk, size - first) for first in range(0, size, chunk))
    else:
        sizes = call.ints(1, "the split")
    if sum(sizes) != size or any(s < 0 for s in sizes) or len(sizes) > MAX_LISTED:
        raise call.fault(f"sizes {list(sizes)[:8]} do not split dimension {axis} of {call.type(0)}")
    parts = split_sizes(call, call.value(0), axis, sizes) if sizes else ()
    return (tuple(call.emit("Squeeze", part, axes=(axis,)) for part in parts) if squeezes else parts,)


def _position(call: Call, place: int, length: int) -> int:
    position = call.int(place, "the position")
    if not -length <= position < length:
        raise call.fault(f"position {position} is out of range for a sequence of {length}")
    return position % length


def _sequence_at(call: Call) -> tuple[Value, ...]:
    sequence = call.sequence(0)
    return (sequence[_position(call, 1, len(sequence))],)


def _sequence_insert(call: Call) -> tuple[Value, ...]:
    sequence = call.sequence(0)
    length = len(sequence)
    position = call.int(2, "the position") if call.has(2) else length
    if not -length <= position <= length:
        raise call.fault(f"position {position} is out of range for an insertion into a sequence of {length}")
    position += length if position < 0 else 0
    return ((*sequence[:position], call.value(1), *sequence[position:]),)


def _sequence_erase(call: Call) -> tuple[Value, ...]:
    sequence = call.sequence(0)
    position = _position(call, 1, len(sequence)) if call.has(1) else len(sequence) - 1
    return ((*sequence[:position], *sequence[position + 1 :]),)


def _concat_from_sequence(call: Call) -> tuple[Value, ...]:
    parts = call.sequence(0)
    if not parts:
        raise call.fault("the sequence is empty, one tensor or more are expected")
    new_axis = bool(call.attribute("new_axis", 0))
    axis = call.axis(call.required("axis"), call.type_of(parts[0]).rank + new_axis)
    if new_axis:
        parts = tuple(call.emit("Unsqueeze", part, axes=(axis,)) for part in parts)
    return (concat(call, parts, axis),)


def _sequence_length(call: Call) -> tuple[Value, ...]:
    return (call.numbers(len(call.sequence(0)), "int64"),)


ROWS: Mapping[str, Normaliser] = {
    "Identity": _alias, "Dropout": _dropout, "Cast": _cast, "CastLike": _cast_like, "Optional": _alias,
    "OptionalGetElement": _alias,
    "OptionalHasElement": lambda call: (call.numbers(call.has(0), "bool"),),
    "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Shape": _shape, "Size": _size, "Range": _range,
    "EyeLike": _eye_like, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Expand": _expand, "Tile": _tile, "Slice": _slice, "Pad": _pad, "Split": _split, "Concat": _concat,
    "Transpose": _transpose, "Gather": _gather, "GatherElements": _gather_elements,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "Trilu": _trilu, "TopK": _top_k, "CumSum": _cumulative_sum, "OneHot": _one_hot,
    "NonZero": _non_zero, "Unique": _unique, "Compress": _compress, "ReverseSequence": _reverse_sequence,
    "CenterCropPad": _center_crop_pad,
    "SequenceConstruct": _sequence_construct, "SequenceEmpty": lambda call: ((),),
    "SplitToSequence": _split_to_sequence, "SequenceAt": _sequence_at, "SequenceInsert": _sequence_insert,
    "SequenceErase": _sequence_erase, "ConcatFromSequence": _concat_from_sequence, "SequenceLength": _sequence_length,
}  # fmt: skip
