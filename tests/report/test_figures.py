"""Figures and sentences derived from results."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pimloom.report import figures
from pimloom.result import Bound, Result, Trace, Verification


def test_shares_are_sorted_and_add_up() -> None:
    parts = figures.shares({"a": 1.0, "b": 0.0, "c": 3.0})
    assert [(p.name, p.value, p.fraction) for p in parts] == [("c", 3.0, 0.75), ("a", 1.0, 0.25)]
    assert figures.shares({}) == ()


def test_power_and_efficiency(result: Result) -> None:
    one = replace(
        result, mode="latency", latency_cycles=1000, clock_ghz=2.0, energy_pj={"crossbars": 5000.0},
        nodes=(replace(result.nodes[0], macs=10_000),),
    )  # fmt: skip
    assert figures.power_mw(one) == pytest.approx(10.0)  # 5000 pJ in 500 ns
    assert figures.tops_per_w(one) == pytest.approx(4.0)  # 20000 operations for 5000 pJ
    assert figures.tops_per_w(replace(one, energy_pj={})) == 0.0
    assert figures.power_mw(replace(one, latency_cycles=0)) == 0.0


def test_the_time_per_sample_is_the_period_only_when_samples_overlap(result: Result) -> None:
    assert figures.span_cycles(result) == result.period_cycles
    assert figures.span_cycles(replace(result, samples=1)) == result.latency_cycles
    assert figures.span_cycles(replace(result, mode="latency")) == result.latency_cycles


def test_slowest_layers_come_first(result: Result) -> None:
    nodes = tuple(replace(n, name=str(i), start_cycles=0, end_cycles=[5, 9, 9][i], busy_cycles={"crossbars": float(i)})
                  for i, n in enumerate(result.nodes[:3]))  # fmt: skip
    assert [n.name for n in figures.slowest(replace(result, nodes=nodes), 2)] == ["2", "1"]


def test_wait_text_names_what_matters(result: Result) -> None:
    node = replace(result.nodes[0], waits_cycles={"dependency": 81.0, "resource": 14.0, "window": 5.0})
    assert figures.wait_text(node) == "dependency 81 %, resource 14 %"
    assert figures.wait_text(node, 1) == "dependency 81 %"
    assert figures.wait_text(replace(node, waits_cycles={})) == "-"


def test_bounds_are_ordered_by_the_mode_of_the_run(result: Result) -> None:
    bounds = (Bound("a", "latency", 5.0, ""), Bound("b", "throughput", 1.0, ""), Bound("c", "throughput", 2.0, ""))
    one = replace(result, bounds=bounds, mode="throughput")
    assert [b.name for b in figures.ordered_bounds(one)] == ["c", "b", "a"]
    assert [b.name for b in figures.tightest(one)] == ["c", "a"]
    assert [b.name for b in figures.tightest(replace(one, mode="latency"))] == ["a", "c"]


@pytest.mark.parametrize(
    ("verification", "state", "headline", "sentence"),
    [
        (None, "none", "not executed", "the program was timed but not executed, its numbers are not known to be right"),
        (Verification("onnxruntime", True, 0.25, 0.02, 0.1, True, {"y": {"rms_error": 0.05}}), "ok", "numbers agree",
         "codes are bit exact; rms difference from onnxruntime 0.05, stated bound 0.1;"
         " largest difference 0.25 (2.0 % of the largest value)"),
        (Verification("graph", False, 0.25, 0.5, 0.1, False), "bad", "numbers DIFFER",
         "codes differ from the integer meaning of the graph; largest difference from graph 0.25 (50 % of the largest value),"
         " stated bound 0.1"),
        (Verification("onnxruntime", True, 1.0, 0.5, math.inf, True, {"k": {"rms_error": 1.0, "rms_bound": math.inf}}), "ok",
         "numbers agree",
         "codes are bit exact; largest difference from onnxruntime 1 (50 % of the largest value);"
         " no bound is stated, as what comes out are integers"),
        (Verification("onnxruntime", True, 1.0, 0.5, 0.1, True,
                      {"k": {"rms_error": 1.0, "rms_bound": math.inf}, "y": {"rms_error": 0.05, "rms_bound": 0.1}}), "ok", "numbers agree",
         "codes are bit exact; rms difference from onnxruntime 0.05, stated bound 0.1; largest difference 1 (50 % of the largest value)"),
        (Verification("none", True, 0.0, 0.0, 0.0, True), "ok", "numbers agree", "codes are bit exact; no float reference was run"),
    ],
)  # fmt: skip
def test_verdicts(result: Result, verification: Verification | None, state: str, headline: str, sentence: str) -> None:
    found = figures.verdict(replace(result, verification=verification))
    assert (found.state, found.headline, found.sentence) == (state, headline, sentence)


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0, "0.0 %"), (0.0004, "<0.1 %"), (0.02345, "2.3 %"), (0.0996, "10 %"), (0.834, "83 %"), (1.2, "120 %")]
)
def test_percent(fraction: float, text: str) -> None:
    assert figures.percent(fraction) == text


def test_shortened_keeps_both_ends() -> None:
    assert figures.shortened("layer1.0.conv1", 14) == "layer1.0.conv1"
    assert figures.shortened("blocks.0.attention.query", 12) == "blo…on.query"
    assert len(figures.shortened("x" * 50, 9)) == 9


def test_quantities_carry_units() -> None:
    assert figures.power_text(1500.0) == "1.5 W"
    assert figures.power_text(2.0) == "2 mW"
    assert figures.cycles_text(12_000) == "12 k cycles"
    assert figures.seconds_text(0.0) == "-"
    assert figures.seconds_text(1.5) == "1.5 s"


def test_a_core_belongs_to_the_layer_it_spends_most_time_on(result: Result) -> None:
    nodes = tuple(replace(n, name=name, arrays=c) for n, name, c in zip(result.nodes, "ab", (1, 9), strict=False))
    trace = Trace(
        np.array([0, 0, 0, 1], np.int32), np.zeros(4, np.uint8), np.array([0, 1, 0, -1], np.int32),
        np.array([0, 10, 20, 0]), np.array([6, 19, 26, 50]), ("mvm",), ("a", "b"),
    )  # fmt: skip
    one = replace(result, nodes=nodes, core_nodes=(("a", "b"), ("a", "b"), (), ("view",)), trace=trace)
    assert figures.dominant_layers(one).tolist() == [0, 1, -1, -1]  # 12 cycles of a, 9 of b; without time the larger one
    assert figures.dominant_layers(replace(one, trace=None)).tolist() == [1, 1, -1, -1]
