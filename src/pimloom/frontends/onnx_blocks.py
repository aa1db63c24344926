"""Weights with a scale per block of an axis, as large language models are stored: real constants, made on demand.

    codes[n, k] of 2 to 8 bits, scale[n, k / block], zero[n, k / block]   ->   (codes - zero) * scale, float32[n, k]

A crossbar has one scale per column, so such weights are quantised anew like those of a float network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.frontends.onnx_call import Array, Call, Normaliser, Value
from pimloom.ir.constants import Constant
from pimloom.ir.types import TensorType


@final
@dataclass(frozen=True, slots=True)
class PackedConstant(Constant):
    """Codes of 2, 4 or 8 bits, the first in the lowest bits of a byte; each row begins with a byte of its own.

    Attributes:
        base: uint8[n_rows, ...], the bytes.
        bits: of one code.
        n_columns: codes per row; what the bytes hold beyond is padding.
    """

    base: Constant
    bits: int
    n_columns: int

    @property
    def type(self) -> TensorType:
        """uint8[n_rows, n_columns]."""
        return TensorType("uint8", (self.base.type.shape[0], self.n_columns))

    def array(self) -> Array:
        """The codes, made anew at each call."""
        n_rows = self.type.shape[0]
        held = self.base.array().reshape(n_rows, -1)
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)
        codes = (held[:, :, None] >> shifts) & np.uint8(2**self.bits - 1)
        return codes.reshape(n_rows, -1)[:, : self.n_columns]


@final
@dataclass(frozen=True, slots=True)
class BlockConstant(Constant):
    """Real numbers from codes with a scale per block of an axis.

    Attributes:
        codes: the codes.
        scale: float32 of the shape of the codes, but for `axis`: one per block, the last of which may be short.
        zero: the zero points in the shape of `scale`, or one for all.
        axis: the axis that is cut into blocks.
        block: elements of a block.
    """

    codes: Constant
    scale: Constant
    zero: Constant | int
    axis: int
    block: int

    @property
    def type(self) -> TensorType:
        """float32 of the shape of the codes."""
        return TensorType("float32", self.codes.type.shape)

    def array(self) -> Array:
        """The real numbers, made anew at each call."""
        codes = self.codes.array().astype(np.float32)
        zero = self.zero if isinstance(self.zero, int) else self._spread(self.zero)
        return ((codes - zero) * self._spread(self.scale)).astype(np.float32)

    def _spread(self, held: Constant) -> Array:
        repeated = np.repeat(held.array().astype(np.float32), self.block, axis=self.axis)
        return repeated[(*(slice(None),) * self.axis, slice(self.type.shape[self.axis]))]


def blocked(call: Call, codes: str, axis: int) -> str | None:
    """The real value of constant codes under a DequantizeLinear with blocks; None where something is no constant."""
    held = [call.assembly.constants.get(call.value(i)) if call.has(i) else None for i in (1, 2)]
    base, (scale, zero) = call.assembly.constants.get(codes), held
    if base is None or scale is None or (zero is None and call.has(2)):
        return None
    block, shape = call.required("block_size"), list(base.type.shape)
    shape[axis] = -(-shape[axis] // block) if block > 0 else 0
    if scale.type.shape != tuple(shape) or (zero is not None and zero.type.shape != tuple(shape)):
        raise call.fault(f"scale is {scale.type}, expected shape {shape}: one per block of {block}, as is the zero point")
    return call.assembly.constant(BlockConstant(base, scale, 0 if zero is None else zero, axis, block))


def _constant(call: Call, place: int, what: str) -> Constant:
    held = call.assembly.constants.get(call.value(place))
    if held is None:
        raise call.fault(f"{what} (input {place}) is computed at run time, a constant is expected; store it in the model")
    return held


def _unpacked(call: Call, place: int, what: str, bits: int, shape: tuple[int, ...]) -> PackedConstant:
    """Packed codes; the bytes of older files lie in one dimension."""
    held, (n_rows, n_columns) = _constant(call, place, what), shape
    row_bytes = held.type.size // max(n_rows, 1)
    if held.type.dtype != "uint8" or held.type.size % max(n_rows, 1) or row_bytes < -(-n_columns * bits // 8):
        raise call.fault(f"{what} are {held.type}, expected {n_rows} rows of {n_columns} codes of {bits} bits in bytes")
    flat = call.emit("Reshape", call.value(place), shape=(n_rows, row_bytes))
    return PackedConstant(call.assembly.constants[flat], bits, n_columns)


def _bits(call: Call) -> tuple[int, int]:
    """Bits of a code, elements of a block."""
    bits, block = call.attribute("bits", 4), call.attribute("block_size", 128)
    if bits not in (2, 4, 8) or not isinstance(block, int) or block < 1:
        raise call.fault(f"codes of {bits} bits in blocks of {block} found; 2, 4 or 8 bits in blocks of 1 or more are expected")
    return bits, block


def _zero(call: Call, place: int, bits: int, scale: Constant) -> Constant | int:
    """Zero points, packed like the codes or in the type of the scales; half of the range if they are absent."""
    if not call.has(place):
        return 2 ** (bits - 1)
    held = _constant(call, place, "the zero points")
    if held.type.dtype == "uint8":
        return _unpacked(call, place, "the zero points", bits, scale.type.shape)
    if held.type.size != scale.type.size:
        raise call.fault(f"the zero points are {held.type}, the scales {scale.type}; equal shapes expected")
    return call.assembly.constants[call.emit("Reshape", call.value(place), shape=scale.type.shape)]


def _matmul_bits(call: Call) -> tuple[Value, ...]:
    """com.microsoft MatMulNBits: a, b [n, blocks, bytes], scales [n, blocks], zero points, group indices, bias."""
    if call.has(4) and call.type(4).size:
        raise call.fault("its input 4, the group indices, is not supported; quantise the model without reordering")
    bits, block = _bits(call)
    rows, columns = call.required("N"), call.required("K")
    n_blocks = -(-columns // block)
    if rows < 1 or columns < 1 or _constant(call, 2, "the scales").type.size != rows * n_blocks:
        raise call.fault(f"scales are {call.type(2)}; they do not fit N={rows}, K={columns} and blocks of {block}")
    codes = _unpacked(call, 1, "the weights", bits, (rows, columns))
    scale = call.assembly.constants[call.emit("Reshape", call.value(2), shape=(rows, n_blocks))]
    weights = call.assembly.constant(BlockConstant(codes, scale, _zero(call, 3, bits, scale), 1, block))
    y = call.emit("MatMul", call.value(0), call.emit("Transpose", weights, perm=(1, 0)))
    return (call.emit("Add", y, call.value(5)) if call.has(5) else y,)


def _gather_blocks(call: Call) -> tuple[Value, ...]:
    """com.microsoft GatherBlockQuantized: rows of a table of codes with blocks: data, indices, scales, zero points."""
    bits, block = _bits(call)
    data, scale = _constant(call, 0, "the table"), _constant(call, 2, "the scales")
    if (
        data.type.rank != 2
        or scale.type.rank != 2
        or call.attribute("gather_axis", 0) != 0
        or call.attribute("quantize_axis", 1) not in (1, -1)
    ):
        raise call.fault(f"the table is {data.type}; rows of a matrix with blocks along its second axis are expected")
    codes: Constant = data
    zero: Constant | int = 0
    if data.type.dtype == "uint8" and call.value(0) not in call.assembly.four_bit:
        codes = _unpacked(call, 0, "the rows of the table", bits, (data.type.shape[0], data.type.shape[1] * 8 // bits))
        zero = _zero(call, 3, bits, scale)
    elif call.has(3):
        zero = _constant(call, 3, "the zero points")
    if scale.type.shape != (codes.type.shape[0], -(-codes.type.shape[1] // block)):
        raise call.fault(f"the table is {codes.type}, the scales {scale.type}; one per block of {block} is expected")
    table = call.assembly.constant(BlockConstant(codes, scale, zero, 1, block))
    return (call.emit("Gather", table, call.value(1), axis=0),)


FUSED_ROWS: Mapping[str, Normaliser] = {"MatMulNBits": _matmul_bits, "GatherBlockQuantized": _gather_blocks}
"""Ops of the domain com.microsoft, which ONNX Runtime's quantiser writes."""
