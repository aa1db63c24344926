"""Networks for small devices: MobileNet v2, MnasNet, EfficientNet (inverted residuals) and ShuffleNet v2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from pimloom.frontends.zoo.layers import GAIN, activate, batch_norm, classify, conv, max_pool
from pimloom.frontends.zoo.model import Model, table
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph

BRANCH_SCALE = 0.5  # of the last batch norm in a block that has a shortcut
SILU_GAIN = 1.6  # between that of SiLU at unit variance (1.68) and that of ReLU (1.41), which large values see
GATE = 0.6  # root mean square of a squeeze-and-excitation gate: the convolution behind it makes up for it
SQUEEZE_GAIN = 2.0  # of the first layer behind the channel means, which are smaller than the values


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """A run of inverted residual blocks; the stride belongs to the first.

    Attributes:
        expand: channels inside a block over channels that enter it; 1 leaves the expansion out.
        kernel: of the depthwise convolution.
        channels: that leave each block.
        repeats: number of blocks.
        stride: of the first block's depthwise convolution.
    """

    expand: int
    kernel: int
    channels: int
    repeats: int
    stride: int


@final
@dataclass(frozen=True, slots=True)
class Style:
    """What the inverted residual networks differ in.

    Attributes:
        activation: after expansion and depthwise convolution: relu, relu6 or silu.
        stem: channels of the first convolution.
        head: channels of the last 1x1 convolution.
        excite: whether blocks gate their channels (squeeze and excitation).
        logit_gain: of the classifier, so that scores have about unit variance.
    """

    activation: str
    stem: int
    head: int
    excite: bool = False
    logit_gain: float = GAIN["relu"]

    @property
    def gain(self) -> float:
        """Gain of a layer that follows the activation; SiLU is nearly ReLU for the larger values found here."""
        return SILU_GAIN if self.activation == "silu" else GAIN["relu"]


def _conv_norm(
    b: GraphBuilder, x: str, name: str, channels: int, kernel: int = 1, *,
    stride: int = 1, groups: int = 1, gain: float, activation: str = "linear", scale: float = 1.0,
) -> str:  # fmt: skip
    x = conv(b, x, f"{name}.conv", channels, kernel, stride=stride, groups=groups, gain=gain)
    return activate(b, batch_norm(b, x, f"{name}.bn", scale=scale), f"{name}.act", activation)


def _excite(b: GraphBuilder, x: str, name: str, squeezed: int) -> str:
    """Multiplies each channel by a gate that is computed from the means of all channels."""
    channels = b.type_of(x).shape[1]
    gate = b.add("GlobalAveragePool", x, name=f"{name}.mean")
    gate = conv(b, gate, f"{name}.fc1", squeezed, 1, bias=True, gain=SQUEEZE_GAIN)
    gate = activate(b, gate, f"{name}.act", "silu")
    gate = conv(b, gate, f"{name}.fc2", channels, 1, bias=True, gain=GAIN["linear"])
    return b.add("Mul", x, b.add("Sigmoid", gate, name=f"{name}.gate"), name=f"{name}.scaled")


def _inverted_residual(b: GraphBuilder, x: str, name: str, stage: Stage, style: Style, stride: int) -> str:
    """Expand, depthwise, gate, project; plus the input where size and channels allow."""
    entering = b.type_of(x).shape[1]
    inside = entering * stage.expand
    y = x
    if stage.expand != 1:
        y = _conv_norm(b, y, f"{name}.expand", inside, gain=GAIN["linear"], activation=style.activation)
    y = _conv_norm(b, y, f"{name}.depthwise", inside, stage.kernel, stride=stride, groups=inside,
                   gain=style.gain, activation=style.activation)  # fmt: skip
    gain = style.gain
    if style.excite:
        y = _excite(b, y, f"{name}.se", max(1, entering // 4))
        gain /= GATE
    has_shortcut = stride == 1 and entering == stage.channels
    scale = BRANCH_SCALE if has_shortcut else 1.0
    y = _conv_norm(b, y, f"{name}.project", stage.channels, gain=gain, scale=scale)
    return b.add("Add", x, y, name=f"{name}.add") if has_shortcut else y


def _inverted_network(name: str, style: Style, stages: tuple[Stage, ...]) -> Callable[[int], Graph]:
    def build(seed: int) -> Graph:
        b = GraphBuilder(name, seed)
        x = _conv_norm(b, b.input("image", (1, 3, 224, 224)), "stem", style.stem, 3, stride=2, gain=1.0,
                       activation=style.activation)  # fmt: skip
        for place, stage in enumerate(stages):
            for block in range(stage.repeats):
                stride = stage.stride if block == 0 else 1
                x = _inverted_residual(b, x, f"stage{place}.{block}", stage, style, stride)
        x = _conv_norm(b, x, "head", style.head, gain=GAIN["linear"], activation=style.activation)
        return b.finish(classify(b, x, "classifier", gain=style.logit_gain))

    return build


# expand, kernel, channels, repeats, stride
MOBILENET_V2 = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 3, 32, 3, 2),
    Stage(6, 3, 64, 4, 2),
    Stage(6, 3, 96, 3, 1),
    Stage(6, 3, 160, 3, 2),
    Stage(6, 3, 320, 1, 1),
)
MNASNET_B1 = (
    Stage(1, 3, 16, 1, 1),
    Stage(3, 3, 24, 3, 2),
    Stage(3, 5, 40, 3, 2),
    Stage(6, 5, 80, 3, 2),
    Stage(6, 3, 96, 2, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)
EFFICIENTNET_B0 = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 5, 40, 2, 2),
    Stage(6, 3, 80, 3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)

SHUFFLENET_STEM = 24
SHUFFLENET_HEAD = 1024
SHUFFLENET_STAGES = ((116, 4), (232, 8), (464, 4))  # channels, blocks


def _shuffle(b: GraphBuilder, x: str, name: str) -> str:
    """Interleaves the two halves of the channels."""
    n, channels, height, width = b.type_of(x).shape
    x = b.add("Reshape", x, name=f"{name}.split", shape=(n, 2, channels // 2, height, width))
    x = b.add("Transpose", x, name=f"{name}.interleave", perm=(0, 2, 1, 3, 4))
    return b.add("Reshape", x, name=f"{name}.join", shape=(n, channels, height, width))


def _shuffle_branch(b: GraphBuilder, x: str, name: str, half: int, stride: int) -> str:
    y = _conv_norm(b, x, f"{name}.0", half, gain=GAIN["relu"], activation="relu")
    y = _conv_norm(b, y, f"{name}.1", half, 3, stride=stride, groups=half, gain=GAIN["relu"])
    return _conv_norm(b, y, f"{name}.2", half, gain=GAIN["linear"], activation="relu")


def _shuffle_block(b: GraphBuilder, x: str, name: str, half: int) -> str:
    """One half of the channels passes, the other is transformed; then both are interleaved."""
    kept, changed = b.add_many("Split", x, name=f"{name}.halves", outputs=2, axis=1, sizes=(half, half))
    changed = _shuffle_branch(b, changed, f"{name}.branch2", half, 1)
    return _shuffle(b, b.add("Concat", kept, changed, name=f"{name}.concat", axis=1), f"{name}.shuffle")


def _shuffle_down(b: GraphBuilder, x: str, name: str, half: int) -> str:
    """Both branches see all channels and halve the size."""
    entering = b.type_of(x).shape[1]
    left = _conv_norm(b, x, f"{name}.branch1.0", entering, 3, stride=2, groups=entering, gain=GAIN["relu"])
    left = _conv_norm(b, left, f"{name}.branch1.1", half, gain=GAIN["linear"], activation="relu")
    right = _shuffle_branch(b, x, f"{name}.branch2", half, 2)
    return _shuffle(b, b.add("Concat", left, right, name=f"{name}.concat", axis=1), f"{name}.shuffle")


def _shufflenet(seed: int) -> Graph:
    b = GraphBuilder("shufflenet", seed)
    image = b.input("image", (1, 3, 224, 224))
    x = _conv_norm(b, image, "conv1", SHUFFLENET_STEM, 3, stride=2, gain=1.0, activation="relu")
    x = max_pool(b, x, "maxpool", 3, stride=2, pad=1)
    for stage, (channels, n_blocks) in enumerate(SHUFFLENET_STAGES, start=2):
        x = _shuffle_down(b, x, f"stage{stage}.0", channels // 2)
        for place in range(1, n_blocks):
            x = _shuffle_block(b, x, f"stage{stage}.{place}", channels // 2)
    x = _conv_norm(b, x, "conv5", SHUFFLENET_HEAD, gain=GAIN["relu"], activation="relu")
    return b.finish(classify(b, x, "fc"))


MODELS = table(
    (
        Model(
            "mobilenet_v2",
            _inverted_network("mobilenet_v2", Style("relu6", 32, 1280), MOBILENET_V2),
            "Inverted residuals with depthwise 3x3 convolutions and ReLU6.",
            "Sandler et al., MobileNetV2, CVPR 2018; torchvision mobilenet_v2",
            "cnn",
            parameters=3_504_872,
            macs=301_000_000,
        ),
        Model(
            "mnasnet",
            _inverted_network("mnasnet", Style("relu", 32, 1280), MNASNET_B1),
            "MnasNet-B1 1.0: searched inverted residuals with depthwise 3x3 and 5x5 convolutions.",
            "Tan et al., MnasNet, CVPR 2019; torchvision mnasnet1_0",
            "cnn",
            parameters=4_383_312,
            macs=314_000_000,
        ),
        Model(
            "efficientnet_b0",
            _inverted_network("efficientnet_b0", Style("silu", 32, 1280, excite=True, logit_gain=5.0), EFFICIENTNET_B0),
            "Inverted residuals with squeeze and excitation and SiLU.",
            "Tan and Le, EfficientNet, ICML 2019; torchvision efficientnet_b0",
            "cnn",
            parameters=5_288_548,
            macs=386_000_000,
        ),
        Model(
            "shufflenet",
            _shufflenet,
            "ShuffleNet v2 x1.0: half the channels pass each block, then all are shuffled.",
            "Ma et al., ShuffleNet V2, ECCV 2018; torchvision shufflenet_v2_x1_0",
            "cnn",
            parameters=2_278_604,
            macs=145_000_000,
        ),
    )
)
