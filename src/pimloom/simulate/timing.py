"""What the engines see of a program: resources, cycles and dependencies; no opcode and no hardware."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, final

import numpy as np

from pimloom.kernels import booking

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class Timing:
    """A program with its costs worked out. Array shapes are those of `pimloom.kernels.engine.run`.

    Rows that take and hold the same are of one form.

    Attributes:
        stream_ptr: int64[P + 1], rows of each processor.
        samples: instances of each row.
        stage: int32[n], iterations a row lags behind.
        partner: int32[n], other end of a message or -1.
        kind: int8[f], COMPUTE, SEND or RECEIVE.
        detached: int8[f], 1 where a row leaves the window when issued.
        reps: int32[f], repetitions.
        n_phases: int8[f], phases of a repetition.
        phase_res: int32[f, 4], resource or -1 - route.
        phase_hold: int32[f, 4], cycles.
        phase_pass: int32[f, 4], cycles.
        dep_ptr: int32[n + 1], dependencies in CSR form.
        dep_row: int32[m].
        dep_distance: int32[m], samples back.
        shared: int8[R], 1 where processors contend.
        route_ptr: int32[Q + 1].
        route_link: int32[L].
        gap_device: int32[R], constraint table of a resource or -1.
        gap_ptr: int32[D + 1].
        gap_before: int32[G].
        gap_after: int32[G].
        gap_cycles: int32[G].
        form: int32[n], form of each row; each is one of its own if not given.
        lead: int32[n], cycles between the moment that a row could be issued and its issue; all 0 if not given.
        posts: int8[f], phases that an end of a message goes through before it announces itself; all 0 if not given.
        window: attached instances in flight.
        queue: detached instances in flight.
        issue_cycles: cycles between issues.
        in_order: whether issue waits for dependencies.
        is_serial: whether a repetition begins only when the one before has ended.
        handshake_cycles: cycles from the meeting of send and receive to the start.
        hop_cycles: cycles from link to link of a route.
        is_wormhole: whether a message holds its whole route at once.
        until_cycles: time from which nothing is issued, with streams that repeat without end; 0 to run `samples`.
    """

    stream_ptr: Array
    samples: int
    stage: Array
    partner: Array
    kind: Array
    detached: Array
    reps: Array
    n_phases: Array
    phase_res: Array
    phase_hold: Array
    phase_pass: Array
    dep_ptr: Array
    dep_row: Array
    dep_distance: Array
    shared: Array
    route_ptr: Array
    route_link: Array
    gap_device: Array
    gap_ptr: Array
    gap_before: Array
    gap_after: Array
    gap_cycles: Array
    form: Array = field(default_factory=lambda: np.zeros(0))
    lead: Array = field(default_factory=lambda: np.zeros(0))
    posts: Array = field(default_factory=lambda: np.zeros(0))
    window: int = 1
    queue: int = 1
    issue_cycles: int = 1
    in_order: bool = False
    is_serial: bool = False
    handshake_cycles: int = 1
    hop_cycles: int = 1
    is_wormhole: bool = False
    until_cycles: int = 0

    def __post_init__(self) -> None:
        """Brings arrays to the dtypes that the kernel is compiled for and makes them read-only."""
        missing = {"form": np.arange(self.stage.size), "lead": np.zeros(self.stage.size), "posts": np.zeros(self.kind.size)}
        for name, values in missing.items():
            if getattr(self, name).size == 0:
                object.__setattr__(self, name, values)
        for spec in fields(self):
            dtype = _DTYPES.get(spec.name)
            if dtype is not None:
                array = np.ascontiguousarray(getattr(self, spec.name), dtype)
                array.flags.writeable = False
                object.__setattr__(self, spec.name, array)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.stage.size)

    @property
    def n_forms(self) -> int:
        """Number of forms."""
        return int(self.kind.size)

    @property
    def n_processors(self) -> int:
        """Number of processors."""
        return int(self.stream_ptr.size) - 1

    @property
    def iterations(self) -> int:
        """Times each stream runs: the samples and the lag of the last stage."""
        return self.samples + (int(self.stage.max()) if self.n_rows else 0)

    def by_row(self) -> Timing:
        """The same with a form per row."""
        per_form = ("kind", "detached", "reps", "n_phases", "phase_res", "phase_hold", "phase_pass", "posts")
        alone: dict[str, Any] = {name: getattr(self, name)[self.form] for name in per_form}
        return replace(self, form=np.arange(self.n_rows), **alone)

    def processor(self) -> Array:
        """int32[n]: the processor of each row."""
        return np.repeat(np.arange(self.n_processors, dtype=np.int32), np.diff(self.stream_ptr))


_DTYPES: dict[str, Any] = {
    "stream_ptr": np.int64, "stage": np.int32, "kind": np.int8, "detached": np.int8, "partner": np.int32,
    "form": np.int32, "reps": np.int32, "lead": np.int32, "posts": np.int8,
    "n_phases": np.int8, "phase_res": np.int32, "phase_hold": np.int32, "phase_pass": np.int32,
    "dep_ptr": np.int32, "dep_row": np.int32, "dep_distance": np.int32, "shared": np.int8,
    "route_ptr": np.int32, "route_link": np.int32, "gap_device": np.int32, "gap_ptr": np.int32,
    "gap_before": np.int32, "gap_after": np.int32, "gap_cycles": np.int32,
}  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Times:
    """What an engine found.

    Attributes:
        start: int64[n, samples], cycles: when an instance first starts a phase.
        done: int64[n, samples], cycles: when it is done.
        waits: int64[n, 4], cycles: waiting by cause (dependency, resource, message, window), over all samples.
        events: events handled (0 from the reference machine).
        rounds: int64[P], iterations that each processor has issued to their end; only where streams repeat until a time,
            and then `start` and `done` hold no samples.
        place: int64[P], rows that it has issued of the iteration after that.
    """

    start: Array
    done: Array
    waits: Array
    events: int = 0
    rounds: Array | None = None
    place: Array | None = None

    def in_cycles(self, ticks_per_cycle: int) -> Times:
        """Times in whole cycles: starts rounded down, ends rounded up."""
        if ticks_per_cycle == 1:
            return self
        start, done, waits = self.start // ticks_per_cycle, -(-self.done // ticks_per_cycle), self.waits // ticks_per_cycle
        return Times(start, np.where(self.done < 0, -1, done), waits, self.events, self.rounds, self.place)


WAIT_NAMES = ("dependency", "resource", "message", "window")
assert (booking.WAIT_DEPENDENCY, booking.WAIT_RESOURCE, booking.WAIT_MESSAGE, booking.WAIT_WINDOW) == (0, 1, 2, 3)
