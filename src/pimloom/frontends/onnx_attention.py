"""Attention as matrix products and a softmax: ONNX's own op and the fused ones of ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import split_sizes

_LOWEST = float(np.finfo(np.float32).min)


def _heads_of(call: Call, value: str, n_heads: int) -> str:
    """`[batch, steps, heads * size]` as `[batch, heads, steps, size]`."""
    batch, steps, width = call.type_of(value).shape
    split = call.emit("Reshape", value, shape=(batch, steps, n_heads, width // n_heads))
    return call.emit("Transpose", split, perm=(0, 2, 1, 3))


def _attend(call: Call, q: str, k: str, v: str, mask: str, scale: float) -> str:
    """softmax(q k' * scale + mask) v for operands `[batch, heads, steps, size]`."""
    scores = call.emit("MatMul", q, call.emit("Transpose", k, perm=(0, 1, 3, 2)))
    scores = call.emit("Mul", scores, call.numbers(scale))
    scores = call.emit("Add", scores, mask) if mask else scores
    return call.emit("MatMul", call.emit("Softmax", scores, axis=3), v)


def _merged(call: Call, mixed: str) -> str:
    """`[batch, heads, steps, size]` as `[batch, steps, heads * size]`."""
    batch, heads, steps, size = call.type_of(mixed).shape
    return call.emit("Reshape", call.emit("Transpose", mixed, perm=(0, 2, 1, 3)), shape=(batch, steps, heads * size))


def _mask(call: Call, place: int, n_queries: int, n_keys: int, *, causal: bool) -> str:
    """An additive mask from a key padding mask `[batch, keys]` (1 = visible) or a full mask, and causality."""
    hidden = float(call.attribute("mask_filter_value", -10000.0))
    mask = call.numbers(np.triu(np.full((n_queries, n_keys), hidden, np.float32), n_keys - n_queries + 1)) if causal else ""
    if not call.has(place):
        return mask
    if call.type(place).rank not in (2, 3) or call.type(place).shape[-1] != n_keys:
        raise call.fault(f"mask is {call.type(place)}, expected [batch, {n_keys}] or [batch, {n_queries}, {n_keys}]")
    visible = call.emit("Cast", call.value(place), to="float32")
    axes = (1, 2) if call.type(place).rank == 2 else (1,)
    padding = call.emit("Mul", call.emit("Sub", call.numbers(1.0), visible), call.numbers(hidden))
    padding = call.emit("Unsqueeze", padding, axes=axes)
    return call.emit("Add", padding, mask) if mask else padding


def _refuse(call: Call, places: tuple[int, ...], outputs: tuple[int, ...] = ()) -> None:
    for place in places:
        if call.has(place):
            raise call.fault(f"its input {place} is not supported; export the model without this fusion")
    for place in outputs:
        if call.has_output(place):
            raise call.fault(f"its output {place} is not supported; export the model without key-value caches")


def packed_attention(call: Call) -> tuple[Value, ...]:
    """com.microsoft Attention, one weight matrix for all of q, k, v. Inputs: x, weights, bias, mask, past, addend."""
    _refuse(call, (4, 6), (1,))
    n_heads = call.required("num_heads")
    if call.attribute("do_rotary", 0):
        raise call.fault("do_rotary=1 is not supported; export the model without this fusion")
    packed = call.emit("MatMul", call.value(0), call.value(1))
    packed = call.emit("Add", packed, call.value(2)) if call.has(2) else packed
    width = call.type_of(packed).shape[2]
    sizes = call.listed("qkv_hidden_sizes") or (width // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != width or any(s % n_heads for s in sizes):
        raise call.fault(f"weights give {width} columns, expected queries, keys and values of {n_heads} heads")
    q, k, v = (_heads_of(call, part, n_heads) for part in split_sizes(call, packed, 2, sizes))
    steps = call.shape(0)[1]
    mask = _mask(call, 3, steps, steps, causal=bool(call.attribute("unidirectional", 0)))
    if call.has(5):
        mask = call.emit("Add", call.value(5), mask) if mask else call.value(5)
    scale = float(call.attribute("scale", 0.0) or 0.0) or 1.0 / math.sqrt(sizes[0] // n_heads)
    return (_merged(call, _attend(call, q, k, v, mask, scale)), "")


def _operands(call: Call) -> list[str]:
    """Query, key and value `[batch, steps, width]` from the forms that they may be packed in.

    All three as `[batch, steps, heads, 3, size]`; key and value as `[batch, steps, heads, 2, size]`; key and value as
    `[batch, heads, steps, size]`.
    """
    ranks = tuple(call.type(i).rank if call.has(i) else 0 for i in range(3))
    if ranks == (3, 3, 3):
        return [call.value(i) for i in range(3)]
    if ranks == (5, 0, 0):
        return _unpacked(call, 0, 3)
    if ranks == (3, 5, 0):
        return [call.value(0), *_unpacked(call, 1, 2)]
    if ranks == (3, 4, 4):
        return [call.value(0), _merged(call, call.value(1)), _merged(call, call.value(2))]
    raise call.fault(
        f"query, key and value have {ranks[0]}, {ranks[1]} and {ranks[2]} dimensions; three each are expected, or one packed form"
    )


def _unpacked(call: Call, place: int, n_parts: int) -> list[str]:
    batch, steps, n_heads, held, size = call.shape(place)
    if held != n_parts:
        raise call.fault(f"input {place} is {call.type(place)}, expected {n_parts} packed parts in dimension 3")
    parts = split_sizes(call, call.value(place), 3, (1,) * n_parts)
    return [call.emit("Reshape", part, shape=(batch, steps, n_heads * size)) for part in parts]


def _multi_head_attention(call: Call) -> tuple[Value, ...]:
    """com.microsoft MultiHeadAttention with q, k, v apart or packed. Inputs: q, k, v, bias, key mask, addend."""
    _refuse(call, (6, 7, 8, 9), (1, 2, 3))
    n_heads = call.required("num_heads")
    values = _operands(call)
    widths = [call.type_of(value).shape[2] for value in values]
    if any(width % n_heads for width in widths):
        raise call.fault(f"widths {widths} do not divide into {n_heads} heads")
    if call.has(3):
        biases = split_sizes(call, call.value(3), 0, tuple(widths))
        values = [call.emit("Add", value, bias) for value, bias in zip(values, biases, strict=True)]
    q, k, v = (_heads_of(call, value, n_heads) for value in values)
    mask = _mask(
        call, 4, call.type_of(values[0]).shape[1], call.type_of(values[1]).shape[1], causal=bool(call.attribute("unidirectional", 0))
    )
    if call.has(5):
        mask = call.emit("Add", call.value(5), mask) if mask else call.value(5)
    scale = float(call.attribute("scale", 0.0) or 0.0) or 1.0 / math.sqrt(widths[0] // n_heads)
    return (_merged(call, _attend(call, q, k, v, mask, scale)), "", "", "")


def is_plain(call: Call) -> bool:
    """Whether ONNX's Attention is of the common kind: no caches, caps, windows, ragged or extra outputs."""
    has_extras = any(call.has(i) for i in (4, 5, 6)) or any(call.has_output(i) for i in (1, 2, 3))
    has_windows = any(call.attribute(name, -1) >= 0 for name in ("left_window_size", "right_window_size"))
    ranks = {call.type(i).rank for i in range(3)}
    needs_heads = ranks == {3} and not (call.attribute("q_num_heads") and call.attribute("kv_num_heads"))
    fits = not call.has(3) or call.shape(3)[-1:] == call.shape(1)[-2:-1]
    is_odd = has_extras or has_windows or needs_heads or bool(call.attribute("softcap", 0.0))
    return ranks in ({3}, {4}) and fits and not is_odd and not _may_hide_all(call)


def _may_hide_all(call: Call) -> bool:
    """Whether a query may see no key at all; the op's definition answers 0 for it."""
    if not call.has(3):
        return False
    mask, is_bool = call.assembly.known(call.value(3)), call.type(3).dtype == "bool"
    if mask is None:
        return is_bool
    visible = mask if is_bool else mask > -np.inf
    if call.attribute("is_causal", 0) and visible.ndim > 1:
        visible = np.tril(visible)
    return not bool(visible.any(axis=-1).all())


def _attention(call: Call) -> tuple[Value, ...]:
    """ONNX's Attention of three or four dimensions, with shared key and value heads."""
    values = [call.value(i) for i in range(3)]
    is_flat = call.type(0).rank == 3
    if is_flat:
        n_heads = (call.required("q_num_heads"), *(call.required("kv_num_heads"),) * 2)
        values = [_heads_of(call, value, n) for value, n in zip(values, n_heads, strict=True)]
    q, k, v = values
    k, v = (_shared_heads(call, value, call.type_of(q).shape[1]) for value in (k, v))
    mask = _additive_mask(call, call.type_of(q).shape[2], call.type_of(k).shape[2])
    scale = call.attribute("scale")
    y = _attend(call, q, k, v, mask, 1.0 / math.sqrt(call.type_of(q).shape[3]) if scale is None else float(scale))
    return (_merged(call, y) if is_flat else y,)


def _shared_heads(call: Call, value: str, n_heads: int) -> str:
    """Each key or value head repeated for the query heads that share it."""
    batch, held, steps, size = call.type_of(value).shape
    if not held or n_heads % held:
        raise call.fault(f"{n_heads} query heads cannot share {held} key heads; expected a multiple")
    if held == n_heads:
        return value
    column = call.emit("Unsqueeze", value, axes=(2,))
    spread = call.emit("Expand", column, shape=(batch, held, n_heads // held, steps, size))
    return call.emit("Reshape", spread, shape=(batch, n_heads, steps, size))


def _additive_mask(call: Call, n_queries: int, n_keys: int) -> str:
    """The sum of the given mask (bool: False is hidden) and of the causal one."""
    mask = ""
    if call.attribute("is_causal", 0):
        mask = call.numbers(np.triu(np.full((n_queries, n_keys), _LOWEST, np.float32), 1))
    if not call.has(3):
        return mask
    given = call.value(3)
    if call.type(3).dtype == "bool":
        given = call.emit("Where", given, call.numbers(0.0), call.numbers(_LOWEST))
    return call.emit("Add", given, mask) if mask else given


ROWS: Mapping[str, Normaliser] = {"Attention": _attention}
"""ONNX's own op, where `is_plain`."""

FUSED_ROWS: Mapping[str, Normaliser] = {
    "Attention": packed_attention,
    "MultiHeadAttention": _multi_head_attention,
}
"""Ops of the domain com.microsoft."""
