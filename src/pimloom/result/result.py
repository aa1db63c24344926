"""Result: what a run yields. Types and schema only; `simulate` and `execute` fill it in, `report` reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np

from pimloom.units import format_count, format_ns, format_pj

Array = np.ndarray[Any, np.dtype[Any]]

SCHEMA_VERSION = 1
MAX_TRACED_ROWS = 400_000


@final
@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one graph node took.

    Attributes:
        name: of the node.
        op: its op.
        kind: how it was computed (matrix, pool, vector, mean, general, view).
        start_cycles: first activity, in the first sample.
        end_cycles: last activity, in the first sample.
        busy_cycles: component to cycles in which its resources (of a group, every crossbar) worked for the node, added, per sample.
        energy_pj: per sample, without static energy.
        macs: multiply-accumulates per sample.
        arrays: crossbars or macros that hold its weights.
        copies: of its weights.
        cores: that work for it.
        waits_cycles: cause to cycles that its instructions waited, all of them added, per sample.
        moved_bytes: component to bytes, per sample.
    """

    name: str
    op: str
    kind: str
    start_cycles: int
    end_cycles: int
    busy_cycles: Mapping[str, float]
    energy_pj: float
    macs: int
    arrays: int
    copies: int
    cores: int
    waits_cycles: Mapping[str, float]
    moved_bytes: Mapping[str, float]


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound: "compute" holds for any mapping of the network, the others for the program at hand.

    Attributes:
        name: what bounds.
        mode: "latency" (one sample) or "throughput" (per sample, steady state).
        cycles: the bound.
        explanation: one sentence.
    """

    name: str
    mode: str
    cycles: float
    explanation: str


@final
@dataclass(frozen=True, slots=True)
class Verification:
    """How the numbers of a run compare.

    Attributes:
        reference: what they were compared with ("onnxruntime", "graph", "none").
        is_bit_exact: whether the executed codes equal the integer meaning of the graph.
        max_abs_error: largest difference from the float reference, over all outputs.
        max_relative_error: that, over the largest magnitude of the reference.
        error_bound: the stated bound of the root mean square difference.
        ok: bit exact, and within the bound.
        details: per output, its figures.
    """

    reference: str
    is_bit_exact: bool
    max_abs_error: float
    max_relative_error: float
    error_bound: float
    ok: bool
    details: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])


@final
@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a program writes into arrays while it runs.

    Attributes:
        strategy: which array is written when.
        samples: that pass a segment before the next is written: those of a run.
        segments: pieces of the network that are on the arrays in turn.
        writes: array groups written per run.
        written_bytes: of weights, per run.
        resident_bytes: of weights that are written once, before the first sample.
        writes_per_array_max: of the array that is written most, per run.
        writes_per_array_mean: over all arrays of the machine, per run.
        endurance_writes: that an array bears.
        inferences_until_worn: samples until the array that is written most has been written that often; None if none is written.
    """

    strategy: str
    samples: int
    segments: int
    writes: int
    written_bytes: int
    resident_bytes: int
    writes_per_array_max: int
    writes_per_array_mean: float
    endurance_writes: int
    inferences_until_worn: int | None


@final
@dataclass(frozen=True, slots=True)
class Trace:
    """Start and end of every row in the first sample, for timelines. Parallel arrays of length n.

    Attributes:
        processor: int32, core.
        opcode: uint8.
        node: int32, -1 for none.
        start_cycles: int64.
        end_cycles: int64.
        opcode_names: names by opcode.
        node_names: names by node.
    """

    processor: Array
    opcode: Array
    node: Array
    start_cycles: Array
    end_cycles: Array
    opcode_names: tuple[str, ...]
    node_names: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """Time, energy and numbers of one program on one machine.

    Attributes:
        model: name of the network.
        hardware: name of the machine.
        target: of the program.
        mode: "latency" or "throughput".
        samples: processed in the run.
        clock_ghz: of the machine.
        nodes: per graph node that was computed, in graph order.
        rows: rows of the instruction table.
        instructions: carried out per sample (bursts counted by their repetitions).
        cycles: from the start to the end of the last sample.
        latency_cycles: from the start to the end of the first sample.
        period_cycles: between the ends of two samples in the steady state; the latency if there was one sample.
        energy_pj: component to energy per sample; "static" is power at rest times the period (or the latency).
        busy_cycles: component to total busy cycles of all its resources, per sample.
        resources: component to the number of resources.
        utilisation: component to busy share of the time per sample, averaged over its resources.
        busiest: component to the busy share of its busiest resource.
        waits_cycles: cause to waiting cycles, all instructions added, per sample.
        bounds: lower bounds.
        core_busy: component to float64[cores], busy cycles per sample, for drawings of the chip.
        core_arrays: int32[cores], arrays in use.
        core_nodes: per core, names of the nodes it works for.
        link_load: float64[links], busy share of every link of the network, in the order of the machine's resources.
        chip_rows: rows of cores of a chip.
        chip_cols: columns.
        chips: number of chips.
        compile_s: seconds of compiling, 0 if unknown.
        simulate_s: seconds of simulating.
        execute_s: seconds of executing, 0 if not executed.
        verification: None if nothing was executed.
        trace: None where there are too many rows.
        notes: what the compiler reported.
        arrays_in_use: arrays that hold weights, over all.
        array_name: what holds weights on this kind of machine: the name of a component, "crossbars" or "macros".
        drawn_by: of the class: makes the summary that notebooks show; None until `pimloom.api` is imported, which knows the reports.
    """

    drawn_by: ClassVar[Callable[[Result], str] | None] = None

    model: str
    hardware: str
    target: str
    mode: str
    samples: int
    clock_ghz: float
    nodes: tuple[NodeResult, ...]
    rows: int
    instructions: int
    cycles: int
    latency_cycles: int
    period_cycles: float
    energy_pj: Mapping[str, float]
    busy_cycles: Mapping[str, float]
    resources: Mapping[str, int]
    utilisation: Mapping[str, float]
    busiest: Mapping[str, float]
    waits_cycles: Mapping[str, float]
    bounds: tuple[Bound, ...]
    core_busy: Mapping[str, Array]
    core_arrays: Array
    core_nodes: tuple[tuple[str, ...], ...]
    link_load: Array
    chip_rows: int
    chip_cols: int
    chips: int
    compile_s: float = 0.0
    simulate_s: float = 0.0
    execute_s: float = 0.0
    verification: Verification | None = None
    trace: Trace | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arrays_in_use: float = 0.0
    array_name: str = "crossbars"

    @property
    def rewriting(self) -> Rewriting | None:
        """What is written into arrays; None where weights stay."""
        figures = self.notes.get("rewriting")
        return None if figures is None else Rewriting(strategy=str(self.notes["strategy"]), **figures)

    @property
    def latency_ns(self) -> float:
        """Time of the first sample."""
        return self.latency_cycles / self.clock_ghz

    @property
    def throughput_per_s(self) -> float:
        """Samples per second in the steady state."""
        return 1e9 * self.clock_ghz / self.period_cycles if self.period_cycles else 0.0

    @property
    def total_energy_pj(self) -> float:
        """Energy per sample."""
        return float(sum(self.energy_pj.values()))

    def tightest(self, mode: str) -> Bound | None:
        """The largest lower bound for a mode."""
        return max((b for b in self.bounds if b.mode == mode), key=lambda b: b.cycles, default=None)

    def achieved(self, bound: Bound) -> float:
        """Bound over measured time: 1 is perfect."""
        measured = self.period_cycles if bound.mode == "throughput" else float(self.latency_cycles)
        return bound.cycles / measured if measured else 0.0

    def __repr__(self) -> str:
        """A line; `to_dict` has all of it."""
        how = f"{self.target}, {self.mode}, {self.samples} sample{'' if self.samples == 1 else 's'}"
        time = f"{format_ns(self.latency_ns)} latency, {format_count(self.throughput_per_s)}/s"
        verified = "not executed" if self.verification is None else "numbers agree" if self.verification.ok else "NUMBERS DIFFER"
        energy = f"{format_pj(self.total_energy_pj)} per sample"
        return f"<Result '{self.model}' on '{self.hardware}' ({how}): {time}, {energy}, {verified}>"

    def _repr_html_(self) -> str | None:
        """What a notebook shows; None, so that it shows the line, where nothing that draws is loaded."""
        draw = type(self).drawn_by
        return None if draw is None else draw(self)

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON form (docs/json.md), version `SCHEMA_VERSION`."""
        verification = self.verification
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "hardware": self.hardware,
            "target": self.target,
            "mode": self.mode,
            "samples": self.samples,
            "nodes": len(self.nodes),
            "rows": self.rows,
            "instructions": self.instructions,
            "compile_s": self.compile_s,
            "simulate_s": self.simulate_s,
            "execute_s": self.execute_s,
            "array_name": self.array_name,
            "clock_ghz": self.clock_ghz,
            "cycles": self.cycles,
            "latency_cycles": self.latency_cycles,
            "latency_ns": self.latency_ns,
            "period_cycles": self.period_cycles,
            "throughput_per_s": self.throughput_per_s,
            "energy_pj": {**{k: float(v) for k, v in self.energy_pj.items()}, "total": self.total_energy_pj},
            "utilisation": {**dict(self.utilisation), "arrays holding weights": self.arrays_in_use},
            "busiest": dict(self.busiest),
            "waits_cycles": dict(self.waits_cycles),
            "bounds": {
                f"{b.mode}: {b.name}": {"cycles": b.cycles, "achieved": self.achieved(b), "explanation": b.explanation}
                for b in self.bounds
            },
            "layers": [_layer_dict(node) for node in self.nodes],
            "verify": None if verification is None else {
                "reference": verification.reference,
                "bit_exact": verification.is_bit_exact,
                "max_abs_error": verification.max_abs_error,
                "max_relative_error": verification.max_relative_error,
                "error_bound": verification.error_bound,
                "ok": verification.ok,
            },
            "notes": dict(self.notes),
        }


def _layer_dict(node: NodeResult) -> dict[str, Any]:
    return {
        "name": node.name, "op": node.op, "kind": node.kind, "start_cycles": node.start_cycles, "end_cycles": node.end_cycles,
        "busy_cycles": dict(node.busy_cycles), "energy_pj": node.energy_pj, "macs": node.macs, "arrays": node.arrays,
        "copies": node.copies, "cores": node.cores, "waits_cycles": dict(node.waits_cycles), "moved_bytes": dict(node.moved_bytes),
    }  # fmt: skip
