"""Models that ONNX Runtime quantised: our integers give the numbers it gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from pimloom.frontends import load_onnx, to_onnx
from pimloom.frontends.zoo import build, input_example
from pimloom.ir.evaluate import evaluate
from pimloom.ir.integer import decode, encode
from pimloom.ir.verify import verify
from pimloom.passes import default_pipeline

ort = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")


class Samples(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands out samples one by one."""

    def __init__(self, samples: list[dict[str, np.ndarray]]) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "activations", "weights", "per_channel"),
    [
        ("tiny_cnn", "QUInt8", "QInt8", True),
        ("tiny_cnn", "QInt8", "QInt8", False),
        ("tiny_mlp", "QUInt8", "QUInt8", False),
    ],
)
def test_outputs_agree(tmp_path: Path, name: str, activations: str, weights: str, per_channel: bool) -> None:
    graph = build(name)
    samples = [input_example(graph, seed) for seed in range(4)]
    source, target = tmp_path / "real.onnx", tmp_path / "codes.onnx"
    onnx.save(to_onnx(graph), source)
    kinds = {"activation_type": quantization.QuantType[activations], "weight_type": quantization.QuantType[weights]}
    quantization.quantize_static(source, target, Samples(samples), per_channel=per_channel, **kinds)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    quantised = default_pipeline(samples=tuple(samples))(load_onnx(target))
    verify(quantised)
    (output,) = quantised.outputs
    code = quantised.types[output].quant.scale[0]  # type: ignore[union-attr]
    for sample in samples:
        (wanted,) = session.run(None, dict(sample))
        codes = {v: encode(a, quantised.types[v]) for v, a in sample.items()}
        found = decode(evaluate(quantised, codes)[output], quantised.types[output])
        # Its float arithmetic may tip a sum that lies between two codes; nothing may be off by more than that.
        assert np.abs(found - wanted).max() <= 1.01 * code
        assert np.mean(np.abs(found - wanted) > 0.5 * code) <= 0.1
