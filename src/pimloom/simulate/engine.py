"""The fast engine: hands a Timing to the compiled kernel and turns its status into a value or a sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pimloom.errors import InternalError, SimulationError
from pimloom.kernels import agenda, booking, edges, flight, heaps, serial
from pimloom.kernels import engine as kernel
from pimloom.simulate.timing import Array, Times, Timing

MAX_QUEUE_EVENTS = 1 << 22
MOST_ROUNDS = 1 << 30


def successors(timing: Timing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The dependency edges grouped by source: (ptr int32[n + 1], row int32[m], distance int32[m])."""
    targets = np.repeat(np.arange(timing.n_rows, dtype=np.int32), np.diff(timing.dep_ptr))
    ptr, order = np.zeros(timing.n_rows + 1, np.int32), np.empty(targets.size, np.int64)
    if edges.by_source(timing.dep_row, ptr, order) != edges.OK:
        raise InternalError("a row waits for one that the program does not have")
    return ptr, targets[order], timing.dep_distance[order]


def _pending_bound(timing: Timing) -> int:
    """Events that one processor can have pending: repetitions in flight of every instance in flight, and issue."""
    if not timing.n_rows:
        return 4
    hold = np.where(timing.phase_hold > 0, timing.phase_hold, 1)
    used = np.arange(timing.phase_hold.shape[1]) < timing.n_phases[:, None]
    flying = np.where(used, -(-timing.phase_pass // hold) + 1, 0).sum(axis=1)
    worst = int(np.minimum(flying, timing.reps.astype(np.int64) + 1).max())
    return (timing.window + timing.queue) * worst + 8


def _rounds_kept(timing: Timing) -> int:
    """Rounds of which the times must be known at once, where streams repeat: those in flight, and those depended on.

    Raises:
        SimulationError: a row depends on another processor's, which may be any number of rounds ahead, or has a stage.
    """
    processor = timing.processor()
    targets = np.repeat(np.arange(timing.n_rows), np.diff(timing.dep_ptr))
    if (processor[targets] != processor[timing.dep_row]).any():
        raise SimulationError("simulate: rows that depend on other processors cannot repeat until a time; run a number of samples")
    if timing.stage.any():
        raise SimulationError("simulate: rows of several stages cannot repeat until a time; run a number of samples")
    lengths = np.diff(timing.stream_ptr)
    shortest = int(lengths[lengths > 0].min(initial=1 << 30))
    return (timing.window + timing.queue) // shortest + 3 + int(timing.dep_distance.max(initial=0))


def _row_table(timing: Timing) -> np.ndarray:
    """int32[n * 4], as the kernel takes it."""
    table = np.empty((timing.n_rows, booking.ROW), np.int32)
    for i, column in enumerate((timing.form, timing.partner, timing.stage, timing.lead)):
        table[:, i] = column
    return table.ravel()


def _form_table(timing: Timing) -> np.ndarray:
    """int32[f * 24], as the kernel takes it."""
    t = timing
    table = np.zeros((t.n_forms, booking.LINE), np.int32)
    for i, column in enumerate((t.kind, t.detached, t.reps, t.posts, t.n_phases)):
        table[:, i] = column
    code = (t.shared | (t.gap_device + 1) << 1).astype(np.int32)
    phases = table[:, booking.FIRST :].reshape(t.n_forms, booking.MAX_PHASES, 4)
    phases[:, :, 0], phases[:, :, 1], phases[:, :, 2] = t.phase_res, t.phase_hold, t.phase_pass
    phases[:, :, 3] = np.where(t.phase_res < 0, 1, code[np.maximum(t.phase_res, 0)])
    return table.ravel()


def _commands(timing: Timing) -> tuple[Array, Array, int]:
    """When resources get free, and when each command of each was last given: nothing yet."""
    commands = int(max(timing.gap_before.max(initial=0), timing.gap_after.max(initial=0))) + 1
    last = np.full(timing.shared.size * commands if timing.gap_before.size else 1, -booking.MAX_TIME, np.int64)
    return np.zeros(timing.shared.size, np.int64), last, commands


def _aligned(n: int) -> Array:
    """int64[n], zeros that begin with a line of the processor's cache."""
    array = np.zeros(n + 8, np.int64)
    first = -(array.ctypes.data // 8) % 8
    return array[first : first + n]


def _ahead(timing: Timing) -> tuple[Array, Array, Array]:
    """Three of int64[P]: see `kernels.engine.run`.

    Who waits hears of the end of a row when the last request of that is served. A send that asks for something shared when it has met
    its receive keeps its turn; what concerns its own processor comes a pass later.
    """
    t, processor, kind = timing, timing.processor(), timing.kind[timing.form]
    of_waits, of_sends, of_receives = (np.full(t.n_processors, booking.MAX_TIME, np.int64) for _ in range(3))
    last = t.phase_pass[np.arange(t.n_forms), t.n_phases - 1]
    waiting = np.repeat(processor, np.diff(t.dep_ptr))
    is_far = waiting != processor[t.dep_row]
    np.minimum.at(of_waits, waiting[is_far], last[t.form[t.dep_row[is_far]]])
    sends, receives = np.flatnonzero(kind == booking.SEND), np.flatnonzero(kind == booking.RECEIVE)
    forms = t.form[sends]
    res, passing = t.phase_res[forms, t.posts[forms]], t.phase_pass[forms, t.posts[forms]]
    is_shared = (res < 0) | (t.shared[np.maximum(res, 0)] != 0)
    np.minimum.at(of_sends, processor[sends], np.where(is_shared, passing, 0) + t.handshake_cycles)
    np.minimum.at(of_receives, processor[receives], last[t.form[t.partner[receives]]])
    return of_waits, of_sends, of_receives


def _scratch(timing: Timing, capacity: int) -> tuple[object, ...]:
    """What the kernel works on, in its order."""
    p, slots = timing.n_processors, timing.window + timing.queue

    def zeros(n: int = p, dtype: type = np.int64) -> np.ndarray:
        return np.zeros(n, dtype)

    def none(n: int = p) -> np.ndarray:
        return np.full(n, -1, np.int64)

    free_slots = np.tile(np.arange(slots - 1, -1, -1, dtype=np.int32), p)
    cores = _aligned(p * flight.CORE)
    lines = cores.reshape(p, flight.CORE)
    lines[:, flight.N_FREE], lines[:, flight.PC], lines[:, flight.HELD] = slots, timing.stream_ptr[:-1], -1
    return (
        np.empty(2 * p * capacity, np.int64), zeros(), cores, _aligned(p * slots * flight.SLOT), free_slots, none(p * timing.window),
        *_ahead(timing), zeros(4), none(agenda.RING), none(), none(), zeros(p, np.int8), np.empty(4 * p + 64, np.int64),
        np.arange(p - 1, -1, -1, dtype=np.int32), np.ones(p, np.int8),
    )  # fmt: skip


def run(timing: Timing, describe: Callable[[int], str] | None = None) -> Times:
    """Simulates to the end.

    Args:
        timing: the costed program.
        describe: names a row in messages; its number if absent.

    Raises:
        SimulationError: a deadlock, with the row that each stuck processor waits at.
    """
    n, samples, iterations, kept = timing.n_rows, timing.samples, timing.iterations, timing.samples
    if timing.until_cycles:
        samples = iterations = MOST_ROUNDS
        kept = _rounds_kept(timing)
    times = np.full(2 * kept * n, -1, np.int64)
    rounds, place = np.zeros(timing.n_processors, np.int64), np.zeros(timing.n_processors, np.int64)
    waits = np.zeros(n * booking.N_WAITS, np.int64)
    report = np.zeros(4, np.int64)
    next_ptr, next_row, next_distance = successors(timing)
    shared = (
        timing.stream_ptr, timing.processor(), samples, iterations, kept, timing.until_cycles or booking.MAX_TIME,
        _row_table(timing), _form_table(timing),
        timing.dep_ptr, timing.dep_row, timing.dep_distance, next_ptr, next_row, next_distance,
        timing.route_ptr, timing.route_link, timing.gap_ptr,
        timing.gap_before, timing.gap_after, timing.gap_cycles,
    )  # fmt: skip
    if has_one_in_flight(timing):
        status = serial.run(
            *shared, int(timing.in_order), timing.handshake_cycles, timing.hop_cycles, int(timing.is_wormhole),
            times, waits, rounds, place, report, *_commands(timing),
            np.zeros(timing.n_processors * serial.STATE, np.int64), np.full(2 * timing.n_processors, heaps.NOTHING, np.int64),
            np.zeros(timing.n_processors, np.int32),
        )  # fmt: skip
    else:
        status = _run_windows(timing, shared, np.full(kept * n, -1, np.int32), (times, waits), (rounds, place, report))
    done, start = times.reshape(2, kept, n).transpose(0, 2, 1)
    if status == booking.DEADLOCK:
        raise SimulationError(deadlock_sentence(timing, done, describe or "row {}".format))
    if status == booking.TIME_OVERFLOW:
        raise SimulationError(f"simulate: time passed 2**44 cycles on processor {report[2]}; the program is too long")
    if status != booking.OK:
        raise InternalError(f"the event queue of processor {report[2]} overflowed")
    if timing.until_cycles:
        none = np.zeros((n, 0), np.int64)
        return Times(none, none, waits.reshape(n, booking.N_WAITS), int(report[1]), rounds, place)
    return Times(np.ascontiguousarray(start), np.ascontiguousarray(done), waits.reshape(n, booking.N_WAITS), int(report[1]))


def has_one_in_flight(timing: Timing) -> bool:
    """Whether the kernel for processors with one row in flight runs a program: it must do all that the program asks for."""
    t = timing
    is_small = 0 < t.n_processors <= serial.MOST_PROCESSORS
    return is_small and t.window == 1 and t.issue_cycles == 1 and t.is_serial and not t.detached.any()


def _run_windows(timing: Timing, shared: tuple[object, ...], where: Array, found: tuple[Array, Array], ends: tuple[Array, ...]) -> int:
    """Hands over to the kernel for windows of any size; returns its status."""
    capacity = _pending_bound(timing)
    if timing.window + timing.queue > flight.MAX_SLOTS:
        in_flight = f"{timing.window + timing.queue} rows in flight on one processor"
        raise SimulationError(f"simulate: {in_flight} found, at most {flight.MAX_SLOTS} expected; lower the issue window")
    if capacity * timing.n_processors > MAX_QUEUE_EVENTS * 64:
        raise SimulationError(f"simulate: {capacity} events may be pending on one processor; lower the issue window")
    return kernel.run(
        *shared, timing.window, timing.queue, timing.issue_cycles, int(timing.in_order), int(timing.is_serial),
        timing.handshake_cycles, timing.hop_cycles, int(timing.is_wormhole), capacity, *found, where, *ends,
        *_commands(timing), *_scratch(timing, capacity),
    )  # fmt: skip


def deadlock_sentence(timing: Timing, done: np.ndarray, describe: Callable[[int], str]) -> str:
    """Names the first instance that never finished on each stuck processor and what it waits for (three at most)."""
    processor = timing.processor()
    parts: list[str] = []
    for p in range(timing.n_processors):
        rows = np.arange(timing.stream_ptr[p], timing.stream_ptr[p + 1])
        if not (done[rows] < 0).any():
            continue
        sample = int(np.argmax((done[rows] < 0).any(axis=0)))
        row = int(rows[np.argmax(done[rows, sample] < 0)])
        parts.append(f"processor {p} waits at {describe(row)}{_reason(timing, done, row, sample, processor, describe)}")
    more = f"; and {len(parts) - 3} more processors" if len(parts) > 3 else ""
    return "deadlock: " + "; ".join(parts[:3]) + more


def _reason(timing: Timing, done: np.ndarray, row: int, sample: int, processor: np.ndarray, describe: Callable[[int], str]) -> str:
    for e in range(timing.dep_ptr[row], timing.dep_ptr[row + 1]):
        source, back = int(timing.dep_row[e]), int(timing.dep_distance[e])
        if sample - back >= 0 and done[source, sample - back] < 0:
            return f" for {describe(source)} of processor {processor[source]}"
    other = int(timing.partner[row])
    return f" for {describe(other)} of processor {processor[other]}" if other >= 0 else ""
