"""Element-wise functions of two or more values, with broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    ANYTHING,
    BOOLEAN,
    INTEGERS,
    NUMBERS,
    Attributes,
    all_present,
    broadcast_shapes,
    expect_dtype,
    expect_one_dtype,
    present,
    widened,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

Function = Callable[[Attributes, Array, Array], Array]
_UNSIGNED = frozenset({"uint8", "uint16", "uint32", "uint64"})


def _infer(kinds: frozenset[str], result: str = "") -> Callable[[Attributes, InputTypes], tuple[TensorType, ...]]:
    def infer(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
        operands = all_present(types)
        dtype = expect_one_dtype(operands)
        for place, operand in enumerate(operands):
            expect_dtype(operand, place, kinds)
        return (TensorType(result or dtype, broadcast_shapes(*(t.shape for t in operands))),)

    return infer


def _meaning(function: Function, *, is_test: bool = False) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, a: Array, b: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            y = np.asarray(function(attributes, widened(a), widened(b)))
        return (y if is_test else y.astype(a.dtype, copy=False),)

    return meaning


def _div(attributes: Attributes, a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, 1, b)
    quotient = np.floor_divide(a, safe)
    # integers are cut towards zero as in ONNX, NumPy cuts towards minus infinity
    return np.where((quotient < 0) & (quotient * safe != a), quotient + 1, quotient)


def _mod(attributes: Attributes, a: Array, b: Array) -> Array:
    if attributes["fmod"]:
        return np.fmod(a, b)
    return np.mod(a, b)


def _pow(attributes: Attributes, a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and (b.size == 0 or int(b.min()) >= 0):
        return np.power(a, b)
    if a.dtype.kind == "f" and b.dtype.kind == "f":
        return np.power(a, b.astype(a.dtype, copy=False))
    return np.power(a.astype(np.float64), b.astype(np.float64))


def _pow_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    a, b = present(types, 0), present(types, 1)
    expect_dtype(a, 0, NUMBERS)
    expect_dtype(b, 1, NUMBERS)
    return (TensorType(a.dtype, broadcast_shapes(a.shape, b.shape)),)


def _shift(attributes: Attributes, a: Array, b: Array) -> Array:
    bits = a.dtype.itemsize * 8
    shifted = np.left_shift(a, b) if attributes["direction"] == "LEFT" else np.right_shift(a, b)
    return np.where(b >= bits, 0, shifted)


def _shift_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    if attributes["direction"] not in ("LEFT", "RIGHT"):
        raise ModelError(f"attribute 'direction' is '{attributes['direction']}', LEFT or RIGHT expected")
    return _infer(_UNSIGNED)(attributes, types)


def _binary(name: str, function: Function, rule: Rule = Rule.FLOAT, work: float = 1.0, **attributes: Any) -> Op:
    return Op(name, 2, 2, 1, _infer(NUMBERS), _meaning(function), rule, attributes, work=work)


def _comparison(name: str, function: Function, kinds: frozenset[str] = NUMBERS) -> Op:
    return Op(name, 2, 2, 1, _infer(kinds, "bool"), _meaning(function, is_test=True), Rule.FLOAT)


def _on_bits(name: str, function: Function, kinds: frozenset[str]) -> Op:
    return Op(name, 2, 2, 1, _infer(kinds), _meaning(function), Rule.FLOAT)


def _fold(function: Callable[[Array, Array], Array]) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, *operands: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            y = np.asarray(functools.reduce(function, (widened(operand) for operand in operands)))
        return (y.astype(operands[0].dtype, copy=False),)

    return meaning


def _mean(attributes: Attributes, *operands: Array) -> tuple[Array, ...]:
    total = functools.reduce(np.add, (widened(operand) for operand in operands))
    return (np.asarray(total / len(operands)).astype(operands[0].dtype, copy=False),)


add_rows(
    _binary("Add", lambda attributes, a, b: np.add(a, b), Rule.SUM),
    _binary("Sub", lambda attributes, a, b: np.subtract(a, b), Rule.SUM),
    _binary("Mul", lambda attributes, a, b: np.multiply(a, b), Rule.PRODUCT),
    _binary("Div", _div, work=2),
    _binary("Mod", _mod, work=3, fmod=0),
    Op("Pow", 2, 2, 1, _pow_types, _meaning(_pow), Rule.FLOAT, work=8.0),
    Op("BitShift", 2, 2, 1, _shift_types, _meaning(_shift), Rule.FLOAT, {"direction": REQUIRED}),
    _comparison("Equal", lambda attributes, a, b: np.equal(a, b), ANYTHING),
    _comparison("Less", lambda attributes, a, b: np.less(a, b)),
    _comparison("LessOrEqual", lambda attributes, a, b: np.less_equal(a, b)),
    _comparison("Greater", lambda attributes, a, b: np.greater(a, b)),
    _comparison("GreaterOrEqual", lambda attributes, a, b: np.greater_equal(a, b)),
    _on_bits("And", lambda attributes, a, b: np.logical_and(a, b), BOOLEAN),
    _on_bits("Or", lambda attributes, a, b: np.logical_or(a, b), BOOLEAN),
    _on_bits("Xor", lambda attributes, a, b: np.logical_xor(a, b), BOOLEAN),
    _on_bits("BitwiseAnd", lambda attributes, a, b: np.bitwise_and(a, b), INTEGERS),
    _on_bits("BitwiseOr", lambda attributes, a, b: np.bitwise_or(a, b), INTEGERS),
    _on_bits("BitwiseXor", lambda attributes, a, b: np.bitwise_xor(a, b), INTEGERS),
    Op("Sum", 1, -1, 1, _infer(NUMBERS), _fold(np.add), Rule.SUM),
    Op("Max", 1, -1, 1, _infer(NUMBERS), _fold(np.maximum), Rule.FLOAT),
    Op("Min", 1, -1, 1, _infer(NUMBERS), _fold(np.minimum), Rule.FLOAT),
    Op("Mean", 1, -1, 1, _infer(NUMBERS), _mean, Rule.FLOAT, work=2.0),
)
