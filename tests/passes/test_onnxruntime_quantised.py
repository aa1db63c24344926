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
from pimloom.passes import default_pipeline, error_bound

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


def _without_reals(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its first quantisation and last dequantisation: codes go in, codes come out, as on small devices."""
    graph = model.graph
    (first,) = [n for n in graph.node if n.input[0] == graph.input[0].name]
    (last,) = [n for n in graph.node if n.output[0] == graph.output[0].name]
    assert (first.op_type, last.op_type) == ("QuantizeLinear", "DequantizeLinear")
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    graph.node.remove(first)
    graph.node.remove(last)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(onnx.helper.make_tensor_value_info(first.output[0], onnx.TensorProto.UINT8, shape))
    graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.UINT8, None))
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_codes_come_in_and_go_out(tmp_path: Path, form: str) -> None:
    graph = build("tiny_cnn")
    source, target = tmp_path / "real.onnx", tmp_path / "codes.onnx"
    onnx.save(to_onnx(graph), source)
    samples = [input_example(graph, seed) for seed in range(4)]
    kinds = {"activation_type": quantization.QuantType.QUInt8, "weight_type": quantization.QuantType.QInt8}
    quantization.quantize_static(source, target, Samples(samples), quant_format=quantization.QuantFormat[form], **kinds)
    model = _without_reals(onnx.load(target))
    loaded = load_onnx(model)
    sample = input_example(loaded)
    (value,), (output,) = loaded.inputs, loaded.outputs
    assert np.ptp(sample[value]) > 100
    (wanted,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, dict(sample))
    quantised = default_pipeline(samples=(sample,))(loaded)
    verify(quantised)
    assert quantised.types[value].quant is not None
    assert quantised.types[output].quant is None
    found = evaluate(quantised, sample)[output]
    assert found.dtype == wanted.dtype
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert np.mean(found != wanted) <= 0.1


@pytest.mark.filterwarnings("ignore")
def test_codes_as_inputs_are_taken_as_they_are_by_the_bound(tmp_path: Path) -> None:
    graph = build("tiny_mlp")
    source, target = tmp_path / "real.onnx", tmp_path / "codes.onnx"
    onnx.save(to_onnx(graph), source)
    samples = [input_example(graph, seed) for seed in range(4)]
    quantization.quantize_static(source, target, Samples(samples), activation_type=quantization.QuantType.QInt8)
    model = onnx.load(target)
    (first,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == model.graph.input[0].name]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    model.graph.node.remove(first)
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info(first.output[0], onnx.TensorProto.INT8, shape))
    loaded = load_onnx(model)
    sample = input_example(loaded)
    (bound,) = error_bound(loaded, default_pipeline(samples=(sample,))(loaded), (sample,)).values()
    assert bound.loss <= 0.01 * bound.signal + bound.code_size
