"""Layers that the networks share: each adds a few nodes and their seeded weights to a GraphBuilder.

Weights are drawn with std = gain / sqrt(fan_in). The gain undoes what the activation before the layer takes away, so
that a value's spread neither vanishes nor explodes with depth (He et al., ICCV 2015): for z ~ N(0, 1),

    gain(f) = 1 / sqrt(E[f(z)^2])
"""

from __future__ import annotations

import math

import numpy as np

from pimloom.ir.builder import GraphBuilder

GAIN = {"linear": 1.0, "relu": math.sqrt(2.0), "silu": 1.676, "gelu": 1.534}

BIAS_STD = 0.05
BATCH_NORM_STD = 0.1  # relative spread of scale and variance, absolute spread of shift and mean

Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
    """A size given once for both axes, or once per axis."""
    return (value, value) if isinstance(value, int) else value


def conv(
    b: GraphBuilder,
    x: str,
    name: str,
    channels: int,
    kernel: Pair,
    *,
    stride: Pair = 1,
    pad: Pair | None = None,
    groups: int = 1,
    bias: bool = False,
    gain: float = GAIN["relu"],
) -> str:
    """Two-dimensional convolution of float32[n, c, h, w]; by default padded to keep the size at stride 1."""
    kernel_h, kernel_w = pair(kernel)
    pad_h, pad_w = (kernel_h // 2, kernel_w // 2) if pad is None else pair(pad)
    inputs_per_group = b.type_of(x).shape[1] // groups
    shape = (channels, inputs_per_group, kernel_h, kernel_w)
    weight = b.seeded(f"{name}.weight", shape, std=gain / math.sqrt(inputs_per_group * kernel_h * kernel_w))
    biases = (b.seeded(f"{name}.bias", (channels,), std=BIAS_STD),) if bias else ()
    return b.add(
        "Conv", x, weight, *biases, name=name, kernel_shape=(kernel_h, kernel_w), strides=pair(stride),
        pads=(pad_h, pad_w, pad_h, pad_w), dilations=(1, 1), group=groups,
    )  # fmt: skip


def batch_norm(b: GraphBuilder, x: str, name: str, *, scale: float = 1.0, epsilon: float = 1e-5) -> str:
    """Batch normalisation with statistics near identity; `scale` damps the end of a residual branch."""
    channels = (b.type_of(x).shape[1],)
    return b.add(
        "BatchNormalization",
        x,
        b.seeded(f"{name}.weight", channels, mean=scale, std=BATCH_NORM_STD * scale),
        b.seeded(f"{name}.bias", channels, std=BATCH_NORM_STD * scale),
        b.seeded(f"{name}.running_mean", channels, std=BATCH_NORM_STD),
        b.seeded(f"{name}.running_var", channels, mean=1.0, std=BATCH_NORM_STD),
        name=name,
        epsilon=epsilon,
    )


def activate(b: GraphBuilder, x: str, name: str, kind: str) -> str:
    """One of relu, relu6, silu; "linear" adds nothing. SiLU is spelt as exporters spell it: x * Sigmoid(x)."""
    if kind == "linear":
        return x
    if kind == "relu":
        return b.add("Relu", x, name=name)
    if kind == "relu6":
        return b.add("Clip", x, name=name, min=0.0, max=6.0)
    return b.add("Mul", x, b.add("Sigmoid", x, name=f"{name}.gate"), name=name)


def max_pool(b: GraphBuilder, x: str, name: str, kernel: int, *, stride: int, pad: int = 0, ceil: bool = False) -> str:
    """Largest element of each window; `ceil` keeps the partial window at the end."""
    return b.add(
        "MaxPool", x, name=name, kernel_shape=(kernel, kernel), strides=(stride, stride), pads=(pad,) * 4,
        dilations=(1, 1), ceil_mode=int(ceil),
    )  # fmt: skip


def average_pool(b: GraphBuilder, x: str, name: str, kernel: int, *, stride: int, pad: int = 0) -> str:
    """Mean of each window; padding counts as zeros, as in PyTorch."""
    return b.add(
        "AveragePool", x, name=name, kernel_shape=(kernel, kernel), strides=(stride, stride), pads=(pad,) * 4,
        dilations=(1, 1), ceil_mode=0, count_include_pad=1,
    )  # fmt: skip


def gemm(b: GraphBuilder, x: str, name: str, features: int, *, gain: float = GAIN["relu"]) -> str:
    """Fully connected layer of float32[n, c], weights stored as PyTorch does: [features, c]."""
    fan_in = b.type_of(x).shape[1]
    weight = b.seeded(f"{name}.weight", (features, fan_in), std=gain / math.sqrt(fan_in))
    bias = b.seeded(f"{name}.bias", (features,), std=BIAS_STD)
    return b.add("Gemm", x, weight, bias, name=name, alpha=1.0, beta=1.0, transA=0, transB=1)


def linear(b: GraphBuilder, x: str, name: str, features: int, *, gain: float = 1.0, bias: bool = True) -> str:
    """Fully connected layer over the last axis of any rank: MatMul, then Add where there is a bias."""
    fan_in = b.type_of(x).shape[-1]
    weight = b.seeded(f"{name}.weight", (fan_in, features), std=gain / math.sqrt(fan_in))
    if not bias:
        return b.add("MatMul", x, weight, name=name)
    product = b.add("MatMul", x, weight, name=f"{name}.matmul")
    return b.add("Add", product, b.seeded(f"{name}.bias", (features,), std=BIAS_STD), name=name)


def classify(b: GraphBuilder, x: str, name: str, classes: int = 1000, *, gain: float = GAIN["relu"]) -> str:
    """Global average pool, then one fully connected layer."""
    pooled = b.add("GlobalAveragePool", x, name="avgpool")
    return gemm(b, b.add("Flatten", pooled, name="flatten", axis=1), name, classes, gain=gain)


def scalar(b: GraphBuilder, name: str, value: float) -> str:
    """A constant of rank 0."""
    return b.constant(name, np.array(value, np.float32))
