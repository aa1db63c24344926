"""Constants made of other constants when their numbers are asked for: passes change weights without loading them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from pimloom.ir.constants import ArrayConstant, Constant, FillConstant
from pimloom.ir.integer import encode
from pimloom.ir.recent import Recent
from pimloom.ir.types import Quant, TensorType

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK_ELEMENTS = 1 << 20
"""Weights are encoded in blocks so that the float64 temporaries stay small."""


def _frozen(array: Array) -> Array:
    view = np.asarray(array).view()  # arithmetic of arrays without dimensions gives numbers
    view.flags.writeable = False
    return view


@final
@dataclass(frozen=True, slots=True)
class ScaledConstant(Constant):
    """`base` times one factor per index of `axis`.

    Attributes:
        base: the constant that is scaled.
        factor: float64[n], n the size of the axis, or one factor for all.
        axis: the axis the factors go along.
    """

    base: Constant
    factor: ArrayConstant
    axis: int

    @property
    def type(self) -> TensorType:
        """The type of the base."""
        return self.base.type

    def array(self) -> Array:
        """The products, computed in the base's element type."""
        shape = [1] * self.base.type.rank
        if self.factor.type.size > 1:
            shape[self.axis] = self.factor.type.size
        return _frozen(self.base.array() * self.factor.array().astype(self.base.type.dtype).reshape(shape))


def scaled(base: Constant, factor: Array, axis: int) -> Constant:
    """`base * factor` along an axis; scaling twice along the same axis keeps one product."""
    factor = np.asarray(factor, np.float64).reshape(-1)
    if np.all(factor == 1.0):
        return base
    if isinstance(base, ScaledConstant) and (base.axis == axis or base.factor.type.size == 1):
        return ScaledConstant(base.base, ArrayConstant(base.factor.array() * factor), axis)
    return ScaledConstant(base, ArrayConstant(factor), axis)


@final
@dataclass(frozen=True, slots=True)
class TransposedConstant(Constant):
    """A matrix with its axes exchanged; codes keep their scales."""

    base: Constant

    @property
    def type(self) -> TensorType:
        """The base's type with both axes exchanged."""
        held = self.base.type
        quant = held.quant
        if quant is not None and quant.axis is not None:
            quant = replace(quant, axis=1 - quant.axis % 2)
        return TensorType(held.dtype, held.shape[::-1], quant)

    def array(self) -> Array:
        """A view of the base's elements."""
        return self.base.array().T


def transposed(base: Constant) -> Constant:
    """The transpose of a matrix; of a transpose, the matrix."""
    if isinstance(base, TransposedConstant):
        return base.base
    if isinstance(base, FillConstant) and base.type.quant is None:
        return FillConstant(TensorType(base.type.dtype, base.type.shape[::-1]), base.value)
    return TransposedConstant(base)


@final
@dataclass(frozen=True, slots=True)
class QuantisedConstant(Constant):
    """The codes of a real constant."""

    base: Constant
    type: TensorType = field()  # pyright: ignore[reportIncompatibleMethodOverride]

    def array(self) -> Array:
        """The codes (the last ones of all constants are kept)."""
        return _RECENT.get((self.base, self.type), lambda: _frozen(encode_in_blocks(self.base.array(), self.type)))


_RECENT = Recent(1 << 26)  # keys hold what the codes are made of, too


def encode_in_blocks(values: Array, target: TensorType) -> Array:
    """As `encode`, with temporaries of bounded size."""
    if values.size <= BLOCK_ELEMENTS or values.ndim == 0:
        return encode(values, target)
    codes = np.empty(values.shape, target.dtype)
    rows = max(1, BLOCK_ELEMENTS * values.shape[0] // values.size)
    for start in range(0, values.shape[0], rows):
        block = slice(start, start + rows)
        codes[block] = encode(values[block], _block_type(target, block))
    return codes


def _block_type(target: TensorType, block: slice) -> TensorType:
    quant = target.quant
    if quant is None or quant.axis is None or quant.axis % target.rank != 0:
        return target
    return replace(target, quant=Quant(quant.scale[block], quant.zero_point, 0))


@final
@dataclass(frozen=True, slots=True)
class CentredConstant(Constant):
    """Codes minus their zero points, which differ along the axis of the scales: codes of the next wider signed type.

    Attributes:
        base: the codes as they are stored.
        zeros: int64[n], a zero point per index of the axis.
        quant: scales along the axis, zero point 0.
    """

    base: Constant
    zeros: ArrayConstant
    quant: Quant

    @property
    def type(self) -> TensorType:
        """int16 for codes of 8 bits, int32 for wider ones."""
        held = self.base.type
        return TensorType("int16" if held.dtype.endswith("int8") else "int32", held.shape, self.quant)

    def array(self) -> Array:
        """The differences, made anew at each call."""
        shape = [1] * self.type.rank
        shape[self.quant.axis or 0] = self.zeros.type.size
        difference = self.base.array().astype(np.int64) - self.zeros.array().reshape(shape)
        return _frozen(difference.astype(self.type.dtype))


@final
@dataclass(frozen=True, slots=True)
class RetypedConstant(Constant):
    """The same codes, now with their quantisation stated."""

    base: Constant
    quant: Quant

    @property
    def type(self) -> TensorType:
        """The base's type with the quantisation."""
        return replace(self.base.type, quant=self.quant)

    def array(self) -> Array:
        """The base's elements."""
        return self.base.array()
