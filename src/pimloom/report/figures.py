"""Figures that several reports show, derived from a Result: shares, rates, rankings and the sentences about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.result import Bound, NodeResult, Result, Rewriting, Verification
from pimloom.units import cycles_to_ns, format_count, format_ns


@final
@dataclass(frozen=True, slots=True)
class Share:
    """A named part of a whole.

    Attributes:
        name: of the part.
        value: in the unit of the whole.
        fraction: of the whole, 0 to 1.
    """

    name: str
    value: float
    fraction: float


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """The verification of a result in words.

    Attributes:
        state: "ok", "bad" or "none".
        headline: two or three words.
        sentence: what was compared, and how far apart it was.
    """

    state: str
    headline: str
    sentence: str


def shares(values: Mapping[str, float]) -> tuple[Share, ...]:
    """The parts that are not zero, largest first."""
    total = float(sum(values.values()))
    parts = sorted(((name, float(v)) for name, v in values.items() if v > 0), key=lambda part: -part[1])
    return tuple(Share(name, value, value / total if total else 0.0) for name, value in parts)


def span_cycles(result: Result) -> float:
    """Cycles that one sample accounts for: the period of a pipelined run, else the latency."""
    pipelined = result.samples > 1 and (result.mode == "throughput" or result.rewriting is not None)
    return float(result.period_cycles if pipelined else result.latency_cycles)


def latency_text(result: Result) -> str:
    """What the latency is that of."""
    together = result.samples > 1 and result.rewriting is not None
    return f"{cycles_text(result.latency_cycles)}, {'all samples, which end together' if together else 'first sample'}"


def rewriting_text(rewriting: Rewriting) -> str:
    """What is written into arrays, in one sentence."""
    worn = f"{format_count(rewriting.endurance_writes)} writes"
    lasts = f"; {format_count(rewriting.inferences_until_worn)} samples until {worn}" if rewriting.inferences_until_worn else ""
    each = f"{rewriting.writes_per_array_mean:.3g} per array, {rewriting.writes_per_array_max} at most"
    run = f"{rewriting.samples} samples" if rewriting.samples > 1 else "sample"
    return f"groups in {rewriting.segments} segments per {run}; {each}{lasts}"


def power_mw(result: Result) -> float:
    """Mean power: energy per sample over the time per sample (1 pJ/ns is 1 mW)."""
    span_ns = cycles_to_ns(span_cycles(result), result.clock_ghz)
    return result.total_energy_pj / span_ns if span_ns else 0.0


def macs(result: Result) -> int:
    """Multiply-accumulates per sample."""
    return sum(node.macs for node in result.nodes)


def tops_per_w(result: Result) -> float:
    """Tera-operations per joule, a multiply-accumulate being two operations (1 operation/pJ is 1 TOPS/W)."""
    energy_pj = result.total_energy_pj
    return 2 * macs(result) / energy_pj if energy_pj else 0.0


def layer_cycles(node: NodeResult) -> int:
    """Cycles from the first to the last activity of a layer, in the first sample."""
    return max(node.end_cycles - node.start_cycles, 0)


ARRAYS = ("crossbars", "macros")
"""Components that hold weights and compute with them."""


def array_cycles(node: NodeResult) -> float:
    """Cycles that the arrays of a layer compute, all array groups added."""
    return float(sum(node.busy_cycles.get(name, 0.0) for name in ARRAYS))


def slowest(result: Result, count: int) -> tuple[NodeResult, ...]:
    """The layers that take longest from first to last activity; of equals, the one whose arrays work more."""
    ranked = sorted(result.nodes, key=lambda node: (-layer_cycles(node), -array_cycles(node)))
    return tuple(ranked[:count])


def wait_text(node: NodeResult, most: int = 2) -> str:
    """The causes that make up most of a layer's waiting, at most so many: `dependency 81 %, resource 15 %`."""
    parts = [part for part in shares(node.waits_cycles) if part.fraction >= 0.1][:most]
    return ", ".join(f"{part.name} {percent(part.fraction)}" for part in parts) or "-"


def tightest(result: Result) -> tuple[Bound, ...]:
    """The largest bound of each mode, the mode of the run first."""
    modes = sorted({bound.mode for bound in result.bounds}, key=lambda mode: (mode != result.mode, mode))
    return tuple(bound for mode in modes if (bound := result.tightest(mode)) is not None)


def ordered_bounds(result: Result) -> tuple[Bound, ...]:
    """All bounds, those of the mode of the run first, the largest first."""
    return tuple(sorted(result.bounds, key=lambda b: (b.mode != result.mode, b.mode, -b.cycles)))


def verdict(result: Result) -> Verdict:
    """What the verification of a run says."""
    v = result.verification
    if v is None:
        return Verdict("none", "not executed", "the program was timed but not executed, its numbers are not known to be right")
    exact = "codes are bit exact" if v.is_bit_exact else "codes differ from the integer meaning of the graph"
    return Verdict("ok" if v.ok else "bad", "numbers agree" if v.ok else "numbers DIFFER", f"{exact}; {_difference(v)}")


def _difference(v: Verification) -> str:
    if v.reference == "none" or not (v.details or v.max_abs_error):
        return "no float reference was run"
    largest = f"{v.max_abs_error:.3g} ({percent(v.max_relative_error)} of the largest value)"
    if not math.isfinite(v.error_bound):
        return f"largest difference from {v.reference} {largest}; no bound is stated, as what comes out are integers"
    stated = [found for found in v.details.values() if math.isfinite(found.get("rms_bound", v.error_bound))]
    rms = [found["rms_error"] for found in stated if "rms_error" in found]
    if not rms:
        return f"largest difference from {v.reference} {largest}, stated bound {v.error_bound:.3g}"
    # The bound is one of the root mean square, which the largest single difference may exceed.
    return f"rms difference from {v.reference} {max(rms):.3g}, stated bound {v.error_bound:.3g}; largest difference {largest}"


def shortened(name: str, most: int) -> str:
    """A name of at most `most` characters; what is left out lies in its middle, for names differ at their ends."""
    if len(name) <= most:
        return name
    tail = max(most * 2 // 3, 1)
    return f"{name[: max(most - tail - 1, 0)]}…{name[len(name) - tail :]}"


def time_text(result: Result, cycles: float) -> str:
    """Cycles of the machine as a time with its unit."""
    return format_ns(cycles_to_ns(cycles, result.clock_ghz))


def cycles_text(cycles: float) -> str:
    """A number of cycles, with the word."""
    return f"{format_count(cycles)} cycles"


def seconds_text(seconds: float) -> str:
    """A duration of the tool itself; a dash if it is not known."""
    return format_ns(seconds * 1e9) if seconds else "-"


def power_text(mean_power_mw: float) -> str:
    """A power with the unit that suits it: `power_text(1500.0) == '1.5 W'`."""
    return f"{mean_power_mw / 1e3:.3g} W" if mean_power_mw >= 1e3 else f"{mean_power_mw:.3g} mW"


def percent(fraction: float) -> str:
    """A share in percent: one decimal below ten, none above, and a small one is not shown as zero."""
    value = 100.0 * fraction
    if 0 < value < 0.1:
        return "<0.1 %"
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def dominant_layers(result: Result) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """int32[cores]: the layer (index into `Result.nodes`) that a core works for most, -1 for none.

    By time in the trace, where there is one; else the layer with most arrays among those of the core.
    """
    index = {node.name: i for i, node in enumerate(result.nodes)}
    size = {node.name: node.arrays for node in result.nodes}
    found = np.full(len(result.core_nodes), -1, np.int32)
    for core, names in enumerate(result.core_nodes):
        known = [name for name in names if name in index]
        if known:
            found[core] = index[max(known, key=lambda name: size[name])]
    if result.trace is not None and result.trace.node.size:
        _by_time(result, index, found)
    return found


def _by_time(result: Result, index: Mapping[str, int], found: np.ndarray[tuple[int], np.dtype[np.int32]]) -> None:
    trace = result.trace
    assert trace is not None
    layer_of = np.array([index.get(name, -1) for name in trace.node_names] + [-1], np.int64)
    layer, core = layer_of[trace.node], trace.processor.astype(np.int64)
    used = (layer >= 0) & (core >= 0) & (core < found.size) & (trace.start_cycles >= 0)
    count = max(len(result.nodes), 1)
    pairs, inverse = np.unique(core[used] * count + layer[used], return_inverse=True)
    time = np.bincount(inverse, (trace.end_cycles - trace.start_cycles)[used], pairs.size)
    order = np.argsort(time, kind="stable")  # the longest of a core is written last, and stays
    found[pairs[order] // count] = pairs[order] % count
