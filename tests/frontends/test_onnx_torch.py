"""Models exported from PyTorch by both exporters: load, evaluate, compare with ONNX Runtime."""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

from pimloom.frontends import load_onnx, to_onnx
from pimloom.ir.evaluate import evaluate

torch = pytest.importorskip("torch", reason="PyTorch makes the models of these tests")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle of these tests")
pytest.importorskip("onnxscript", reason="the exporter of PyTorch needs it")
nn, functional = torch.nn, torch.nn.functional


class Segmenter(nn.Module):
    """Dilation, ceiling pools, groups, transposed convolution, four kinds of normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=2, dilation=2),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.Conv2d(8, 8, 3, groups=2, padding=1),
            nn.InstanceNorm2d(8, affine=True),
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
            nn.GroupNorm(2, 4),
            nn.Hardswish(),
            nn.AvgPool2d(2, count_include_pad=False, ceil_mode=True, padding=1),
            nn.Softmax(1),
        )

    def forward(self, x: Any) -> Any:
        return self.net(x)


class Detector(nn.Module):
    """A feature pyramid: resizing in two modes, concatenation, a head that is reshaped into boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(16, 6, 1)

    def forward(self, x: Any) -> Any:
        high = functional.silu(self.stem(x))
        low = torch.relu(self.down(high))
        smooth = functional.interpolate(low, size=high.shape[2:], mode="bilinear", align_corners=False)
        sharp = functional.interpolate(low, scale_factor=2, mode="nearest")
        y = self.head(torch.cat([high, smooth + sharp], 1))
        n, channels, height, width = y.shape
        boxes = y.view(n, 2, channels // 2, height, width).permute(0, 1, 3, 4, 2).reshape(n, -1, channels // 2)
        return boxes, torch.sigmoid(y).flatten(2).mean(-1)


class Sequence(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(6, 8, **options)

    def forward(self, x: Any) -> Any:
        return self.cell(x)[0]


class Decoder(nn.Module):
    """Embedding, causal self-attention and cross-attention."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.layers, self.embed = nn.TransformerDecoder(layer, 1), nn.Embedding(11, 16)

    def forward(self, ids: Any, memory: Any) -> Any:
        x = self.embed(ids)
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        return self.layers(x, memory, tgt_mask=mask, tgt_is_causal=True)


class Attention(nn.Module):
    """A language model's attention: RMSNorm, fused causal attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.RMSNorm(16), nn.Linear(16, 48, bias=False)

    def forward(self, x: Any) -> Any:
        n, steps, width = x.shape
        q, k, v = (part.view(n, steps, 2, 8).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).reshape(n, steps, width)


def encoder() -> Any:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)


def image(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def exported(model: Any, inputs: tuple[Any, ...], *, dynamo: bool, **options: Any) -> bytes:
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            if dynamo:
                program = torch.onnx.export(model, inputs, dynamo=True, verbose=False, **options)
                return program.model_proto.SerializeToString()
            file = io.BytesIO()
            torch.onnx.export(model, inputs, file, dynamo=False, **options)
            return file.getvalue()
        finally:
            logging.disable(logging.NOTSET)


# name -> (model, inputs, whether by the new exporter, options, most nodes expected)
MODELS: dict[str, tuple[Any, tuple[Any, ...], bool, dict[str, Any], int]] = {
    "segmenter": (Segmenter, (image(2, 3, 17, 17),), False, {}, 16),
    "detector": (Detector, (image(1, 3, 32, 32),), False, {}, 16),
    "detector-13": (Detector, (image(1, 3, 32, 32),), False, {"opset_version": 13}, 16),
    "lstm": (
        lambda: Sequence("LSTM", bidirectional=True, num_layers=2, batch_first=True),
        (image(2, 5, 6),),
        False,
        {},
        280,
    ),
    "gru": (lambda: Sequence("GRU", bidirectional=True, batch_first=True), (image(2, 5, 6),), False, {}, 170),
    "rnn": (lambda: Sequence("RNN"), (image(5, 2, 6),), False, {}, 20),
    "encoder": (encoder, (image(2, 7, 16),), False, {}, 80),
    "segmenter-dynamo": (Segmenter, (image(2, 3, 17, 17),), True, {}, 18),
    "lstm-dynamo": (lambda: Sequence("LSTM", bidirectional=True), (image(5, 2, 6),), True, {}, 150),
    "encoder-dynamo": (encoder, (image(2, 7, 16),), True, {}, 80),
    "decoder-dynamo": (Decoder, (torch.arange(10).reshape(2, 5), image(2, 4, 16)), True, {}, 80),
    "attention-dynamo": (Attention, (image(2, 5, 16),), True, {}, 30),
    "attention-dynamo-23": (Attention, (image(2, 5, 16),), True, {"opset_version": 23}, 17),
}


@pytest.mark.parametrize("name", MODELS)
def test_exported_models_give_what_onnx_runtime_gives(name: str) -> None:
    make, inputs, dynamo, options, most_nodes = MODELS[name]
    torch.manual_seed(1)
    content = exported(make(), inputs, dynamo=dynamo, **options)
    session = runtime.InferenceSession(content)
    feeds = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs, strict=True)}
    graph = load_onnx(content)
    assert len(graph.nodes) <= most_nodes, f"{len(graph.nodes)} nodes"
    found = evaluate(graph, feeds)
    for value, expected in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(found[value.name], expected, rtol=1e-4, atol=1e-5)
    again = evaluate(load_onnx(to_onnx(graph)), feeds)
    for value in graph.outputs:
        np.testing.assert_array_equal(found[value], again[value])


def test_dynamic_axes_are_bound_by_shapes() -> None:
    content = exported(
        Detector(),
        (image(1, 3, 32, 32),),
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n", 2: "h", 3: "w"}},
    )
    assert onnx.load_from_string(content).graph.input[0].type.tensor_type.shape.dim[2].dim_param == "h"
    graph = load_onnx(content, {"x": (2, 3, 48, 16)})
    x = image(2, 3, 48, 16).numpy()
    found = evaluate(graph, {"x": x})
    for value, expected in zip(graph.outputs, runtime.InferenceSession(content).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(found[value], expected, rtol=1e-4, atol=1e-5)
    assert load_onnx(content, {"h": 48, "w": 16}).types["x"].shape == (1, 3, 48, 16)
