"""Makes convolutions of transposed convolutions, which arrays and macros can compute.

    y = ConvTranspose(x, w, b) {strides=(2,2), pads=(0,0,0,0)}
        becomes    h = Conv(x, w', b'); y = DepthToSpace(h) {blocksize=2, mode="CRD"}

An output at place q of an axis (pads not cut off yet) is the sum of `x[i] w[t]` over all `q = i s + t`. With `q = m s + r` the taps are
`t = r + j s`, and `i = m - j`: for each phase r a convolution over x with ceil(k / s) taps. All phases have the same windows, so they
are the channels of one convolution, s of each axis for one, whose outputs then lie beside each other. Taps that a phase lacks are
zero. What pads cut off is not computed, or sliced away where it is less than a window's outputs.

It is the sub-pixel convolution of Shi et al. (arXiv 1609.07009, 2016), the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.ir.constants import ArrayConstant, Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import full_attributes
from pimloom.ir.types import TensorType
from pimloom.passes.draft import Draft

Array = np.ndarray[Any, np.dtype[Any]]
Ints = tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class LowerConvTranspose:
    """A ConvTranspose with constant weights becomes Conv, and moves that put its phases side by side.

    Depthwise ones stay: there is no matrix to gain.
    """

    def __call__(self, graph: Graph) -> Graph:
        """The graph without those transposed convolutions."""
        draft = Draft(graph)
        for node in graph.nodes:
            if node.op != "ConvTranspose" or not _lower(draft, node):
                draft.keep(node)
        return draft.finish()


@final
@dataclass(frozen=True, slots=True)
class PhaseConstant(Constant):
    """Weights of a transposed convolution as those of a convolution.

    Attributes:
        base: [C, O / group, *kernel], C input channels and O output channels.
        strides: per axis.
        group: of the convolution.
    """

    base: Constant
    strides: Ints
    group: int

    @property
    def type(self) -> TensorType:
        """[O * product of strides, C / group, *taps of a phase]; the phases of a channel follow one another."""
        channels, outputs, *kernel = self.base.type.shape
        taps = (-(-k // s) for k, s in zip(kernel, self.strides, strict=True))
        return TensorType(self.base.type.dtype, (outputs * self.group * math.prod(self.strides), channels // self.group, *taps))

    def array(self) -> Array:
        """The base's elements and zeros."""
        held, wanted = self.base.array(), self.type.shape
        channels, outputs, *kernel = held.shape
        taps = wanted[2:]
        missing = [(0, n * s - k) for n, s, k in zip(taps, self.strides, kernel, strict=True)]
        padded = np.pad(held, [(0, 0), (0, 0), *missing])
        by_phase = [size for n, s in zip(taps, self.strides, strict=True) for size in (n, s)]
        parts = padded.reshape(self.group, channels // self.group, outputs, *by_phase)
        axes = range(len(kernel))
        # Newer inputs meet earlier taps: of a window the last input has tap 0.
        turned = np.flip(parts, tuple(3 + 2 * axis for axis in axes))
        order = (0, 2, *(4 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
        found = np.ascontiguousarray(turned.transpose(order).reshape(wanted))
        found.flags.writeable = False
        return found


@final
@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of a transposed convolution: `out` places are wanted, `size` are there, `low` are cut off in front."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    low: int

    @property
    def first(self) -> int:
        """The first place of the convolution."""
        return self.low // self.stride

    @property
    def places(self) -> int:
        """How many it has."""
        return (self.low + self.out - 1) // self.stride - self.first + 1

    @property
    def pads(self) -> tuple[int, int]:
        """Of the convolution, in front and behind."""
        reach = (-(-self.kernel // self.stride) - 1) * self.dilation
        return reach - self.first, self.first + self.places - self.size

    @property
    def cut(self) -> int:
        """Outputs of the first place that are not wanted."""
        return self.low - self.first * self.stride


def _lower(draft: Draft, node: Node) -> bool:
    weight, x, y = draft.constant_of(node.inputs[1]), draft.type_of(node.inputs[0]), draft.types[node.outputs[0]]
    attributes = full_attributes(node)
    group = int(attributes["group"])
    if weight is None or any(one.quant is not None for one in (weight.type, x, y)) or x.shape[1] == group or not y.size:
        return False
    axes = _axes(attributes, x.shape, weight.type.shape, y.shape)
    if any(axis.dilation > 1 < axis.stride or min(axis.pads) < 0 for axis in axes):
        return False
    bias = None
    if any(node.inputs[2:]):
        bias = draft.constant_of(node.inputs[-1])
        if bias is None:
            return False
    strides = tuple(axis.stride for axis in axes)
    source, weights, *others = node.inputs
    inputs = [source, draft.constant(f"{weights}_phases", PhaseConstant(weight, strides, group))]
    if bias is not None:
        inputs.append(draft.constant(f"{others[0]}_phases", ArrayConstant(np.repeat(bias.array(), math.prod(strides)))))
    is_plain = math.prod(strides) == 1
    h = node.outputs[0] if is_plain else draft.fresh(f"{node.name}_phases")
    window = {
        "kernel_shape": tuple(-(-axis.kernel // axis.stride) for axis in axes), "strides": (1,) * len(axes), "group": group,
        "dilations": tuple(axis.dilation for axis in axes), "pads": tuple(axis.pads[end] for end in (0, 1) for axis in axes),
    }  # fmt: skip
    draft.emit(Node("Conv", tuple(inputs), (h,), window, node.name, node.phase))
    if not is_plain:
        _interleave(draft, node, h, axes)
    return True


def _axes(attributes: dict[str, Any], x: Ints, weight: Ints, y: Ints) -> list[_Axis]:
    rank = len(x) - 2
    strides, dilations = (tuple(attributes[name]) or (1,) * rank for name in ("strides", "dilations"))
    low = (tuple(attributes["pads"]) or (0,) * (2 * rank))[:rank]
    return [_Axis(*one) for one in zip(x[2:], y[2:], weight[2:], strides, dilations, low, strict=True)]


def _interleave(draft: Draft, node: Node, h: str, axes: Sequence[_Axis]) -> None:
    """Emits what lays the phases of a convolution side by side, and cuts off what is not wanted."""
    output, name = node.outputs[0], node.name
    n, channels = draft.types[output].shape[:2]
    full = tuple(axis.places * axis.stride for axis in axes)
    is_cut = full != tuple(axis.out for axis in axes)
    made = draft.fresh(f"{name}_whole") if is_cut else output
    strides = {axis.stride for axis in axes}
    if len(axes) == 2 and len(strides) == 1:
        draft.emit(Node("DepthToSpace", (h,), (made,), {"blocksize": strides.pop(), "mode": "CRD"}, made, node.phase))
    else:
        apart = (n, channels, *(axis.stride for axis in axes), *(axis.places for axis in axes))
        rank = len(axes)
        order = (0, 1, *(place for axis in range(rank) for place in (2 + rank + axis, 2 + axis)))
        parts = draft.emit(Node("Reshape", (h,), (draft.fresh(f"{name}_apart"),), {"shape": apart}, f"{name}_apart", node.phase))
        turned = draft.fresh(f"{name}_turned")
        draft.emit(Node("Transpose", (parts,), (turned,), {"perm": order}, turned, node.phase))
        draft.emit(Node("Reshape", (turned,), (made,), {"shape": (n, channels, *full)}, made, node.phase))
    if is_cut:
        starts = tuple(axis.cut for axis in axes)
        cut = {"starts": starts, "ends": tuple(axis.cut + axis.out for axis in axes), "axes": tuple(range(2, 2 + len(axes)))}
        draft.emit(Node("Slice", (made,), (output,), cut, output, node.phase))


__all__ = ["LowerConvTranspose", "PhaseConstant"]
