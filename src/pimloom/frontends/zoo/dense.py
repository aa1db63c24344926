"""Densely connected networks: every layer reads the outputs of all earlier layers of its block."""

from __future__ import annotations

from pimloom.frontends.zoo.layers import average_pool, batch_norm, classify, conv, max_pool
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

STEM = 64
GROWTH = 32
BOTTLENECK = 4 * GROWTH
BLOCKS = (6, 12, 24, 16)
TRANSITION_GAIN = 1.5  # a little above ReLU's 1.41: the 2x2 average behind the convolution takes some away


def _norm_relu(b: GraphBuilder, x: str, name: str) -> str:
    return b.add("Relu", batch_norm(b, x, f"{name}.norm"), name=f"{name}.relu")


def _dense_layer(b: GraphBuilder, features: list[str], name: str) -> str:
    x = b.add("Concat", *features, name=f"{name}.concat", axis=1) if len(features) > 1 else features[0]
    x = conv(b, _norm_relu(b, x, f"{name}.1"), f"{name}.conv1", BOTTLENECK, 1)
    return conv(b, _norm_relu(b, x, f"{name}.2"), f"{name}.conv2", GROWTH, 3)


def _dense_block(b: GraphBuilder, x: str, name: str, n_layers: int) -> str:
    features = [x]
    for layer in range(n_layers):
        features.append(_dense_layer(b, features, f"{name}.{layer}"))
    return b.add("Concat", *features, name=f"{name}.concat", axis=1)


def _transition(b: GraphBuilder, x: str, name: str) -> str:
    half = b.type_of(x).shape[1] // 2
    x = conv(b, _norm_relu(b, x, name), f"{name}.conv", half, 1, gain=TRANSITION_GAIN)
    return average_pool(b, x, f"{name}.pool", 2, stride=2)


def _densenet121(seed: int) -> Graph:
    b = GraphBuilder("densenet121", seed)
    x = conv(b, b.input("image", (1, 3, 224, 224)), "conv0", STEM, 7, stride=2, gain=1.0)
    x = max_pool(b, _norm_relu(b, x, "stem"), "pool0", 3, stride=2, pad=1)
    for place, n_layers in enumerate(BLOCKS, start=1):
        x = _dense_block(b, x, f"block{place}", n_layers)
        if place < len(BLOCKS):
            x = _transition(b, x, f"transition{place}")
    return b.finish(classify(b, _norm_relu(b, x, "final"), "classifier"))


MODELS = table(
    (
        Model(
            "densenet121",
            _densenet121,
            "Densely connected network of 58 layers in four blocks, growth 32.",
            "Huang et al., Densely connected convolutional networks, CVPR 2017; torchvision densenet121",
            "cnn",
            parameters=7_978_856,
            macs=2_834_000_000,
        ),
    )
)
