"""Residual networks: ResNet-18, -34 and -50."""

from __future__ import annotations

from collections.abc import Callable

from pimloom.frontends.zoo.layers import batch_norm, classify, conv, max_pool
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

STAGE_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4
BRANCH_SCALE = 0.3  # of the last batch norm of a branch: sixteen blocks may not multiply the variance
SHORTCUT_GAIN = 1.2  # of a projecting shortcut: below ReLU's 1.41, to make up for the growth along a stage


def _basic(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    y = conv(b, x, f"{name}.conv1", channels, 3, stride=stride)
    y = b.add("Relu", batch_norm(b, y, f"{name}.bn1"), name=f"{name}.relu1")
    y = conv(b, y, f"{name}.conv2", channels, 3)
    return batch_norm(b, y, f"{name}.bn2", scale=BRANCH_SCALE)


def _bottleneck(b: GraphBuilder, x: str, name: str, channels: int, stride: int) -> str:
    y = conv(b, x, f"{name}.conv1", channels, 1)
    y = b.add("Relu", batch_norm(b, y, f"{name}.bn1"), name=f"{name}.relu1")
    y = conv(b, y, f"{name}.conv2", channels, 3, stride=stride)
    y = b.add("Relu", batch_norm(b, y, f"{name}.bn2"), name=f"{name}.relu2")
    y = conv(b, y, f"{name}.conv3", channels * BOTTLENECK_EXPANSION, 1)
    return batch_norm(b, y, f"{name}.bn3", scale=BRANCH_SCALE)


Branch = Callable[[GraphBuilder, str, str, int, int], str]


def _block(b: GraphBuilder, x: str, name: str, branch: Branch, channels: int, stride: int) -> str:
    """Branch plus shortcut; the shortcut projects where the branch changes size or channels."""
    y = branch(b, x, name, channels, stride)
    shortcut = x
    if b.type_of(y) != b.type_of(x):
        out_channels = b.type_of(y).shape[1]
        shortcut = conv(b, x, f"{name}.downsample.0", out_channels, 1, stride=stride, gain=SHORTCUT_GAIN)
        shortcut = batch_norm(b, shortcut, f"{name}.downsample.1")
    return b.add("Relu", b.add("Add", y, shortcut, name=f"{name}.add"), name=f"{name}.relu")


def _resnet(name: str, branch: Branch, repeats: tuple[int, ...]) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = conv(b, b.input("image", (1, 3, 224, 224)), "conv1", 64, 7, stride=2, gain=1.0)
        x = b.add("Relu", batch_norm(b, x, "bn1"), name="relu")
        x = max_pool(b, x, "maxpool", 3, stride=2, pad=1)
        for stage, (channels, n_blocks) in enumerate(zip(STAGE_CHANNELS, repeats, strict=True), start=1):
            for place in range(n_blocks):
                stride = 2 if place == 0 and stage > 1 else 1
                x = _block(b, x, f"layer{stage}.{place}", branch, channels, stride)
        return b.finish(classify(b, x, "fc"))

    return build


_HE = "He et al., Deep residual learning for image recognition, CVPR 2016; torchvision"

MODELS = table(
    (
        Model(
            "resnet18",
            _resnet("resnet18", _basic, (2, 2, 2, 2)),
            "Residual network of eight blocks of two 3x3 convolutions.",
            f"{_HE} resnet18",
            "cnn",
            parameters=11_689_512,
            macs=1_814_000_000,
        ),
        Model(
            "resnet34",
            _resnet("resnet34", _basic, (3, 4, 6, 3)),
            "Residual network of sixteen blocks of two 3x3 convolutions.",
            f"{_HE} resnet34",
            "cnn",
            parameters=21_797_672,
            macs=3_664_000_000,
        ),
        Model(
            "resnet50",
            _resnet("resnet50", _bottleneck, (3, 4, 6, 3)),
            "Residual network of sixteen bottlenecks (1x1, 3x3, 1x1), stride in the 3x3.",
            f"{_HE} resnet50",
            "cnn",
            parameters=25_557_032,
            macs=4_089_000_000,
        ),
    )
)
