"""What pimsim-nn's vector unit does for each kind of node.

All numbers are codes or sums of codes, in the widths of `widths`. A number becomes a code in four steps, each a vector
instruction: `vvmul` by the multiplier of its channel, `vvsra` by its shift, `vrsu` and `vrsl` to the bounds. The constant
that rounds, the zero points and the bias are one constant per channel, added to the sums where these begin; as the
constant is added before the multiplication, a code may differ by one where a sum lies next to the middle of two codes.

An element-wise function is said where the instruction set has it (`vrelu`, `vtanh`, `vsigm`, `vvmax`, clamps) or where it
is made of these; any other, and softmax and normalisation, which need exponentials and roots, are refused by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from pimloom.errors import ProgramError
from pimloom.ir.graph import Node
from pimloom.ir.integer import Rescaler
from pimloom.ir.steps import LookupStep, MeanStep, ProductStep, SumStep
from pimloom.program.pimsim.lists import InstructionList
from pimloom.program.pimsim.memory import CoreMemory
from pimloom.program.pimsim.widths import NodeWidths, Scaling, bytes_of, scaling_of
from pimloom.program.rows import MASKED

SPAN_ELEMENTS: Final = 1024
"""Elements that one instruction works on where vectors follow each other: constants are repeated up to here."""

_MULTIPLIER_BITS: Final = 15
"""Of the multipliers of sums and products of two codes: an error of at most 2**-7 of a code."""

Span = tuple[int, int, int, int]
"""dst, src1, src2, elements."""


@final
class Elementwise:
    """Vector instructions of one core."""

    def __init__(self, out: InstructionList, memory: CoreMemory, widths: NodeWidths) -> None:
        """Appends to `out`."""
        self.out, self.memory, self.widths = out, memory, widths
        self._functions: Mapping[str, Callable[[int, int, int, int, int], tuple[int, int]]] = {
            "Relu": self._relu, "Clip": self._clip, "Sigmoid": self._sigmoid, "Tanh": self._tanh, "HardSigmoid": self._clip,
            "HardSwish": self._hard_swish, "Silu": self._silu, "Swish": self._silu, "LeakyRelu": self._leaky_relu,
            "Identity": self._clip, "QuantizeLinear": self._clip, "DequantizeLinear": self._clip, "Neg": self._clip,
            "Mul": self._clip, "Div": self._clip, "Add": self._clip, "Sub": self._clip,
        }  # fmt: skip

    # From sums to codes ------------------------------------------------------------------------------------

    def rescale(self, key: Sequence[object], scaling: Scaling, targets: Sequence[tuple[int, int]], n: int) -> None:
        """Makes codes of sums.

        Args:
            key: names the constants.
            scaling: their widths.
            targets: (destination of the codes, address of the sums) of vectors of `n` numbers each.
            n: elements of a vector.
        """
        s, out = scaling, self.out
        multipliers = self.memory.constant(("multiplier", *key, n), n * s.sum_bytes)
        shifts = self.memory.constant(("shift", *key, n), n * s.product_bytes)
        product = self.memory.buffer("product of multiplier", n * s.product_bytes)
        wide = self.memory.buffer("unclamped", len(targets) * n * s.clamp_bytes)
        for v, (_, sums) in enumerate(targets):
            out.vector("vvmul", product, sums, multipliers, n, (s.sum_bits, s.product_bits))
            out.vector("vvsra", wide + v * n * s.clamp_bytes, product, shifts, n, (s.product_bits, 8 * s.clamp_bytes))
        step = n * s.code_bytes
        if all(b - a == step for (a, _), (b, _) in itertools.pairwise(targets)):
            self._clamp(targets[0][0], wide, len(targets) * n, s)
        else:
            for v, (target, _) in enumerate(targets):
                self._clamp(target, wide + v * n * s.clamp_bytes, n, s)

    def _clamp(self, dst: int, src: int, n: int, s: Scaling) -> None:
        wide = 8 * s.clamp_bytes
        self.out.vector("vrsu", src, src, s.high, n, (wide, wide))
        self.out.vector("vrsl", dst, src, s.low, n, (wide, 8 * s.code_bytes))

    def widen(self, dst: int, src: int, n: int, bits: tuple[int, int]) -> None:
        """Copies numbers into wider ones: a clamp whose bound is never met."""
        self.out.vector("vrsu", dst, src, (1 << (bits[0] - 1)) - 1, n, bits)

    # Windows -----------------------------------------------------------------------------------------------

    def largest(self, dst: int, sources: Sequence[int], n: int, bits: int) -> None:
        """The element-wise maximum of vectors."""
        if len(sources) == 1:
            self.out.copy(dst, sources[0], n * bits // 8)
        before = sources[0]
        for source in sources[1:]:
            self.out.vector("vvmax", dst, before, source, n, (bits, bits))
            before = dst

    def mean(self, index: int, counted: int, windows: Sequence[tuple[int, Sequence[int]]], n: int) -> None:
        """Means over windows: (destination, vectors of the window)."""
        step: MeanStep = self.widths.step(index)
        code = 8 * self.widths.input_bytes(index)
        scaling = scaling_of(step.rescaler(counted), counted << code)
        start = self.memory.constant(("rounding", index, counted, n), n * scaling.sum_bytes)
        for dst, sources in windows:
            sums = self._sum(start, sources, n, (code, scaling.sum_bits))
            self.rescale(("mean", index, counted), scaling, [(dst, sums)], n)

    def _sum(self, start: int, sources: Sequence[int], n: int, bits: tuple[int, int]) -> int:
        """Address of constants plus vectors, widened."""
        wide, total = (self.memory.buffer(name, n * bits[1] // 8) for name in ("widened", "total"))
        before = start
        for source in sources:
            self.widen(wide, source, n, bits)
            self.out.vector("vvadd", total, wide, before, n, (bits[1], bits[1]))
            before = total
        return before

    def accumulate(self, index: int, sums: int, sources: Sequence[int], n: int) -> None:
        """Adds vectors of codes to sums."""
        bits = (8 * self.widths.input_bytes(index), self.widths.scaling(index).sum_bits)
        wide = self.memory.buffer("widened", n * bits[1] // 8)
        for source in sources:
            self.widen(wide, source, n, bits)
            self.out.vector("vvadd", sums, wide, sums, n, (bits[1], bits[1]))

    def stencil(self, index: int, first: int, windows: Sequence[tuple[int, Sequence[tuple[int, int]]]], n: int, channels: int) -> None:
        """Depthwise convolutions: (destination, (tap, vector) of each tap in the image) of n elements, `channels` a vector."""
        scaling = self.widths.scaling(index)
        code = 8 * self.widths.input_bytes(index)
        bits = (code, scaling.sum_bits)
        product, total = (self.memory.buffer(name, n * scaling.sum_bytes) for name in ("tap", "total"))
        bias = self.memory.constant(("bias", index, first, n, channels), n * scaling.sum_bytes)
        for dst, taps in windows:
            before = bias
            for tap, source in taps:
                weights = self.memory.constant(("tap", index, tap, first, n, channels), n * code // 8)
                self.out.vector("vvmul", product, source, weights, n, bits)
                self.out.vector("vvadd", total, product, before, n, (bits[1], bits[1]))
                before = total
            self.rescale(("linear", index, first, channels), scaling, [(dst, before)], n)

    # Nodes -------------------------------------------------------------------------------------------------

    def node(self, index: int, first: int, spans: Sequence[Span]) -> None:
        """Applies a node to spans of its operands; src2 is -1 where it has one."""
        node, step = self.widths.node(index), self.widths.step(index)
        match step:
            case SumStep():
                for span in spans:
                    self._add(index, first, step, span)
            case ProductStep():
                for span in spans:
                    self._multiply(index, first, step.rescaler, span)
            case LookupStep() if node.op in self._functions:
                for span in spans:
                    self._apply(node, index, span)
            case _:
                raise refusal(node, "its vector unit has no instructions for it")

    def _operand(self, index: int, first: int, place: int, address: int, n: int) -> int:
        """An operand's address; a constant operand has one of its own."""
        if address >= 0:
            return address
        return self.memory.constant(("operand", index, place, first, n), n * self.widths.input_bytes(index))

    def _add(self, index: int, first: int, step: SumStep, span: Span) -> None:
        """Operands times their multipliers, added to a constant, shifted and clamped."""
        dst, *sources, n = span
        code = self.widths.input_bytes(index)
        wide_bytes = max(2, code + 1)
        total_bytes = bytes_of(len(step.multipliers) << (8 * code + _MULTIPLIER_BITS))
        scaling = Scaling(wide_bytes, total_bytes, step.low, step.high, self.widths.output_bytes(index))
        wide, product, total = (
            self.memory.buffer(name, n * size) for name, size in (("widened", wide_bytes), ("product", total_bytes), ("total", total_bytes))
        )
        before = self.memory.constant(("rounding", index, n), n * total_bytes)
        for place in range(len(step.multipliers)):
            source = self._operand(index, first, place, sources[place] if place < len(sources) else -1, n)
            multipliers = self.memory.constant(("multiplier", index, place, n), n * wide_bytes)
            self.widen(wide, source, n, (8 * code, 8 * wide_bytes))
            self.out.vector("vvmul", product, wide, multipliers, n, (8 * wide_bytes, 8 * total_bytes))
            self.out.vector("vvadd", total, product, before, n, (8 * total_bytes, 8 * total_bytes))
            before = total
        self._shift(("add", index), scaling, dst, before, n)

    def _shift(self, key: Sequence[object], scaling: Scaling, dst: int, src: int, n: int) -> None:
        """Shifts numbers of `product_bytes` to codes."""
        shifts = self.memory.constant(("shift", *key, n), n * scaling.product_bytes)
        wide = self.memory.buffer("unclamped", n * scaling.clamp_bytes)
        self.out.vector("vvsra", wide, src, shifts, n, (scaling.product_bits, 8 * scaling.clamp_bytes))
        self._clamp(dst, wide, n, scaling)

    def _multiply(self, index: int, first: int, rescaler: Rescaler, span: Span) -> None:
        """The product of two codes, rescaled."""
        dst, src1, src2, n = span
        code = 8 * self.widths.input_bytes(index)
        scaling = scaling_of(rescaler, 1 << (2 * code))
        product = self.memory.buffer("product", n * scaling.sum_bytes)
        rounding = self.memory.constant(("rounding", index, n), n * scaling.sum_bytes)
        left, right = (self._operand(index, first, place, address, n) for place, address in enumerate((src1, src2)))
        self.out.vector("vvmul", product, left, right, n, (code, scaling.sum_bits))
        self.out.vector("vvadd", product, product, rounding, n, (scaling.sum_bits, scaling.sum_bits))
        self.rescale(("product", index), scaling, [(dst, product)], n)

    # Functions of one code ---------------------------------------------------------------------------------

    def _apply(self, node: Node, index: int, span: Span) -> None:
        """A function, then its result as codes of the output's scale."""
        dst, src, _, n = span
        bits = 8 * self.widths.input_bytes(index)
        made, made_bits = self._functions[node.op](index, src, n, bits, 2 * bits)
        rounding = self.memory.constant(("rounding", index, n), n * made_bits // 8)
        self.out.vector("vvadd", made, made, rounding, n, (made_bits, made_bits))
        size = self.widths.output_bytes(index)
        is_unsigned = self.widths.program.graph.types[node.outputs[0]].dtype.startswith("u")
        least = 0 if is_unsigned else -(1 << (8 * size - 1))
        scaling = Scaling(made_bits // 8, min(8, made_bits // 8 + 2), least, least + (1 << (8 * size)) - 1, size)
        self.rescale(("function", index), scaling, [(dst, made)], n)

    def _buffer(self, name: str, n: int, bits: int) -> int:
        return self.memory.buffer(name, n * bits // 8)

    def _relu(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        self.out.vector("vrelu", self._buffer("function", n, bits), src, 0, n, (bits, bits))
        self.widen(self._buffer("widened", n, wide), self._buffer("function", n, bits), n, (bits, wide))
        return self._buffer("widened", n, wide), wide

    def _clip(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        """Nothing but the constant, the factor and the bounds that follow: that is what a sum or product with a constant is."""
        self.widen(self._buffer("widened", n, wide), src, n, (bits, wide))
        return self._buffer("widened", n, wide), wide

    def _sigmoid(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        self.out.vector("vsigm", self._buffer("function", n, wide), src, 0, n, (bits, wide))
        return self._buffer("function", n, wide), wide

    def _tanh(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        self.out.vector("vtanh", self._buffer("function", n, wide), src, 0, n, (bits, wide))
        return self._buffer("function", n, wide), wide

    def _silu(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        """The input times its sigmoid."""
        self._sigmoid(index, src, n, bits, wide)
        self.widen(self._buffer("widened", n, wide), src, n, (bits, wide))
        return self._times_input(n, wide)

    def _hard_swish(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        """The input x times clamp(x + 3, 0, 6), whose sixth is part of the rescaling."""
        widened, made = self._buffer("widened", n, wide), self._buffer("function", n, wide)
        three = self.memory.constant(("three", index, n), n * wide // 8)
        self.widen(widened, src, n, (bits, wide))
        self.out.vector("vvadd", made, widened, three, n, (wide, wide))
        self.out.vector("vrsu", made, made, self._code(index, 6.0, wide), n, (wide, wide))
        self.out.vector("vrsl", made, made, 0, n, (wide, wide))
        return self._times_input(n, wide)

    def _code(self, index: int, value: float, bits: int) -> int:
        """The code of a real value on the scale of a node's input, as far as the width lets it."""
        quant = self.widths.program.graph.types[self.widths.node(index).inputs[0]].quant
        return min((1 << (bits - 1)) - 1, round(value / quant.scale[0])) if quant is not None else 0

    def _leaky_relu(self, index: int, src: int, n: int, bits: int, wide: int) -> tuple[int, int]:
        """The larger of x and slope * x, for a slope below one."""
        widened, made = self._buffer("widened", n, 2 * wide), self._buffer("function", n, 2 * wide)
        slopes = self.memory.constant(("slope", index, n), n * bits // 8)
        one = self.memory.constant(("one", index, n), n * bits // 8)
        self.out.vector("vvmul", made, src, slopes, n, (bits, 2 * wide))
        self.out.vector("vvmul", widened, src, one, n, (bits, 2 * wide))
        self.out.vector("vvmax", made, made, widened, n, (2 * wide, 2 * wide))
        return made, 2 * wide

    def _times_input(self, n: int, wide: int) -> tuple[int, int]:
        """The function so far times the widened input."""
        product = self._buffer("product", n, 2 * wide)
        self.out.vector("vvmul", product, self._buffer("function", n, wide), self._buffer("widened", n, wide), n, (wide, 2 * wide))
        return product, 2 * wide


def refusal(node: Node, why: str) -> ProgramError:
    """The error for a node that cannot be said."""
    return ProgramError(f"node '{node.name}' ({node.op}): pimsim-nn cannot run it, as {why}; export a network without it")


def present(segments: Sequence[tuple[int, int]], base: int) -> list[int]:
    """Addresses of the segments of a window that lie in the image."""
    return [base + offset for offset, _ in segments if offset != MASKED]
