"""The rows of the op table: exact integers, kept element types, shape rules and what they say, costs."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.errors import ModelError
from pimloom.ir import (
    Node,
    TensorType,
    average_counts,
    element_operations,
    find_op,
    full_attributes,
    infer_types,
    op_names,
    op_of,
)
from pimloom.ir.ops import REQUIRED, Rule
from pimloom.ir.ops.attributes import KINDS, attribute_faults
from pimloom.ir.ops.elementwise import erf
from pimloom.ir.ops.linear import einsum_terms

RNG = np.random.default_rng(3)


def infer(op: str, *types: str | None, **attributes: Any) -> tuple[TensorType, ...]:
    """Types are written `float32 2,3`."""
    parsed = tuple(None if t is None else _type(t) for t in types)
    names = tuple(f"x{i}" if t is not None else "" for i, t in enumerate(types))
    return infer_types(Node(op, names, ("y",), attributes), parsed)


def _type(text: str) -> TensorType:
    dtype, _, sizes = text.partition(" ")
    return TensorType(dtype, tuple(int(s) for s in sizes.split(",") if s))


def mean(op: str, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
    row = find_op(op, "test")
    return row.meaning({**row.attributes, **attributes}, *arrays)[0]


# --- numbers -----------------------------------------------------------------------------------------------------


def naive_conv(x: np.ndarray, w: np.ndarray, strides: Any, dilations: Any, pads: Any, group: int) -> np.ndarray:
    """Seven loops in Python integers."""
    n, _, height, width = x.shape
    out, depth, kh, kw = w.shape
    oh = (height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    y = np.zeros((n, out, oh, ow), object)
    for image, o, r, c in itertools.product(range(n), range(out), range(oh), range(ow)):
        first = o // (out // group) * depth
        for d, i, j in itertools.product(range(depth), range(kh), range(kw)):
            row, column = r * strides[0] + i * dilations[0] - pads[0], c * strides[1] + j * dilations[1] - pads[1]
            if 0 <= row < height and 0 <= column < width:
                y[image, o, r, c] += int(x[image, first + d, row, column]) * int(w[o, d, i, j])
    return y


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), pairs, pairs,
    st.tuples(*[st.integers(0, 2)] * 4), pairs, st.tuples(st.integers(0, 3), st.integers(0, 3)),
)  # fmt: skip
def test_conv_on_integers_is_exact(
    n: int, depth: int, per_group: int, group: int, strides: Any, dilations: Any, pads: Any, kernel: Any, more: Any
) -> None:
    size = [(k - 1) * d + 1 + extra for k, d, extra in zip(kernel, dilations, more, strict=True)]
    x = RNG.integers(-(2**20), 2**20, (n, depth * group, *size))
    w = RNG.integers(-(2**20), 2**20, (per_group * group, depth, *kernel))
    y = mean("Conv", x, w, strides=strides, dilations=dilations, pads=pads, group=group)
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, naive_conv(x, w, strides, dilations, pads, group))
    # the transposed convolution is the adjoint: <conv(x), g> = <x, conv_transpose(g)>
    g = RNG.integers(-99, 99, y.shape)
    full = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(y.shape[2:], strides, kernel, dilations, strict=True)]
    rest = tuple(s + a + b - f for s, a, b, f in zip(size, pads[:2], pads[2:], full, strict=True))
    back = mean(
        "ConvTranspose", g, w, strides=strides, dilations=dilations, pads=pads, group=group, output_padding=rest
    )
    assert np.sum(y * g) == np.sum(x * back)


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bij,bjk->ikb", "bij,bjk"])
def test_products_of_integers_are_exact(equation: str) -> None:
    a, b = RNG.integers(-(2**28), 2**28, (2, 3, 4)), RNG.integers(-(2**28), 2**28, (2, 4, 5))
    exact = np.einsum(equation, a.astype(object), b.astype(object))
    np.testing.assert_array_equal(mean("Einsum", a, b, equation=equation), exact)
    np.testing.assert_array_equal(mean("MatMul", a, b), np.matmul(a.astype(object), b.astype(object)))
    c = RNG.integers(-9, 9, (5,))
    y = mean("Gemm", a[0], b[0], c)
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, np.matmul(a[0].astype(object), b[0].astype(object)) + c)


FLOAT_CASES: tuple[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any]], ...] = (
    ("Conv", ((1, 2, 5, 5), (3, 2, 3, 3), (3,)), {}),
    ("ConvTranspose", ((1, 2, 5, 5), (2, 3, 3, 3), (3,)), {}),
    ("Gemm", ((3, 4), (4, 5), (5,)), {"alpha": 0.5}),
    ("MatMul", ((3, 4), (4, 5)), {}),
    ("Einsum", ((3, 4), (4, 5)), {"equation": "ij,jk"}),
    ("AveragePool", ((1, 2, 5, 5),), {"kernel_shape": (2, 2)}),
    ("LpPool", ((1, 2, 5, 5),), {"kernel_shape": (2, 2)}),
    ("GlobalAveragePool", ((1, 2, 5, 5),), {}),
    ("Softmax", ((3, 4),), {}),
    ("LogSoftmax", ((3, 4),), {}),
    ("LayerNormalization", ((3, 4), (4,), (4,)), {}),
    ("RMSNormalization", ((3, 4), (4,)), {}),
    ("InstanceNormalization", ((1, 3, 4), (3,), (3,)), {}),
    ("GroupNormalization", ((1, 4, 4), (4,), (4,)), {"num_groups": 2}),
    ("LRN", ((1, 4, 4),), {"size": 3}),
    ("ReduceMean", ((3, 4),), {}),
    ("Resize", ((1, 1, 4, 4),), {"sizes": (1, 1, 7, 7), "mode": "cubic"}),
    ("Gelu", ((3, 4),), {}),
    ("Selu", ((3, 4),), {}),
    ("HardSwish", ((3, 4),), {}),
    ("PRelu", ((3, 4), (4,)), {}),
    ("Add", ((3, 4), (4,)), {}),
    ("Mean", ((3, 4), (4,)), {}),
)


@pytest.mark.parametrize(("op", "shapes", "attributes"), FLOAT_CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_float_type_is_kept_and_wider_types_agree(op: str, shapes: Any, attributes: dict[str, Any]) -> None:
    wide = [RNG.standard_normal(shape) for shape in shapes]
    expected = mean(op, *wide, **attributes)
    assert expected.dtype == np.float64
    for dtype, tolerance in ((np.float32, 1e-5), (np.float16, 2e-2)):
        found = mean(op, *(a.astype(dtype) for a in wide), **attributes)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_erf_is_exact_within_rounding() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20_011), [0.0, -0.0, 1e-300, -1e-9, np.inf, -np.inf]])
    exact = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(erf(x) - exact)) < 4e-16
    assert np.max(np.abs(erf(x.astype(np.float32)) - np.array([math.erf(v) for v in x.astype(np.float32)]))) < 2.5e-7
    assert np.isnan(erf(np.array([np.nan])))[0]
    assert np.signbit(erf(np.array([-0.0])))[0]


def test_average_counts_are_the_divisors_of_the_pool() -> None:
    pool = full_attributes(
        Node(
            "AveragePool",
            ("x",),
            ("y",),
            {"kernel_shape": (3, 2), "pads": (1, 1, 1, 0), "ceil_mode": 1, "strides": (2, 2)},
        )
    )
    counts = average_counts(pool, (6, 5))
    ones = mean(
        "Conv", np.ones((1, 1, 6, 5), np.int64), np.ones((1, 1, 3, 2), np.int64), strides=(2, 2), pads=(1, 1, 2, 0)
    )
    np.testing.assert_array_equal(counts, ones[0, 0])
    assert counts.min() < counts.max()


def test_top_k_prefers_the_lower_index_among_equals() -> None:
    row = find_op("TopK", "test")
    for largest, expected in ((1, [0, 2, 1, 3]), (0, [1, 3, 0, 2])):
        _, chosen = row.meaning({**row.attributes, "k": 4, "largest": largest}, np.array([5, 1, 5, 1]))
        assert chosen.tolist() == expected


def test_einsum_terms_name_the_spread_axes_from_the_right() -> None:
    terms, output = einsum_terms("...ij,jk", (4, 2))
    assert terms == [(".1", ".0", "i", "j"), ("j", "k")]
    assert output == (".1", ".0", "i", "k")


# --- shape rules -------------------------------------------------------------------------------------------------

FAULTS: tuple[tuple[str, tuple[str | None, ...], dict[str, Any], str], ...] = (
    (
        "Conv",
        ("float32 1,6,8,8", "float32 8,4,3,3"),
        {"group": 2},
        r"4 input channels per group found, 3 expected \(input 0 is float32\[1,6,8,8\], group 2\)",
    ),
    (
        "Conv",
        ("float32 1,3,8,8", "float32 8,3,3,3", "float32 7"),
        {},
        r"input 2 \(bias\) is float32\[7\]: shape \[8\] expected",
    ),
    (
        "Conv",
        ("float32 1,3,8,8", "float32 8,3,3,3"),
        {"group": 2},
        "3 input channels cannot be divided into 2 groups; a divisor",
    ),
    (
        "Conv",
        ("float32 1,3,8,8", "float32 8,3,3,3"),
        {"strides": (1,)},
        r"attribute 'strides' has 1 entries \[1\], 2 expected",
    ),
    (
        "Conv",
        ("float32 1,3,8,8", "float32 8,3,3,3"),
        {"strides": (0, 1)},
        r"'strides' is \[0, 1\], entries of 1 or more expected",
    ),
    (
        "Conv",
        ("float32 1,3,8,8", "float32 8,3,3,3"),
        {"kernel_shape": (5, 5)},
        r"kernel_shape \[5, 5\] found, the weights have \[3, 3\]",
    ),
    (
        "Conv",
        ("float32 1,3,2,8", "float32 8,3,3,3"),
        {},
        "window of 3 elements on spatial axis 0, the padded input has 2",
    ),
    ("Conv", ("float32 3,8", "float32 8,3"), {}, "rank 2 found, 3 to 5 expected"),
    (
        "Conv",
        ("float32 1,3,8,8", "int8 8,3,3,3"),
        {},
        "inputs have element types float32 and int8, one type expected; insert a Cast",
    ),
    ("ConvTranspose", ("float32 1,3,8,8", "float32 4,3,3,3"), {}, "4 input channels found, 3 expected"),
    (
        "ConvTranspose",
        ("float32 1,3,8,8", "float32 3,4,3,3"),
        {"output_padding": (1,)},
        "'output_padding' has 1 entries .*2 expected",
    ),
    ("ConvTranspose", ("float32 1,3,2,2", "float32 3,4,1,1"), {"pads": (9, 9, 9, 9)}, "cut more than the output's"),
    ("MaxPool", ("float32 1,3,8,8",), {}, "attribute 'kernel_shape' is missing; it has no default"),
    ("MaxPool", ("float32 1,3,8,8",), {"kernel_shape": (3,)}, "'kernel_shape' has 1 entries .*2 expected"),
    ("MaxPool", ("float32 1,3,8,8",), {"kernel_shape": ()}, "'kernel_shape' is empty, 2 entries expected"),
    ("MaxPool", ("float32 1,3,8,8",), {"kernel_shape": 3}, "'kernel_shape' is 3, a list of 2 integers expected"),
    ("MaxPool", ("bool 1,3,8,8",), {"kernel_shape": (3, 3)}, "a number type expected; insert a Cast"),
    ("Gemm", ("float32 3,4", "float32 5,6"), {}, "5 rows found, 4 expected"),
    (
        "Gemm",
        ("float32 3,4", "float32 4,6", "float32 2,3,6"),
        {},
        r"input 2 \(C\) is .*broadcasts to \[3, 6\] expected",
    ),
    ("MatMul", ("float32 3,4", "float32 5,6"), {}, "5 rows found, 4 expected"),
    ("MatMul", ("float32 3,4", "float32"), {}, "rank 0 found, 1 or more expected"),
    ("MatMul", ("float32 2,3,4", "float32 3,4,5"), {}, r"shapes \[2\] and \[3\] do not broadcast"),
    ("Einsum", ("float32 3,4",), {"equation": "ij,jk"}, "names 2 operands, 1 inputs found"),
    ("Einsum", ("float32 3,4", "float32 5,6"), {"equation": "ij,jk"}, "label 'j' has sizes 4 and 5"),
    ("Einsum", ("float32 3,4",), {"equation": "ijk"}, "term 'ijk' does not fit an input of rank 2"),
    ("Einsum", ("float32 3,4",), {"equation": "ij->k"}, "output label 'k' is in no input"),
    ("Einsum", ("float32 3,4",), {"equation": "i1->i"}, "letters and one '...' expected"),
    ("Exp", ("int64 3",), {}, "a float type expected; insert a Cast"),
    ("Exp", (None,), {}, "required input 0 is absent"),
    ("Exp", ("float32 3", "float32 3"), {}, "2 inputs found, 1 to 1 expected"),
    ("Cast", ("float32 3",), {"to": "bfloat16"}, "attribute 'to' is 'bfloat16'; known element types"),
    ("PRelu", ("float32 2,3", "float32 2,3,1"), {}, r"input 1 \(slope\) .*broadcasts to \[2, 3\]"),
    ("Add", ("float32 2,3", "float32 4"), {}, r"shapes \[2, 3\] and \[4\] do not broadcast"),
    ("Add", ("float32 2,3", "int64 3"), {}, "one type expected; insert a Cast"),
    ("And", ("float32 2,3", "float32 3"), {}, "bool expected"),
    ("BitShift", ("uint8 3", "uint8 3"), {"direction": "UP"}, "'direction' is 'UP', LEFT or RIGHT expected"),
    ("Sum", (), {}, "0 inputs found, 1 or more expected"),
    ("Reshape", ("float32 2,3",), {"shape": (4, 2)}, r"'shape' is \[4, 2\]: 8 elements found, 6 expected"),
    ("Reshape", ("float32 2,3",), {"shape": (-1, 2)}, r"'shape' is \[-1, 2\]"),
    ("Squeeze", ("float32 2,3",), {"axes": (0,)}, "has size 2, 1 expected"),
    ("Squeeze", ("float32 1,1",), {"axes": (0, -2)}, r"axes \[0, 0\] repeat"),
    ("Transpose", ("float32 2,3",), {"perm": (0, 0)}, "an order of the 2 axes expected"),
    ("Tile", ("float32 2,3",), {"repeats": (2,)}, "2 counts expected"),
    ("Slice", ("float32 2,3",), {"starts": (0,), "ends": (1, 2)}, "entries; equal counts expected"),
    ("Slice", ("float32 2,3",), {"starts": (0,), "ends": (1,), "steps": (0,)}, "'steps' holds 0"),
    (
        "Slice",
        ("float32 2,3",),
        {"starts": (0,), "ends": (1,), "axes": (5,)},
        r"axis 5 is out of range: -2..1 expected",
    ),
    ("Pad", ("float32 2,3",), {"pads": (0, 1)}, "'pads' has 2 entries, 4 expected"),
    ("Pad", ("float32 2,3",), {"pads": (0, -2, 0, -2)}, "cuts off more than"),
    ("Pad", ("float32 2,3",), {"pads": (0, 0, 0, 0), "mode": "mirror"}, "'mode' is 'mirror'; known modes: constant"),
    ("Pad", ("float32 0,3",), {"pads": (1, 0, 1, 0), "mode": "edge"}, "has no element to repeat"),
    ("Concat", ("float32 2,3", "float32 3,3"), {"axis": 1}, r"input 1 is float32\[3,3\]: the sizes of input 0"),
    ("Split", ("float32 2,3",), {"axis": 1, "sizes": (1, 1)}, "a sum of 3 expected"),
    ("DepthToSpace", ("float32 1,6,2,2",), {"blocksize": 2}, "6 channels found, a multiple of 4 expected"),
    ("DepthToSpace", ("float32 1,8,2,2",), {"blocksize": 2, "mode": "X"}, "DCR or CRD expected"),
    ("SpaceToDepth", ("float32 1,8,3,2",), {"blocksize": 2}, "multiples of 2 expected"),
    ("SpaceToDepth", ("float32 1,8,3,2",), {"blocksize": 0}, "'blocksize' is 0, 1 or more expected"),
    ("ReduceSum", ("float32",), {"axes": (0,)}, "a value of rank 0 has no axis"),
    ("ArgMax", ("float32 0,3",), {"axis": 0}, "is empty: there is no element to choose"),
    ("Softmax", ("float32 2,3",), {"axis": 2}, r"axis 2 is out of range: -2..1 expected"),
    ("LayerNormalization", ("float32 2,3", "float32 2"), {}, r"input 1 \(scale\) .*broadcasts to \[3\]"),
    (
        "BatchNormalization",
        ("float32 2,3", "float32 3", "float32 3", "float32 2", "float32 3"),
        {},
        r"input 3 \(mean\) is float32\[2\]: shape \[3\]",
    ),
    (
        "GroupNormalization",
        ("float32 2,3,4", "float32 3", "float32 3"),
        {"num_groups": 2},
        "3 channels cannot be divided into 2 groups",
    ),
    ("InstanceNormalization", ("float32 2,3", "float32 3", "float32 3"), {}, "rank 2 found, 3 or more expected"),
    ("LpNormalization", ("float32 2,3",), {"p": 3}, "'p' is 3, 1 or 2 expected"),
    ("Gather", ("float32 2,3", "float32 2"), {}, "int32 or int64 expected"),
    ("GatherElements", ("float32 2,3", "int64 4,4"), {}, "at most 3 elements expected on axis 1"),
    ("GatherND", ("float32 2,3", "int64 4,3"), {}, "a last axis of 1 to 2 expected"),
    ("GatherND", ("float32 2,3", "int64 3,1"), {"batch_dims": 1}, "do not share their first 1 axes"),
    (
        "ScatterElements",
        ("float32 2,3", "int64 2,3", "float32 2,2"),
        {},
        r"shape \[2, 3\] expected, as the indices have",
    ),
    (
        "ScatterElements",
        ("float32 2,3", "int64 2,3", "float32 2,3"),
        {"reduction": "avg"},
        "'reduction' is 'avg'; known: none, add",
    ),
    ("ScatterND", ("float32 2,3", "int64 2,1", "float32 2,2"), {}, r"input 2 \(updates\) .*shape \[2, 3\] expected"),
    ("ScatterND", ("float32 2,3", "int64 2,3", "float32 2"), {}, "a last axis of 1 to 2 expected"),
    ("Where", ("float32 2", "float32 2", "float32 2"), {}, "bool expected"),
    ("TopK", ("float32 2,3",), {"k": 4}, "'k' is 4: 0 to 3 expected"),
    ("OneHot", ("int64 2", "float32 3"), {"depth": 3}, r"shape \[2\] and a depth of 1 or more expected"),
    ("Resize", ("float32 1,1,4,4",), {"sizes": (4, 4)}, r"'sizes' is \[4, 4\], 4 sizes expected"),
    ("Resize", ("float32 1,1",), {"sizes": (1, 2), "scales": (1.0, 0.0)}, "2 positive numbers expected"),
    ("Resize", ("float32 1,1",), {"sizes": (1, 2), "mode": "area"}, "'mode' is 'area'; known: nearest, linear, cubic"),
    (
        "Resize",
        ("float32 1,1",),
        {"sizes": (1, 2), "coordinate_transformation_mode": "tf_crop_and_resize"},
        "'roi' has 0 entries, 4 expected",
    ),
    ("Resize", ("float32 0,1",), {"sizes": (1, 2)}, "there is nothing to resize"),
    ("GridSample", ("float32 1,1,4,4", "float32 2,4,4,2"), {}, "1 first and 2 last expected"),
    ("QuantizeLinear", ("float32 2,3", "float32 2"), {}, r"one number or shape \[3\] expected"),
    ("QuantizeLinear", ("float32 2,3", "float32", "int8"), {"output_dtype": "uint8"}, "equal types expected"),
    ("QuantizeLinear", ("float32 2,3", "float32"), {"output_dtype": "float16"}, "an integer type expected"),
    ("DequantizeLinear", ("int8 2,3", "float32", "uint8"), {}, "the type of input 0"),
    ("DequantizeLinear", ("int8 2,3", "float32 3", "int8 1"), {}, "the shape of the scale"),
    ("Relu", ("float32 2",), {"slope": 1.0}, "unknown attribute 'slope'; known: none"),
    ("Frobnicate", ("float32 2",), {}, "op 'Frobnicate' is not known; `pimloom show ops` lists"),
)


@pytest.mark.parametrize(
    ("op", "types", "attributes", "text"), FAULTS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FAULTS)]
)
def test_shape_rules_say_what_does_not_fit(op: str, types: Any, attributes: Any, text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        infer(op, *types, **attributes)
    assert str(caught.value).startswith("node 'y'")


def test_indices_out_of_range_are_named() -> None:
    with pytest.raises(ModelError, match=r"index 5 is out of range: -5\.\.4 expected on axis 1"):
        mean("Gather", np.zeros((2, 5)), np.array([0, 5]), axis=1)
    with pytest.raises(ModelError, match=r"index -6 is out of range"):
        mean("GatherElements", np.zeros((5, 5)), np.array([[-6]]))


# --- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", op_names())
def test_row_is_complete(name: str) -> None:
    row = find_op(name, "test")
    assert row.max_inputs == -1 or row.min_inputs <= row.max_inputs
    assert row.work >= 0
    assert isinstance(row.rule, Rule)
    if row.infer.__module__.startswith("pimloom.ir.ops."):
        defaults = {k: v for k, v in row.attributes.items() if v is not REQUIRED}
        assert set(row.attributes) <= set(KINDS)
        assert attribute_faults(Node(name, ("x",), ("y",), defaults)) == []


def test_attribute_kinds_are_checked() -> None:
    node = Node("Conv", ("x", "w"), ("y",), {"pads": (1, 1.5), "group": "2", "strides": (1, 1)})
    assert attribute_faults(node) == [
        "attribute 'pads' is (1, 1.5), a list of integers expected",
        "attribute 'group' is '2', an integer expected",
    ]
    assert attribute_faults(Node("Gelu", ("x",), ("y",), {"approximate": "erf"})) == [
        "attribute 'approximate' is 'erf'; known: none, tanh"
    ]


MACS: tuple[tuple[str, tuple[str, ...], dict[str, Any], int], ...] = (
    ("Conv", ("float32 2,4,8,8", "float32 6,2,3,3"), {"group": 2, "pads": (1, 1, 1, 1)}, 2 * 6 * 8 * 8 * 2 * 9),
    ("ConvTranspose", ("float32 1,4,5,5", "float32 4,3,2,2"), {"strides": (2, 2)}, 4 * 25 * 3 * 4),
    ("Gemm", ("float32 4,3", "float32 5,4"), {"transA": 1, "transB": 1}, 3 * 5 * 4),
    ("MatMul", ("float32 2,3,4", "float32 4,5"), {}, 2 * 3 * 5 * 4),
    ("Einsum", ("float32 2,3,4", "float32 2,4,5"), {"equation": "bij,bjk->bik"}, 2 * 3 * 4 * 5),
    ("Relu", ("float32 9",), {}, 0),
)


@pytest.mark.parametrize(("op", "types", "attributes", "expected"), MACS)
def test_multiply_accumulates(op: str, types: Any, attributes: Any, expected: int) -> None:
    inputs = tuple(_type(t) for t in types)
    node = Node(op, tuple(f"x{i}" for i in range(len(inputs))), ("y",), attributes)
    outputs = infer_types(node, inputs)
    assert op_of(node).macs(full_attributes(node), inputs, outputs) == expected
    assert (element_operations(node, inputs, outputs) == 0) == (expected > 0)


OPERATIONS: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("Relu", "float32 3,4", {}, 12),
    ("MaxPool", "float32 1,2,8,8", {"kernel_shape": (2, 2), "strides": (2, 2)}, 2 * 64),
    ("GlobalAveragePool", "float32 1,2,8,8", {}, 128),
    ("ReduceMax", "float32 3,4", {"axes": (1,)}, 12),
    ("Slice", "float32 9", {"starts": (0,), "ends": (2,)}, 2),
    ("Reshape", "float32 9", {"shape": (3, 3)}, 0),
    ("Softmax", "float32 3,4", {}, 84),
)


@pytest.mark.parametrize(("op", "x", "attributes", "expected"), OPERATIONS)
def test_element_operations(op: str, x: str, attributes: Any, expected: int) -> None:
    node = Node(op, ("x",), ("y",), attributes)
    assert element_operations(node, (_type(x),), infer_types(node, (_type(x),))) == expected
