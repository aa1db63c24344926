"""Networks of parallel branches joined by concatenation: GoogLeNet, Inception v3, SqueezeNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from pimloom.frontends.zoo.layers import GAIN, Pair, average_pool, batch_norm, classify, conv, max_pool
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

EPSILON = 0.001  # of batch norm, in both Inception networks
AFTER_MAX = 1.15  # gain of convolutions whose input a 3x3 max pool has made larger
AFTER_MEAN = 1.6  # gain of convolutions whose input a 3x3 average pool has made smaller
LOGIT_GAIN = 5.0  # of SqueezeNet's last convolution: the ReLU and the global mean behind it take most away


@final
@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution, batch norm, ReLU; padded to keep the size unless `valid`."""

    channels: int
    kernel: Pair = 1
    stride: int = 1
    valid: bool = False
    gain: float = GAIN["relu"]


@final
@dataclass(frozen=True, slots=True)
class MaxPool:
    """Max pool; by default the one that keeps the size."""

    kernel: int = 3
    stride: int = 1
    pad: int = 1
    ceil: bool = False


@final
@dataclass(frozen=True, slots=True)
class AveragePool:
    """Average pool over 3x3 that keeps the size."""


@final
@dataclass(frozen=True, slots=True)
class Fork:
    """Branches on the same input, concatenated; also a whole inception block."""

    branches: tuple[tuple[Step, ...], ...]


Step = Conv | MaxPool | AveragePool | Fork


def _fork(*branches: Step | tuple[Step, ...]) -> Fork:
    return Fork(tuple(branch if isinstance(branch, tuple) else (branch,) for branch in branches))


def _add_step(b: GraphBuilder, x: str, name: str, step: Step) -> str:
    if isinstance(step, Fork):
        ends = [_add_steps(b, x, f"{name}.{place}", branch) for place, branch in enumerate(step.branches)]
        return b.add("Concat", *ends, name=f"{name}.concat", axis=1)
    if isinstance(step, MaxPool):
        return max_pool(b, x, f"{name}.pool", step.kernel, stride=step.stride, pad=step.pad, ceil=step.ceil)
    if isinstance(step, AveragePool):
        return average_pool(b, x, f"{name}.pool", 3, stride=1, pad=1)
    pad = 0 if step.valid else None
    x = conv(b, x, f"{name}.conv", step.channels, step.kernel, stride=step.stride, pad=pad, gain=step.gain)
    return b.add("Relu", batch_norm(b, x, f"{name}.bn", epsilon=EPSILON), name=f"{name}.relu")


def _add_steps(b: GraphBuilder, x: str, name: str, steps: tuple[Step, ...]) -> str:
    for place, step in enumerate(steps):
        x = _add_step(b, x, f"{name}.{place}", step)
    return x


def _network(name: str, side: int, steps: tuple[Step, ...]) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = _add_steps(b, b.input("image", (1, 3, side, side)), "features", steps)
        return b.finish(classify(b, x, "fc"))

    return build


def _googlenet_block(direct: int, reduce3: int, out3: int, reduce5: int, out5: int, projection: int) -> Fork:
    """One inception block; the branch called 5x5 has a 3x3 kernel in torchvision, and in its published weights."""
    return _fork(
        Conv(direct),
        (Conv(reduce3), Conv(out3, 3)),
        (Conv(reduce5), Conv(out5, 3)),
        (MaxPool(ceil=True), Conv(projection, gain=AFTER_MAX)),
    )


_HALVE = MaxPool(3, stride=2, pad=0, ceil=True)

GOOGLENET: tuple[Step, ...] = (
    Conv(64, 7, stride=2, gain=1.0),
    _HALVE,
    Conv(64, gain=AFTER_MAX),
    Conv(192, 3),
    _HALVE,
    _googlenet_block(64, 96, 128, 16, 32, 32),
    _googlenet_block(128, 128, 192, 32, 96, 64),
    _HALVE,
    _googlenet_block(192, 96, 208, 16, 48, 64),
    _googlenet_block(160, 112, 224, 24, 64, 64),
    _googlenet_block(128, 128, 256, 24, 64, 64),
    _googlenet_block(112, 144, 288, 32, 64, 64),
    _googlenet_block(256, 160, 320, 32, 128, 128),
    MaxPool(2, stride=2, pad=0, ceil=True),
    _googlenet_block(256, 160, 320, 32, 128, 128),
    _googlenet_block(384, 192, 384, 48, 128, 128),
)


def _block_a(pooled: int) -> Fork:
    return _fork(
        Conv(64),
        (Conv(48), Conv(64, 5)),
        (Conv(64), Conv(96, 3), Conv(96, 3)),
        (AveragePool(), Conv(pooled, gain=AFTER_MEAN)),
    )


def _block_c(narrow: int) -> Fork:
    row, column = (1, 7), (7, 1)
    return _fork(
        Conv(192),
        (Conv(narrow), Conv(narrow, row), Conv(192, column)),
        (Conv(narrow), Conv(narrow, column), Conv(narrow, row), Conv(narrow, column), Conv(192, row)),
        (AveragePool(), Conv(192, gain=AFTER_MEAN)),
    )


def _block_e() -> Fork:
    both = _fork(Conv(384, (1, 3)), Conv(384, (3, 1)))
    return _fork(
        Conv(320),
        (Conv(384), both),
        (Conv(448), Conv(384, 3), both),
        (AveragePool(), Conv(192, gain=AFTER_MEAN)),
    )


def _half(channels: int) -> Conv:
    return Conv(channels, 3, stride=2, valid=True)


_SHRINK = MaxPool(3, stride=2, pad=0)
_BLOCK_B = _fork(_half(384), (Conv(64), Conv(96, 3), _half(96)), _SHRINK)
_BLOCK_D = _fork((Conv(192), _half(320)), (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), _half(192)), _SHRINK)

INCEPTION_V3: tuple[Step, ...] = (
    Conv(32, 3, stride=2, valid=True, gain=1.0),
    Conv(32, 3, valid=True),
    Conv(64, 3),
    _SHRINK,
    Conv(80, gain=AFTER_MAX),
    Conv(192, 3, valid=True),
    _SHRINK,
    _block_a(32),
    _block_a(64),
    _block_a(64),
    _BLOCK_B,
    _block_c(128),
    _block_c(160),
    _block_c(160),
    _block_c(192),
    _BLOCK_D,
    _block_e(),
    _block_e(),
)

# SqueezeNet: (squeeze channels, expand channels of each kernel) of a fire module; None is a max pool.
_FIRE_ROWS = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
SQUEEZENET_1_0 = (None, *_FIRE_ROWS[:3], None, *_FIRE_ROWS[3:7], None, *_FIRE_ROWS[7:])
SQUEEZENET_1_1 = (None, *_FIRE_ROWS[:2], None, *_FIRE_ROWS[2:4], None, *_FIRE_ROWS[4:])


def _relu_conv(b: GraphBuilder, x: str, name: str, channels: int, kernel: int, gain: float = GAIN["relu"]) -> str:
    return b.add("Relu", conv(b, x, name, channels, kernel, bias=True, gain=gain), name=f"{name}.relu")


def _fire(b: GraphBuilder, x: str, name: str, squeeze: int, expand: int, gain: float) -> str:
    x = _relu_conv(b, x, f"{name}.squeeze", squeeze, 1, gain)
    ends = (_relu_conv(b, x, f"{name}.expand1x1", expand, 1), _relu_conv(b, x, f"{name}.expand3x3", expand, 3))
    return b.add("Concat", *ends, name=f"{name}.concat", axis=1)


def _squeezenet(
    name: str, channels: int, kernel: int, rows: tuple[tuple[int, int] | None, ...]
) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        image = b.input("image", (1, 3, 224, 224))
        x = conv(b, image, "features.0", channels, kernel, stride=2, pad=0, bias=True, gain=1.0)
        x = b.add("Relu", x, name="features.0.relu")
        gain = GAIN["relu"]
        for place, row in enumerate(rows, start=1):
            if row is None:
                x = max_pool(b, x, f"features.{place}.pool", 3, stride=2, ceil=True)
                gain = AFTER_MAX
            else:
                x = _fire(b, x, f"features.{place}", *row, gain)
                gain = GAIN["relu"]
        x = _relu_conv(b, x, "classifier", 1000, 1, LOGIT_GAIN)
        x = b.add("GlobalAveragePool", x, name="avgpool")
        return b.finish(b.add("Flatten", x, name="logits", axis=1))

    return build


_SZEGEDY = "Szegedy et al."
_IANDOLA = "Iandola et al., SqueezeNet, arXiv:1602.07360, 2016; torchvision"

MODELS = table(
    (
        Model(
            "googlenet",
            _network("googlenet", 224, GOOGLENET),
            "Inception network of nine blocks, with batch norm and without auxiliary classifiers.",
            f"{_SZEGEDY}, Going deeper with convolutions, CVPR 2015; torchvision googlenet",
            "cnn",
            parameters=6_624_904,
            macs=1_498_000_000,
        ),
        Model(
            "inception_v3",
            _network("inception_v3", 299, INCEPTION_V3),
            "Inception network with factorised 7x7 and 3x3 convolutions, without the auxiliary classifier.",
            f"{_SZEGEDY}, Rethinking the inception architecture, CVPR 2016; torchvision inception_v3",
            "cnn",
            frozenset({"large"}),
            parameters=23_834_568,
            macs=5_713_000_000,
        ),
        Model(
            "squeezenet",
            _squeezenet("squeezenet", 96, 7, SQUEEZENET_1_0),
            "SqueezeNet 1.0: 26 convolutions, squeeze and expand, no fully connected layer.",
            f"{_IANDOLA} squeezenet1_0",
            "cnn",
            parameters=1_248_424,
            macs=819_000_000,
        ),
        Model(
            "squeezenet1_1",
            _squeezenet("squeezenet1_1", 64, 3, SQUEEZENET_1_1),
            "SqueezeNet 1.1: 2.3 times fewer multiplications than 1.0 by earlier pooling.",
            f"{_IANDOLA} squeezenet1_1",
            "cnn",
            parameters=1_235_496,
            macs=349_000_000,
        ),
    )
)
