"""Constants made of other constants: equal to computing at once, and without loading before they are asked."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import pytest

from pimloom.ir.builder import GraphBuilder
from pimloom.ir.constants import ArrayConstant, Constant, FillConstant, SeededConstant
from pimloom.ir.integer import encode
from pimloom.ir.types import Quant, TensorType
from pimloom.passes import simplify_pipeline
from pimloom.passes.lazy_constants import (
    QuantisedConstant,
    RetypedConstant,
    ScaledConstant,
    TransposedConstant,
    encode_in_blocks,
    scaled,
    transposed,
)

BASE = SeededConstant(TensorType("float32", (6, 4)), 1)


@dataclass(frozen=True, slots=True)
class Untouchable(Constant):
    """A constant that fails when it is read."""

    type: TensorType = field()  # pyright: ignore[reportIncompatibleMethodOverride]

    def array(self) -> NoReturn:
        raise AssertionError("weights were loaded")


def test_scaling_multiplies_along_the_axis_and_keeps_one_product() -> None:
    factor = np.array([1.0, 2.0, 3.0, 4.0])
    once = scaled(BASE, factor, 1)
    np.testing.assert_array_equal(once.array(), BASE.array() * factor.astype(np.float32))
    twice = scaled(once, factor, 1)
    assert isinstance(twice, ScaledConstant)
    assert twice.base is BASE
    assert scaled(BASE, np.ones(4), 1) is BASE
    both = scaled(once, np.arange(1.0, 7.0), 0)
    np.testing.assert_allclose(both.array(), once.array() * np.arange(1, 7)[:, None], rtol=1e-6)


def test_a_single_number_can_be_scaled() -> None:
    constant = scaled(ArrayConstant(np.float32(3.0)), np.array([2.0]), 0)
    assert constant.array() == 6.0
    assert not constant.array().flags.writeable


def test_transposing_twice_gives_the_constant_back() -> None:
    turned = transposed(BASE)
    assert turned.type.shape == (4, 6)
    np.testing.assert_array_equal(turned.array(), BASE.array().T)
    assert transposed(turned) is BASE
    fill = transposed(FillConstant(TensorType("float32", (2, 3)), 1.5))
    assert (fill.fill_value, fill.type.shape) == (1.5, (3, 2))


def test_transposed_codes_keep_their_scales() -> None:
    codes = RetypedConstant(ArrayConstant(np.zeros((3, 2), np.int8)), Quant((0.1, 0.2, 0.3), 0, 0))
    assert TransposedConstant(codes).type == TensorType("int8", (2, 3), Quant((0.1, 0.2, 0.3), 0, 1))


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_blocks_encode_as_the_whole(axis: int | None) -> None:
    values = np.random.default_rng(0).normal(size=(1500, 1000)).astype(np.float32)
    n = 1 if axis is None else values.shape[axis]
    target = TensorType("int8", values.shape, Quant(tuple(np.linspace(0.01, 0.04, n).tolist()), 3, axis))
    np.testing.assert_array_equal(encode_in_blocks(values, target), encode(values, target))


def test_made_constants_are_read_only_and_survive_pickling() -> None:
    target = TensorType("int8", (6, 4), Quant((0.05,)))
    for constant in (scaled(BASE, np.full(4, 2.0), 1), transposed(BASE), QuantisedConstant(BASE, target)):
        with pytest.raises(ValueError, match="read-only"):
            constant.array()[0, 0] = 1
        copy: Any = pickle.loads(pickle.dumps(constant))
        np.testing.assert_array_equal(copy.array(), constant.array())
        assert copy.type == constant.type


def test_simplifying_loads_no_weights() -> None:
    b = GraphBuilder("lazy")
    h = b.add("Conv", b.input("x", (1, 3, 4, 4)), b.constant("w", Untouchable(TensorType("float32", (8, 3, 1, 1)))))
    h = b.add("BatchNormalization", h, *(b.seeded(n, (8,), mean=1.0, std=0.1) for n in "sbmv"))
    h = b.add("Flatten", b.add("GlobalAveragePool", h))
    turned = b.add("Transpose", b.constant("v", Untouchable(TensorType("float32", (5, 8)))), perm=(1, 0))
    graph = simplify_pipeline()(b.finish(b.add("MatMul", h, turned)))
    assert [n.op for n in graph.nodes] == ["Conv", "GlobalAveragePool", "Flatten", "Linear"]
