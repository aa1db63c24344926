"""Normal forms of ops that read an image at computed places: regions of interest and deformable convolutions.

Both become GridSample, which reads between the elements of an image. Its grid counts from -1 to 1 over an axis of `size`
elements, edge to edge: place `p` is `(2 p + 1) / size - 1`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import concat, reshape_to, slice_axis, split_equal

# -- regions of interest -----------------------------------------------------------------------------------------------


def _roi_align(call: Call) -> tuple[Value, ...]:
    """Means over the samples of each bin of each region. Inputs: images `[n, c, h, w]`, regions `[r, 4]`, their images `[r]`."""
    images, regions = call.type(0), call.type(1)
    if images.rank != 4 or regions.rank != 2 or regions.shape[1] != 4 or call.shape(2) != regions.shape[:1]:
        raise call.fault(f"images are {images}, regions {regions} of images {call.type(2)}; expected [n,c,h,w], [r,4] and [r]")
    ratio, bins = call.attribute("sampling_ratio", 0), tuple(call.attribute(f"output_{side}", 1) for side in ("height", "width"))
    if call.attribute("mode", "avg") != "avg":
        raise call.fault("mode 'max' is not supported; export the model with mode 'avg'")
    if ratio < 1 or min(bins) < 1:
        raise call.fault(
            f"sampling_ratio is {ratio} for {bins[0]} x {bins[1]} bins: 0 lets the size of a region decide how many samples it "
            "takes, which static shapes cannot say; export with sampling_ratio=2"
        )
    ys, xs = (_samples_of_axis(call, axis, bins[axis], ratio) for axis in (0, 1))
    sampled = _at_regions(call, _shared_by_regions(call), ys, xs)
    mean = call.emit("AveragePool", sampled, kernel_shape=(ratio, ratio), strides=(ratio, ratio), pads=(0,) * 4, dilations=(1, 1))
    return (_one_by_one(call, mean, bins),)


def _samples_of_axis(call: Call, axis: int, n_bins: int, ratio: int) -> str:
    """float32[r, n_bins * ratio]: places of the samples of each region along an axis (0: y, 1: x), in elements."""
    is_shifted = call.opset >= 16 and call.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    first, last = (slice_axis(call, call.value(1), 1, place, place + 1) for place in (1 - axis, 3 - axis))
    scale = call.numbers(float(call.attribute("spatial_scale", 1.0)))
    first, last = (call.emit("Mul", edge, scale) for edge in (first, last))
    length = call.emit("Sub", last, first)
    if is_shifted:
        first = call.emit("Sub", first, call.numbers(0.5))
    else:
        length = call.emit("Max", length, call.numbers(1.0))  # regions without an area
    parts = (np.arange(n_bins * ratio, dtype=np.float32) + 0.5) / (n_bins * ratio)
    return call.emit("Add", first, call.emit("Mul", length, call.numbers(parts[None])))


def _shared_by_regions(call: Call) -> str:
    """The images: one that all regions share, or one of its own for each region."""
    if call.shape(0)[0] == 1:
        return call.value(0)
    return call.emit("Gather", call.value(0), call.value(2), axis=0)


def _at_regions(call: Call, images: str, ys: str, xs: str) -> str:
    """The samples: float32[1, c, r * height, width] where regions share an image, else float32[r, c, height, width]."""
    n, _, *sides = call.type_of(images).shape
    grids, inside = list[str](), list[str]()
    n_regions, height, width = call.shape(1)[0], call.type_of(ys).shape[1], call.type_of(xs).shape[1]
    for places, size, axes in ((xs, sides[1], (1, 3)), (ys, sides[0], (2, 3))):
        grid = call.emit("Add", call.emit("Mul", places, call.numbers(2.0 / size)), call.numbers(1.0 / size - 1.0))
        grids.append(call.emit("Expand", call.emit("Unsqueeze", grid, axes=axes), shape=(n_regions, height, width, 1)))
        inside.append(call.emit("Unsqueeze", _near(call, places, size), axes=(axes[0],)))
    shape = (1, n_regions * height, width) if n == 1 else (n_regions, height, width)
    grid = reshape_to(call, concat(call, tuple(grids), 3), (*shape, 2))
    sampled = call.emit("GridSample", images, grid, mode="linear", padding_mode="border", align_corners=0)
    mask = call.emit("Cast", call.emit("And", *inside), to="float32")
    return call.emit("Mul", sampled, reshape_to(call, mask, (shape[0], 1, *shape[1:])))


def _near(call: Call, places: str, size: int) -> str:
    """Which samples count: those at most one element outside of the image."""
    low = call.emit("GreaterOrEqual", places, call.numbers(-1.0))
    return call.emit("And", low, call.emit("LessOrEqual", places, call.numbers(float(size))))


def _one_by_one(call: Call, bins: str, sides: tuple[int, ...]) -> str:
    """The bins of each region: `[1, c, r * height, width]`, of regions that share an image, as `[r, c, height, width]`."""
    n_regions, channels = call.shape(1)[0], call.shape(0)[1]
    if call.shape(0)[0] != 1:
        return bins
    apart = call.emit("Reshape", bins, shape=(channels, n_regions, *sides))
    return call.emit("Transpose", apart, perm=(1, 0, 2, 3))


# -- deformable convolution --------------------------------------------------------------------------------------------


def _deform_conv(call: Call) -> tuple[Value, ...]:
    """A convolution of one place over the samples that each window takes. Inputs: x, weights, offsets, bias, mask."""
    weights, offsets = call.type(1), call.type(2)
    if call.type(0).rank != 4 or weights.rank != 4 or offsets.rank != 4:
        raise call.fault(f"x is {call.type(0)}, weights {weights}, offsets {offsets}; images of two dimensions are expected")
    n_groups, n_places = call.attribute("offset_group", 1), weights.shape[2] * weights.shape[3]
    n, channels, *_ = call.shape(0)
    if offsets.shape[1] != 2 * n_groups * n_places or channels % n_groups:
        raise call.fault(f"offsets are {offsets}, expected {2 * n_groups * n_places} channels: two per place of the kernel and group")
    sides = offsets.shape[2:]
    grids = split_equal(call, _deformed_grid(call, n_groups * n_places), 1, n_groups)
    parts: list[str] = []
    for place, (x, grid) in enumerate(zip(split_equal(call, call.value(0), 1, n_groups), grids, strict=True)):
        flat = reshape_to(call, grid, (n, n_places * sides[0], sides[1], 2))
        sampled = call.emit("GridSample", x, flat, mode="linear", padding_mode="zeros", align_corners=0)
        parts.append(_weighed(call, reshape_to(call, sampled, (n, channels // n_groups, n_places, *sides)), place, n_groups))
    columns = reshape_to(call, concat(call, tuple(parts), 1), (n, channels * n_places, *sides))
    flat = reshape_to(call, call.value(1), (weights.shape[0], weights.shape[1] * n_places, 1, 1))
    operands = (columns, flat, *((call.value(3),) if call.has(3) else ()))
    window = {"kernel_shape": (1, 1), "strides": (1, 1), "dilations": (1, 1), "pads": (0,) * 4}
    return (call.emit("Conv", *operands, **window, group=call.attribute("group", 1)),)


def _deformed_grid(call: Call, n_rows: int) -> str:
    """float32[n, n_rows, height, width, 2]: where the windows read x; a row for each group of offsets and place of the kernel."""
    n, _, *sides = call.shape(2)
    offsets = call.emit("Reshape", call.value(2), shape=(n, n_rows, 2, *sides))
    grids: list[str] = []
    for axis in (1, 0):  # x before y, as a grid has them
        size = call.shape(0)[2 + axis]
        base = np.tile(_window_places(call, axis, tuple(sides)), (n_rows // (call.shape(1)[2] * call.shape(1)[3]), 1, 1))
        moved = call.emit("Mul", slice_axis(call, offsets, 2, axis, axis + 1), call.numbers(2.0 / size))
        grid = call.emit("Add", moved, call.numbers((2.0 * base[:, None] + 1.0) / size - 1.0))
        grids.append(call.emit("Reshape", grid, shape=(n, n_rows, *sides, 1)))
    return concat(call, tuple(grids), 4)


def _window_places(call: Call, axis: int, sides: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """float64[kernel places, height, width]: where a convolution without offsets reads along an axis."""
    kernel = call.shape(1)[2:]
    stride, dilation = ((call.listed(name) or (1, 1))[axis] for name in ("strides", "dilations"))
    pad = (call.listed("pads") or (0, 0, 0, 0))[axis]
    held = call.shape(0)[2 + axis] + pad + (call.listed("pads") or (0, 0, 0, 0))[2 + axis]
    if stride < 1 or dilation < 1 or sides[axis] != (held - (kernel[axis] - 1) * dilation - 1) // stride + 1:
        raise call.fault(f"offsets are {call.type(2)}: their size along axis {2 + axis} is not that of the output")
    places = np.indices((*kernel, *sides), np.float64)
    return (places[2 + axis] * stride - pad + places[axis] * dilation).reshape(-1, *sides)


def _weighed(call: Call, sampled: str, group: int, n_groups: int) -> str:
    """The samples of a group, each times its element of the mask."""
    if not call.has(4):
        return sampled
    n, _, n_places, *sides = call.type_of(sampled).shape
    if call.shape(4) != (n, n_groups * n_places, *sides):
        raise call.fault(f"the mask is {call.type(4)}, expected {[n, n_groups * n_places, *sides]}")
    part = slice_axis(call, call.value(4), 1, group * n_places, (group + 1) * n_places)
    return call.emit("Mul", sampled, call.emit("Unsqueeze", part, axes=(1,)))


ROWS: Mapping[str, Normaliser] = {"RoiAlign": _roi_align, "DeformConv": _deform_conv}
