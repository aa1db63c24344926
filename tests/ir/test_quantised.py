"""The integer meaning: exact, equal to the real meaning up to rounding, and the same on pieces as on the whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.errors import ModelError
from pimloom.ir.graph import Node
from pimloom.ir.integer import decode, encode
from pimloom.ir.ops import Rule, full_attributes, infer_types, op_names, op_of
from pimloom.ir.quantised import (
    is_slice_safe,
    linear_rescaler,
    lookup_table,
    make_step,
    norm_parameter,
    norm_rows,
    quantised_meaning,
    rule_of,
    window_sums,
)
from pimloom.ir.steps import (
    InterpolateStep,
    LinearStep,
    LookupStep,
    MeanStep,
    NormStep,
    ProductStep,
    SoftmaxStep,
    SumStep,
    exact_dtype,
    make_softmax_step,
    make_sum_step,
)
from pimloom.ir.types import Quant, TensorType

Array = np.ndarray[Any, np.dtype[Any]]
CODES = st.sampled_from(["int8", "int16", "uint8"])
SCALES = st.floats(1e-4, 2.0)
SEEDS = st.integers(0, 2**32 - 1)
FAST = settings(max_examples=40, deadline=None)


def coded(dtype: str, shape: tuple[int, ...], *scales: float, zero: int = 0, axis: int | None = None) -> TensorType:
    return TensorType(dtype, shape, Quant(scales or (0.02,), zero, axis))


def codes(value_type: TensorType, seed: int) -> Array:
    info = np.iinfo(value_type.dtype)
    generator = np.random.default_rng(seed)
    return generator.integers(info.min, info.max, value_type.shape, endpoint=True).astype(value_type.dtype)


def run(
    op: str, arrays: list[Array | None], types: list[TensorType | None], out: TensorType, **attributes: Any
) -> Array:
    names = tuple("" if t is None else f"v{i}" for i, t in enumerate(types))
    node = Node(op, names, ("y",), attributes)
    (found,) = quantised_meaning(node, tuple(arrays), tuple(types), (out,))
    assert found.dtype == out.dtype
    assert found.shape == out.shape
    return found


def real_meaning(op: str, arrays: list[Array], types: list[TensorType], out: TensorType, **attributes: Any) -> Array:
    """Decode, the op's own meaning in float64, encode."""
    node = Node(op, tuple(f"v{i}" for i in range(len(types))), ("y",), attributes)
    with np.errstate(all="ignore"):
        real = [decode(a, t) if t.quant else a for a, t in zip(arrays, types, strict=True)]
        return encode(op_of(node).meaning(full_attributes(node), *real)[0], out)


def assert_within_a_code(found: Array, wanted: Array, margin: int = 1) -> None:
    assert np.abs(found.astype(np.int64) - wanted.astype(np.int64)).max(initial=0) <= margin


def rescaled_exactly(total: int, ratio: float, out: TensorType) -> Fraction:
    assert out.quant is not None
    return Fraction(total) * Fraction(ratio) + out.quant.zero_point


# -- LINEAR ---------------------------------------------------------------------------------------------------------


@FAST
@given(CODES, st.sampled_from(["int8", "int16"]), st.integers(1, 5), st.integers(1, 40), st.integers(1, 6), SEEDS)
def test_linear_sums_are_those_of_python_integers(dtype: str, wide: str, m: int, k: int, n: int, seed: int) -> None:
    x_type, w_type = coded(dtype, (m, k), 0.01, zero=3), coded(wide, (k, n), 0.02, zero=-5)
    x, w = codes(x_type, seed), codes(w_type, seed + 1)
    step = LinearStep(3, -5, linear_rescaler(Node("Linear", ("x", "w"), ("y",)), (x_type, w_type), (x_type,)))
    wanted = [[sum((int(x[i, p]) - 3) * (int(w[p, j]) + 5) for p in range(k)) for j in range(n)] for i in range(m)]
    assert step.sums(x, w).tolist() == wanted


@pytest.mark.parametrize("n_terms", [2, 1 << 10, 1 << 23])
def test_element_type_of_exact_sums_has_room_for_the_largest_sum(n_terms: int) -> None:
    for magnitude in (1, 127, 32768):
        codes_of = np.array([-magnitude, magnitude], np.int64)
        mantissa_bits = {np.float32: 24, np.float64: 53, np.int64: 63}[exact_dtype(n_terms, codes_of, codes_of)]
        assert n_terms * magnitude**2 <= 2**mantissa_bits


def test_sums_that_overflow_64_bits_are_refused() -> None:
    big = np.array([2**31])
    with pytest.raises(ModelError, match=r"a sum of 1048576 products may reach 2\*\*83, 62 bits fit"):
        exact_dtype(1 << 20, big, big)


@FAST
@given(CODES, SEEDS, st.lists(SCALES, min_size=4, max_size=4), SCALES)
def test_linear_rounds_the_exact_sum_to_the_nearest_code(
    dtype: str, seed: int, scales: list[float], scale: float
) -> None:
    x_type = coded(dtype, (3, 7), 0.05, zero=2)
    w_type, b_type = coded("int8", (7, 4), *scales, axis=1), coded("int32", (4,), *(0.05 * s for s in scales), axis=0)
    out = coded("int16", (3, 4), scale * 40, zero=-9)
    x, w = codes(x_type, seed), codes(w_type, seed + 1)
    b = np.random.default_rng(seed).integers(-1000, 1000, 4).astype(np.int32)
    found = run("Linear", [x, w, b], [x_type, w_type, b_type], out)
    sums = (x.astype(int) - 2) @ w.astype(int) + b
    for (i, j), code in np.ndenumerate(found):
        exact = rescaled_exactly(int(sums[i, j]), 0.05 * scales[j] / (scale * 40), out)
        wanted = min(max(exact, Fraction(-32768)), Fraction(32767))
        # half a code of rounding, and 2**-21 of the sum for the multiplier of 22 bits
        assert abs(int(code) - wanted) <= Fraction(1, 2) + abs(exact - out.quant.zero_point) / 2**21  # type: ignore[union-attr]


CONVOLUTIONS = [
    ("Conv", (1, 4, 7, 6), (6, 4, 3, 3), {"pads": (1, 0, 2, 1), "strides": (2, 1)}),
    ("Conv", (2, 4, 9), (4, 1, 3), {"group": 4, "dilations": (2,)}),
    ("Conv", (1, 4, 3, 4, 3), (6, 2, 2, 2, 2), {"group": 2}),
    ("ConvTranspose", (1, 3, 4, 5), (3, 5, 3, 2), {"strides": (2, 2), "pads": (1, 0, 0, 1)}),
]


@pytest.mark.parametrize(("op", "x_shape", "w_shape", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_convolutions_round_as_the_real_meaning_does(
    op: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], attributes: dict[str, Any], dtype: str
) -> None:
    axis = 0 if op == "Conv" else 1
    scales = np.linspace(0.01, 0.03, w_shape[axis]).tolist()
    x_type, w_type = coded(dtype, x_shape, 0.04, zero=7), coded("int8", w_shape, *scales, axis=axis)
    b_type = coded("int32", (w_shape[axis],), *(0.04 * s for s in scales), axis=0)
    node = Node(op, ("x", "w", "b"), ("y",), attributes)
    real = [TensorType("float32", t.shape) for t in (x_type, w_type, b_type)]
    out = coded("int8", infer_types(node, tuple(real))[0].shape, 0.3 if dtype != "int16" else 80.0, zero=4)
    arrays = [codes(t, i) for i, t in enumerate((x_type, w_type))] + [np.arange(w_shape[axis], dtype=np.int32) * 99]
    found = run(op, arrays, [x_type, w_type, b_type], out, **attributes)
    assert_within_a_code(found, real_meaning(op, arrays, [x_type, w_type, b_type], out, **attributes))
    assert len(np.unique(found)) > 20


@FAST
@given(SEEDS, st.integers(0, 5), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3))
def test_linear_step_works_on_slices_of_rows_columns_and_terms(
    seed: int, row: int, rows: int, col: int, cols: int
) -> None:
    scales = np.linspace(0.01, 0.03, 6).tolist()
    x_type, w_type = coded("int8", (7, 20), 0.04, zero=1), coded("int8", (20, 6), *scales, axis=1)
    out = coded("int8", (7, 6), 0.5)
    x, w = codes(x_type, seed), codes(w_type, seed + 1)
    whole = run("Linear", [x, w], [x_type, w_type], out)
    step = make_step(Node("Linear", ("x", "w"), ("y",)), (x_type, w_type), (out,))
    assert isinstance(step, LinearStep)
    places = slice(row, row + rows), slice(col, col + cols)
    pieces = [step.sums(x[places[0], part], w[part, places[1]]) for part in (slice(0, 13), slice(13, 20))]
    part = step.channels(col, col + cols).finish(pieces[1] + pieces[0])
    np.testing.assert_array_equal(part, whole[places])


def test_convolution_equals_the_linear_step_on_unfolded_pixels() -> None:
    x_type, w_type = (
        coded("int8", (1, 3, 5, 5), 0.04, zero=-2),
        coded("int8", (4, 3, 3, 3), 0.01, 0.02, 0.03, 0.04, axis=0),
    )
    out = coded("int8", (1, 4, 3, 3), 0.3)
    x, w = codes(x_type, 0), codes(w_type, 1)
    whole = run("Conv", [x, w], [x_type, w_type], out)
    step = make_step(Node("Conv", ("x", "w"), ("y",)), (x_type, w_type), (out,))
    assert isinstance(step, LinearStep)
    pixels = np.stack([x[0, :, i : i + 3, j : j + 3].reshape(-1) for i in range(3) for j in range(3)])
    found = step.finish(step.sums(pixels[4:6], w.reshape(4, -1).T))
    np.testing.assert_array_equal(found, whole[0].reshape(4, 9).T[4:6])


@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5, "transB": 1}, {"transA": 1, "beta": 2.0}])
def test_gemm_keeps_its_factors(attributes: dict[str, Any]) -> None:
    x_type = coded("int8", (4, 3) if attributes.get("transA") else (3, 4), 0.1)
    w_type = coded("int8", (5, 4) if attributes.get("transB") else (4, 5), 0.2)
    unit = 0.02 * attributes.get("alpha", 1.0) / attributes.get("beta", 1.0)
    types = [x_type, w_type, coded("int32", (5,), unit)]
    arrays = [codes(x_type, 0), codes(w_type, 1), np.arange(5, dtype=np.int32) * 500]
    out = coded("int8", (3, 5), 3.0)
    found = run("Gemm", arrays, types, out, **attributes)
    assert_within_a_code(found, real_meaning("Gemm", arrays, types, out, **attributes))


def test_products_of_two_activations() -> None:
    a, b, out = coded("int8", (2, 3, 4), 0.1, zero=5), coded("int8", (2, 4, 5), 0.2), coded("int8", (2, 3, 5), 1.5)
    arrays = [codes(a, 0), codes(b, 1)]
    matmul = run("MatMul", arrays, [a, b], out)
    assert_within_a_code(matmul, real_meaning("MatMul", arrays, [a, b], out))
    np.testing.assert_array_equal(run("Einsum", arrays, [a, b], out, equation="bij,bjk->bik"), matmul)


def test_fused_bounds_clamp_the_output_codes() -> None:
    x_type, w_type, out = coded("int8", (9, 9), 0.1), coded("int8", (9, 9), 0.1), coded("int8", (9, 9), 0.2, zero=-3)
    arrays = [codes(x_type, 0), codes(w_type, 1)]
    free = run("Linear", arrays, [x_type, w_type], out)
    found = run("Linear", arrays, [x_type, w_type], out, code_low=-3, code_high=60)
    np.testing.assert_array_equal(found, np.clip(free, -3, 60))
    assert {-3, 60} <= set(found.ravel().tolist())


def test_a_real_bias_is_refused() -> None:
    x, w, out = coded("int8", (1, 2)), coded("int8", (2, 2)), coded("int8", (1, 2))
    with pytest.raises(
        ModelError, match=r"node 'y' \(Linear\): bias found float32\[2\], expected int32 or int64 codes"
    ):
        run("Linear", [codes(x, 0), codes(w, 0), np.zeros(2)], [x, w, TensorType("float32", (2,))], out)


def test_a_bias_of_another_scale_is_refused() -> None:
    x, w, b, out = coded("int8", (1, 2)), coded("int8", (2, 2)), coded("int32", (2,), 0.5), coded("int8", (1, 2))
    with pytest.raises(ModelError, match=r"bias has scale 0.5, expected 0.0004, the product of the scales"):
        run("Linear", [codes(x, 0), codes(w, 0), np.zeros(2, np.int32)], [x, w, b], out)


def test_scales_along_a_summed_axis_are_refused() -> None:
    x, w, out = coded("int8", (1, 2)), coded("int8", (2, 2), 0.1, 0.2, axis=0), coded("int8", (1, 2))
    with pytest.raises(ModelError, match=r"scales vary along axis 0 of int8\[2,2\], one scale or scales along axis 1"):
        run("Linear", [codes(x, 0), codes(w, 0)], [x, w], out)


# -- LOOKUP, SUM, PRODUCT -------------------------------------------------------------------------------------------

UNARY = [name for name in op_names() if op_of(Node(name, ("x",), ("y",))).rule is Rule.LOOKUP]


@pytest.mark.parametrize("op", UNARY)
def test_table_equals_the_meaning_of_every_code(op: str) -> None:
    source, out = coded("int8", (256,), 0.03, zero=4), coded("int16", (256,), 0.0005, zero=-7)
    every = np.arange(-128, 128).astype(np.int8)
    table = lookup_table(Node(op, ("x",), ("y",)), source, out)
    np.testing.assert_array_equal(table, real_meaning(op, [every], [source], out))
    np.testing.assert_array_equal(run(op, [every], [source], out), table)


@pytest.mark.parametrize(
    ("op", "place", "value"), [("Pow", 1, 2.0), ("Div", 1, 0.7), ("Div", 0, 0.7), ("Mul", 1, -0.3), ("Max", 0, 0.2)]
)
def test_one_number_beside_a_value_makes_a_table(op: str, place: int, value: float) -> None:
    source, out = coded("int16", (50,), 0.001, zero=9), coded("int8", (50,), 0.1)
    types, arrays = [source, source], [codes(source, 1), codes(source, 1)]
    types[place], arrays[place] = TensorType("float32", ()), np.array(value, np.float32)
    node = Node(op, ("a", "b"), ("y",))
    assert isinstance(make_step(node, tuple(types), (out,), {place: arrays[place]}), LookupStep)
    wide = [a.astype(np.float64) if t.quant is None else a for a, t in zip(arrays, types, strict=True)]
    np.testing.assert_array_equal(run(op, arrays, types, out), real_meaning(op, wide, types, out))


def test_a_table_needs_its_number() -> None:
    source = coded("int8", (3,))
    with pytest.raises(ModelError, match=r"node 'y' \(Pow\): operand 1 must be a constant to make a table"):
        make_step(Node("Pow", ("x", "e"), ("y",)), (source, TensorType("float32", ())), (source,))


@FAST
@given(st.sampled_from(["Add", "Sub", "Sum"]), CODES, CODES, SCALES, SCALES, SCALES, SEEDS)
def test_sums_round_the_exact_sum(op: str, left: str, right: str, sa: float, sb: float, sy: float, seed: int) -> None:
    a, b, out = (
        coded(left, (6, 5), sa, zero=3),
        coded(right, (5,), sb, zero=-2 if right != "uint8" else 2),
        coded("int16", (6, 5), sy),
    )
    arrays = [codes(a, seed), codes(b, seed + 1)]
    found = run(op, arrays, [a, b], out)
    assert_within_a_code(found, real_meaning(op, arrays, [a, b], out))
    step = make_step(Node(op, ("a", "b"), ("y",)), (a, b), (out,))
    assert isinstance(step, SumStep)
    np.testing.assert_array_equal(step(arrays[0][2:4, 1:3], arrays[1][1:3]), found[2:4, 1:3])


@FAST
@given(st.lists(SCALES, min_size=1, max_size=5), SCALES, SEEDS)
def test_sum_step_is_its_formula_in_python_integers(scales: list[float], scale: float, seed: int) -> None:
    sources, out = tuple(coded("int16", (8,), s, zero=1) for s in scales), coded("int16", (8,), scale, zero=5)
    step = make_sum_step((1.0, -1.0, 1.0, 1.0, -1.0)[: len(scales)], sources, out)
    operands = [codes(t, seed + i) for i, t in enumerate(sources)]
    for i, code in enumerate(step(*operands)):
        total = sum((int(c[i]) - 1) * m for c, m in zip(operands, step.multipliers, strict=True))
        wanted = (total + ((1 << step.shift) >> 1) >> step.shift) + 5
        assert int(code) == min(max(wanted, -32768), 32767)


def test_rescale_changes_codes_not_amounts() -> None:
    source, out = coded("uint8", (256,), 0.1, zero=128), coded("int8", (256,), 0.2, zero=-1)
    every = np.arange(256).astype(np.uint8)
    found = run("Rescale", [every], [source], out)
    np.testing.assert_allclose(decode(found, out), decode(every, source), atol=0.1 + 1e-9)


@FAST
@given(CODES, SCALES, SCALES, SCALES, SEEDS)
def test_products_round_the_exact_product(dtype: str, sa: float, sb: float, sy: float, seed: int) -> None:
    a, b, out = coded(dtype, (4, 6), sa, zero=3), coded("int16", (6,), sb, zero=-5), coded("int16", (4, 6), sy * 100)
    arrays = [codes(a, seed), codes(b, seed + 1)]
    found = run("Mul", arrays, [a, b], out)
    assert_within_a_code(found, real_meaning("Mul", arrays, [a, b], out))
    step = make_step(Node("Mul", ("a", "b"), ("y",)), (a, b), (out,))
    assert isinstance(step, ProductStep)
    np.testing.assert_array_equal(step(arrays[0][1:3, 2:], arrays[1][2:]), found[1:3, 2:])


# -- MOVE, MEAN -----------------------------------------------------------------------------------------------------

MOVES = [
    ("MaxPool", (1, 2, 5, 5), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)}),
    ("Pad", (2, 3), {"pads": (1, 0, 0, 2), "value": 0.5}),
    ("Pad", (2, 3), {"pads": (1, 0, 0, 2), "mode": "reflect"}),
    ("Transpose", (2, 3), {"perm": (1, 0)}),
    ("Slice", (4, 3), {"starts": (3,), "ends": (-9,), "axes": (0,), "steps": (-2,)}),
    ("ReduceMax", (3, 4), {"axes": (1,)}),
    ("Resize", (1, 1, 2, 3), {"sizes": (1, 1, 4, 6)}),
]


@pytest.mark.parametrize(("op", "shape", "attributes"), MOVES)
def test_moved_codes_mean_what_the_op_means(op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    source = coded("int8", shape, 0.1, zero=5)
    node = Node(op, ("x",), ("y",), attributes)
    out = replace(source, shape=infer_types(node, (TensorType("float32", shape),))[0].shape)
    assert rule_of(node, (source,), (out,)) is Rule.MOVE
    x = codes(source, 3)
    np.testing.assert_array_equal(
        run(op, [x], [source], out, **attributes), real_meaning(op, [x], [source], out, **attributes)
    )


def test_gather_takes_codes_and_plain_indices() -> None:
    source, out = coded("int8", (10, 3)), coded("int8", (4, 3))
    table, ids = codes(source, 0), np.array([9, 0, -1, 5])
    found = run("Gather", [table, ids], [source, TensorType("int64", (4,))], out)
    np.testing.assert_array_equal(found, table[ids])


def test_moving_to_another_scale_is_refused() -> None:
    x, other = coded("int8", (2,), 0.5), coded("int8", (2,), 0.25)
    with pytest.raises(ModelError, match=r"node 'y' \(Concat\): moves codes of int8{scale=0.5, zero=0} to .*Rescale"):
        run("Concat", [codes(x, 0), codes(other, 1)], [x, other], coded("int8", (4,), 0.25), axis=0)


POOLS = [
    {"kernel_shape": (3, 2), "pads": (1, 0, 1, 1), "strides": (2, 1)},
    {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1},
    {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1, "dilations": (2, 1)},
]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_average_pool_divides_by_what_it_counted(attributes: dict[str, Any], dtype: str) -> None:
    source = coded(dtype, (2, 3, 8, 7), 0.1, zero=7)
    node = Node("AveragePool", ("x",), ("y",), attributes)
    out = coded(
        "int16", infer_types(node, (TensorType("float32", source.shape),))[0].shape, 0.01 if dtype != "int16" else 0.2
    )
    x = codes(source, 2)
    found = run("AveragePool", [x], [source], out, **attributes)
    assert_within_a_code(found, real_meaning("AveragePool", [x], [source], out, **attributes))


@pytest.mark.parametrize(
    ("op", "attributes", "shape"),
    [
        ("GlobalAveragePool", {}, (2, 3, 1, 1)),
        ("ReduceMean", {"axes": (1, -1), "keepdims": 0}, (2, 4)),
        ("ReduceSum", {}, (1, 1, 1, 1)),
    ],
)
def test_means_and_sums_over_axes(op: str, attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    source, out = coded("int8", (2, 3, 4, 5), 0.1, zero=-7), coded("int16", shape, 0.01)
    x = codes(source, 2)
    assert_within_a_code(run(op, [x], [source], out, **attributes), real_meaning(op, [x], [source], out, **attributes))


def test_mean_step_works_on_partial_sums_of_some_channels() -> None:
    source, out = coded("int8", (1, 6, 4, 4), 0.1, zero=3), coded("int8", (1, 6, 2, 2), 0.05)
    attributes: dict[str, Any] = {"kernel_shape": (3, 3), "pads": (1, 1, 0, 0), "strides": (2, 2)}
    x = codes(source, 5)
    whole = run("AveragePool", [x], [source], out, **attributes)
    node = Node("AveragePool", ("x",), ("y",), attributes)
    step = make_step(node, (source,), (out,))
    assert isinstance(step, MeanStep)
    sums = window_sums(x[:, 2:5].astype(np.int64) - 3, full_attributes(node), (2, 2))
    found = step(sums[0].reshape(3, 4).T, np.array([[4], [6], [6], [9]]))
    np.testing.assert_array_equal(found.T.reshape(3, 2, 2), whole[0, 2:5])


# -- ROW ------------------------------------------------------------------------------------------------------------


@FAST
@given(
    st.sampled_from(["Softmax", "LogSoftmax"]),
    st.sampled_from(["int8", "int16"]),
    st.integers(1, 30),
    st.floats(1e-4, 0.5),
    SEEDS,
)
def test_softmax_is_within_a_code_and_rows_are_independent(
    op: str, dtype: str, n: int, scale: float, seed: int
) -> None:
    source, out = (
        coded(dtype, (4, n, 3), scale, zero=3),
        coded("int16", (4, n, 3), 1 / 32767 if op == "Softmax" else 1.0),
    )
    x = codes(source, seed)
    found = run(op, [x], [source], out, axis=1)
    assert_within_a_code(found, real_meaning(op, [x], [source], out, axis=1))
    step = make_step(Node(op, ("x",), ("y",), {"axis": 1}), (source,), (out,))
    assert isinstance(step, SoftmaxStep)
    np.testing.assert_array_equal(step(np.ascontiguousarray(x[2, :, 1])), found[2, :, 1])


def test_softmax_gives_masked_scores_no_weight() -> None:
    source, out = coded("int16", (1, 3), 0.001), coded("int16", (1, 3), 1 / 32767)
    found = make_softmax_step(source, out)(np.array([[100, 100, -32768]], np.int16))
    assert found.tolist() == [[16384, 16384, 0]]


NORMS = [
    ("LayerNormalization", (3, 4, 10), (10,), 2, {"axis": -1}),
    ("LayerNormalization", (3, 4, 10), (4, 10), 2, {"axis": 1}),
    ("RMSNormalization", (3, 4, 10), (10,), 1, {}),
    ("InstanceNormalization", (2, 3, 4, 5), (3,), 2, {}),
    ("GroupNormalization", (2, 6, 4, 5), (6,), 2, {"num_groups": 3}),
]


@pytest.mark.parametrize(("op", "shape", "parameter", "n", "attributes"), NORMS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_normalisations(
    op: str, shape: tuple[int, ...], parameter: tuple[int, ...], n: int, attributes: dict[str, Any], dtype: str
) -> None:
    source, out = coded(dtype, shape, 0.02, zero=11), coded("int16", shape, 0.0005, zero=2)
    generator = np.random.default_rng(0)
    x = codes(source, 1)
    extra = [generator.normal(1.0, 0.3, parameter).astype(np.float32) for _ in range(n)]
    types = [source, *(TensorType("float32", parameter),) * n]
    found = run(op, [x, *extra], types, out, **attributes)
    wide = [x, *(p.astype(np.float64) for p in extra)]
    assert_within_a_code(found, real_meaning(op, wide, types, out, **attributes))
    node = Node(op, ("x", "g", "b")[: n + 1], ("y",), attributes)
    step = make_step(node, tuple(types), (out,))
    assert isinstance(step, NormStep)
    rows = norm_rows(node, shape)
    one = [np.broadcast_to(norm_parameter(node, p.astype(np.float64), shape), rows)[-1:] for p in extra]
    np.testing.assert_array_equal(step(x.reshape(rows)[-1:], *one), found.reshape(rows)[-1:])


def test_normalising_a_constant_row_without_epsilon_gives_the_offset() -> None:
    source = coded("int8", (1, 4), 0.1)
    step = NormStep(0, 0.0, True, source)
    assert step(np.full((1, 4), 7, np.int8), None, np.full(4, 0.5)).tolist() == [[5, 5, 5, 5]]


def test_variances_beyond_64_bits_are_exact() -> None:
    x = np.where(np.arange(1 << 18) % 2, -32768, 32767).astype(np.int16).reshape(1, -1)
    found = NormStep(0, 0.0, True, coded("int16", x.shape, 1 / 16384))(x)
    assert set(found.ravel().tolist()) == {16384, -16384}


# -- FLOAT and Resize -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("where", ["half_pixel", "align_corners", "asymmetric"])
def test_interpolation_is_near_the_real_one_and_keeps_constants(mode: str, where: str) -> None:
    source, out = coded("int8", (1, 2, 5, 4), 0.1, zero=3), coded("int8", (1, 2, 9, 3), 0.13)
    attributes: dict[str, Any] = {"sizes": (1, 2, 9, 3), "mode": mode, "coordinate_transformation_mode": where}
    x = codes(source, 4)
    node = Node("Resize", ("x",), ("y",), attributes)
    assert isinstance(make_step(node, (source,), (out,)), InterpolateStep)
    found = run("Resize", [x], [source], out, **attributes)
    assert_within_a_code(found, real_meaning("Resize", [x], [source], out, **attributes))
    flat = run("Resize", [np.full_like(x, 90)], [source], replace(source, shape=out.shape), **attributes)
    assert set(flat.ravel().tolist()) == {90}


def test_float_rule_decodes_and_encodes() -> None:
    a, b, out = coded("int8", (3, 4), 0.1, zero=2), coded("int8", (4,), 0.2), coded("int16", (3, 4), 0.001)
    arrays = [codes(a, 0), np.array([-9, 3, 50, 127], np.int8)]
    np.testing.assert_array_equal(run("Div", arrays, [a, b], out), real_meaning("Div", arrays, [a, b], out))


def test_where_with_a_real_number_saturates() -> None:
    a, out = coded("int8", (3,), 0.1), coded("int16", (3,), 0.01)
    types = [TensorType("bool", (3,)), a, TensorType("float32", ())]
    found = run(
        "Where",
        [np.array([True, False, True]), np.array([5, 6, 7], np.int8), np.array(-np.inf, np.float32)],
        types,
        out,
    )
    assert found.tolist() == [50, -32768, 70]


def test_outputs_without_codes_pass_plain() -> None:
    source = coded("int8", (2, 5), 0.1)
    x = codes(source, 0)
    node = Node("ArgMax", ("x",), ("y",), {"axis": 1, "keepdims": 0})
    (found,) = quantised_meaning(node, (x,), (source,), (TensorType("int64", (2,)),))
    np.testing.assert_array_equal(found, x.argmax(axis=1))
    top = Node("TopK", ("x",), ("", "i"), {"k": 2})
    _, indices = quantised_meaning(top, (x,), (source,), (TensorType("int64", (2, 2)),))
    assert indices.dtype == np.int64


def test_slice_safety_is_stated_for_every_op() -> None:
    unsafe = {name for name in op_names() if not is_slice_safe(name)}
    assert {"Pow", "GridSample", "LRN", "ReduceL2"} <= unsafe
    assert unsafe.isdisjoint({"Conv", "Linear", "Softmax", "Div", "Where", "TopK", "LayerNormalization", "Relu"})
