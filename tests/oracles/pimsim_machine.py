"""pimsim-nn's timing and energy in plain Python: the specification that faster models of it are compared with.

One list of events in order of time; every unit, memory and switch is an object, what it does a generator that yields
the time it goes on at (or None, to be woken). Numbers in brackets, like [3.3], name the section of the study notes of
pimsim-nn that a rule comes from. Times are ns, energies pJ. pimsim-nn resolves events of equal time by the order of
addresses on its heap; here it is core, then unit (vector, transfer, matrix), then age.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pimloom.errors import SimulationError
from pimloom.program.pimsim import Architecture, MemoryPart, PimsimProgram, Quirks, element_bytes, output_elements, pair_messages
from pimloom.program.pimsim.opcodes import BY_CODE, CODE, Unit

Ranges = list[tuple[int, int]]
Process = Generator[float | None, None, None]

_STATE, _WORK, _DISPATCH = range(3)  # at one time: what is finished, what units do, what is dispatched


@dataclass(frozen=True)
class Outcome:
    """What a run yields.

    Attributes:
        finish_ns: when each core retired its last instruction (0 without instructions, NaN if it did not).
        latency_ns: the latest of them.
        rounds: how often each core ran its list, counted as pimsim-nn does.
        throughput_per_s: mean of rounds over the time simulated.
        energy_pj: static and dynamic, over the time simulated (or the latency, for one pass).
        dynamic_pj: dynamic energy by component.
        dispatch_ns: of each instruction, in its last round.
        retire_ns: of each instruction.
        conflicts: (instruction, earlier one) pairs that the conflict check held an instruction back for.
    """

    finish_ns: list[float]
    latency_ns: float
    rounds: list[int]
    throughput_per_s: float
    energy_pj: float
    dynamic_pj: dict[str, float]
    dispatch_ns: list[float]
    retire_ns: list[float]
    conflicts: set[tuple[int, int]]


class _Clock:
    """The list of events."""

    def __init__(self, period_ns: float) -> None:
        self.now: float = 0
        self.period = period_ns
        self._events: list[tuple[float, int, int, int, int, Callable[[], None]]] = []
        self._pushed = 0

    def at(self, time: float, action: Callable[[], None], kind: int = _WORK, core: int = 0, unit: int = 0) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (time, kind, core, unit, self._pushed, action))

    def run(self, until_ns: float = math.inf) -> None:
        while self._events and self._events[0][0] < until_ns:
            event = heapq.heappop(self._events)
            self.now = event[0]
            event[5]()

    def edge(self, time: float) -> float:
        """The first clock edge at or after `time`. [3: edges at multiples of the period]"""
        return math.ceil(round(time / self.period, 9)) * self.period

    def finish_edge(self, ended: float, waited: float, is_woken: bool) -> float:
        """When a unit notices that its work has ended. [3.3]

        The edge of that time, if the end was known before the tick of that edge was; else the next one: after no wait,
        a wait of one period, or when something else woke the unit.
        """
        edge = self.edge(ended)
        return edge + self.period if edge == ended and (is_woken or waited <= self.period) else edge


class _Task:
    """A generator under way; remembers how its last wait came to its end."""

    def __init__(self, clock: _Clock, steps: Process, core: int, unit: int, then: Callable[[_Task], None]) -> None:
        self.clock, self.core, self.unit, self.then = clock, core, unit, then
        self.waited: float = 0
        self.is_woken = False
        self._steps = steps
        self._asked: float | None = None

    def step(self) -> None:
        self.waited = self.clock.now - self._asked if self._asked is not None else 0
        self._asked = self.clock.now
        try:
            wanted = next(self._steps)
        except StopIteration:
            self.then(self)
            return
        self.is_woken = wanted is None
        if wanted is not None:
            self.clock.at(wanted, self.step, _WORK, self.core, self.unit)

    def wake(self) -> None:
        """Goes on now, after a wait without an end of its own."""
        self.clock.at(self.clock.now, self.step, _WORK, self.core, self.unit)


class _Memory:
    """One port for reads and writes, first come first served; beats are not pipelined. [3.4]"""

    def __init__(self, clock: _Clock, part: MemoryPart, charge: Callable[[str, float], None], name: str) -> None:
        self.clock, self.part, self.charge, self.name = clock, part, charge, name
        self.free: float = 0

    def read(self, size_bytes: int) -> float:
        beats = -(-size_bytes // self.part.width_bytes)
        self.charge(self.name, beats * self.part.read_energy_pj)
        return self._book(beats * self.part.read_ns)

    def write(self, size_bytes: int) -> float:
        beats = -(-size_bytes // self.part.width_bytes)
        self.charge(self.name, beats * self.part.write_energy_pj)
        return self._book(beats * self.part.write_ns)

    def _book(self, duration: float) -> float:
        self.free = max(self.clock.now, self.free) + duration
        return self.free


@dataclass
class _Message:
    """What a switch sends: `arrive` is carried out at the other end while the switch is still taken."""

    to: int
    flits: int
    arrive: Callable[[], Process]


class _Switch:
    """Sends one message at a time, in order. [3.6]"""

    def __init__(self, machine: _Machine, number: int) -> None:
        self.machine, self.number = machine, number
        self.waiting: deque[_Message] = deque()
        self.is_busy = False

    def put(self, message: _Message) -> None:
        self.waiting.append(message)
        if not self.is_busy:
            self._next()

    def _next(self) -> None:
        self.is_busy = bool(self.waiting)
        if self.waiting:
            core = max(self.number, 0)
            _Task(self.machine.clock, self._send(self.waiting.popleft()), core, Unit.TRANSFER, lambda _: self._next()).step()

    def _send(self, message: _Message) -> Process:
        yield self.machine.clock.now + self.machine.path_ns(self.number, message.to, message.flits)
        yield from message.arrive()


@dataclass
class _Entry:
    """An instruction in the reorder buffer."""

    row: int
    is_finished: bool = False


@dataclass
class _Group:
    """An array group: what it works on, and the instruction that the distributor holds for it."""

    is_busy: bool = False
    held: tuple[_Entry, float] | None = None


@dataclass
class _Costs:
    """Per instruction, as plain lists: bytes read first, read second, written; ns of computing; pJ of the unit."""

    first: Sequence[int]
    second: Sequence[int]
    write: Sequence[int]
    compute: Sequence[float]
    energy: Sequence[float]


class _Core:
    """One core: a front end in order, a reorder buffer, three units, a local memory, a switch."""

    def __init__(self, machine: _Machine, number: int) -> None:
        program = machine.program
        self.machine, self.clock, self.number = machine, machine.clock, number
        self.memory = _Memory(machine.clock, machine.architecture.local_memory, machine.charge, "local memory")
        self.first, self.stop = int(program.core_ptr[number]), int(program.core_ptr[number + 1])
        self.trailing = int(program.scalars_after()[number])
        self.next_row = self.first
        self.next_cycle = 2 * machine.clock.period  # [3.1: the first instruction is dispatched two cycles after cycle 0]
        self.bubbles = machine.scalars[self.first] if self.stop > self.first else 0
        self.buffer: deque[_Entry] = deque()
        self.is_ready = {Unit.MATRIX: True, Unit.VECTOR: True, Unit.TRANSFER: True}
        self.groups: dict[int, _Group] = {}
        self.last_matrix_retired: float = -1
        self.events = [0] * 32
        self.waits: tuple[int, int, _Task] | None = None  # event register, value, who waits
        self.requests: set[int] = set()  # cores whose send has announced itself
        self.receiving: tuple[int, _Task] | None = None  # from whom, who waits for the data
        self.sending: _Task | None = None  # waits for the receiver
        self.rounds = 0
        self.finish: float = 0 if self.stop == self.first else math.nan
        self.is_pending = False

    # Front end and reorder buffer ----------------------------------------------------------------------------

    def begin(self) -> None:
        if self.stop > self.first:
            self._try_at(self.next_cycle)

    def _try_at(self, time: float) -> None:
        self.clock.at(time, self._dispatch, _DISPATCH, self.number)

    def changed(self) -> None:
        """Something that dispatch may wait for has changed in this cycle."""
        if not self.is_pending:
            self.is_pending = True
            self._try_at(self.clock.edge(self.clock.now))

    def _dispatch(self) -> None:
        """Dispatches the next instruction if all is well in this cycle; else a change will bring us back. [3.1]"""
        self.is_pending = False
        now = self.clock.now
        if now < self.next_cycle or not self._has_work() or len(self.buffer) >= self.machine.rob_size:
            return  # [3.1: a full buffer stops bubbles too]
        if self.bubbles:
            # Scalar instructions take a cycle each; nothing can fill the buffer meanwhile. [3.1]
            self.next_cycle = now + self.bubbles * self.clock.period
            self.bubbles = 0
            self._try_at(self.next_cycle)
            return
        row = self.next_row
        unit = self.machine.unit[row]
        if not self.is_ready[unit] or self._has_conflict(row):
            return
        entry = _Entry(row)
        self.buffer.append(entry)
        self.machine.dispatched[row] = now
        self._advance()
        self.next_cycle = now + self.clock.period
        self._try_at(self.next_cycle)
        self._hand_over(entry, unit)

    def _has_work(self) -> bool:
        return self.next_row < self.stop

    def _advance(self) -> None:
        self.next_row += 1
        if self.next_row < self.stop:
            self.bubbles = self.machine.scalars[self.next_row]
            return
        self.rounds += 1
        if self.machine.is_repeated:  # [3.1: the list begins again without a gap]
            self.next_row = self.first
            self.bubbles = self.trailing + self.machine.scalars[self.first]

    def fetched_rounds(self) -> int:
        """Rounds whose last instruction was fetched: it stands in fetch, decode or dispatch, or has left. [3.8]"""
        if self.machine.quirks.rounds_count_fetches and self.stop > self.first:
            position, length = self.machine.program.position, int(self.machine.program.length_of_core[self.number])
            if self.next_row < self.stop and length - (int(position[self.next_row]) - self.bubbles) <= 3:
                return self.rounds + 1
        return self.rounds

    def _has_conflict(self, row: int) -> bool:
        """Whether an unfinished instruction touches what this one touches. [3.2]"""
        found = False
        for entry in self.buffer:
            if not entry.is_finished and self.machine.conflict(row, entry.row):
                self.machine.conflicts.add((row, entry.row))
                found = True
        return found

    def _retire(self, entry: _Entry) -> None:
        """Marks an entry finished and frees slots from the head. [3.2]"""
        entry.is_finished = True
        self.machine.retired[entry.row] = self.clock.now
        while self.buffer and self.buffer[0].is_finished:
            last = self.buffer.popleft()
            if last.row == self.stop - 1:
                self.finish = self.clock.now
        self.changed()

    # Units ---------------------------------------------------------------------------------------------------

    def _hand_over(self, entry: _Entry, unit: Unit) -> None:
        self.is_ready[unit] = False
        now, period = self.clock.now, self.clock.period
        if unit != Unit.MATRIX:
            # [3.3: vector and transfer start in the cycle after dispatch, one instruction at a time]
            steps = self._vector(entry.row) if unit == Unit.VECTOR else self._transfer(entry.row)
            task = _Task(self.clock, steps, self.number, unit, lambda t: self._unit_ended(t, entry, unit))
            self._announce(entry.row, task)
            self.clock.at(now + period, task.step, _WORK, self.number, unit)
            return
        group = self.groups.setdefault(self.machine.group[entry.row], _Group())
        if group.is_busy:  # [3.3: the distributor holds it, one deep, and nothing else for matrices is dispatched]
            group.held = (entry, now)
        else:
            self._start_group(group, entry, now + 2 * period)

    def _start_group(self, group: _Group, entry: _Entry, time: float) -> None:
        """Starts an array group at `time`; the distributor takes another instruction in the cycle before. [3.3]"""
        group.is_busy = True
        task = _Task(self.clock, self._matrix(entry.row), self.number, Unit.MATRIX, lambda t: self._group_ended(t, entry, group))
        self.clock.at(time, task.step, _WORK, self.number, Unit.MATRIX)
        self.clock.at(time - self.clock.period, lambda: self._became_ready(Unit.MATRIX), _STATE, self.number)

    def _became_ready(self, unit: Unit) -> None:
        self.is_ready[unit] = True
        self.changed()

    def _unit_ended(self, task: _Task, entry: _Entry, unit: Unit) -> None:
        edge = self.clock.finish_edge(self.clock.now, task.waited, task.is_woken)
        # [3.3: the unit takes the next instruction in cycle F, this one retires in F + 1]
        self.clock.at(edge, lambda: self._became_ready(unit), _STATE, self.number)
        self.clock.at(edge + self.clock.period, lambda: self._retire(entry), _STATE, self.number)

    def _group_ended(self, task: _Task, entry: _Entry, group: _Group) -> None:
        edge = self.clock.finish_edge(self.clock.now, task.waited, task.is_woken)
        self.clock.at(edge, lambda: self._group_finished(entry, group), _STATE, self.number)

    def _group_finished(self, entry: _Entry, group: _Group) -> None:
        now, period = self.clock.now, self.clock.period
        # [3.3: array groups retire through a queue, one a cycle]
        self.last_matrix_retired = max(now, self.last_matrix_retired) + period
        self.clock.at(self.last_matrix_retired, lambda: self._retire(entry), _STATE, self.number)
        group.is_busy = False
        if group.held is not None:
            (following, dispatched), group.held = group.held, None
            self._start_group(group, following, max(dispatched + 2 * period, now + period))
        self.changed()

    # What units do [3.5] -------------------------------------------------------------------------------------

    def _vector(self, row: int) -> Process:
        """Reads one or two vectors, computes, writes."""
        costs = self.machine.costs
        yield self.memory.read(costs.first[row])
        if self.machine.sources[row] == 2:
            yield self.memory.read(costs.second[row])
        self.machine.charge("vector unit", costs.energy[row])
        yield self.clock.now + costs.compute[row]
        yield self.memory.write(costs.write[row])

    def _matrix(self, row: int) -> Process:
        """Reads the input vector (eight times), multiplies, writes all columns of the group."""
        costs = self.machine.costs
        yield self.memory.read(costs.first[row])
        self.machine.charge("crossbars", costs.energy[row])
        yield self.clock.now + costs.compute[row]
        yield self.memory.write(costs.write[row])

    def _announce(self, row: int, task: _Task) -> None:
        """Keeps the task of a transfer where messages find it."""
        self.machine.transfer[self.number] = task

    def _transfer(self, row: int) -> Process:
        name = self.machine.name[row]
        return getattr(self, f"_{name}")(row)

    def _lldi(self, row: int) -> Process:
        yield self.memory.write(self.machine.costs.write[row])

    def _lmv(self, row: int) -> Process:
        """Read and write are asked for at once."""
        self.memory.read(self.machine.costs.first[row])
        yield self.memory.write(self.machine.costs.write[row])

    def _ld(self, row: int) -> Process:
        """A request of one flit; the switch is taken until the memory has answered; the answer is free."""
        machine, size, task = self.machine, self.machine.costs.write[row], self.machine.transfer[self.number]

        def arrive() -> Process:
            yield machine.memory.read(size)
            if machine.quirks.load_response_is_free:
                task.wake()
            else:
                machine.switch(machine.memory_switch).put(_Message(self.number, machine.flits(size), answer))

        def answer() -> Process:
            task.wake()
            yield from ()

        machine.switch(self.number).put(_Message(machine.memory_switch, 1, arrive))
        yield None
        yield self.memory.write(size)

    def _st(self, row: int) -> Process:
        """The data travels as a request; the switch is taken until it is written; the answer is free."""
        machine, size, task = self.machine, self.machine.costs.first[row], self.machine.transfer[self.number]
        yield self.memory.read(size)

        def arrive() -> Process:
            yield machine.memory.write(size)
            task.wake()

        machine.switch(self.number).put(_Message(machine.memory_switch, machine.flits(size), arrive))
        yield None

    def _send(self, row: int) -> Process:
        """Asks the receiver, waits until it is ready, reads, puts the data into the switch and is done."""
        machine, size, to = self.machine, self.machine.costs.first[row], self.machine.peer[row]
        receiver: _Core = machine.cores[to]

        def ask() -> Process:
            receiver.requested_by(self.number)
            yield machine.clock.now + 1  # [3.5: a request takes the sender's switch 1 ns longer]

        def arrive() -> Process:
            receiver.take_data(self.number)
            yield from ()

        self.sending = machine.transfer[self.number]
        machine.switch(self.number).put(_Message(to, 1, ask))
        yield None
        yield self.memory.read(size)
        machine.switch(self.number).put(_Message(to, machine.flits(size), arrive))

    def _recv(self, row: int) -> Process:
        """Answers the sender's request, at once or when it comes; waits for the data, writes them."""
        sender = self.machine.peer[row]
        self.receiving = (sender, self.machine.transfer[self.number])
        if sender in self.requests:
            self._answer(sender)
        yield None
        yield self.memory.write(self.machine.costs.write[row])

    def requested_by(self, sender: int) -> None:
        self.requests.add(sender)
        if self.receiving is not None and self.receiving[0] == sender:
            self._answer(sender)

    def _answer(self, sender: int) -> None:
        self.requests.discard(sender)

        def arrive() -> Process:
            waiting = self.machine.cores[sender].sending
            assert waiting is not None
            self.machine.cores[sender].sending = None
            waiting.wake()
            yield from ()

        self.machine.switch(self.number).put(_Message(sender, 1, arrive))

    def take_data(self, sender: int) -> None:
        assert self.receiving is not None and self.receiving[0] == sender
        task, self.receiving = self.receiving[1], None
        task.wake()

    def _sync(self, row: int) -> Process:
        """Adds one to an event register of another core; nothing is waited for."""
        target: _Core = self.machine.cores[self.machine.peer[row]]
        register = self.machine.event[row]

        def arrive() -> Process:
            target.events[register] += 1
            target.notice()
            yield from ()

        self.machine.switch(self.number).put(_Message(target.number, 1, arrive))
        yield from ()

    def _wait(self, row: int) -> Process:
        self.waits = (self.machine.event[row], self.machine.value[row], self.machine.transfer[self.number])
        if not self._is_reached():
            yield None
        register, value, _ = self.waits
        # [1.4: the register must be equal, and is cleared]
        self.events[register] = 0 if self.machine.quirks.wait_needs_equality else self.events[register] - value
        self.waits = None

    def _is_reached(self) -> bool:
        assert self.waits is not None
        register, value, _ = self.waits
        found = self.events[register]
        return found == value if self.machine.quirks.wait_needs_equality else found >= value

    def notice(self) -> None:
        if self.waits is not None and self._is_reached():
            self.waits[2].wake()


@dataclass
class _Machine:
    """One run."""

    program: PimsimProgram
    architecture: Architecture
    quirks: Quirks
    is_repeated: bool
    rob_size: int
    dynamic: dict[str, float] = field(default_factory=dict[str, float])
    conflicts: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    cores: list[_Core] = field(init=False)

    def __post_init__(self) -> None:
        program, architecture = self.program, self.architecture
        pair_messages(program)
        self.clock = _Clock(architecture.period_ns)
        self.name = [BY_CODE[c].name for c in program.opcode.tolist()]
        self.unit = [BY_CODE[c].unit for c in program.opcode.tolist()]
        self.sources = [BY_CODE[c].sources for c in program.opcode.tolist()]
        self.scalars: list[int] = program.scalars_before().tolist()
        self.group: list[int] = program.group.tolist()
        self.peer: list[int] = program.peer.tolist()
        self.event: list[int] = program.event.tolist()
        self.value: list[int] = program.value.tolist()
        self.costs = _costs(program, architecture, self.quirks)
        self.touched: dict[int, tuple[Ranges, Ranges]] = {}
        self.memory = _Memory(self.clock, architecture.global_memory, self.charge, "global memory")
        self.memory_switch = architecture.memory_switch
        self.transfer: dict[int, _Task] = {}
        self.dispatched = [math.nan] * program.n_instructions
        self.retired = [math.nan] * program.n_instructions
        self.switches: dict[int, _Switch] = {}
        self.cores = [_Core(self, k) for k in range(program.n_cores)]

    def charge(self, component: str, energy_pj: float) -> None:
        self.dynamic[component] = self.dynamic.get(component, 0.0) + energy_pj

    def switch(self, number: int) -> _Switch:
        return self.switches.setdefault(number, _Switch(self, number))

    def flits(self, size_bytes: int) -> int:
        return -(-size_bytes // self.architecture.bus_bytes)

    def path_ns(self, start: int, end: int, flits: int) -> float:
        """Time of a message, and its energy. [3.6, 3.7: every flit pays the whole path; the product is truncated]"""
        network = self.architecture.network
        i, j = network.index(start), network.index(end)
        is_known = i >= 0 and j >= 0 and bool(network.is_known[i, j])
        if not is_known and not self.quirks.missing_path_is_free:
            if i >= 0 and j >= 0 and bool(network.is_known[j, i]):
                return self.path_ns(end, start, flits)
            raise SimulationError(f"no path from switch {start} to switch {end} in the network file")
        if i < 0 or j < 0:
            return 0
        self.charge("network", flits * float(network.energy_pj[i, j]))
        latency = float(network.latency_ns[i, j])
        if self.quirks.flits_pay_full_path:
            return int(flits * latency)
        return int(latency) + max(flits - 1, 0) * self.clock.period

    def conflict(self, row: int, other: int) -> bool:
        """Read after write, write after read, and perhaps write after write. [3.2]"""
        (reads, writes), (before_reads, before_writes) = self._touched(row), self._touched(other)
        pairs = [*itertools.product(writes, before_reads), *itertools.product(reads, before_writes)]
        if not self.quirks.write_after_write_is_free:
            pairs += itertools.product(writes, before_writes)
        return any(self._overlap(mine, theirs) for mine, theirs in pairs)

    def _touched(self, row: int) -> tuple[Ranges, Ranges]:
        if row not in self.touched:
            self.touched[row] = compared_ranges(self.program, self.architecture, self.quirks, row)
        return self.touched[row]

    def _overlap(self, mine: tuple[int, int], theirs: tuple[int, int]) -> bool:
        """Closed ranges [start, start + bytes]: touching is enough. [3.2]"""
        if self.quirks.touching_ranges_conflict:
            return mine[0] <= theirs[0] + theirs[1] and theirs[0] <= mine[0] + mine[1]
        return len(range(max(mine[0], theirs[0]), min(mine[0] + mine[1], theirs[0] + theirs[1]))) > 0


def compared_ranges(program: PimsimProgram, architecture: Architecture, quirks: Quirks, row: int) -> tuple[Ranges, Ranges]:
    """(start, bytes) of what the conflict check takes an instruction to read and to write. [3.2]"""
    name = BY_CODE[int(program.opcode[row])].name
    rd, rs1, rs2, length, size, value = (
        int(column[row]) for column in (program.rd, program.rs1, program.rs2, program.length, program.size, program.offset)
    )
    wide_in, wide_out = -(-int(program.input_bits[row]) // 8), -(-int(program.output_bits[row]) // 8)
    result = wide_out if name in ("vvmul", "vvsll", "vvsra", "vtanh", "vsigm", "vrsu", "vrsl") else wide_in
    # [1.2: offsets count elements in vector instructions; whether rs1 and rs2 have one is read from the value itself]
    select = int(program.selection[row])
    others = value if quirks.second_offset_follows_value else select
    is_vector = name.startswith("v")
    rd_offset = (value * (result if is_vector else 1)) if select & 1 else 0
    rs1_offset = (value * (wide_in if is_vector else 1)) if others & 2 else 0
    rs2_offset = (value * wide_in) if others & 4 else 0
    if name in ("ld", "st") and quirks.global_ranges_start_at_zero:
        rd = rs1 = 0  # [3.2: the register of the 64-bit operand's partner is lost]
    rd, rs1, rs2 = rd + rd_offset, rs1 + rs1_offset, rs2 + rs2_offset
    if name == "mvmul":
        weights = architecture.matrix.columns * architecture.matrix.cell_bits // int(program.weight_bits[row])
        core = int(np.searchsorted(program.core_ptr, row, side="right")) - 1
        crossbars = int(program.group_crossbars[int(program.group_ptr[core]) + int(program.group[row])])
        return [(rs1, architecture.matrix.rows * wide_in)], [(rd, weights * crossbars * wide_out)]
    if name == "vmv":
        if quirks.strided_move_never_conflicts:
            return [], []
        stride = max(int(program.rs2[row]), 1)
        return [(rs1, ((length - 1) * stride + 1) * wide_in if length else 0)], [(rd, length * wide_in)]
    if name == "vavg":
        return [(rs1, length * wide_in)], [(rd, wide_in)]
    if name == "vrelu":
        return [(rs1, length * wide_in)], [(rd, length * (wide_out if quirks.relu_range_is_output_wide else wide_in))]
    if name in ("vrsu", "vrsl"):
        bound = [(rs2, length * wide_in)] if quirks.bound_is_a_range else []
        return [(rs1, length * wide_in), *bound], [(rd, length * wide_out)]
    if name in ("vtanh", "vsigm"):
        return [(rs1, length * wide_in)], [(rd, length * wide_out)]
    if is_vector:
        return [(rs1, length * wide_in), (rs2, length * wide_in)], [(rd, length * result)]
    if name == "lldi":
        return [], [(rd, 1 if quirks.copies_conflict_by_size else length)]
    if name == "lmv":
        moved = size if quirks.copies_conflict_by_size else length
        return [(rs1, moved)], [(rd, moved)]
    reads = [(rs1, size)] if name in ("st", "send") else []
    writes = [(rd, size)] if name in ("ld", "recv") else []
    return reads, writes


def mvm_cycles(architecture: Architecture, input_bits: int, *, rounds_down: bool) -> tuple[int, int, int]:
    """Cycles of an `mvmul`, its input steps, its conversion steps. [3.5]"""
    m = architecture.matrix

    def divide(a: int, b: int) -> int:
        return a // b if rounds_down else -(-a // b)

    steps = divide(input_bits, m.dac_bits) * divide(m.rows, m.dac_count)
    conversions = divide(m.columns, m.adc_count)
    front = m.dac_cycles + math.ceil(m.crossbar_ns / m.period_ns) + m.sample_hold_cycles
    output = m.shift_adder_cycles + m.output_buffer_cycles
    back = m.adc_cycles + output + (conversions - 1) * max(m.adc_cycles, output)
    cycles = front + back + (steps - 1) * max(front, back) if m.is_pipelined else steps * (front + back)
    return cycles, steps, conversions


def mvm_energy_pj(architecture: Architecture, steps: int, conversions: int) -> float:
    """Energy of one crossbar for one `mvmul`. [3.7]"""
    m = architecture.matrix
    period = m.period_ns
    return steps * (
        period * m.dac_cycles * m.dac_power_mw * m.dac_count
        + m.crossbar_power_mw * m.crossbar_ns
        + period * m.sample_hold_power_mw * m.sample_hold_cycles * m.columns
        + conversions * period * (
            m.adc_power_mw * m.adc_cycles * m.adc_count
            + m.shift_adder_power_mw * m.shift_adder_cycles
            + m.output_buffer_power_mw * m.output_buffer_cycles
        )
    )  # fmt: skip


def _costs(program: PimsimProgram, architecture: Architecture, quirks: Quirks) -> _Costs:
    """Bytes, computing times and energies of all instructions. [3.5, 3.7]"""
    n, matrix = program.n_instructions, architecture.matrix
    wide_in, wide_out = (w.tolist() for w in element_bytes(program))
    written = output_elements(program, architecture).tolist()
    crossbars = program.crossbars().tolist()
    length, size, bits = program.length.tolist(), program.size.tolist(), program.input_bits.tolist()
    first, second, write = [0] * n, [0] * n, [0] * n
    compute, energy = [0.0] * n, [0.0] * n
    for row, code in enumerate(program.opcode.tolist()):
        operation = BY_CODE[code]
        if operation.unit == Unit.MATRIX:
            cycles, steps, conversions = mvm_cycles(architecture, bits[row], rounds_down=quirks.divisions_round_down)
            first[row] = (8 if quirks.reads_input_eightfold else 1) * matrix.rows * wide_in[row]
            write[row] = written[row] * wide_out[row]
            compute[row] = cycles * matrix.period_ns
            energy[row] = crossbars[row] * mvm_energy_pj(architecture, steps, conversions)
        elif operation.unit == Unit.VECTOR:
            first[row] = second[row] = length[row] * wide_in[row]
            write[row] = length[row] * (wide_out if operation.writes_output_width else wide_in)[row]
            beats = -(-length[row] // architecture.vector_width)
            compute[row] = beats * architecture.vector_ns
            energy[row] = beats * architecture.vector_energy_pj
        else:
            first[row] = write[row] = length[row] if code in (CODE["lldi"], CODE["lmv"]) else size[row]
    return _Costs(first, second, write, compute, energy)


def run(
    program: PimsimProgram, architecture: Architecture, *, sim_mode: int | None = None, sim_time_ms: float | None = None,
    rob_size: int | None = None, quirks: Quirks | None = None,
) -> Outcome:  # fmt: skip
    """Simulates one pass (sim_mode 1), or lists repeated for a stated time (0). The architecture's values by default.

    Raises:
        SimulationError: cores wait for each other forever.
    """
    mode = architecture.sim_mode if sim_mode is None else sim_mode
    chosen = quirks if quirks is not None else Quirks()
    machine = _Machine(program, architecture, chosen, mode == 0, rob_size if rob_size is not None else architecture.rob_size)
    stop_ns = (sim_time_ms if sim_time_ms is not None else architecture.sim_time_ms) * 1e6
    for core in machine.cores:
        core.begin()
    machine.clock.run(stop_ns if mode == 0 else math.inf)
    finish = [core.finish for core in machine.cores]
    if mode == 1 and any(math.isnan(f) for f in finish):
        stuck = [core.number for core in machine.cores if math.isnan(core.finish)]
        raise SimulationError(f"deadlock: cores {stuck[:8]} do not come to their end")
    latency = max((f for f in finish if not math.isnan(f)), default=0.0)
    elapsed = stop_ns if mode == 0 else latency
    fetched = _fetched(machine, mode)
    machine.charge("fetch", fetched * architecture.fetch_power_mw * architecture.period_ns)
    # [3.7: every core that has code, and the global memory once; matrices are left out]
    cores = int(np.count_nonzero(program.is_present))
    static_mw = cores * (architecture.core_static_power_mw + architecture.local_memory.static_power_mw)
    static_mw += architecture.global_memory.static_power_mw
    rounds = [core.fetched_rounds() for core in machine.cores]
    counted = [r for r, present in zip(rounds, program.is_present.tolist(), strict=True) if present]
    return Outcome(
        finish, latency, rounds, float(np.mean(counted)) / (elapsed * 1e-9) if elapsed else 0.0,
        elapsed * static_mw + sum(machine.dynamic.values()), machine.dynamic, machine.dispatched, machine.retired, machine.conflicts,
    )  # fmt: skip


def _fetched(machine: _Machine, mode: int) -> int:
    """Instructions fetched, scalar ones included; of an unfinished round, up to the next to dispatch."""
    program = machine.program
    whole = sum(core.rounds * int(program.length_of_core[core.number]) for core in machine.cores)
    if mode == 1:
        return whole
    return whole + sum(int(program.position[core.next_row]) for core in machine.cores if core.next_row < core.stop)


def conflicts_within(
    program: PimsimProgram, architecture: Architecture, quirks: Quirks, rob_size: int, *, is_repeated: bool
) -> set[tuple[int, int, int]]:
    """(instruction, earlier one, runs of the list back) that conflict and can be in a buffer of `rob_size` together."""
    machine = _Machine(program, architecture, quirks, is_repeated, rob_size)
    found: set[tuple[int, int, int]] = set()
    for core in machine.cores:
        length = core.stop - core.first
        for place in range(length):
            for earlier in range(place - rob_size + 1, place):
                run_back, row = -(earlier // length), core.first + earlier % length
                if (earlier >= 0 or is_repeated) and machine.conflict(core.first + place, row):
                    found.add((core.first + place, row, run_back))
    return found
