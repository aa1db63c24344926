"""Simulation of a Program: costs, engine, and what the times say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pimloom.errors import InternalError, SimulationError
from pimloom.ir.ops import full_attributes, op_of
from pimloom.program import INSTRUCTIONS, MACHINES, Program
from pimloom.program.rows import Array
from pimloom.result import NodeResult, Result, Trace
from pimloom.result.result import MAX_TRACED_ROWS
from pimloom.simulate import engine
from pimloom.simulate.bounds import BUSIEST_CORE, bounds, cycles_of_cores
from pimloom.simulate.condense import Condensed, condense, expand, place_of, with_all_waits
from pimloom.simulate.costs import CostedProgram, cost
from pimloom.simulate.timing import WAIT_NAMES, Times, Timing


def simulate(program: Program, run: Callable[..., Times] = engine.run, *, trace: bool = True, until_cycles: int | None = None) -> Result:
    """Simulates a program cycle by cycle.

    Args:
        program: what to run.
        run: the engine; the reference machine in tests.
        trace: whether to keep the times of all rows.
        until_cycles: for how long streams repeat, which gives period and energy per sample; 0 to run the program's samples
            once; what the kind of machine says if not given.

    Raises:
        SimulationError: the program deadlocks.
    """
    costed = cost(program)
    begun = time.perf_counter()
    shorter = condense(costed.timing) if run is engine.run else None
    times = _run(program, costed.timing, shorter, run, is_complete=trace or bool(program.graph.nodes))
    core = _core_cycles(costed, costed.timing if shorter is None else shorter.timing)
    result = summarise(program, costed, times.in_cycles(costed.ticks_per_cycle), core, trace=trace)
    until = MACHINES[program.hardware.kind].until_cycles(program) if until_cycles is None else until_cycles
    if until:
        result = _in_steady_state(program, costed, _repeat(costed, shorter, until, run), until, result)
    return replace(result, simulate_s=time.perf_counter() - begun)


def _run(
    program: Program, timing: Timing, shorter: Condensed | None, run: Callable[..., Times], *, is_complete: bool
) -> Times:  # fmt: skip
    """Runs the samples once; without `is_complete` times may be those of the rows that are left only."""
    describe = describe_row(program)
    if shorter is None:
        return run(timing, describe) if run is engine.run else run(timing)
    times = run(shorter.timing, lambda row: describe(int(shorter.kept[row])))
    return expand(shorter, times) if is_complete else with_all_waits(shorter, times)


def _repeat(costed: CostedProgram, shorter: Condensed | None, until_cycles: int, run: Callable[..., Times]) -> Times:
    """Runs streams that repeat until a time."""
    timing = costed.timing if shorter is None else shorter.timing
    times = run(replace(timing, until_cycles=until_cycles * costed.ticks_per_cycle))
    if shorter is None or times.place is None:
        return times
    return replace(times, place=place_of(shorter, times.place))


def _in_steady_state(program: Program, costed: CostedProgram, times: Times, until_cycles: int, once: Result) -> Result:
    """The result of one pass with period and energy from streams that repeated until a time.

    The period is that time over the mean of all streams' rounds; energy is shared out among as many samples.
    """
    if times.rounds is None or times.place is None:
        raise InternalError("streams were to repeat until a time, but no rounds were counted")
    used = np.flatnonzero(np.diff(program.stream_ptr))
    counted = MACHINES[program.hardware.kind].counted_rounds(program, times.rounds, times.place)[used]
    samples = float(counted.mean()) if counted.size else 0.0
    if samples <= 0:
        raise SimulationError(f"simulate: no stream came to its end within {until_cycles} cycles; let streams repeat for longer")
    executed = _times_issued(program, times.rounds, times.place)
    times_of_form = np.bincount(costed.forms.of_row, executed, costed.timing.n_forms)
    energy = {name: float(values @ times_of_form) / samples for name, values in costed.costs.energy_pj.items()}
    period = until_cycles / samples
    energy["static"] = MACHINES[program.hardware.kind].static_mw(program) * period / program.hardware.clock_ghz
    # Streams go at their own pace here, and the period is that of their mean.
    kept = tuple(bound for bound in once.bounds if (bound.name, bound.mode) != (BUSIEST_CORE, "throughput"))
    notes = dict(once.notes) | {"rounds": times.rounds.tolist()}
    return replace(once, period_cycles=period, energy_pj=energy, bounds=kept, notes=notes)


def _times_issued(program: Program, rounds: Array, place: Array) -> Array:
    """int64[n]: how often each row was issued."""
    processor = program.rows["processor"]
    return rounds[processor] + (np.arange(program.n_rows) - program.stream_ptr[processor] < place[processor])


def cycles(program: Program) -> tuple[int, float]:
    """Latency of the first sample and steady-state period, without the rest: the cost function of searches."""
    costed = cost(program)
    times = engine.run(costed.timing).in_cycles(costed.ticks_per_cycle)
    busy = resource_busy(costed.timing, costed.forms.rows) / costed.ticks_per_cycle
    return int(times.done[:, 0].max(initial=0)), _period(costed.timing, times, busy, _core_cycles(costed, costed.timing))


def _core_cycles(costed: CostedProgram, timing: Timing) -> float:
    """What the busiest core has to do per sample, where it does one thing at a time; joined rows are a part of what is left."""
    return float(cycles_of_cores(timing).max(initial=0)) / costed.ticks_per_cycle


def describe_row(program: Program) -> Callable[[int], str]:
    """Names a row by its mnemonic and node."""

    def describe(row: int) -> str:
        node = int(program.rows["node"][row])
        name = f" of '{program.graph.nodes[node].name}'" if node >= 0 else ""
        return f"row {row} ({INSTRUCTIONS[int(program.rows['opcode'][row])].name}{name})"

    return describe


def _period(timing: Timing, times: Times, busy: Array, core_cycles: float) -> float:
    """Cycles between samples in the steady state.

    Over the second half of the run, where start-up has passed, and of the processor with the longest period: a run of a few
    samples ends in a burst where early layers had run ahead. Never less than a resource is busy per sample, or a core that does
    one thing at a time.
    """
    samples = times.done.shape[1]
    if samples < 2:
        return float(times.done.max(initial=0))
    half = samples // 2
    used = np.flatnonzero(np.diff(timing.stream_ptr))
    if not used.size:
        return 0.0
    ends = np.maximum.reduceat(times.done[:, [half - 1, -1]], timing.stream_ptr[used], axis=0)
    slowest = float((ends[:, 1] - ends[:, 0]).max()) / (samples - half)
    return max(slowest, float(busy.max(initial=0.0)), core_cycles)


def summarise(program: Program, costed: CostedProgram, times: Times, core: float, *, trace: bool) -> Result:
    """Everything but the seconds; `times` and what the busiest core has to do in cycles."""
    machine, t, resources = program.hardware, costed.timing, costed.resources
    ends = times.done.max(axis=0, initial=0)
    busy = resource_busy(t, costed.forms.rows) / costed.ticks_per_cycle
    latency, period = int(ends[0]) if ends.size else 0, _period(t, times, busy, core)
    span = period if program.mode == "throughput" and program.samples > 1 else float(latency)
    energy = {name: float(values @ costed.forms.rows) for name, values in costed.costs.energy_pj.items()}
    energy["static"] = MACHINES[machine.kind].static_mw(program) * span / machine.clock_ghz
    weighted = busy * resources.weight
    totals = {name: float(weighted[resources.at(name)].sum()) for name in resources.components}
    counts = resources.units
    links = busy[resources.at("network")] if "network" in resources.components else busy[:0]
    grid_rows, grid_cols = machine.processor_grid
    instructions = int(program.rows["count"][costed.forms.first].astype(np.int64) @ costed.forms.rows)  # rows of a form have one count
    return Result(
        model=program.name, hardware=machine.name, target=program.target, mode=program.mode, samples=program.samples,
        clock_ghz=machine.clock_ghz, nodes=_nodes(program, costed, times), rows=program.n_rows, instructions=instructions,
        cycles=int(ends.max(initial=0)), latency_cycles=latency, period_cycles=period, energy_pj=energy, busy_cycles=totals,
        resources=counts,
        utilisation={name: totals[name] / max(counts[name] * span, 1.0) for name in resources.components},
        busiest={name: float(busy[resources.at(name)].max(initial=0.0)) / max(span, 1.0) for name in resources.components},
        waits_cycles={name: float(times.waits[:, i].sum()) / program.samples for i, name in enumerate(WAIT_NAMES)},
        bounds=bounds(program, costed, busy, core), core_busy=_core_busy(program, costed, busy),
        core_arrays=np.bincount(program.groups.processor, program.groups.crossbars, machine.processors).astype(np.int32),
        core_nodes=_core_nodes(program), link_load=links / max(span, 1.0),
        chip_rows=grid_rows, chip_cols=grid_cols, chips=machine.chips,
        trace=_trace(program, times) if trace and program.n_rows <= MAX_TRACED_ROWS else None, notes=dict(program.notes),
        arrays_in_use=_arrays_in_use(program), array_name=resources.arrays,
    )  # fmt: skip


def _arrays_in_use(program: Program) -> float:
    """Share of the arrays that hold weights at some time: a processor cannot have more in use than it has."""
    used = np.bincount(program.groups.processor, program.groups.crossbars, program.hardware.processors)
    return float(np.minimum(used, program.hardware.arrays_per_processor).sum()) / max(program.hardware.arrays, 1)


def resource_busy(timing: Timing, rows: Array | None = None) -> Array:
    """float64[R]: time that each resource is held per sample, in units of the timing.

    Args:
        timing: the costed program.
        rows: int64[f], rows of each form; counted if not given.
    """
    rows = np.bincount(timing.form, minlength=timing.n_forms) if rows is None else rows
    repeats = timing.reps.astype(np.float64) * rows
    busy = np.zeros(timing.shared.size)
    by_route = np.zeros(timing.route_ptr.size - 1)
    for phase in range(int(timing.n_phases.max(initial=0))):
        forms = np.flatnonzero(timing.n_phases > phase)
        res, held = timing.phase_res[forms, phase], timing.phase_hold[forms, phase] * repeats[forms]
        plain = (res >= 0) & (timing.gap_device[np.maximum(res, 0)] < 0)
        busy += np.bincount(res[plain], held[plain], busy.size)
        by_route += np.bincount(-1 - res[res < 0], held[res < 0], by_route.size)
    return busy + np.bincount(timing.route_link, np.repeat(by_route, np.diff(timing.route_ptr)), busy.size)


def _core_busy(program: Program, costed: CostedProgram, busy: Array) -> dict[str, Array]:
    resources = costed.resources
    found: dict[str, Array] = {}
    for name in resources.of_processors:
        at = resources.at(name)
        found[name] = np.bincount(resources.owner[at], (busy * resources.weight)[at], program.hardware.processors)
    return found


def _pairs(first: Array, second: Array) -> Array:
    """int64[k, 2]: the different pairs of two columns of small whole numbers, sorted."""
    width = int(second.max(initial=0)) + 1
    code = np.unique(first.astype(np.int64) * width + second)
    return np.stack([code // width, code % width], axis=1)


def _core_nodes(program: Program) -> tuple[tuple[str, ...], ...]:
    names: list[dict[str, None]] = [{} for _ in range(program.hardware.processors)]
    if program.graph.nodes:
        rows = program.rows
        for core, node in _pairs(rows["processor"][rows["node"] >= 0], rows["node"][rows["node"] >= 0]):
            names[core][program.graph.nodes[node].name] = None
    return tuple(tuple(n) for n in names)


def _nodes(program: Program, costed: CostedProgram, times: Times) -> tuple[NodeResult, ...]:
    rows, graph = program.rows, program.graph
    n = len(graph.nodes)
    if not n:
        return ()
    at = np.flatnonzero(rows["node"] >= 0)
    node = rows["node"][at]
    first, last = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    begun = times.start[at, 0]
    np.minimum.at(first, node[begun >= 0], begun[begun >= 0])
    np.maximum.at(last, node, times.done[at, 0])
    energy = sum((_by_node(costed, values, n) for values in costed.costs.energy_pj.values()), np.zeros(n))
    busy = _busy_by_node(costed, n)
    waits = {name: np.bincount(node, times.waits[at, i], n) / program.samples for i, name in enumerate(WAIT_NAMES)}
    moved = {name: _by_node(costed, values, n) for name, values in costed.costs.moved_bytes.items()}
    cores = np.bincount(_pairs(rows["processor"][at], node)[:, 1], minlength=n)
    crossbars = _crossbars_by_node(program)
    copies: Mapping[str, Any] = program.notes.get("copies", {})
    kinds: Mapping[str, Any] = program.notes.get("kinds", {})
    made: list[NodeResult] = []
    for i, one in enumerate(graph.nodes):
        if last[i] == 0:
            continue
        macs = op_of(one).macs(full_attributes(one), graph.input_types(one), graph.output_types(one))
        made.append(NodeResult(
            one.name, one.op, str(kinds.get(one.name, "")), int(first[i]), int(last[i]), {k: float(v[i]) for k, v in busy.items() if v[i]},
            float(energy[i]), int(macs), int(crossbars.get(i, 0)), int(copies.get(one.name, 0)), int(cores[i]),
            {k: float(v[i]) for k, v in waits.items()}, {k: float(v[i]) for k, v in moved.items() if v[i]},
        ))  # fmt: skip
    return tuple(made)


def _by_node(costed: CostedProgram, values: Array, n: int) -> Array:
    """float64[n]: the sum of a figure of forms over the rows of each node."""
    at = np.flatnonzero(costed.node >= 0)
    return np.bincount(costed.node[at], (values * costed.forms.rows)[at], n)


def _busy_by_node(costed: CostedProgram, n: int) -> dict[str, Array]:
    t, names, component, weight = costed.timing, costed.resources.components, costed.resources.component, costed.resources.weight
    network = names.index("network") if "network" in names else -1
    repeats = t.reps.astype(np.float64) * costed.forms.rows
    busy = np.zeros((len(names), n))
    for phase in range(t.phase_res.shape[1]):
        at = np.flatnonzero((t.n_phases > phase) & (costed.node >= 0))
        if not at.size:
            continue
        res = t.phase_res[at, phase]
        part = np.where(res < 0, network, component[np.maximum(res, 0)]).astype(np.int64)
        held = t.phase_hold[at, phase] * repeats[at] * np.where(res < 0, 1.0, weight[np.maximum(res, 0)])
        busy += np.bincount(part * n + costed.node[at], held, len(names) * n).reshape(len(names), n)
    return {name: busy[i] / costed.ticks_per_cycle for i, name in enumerate(names)}


def _crossbars_by_node(program: Program) -> dict[int, int]:
    rows = program.rows
    mvm = np.flatnonzero([row.name == "mvm" for row in INSTRUCTIONS])[0]
    at = rows["opcode"] == mvm
    sizes: dict[int, int] = {}
    for node, group in _pairs(rows["node"][at], rows["arg"][at]):
        sizes[int(node)] = sizes.get(int(node), 0) + int(program.groups.crossbars[group])
    return sizes


def _trace(program: Program, times: Times) -> Trace:
    return Trace(
        program.rows["processor"].astype(np.int32), program.rows["opcode"].copy(), program.rows["node"].astype(np.int32),
        times.start[:, 0].copy(), times.done[:, 0].copy(), tuple(row.name for row in INSTRUCTIONS),
        tuple(node.name for node in program.graph.nodes),
    )  # fmt: skip
