"""Normal forms of ops over spatial axes: convolutions, pools, resizing, normalisation over channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pimloom.frontends.onnx_antialias import resized
from pimloom.frontends.onnx_call import Array, Call, Normaliser, Value
from pimloom.frontends.onnx_math import activate
from pimloom.frontends.onnx_shapes import reshape_to, transpose
from pimloom.frontends.onnx_tensors import check_shape

Ints = tuple[int, ...]


def _window(call: Call, kernel: Ints) -> dict[str, Any]:
    """Strides, dilations and explicit pads of a convolution or pool."""
    n = len(kernel)
    strides = call.listed("strides") or (1,) * n
    dilations = call.listed("dilations") or (1,) * n
    if not len(strides) == len(dilations) == n or min(kernel + strides + dilations, default=1) < 1:
        raise call.fault(
            f"kernel {list(kernel)}, strides {list(strides)}, dilations {list(dilations)} do not fit; expected {n} sizes of 1 or more each"
        )
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations}


def _spatial(call: Call) -> Ints:
    shape = call.shape(0)
    if len(shape) < 3:
        raise call.fault(f"input is {call.type(0)}, expected batch, channels and 1 or more spatial dimensions")
    return shape[2:]


def _pads(call: Call, spatial: Ints, window: Mapping[str, Any]) -> Ints:
    """Explicit pads; auto_pad is resolved for the given input size. The padded input must not be a giant."""
    pads = _stated_pads(call, spatial, window)
    n = len(spatial)
    padded = tuple(size + pads[i] + pads[n + i] for i, size in enumerate(spatial))
    check_shape(f"{call.where}: padded input", (*call.shape(0)[:2], *padded))
    return pads


def _stated_pads(call: Call, spatial: Ints, window: Mapping[str, Any]) -> Ints:
    mode = call.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = call.listed("pads") or (0,) * (2 * len(spatial))
        if len(pads) != 2 * len(spatial) or min(pads, default=0) < 0:
            raise call.fault(f"pads {list(pads)} do not fit; expected {2 * len(spatial)} numbers of 0 or more")
        return pads
    if mode == "VALID":
        return (0,) * (2 * len(spatial))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise call.fault(f"auto_pad is '{mode}', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    rows = zip(spatial, window["kernel_shape"], window["strides"], window["dilations"], strict=True)
    totals = [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0) for size, k, s, d in rows]
    return _shared(totals, extra_at_end=mode == "SAME_UPPER")


def _shared(totals: list[int], *, extra_at_end: bool) -> Ints:
    """Total padding of each axis split between its two ends."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return tuple(small + large) if extra_at_end else tuple(large + small)


def _kernel_of_weights(call: Call) -> Ints:
    weights = call.type(1)
    kernel = call.listed("kernel_shape") or weights.shape[2:]
    if weights.rank != call.type(0).rank or kernel != weights.shape[2:]:
        raise call.fault(f"weights are {weights} and kernel_shape {list(kernel)} for an input of {call.type(0)}; they must agree")
    return kernel


def _conv(call: Call) -> tuple[Value, ...]:
    spatial = _spatial(call)
    window = _window(call, _kernel_of_weights(call))
    pads = _pads(call, spatial, window)
    return (call.emit("Conv", *call.tensors(), **window, pads=pads, group=call.attribute("group", 1)),)


def _fused_conv(call: Call) -> tuple[Value, ...]:
    """com.microsoft FusedConv: x, weights, bias, and a value that is added before the activation."""
    spatial = _spatial(call)
    window = _window(call, _kernel_of_weights(call))
    operands = (call.value(0), call.value(1), *((call.value(2),) if call.has(2) else ()))
    y = call.emit("Conv", *operands, **window, pads=_pads(call, spatial, window), group=call.attribute("group", 1))
    return (activate(call, call.emit("Add", y, call.value(3)) if call.has(3) else y),)


def _conv_transpose(call: Call) -> tuple[Value, ...]:
    spatial = _spatial(call)
    window = _window(call, _kernel_of_weights(call))
    output_padding = call.listed("output_padding") or (0,) * len(spatial)
    if len(output_padding) != len(spatial):
        raise call.fault(f"output_padding {list(output_padding)} does not fit; expected {len(spatial)} numbers")
    rows = zip(spatial, window["kernel_shape"], window["strides"], window["dilations"], output_padding, strict=True)
    full = tuple((size - 1) * s + (k - 1) * d + 1 + extra for size, k, s, d, extra in rows)
    check_shape(f"{call.where}: output before its pads are cut", (*call.shape(0)[:2], *full))
    pads, output_padding = _transposed_pads(call, spatial, window, output_padding)
    group = call.attribute("group", 1)
    return (call.emit("ConvTranspose", *call.tensors(), **window, pads=pads, output_padding=output_padding, group=group),)


def _transposed_pads(call: Call, spatial: Ints, window: Mapping[str, Any], output_padding: Ints) -> tuple[Ints, Ints]:
    """Explicit pads and output padding of a transposed convolution, from its output size where that is given."""
    mode = call.attribute("auto_pad", "NOTSET")
    wanted = call.listed("output_shape")
    if wanted is not None:
        wanted = wanted[-len(spatial) :]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(size * s for size, s in zip(spatial, window["strides"], strict=True))
    else:
        return _pads(call, spatial, window), output_padding
    if len(wanted) != len(spatial):
        raise call.fault(f"output_shape {list(wanted)} does not fit; expected {len(spatial)} sizes")
    rows = zip(spatial, window["kernel_shape"], window["strides"], window["dilations"], output_padding, wanted, strict=True)
    totals = [(size - 1) * s + (k - 1) * d + 1 + extra - out for size, k, s, d, extra, out in rows]
    extra_padding = tuple(p + max(-t, 0) for p, t in zip(output_padding, totals, strict=True))
    return _shared([max(t, 0) for t in totals], extra_at_end=mode == "SAME_UPPER"), extra_padding


def _pool(call: Call, **extra: Any) -> str:
    spatial = _spatial(call)
    kernel = call.listed("kernel_shape") or ()
    if len(kernel) != len(spatial):
        raise call.fault(f"kernel_shape {list(kernel)} does not fit {call.type(0)}; expected {len(spatial)} sizes")
    window = _window(call, kernel)
    pads = _pads(call, spatial, window)
    ceil_mode = int(call.attribute("ceil_mode", 0)) if call.attribute("auto_pad", "NOTSET") == "NOTSET" else 0
    return call.emit(call.op, call.value(0), **window, pads=pads, ceil_mode=ceil_mode, **extra)


def _max_pool(call: Call) -> tuple[Value, ...]:
    y = _pool(call)
    return (y, _max_places(call, call.type_of(y).shape[2:])) if call.has_output(1) else (y,)


def _max_places(call: Call, pooled: Ints) -> str:
    """Where in x, taken as one row, the maximum of each window lies; the first of several.

    Each window becomes a row of elements by a Gather, so that an ArgMax can tell which it is.
    """
    spatial, channels = _spatial(call), call.shape(0)[:2]
    call.assembly.spend(4 * math.prod(pooled) * math.prod(call.listed("kernel_shape") or ()))
    table, inside = _window_places(call, pooled)
    n_places, n_windows = table.shape
    flat = reshape_to(call, call.value(0), (*channels, math.prod(spatial)))
    rows = call.emit("Gather", flat, call.numbers(table.T.reshape(-1), "int64"), axis=2)
    rows = reshape_to(call, rows, (*channels, n_windows, n_places))
    if not inside.all():
        dtype = call.type(0).dtype
        lowest = float(np.finfo(dtype).min) if dtype == "float32" else int(np.iinfo(dtype).min)
        rows = call.emit("Where", call.numbers(inside.T, "bool"), rows, call.numbers(lowest, dtype))
    place = call.emit("ArgMax", rows, axis=3, keepdims=0, select_last_index=0)
    in_table = call.emit("Add", place, call.numbers(np.arange(n_windows) * n_places, "int64"))
    found = call.emit("Gather", call.numbers(_in_order(call, table, spatial).T.reshape(-1), "int64"), in_table, axis=0)
    first = np.arange(math.prod(channels)).reshape(*channels, 1) * math.prod(spatial)
    return reshape_to(call, call.emit("Add", found, call.numbers(first, "int64")), (*channels, *pooled))


def _window_places(call: Call, pooled: Ints) -> tuple[Array, Array]:
    """int64[places of the kernel, windows]: flat place in the image of each element; bool of the same shape: not padding."""
    spatial, kernel = _spatial(call), tuple(call.listed("kernel_shape") or ())
    window = _window(call, kernel)
    starts = _pads(call, spatial, window)[: len(spatial)]
    flat, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    rows = zip(spatial, kernel, window["strides"], window["dilations"], starts, pooled, strict=True)
    for size, k, stride, dilation, pad, n in rows:
        along = np.arange(k)[:, None] * dilation + np.arange(n) * stride - pad
        flat = (flat[:, None, :, None] * size + np.clip(along, 0, size - 1)[None, :, None, :]).reshape(flat.shape[0] * k, -1)
        inside = (inside[:, None, :, None] & ((along >= 0) & (along < size))[None, :, None, :]).reshape(flat.shape)
    return flat, inside


def _in_order(call: Call, table: Array, spatial: Ints) -> Array:
    """The places as the node counts them: rows first, or columns first with storage_order 1."""
    if not call.attribute("storage_order", 0):
        return table
    return np.ravel_multi_index(np.unravel_index(table, spatial), spatial, order="F")


def _max_unpool(call: Call) -> tuple[Value, ...]:
    """Each element goes where its index says, in an image of zeros; a wanted larger shape adds zeros behind."""
    spatial, kernel = _spatial(call), tuple(call.listed("kernel_shape") or ())
    n = len(spatial)
    pads = call.listed("pads") or (0,) * (2 * n)
    if len(kernel) != n or len(pads) != 2 * n or call.shape(1) != call.shape(0):
        raise call.fault(f"x is {call.type(0)}, indices {call.type(1)}, kernel_shape {list(kernel)}, pads {list(pads)}; they must agree")
    window = _window(call, kernel)
    rows = zip(spatial, kernel, window["strides"], pads[:n], pads[n:], strict=True)
    shape = (*call.shape(0)[:2], *((size - 1) * s + k - before - after for size, k, s, before, after in rows))
    wanted = call.ints(2, "the output's shape") if call.has(2) else shape
    check_shape(call.where, shape)
    if len(wanted) != len(shape) or any(w < d for w, d in zip(wanted, shape, strict=True)):
        raise call.fault(f"output shape {list(wanted)} found, at least {list(shape)} expected")
    zeros = call.assembly.fill((math.prod(shape),), 0.0, call.type(0).dtype)
    flat = (reshape_to(call, call.value(i), (call.type(0).size,)) for i in (1, 0))
    y = reshape_to(call, call.emit("ScatterElements", zeros, *flat, axis=0, reduction="none"), shape)
    if wanted == shape:
        return (y,)
    behind = tuple(w - d for w, d in zip(wanted, shape, strict=True))
    return (call.emit("Pad", y, pads=((0,) * len(shape)) + behind, mode="constant", value=0.0),)


def _average_pool(call: Call) -> tuple[Value, ...]:
    return (_pool(call, count_include_pad=int(call.attribute("count_include_pad", 0))),)


def _lp_pool(call: Call) -> tuple[Value, ...]:
    return (_pool(call, p=call.attribute("p", 2)),)


def _batch_normalization(call: Call) -> tuple[Value, ...]:
    if not call.attribute("spatial", 1):
        raise call.fault("spatial=0 is not supported; export the model with opset 9 or newer")
    if call.attribute("training_mode", 0) or any(call.has_output(i) for i in range(1, 5)):
        if call.value(0) not in call.assembly.constants:
            raise call.fault("it is in training mode, which uses the statistics of the batch; export the model for inference")
        return _standardised(call)
    return (call.emit("BatchNormalization", *(call.value(i) for i in range(5)), epsilon=call.attribute("epsilon", 1e-5)),)


def _standardised(call: Call) -> tuple[Value, ...]:
    """Weights normalised by statistics of their own, as networks write it whose weights are standardised."""
    rank = call.type(0).rank
    if rank < 2:
        raise call.fault(f"input is {call.type(0)}, expected 2 or more dimensions")
    axes, momentum = tuple(i for i in range(rank) if i != 1), float(call.attribute("momentum", 0.9))
    scale, bias, *running = (call.value(i) for i in range(1, 5))
    mean = call.emit("ReduceMean", call.value(0), axes=axes, keepdims=1)
    centred = call.emit("Sub", call.value(0), mean)
    variance = call.emit("ReduceMean", call.emit("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = call.emit("Sqrt", call.emit("Add", variance, call.numbers(float(call.attribute("epsilon", 1e-5)))))
    factor, offset = (call.emit("Reshape", v, shape=(call.shape(0)[1], *(1,) * (rank - 2))) for v in (scale, bias))
    y = call.emit("Add", call.emit("Mul", call.emit("Div", centred, deviation), factor), offset)
    found = [reshape_to(call, v, call.type_of(scale).shape) for v in (mean, variance)]
    kept = (
        call.emit("Add", call.emit("Mul", old, call.numbers(momentum)), call.emit("Mul", new, call.numbers(1.0 - momentum)))
        for old, new in zip(running, found, strict=True)
    )
    return (y, *kept, *found)


def _group_normalization(call: Call) -> tuple[Value, ...]:
    """Scale and bias per channel; opset 18 gave them per group."""
    x, scale, bias = (call.value(i) for i in range(3))
    n_groups, epsilon = call.required("num_groups"), call.attribute("epsilon", 1e-5)
    channels = call.shape(0)[1] if call.type(0).rank > 1 else 0
    if not isinstance(n_groups, int) or n_groups < 1 or channels % n_groups:
        raise call.fault(f"num_groups is {n_groups}, expected a divisor of the {channels} channels")
    if call.opset < 21:
        scale, bias = (_per_channel(call, v, n_groups, channels) for v in (scale, bias))
    return (call.emit("GroupNormalization", x, scale, bias, num_groups=n_groups, epsilon=epsilon),)


def _per_channel(call: Call, value: str, n_groups: int, channels: int) -> str:
    if call.type_of(value).shape != (n_groups,):
        raise call.fault(f"scale or bias is {call.type_of(value)}, expected {n_groups} elements, one per group, before opset 21")
    column = call.emit("Reshape", value, shape=(n_groups, 1))
    return call.emit("Reshape", call.emit("Expand", column, shape=(n_groups, channels // n_groups)), shape=(channels,))


_LINEAR_MODES = {
    "nearest": "nearest",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "cubic": "cubic",
}


def _upsample(call: Call) -> tuple[Value, ...]:
    """Upsample, and Resize before opset 11: source places are `floor(place / scale)` without a shift."""
    scales = call.attribute("scales") or tuple(float(v) for v in call.known(1, "the scales").reshape(-1))
    shape = call.shape(0)
    if len(scales) != len(shape) or not all(0 < s < 1e6 for s in scales):
        raise call.fault(f"scales {list(scales)} do not fit {call.type(0)}; expected one positive number per dimension")
    sizes = tuple(math.floor(d * s) for d, s in zip(shape, scales, strict=True))
    return (_resize_node(call, sizes, scales, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),)


def _resize(call: Call) -> tuple[Value, ...]:
    if call.opset < 11:
        return _upsample(call)
    sizes, scales = _resize_geometry(call)
    attributes: dict[str, Any] = {
        "coordinate_transformation_mode": call.attribute("coordinate_transformation_mode", "half_pixel"),
        "nearest_mode": call.attribute("nearest_mode", "round_prefer_floor"),
    }
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        attributes |= {"roi": _region(call), "extrapolation_value": float(call.attribute("extrapolation_value", 0.0))}
    if call.attribute("antialias", 0) and call.attribute("mode", "nearest") in ("linear", "cubic") and any(s < 1 for s in scales):
        return (resized(call, sizes, scales, attributes),)
    return (_resize_node(call, sizes, scales, attributes),)


def _resize_node(call: Call, sizes: Ints, scales: tuple[float, ...], attributes: Mapping[str, Any]) -> str:
    mode = _LINEAR_MODES.get(call.attribute("mode", "nearest"), "")
    if not mode:
        raise call.fault(f"mode is '{call.attribute('mode')}', expected nearest, linear or cubic")
    return call.emit(
        "Resize", call.value(0), sizes=sizes, scales=scales, mode=mode,
        cubic_coeff_a=float(call.attribute("cubic_coeff_a", -0.75)),
        exclude_outside=int(call.attribute("exclude_outside", 0)), **attributes,
    )  # fmt: skip


def _region(call: Call) -> tuple[float, ...]:
    """The region of interest: starts, then ends, of every dimension."""
    rank = call.type(0).rank
    axes = call.axes(call.listed("axes") or tuple(range(rank)), rank)
    given = [float(v) for v in call.known(1, "the region").reshape(-1)]
    if len(given) != 2 * len(axes):
        raise call.fault(f"the region has {len(given)} numbers, expected {2 * len(axes)}")
    starts, ends = [0.0] * rank, [1.0] * rank
    for place, axis in enumerate(axes):
        starts[axis], ends[axis] = given[place], given[len(axes) + place]
    return (*starts, *ends)


def _resize_geometry(call: Call) -> tuple[Ints, tuple[float, ...]]:
    """Output sizes and scales of every dimension, from either of them."""
    shape = call.shape(0)
    listed = call.listed("axes")
    axes = call.axes(tuple(range(len(shape))) if listed is None else listed, len(shape))
    sizes, scales = list(shape), [1.0] * len(shape)
    if call.has(3) and call.type(3).size:
        wanted = call.ints(3, "the sizes")
        if len(wanted) != len(axes) or min(wanted, default=1) < 1:
            raise call.fault(f"sizes {list(wanted)} do not fit {call.type(0)}; expected {len(axes)} sizes of 1 or more")
        wanted = _keep_aspect(call, tuple(shape[a] for a in axes), wanted)
        for axis, size in zip(axes, wanted, strict=True):
            sizes[axis], scales[axis] = size, size / shape[axis] if shape[axis] else 1.0
        return tuple(sizes), tuple(scales)
    factors = [float(v) for v in call.known(2, "the scales").reshape(-1)] if call.has(2) else []
    if len(factors) != len(axes) or not all(0 < s < 1e6 for s in factors):
        raise call.fault(f"scales {factors} do not fit {call.type(0)}; expected {len(axes)} positive numbers")
    for axis, factor in zip(axes, factors, strict=True):
        sizes[axis], scales[axis] = math.floor(shape[axis] * factor), factor
    return tuple(sizes), tuple(scales)


def _keep_aspect(call: Call, held: Ints, wanted: Ints) -> Ints:
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch" or not held or 0 in held:
        return wanted
    choose = min if policy == "not_larger" else max
    scale = choose(w / h for w, h in zip(wanted, held, strict=True))
    return tuple(int(np.floor(scale * h + 0.5)) for h in held)


def _depth_to_space(call: Call) -> tuple[Value, ...]:
    return (call.emit("DepthToSpace", call.value(0), blocksize=call.required("blocksize"), mode=call.attribute("mode", "DCR")),)


def _space_to_depth(call: Call) -> tuple[Value, ...]:
    """Mode CRD, of the newest opsets, puts the places of a block after the channel."""
    block, mode = call.required("blocksize"), call.attribute("mode", "DCR")
    if mode == "DCR":
        return (call.emit("SpaceToDepth", call.value(0), blocksize=block),)
    if call.type(0).rank != 4 or block < 1 or call.shape(0)[2] % block or call.shape(0)[3] % block:
        raise call.fault(f"blocksize {block} does not fit {call.type(0)}; expected a divisor of height and width")
    n, channels, height, width = call.shape(0)
    blocks = call.emit("Reshape", call.value(0), shape=(n, channels, height // block, block, width // block, block))
    moved = call.emit("Transpose", blocks, perm=(0, 1, 3, 5, 2, 4))
    return (call.emit("Reshape", moved, shape=(n, channels * block * block, height // block, width // block)),)


_GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def _grid_sample(call: Call) -> tuple[Value, ...]:
    mode = str(call.attribute("mode", "linear"))
    return (
        call.emit(
            "GridSample", call.value(0), call.value(1), mode=_GRID_MODES.get(mode, mode),
            padding_mode=call.attribute("padding_mode", "zeros"), align_corners=int(call.attribute("align_corners", 0)),
        ),
    )  # fmt: skip


def _softmax(call: Call) -> tuple[Value, ...]:
    """Before opset 13 the op worked on a matrix: all dimensions from `axis` on together."""
    shape = call.shape(0)
    rank = len(shape)
    if call.opset >= 13:
        return (call.emit(call.op, call.value(0), axis=call.axis(call.attribute("axis", -1), rank)),)
    axis = call.axis(call.attribute("axis", 1), rank)
    if math.prod(shape[axis + 1 :]) == 1:
        return (call.emit(call.op, call.value(0), axis=axis),)
    matrix = reshape_to(call, call.value(0), (math.prod(shape[:axis]), math.prod(shape[axis:])))
    return (reshape_to(call, call.emit(call.op, matrix, axis=1), shape),)


ROWS: Mapping[str, Normaliser] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "MaxPool": _max_pool, "MaxUnpool": _max_unpool, "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "BatchNormalization": _batch_normalization, "GroupNormalization": _group_normalization, "Upsample": _upsample,
    "Resize": _resize, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "GridSample": _grid_sample,
    "Softmax": _softmax, "LogSoftmax": _softmax, "Hardmax": _softmax,
}  # fmt: skip


def _channels_second(call: Call, value: str) -> str:
    rank = call.type_of(value).rank
    return transpose(call, value, (0, rank - 1, *range(1, rank - 1)))


def _channels_last(call: Call, value: str) -> str:
    return transpose(call, value, (0, *range(2, call.type_of(value).rank), 1))


def _nhwc_conv(call: Call) -> tuple[Value, ...]:
    """com.microsoft NhwcConv: input, output and weights with their channels last."""
    if call.type(0).rank < 3 or call.type(1).rank != call.type(0).rank:
        raise call.fault(f"x is {call.type(0)}, weights {call.type(1)}; batch, 1 or more spatial dimensions and channels expected")
    values = (_channels_second(call, call.value(0)), _channels_second(call, call.value(1)), call.optional(2))
    inner = Call(call.assembly, "Conv", "", call.name, 21, values, call.attributes, ("y",))
    return (_channels_last(call, str(_conv(inner)[0])),)


def _fused_group_norm(call: Call) -> tuple[Value, ...]:
    """com.microsoft GroupNorm and SkipGroupNorm: x, scale, offset, skip, bias; the second output is what is normalised."""
    total, is_last = call.value(0), bool(call.attribute("channels_last", 1))
    if call.type(0).rank < 3:
        raise call.fault(f"x is {call.type(0)}, expected batch, channels and 1 or more spatial dimensions")
    for place in (3, 4) if call.op == "SkipGroupNorm" else ():
        if call.has(place):
            total = call.emit("Add", total, _per_place(call, place, is_last=is_last))
    x = _channels_second(call, total) if is_last else total
    groups = call.required("groups")
    if groups < 1 or call.type_of(x).shape[1] % groups:
        raise call.fault(f"groups is {groups}, expected a divisor of the {call.type_of(x).shape[1]} channels")
    y = call.emit("GroupNormalization", x, call.value(1), call.value(2), num_groups=groups, epsilon=call.attribute("epsilon", 1e-5))
    if call.required("activation"):
        y = call.emit("Mul", y, call.emit("Sigmoid", y))
    return (_channels_last(call, y) if is_last else y, total)


def _per_place(call: Call, place: int, *, is_last: bool) -> str:
    """A skip or bias in a shape that broadcasts against x: one of [channels] or [batch, channels] goes along all places."""
    value, rank = call.value(place), call.type(0).rank
    held = call.shape(place)
    if len(held) == rank:
        return value
    ones = (1,) * (rank - 2)
    head = held[:-1] or (1,)
    return reshape_to(call, value, (*head, *ones, held[-1]) if is_last else (*head, held[-1], *ones))


FUSED_ROWS: Mapping[str, Normaliser] = {
    "FusedConv": _fused_conv,
    "NhwcConv": _nhwc_conv,
    "GroupNorm": _fused_group_norm,
    "SkipGroupNorm": _fused_group_norm,
}
"""Ops of the domain com.microsoft, which ONNX Runtime's optimiser writes."""
