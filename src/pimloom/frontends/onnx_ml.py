"""Normal forms of the domain ai.onnx.ml: what scikit-learn's converter writes around and instead of neural networks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import concat, reshape_to


def _as_real(call: Call, value: str) -> str:
    """The value as float32, which all ops here compute in."""
    return value if call.type_of(value).dtype == "float32" else call.emit("Cast", value, to="float32")


def _feature_extractor(call: Call) -> tuple[Value, ...]:
    """Columns of the last axis by their indices; the result has two dimensions at least."""
    picks = call.emit("Reshape", call.value(1), shape=(call.type(1).size,))
    columns = call.emit("Gather", call.value(0), picks, axis=max(call.type(0).rank - 1, 0))
    return (columns if call.type(0).rank > 1 else call.emit("Unsqueeze", columns, axes=(0,)),)


def _numbers(call: Call, name: str, default: float) -> str:
    """A list attribute of numbers as a constant."""
    return call.numbers(np.asarray(call.attribute(name) or (default,), np.float32))


def _scaler(call: Call) -> tuple[Value, ...]:
    """`(x - offset) * scale`, each one number or one per column."""
    shifted = call.emit("Sub", _as_real(call, call.value(0)), _numbers(call, "offset", 0.0))
    return (call.emit("Mul", shifted, _numbers(call, "scale", 1.0)),)


def _normalizer(call: Call) -> tuple[Value, ...]:
    """Each row divided by its largest element, its sum of magnitudes or its length; rows of zeros stay."""
    ops = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}
    norm = str(call.attribute("norm", "MAX"))
    if norm not in ops:
        raise call.fault(f"norm is '{norm}', expected {', '.join(ops)}")
    x = _as_real(call, call.value(0))
    size = call.emit(ops[norm], x, axes=(call.type(0).rank - 1,), keepdims=1)
    is_zero = call.emit("Equal", size, call.numbers(0.0))
    return (call.emit("Div", x, call.emit("Where", is_zero, call.numbers(1.0), size)),)


def _feature_vectorizer(call: Call) -> tuple[Value, ...]:
    """All inputs side by side."""
    sizes = call.listed("inputdimensions") or ()
    parts = [_as_real(call, call.value(i)) for i in range(call.n_inputs)]
    parts = [p if call.type_of(p).rank == 2 else call.emit("Unsqueeze", p, axes=(0,)) for p in parts]
    if any(call.type_of(p).rank != 2 or call.type_of(p).shape[1] != n for p, n in zip(parts, sizes, strict=False)):
        raise call.fault(f"inputdimensions {list(sizes)} do not fit {', '.join(str(call.type_of(p)) for p in parts)}")
    return (concat(call, tuple(parts), 1),)


def _binarizer(call: Call) -> tuple[Value, ...]:
    """1 where the value exceeds the threshold."""
    is_above = call.emit("Greater", call.value(0), call.numbers(float(call.attribute("threshold", 0.0)), call.type(0).dtype))
    return (call.emit("Cast", is_above, to=call.type(0).dtype),)


def _scores(call: Call, n_rows: int) -> str:
    """`x @ coefficients' + intercepts`, [batch, n_rows]."""
    x = _as_real(call, call.value(0))
    if call.type(0).rank != 2:
        x = reshape_to(call, x, (1, call.type(0).size))
    n_columns = call.type_of(x).shape[1]
    coefficients = np.asarray(call.required("coefficients"), np.float32)
    if n_rows < 1 or coefficients.size != n_rows * n_columns:
        raise call.fault(f"{coefficients.size} coefficients found, expected {n_rows} rows of {n_columns}")
    y = call.emit("MatMul", x, call.numbers(coefficients.reshape(n_rows, n_columns).T))
    return call.emit("Add", y, _numbers(call, "intercepts", 0.0)) if call.attribute("intercepts") else y


def _transformed(call: Call, scores: str) -> str:
    """What `post_transform` makes of the scores."""
    name = str(call.attribute("post_transform", "NONE"))
    if name == "NONE":
        return scores
    if name == "SOFTMAX":
        return call.emit("Softmax", scores, axis=1)
    if name == "LOGISTIC":
        return call.emit("Sigmoid", scores)
    raise call.fault(f"post_transform '{name}' is not supported; expected NONE, SOFTMAX or LOGISTIC")


def _linear_regressor(call: Call) -> tuple[Value, ...]:
    return (_transformed(call, _scores(call, call.attribute("targets", 1))),)


def _linear_classifier(call: Call) -> tuple[Value, ...]:
    """Label of the highest score, and the scores."""
    labels = call.listed("classlabels_ints")
    if labels is None:
        raise call.fault("its labels are text, which no program computes; train it with whole numbers as labels")
    n_rows = len(call.attribute("intercepts") or ()) or len(labels)
    if n_rows != len(labels):
        raise call.fault(f"{n_rows} rows of coefficients for {len(labels)} labels; one row per label is supported")
    scores = _scores(call, n_rows)
    best = call.emit("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)
    return (call.emit("Gather", call.numbers(np.array(labels), "int64"), best, axis=0), _transformed(call, scores))


ROWS: Mapping[str, Normaliser] = {
    "ArrayFeatureExtractor": _feature_extractor, "Scaler": _scaler, "Normalizer": _normalizer,
    "FeatureVectorizer": _feature_vectorizer, "Binarizer": _binarizer, "LinearRegressor": _linear_regressor,
    "LinearClassifier": _linear_classifier,
}  # fmt: skip

REASONS: Mapping[str, str] = {
    "ZipMap": "it makes maps from labels to numbers, and a program computes tensors; convert the model with options={'zipmap': False}",
    **dict.fromkeys(
        ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"),
        "decision trees compare and branch, they have no products with weights; run them on the host",
    ),
    **dict.fromkeys(
        ("SVMClassifier", "SVMRegressor"),
        "the products of a support vector machine are no layer of weights; write it with ops of ONNX (MatMul, Exp), or run it on the host",
    ),
    **dict.fromkeys(
        ("LabelEncoder", "CategoryMapper", "DictVectorizer", "OneHotEncoder", "CastMap", "Imputer"),
        "it prepares data, which a program takes prepared; do that before the network and begin the network behind it",
    ),
}
"""Why other ops have no normal form, and what to do."""
