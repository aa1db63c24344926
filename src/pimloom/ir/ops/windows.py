"""Sliding windows over spatial axes: the geometry that convolutions and pools share.

Letters: N batch, C channels, then S spatial axes (1, 2 or 3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import Attributes
from pimloom.ir.ops.table import Array


@final
@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over S spatial axes; each tuple has S entries.

    Attributes:
        kernel: elements per axis.
        strides: step of the window per output element.
        dilations: distance between neighbouring kernel elements.
        before: padding at the low end.
        after: padding at the high end.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Elements from the first to the last that one window covers, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_pointwise(self) -> bool:
        """Whether the window looks at each element alone and at all of them."""
        return math.prod(self.kernel) == 1 and set(self.strides) <= {1} and not any(self.before + self.after)

    def output_sizes(self, spatial: tuple[int, ...], *, ceil: bool = False) -> tuple[int, ...]:
        """Number of window places per axis; ModelError if a window is larger than the padded input.

        With `ceil`, a last window may hang over the end, but it must start inside the input or its low padding.
        """
        sizes: list[int] = []
        for axis, size in enumerate(spatial):
            held = size + self.before[axis] + self.after[axis]
            room = held - self.reach[axis]
            if room < 0:
                raise ModelError(
                    f"window of {self.reach[axis]} elements on spatial axis {axis}, the padded input has {held}; "
                    "use a larger input or a smaller kernel"
                )
            count = (-(-room // self.strides[axis]) if ceil else room // self.strides[axis]) + 1
            if ceil and (count - 1) * self.strides[axis] >= size + self.before[axis]:
                count -= 1
            sizes.append(count)
        return tuple(sizes)

    def positions(self) -> Iterator[tuple[int, ...]]:
        """The kernel's elements in row-major order."""
        return itertools.product(*(range(k) for k in self.kernel))

    def seen_by(self, position: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
        """What one kernel element sees of the padded spatial axes, over all window places."""
        starts = [p * d for p, d in zip(position, self.dilations, strict=True)]
        return tuple(
            slice(start, start + (n - 1) * stride + 1 if n else start, stride)
            for start, n, stride in zip(starts, sizes, self.strides, strict=True)
        )

    def padded(self, x: Array, sizes: tuple[int, ...], value: Any) -> Array:
        """x[N, C, ...] with padding of `value`, long enough for all `sizes` window places."""
        spatial = x.shape[2:]
        wanted = [
            max(size + low + high, (n - 1) * stride + reach)
            for size, low, high, n, stride, reach in zip(
                spatial, self.before, self.after, sizes, self.strides, self.reach, strict=True
            )
        ]
        if tuple(wanted) == spatial:
            return x
        held = np.full((*x.shape[:2], *wanted), value, dtype=x.dtype)
        inside = tuple(slice(low, low + size) for low, size in zip(self.before, spatial, strict=True))
        held[(slice(None), slice(None), *inside)] = x
        return held


def window_of(attributes: Attributes, n_spatial: int, kernel: tuple[int, ...] = ()) -> Window:
    """The window that `kernel_shape, strides, dilations, pads` describe; empty ones mean 1 and no padding.

    Args:
        attributes: completed attributes of a convolution or pool.
        n_spatial: number of spatial axes.
        kernel: the kernel's sizes where the weights decide them.
    """
    stated = _sizes(attributes, "kernel_shape", n_spatial, kernel, 1)
    if kernel and stated != kernel:
        raise ModelError(f"kernel_shape {list(stated)} found, the weights have {list(kernel)}")
    strides = _sizes(attributes, "strides", n_spatial, (1,) * n_spatial, 1)
    dilations = _sizes(attributes, "dilations", n_spatial, (1,) * n_spatial, 1)
    pads = _sizes(attributes, "pads", 2 * n_spatial, (0,) * (2 * n_spatial), 0)
    return Window(stated, strides, dilations, pads[:n_spatial], pads[n_spatial:])


def entries_of(attributes: Attributes, name: str, count: int) -> tuple[int, ...]:
    """The entries of a list attribute, () where it is absent or empty; ModelError unless there are `count` of them."""
    found: Any = attributes.get(name, ())
    if not isinstance(found, tuple):
        raise ModelError(f"attribute '{name}' is {found!r}, a list of {count} integers expected")
    entries = cast("tuple[int, ...]", found)
    if entries and len(entries) != count:
        raise ModelError(f"attribute '{name}' has {len(entries)} entries {list(entries)}, {count} expected")
    return entries


def _sizes(attributes: Attributes, name: str, count: int, default: tuple[int, ...], least: int) -> tuple[int, ...]:
    values = entries_of(attributes, name, count) or default
    sizes = tuple(int(v) for v in values)
    if min(sizes, default=least) < least:
        raise ModelError(f"attribute '{name}' is {list(sizes)}, entries of {least} or more expected")
    return sizes
