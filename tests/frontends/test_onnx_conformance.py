"""Every op test of the onnx package, as a model: right, or refused with a sentence.

Inputs that decide shapes are made constants where a model does not load without. Round trips through `to_onnx` are
checked on the way.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pimloom.errors import ModelError
from pimloom.frontends import load_onnx, to_onnx
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph

REFUSED_OPS = frozenset(
    {
        # random numbers, strings, images, training
        "Bernoulli",
        "RandomUniformLike",
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
        "ImageDecoder",
        "Adagrad",
        "Adam",
        "Gradient",
        "Momentum",
        # results whose shape depends on data, or without a row in the op table
        "BitCast",
        "Det",
        "MelWeightMatrix",
        "NonMaxSuppression",
        "TensorScatter",
        # the domain ai.onnx.ml
        "LabelEncoder",
        "TreeEnsemble",
    }
)
"""All cases of these ops may be refused."""

REFUSED_TEXTS = (
    "element type STRING is not supported",
    "element type FLOAT8",
    "element type FLOAT4",
    "element type UINT2",
    "element type INT2",
    "4-bit",
    "are NaN; weights",
    "it is no tensor; sequences",
    "it is a sequence",
    "it is in training mode",
    "mode 'max' is not supported",
    "opset 1 found",
    "Scan before opset 9",
    "uint16 or uint32 or uint64 or uint8 expected",
)
"""Reasons to refuse a case of any other op."""

DIFFERENT = (
    # ONNX Runtime and we take the rounded output size for align_corners, the reference the unrounded one
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
)

LOOSE = ("bf16", "bfloat16")
"""Cases computed in bfloat16, by us in float32."""


@functools.lru_cache(maxsize=1)
def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return collect_testcases(None)


def arrays(tensors: Any) -> list[Any]:
    return [numpy_helper.to_array(t) if isinstance(t, TensorProto) else t for t in tensors]


def with_constants(model: onnx.ModelProto, given: list[Any], first: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The model with the inputs from `first` on as constants, and the rest of the inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    feeds: dict[str, Any] = {}
    for place, (value, array) in enumerate(zip(model.graph.input, given, strict=False)):
        if place >= first and isinstance(array, np.ndarray | np.generic):
            copy.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
        else:
            feeds[value.name] = array
    return copy, feeds


def loaded(case: Any, given: list[Any]) -> tuple[Graph, dict[str, Any]]:
    """The graph with as few constants as needed; ModelError of the last trial otherwise."""
    error: ModelError | None = None
    for first in (len(given), 1, 0):
        model, feeds = with_constants(case.model, given, first)
        try:
            return load_onnx(model), feeds
        except ModelError as fault:
            error = fault
    assert error is not None
    raise error


def is_excused(case: Any, text: str) -> bool:
    ops = {node.op_type for node in case.model.graph.node}
    return (
        bool(ops & REFUSED_OPS)
        or any(reason in text for reason in REFUSED_TEXTS)
        or any(op in text for op in REFUSED_OPS)
    )


def check(case: Any) -> str:
    """`right`, `refused`, or what is wrong."""
    given, expected = (arrays(tensors) for tensors in case.data_sets[0])
    try:
        graph, feeds = loaded(case, given)
    except ModelError as error:
        return "refused" if is_excused(case, str(error)) else str(error)
    if any(not isinstance(a, np.ndarray | np.generic) for a in (*feeds.values(), *expected)):
        return "refused"  # sequences as inputs or outputs
    feeds = {name: np.asarray(a).astype(graph.types[name].dtype) for name, a in feeds.items()}
    if any(graph.types[name].shape != a.shape for name, a in feeds.items()):
        return "refused"  # an empty first dimension is taken for the batch
    found = evaluate(graph, feeds)
    again = evaluate(load_onnx(to_onnx(graph)), feeds) if graph.nodes else found
    loose = any(word in case.name for word in LOOSE)
    for value, array in zip(graph.outputs, expected, strict=False):
        if found[value].shape != np.shape(array):
            return f"{value}: shape {found[value].shape}, expected {np.shape(array)}"
        want = np.asarray(array).astype(np.float64)
        if not np.allclose(
            found[value].astype(np.float64), want, rtol=2e-2 if loose else 2e-3, atol=1e-4, equal_nan=True
        ):
            return f"{value}: {found[value].reshape(-1)[:4]}, expected {want.reshape(-1)[:4]}"
        if not np.array_equal(found[value], again[value], equal_nan=found[value].dtype.kind == "f"):
            return f"{value}: differs after to_onnx"
    return "right"


def test_every_case_is_right_or_refused_for_a_stated_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = {case.name: check(case) for case in cases() if case.name not in DIFFERENT}
    wrong = {name: verdict for name, verdict in verdicts.items() if verdict not in ("right", "refused")}
    assert not wrong
    n_right = sum(verdict == "right" for verdict in verdicts.values())
    assert n_right >= 0.75 * len(verdicts), f"{n_right} of {len(verdicts)} cases are right"


def test_the_exceptions_are_real() -> None:
    """An op or case that has become right must leave its list."""
    found = {case.name: case for case in cases()}
    for name in DIFFERENT:
        assert check(found[name]) not in ("right", "refused")
    present = {node.op_type for case in found.values() for node in case.model.graph.node}
    for op in REFUSED_OPS & present:
        own = [
            c
            for c in found.values()
            if [n.op_type for n in c.model.graph.node] == [op] and c.model.graph.node[0].domain == ""
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert not own or all(check(case) == "refused" for case in own), op


@pytest.mark.parametrize(
    "prefix", ["test_lstm", "test_gru", "test_simple_rnn", "test_attention", "test_qlinear", "test_loop11"]
)
def test_the_families_that_matter_are_not_refused(prefix: str) -> None:
    chosen = [case for case in cases() if case.name.startswith(prefix)]
    assert chosen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {case.name: check(case) for case in chosen} == {case.name: "right" for case in chosen}
