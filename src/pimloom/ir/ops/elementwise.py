"""Functions of one element: activations, arithmetic, trigonometry, tests and casts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    ANYTHING,
    BOOLEAN,
    FLOATS,
    INTEGERS,
    NUMBERS,
    SIGNED,
    Attributes,
    broadcast_shapes,
    expect_broadcast_to,
    expect_dtype,
    expect_one_dtype,
    present,
    widened,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import DTYPES, TensorType

ERF_STEP = 1.0 / 64.0
ERF_END = 6.0  # erf(6) is 1 within a float64


@functools.cache
def _erf_coefficients(dtype: np.dtype[Any]) -> Array:
    """Taylor coefficients of erf around every node: [degree + 1, nodes].

    With nodes 1/64 apart, degree 3 leaves less than 1e-9 (float32), degree 6 less than 1e-16 (float64).
    The derivatives follow from erf'(x) = 2/sqrt(pi) exp(-x^2) and the Hermite recurrence.
    """
    degree = 6 if dtype == np.float64 else 3
    table = np.zeros((degree + 1, round(ERF_END / ERF_STEP) + 1))
    for i in range(table.shape[1]):
        x = i * ERF_STEP
        table[0, i] = math.erf(x)
        slope = 2.0 / math.sqrt(math.pi) * math.exp(-x * x)
        before, hermite = 0.0, 1.0
        for n in range(1, degree + 1):
            table[n, i] = (-1.0) ** (n - 1) * hermite * slope / math.factorial(n)
            before, hermite = hermite, 2.0 * x * hermite - 2.0 * (n - 1) * before
    return table.astype(dtype)


def erf(x: Array) -> Array:
    """The error function of a float32 or float64 array, in its type, within its rounding."""
    size = np.minimum(np.abs(x), x.dtype.type(ERF_END))
    node = np.rint(np.nan_to_num(size) / x.dtype.type(ERF_STEP)).astype(np.intp)
    table = _erf_coefficients(x.dtype)
    offset = size - node.astype(x.dtype) * x.dtype.type(ERF_STEP)
    y = table[-1][node]
    for coefficients in table[-2::-1]:
        y = y * offset + coefficients[node]
    return np.copysign(y, x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(attributes: Attributes, x: Array) -> Array:
    if attributes["approximate"] == "tanh":
        inner = x.dtype.type(math.sqrt(2.0 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
        return x.dtype.type(0.5) * x * (1 + np.tanh(inner))
    return x.dtype.type(0.5) * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5))))


def _elu(x: Array, alpha: Any, inside: Any = 1.0) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0) / inside), x)


def _selu(attributes: Attributes, x: Array) -> Array:
    return attributes["gamma"] * _elu(x, attributes["alpha"])


def _shrink(attributes: Attributes, x: Array) -> Array:
    bias, limit = attributes["bias"], attributes["lambd"]
    return np.where(x < -limit, x + bias, np.where(x > limit, x - bias, 0))


def _is_inf(attributes: Attributes, x: Array) -> Array:
    low = np.isneginf(x) if attributes["detect_negative"] else np.zeros(x.shape, np.bool_)
    return low | np.isposinf(x) if attributes["detect_positive"] else low


def _clip(attributes: Attributes, x: Array) -> Array:
    low: Any = attributes["min"]
    high: Any = attributes["max"]
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        low = int(max(info.min, math.ceil(low) if math.isfinite(low) else info.min))
        high = int(min(info.max, math.floor(high) if math.isfinite(high) else info.max))
    return np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high))


Function = Callable[[Attributes, Array], Array]


def _in_kind(function: Function) -> Callable[..., tuple[Array, ...]]:
    """A meaning from a function: silent, with float16 computed in float32 and cast back."""

    def meaning(attributes: Attributes, x: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(function(attributes, widened(x))).astype(x.dtype, copy=False),)

    return meaning


def _same_type(kinds: frozenset[str]) -> Callable[[Attributes, InputTypes], tuple[TensorType, ...]]:
    def infer(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
        x = present(types, 0)
        expect_dtype(x, 0, kinds)
        return (TensorType(x.dtype, x.shape),)

    return infer


def _unary(
    name: str,
    function: Function,
    kinds: frozenset[str] = FLOATS,
    work: float = 1.0,
    rule: Rule = Rule.LOOKUP,
    **attributes: Any,
) -> Op:
    return Op(name, 1, 1, 1, _same_type(kinds), _in_kind(function), rule, attributes, work=work)


def _test_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    return (TensorType("bool", x.shape),)


def _test(name: str, function: Function, **attributes: Any) -> Op:
    def meaning(given: Attributes, x: Array) -> tuple[Array, ...]:
        return (np.asarray(function(given, x)),)

    return Op(name, 1, 1, 1, _test_types, meaning, Rule.FLOAT, attributes)


def _cast_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    if attributes["to"] not in DTYPES:
        raise ModelError(f"attribute 'to' is '{attributes['to']}'; known element types: {', '.join(DTYPES)}")
    return (TensorType(str(attributes["to"]), present(types, 0).shape),)


def _cast(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        return (x.astype(str(attributes["to"]), copy=False),)


def _prelu_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, slope = present(types, 0), present(types, 1)
    dtype = expect_one_dtype(types)
    expect_broadcast_to(slope, 1, "slope", x.shape)
    return (TensorType(dtype, broadcast_shapes(x.shape, slope.shape)),)


def _prelu(attributes: Attributes, x: Array, slope: Array) -> tuple[Array, ...]:
    return (np.asarray(np.where(x < 0, x * slope, x)).astype(x.dtype, copy=False),)


def _identity(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (x,)


_PLAIN: tuple[tuple[str, Callable[[Array], Array], float], ...] = (
    ("Sqrt", np.sqrt, 2), ("Exp", np.exp, 4), ("Log", np.log, 4), ("Erf", erf, 8), ("Reciprocal", np.reciprocal, 2),
    ("Floor", np.floor, 1), ("Ceil", np.ceil, 1), ("Round", np.rint, 1), ("Sigmoid", sigmoid, 6), ("Tanh", np.tanh, 6),
    ("Sin", np.sin, 6), ("Cos", np.cos, 6), ("Tan", np.tan, 8), ("Asin", np.arcsin, 8), ("Acos", np.arccos, 8),
    ("Atan", np.arctan, 8), ("Sinh", np.sinh, 6), ("Cosh", np.cosh, 6), ("Asinh", np.arcsinh, 8),
    ("Acosh", np.arccosh, 8),
    ("Atanh", np.arctanh, 8), ("Softplus", _softplus, 8), ("Softsign", lambda x: x / (1 + np.abs(x)), 3),
    ("Mish", lambda x: x * np.tanh(_softplus(x)), 15),
    ("HardSwish", lambda x: x * np.clip(x / 6 + x.dtype.type(0.5), 0, 1), 4),
)  # fmt: skip


def _plain(name: str, function: Callable[[Array], Array], work: float) -> Op:
    return _unary(name, lambda attributes, x: function(x), work=work)


add_rows(*(_plain(*row) for row in _PLAIN))
add_rows(
    _unary("Relu", lambda a, x: np.maximum(x, 0), NUMBERS),
    _unary("Abs", lambda a, x: np.abs(x), NUMBERS),
    _unary("Neg", lambda a, x: np.negative(x), SIGNED | FLOATS),
    _unary("Sign", lambda a, x: np.sign(x), NUMBERS),
    _unary("Clip", _clip, NUMBERS, 2, min=-math.inf, max=math.inf),
    _unary("LeakyRelu", lambda a, x: np.where(x < 0, a["alpha"] * x, x), work=2, alpha=0.01),
    _unary("ThresholdedRelu", lambda a, x: np.where(x > a["alpha"], x, 0), work=2, alpha=1.0),
    _unary("Elu", lambda a, x: _elu(x, a["alpha"]), work=6, alpha=1.0),
    _unary("Celu", lambda a, x: _elu(x, a["alpha"], a["alpha"]), work=7, alpha=1.0),
    _unary("Selu", _selu, work=7, alpha=1.6732631921768188, gamma=1.0507010221481323),
    _unary("Gelu", _gelu, work=12, approximate="none"),
    _unary("HardSigmoid", lambda a, x: np.clip(a["alpha"] * x + a["beta"], 0, 1), work=3, alpha=0.2, beta=0.5),
    _unary("Swish", lambda a, x: x * sigmoid(a["alpha"] * x), work=8, alpha=1.0),
    _unary("Shrink", _shrink, NUMBERS, 3, lambd=0.5, bias=0.0),
    _unary("Not", lambda a, x: np.logical_not(x), BOOLEAN, rule=Rule.FLOAT),
    _unary("BitwiseNot", lambda a, x: np.invert(x), INTEGERS, rule=Rule.FLOAT),
    _test("IsNaN", lambda a, x: np.isnan(x)),
    _test("IsInf", _is_inf, detect_negative=1, detect_positive=1),
    Op("Identity", 1, 1, 1, _same_type(ANYTHING), _identity, Rule.MOVE, work=0.0),
    Op("Cast", 1, 1, 1, _cast_types, _cast, Rule.FLOAT, {"to": REQUIRED}),
    Op("PRelu", 2, 2, 1, _prelu_types, _prelu, Rule.FLOAT, work=2.0),
)
