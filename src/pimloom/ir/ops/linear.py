"""Matrix products: Gemm, MatMul and Einsum. Integer arrays give exact integer results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    NUMBERS,
    Attributes,
    all_present,
    broadcast_shapes,
    expect_broadcast_to,
    expect_dtype,
    expect_one_dtype,
    expect_rank,
    given,
    present,
    widened,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType


def _gemm_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    a, b = present(types, 0), present(types, 1)
    dtype = expect_one_dtype(types)
    expect_dtype(a, 0, NUMBERS)
    expect_rank(a, 0, 2, 2)
    expect_rank(b, 1, 2, 2)
    m, k = a.shape[::-1] if attributes["transA"] else a.shape
    k_b, n = b.shape[::-1] if attributes["transB"] else b.shape
    if k != k_b:
        raise ModelError(f"input 1 is {b}: {k_b} rows found, {k} expected (input 0 is {a})")
    expect_broadcast_to(given(types, 2), 2, "C", (m, n))
    return (TensorType(dtype, (m, n)),)


def _gemm(attributes: Attributes, a: Array, b: Array, c: Array | None = None) -> tuple[Array, ...]:
    dtype = a.dtype
    left, right = widened(a), widened(b)
    y = np.matmul(left.T if attributes["transA"] else left, right.T if attributes["transB"] else right)
    alpha, beta = attributes["alpha"], attributes["beta"]
    if alpha != 1.0:  # integers stay integers where the factors are 1
        y = y * alpha
    if c is not None:
        y = y + (c if beta == 1.0 else c * beta)
    return (y.astype(dtype, copy=False),)


def _gemm_macs(attributes: Attributes, types: InputTypes, outputs: tuple[TensorType, ...]) -> int:
    a = present(types, 0)
    return outputs[0].size * a.shape[0 if attributes["transA"] else 1]


def _matmul_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    a, b = present(types, 0), present(types, 1)
    dtype = expect_one_dtype(types)
    expect_dtype(a, 0, NUMBERS)
    expect_rank(a, 0, 1)
    expect_rank(b, 1, 1)
    k = b.shape[-2] if b.rank > 1 else b.shape[0]
    if a.shape[-1] != k:
        raise ModelError(f"input 1 is {b}: {k} rows found, {a.shape[-1]} expected (input 0 is {a})")
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2:-1] if a.rank > 1 else ()
    columns = b.shape[-1:] if b.rank > 1 else ()
    return (TensorType(dtype, (*batch, *rows, *columns)),)


def _matmul(attributes: Attributes, a: Array, b: Array) -> tuple[Array, ...]:
    return (np.asarray(np.matmul(widened(a), widened(b))).astype(a.dtype, copy=False),)


def _matmul_macs(attributes: Attributes, types: InputTypes, outputs: tuple[TensorType, ...]) -> int:
    return outputs[0].size * present(types, 0).shape[-1]


def einsum_terms(equation: str, ranks: tuple[int, ...]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of each operand's axes and of the output's; `...` becomes labels '.0', '.1', counted from the right.

    ModelError if the equation is malformed or does not fit the ranks.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise ModelError(f"equation '{equation}' names {len(parts)} operands, {len(ranks)} inputs found")
    terms = [_labels(equation, part, rank) for part, rank in zip(parts, ranks, strict=True)]
    spread = max((term for term in terms), key=_n_spread)
    dots = tuple(label for label in spread if label[0] == ".")
    if arrow:
        return terms, _labels(equation, right, len(dots) + len(right.replace("...", "")))
    named = [label for term in terms for label in term if label[0] != "."]
    return terms, (*dots, *sorted(label for label in set(named) if named.count(label) == 1))


def _n_spread(term: tuple[str, ...]) -> int:
    return sum(label[0] == "." for label in term)


def _labels(equation: str, part: str, rank: int) -> tuple[str, ...]:
    head, dots, tail = part.partition("...")
    n_spread = rank - len(head) - len(tail)
    letters = head + tail
    if not letters.isalpha() and letters:
        raise ModelError(f"equation '{equation}': term '{part}' found, letters and one '...' expected")
    if n_spread < 0 or (n_spread and not dots):
        raise ModelError(f"equation '{equation}': term '{part}' does not fit an input of rank {rank}")
    return (*head, *(f".{n_spread - 1 - i}" for i in range(n_spread)), *tail)


def _einsum_sizes(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[dict[str, int], tuple[str, ...]]:
    terms, output = einsum_terms(equation, tuple(len(shape) for shape in shapes))
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=True):
            if sizes.get(label, 1) != 1 and size not in (1, sizes[label]):
                raise ModelError(f"equation '{equation}': label '{label}' has sizes {sizes[label]} and {size}")
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    missing = set(output) - set(sizes)
    if missing:
        raise ModelError(f"equation '{equation}': output label '{min(missing)}' is in no input")
    return sizes, output


def _einsum_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    operands = all_present(types)
    dtype = expect_one_dtype(operands)
    sizes, output = _einsum_sizes(str(attributes["equation"]), tuple(t.shape for t in operands))
    return (TensorType(dtype, tuple(sizes[label] for label in output)),)


def _einsum(attributes: Attributes, *operands: Array) -> tuple[Array, ...]:
    equation = str(attributes["equation"]).replace(" ", "")
    wide: Any = [widened(operand) for operand in operands]
    y = np.einsum(equation, *wide, optimize=len(operands) > 1)
    return (np.asarray(y).astype(operands[0].dtype, copy=False),)


def _einsum_macs(attributes: Attributes, types: InputTypes, outputs: tuple[TensorType, ...]) -> int:
    shapes = tuple(t.shape for t in all_present(types))
    sizes, _ = _einsum_sizes(str(attributes["equation"]), shapes)
    return math.prod(sizes.values()) * max(0, len(shapes) - 1)


add_rows(
    Op(
        "Gemm", 2, 3, 1, _gemm_types, _gemm, Rule.LINEAR,
        {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}, _gemm_macs,
    ),
    Op("MatMul", 2, 2, 1, _matmul_types, _matmul, Rule.LINEAR, {}, _matmul_macs),
    Op("Einsum", 1, -1, 1, _einsum_types, _einsum, Rule.LINEAR, {"equation": REQUIRED}, _einsum_macs),
)  # fmt: skip
