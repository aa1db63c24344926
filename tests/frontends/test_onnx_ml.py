"""Ops of ai.onnx.ml against ONNX Runtime, and the sentences for those that have no normal form."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pimloom.errors import ModelError
from pimloom.frontends import load_onnx
from pimloom.ir.evaluate import evaluate

runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle of these tests")
ML = "ai.onnx.ml"
Array = np.ndarray[Any, np.dtype[Any]]
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
LINEAR = {"coefficients": [0.1 * i - 0.5 for i in range(12)], "intercepts": [0.3, -0.2, 0.1]}
LABELS = {"classlabels_ints": [7, 3, 5], **LINEAR}


def one_node(op: str, values: list[Array], n_outputs: int, **attributes: Any) -> onnx.ModelProto:
    """A model of one node; the first value is an input, others are initializers."""
    names = [f"i{place}" for place in range(len(values))]
    graph = helper.make_graph(
        [helper.make_node(op, names, [f"o{i}" for i in range(n_outputs)], name="n", domain=ML, **attributes)],
        "g",
        [helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(values[0].dtype), values[0].shape)],
        [helper.make_empty_tensor_value_info(f"o{i}") for i in range(n_outputs)],
        [numpy_helper.from_array(value, name) for name, value in zip(names[1:], values[1:], strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)], ir_version=8)


@pytest.mark.parametrize(
    ("op", "values", "n_outputs", "attributes"),
    [
        ("ArrayFeatureExtractor", [X, np.array([[3, 0]])], 1, {}),
        ("ArrayFeatureExtractor", [X[0], np.array([1])], 1, {}),
        ("Scaler", [X], 1, {"offset": [0.1, 0.2, 0.3, 0.4], "scale": [2.0, 1.0, 0.5, -1.0]}),
        ("Scaler", [(10 * X).astype(np.int64)], 1, {"offset": [0.5], "scale": [2.0]}),
        ("Normalizer", [np.abs(X)], 1, {"norm": "MAX"}),
        ("Normalizer", [X], 1, {"norm": "L1"}),
        ("Normalizer", [X * np.array([[1], [0], [2]], np.float32)], 1, {"norm": "L2"}),
        ("Binarizer", [X], 1, {"threshold": 0.2}),
        ("FeatureVectorizer", [X, X[:, :2]], 1, {"inputdimensions": [4, 2]}),
        ("LinearRegressor", [X], 1, {"targets": 3, **LINEAR}),
        ("LinearRegressor", [X], 1, {"targets": 3, "coefficients": LINEAR["coefficients"], "post_transform": "SOFTMAX"}),
        ("LinearClassifier", [X], 2, LABELS),
        ("LinearClassifier", [X], 2, {**LABELS, "post_transform": "LOGISTIC"}),
        ("LinearClassifier", [X], 2, {**LABELS, "post_transform": "SOFTMAX"}),
    ],
)
def test_ops_give_what_onnx_runtime_gives(op: str, values: list[Array], n_outputs: int, attributes: dict[str, Any]) -> None:
    model = one_node(op, values, n_outputs, **attributes)
    wanted = runtime.InferenceSession(model.SerializeToString()).run(None, {"i0": values[0]})
    graph = load_onnx(model)
    found = evaluate(graph, {"i0": values[0]})
    for name, array in zip(graph.outputs, wanted, strict=True):
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "text"),
    [
        ("ZipMap", {"classlabels_int64s": [0, 1, 2, 3]}, "it is not supported: it makes maps from labels to numbers"),
        ("TreeEnsembleClassifier", {}, "it is not supported: decision trees compare and branch"),
        ("SVMClassifier", {}, "it is not supported: the products of a support vector machine"),
        ("LabelEncoder", {}, "it is not supported: it prepares data"),
        ("Normalizer", {"norm": "L3"}, "norm is 'L3', expected MAX, L1, L2"),
        ("LinearRegressor", {"coefficients": [1.0] * 5}, "5 coefficients found, expected 1 rows of 4"),
        ("LinearRegressor", {"coefficients": [1.0] * 4, "post_transform": "PROBIT"}, "post_transform 'PROBIT' is not supported"),
        ("LinearClassifier", {**LINEAR, "classlabels_strings": ["a", "b", "c"]}, "its labels are text, which no program computes"),
        ("LinearClassifier", {**LINEAR, "classlabels_ints": [0, 1]}, "3 rows of coefficients for 2 labels"),
        ("FeatureVectorizer", {"inputdimensions": [5]}, "inputdimensions [5] do not fit float32[3,4]"),
    ],
)
def test_what_has_no_normal_form_is_explained(op: str, attributes: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"node 'n' ({op}): {text}")):
        load_onnx(one_node(op, [X], 1, **attributes))
