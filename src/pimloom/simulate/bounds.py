"""Lower bounds: times that no schedule of a program, or no mapping of a network, can beat."""

from __future__ import annotations

import numpy as np

from pimloom.errors import InternalError
from pimloom.kernels import edges, forms, paths
from pimloom.kernels.booking import COMPUTE as COMPUTE_ROW
from pimloom.kernels.booking import SEND
from pimloom.program import Program
from pimloom.program.rows import Array
from pimloom.result import Bound
from pimloom.simulate.costs import CostedProgram
from pimloom.simulate.timing import Timing

COMPUTE = "slowest layer at the best replication that the crossbars of the machine allow"
"""What the bound of compute counts, unless a program's notes say something else."""

BUSIEST_CORE = "busiest core"

SHARED_COMPONENTS = (
    ("global memory", "bytes through the ports of the global memory, evenly spread"),
    ("network", "flits over the links, evenly spread over all links"),
    ("off-chip link", "bytes over the link to the memory outside the chip"),
)
"""Components that all processors share, and what their bound counts."""


def row_cycles(timing: Timing) -> Array:
    """int64[f]: cycles of a row of each form on an idle machine.

    One repetition takes the sum of its passes. The next begins when this one starts phase 1, so over a burst the slowest phase
    sets the pace: `sum(pass) + (reps - 1) * max(hold, pass of phase 0)`, where a phase held for less than it passes is pipelined.
    The phases before an end of a message announces itself are left out: they may pass while the other end is late.
    """
    t = timing
    phase = np.arange(t.phase_hold.shape[1])
    used = (phase < t.n_phases[:, None]) & (phase >= t.posts[:, None])
    once = np.where(used, t.phase_pass, 0).sum(axis=1, dtype=np.int64)
    # What a device holds is a command, not a time.
    is_timed = (t.phase_res < 0) | (np.append(t.gap_device, -1)[np.maximum(t.phase_res, -1)] < 0)
    pace = np.where(used & is_timed, t.phase_hold, 0).max(axis=1, initial=0).astype(np.int64)
    pace = np.maximum(pace, t.phase_pass[:, 0])
    return once + (t.reps.astype(np.int64) - 1) * (once if t.is_serial else pace)


def cycles_of_cores(timing: Timing) -> Array:
    """int64[P]: what each processor has to do per sample where it does one thing at a time; zeros where rows overlap.

    A row is in flight until it is done: for its own passes, an end of a message for the handshake too, and a receive until its send
    is done. Nothing that is waited for is counted.
    """
    t = timing
    if t.window > 1:
        return np.zeros(t.n_processors, np.int64)
    phase, duration = np.arange(t.phase_hold.shape[1]), row_cycles(t)
    before = np.where((phase < t.n_phases[:, None]) & (phase < t.posts[:, None]), t.phase_pass, 0).sum(axis=1, dtype=np.int64)
    own = before + duration + np.where(t.kind != COMPUTE_ROW, t.handshake_cycles, 0)
    found = np.zeros(t.n_processors, np.int64)
    forms.over_streams(
        t.stream_ptr, t.form, t.lead, t.partner, np.where(t.detached != 0, -1, own), np.where(t.kind == SEND, duration, 0), found
    )
    return found


def dependency_cycles(program: Program, costed: CostedProgram) -> int:
    """Cycles of the critical path of one sample: no port, link or unit is ever busy, but arrays serve one window at a time."""
    t = costed.timing
    duration = row_cycles(t)[t.form]
    targets = np.repeat(np.arange(t.n_rows, dtype=np.int64), np.diff(t.dep_ptr))
    same = t.dep_distance == 0
    sources, targets = t.dep_row[same].astype(np.int64), targets[same]
    delays = duration[sources]
    sends = np.flatnonzero(t.partner >= 0)
    sends = sends[t.kind[t.form[sends]] == SEND]
    array, hold = (figure[t.form] for figure in _arrays_held(costed))
    rows = np.flatnonzero(array >= 0)
    order = rows[np.lexsort((rows, t.stage[rows], array[rows]))]  # as one sample passes them
    follows = array[order[1:]] == array[order[:-1]]
    held = t.reps[t.form[order[:-1]]].astype(np.int64) * hold[order[:-1]]
    sources = np.concatenate([sources, sends, order[:-1][follows]])
    targets = np.concatenate([targets, t.partner[sends], order[1:][follows]])
    delays = np.concatenate([delays, duration[sends], held[follows]])
    next_ptr, by_source = np.zeros(t.n_rows + 1, np.int32), np.empty(sources.size, np.int64)
    status = edges.by_source(sources.astype(np.int32), next_ptr, by_source)
    finish = np.zeros(t.n_rows, np.int64)
    status = status or paths.longest(
        next_ptr, targets[by_source].astype(np.int32), delays[by_source], duration,
        np.bincount(targets, minlength=t.n_rows).astype(np.int32), np.zeros(t.n_rows, np.int64), finish,
        np.empty(t.n_rows, np.int32),
    )  # fmt: skip
    if status != paths.OK:
        raise InternalError(f"the rows of program '{program.name}' depend on each other in a circle")
    return int(finish.max(initial=0))


def _arrays_held(costed: CostedProgram) -> tuple[Array, Array]:
    """int64[f] each: the array (or array group) that a form holds, -1 for none, and for how long."""
    t, resources = costed.timing, costed.resources
    array, hold = np.full(t.n_forms, -1, np.int64), np.zeros(t.n_forms, np.int64)
    if resources.arrays not in resources.components:
        return array, hold
    is_array = resources.at(resources.arrays)
    for phase in range(t.phase_res.shape[1]):
        res = t.phase_res[:, phase]
        at = np.flatnonzero((t.n_phases > phase) & (res >= 0) & is_array[np.maximum(res, 0)])
        array[at], hold[at] = res[at], t.phase_hold[at, phase]
    return array, hold


def bounds(program: Program, costed: CostedProgram, busy: Array, core_cycles: float) -> tuple[Bound, ...]:
    """All bounds of a program.

    Args:
        program: the program.
        costed: its costs.
        busy: float64[R], busy cycles of each resource per sample.
        core_cycles: what the busiest core has to do per sample where it does one thing at a time; 0 elsewhere.
    """
    resources = costed.resources
    found: list[Bound] = []
    if program.graph.nodes:  # where rows stand for no data, their lists are all that is known of what depends on what
        found.append(Bound("dependency", "latency", dependency_cycles(program, costed) / costed.ticks_per_cycle,
                           "critical path of one sample if only the arrays could be busy"))  # fmt: skip
    if core_cycles:
        sentence = "what one core has to do, one instruction at a time"
        found += [Bound(BUSIEST_CORE, mode, core_cycles, sentence) for mode in ("latency", "throughput")]
    compute = program.notes.get("compute_bound_cycles")
    if compute:
        found.append(Bound("compute", "throughput", float(compute), str(program.notes.get("compute_bound", COMPUTE))))
    for component, sentence in SHARED_COMPONENTS:
        if component in resources.components:
            at = resources.at(component)
            found.append(Bound(component, "throughput", float(busy[at].sum() / max(int(at.sum()), 1)), sentence))
    busiest = int(np.argmax(busy)) if busy.size else 0
    name = resources.components[int(resources.component[busiest])] if busy.size else "none"
    found.append(Bound(f"busiest resource ({name})", "throughput", float(busy.max(initial=0.0)), "what this mapping asks of one resource"))
    return tuple(found)
