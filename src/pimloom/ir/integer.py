"""Integer arithmetic that Graph meanings and Program instructions share, so that both give the same bits.

A quantised value holds codes; `real = scale * (code - zero_point)`. Sums of products are exact integers. A sum is
brought to an output scale by a fixed-point multiplier (`Rescaler`), as hardware does it: no float rounding is involved.
Functions of one value become tables. What needs division or square roots (softmax, normalisations) uses integer sums and
then single IEEE float64 operations, which every machine rounds alike, in a fixed order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.ir.types import Quant, TensorType

Array = np.ndarray[Any, np.dtype[Any]]

MULTIPLIER_BITS = 22
MAX_SHIFT = 62


def code_range(dtype: str) -> tuple[int, int]:
    """Smallest and largest code of an integer type.

    Our own quantiser uses int8 and int16 symmetrically, but models quantised elsewhere may hold the full range.
    """
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


@final
@dataclass(frozen=True, slots=True)
class Rescaler:
    """`saturate(((sum * multiplier + half) >> shift) + zero_point)`, per channel or for all.

    Attributes:
        multiplier: int64[n] with n = 1 or channels; magnitude below 2**22.
        shift: int64[n], 0..62.
        zero_point: code added at the end.
        low: smallest code let through (saturation, also fused ReLU and Clip).
        high: largest code let through.
        dtype: element type of the codes.
    """

    multiplier: Array
    shift: Array
    zero_point: int
    low: int
    high: int
    dtype: str

    def __call__(self, sums: Array) -> Array:
        """Rescales int64 sums whose last axis is the channel.

        The sums are saturated first so that the product stays below 2**62: no wrap-around at any input.
        """
        limit = np.int64(1) << (MAX_SHIFT - MULTIPLIER_BITS)
        product = np.clip(sums.astype(np.int64, copy=False), -limit, limit) * self.multiplier
        half = np.where(self.shift > 0, np.int64(1) << np.maximum(self.shift - 1, 0), 0)
        codes = ((product + half) >> self.shift) + self.zero_point
        return np.clip(codes, self.low, self.high).astype(self.dtype)


def make_rescaler(
    ratio: Array | float, target: TensorType, low: int | None = None, high: int | None = None
) -> Rescaler:
    """The rescaler by real factors `ratio` (one, or one per channel) onto the codes of `target`."""
    quant = target.quant or Quant((1.0,))
    multipliers, shifts = zip(*(_fixed_point(float(r)) for r in np.atleast_1d(np.asarray(ratio, np.float64))), strict=True)
    type_low, type_high = code_range(target.dtype)
    return Rescaler(
        np.array(multipliers, np.int64),
        np.array(shifts, np.int64),
        quant.zero_point,
        type_low if low is None else max(low, type_low),
        type_high if high is None else min(high, type_high),
        target.dtype,
    )


def _fixed_point(ratio: float) -> tuple[int, int]:
    """`ratio` as multiplier * 2**-shift with the multiplier below 2**22 in magnitude."""
    if ratio == 0.0:
        return 0, 0
    mantissa, exponent = math.frexp(ratio)
    multiplier = round(mantissa * (1 << (MULTIPLIER_BITS - 1)))
    shift = MULTIPLIER_BITS - 1 - exponent
    if shift < 0:
        return max(-(1 << MULTIPLIER_BITS), min(1 << MULTIPLIER_BITS, multiplier << -shift)), 0
    if shift > MAX_SHIFT:
        return multiplier >> min(shift - MAX_SHIFT, 63), MAX_SHIFT
    return multiplier, shift


def encode(values: Array, target: TensorType) -> Array:
    """Codes of real values: round half to even, saturate. NaN becomes the zero point."""
    quant = target.quant or Quant((1.0,))
    low, high = code_range(target.dtype)
    scaled = np.asarray(values, np.float64) / _along_axis(quant, np.ndim(values))
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=float(high), neginf=float(low))
    return np.clip(np.rint(scaled) + quant.zero_point, low, high).astype(target.dtype)


def decode(codes: Array, source: TensorType) -> Array:
    """Real values (float64) of codes."""
    if source.quant is None:
        return np.asarray(codes, np.float64)
    centred = np.asarray(codes).astype(np.float64) - source.quant.zero_point
    return centred * _along_axis(source.quant, np.ndim(codes))


def _along_axis(quant: Quant, rank: int) -> Array:
    scale = np.asarray(quant.scale, np.float64)
    if quant.axis is None:
        return scale.reshape(())
    shape = [1] * rank
    shape[quant.axis] = len(quant.scale)
    return scale.reshape(shape)
