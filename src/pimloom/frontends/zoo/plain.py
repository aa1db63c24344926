"""Networks without branches: LeNet-5, AlexNet, VGG, a multi-layer perceptron; and the tiny CNN for tests."""

from __future__ import annotations

from collections.abc import Callable

from pimloom.frontends.zoo.layers import GAIN, conv, gemm, max_pool
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

# A row is (channels, kernel, stride, pad) of a convolution with ReLU, or (kernel, stride) of a max pool.
ConvRow = tuple[int, int, int, int]
PoolRow = tuple[int, int]
Row = ConvRow | PoolRow

AFTER_POOL = 1.2  # gain of a layer whose input a max pool has made larger

LENET: tuple[Row, ...] = ((6, 5, 1, 2), (2, 2), (16, 5, 1, 0), (2, 2))
ALEXNET: tuple[Row, ...] = (
    (64, 11, 4, 2), (3, 2), (192, 5, 1, 2), (3, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), (3, 2),
)  # fmt: skip
VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def _vgg_rows(stages: tuple[tuple[int, int], ...]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for channels, repeats in stages:
        rows += [(channels, 3, 1, 1)] * repeats
        rows.append((2, 2))
    return tuple(rows)


def _features(b: GraphBuilder, x: str, rows: tuple[Row, ...]) -> str:
    for place, row in enumerate(rows):
        name = f"features.{place}"
        if len(row) == 2:
            x = max_pool(b, x, f"{name}.pool", row[0], stride=row[1])
            continue
        channels, kernel, stride, pad = row
        gain = GAIN["linear"] if place == 0 else AFTER_POOL if len(rows[place - 1]) == 2 else GAIN["relu"]
        x = conv(b, x, name, channels, kernel, stride=stride, pad=pad, bias=True, gain=gain)
        x = b.add("Relu", x, name=f"{name}.relu")
    return x


def _fully_connected(b: GraphBuilder, x: str, widths: tuple[int, ...], gain: float = GAIN["relu"]) -> str:
    for place, width in enumerate(widths):
        x = gemm(b, x, f"classifier.{place}", width, gain=gain if place == 0 else GAIN["relu"])
        if place < len(widths) - 1:
            x = b.add("Relu", x, name=f"classifier.{place}.relu")
    return x


def _plain(name: str, image: tuple[int, ...], rows: tuple[Row, ...], widths: tuple[int, ...]) -> Callable[[int], Graph]:
    """Builder of a chain of convolutions and pools, then fully connected layers."""

    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = _features(b, b.input("image", image), rows)
        x = b.add("Flatten", x, name="flatten", axis=1)
        return b.finish(_fully_connected(b, x, widths, AFTER_POOL))

    return build


def _tiny_mlp(seed: int) -> Graph:
    b = GraphBuilder("tiny_mlp", seed)
    return b.finish(_fully_connected(b, b.input("x", (1, 16)), (32, 24, 10), GAIN["linear"]))


def _tiny_cnn(seed: int) -> Graph:
    b = GraphBuilder("tiny_cnn", seed)
    x = conv(b, b.input("image", (1, 3, 8, 8)), "conv1", 8, 3, bias=True, gain=1.0)
    x = b.add("Relu", x, name="relu1")
    y = conv(b, x, "conv2", 8, 3, bias=True)
    y = b.add("Relu", y, name="relu2")
    y = conv(b, y, "conv3", 8, 3, bias=True, gain=0.7)
    y = b.add("Relu", b.add("Add", y, x, name="add"), name="relu3")
    y = b.add("Flatten", max_pool(b, y, "pool", 2, stride=2), name="flatten", axis=1)
    return b.finish(gemm(b, y, "fc", 10, gain=0.8))


IMAGE = (1, 3, 224, 224)
_KRIZHEVSKY = "Krizhevsky, arXiv:1404.5997 (one weird trick), 2014; torchvision alexnet"
_SIMONYAN = "Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015; torchvision"

MODELS = table(
    (
        Model(
            "lenet",
            _plain("lenet", (1, 1, 28, 28), LENET, (120, 84, 10)),
            "LeNet-5 on 28x28 digits, with ReLU and max pooling as it is trained today.",
            "LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 1998",
            "cnn",
            frozenset({"small"}),
            parameters=61_706,
            macs=416_520,
        ),
        Model(
            "alexnet",
            _plain("alexnet", IMAGE, ALEXNET, (4096, 4096, 1000)),
            "AlexNet in its one-GPU form: five convolutions, most weights in the fully connected layers.",
            _KRIZHEVSKY,
            "cnn",
            parameters=61_100_840,
            macs=714_000_000,
        ),
        Model(
            "vgg16",
            _plain("vgg16", IMAGE, _vgg_rows(VGG16_STAGES), (4096, 4096, 1000)),
            "VGG with 13 convolutions and 3 fully connected layers.",
            f"{_SIMONYAN} vgg16",
            "cnn",
            frozenset({"large"}),
            parameters=138_357_544,
            macs=15_470_000_000,
        ),
        Model(
            "vgg19",
            _plain("vgg19", IMAGE, _vgg_rows(VGG19_STAGES), (4096, 4096, 1000)),
            "VGG with 16 convolutions and 3 fully connected layers.",
            f"{_SIMONYAN} vgg19",
            "cnn",
            frozenset({"large"}),
            parameters=143_667_240,
            macs=19_632_000_000,
        ),
        Model(
            "tiny_cnn",
            _tiny_cnn,
            "Three convolutions with a residual addition, a pool and a fully connected layer, for tests.",
            "pimloom",
            "cnn",
            frozenset({"tiny", "small"}),
        ),
        Model(
            "tiny_mlp",
            _tiny_mlp,
            "Three fully connected layers, 16-32-24-10, for tests.",
            "pimloom",
            "mlp",
            frozenset({"tiny", "small"}),
        ),
    )
)
