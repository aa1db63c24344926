"""Small networks with every shape of work that a crossbar compiler must get right, and their quantised forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from pimloom.frontends.zoo import ZOO, build, input_example
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph
from pimloom.ir.integer import encode
from pimloom.passes import default_pipeline

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[[GraphBuilder], tuple[str, ...]]


def conv(b: GraphBuilder, x: str, channels: int, kernel: tuple[int, ...] = (3, 3), *, group: int = 1, **attributes: Any) -> str:
    """A convolution with a bias; padded to keep the size if no pads are given."""
    attributes.setdefault("pads", tuple(k // 2 for k in kernel) * 2)
    weight = b.seeded("w", (channels, b.type_of(x).shape[1] // group, *kernel), std=0.4)
    return b.add("Conv", x, weight, b.seeded("b", (channels,), std=0.3), kernel_shape=kernel, group=group, **attributes)


def linear(b: GraphBuilder, x: str, width: int) -> str:
    """A product with a constant and a bias."""
    weight = b.seeded("w", (b.type_of(x).shape[-1], width), std=0.4)
    return b.add("Add", b.add("MatMul", x, weight), b.seeded("b", (width,), std=0.2))


def image(b: GraphBuilder, channels: int = 4, height: int = 7, width: int = 6, images: int = 1) -> str:
    """An input image."""
    return b.input("x", (images, channels, height, width))


def _dilated(b: GraphBuilder) -> tuple[str, ...]:
    return (conv(b, image(b, 3, 9, 8), 5, (3, 3), dilations=(2, 2), pads=(2, 2, 2, 2)),)


def _grouped(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b, 8), 16, group=4)
    return (conv(b, b.add("Relu", h), 8, (1, 1), group=2),)


def _depthwise(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b, 6), 12, (1, 1))
    h = conv(b, b.add("Relu", h), 12, (3, 3), group=12, strides=(2, 2))
    return (conv(b, h, 5, (1, 1)),)


def _wide_depthwise(b: GraphBuilder) -> tuple[str, ...]:
    """Channels for several slices of a depthwise stage."""
    h = conv(b, image(b, 6), 72, (1, 1))
    h = conv(b, b.add("Relu", h), 72, (3, 3), group=72)
    return (conv(b, h, 5, (1, 1)),)


def _multiplier(b: GraphBuilder) -> tuple[str, ...]:
    return (conv(b, image(b, 6), 12, (3, 3), group=6),)


def _asymmetric(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b), 6, (2, 3), pads=(1, 0, 0, 2))
    return (conv(b, h, 4, (4, 2), pads=(0, 2, 3, 1), strides=(2, 1)),)


def _strided(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b, 3, 11, 9), 6, (3, 3), strides=(2, 3), pads=(1, 1, 1, 1))
    return (conv(b, b.add("Relu", h), 4, (1, 1), strides=(2, 2)),)


def _ceil_pool(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b), 5)
    h = b.add("MaxPool", h, kernel_shape=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1), ceil_mode=1)
    return (b.add("AveragePool", h, kernel_shape=(2, 2), strides=(2, 2), ceil_mode=1),)


def _average_pool(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b), 5))
    y = b.add("AveragePool", h, kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 1))
    z = b.add("AveragePool", h, kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1)
    return y, z


def _one_d(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, b.input("x", (1, 4, 19)), 6, (5,), strides=(2,), pads=(2, 1))
    h = b.add("MaxPool", b.add("Relu", h), kernel_shape=(2,), strides=(2,))
    return (conv(b, h, 5, (3,)),)


def _images(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b, 3, 5, 6, images=3), 6))
    h = b.add("MaxPool", conv(b, h, 4, (3, 3)), kernel_shape=(2, 2), strides=(2, 2))
    return (b.add("Flatten", h, axis=1),)


def _concat_split_slice(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b), 10)
    first, second, third = b.add_many("Split", h, outputs=3, axis=1, sizes=(3, 5, 2))
    h = b.add("Concat", second, conv(b, first, 4), third, axis=1)
    h = b.add("Slice", h, starts=(2,), ends=(9,), axes=(1,), steps=(1,))
    return conv(b, h, 5, (1, 1)), h


def _dense_block(b: GraphBuilder) -> tuple[str, ...]:
    h = image(b)
    for _ in range(3):
        h = b.add("Concat", h, b.add("Relu", conv(b, h, 3)), axis=1)
    return (h,)


def _squeeze_excite(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b), 8))
    s = conv(b, b.add("GlobalAveragePool", h), 4, (1, 1))
    s = b.add("Sigmoid", conv(b, b.add("Relu", s), 8, (1, 1)))
    return (conv(b, b.add("Mul", h, s), 4, (1, 1)),)


def _even_mean(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b, 3, 6, 5), 4))
    return (b.add("Mul", h, b.add("Sigmoid", b.add("GlobalAveragePool", h))),)


def _residual(b: GraphBuilder) -> tuple[str, ...]:
    x = image(b)
    h = b.add("Relu", b.add("Add", conv(b, x, 4), x))
    h = b.add("Add", h, b.seeded("offset", (1, 4, 1, 1)))
    h = b.add("Mul", b.seeded("scale", (1, 4, 1, 1)), h)
    return (b.add("Sub", h, b.add("Tanh", conv(b, h, 4, (1, 1)))),)


def _full_constant(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b), 4)
    return (b.add("Add", b.add("Relu", h), b.seeded("map", (1, 4, 7, 6))),)


def _softmax_norm(b: GraphBuilder) -> tuple[str, ...]:
    h = linear(b, b.input("x", (1, 18, 12)), 16)
    h = b.add("LayerNormalization", h, b.seeded("g", (16,), mean=1.0, std=0.2), b.seeded("o", (16,), std=0.1), axis=-1)
    return (b.add("Softmax", linear(b, b.add("Gelu", h), 9), axis=-1),)


def _attention(b: GraphBuilder) -> tuple[str, ...]:
    x = b.input("x", (1, 6, 8))
    q, k, v = (linear(b, x, 8) for _ in range(3))
    p = b.add("Softmax", b.add("MatMul", q, b.add("Transpose", k, perm=(0, 2, 1))), axis=-1)
    return (b.add("Add", linear(b, b.add("MatMul", p, v), 8), x),)


def _transposed(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b, 3, 4, 5), 5))
    weight = b.seeded("w", (5, 4, 3, 3), std=0.4)
    h = b.add("ConvTranspose", h, weight, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1))
    return (conv(b, h, 3),)


def _resized(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b, 3, 4, 5), 5)
    h = b.add("Resize", h, sizes=(1, 5, 8, 10), scales=(1.0, 1.0, 2.0, 2.0), mode="nearest",
              coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    return (conv(b, h, 3),)


def _three_way_sum(b: GraphBuilder) -> tuple[str, ...]:
    x = image(b)
    return (b.add("Sum", conv(b, x, 4), conv(b, x, 4, (1, 1)), x),)


def _wide(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", linear(b, b.input("x", (1, 700)), 90))
    return (linear(b, h, 40),)


def _wide_conv(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("Relu", conv(b, image(b, 40, 4, 4), 70))
    return (conv(b, h, 6, (1, 1)),)


def _shared_weight(b: GraphBuilder) -> tuple[str, ...]:
    x = b.input("x", (1, 12))
    weight, h = b.seeded("w", (12, 12), std=0.3), x
    for _ in range(3):
        h = b.add("Tanh", b.add("Add", b.add("MatMul", h, weight), x))
    return (h,)


def _fork(b: GraphBuilder) -> tuple[str, ...]:
    x = image(b)
    h = b.add("Relu", conv(b, x, 6))
    return conv(b, h, 3, (5, 5)), b.add("MaxPool", h, kernel_shape=(3, 3), strides=(3, 3)), b.add("Sigmoid", x)


def _single_pixel(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b, 5, 1, 1), 7, (1, 1))
    return (conv(b, b.add("Relu", h), 3, (3, 3)),)


def _global_max(b: GraphBuilder) -> tuple[str, ...]:
    h = b.add("GlobalMaxPool", conv(b, image(b), 6))
    return (b.add("Flatten", h, axis=1),)


def _shuffle(b: GraphBuilder) -> tuple[str, ...]:
    h = conv(b, image(b), 8, (1, 1), group=2)
    h = b.add("Reshape", h, shape=(1, 2, 4, 7, 6))
    h = b.add("Reshape", b.add("Transpose", h, perm=(0, 2, 1, 3, 4)), shape=(1, 8, 7, 6))
    return (conv(b, h, 4),)


def _two_inputs(b: GraphBuilder) -> tuple[str, ...]:
    x, y = image(b), b.input("y", (1, 3, 7, 6))
    h = b.add("Concat", x, y, axis=1)
    return (b.add("Mul", conv(b, h, 5), b.add("Sigmoid", conv(b, y, 5, (1, 1)))),)


MADE: Mapping[str, Make] = {
    "dilated": _dilated, "grouped": _grouped, "depthwise": _depthwise, "wide depthwise": _wide_depthwise,
    "multiplier": _multiplier, "asymmetric pads": _asymmetric,
    "strided": _strided, "ceil-mode pools": _ceil_pool, "average pools": _average_pool, "1d": _one_d, "three images": _images,
    "concat split slice": _concat_split_slice, "dense block": _dense_block, "squeeze excite": _squeeze_excite, "even mean": _even_mean,
    "residual": _residual, "full constant": _full_constant, "softmax norm": _softmax_norm, "attention": _attention,
    "transposed": _transposed, "resized": _resized, "three-way sum": _three_way_sum, "wide": _wide, "wide conv": _wide_conv,
    "shared weight": _shared_weight, "fork": _fork, "single pixel": _single_pixel, "global max": _global_max,
    "shuffle": _shuffle, "two inputs": _two_inputs,
}  # fmt: skip
"""Networks made here, by name."""

TINY = tuple(name for name, model in ZOO.items() if "tiny" in model.tags)
"""Tiny networks of the zoo."""


@cache
def network(name: str) -> Graph:
    """A float network by name: made here or from the zoo."""
    if name not in MADE:
        return build(name)
    b = GraphBuilder(name.replace(" ", "_"), seed=7)
    return b.finish(*MADE[name](b))


@cache
def quantised(name: str, weight_bits: int = 8, activation_bits: int = 8) -> Graph:
    """The quantised form of a network."""
    graph = network(name)
    return quantise(graph, weight_bits, activation_bits)


def quantise(graph: Graph, weight_bits: int = 8, activation_bits: int = 8) -> Graph:
    """Quantises with one example as calibration."""
    return default_pipeline(weight_bits, activation_bits, (input_example(graph),))(graph)


def codes(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Codes of example inputs of a quantised graph."""
    example = input_example(graph, seed)
    types = {v: graph.types[v] for v in graph.inputs}
    return {v: encode(example[v], t) if t.quant else example[v].astype(t.dtype) for v, t in types.items()}
