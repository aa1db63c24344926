"""Every row of the op table against ONNX Runtime (or ONNX's reference where that lacks the op)."""

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pimloom.ir.evaluate import evaluate_node
from pimloom.ir.graph import Node
from pimloom.ir.ops import find_op, infer_types, op_names
from pimloom.ir.types import TensorType

ort = pytest.importorskip("onnxruntime")
RNG = np.random.default_rng(7)
OPSET = 23
OPSETS = {"CumProd": 26, "Swish": 24, "GlobalLpPool": 18}  # where the op or its kernel is not in OPSET
REFERENCE = {"CumProd", "Swish"}  # ONNX Runtime lacks these


class Case(NamedTuple):
    """One node: op, its inputs (None where absent), and attributes in normal form."""

    op: str
    inputs: tuple[np.ndarray | None, ...]
    attributes: dict[str, Any]
    tolerance: float = 1e-5

    @property
    def label(self) -> str:
        shapes = "_".join("x".join(map(str, a.shape)) if a is not None else "none" for a in self.inputs)
        return f"{self.op}-{shapes}-{'-'.join(f'{k}={v}' for k, v in self.attributes.items())}"


def real(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.asarray(RNG.standard_normal(shape)).astype(dtype)


def between(low: float, high: float, *shape: int, dtype: str = "float32") -> np.ndarray:
    return np.asarray(RNG.uniform(low, high, shape)).astype(dtype)


def ints(low: int, high: int, *shape: int, dtype: str = "int64") -> np.ndarray:
    return np.asarray(RNG.integers(low, high, shape)).astype(dtype)


def bools(*shape: int) -> np.ndarray:
    return RNG.integers(0, 2, shape).astype(bool)


CASES: list[Case] = []


def case(op: str, *inputs: np.ndarray | None, tolerance: float = 1e-5, **attributes: Any) -> None:
    CASES.append(Case(op, inputs, attributes, tolerance))


def _conv_cases() -> None:
    case("Conv", real(2, 3, 9), real(4, 3, 3), real(4), pads=(1, 2), strides=(2,))
    case("Conv", real(1, 4, 7, 8), real(6, 4, 3, 2), None)
    case("Conv", real(2, 4, 7, 8), real(6, 2, 3, 3), real(6), group=2, pads=(1, 0, 2, 1), strides=(2, 1))
    case("Conv", real(2, 4, 9, 8), real(6, 4, 3, 3), real(6), dilations=(2, 3), pads=(3, 3, 3, 3))
    case("Conv", real(2, 4, 9, 8), real(8, 1, 3, 3), real(8), group=4, strides=(2, 2), pads=(1, 1, 1, 1))
    case("Conv", real(2, 4, 9, 8), real(5, 4, 1, 1), real(5), kernel_shape=(1, 1))
    case("Conv", real(2, 4, 9, 8), real(6, 2, 1, 1), group=2)
    case("Conv", real(2, 4, 9, 8), real(5, 4, 1, 1), strides=(2, 2))
    case("Conv", real(1, 1, 5, 5), real(3, 1, 5, 5))
    case("Conv", real(1, 2, 5, 6, 7), real(4, 2, 2, 3, 3), real(4), pads=(1, 0, 1, 0, 1, 1), strides=(2, 1, 2))
    case("Conv", real(2, 4, 5, 6, 7), real(4, 1, 2, 3, 3), group=4, dilations=(2, 1, 2))
    case("ConvTranspose", real(2, 3, 9), real(3, 4, 3), real(4), pads=(1, 0), strides=(2,))
    case("ConvTranspose", real(1, 4, 5, 6), real(4, 3, 3, 2))
    case("ConvTranspose", real(2, 4, 5, 6), real(4, 3, 3, 2), real(6), group=2, strides=(2, 3), pads=(1, 0, 0, 1))
    case("ConvTranspose", real(2, 4, 5, 6), real(4, 1, 3, 3), real(4), group=4, strides=(2, 2), output_padding=(1, 1))
    case("ConvTranspose", real(2, 4, 5, 6), real(4, 2, 3, 3), dilations=(2, 2), strides=(3, 1), pads=(2, 1, 1, 2))
    case("ConvTranspose", real(1, 2, 3, 4, 3), real(2, 3, 2, 2, 3), real(3), strides=(2, 2, 1), pads=(0, 1, 1, 0, 0, 0))


def _pool_cases() -> None:
    for op, more in (("MaxPool", {}), ("AveragePool", {}), ("LpPool", {"p": 2})):
        case(op, real(2, 3, 9), kernel_shape=(3,), strides=(2,), pads=(1, 1), **more)
        case(op, real(2, 3, 8, 9), kernel_shape=(3, 2), **more)
        case(op, real(2, 3, 8, 9), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), **more)
        case(op, real(2, 3, 8, 9), kernel_shape=(3, 2), strides=(1, 2), pads=(0, 1, 2, 1), **more)
        case(op, real(1, 2, 5, 6, 7), kernel_shape=(2, 3, 2), strides=(1, 2, 2), **more)
        case(op, real(2, 3, 11, 12), kernel_shape=(3, 3), dilations=(2, 3), strides=(2, 1), **more)
        case(op, real(2, 3, 8, 9), kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1, **more)
    for op in ("MaxPool", "AveragePool"):
        case(op, real(1, 2, 7, 9), kernel_shape=(2, 2), strides=(3, 3), pads=(1, 1, 1, 1), ceil_mode=1)
        case(op, real(1, 1, 4, 4), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), ceil_mode=1)
    case("MaxPool", ints(-128, 128, 1, 2, 6, 6, dtype="int8"), kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    case("LpPool", real(1, 2, 6, 6), kernel_shape=(2, 3), p=1)
    case("LpPool", real(1, 2, 6, 6), kernel_shape=(2, 3), p=3, strides=(2, 1))
    for pads in ((0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 1)):
        case("AveragePool", real(2, 2, 8, 7), kernel_shape=(3, 3), strides=(2, 2), pads=pads, count_include_pad=1)
        case(
            "AveragePool",
            real(2, 2, 8, 7),
            kernel_shape=(3, 3),
            strides=(2, 2),
            pads=pads,
            count_include_pad=1,
            ceil_mode=1,
        )
    case("AveragePool", real(1, 1, 8, 9), kernel_shape=(3, 2), dilations=(2, 2), pads=(2, 1, 2, 1), count_include_pad=1)
    case("AveragePool", real(1, 1, 8, 9), kernel_shape=(3, 2), dilations=(2, 2), pads=(2, 1, 2, 1), count_include_pad=0)
    for op in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
        case(op, real(2, 3, 5))
        case(op, real(2, 3, 5, 4))
        case(op, real(2, 3, 2, 5, 4))
    case("GlobalLpPool", real(2, 3, 5, 4), p=1)


def _linear_cases() -> None:
    case("Gemm", real(3, 4), real(4, 5))
    case("Gemm", real(4, 3), real(5, 4), real(5), transA=1, transB=1, alpha=0.5, beta=2.0)
    case("Gemm", real(3, 4), real(5, 4), real(3, 1), transB=1)
    case("Gemm", real(3, 4), real(4, 5), np.array(2.0, np.float32), alpha=-1.0)
    case("Gemm", real(0, 4), real(4, 5), real(5))
    for a, b in (
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((4,), (4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (4,)),
    ):
        case("MatMul", real(*a), real(*b))
    case("MatMul", ints(-9, 9, 3, 4), ints(-9, 9, 4, 2))
    case("Einsum", real(2, 3, 4), real(2, 4, 5), equation="bij,bjk->bik")
    case("Einsum", real(3, 4), real(4, 5), equation="ij, jk")
    case("Einsum", real(2, 3, 4, 5), equation="...ij->...ji")
    case("Einsum", real(3, 3), equation="ii->i")
    case("Einsum", real(3, 3), equation="ii")
    case("Einsum", real(2, 5, 3, 4), real(2, 6, 3, 4), equation="bqhd,bkhd->bhqk")
    case("Einsum", real(2, 3), real(3, 4), real(4, 5), equation="ab,bc,cd->ad")
    case("Einsum", real(4), real(5), equation="i,j->ij")


def _elementwise_cases() -> None:
    names = (
        "Abs Neg Exp Floor Ceil Round Sign Sin Cos Tan Atan Sinh Cosh Asinh Tanh Sigmoid Softplus Softsign Mish Erf",
        "Relu HardSwish Identity IsNaN",
    )
    wide = np.concatenate([np.linspace(-12, 12, 97), [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 3.0, -3.0]]).astype(np.float32)
    for name in " ".join(names).split():
        case(name, real(3, 4))
        case(name, np.array(0.3, np.float32))
        case(name, real(0, 2))
        case(name, wide, tolerance=2e-5)
    for name in ("Relu", "Abs", "Sign", "Neg"):
        case(name, ints(-9, 9, 3, 4, dtype="int32"))
    for name in ("Asin", "Acos", "Atanh"):
        case(name, between(-0.99, 0.99, 3, 4))
    case("Acosh", between(1, 9, 3, 4))
    for name in ("Log", "Sqrt", "Reciprocal"):
        case(name, between(0.1, 9, 3, 4))
    case("Sqrt", np.array([-1.0, 0.0, 4.0], np.float32))
    case("Log", np.array([-1.0, 0.0, 4.0], np.float32))
    for approximate in ("none", "tanh"):
        case("Gelu", wide, approximate=approximate)
        case("Gelu", real(3, 4, dtype="float64"), approximate=approximate)
    for op, attributes in (
        ("LeakyRelu", {"alpha": 0.2}), ("ThresholdedRelu", {"alpha": 0.5}), ("Elu", {"alpha": 1.5}),
        ("Celu", {"alpha": 2.0}), ("Selu", {"alpha": 1.5, "gamma": 1.2}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("Swish", {"alpha": 1.702}), ("Shrink", {"lambd": 0.8, "bias": 0.1}),
    ):  # fmt: skip
        case(op, wide)
        case(op, wide, **attributes)
    case("Clip", wide, min=-1.5, max=2.5)
    case("Clip", wide, min=0.0)
    case("Clip", wide)
    case("Clip", wide, min=3.0, max=1.0)
    case("Clip", ints(-90, 90, 3, 4, dtype="int32"), min=-5.0, max=7.0)
    case("Clip", ints(0, 255, 3, 4, dtype="uint8"), max=70.0)
    case("PRelu", real(2, 3, 4, 5), real(3, 1, 1))
    case("PRelu", real(2, 3), real(1))
    case("Not", bools(3, 4))
    case("BitwiseNot", ints(-9, 9, 3, 4, dtype="int32"))
    odd = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    case("IsNaN", odd)
    case("IsInf", odd)
    case("IsInf", odd, detect_negative=0)
    case("IsInf", odd, detect_positive=0)
    for to in ("float64", "float16", "int64", "int8", "bool", "uint8"):
        case("Cast", between(0, 50, 3, 4), to=to)
    case("Cast", real(3) * 9, to="int32")
    case("Cast", ints(-5, 5, 3, 4), to="float32")
    case("Cast", bools(3), to="float32")
    case("Sigmoid", real(3, 4, dtype="float16"), tolerance=2e-3)


def _binary_cases() -> None:
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "Mod"):
        more: dict[str, Any] = {"fmod": 1} if op == "Mod" else {}
        first = between(0.1, 3, 2, 3, 4) if op == "Pow" else real(2, 3, 4)
        case(op, first, real(3, 1), **more)
        case(op, first[0, 0], real(2, 3, 4), **more)
        case(op, np.array(1.5, np.float32), np.array(-2.5, np.float32), **more)
        case(op, real(0, 3), real(3), **more)
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod"):
        case(op, ints(-20, 20, 3, 7), ints(1, 9, 7) * np.array([1, -1, 1, -1, 1, -1, 1]))
        case(op, ints(-20, 20, 3, 7, dtype="int32"), ints(1, 9, 7, dtype="int32"))
    case("Div", ints(0, 200, 20, dtype="uint8"), ints(1, 9, 20, dtype="uint8"))
    case("Mod", ints(-20, 20, 3, 7), ints(1, 9, 7) * np.array([1, -1, 1, -1, 1, -1, 1]), fmod=1)
    case("Pow", ints(-5, 5, 3, 7), ints(0, 4, 7))
    case("Pow", real(3, 7), ints(-3, 4, 7))
    case("Pow", ints(1, 5, 3, 7), between(0, 2, 7))
    case("Pow", np.array([2, -1, 1], np.int64), np.array([-1, -3, -2], np.int64))
    for op in ("Sum", "Mean", "Max", "Min"):
        case(op, real(3, 4))
        case(op, real(3, 4), real(4), real(2, 1, 1))
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        case(op, ints(0, 3, 3, 4), ints(0, 3, 4))
        case(op, ints(0, 3, 3, 4).astype(np.float32), ints(0, 3, 3, 1).astype(np.float32))
    case("Equal", bools(3, 4), bools(4))
    for op in ("And", "Or", "Xor"):
        case(op, bools(3, 4), bools(4))
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        case(op, ints(-90, 90, 3, 4, dtype="int32"), ints(-90, 90, 4, dtype="int32"))
    for direction in ("LEFT", "RIGHT"):
        case("BitShift", ints(0, 200, 3, 4, dtype="uint8"), ints(0, 7, 4, dtype="uint8"), direction=direction)


def _layout_cases() -> None:
    case("Reshape", real(2, 3, 4), shape=(4, 6))
    case("Reshape", real(1, 1), shape=())
    case("Reshape", real(2, 0, 4), shape=(0, 3))
    for axis in (0, 1, 2, 3, -1):
        case("Flatten", real(2, 3, 4), axis=axis)
    case("Squeeze", real(1, 3, 1, 4), axes=(0, 2))
    case("Squeeze", real(1, 3, 1, 4), axes=(-2,))
    case("Unsqueeze", real(3, 4), axes=(0, 3))
    case("Unsqueeze", real(3, 4), axes=(-1, 1))
    case("Unsqueeze", np.array(1, np.float32), axes=(0,))
    case("Transpose", real(2, 3, 4))
    case("Transpose", real(2, 3, 4), perm=(1, 2, 0))
    case("Transpose", ints(0, 9, 2, 3, dtype="int8"), perm=(1, 0))
    case("Expand", real(3, 1), shape=(2, 3, 4))
    case("Expand", real(3, 4), shape=(1, 1))
    case("Tile", real(2, 3), repeats=(2, 1))
    case("Tile", real(2, 3), repeats=(0, 2))
    case("Slice", real(5, 6), starts=(1,), ends=(4,), axes=(1,))
    case("Slice", real(5, 6), starts=(1, 0), ends=(5, 6), axes=(0, 1), steps=(2, 3))
    case("Slice", real(5, 6), starts=(-1,), ends=(-100,), axes=(-1,), steps=(-1,))
    case("Slice", real(5, 6), starts=(100, 4), ends=(1, 0), axes=(1, 0), steps=(-2, -3))
    case("Slice", real(5, 6), starts=(3,), ends=(2,))
    case("Slice", real(5, 6), starts=(-3,), ends=(1000,))
    for mode in ("constant", "reflect", "edge", "wrap"):
        case("Pad", real(2, 4, 5), pads=(0, 1, 2, 0, 2, 1), mode=mode)
    case("Pad", real(4, 5), pads=(1, -1, 0, 2), value=3.5)
    case("Pad", ints(0, 9, 4, 5), pads=(1, 0, 0, 2), value=7.0)
    case("Concat", real(2, 3), axis=0)
    case("Concat", real(2, 3), real(2, 5), real(2, 0), axis=-1)
    case("Concat", ints(0, 9, 2), ints(0, 9, 3), axis=0)
    case("Split", real(2, 6), axis=1, sizes=(1, 2, 3))
    case("Split", real(6, 2), axis=-2, sizes=(6,))
    case("Split", real(6), sizes=(0, 6))
    for mode in ("DCR", "CRD"):
        case("DepthToSpace", real(2, 8, 3, 2), blocksize=2, mode=mode)
    case("SpaceToDepth", real(2, 3, 4, 6), blocksize=2)


def _reduce_cases() -> None:
    for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"):
        op = f"Reduce{name}"
        make = functools.partial(between, 0.1, 2) if name == "LogSum" else real
        case(op, make(2, 3, 4))
        case(op, make(2, 3, 4), axes=(1,), keepdims=0)
        case(op, make(2, 3, 4), axes=(-1, 0), keepdims=1)
        case(op, make(3), axes=(0,), keepdims=0)
        case(op, np.array(0.75, np.float32))
    for name in ("Sum", "Max", "Min", "Prod", "Mean"):
        case(f"Reduce{name}", ints(-5, 5, 3, 4), axes=(1,))
    case("ReduceSum", real(2, 0, 3), axes=(1,))
    case("ReduceLogSumExp", np.array([[500.0, 501.0]], np.float32), axes=(1,))
    for op in ("ArgMax", "ArgMin"):
        case(op, real(3, 4))
        case(op, ints(0, 3, 4, 6).astype(np.float32), axis=1, keepdims=0, select_last_index=1)
        case(op, ints(0, 3, 4, 6).astype(np.float32), axis=-1)
    for op in ("CumSum", "CumProd"):
        for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
            case(op, real(3, 4), axis=1, exclusive=exclusive, reverse=reverse)
        case(op, ints(-3, 4, 3, 4), axis=-2)


def _norm_cases() -> None:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        case(op, real(2, 3, 4))
        case(op, real(2, 3, 4) * 30, axis=1)
        case(op, real(5), axis=0)
    masked = np.array([[0.5, -np.inf, 0.1], [1.0, 2.0, -np.inf]], np.float32)
    case("Softmax", masked)
    case("LayerNormalization", real(2, 3, 4), real(4), real(4))
    case("LayerNormalization", real(2, 3, 4), real(3, 4), None, axis=1, epsilon=0.01)
    case("RMSNormalization", real(2, 3, 4), real(4))
    case("RMSNormalization", real(2, 3, 4), real(3, 4), axis=-2, epsilon=0.01)
    case("BatchNormalization", real(2, 3, 4, 5), real(3), real(3), real(3), between(0.2, 2, 3))
    case("BatchNormalization", real(2, 3), real(3), real(3), real(3), between(0.2, 2, 3), epsilon=0.1)
    case("InstanceNormalization", real(2, 3, 4, 5), real(3), real(3))
    case("InstanceNormalization", real(2, 3, 7), real(3), real(3), epsilon=0.01)
    case("GroupNormalization", real(2, 6, 4, 5), real(6), real(6), num_groups=3)
    case("GroupNormalization", real(2, 6, 7), real(6), real(6), num_groups=1, epsilon=0.01)
    case("LpNormalization", real(2, 3, 4))
    case("LpNormalization", real(2, 3, 4), axis=1, p=1)
    case("LpNormalization", np.zeros((2, 3), np.float32))
    case("MeanVarianceNormalization", real(2, 3, 4, 5))
    case("MeanVarianceNormalization", real(2, 3, 4, 5), axes=(2, 3))
    case("LRN", real(2, 7, 3, 4), size=5, alpha=0.3, beta=0.6, bias=1.5)
    case("LRN", real(2, 7, 3, 4), size=3)


def _select_cases() -> None:
    case("Gather", real(5, 4), ints(-5, 5, 2, 3))
    case("Gather", real(2, 5, 4), ints(0, 5, 3, dtype="int32"), axis=1)
    case("Gather", real(5, 4), np.array(2), axis=-1)
    case("GatherElements", real(3, 4), ints(-3, 3, 2, 4))
    case("GatherElements", real(3, 4), ints(0, 4, 3, 6), axis=-1)
    case("GatherND", real(3, 4, 5), ints(0, 3, 6, 2))
    case("GatherND", real(3, 4, 5), ints(0, 3, 2, 6, 3))
    case("GatherND", real(3, 4, 5), ints(-4, 4, 3, 2, 1), batch_dims=1)
    case("GatherND", real(3, 4, 5), ints(0, 5, 3, 4, 1), batch_dims=2)
    rows = np.argsort(RNG.random((4, 6)), axis=1)[:, :3]
    case("ScatterElements", real(4, 6), rows, real(4, 3), axis=1)
    for reduction in ("add", "mul", "max", "min"):
        case("ScatterElements", real(4, 6), ints(-6, 6, 4, 5), real(4, 5), axis=-1, reduction=reduction)
        case("ScatterND", real(4, 6), ints(0, 4, 5, 1), real(5, 6), reduction=reduction)
    case("ScatterND", real(4, 6, 2), np.array([[0, 1], [3, 5]]), real(2, 2))
    case("ScatterND", real(4, 6), np.array([[2], [-1]]), real(2, 6))
    case("Where", bools(3, 4), real(4), real(2, 1, 1))
    case("Where", bools(1), ints(0, 9, 3), ints(0, 9, 3))
    for largest in (0, 1):
        case("TopK", real(3, 7), k=3, largest=largest)
        case("TopK", ints(0, 3, 4, 6).astype(np.float32), k=4, axis=0, largest=largest)
        case("TopK", ints(0, 5, 9), k=9, largest=largest)
    case("TopK", real(3, 4), k=0)
    for upper in (0, 1):
        for k in (-1, 0, 2):
            case("Trilu", real(2, 4, 5), upper=upper, k=k)
    case("OneHot", ints(-4, 4, 2, 3), np.array([0.0, 1.0], np.float32), depth=4)
    case("OneHot", ints(-2, 9, 5), np.array([7, 3]), depth=5, axis=0)
    case("OneHot", ints(0, 3, 2, 3), np.array([0.0, 1.0], np.float32), depth=4, axis=1)


def _resample_cases() -> None:
    grows, shrinks = {"sizes": (1, 2, 7, 9), "scales": ()}, {"sizes": (1, 2, 3, 2), "scales": ()}
    scaled = {"sizes": (1, 2, 10, 7), "scales": (1.0, 1.0, 2.0, 1.3)}
    x = real(1, 2, 5, 6)
    modes = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
    for coordinates in modes:
        for sizes in (grows, shrinks, scaled):
            for mode in ("nearest", "linear", "cubic"):
                case("Resize", x, mode=mode, coordinate_transformation_mode=coordinates, tolerance=1e-4, **sizes)
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for coordinates in modes:
            case("Resize", x, nearest_mode=nearest, coordinate_transformation_mode=coordinates, **scaled)
    for sizes in (grows, shrinks):
        case("Resize", x, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5, tolerance=1e-4, **sizes)
    case("Resize", real(1, 2, 5), mode="linear", sizes=(1, 2, 9))
    case("Resize", real(1, 2, 3, 4, 5), mode="linear", sizes=(1, 2, 5, 4, 8), tolerance=1e-4)
    case("Resize", x, mode="linear", coordinate_transformation_mode="pytorch_half_pixel", sizes=(1, 2, 1, 1))
    crop = (0.0, 0.0, 0.1, -0.2, 1.0, 1.0, 0.8, 1.1)
    case(
        "Resize", x, mode="linear", coordinate_transformation_mode="tf_crop_and_resize", roi=crop,
        extrapolation_value=9.0, tolerance=1e-4, **grows,
    )  # fmt: skip
    case(
        "Resize",
        ints(0, 255, 1, 1, 4, 4, dtype="uint8"),
        sizes=(1, 1, 8, 8),
        coordinate_transformation_mode="asymmetric",
    )
    grid = between(-1.3, 1.3, 2, 4, 5, 2)
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                case(
                    "GridSample",
                    real(2, 3, 6, 7),
                    grid,
                    mode=mode,
                    padding_mode=padding,
                    align_corners=corners,
                    tolerance=1e-4,
                )
    case("GridSample", real(1, 2, 3, 4, 5), between(-1.2, 1.2, 1, 2, 3, 4, 3), mode="linear", tolerance=1e-4)


def _quantise_cases() -> None:
    scale, zero = np.array(0.05, np.float32), np.array(120, np.uint8)
    case("QuantizeLinear", real(3, 4) * 5, scale, zero)
    case("QuantizeLinear", real(3, 4) * 5, scale)
    case("QuantizeLinear", real(3, 4) * 5, scale, output_dtype="int8")
    case("QuantizeLinear", real(2, 3, 4), between(0.01, 0.1, 3), ints(-9, 9, 3, dtype="int8"))
    case("QuantizeLinear", real(2, 4), between(0.01, 0.1, 4), ints(-9, 9, 4, dtype="int16"), axis=-1)
    case("QuantizeLinear", real(2, 4), between(0.01, 0.1, 2, 2), ints(-9, 9, 2, 2, dtype="int8"), axis=1, block_size=2)
    case("DequantizeLinear", ints(0, 255, 3, 4, dtype="uint8"), scale, zero)
    case("DequantizeLinear", ints(-99, 99, 3, 4, dtype="int8"), scale)
    case("DequantizeLinear", ints(-99, 99, 2, 3, 4, dtype="int8"), between(0.01, 0.1, 3), ints(-9, 9, 3, dtype="int8"))
    case("DequantizeLinear", ints(-9999, 9999, 3, dtype="int32"), between(0.01, 0.1, 3), axis=0)
    case("DequantizeLinear", ints(-99, 99, 3, 4, dtype="int8"), between(0.01, 0.1, 3, 2), axis=1, block_size=2)


for _collect in (
    _conv_cases, _pool_cases, _linear_cases, _elementwise_cases, _binary_cases, _layout_cases, _reduce_cases,
    _norm_cases, _select_cases, _resample_cases, _quantise_cases,
):  # fmt: skip
    _collect()


# Attributes of the normal form that ONNX takes as inputs: name of the attribute, place of the input, element type
# (empty: that of input 0).
AS_INPUTS = {
    "Reshape": (("shape", 1, "int64"),),
    "Squeeze": (("axes", 1, "int64"),),
    "Unsqueeze": (("axes", 1, "int64"),),
    "Expand": (("shape", 1, "int64"),),
    "Tile": (("repeats", 1, "int64"),),
    "Slice": (("starts", 1, "int64"), ("ends", 2, "int64"), ("axes", 3, "int64"), ("steps", 4, "int64")),
    "Pad": (("pads", 1, "int64"), ("value", 2, "")),
    "Split": (("sizes", 1, "int64"),),
    "Clip": (("min", 1, ""), ("max", 2, "")),
    "CumSum": (("axis", 1, "int64"),),
    "CumProd": (("axis", 1, "int64"),),
    "Trilu": (("k", 1, "int64"),),
}


def onnx_result(given: Case) -> list[np.ndarray]:
    """Runs the case as a model of one ONNX node."""
    arrays: list[np.ndarray | None] = list(given.inputs)
    attributes = {k: v for k, v in given.attributes.items() if v != ()}
    if given.op == "Reshape":
        attributes["allowzero"] = 1
    if given.op == "Resize":
        arrays = [arrays[0], *_resize_inputs(attributes, arrays[0])]
    elif given.op == "OneHot":
        arrays = [arrays[0], np.array([attributes.pop("depth")]), arrays[1]]
    elif given.op == "TopK":
        arrays.append(np.array([attributes.pop("k")], np.int64))
    elif given.op.startswith("Reduce") and attributes.get("axes"):
        arrays.append(np.array(attributes.pop("axes"), np.int64))
    for name, place, dtype in AS_INPUTS.get(given.op, ()):
        arrays += [None] * (place + 1 - len(arrays))
        if name in given.attributes:
            arrays[place] = np.array(given.attributes[name], dtype or given.inputs[0].dtype)
            attributes.pop(name, None)
    for name in ("to", "output_dtype"):
        if name in attributes:
            attributes[name] = helper.np_dtype_to_tensor_dtype(np.dtype(attributes[name]))
    while arrays and arrays[-1] is None:
        arrays.pop()
    return _run(given, arrays, attributes, [helper.np_dtype_to_tensor_dtype(y.dtype) for y in ours(given)])


def _resize_inputs(attributes: dict[str, Any], x: np.ndarray) -> list[np.ndarray | None]:
    sizes, scales = attributes.pop("sizes"), attributes.pop("scales", ())
    roi = np.array(attributes.pop("roi"), np.float32) if "roi" in attributes else None
    if scales:
        return [roi, np.array(scales, np.float32)]
    return [roi, None, np.array(sizes, np.int64)]


def _run(
    given: Case, arrays: list[np.ndarray | None], attributes: dict[str, Any], dtypes: list[int]
) -> list[np.ndarray]:
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    fed = {name: a for name, a in zip(names, arrays, strict=True) if a is not None}
    outputs = [f"y{i}" for i in range(len(dtypes))]
    node = helper.make_node(given.op, names, outputs, **attributes)
    # what decides shapes is given as an initializer: some kernels demand a constant there
    dynamic = {n: a for n, a in fed.items() if int(n[1:]) < len(given.inputs) and given.op != "OneHot"}
    fixed = [numpy_helper.from_array(a, n) for n, a in fed.items() if n not in dynamic]
    value = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in dynamic.items()
    ]
    wanted = [helper.make_tensor_value_info(n, dtype, None) for n, dtype in zip(outputs, dtypes, strict=True)]
    opset = OPSETS.get(given.op, OPSET)
    graph = helper.make_graph([node], "one", value, wanted, fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if given.op in REFERENCE or (given.op == "Gelu" and given.inputs[0].dtype == np.float64):
        return list(ReferenceEvaluator(model).run(None, dynamic))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dynamic)]


def ours(given: Case, inputs: tuple[np.ndarray | None, ...] | None = None) -> tuple[np.ndarray, ...]:
    """Runs the case by the row: shape rule, then meaning (evaluate_node compares the two)."""
    arrays = given.inputs if inputs is None else inputs
    types = tuple(None if a is None else TensorType(str(a.dtype), a.shape) for a in arrays)
    names = tuple(f"x{i}" if a is not None else "" for i, a in enumerate(arrays))
    n_outputs = 2 if given.op == "TopK" else len(given.attributes["sizes"]) if given.op == "Split" else 1
    node = Node(given.op, names, tuple(f"y{i}" for i in range(n_outputs)), given.attributes)
    return evaluate_node(node, arrays, types, infer_types(node, types))


@pytest.mark.parametrize("given", CASES, ids=lambda c: c.label[:110])
def test_row_means_what_onnx_means(given: Case) -> None:
    expected = onnx_result(given)
    found = ours(given)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert (f.dtype, f.shape) == (e.dtype, e.shape)
        if f.dtype.kind == "f":
            np.testing.assert_allclose(f, e, rtol=given.tolerance, atol=given.tolerance)
        else:
            np.testing.assert_array_equal(f, e)


def test_every_row_has_a_case() -> None:
    ours_only = {name for name in op_names() if find_op(name, "test").infer.__module__.startswith("pimloom.ir.ops.")}
    assert ours_only == {c.op for c in CASES}
