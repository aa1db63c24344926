"""Ranges of values, and what counts as a mask."""

from __future__ import annotations

import numpy as np
import pytest

from pimloom.ir.builder import GraphBuilder
from pimloom.passes import Pipeline, Range, RemoveIdentities, calibrate, random_sample
from pimloom.passes.base import Pass
from pimloom.passes.calibrate import range_of


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([-3.0, 2.0], Range(3.0)),
        ([], Range()),
        ([1.0, -np.inf], Range(1.0, is_masked=True)),
        ([1.0, -1e9, -0.5], Range(1.0, is_masked=True)),
        ([0.0, np.finfo(np.float32).min], Range(0.0, is_masked=True)),
        ([5000.0, -20000.0], Range(20000.0)),
        ([np.inf, 4.0, np.nan], Range(4.0)),
        ([np.nan], Range()),
    ],
)
def test_range_of(values: list[float], wanted: Range) -> None:
    assert range_of(np.array(values, np.float32)) == wanted


def test_calibrate_joins_samples_and_skips_integers() -> None:
    b = GraphBuilder("g")
    x, i = b.input("x", (2,)), b.input("i", (1,), "int64")
    graph = b.finish(b.add("Gather", b.add("Neg", x, name="n"), i, name="y"))
    samples = [{"x": np.array(v, np.float32), "i": np.array([1])} for v in ([1, -2], [0.5, 7])]
    assert calibrate(graph, samples) == {"x": Range(7.0), "n": Range(7.0), "y": Range(7.0)}


def test_random_samples_are_the_same_for_a_seed_and_index_what_there_is() -> None:
    b = GraphBuilder("g")
    graph = b.finish(b.add("Gather", b.seeded("t", (5, 2)), b.input("ids", (100,), "int64")))
    ids = random_sample(graph, 3)["ids"]
    assert set(ids.tolist()) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(ids, random_sample(graph, 3)["ids"])


def test_a_pipeline_is_a_pass_and_returns_the_same_object_when_idle() -> None:
    b = GraphBuilder("g")
    graph = b.finish(b.add("Relu", b.input("x", (2,))))
    pipeline = Pipeline((RemoveIdentities(),), rounds=3)
    assert isinstance(pipeline, Pass)
    assert pipeline(graph) is graph
