"""Machines of kind `pimsim` in the terms of our engine: what each instruction holds, and for how long.

With one instruction of a core in flight, which is what PIMCOMP configures, nothing of a core contends with itself: an
instruction that stays on its core is one phase as long as all that it does. What cores share are the port of the global
memory and the switches: a core's switch also sends the data of its last message while the core goes on, and answers the
requests of others. The rules, and where each comes from, are in docs/decisions/007.

    ld      own switch (one flit), global memory, then its local memory
    st      local memory, own switch (all flits), global memory
    send    own switch (one flit); meets the recv; the receiver's switch (one flit), local memory
    recv    meets the send; the sender's switch (all flits), local memory

With more in flight, instructions wait for units and for conflicting addresses by explicit dependencies, and reads,
computing and writes are phases of their own.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware.pimsim import PimsimHardware, network_tables
from pimloom.program.costing import work_out
from pimloom.program.machine import CostContext, Formula, IssueRules, Machine, Resources
from pimloom.program.pimsim.encoding import (
    SWITCHES,
    Surroundings,
    bits_of,
    element_bytes,
    has_messages,
    list_lengths,
    noted_cores,
    scalars_before,
    surroundings,
    to_table,
    trailing_scalars,
)  # fmt: skip
from pimloom.program.pimsim.messages import check_messages
from pimloom.program.pimsim.opcodes import OPERATIONS, Operation, Unit
from pimloom.program.program import Program
from pimloom.program.rows import Array

COMPONENTS: Final = ("local memory", "vector unit", "crossbars", "network", "global memory")
_MOST_TICKS: Final = 4096
_HANDSHAKE: Final = 1
_FETCHED_AHEAD: Final = 3
"""Instructions that are fetched but not issued: in fetch, decode and dispatch."""


def pimsim_of(program: Program) -> PimsimHardware:
    """The machine of a program for machines of kind `pimsim`; ProgramError if it is another."""
    machine = program.hardware
    if not isinstance(machine, PimsimHardware):
        raise ProgramError(f"program '{program.name}': a machine of kind {machine.kind} found, pimsim expected")
    return machine


@final
@dataclass
class PimsimResources(Resources):
    """Resources of a machine of pimsim-nn.

    Attributes:
        hardware: the machine.
        trailing: int64[cores], scalar instructions at the end of each list.
        memory: int32[cores], ports of the local memories.
        vector: int32[cores], vector units.
        switch: int32[cores], switches.
        group: int32[groups], arrays of each group.
        port: port of the global memory.
        component: int8[R], index into COMPONENTS.
        owner: int32[R], core or group.
        weight: float64[R], crossbars of a group, 1 for everything else.
        is_switch_alone: bool[cores], whether no message comes from a core or goes to it.
    """

    hardware: PimsimHardware
    trailing: Array
    memory: Array
    vector: Array
    switch: Array
    group: Array
    port: int
    component: Array
    owner: Array
    weight: Array
    is_switch_alone: Array

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components."""
        return COMPONENTS

    @property
    def shared(self) -> Array:
        """int8[R]: 1 for switches and the global memory."""
        return (self.component >= COMPONENTS.index("network")).astype(np.int8)

    @property
    def units(self) -> Mapping[str, int]:
        """Units of each component; all crossbars of all groups."""
        counts = np.bincount(self.component, minlength=len(COMPONENTS))
        crossbars = int(self.weight[self.at("crossbars")].sum())
        return {name: int(counts[i]) for i, name in enumerate(COMPONENTS)} | {"crossbars": crossbars}

    @property
    def arrays(self) -> str:
        """Crossbars hold the weights."""
        return "crossbars"

    @property
    def of_processors(self) -> tuple[str, ...]:
        """What belongs to cores."""
        return ("local memory", "vector unit", "network")

    @staticmethod
    def of(program: Program) -> PimsimResources:
        """Numbers the resources that a program may hold."""
        machine, groups = pimsim_of(program), program.groups
        cores = np.arange(machine.cores, dtype=np.int32)
        counts = (cores.size, cores.size, len(groups), cores.size, 1)
        bases = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        parts = [np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(bases)]
        weight = np.ones(int(bases[-1]))
        weight[parts[2]] = groups.crossbars
        return PimsimResources(
            machine, trailing_scalars(program), parts[0], parts[1], parts[3], parts[2], int(parts[4][0]),
            np.repeat(np.arange(len(COMPONENTS)), counts).astype(np.int8),
            np.concatenate([cores, cores, groups.processor, cores, [0]]).astype(np.int32), weight, ~has_messages(program),
        )  # fmt: skip


PimsimCosts = CostContext[PimsimHardware, PimsimResources]


def ticks_per_cycle(machine: PimsimHardware) -> int:
    """Units of time per clock cycle, so that what the machine is made of lasts whole units (or as near as 4096 of them come)."""
    local, shared = machine.local_memory, machine.global_memory
    durations = (1.0, local.read_ns, local.write_ns, shared.read_ns, shared.write_ns)
    ticks = 1
    for duration in durations:
        ticks = math.lcm(ticks, Fraction(duration / machine.period_ns).limit_denominator(_MOST_TICKS).denominator)
    return ticks if ticks <= _MOST_TICKS else _MOST_TICKS


# -- times ----------------------------------------------------------------------------------------------------------


@final
class _Clock:
    """Turns times into ticks."""

    def __init__(self, c: PimsimCosts) -> None:
        self.period, self.ticks = c.hardware.period_ns, c.rules.ticks_per_cycle
        self.is_plain = self.period == 1.0 and self.ticks == 1

    def ticks_of(self, ns: Array | float) -> Array:
        """int64: a time as it is."""
        if self.is_plain and np.asarray(ns).dtype.kind == "i":
            return np.asarray(ns)
        return np.rint(np.asarray(ns, np.float64) * (self.ticks / self.period)).astype(np.int64)

    def seen(self, ns: Array, waited_ns: Array) -> Array:
        """int64: a time from a clock edge until a unit notices the end of its work, and one cycle more until it retires.

        That is the edge at or after the end; the next one where the end is an edge and the last wait no longer than a cycle.
        """
        if self.is_plain and ns.dtype.kind == "i":
            return ns + (np.asarray(waited_ns) <= 1) + 1
        cycles = np.round(np.asarray(ns, np.float64) / self.period, 9)
        edge = np.ceil(cycles)
        late = (edge == cycles) & (np.asarray(waited_ns) <= self.period)
        return (edge + late + 1).astype(np.int64) * self.ticks


def _beats(size_bytes: Array, width: int) -> Array:
    return -(-size_bytes // width)


def _local_read_ns(c: PimsimCosts, at: Array, size_bytes: Array, times: int = 1) -> Array:
    return _local(c, at, size_bytes, c.hardware.local_memory.read_ns, c.hardware.local_memory.read_energy_pj, times)


def _local_write_ns(c: PimsimCosts, at: Array, size_bytes: Array) -> Array:
    return _local(c, at, size_bytes, c.hardware.local_memory.write_ns, c.hardware.local_memory.write_energy_pj)


def _local(c: PimsimCosts, at: Array, size_bytes: Array, beat_ns: float, beat_pj: float, times: int = 1) -> Array:
    beats = times * _beats(size_bytes, c.hardware.local_memory.width_bytes)
    if beat_pj:
        c.costs.add_energy("local memory", at, beats * beat_pj)
    return beats * _plain(beat_ns)


def _plain(value: float) -> float | int:
    """A whole number as such: arrays of integers stay arrays of integers."""
    return int(value) if value == int(value) else value


def _memory_ns(c: PimsimCosts, at: Array, size_bytes: Array, *, is_read: bool) -> Array:
    memory = c.hardware.global_memory
    beats = _beats(size_bytes, memory.width_bytes)
    energy = memory.read_energy_pj if is_read else memory.write_energy_pj
    if energy:
        c.costs.add_energy("global memory", at, beats * energy)
    return beats * _plain(memory.read_ns if is_read else memory.write_ns)


def _flits(c: PimsimCosts, size_bytes: Array) -> Array:
    return _beats(size_bytes, c.hardware.network.flit_bytes)


def _path_ns(c: PimsimCosts, at: Array, ends: tuple[Array, Array], flits: Array) -> Array:
    """Time of messages from switch to switch, cut to whole nanoseconds; their energy is charged."""
    _charge_way(c, at, ends, flits)
    return _way_ns(c, at, ends, flits)


def _way_ns(c: PimsimCosts, at: Array, ends: tuple[Array, Array], flits: Array) -> Array:
    """Time of messages from switch to switch, cut to whole nanoseconds."""
    one = network_tables(c.hardware.network)[0][_ends_as_named(c, at, ends)]
    if c.hardware.quirks.flits_pay_full_path:
        return np.trunc(flits * one).astype(np.int64)
    return np.trunc(one) + np.maximum(flits - 1, 0) * c.hardware.period_ns


def _charge_way(c: PimsimCosts, at: Array, ends: tuple[Array, Array], flits: Array) -> None:
    """Energy of messages from switch to switch."""
    c.costs.add_energy("network", at, flits * network_tables(c.hardware.network)[1][_ends_as_named(c, at, ends)])


def _ends_as_named(c: PimsimCosts, at: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
    """Ends of ways as the tables have them: a file that names one direction only means both."""
    known = network_tables(c.hardware.network)[2]
    if c.hardware.quirks.missing_path_is_free or known[ends].all():
        return ends
    back = ends[::-1]
    lacks = ~known[ends] & ~known[back]
    if lacks.any():
        source, target = (int(end[np.argmax(lacks)]) for end in ends)
        where = _name(c.program, int(c.forms.first[at[np.argmax(lacks)]]))
        raise ProgramError(f"{where}: no path from {_switch_name(source)} to {_switch_name(target)} in the network found")
    is_named = known[ends]
    return np.where(is_named, ends[0], back[0]), np.where(is_named, ends[1], back[1])


def _switch_name(switch: int) -> str:
    return "the global memory" if switch == 0 else f"core {switch - 1}"


def _name(program: Program, row: int) -> str:
    core, position = int(program.rows["processor"][row]), int(program.rows["src1_step"][row])
    return f"program '{program.name}': core {core}, instruction {position}"


def _core(c: PimsimCosts, at: Array) -> Array:
    return c.rows["processor"][at].astype(np.int64)


def _length(c: PimsimCosts, at: Array) -> Array:
    """int64[k]: elements or bytes."""
    return c.rows["length"][at].astype(np.int64)


def _around(c: PimsimCosts, at: Array) -> Surroundings:
    return Surroundings.of(c.beside[at], c.resources.trailing[_core(c, at)], repeats=c.program.mode == "throughput")


def _lead(c: PimsimCosts, at: Array) -> None:
    """Issue slots of scalar instructions before a row, and its own way from dispatch to its unit; energy of fetching."""
    around, ticks = _around(c, at), c.rules.ticks_per_cycle
    own = 1 if c.hardware.rob_size == 1 else 0
    c.costs.lead[at] = (around.slots_before + own) * ticks
    if c.hardware.fetch_power_mw:
        fetched = 1 + around.fetched_before
        c.costs.add_energy("fetch", at, fetched * (c.hardware.fetch_power_mw * c.hardware.period_ns))


# -- instructions that stay on their core ---------------------------------------------------------------------------


def _alone(c: PimsimCosts, at: Array, resource: Array, parts: tuple[Array, ...], lag: int = 0) -> None:
    """Phases of an instruction that stays on its core: times of its reads, its computing and its writes.

    With one instruction in flight they are one phase; `lag` cycles pass before it starts.
    """
    clock = _Clock(c)
    _lead(c, at)
    if c.hardware.rob_size == 1:
        total = clock.seen(functools.reduce(operator.add, parts), parts[-1]) + lag * clock.ticks
        c.costs.add_phase(at, resource, total, total)
        return
    port = c.resources.memory[_core(c, at)]
    for i, part in enumerate(parts):
        is_last = i == len(parts) - 1
        hold = clock.ticks_of(part)
        passing = clock.seen(part, part) if is_last else hold + (lag * clock.ticks if i == 0 else 0)
        c.costs.add_phase(at, port if i != 1 or len(parts) < 3 else resource, hold, passing)


def _vector(operation: Operation) -> Formula:
    def cost(c: PimsimCosts, at: Array) -> None:
        machine, length = c.hardware, _length(c, at)
        wide_in, wide_out = element_bytes(c.rows[at])
        read = length * wide_in
        written = length * (wide_out if operation.writes_output_width else wide_in)
        beats = _beats(length, machine.vector_width)
        if machine.vector_energy_pj:
            c.costs.add_energy("vector unit", at, beats * machine.vector_energy_pj)
        parts = (
            _local_read_ns(c, at, read, operation.sources), beats * _plain(machine.vector_ns), _local_write_ns(c, at, written),
        )  # fmt: skip
        _alone(c, at, c.resources.vector[_core(c, at)], parts)

    return cost


def _mvmul(c: PimsimCosts, at: Array) -> None:
    rows, machine = c.rows[at], c.hardware
    matrix, quirks = machine.matrix, machine.quirks
    wide_in, wide_out = element_bytes(rows)
    group = rows["arg"]
    crossbars = c.program.groups.crossbars[group].astype(np.int64)
    results = matrix.columns * matrix.cell_bits // np.maximum(bits_of(rows, "weight_bits"), 1) * crossbars
    cycles, energy = mvm_costs(machine, bits_of(rows, "input_bits"))
    c.costs.add_energy("crossbars", at, crossbars * energy)
    times = 8 if quirks.reads_input_eightfold else 1
    parts = (
        _local_read_ns(c, at, times * matrix.rows * wide_in), cycles * _plain(matrix.period_ns), _local_write_ns(c, at, results * wide_out),
    )  # fmt: skip
    _alone(c, at, c.resources.group[group], parts, lag=1)


def mvm_costs(machine: PimsimHardware, input_bits: Array) -> tuple[Array, Array]:
    """Cycles of a matrix-vector product by the bits of its inputs, and the energy of one crossbar: int64[k] and float64[k].

    With n input steps and m conversions of an ADC per step, front = DAC + crossbar + sample and hold, back = ADC + shift and
    add + output + (m - 1) * the slower of ADC and what is behind it: pipelined `front + back + (n - 1) * max(front, back)`,
    else `n * (front + back)`.
    """
    m, floors = machine.matrix, machine.quirks.divisions_round_down

    def divide(a: Array | int, b: int) -> Array:
        return np.asarray(a) // b if floors else -(-np.asarray(a) // b)

    steps = divide(input_bits.astype(np.int64), m.dac_bits) * divide(m.rows, m.dac_count)
    conversions = int(divide(m.columns, m.adc_count))
    front = m.dac_cycles + math.ceil(round(m.crossbar_ns / m.period_ns, 9)) + m.sample_hold_cycles
    output = m.shift_adder_cycles + m.output_buffer_cycles
    back = m.adc_cycles + output + (conversions - 1) * max(m.adc_cycles, output)
    cycles = front + back + (steps - 1) * max(front, back) if m.is_pipelined else steps * (front + back)
    converted = m.adc_power_mw * m.adc_cycles * m.adc_count + m.shift_adder_power_mw * m.shift_adder_cycles
    converted += m.output_buffer_power_mw * m.output_buffer_cycles
    per_step = m.dac_power_mw * m.dac_cycles * m.dac_count + m.sample_hold_power_mw * m.sample_hold_cycles * m.columns
    per_step = m.period_ns * (per_step + conversions * converted) + m.crossbar_power_mw * m.crossbar_ns
    return cycles, steps * per_step


def _fill(c: PimsimCosts, at: Array) -> None:
    _alone(c, at, c.resources.memory[_core(c, at)], (_local_write_ns(c, at, _length(c, at)),))


def _copy(c: PimsimCosts, at: Array) -> None:
    """Read and write are asked for at once: one wait."""
    size = _length(c, at)
    both = _local_read_ns(c, at, size) + _local_write_ns(c, at, size)
    _alone(c, at, c.resources.memory[_core(c, at)], (both,))


# -- instructions that reach beyond their core ----------------------------------------------------------------------
#
# With one instruction in flight, what an instruction does at its own local memory, and at a switch that no message of others
# ever passes, is a delay: before its first phase a part of the lead, after its last one a part of the pass.


@final
class _Chain:
    """Phases of rows, delays and stays at shared resources in their order."""

    def __init__(self, c: PimsimCosts, at: Array) -> None:
        self.c, self.at, self.clock = c, at, _Clock(c)
        self.phases = 0
        _lead(c, at)

    def local(self, ns: Array, *, is_last: bool = False) -> None:
        """A stay at the local memory; at the end of an instruction until it retires."""
        c, at = self.c, self.at
        hold = self.clock.ticks_of(ns)
        passing = self.clock.seen(ns, ns) if is_last else hold
        if c.hardware.rob_size == 1:
            self.delay(passing)
        else:
            c.costs.add_phase(at, c.resources.memory[_core(c, at)], hold, passing)
            self.phases += 1

    def delay(self, ticks: Array) -> None:
        """Time in which nothing shared is held."""
        if self.phases:
            self.c.costs.passing[self.at, self.phases - 1] += ticks.astype(np.int32)
        else:
            self.c.costs.lead[self.at] += ticks.astype(np.int32)

    def shared(self, resource: Array, ticks: Array, *, more: int = 0) -> None:
        """A stay at a switch or the global memory, which is taken `more` ticks longer than it is under way."""
        self.c.costs.add_phase(self.at, resource, ticks + more, ticks)
        self.phases += 1


def _own_switch(c: PimsimCosts, at: Array) -> Array:
    return _core(c, at) + SWITCHES


def _by_traffic(cost: Callable[[PimsimCosts, Array, bool], None]) -> Formula:
    """Works out rows of cores that exchange messages apart from those of cores whose switch is theirs alone."""

    def both(c: PimsimCosts, at: Array) -> None:
        alone = c.resources.is_switch_alone[_core(c, at)] & (c.hardware.rob_size == 1)
        for rows, is_alone in ((at[alone], True), (at[~alone], False)):
            if rows.size:
                cost(c, rows, is_alone)

    return both


def _load(c: PimsimCosts, at: Array, is_alone: bool) -> None:
    size, own = _length(c, at), _own_switch(c, at)
    memory, chain = np.zeros(at.size, np.int64), _Chain(c, at)
    _to_memory(chain, _path_ns(c, at, (own, memory), np.ones(at.size, np.int64)), is_alone)
    chain.shared(np.full(at.size, c.resources.port), chain.clock.ticks_of(_memory_ns(c, at, size, is_read=True)))
    if not c.hardware.quirks.load_response_is_free:
        chain.delay(chain.clock.ticks_of(_path_ns(c, at, (memory, own), _flits(c, size))))
    chain.local(_local_write_ns(c, at, size), is_last=True)


def _store(c: PimsimCosts, at: Array, is_alone: bool) -> None:
    """The unit is woken by the network and notices it a cycle later."""
    size, own = _length(c, at), _own_switch(c, at)
    memory, chain = np.zeros(at.size, np.int64), _Chain(c, at)
    chain.local(_local_read_ns(c, at, size))
    _to_memory(chain, _path_ns(c, at, (own, memory), _flits(c, size)), is_alone)
    chain.shared(np.full(at.size, c.resources.port), chain.clock.ticks_of(_memory_ns(c, at, size, is_read=False)))
    chain.delay(np.full(at.size, 2 * chain.clock.ticks))


def _to_memory(chain: _Chain, ns: Array, is_alone: bool) -> None:
    """The way to the global memory through the core's switch."""
    ticks = chain.clock.ticks_of(ns)
    if is_alone:
        chain.delay(ticks)
    else:
        chain.shared(chain.c.resources.switch[_own_switch(chain.c, chain.at) - SWITCHES], ticks)


def _send(c: PimsimCosts, at: Array) -> None:
    """A request of one flit, the receiver's answer of one flit, then the data leave the local memory."""
    own, other, chain = _own_switch(c, at), c.rows["arg"][at] + SWITCHES, _Chain(c, at)
    size, one = _length(c, at), np.ones(at.size, np.int64)
    request = chain.clock.ticks_of(_path_ns(c, at, (own, other), one))
    # The request takes the switch a nanosecond longer than it is under way.
    chain.shared(c.resources.switch[own - SWITCHES], request, more=int(chain.clock.ticks_of(1.0)))
    answer = np.maximum(chain.clock.ticks_of(_way_ns(c, at, (other, own), one)) - _HANDSHAKE, 1)
    chain.shared(c.resources.switch[other - SWITCHES], answer)
    chain.local(_local_read_ns(c, at, size), is_last=True)
    _charge_way(c, at, (own, other), _flits(c, size))
    c.costs.posts[at] = 1


def _receive(c: PimsimCosts, at: Array) -> None:
    """The data come through the sender's switch, which has had them for a cycle when the send is done."""
    own, other, chain = _own_switch(c, at), c.rows["arg"][at] + SWITCHES, _Chain(c, at)
    data = chain.clock.ticks_of(_way_ns(c, at, (other, own), _flits(c, _around(c, at).other_length)))
    _charge_way(c, at, (own, other), np.ones(at.size, np.int64))  # its answer to the request
    chain.shared(c.resources.switch[other - SWITCHES], np.maximum(data - chain.clock.ticks, 1))
    chain.local(_local_write_ns(c, at, _length(c, at)), is_last=True)


def _sync(c: PimsimCosts, at: Array) -> None:
    """A flit that nobody waits for; what waits for the event does so by a dependency."""
    own = _own_switch(c, at)
    _path_ns(c, at, (own, c.rows["arg"][at] + SWITCHES), np.ones(at.size, np.int64))
    nothing = np.zeros(at.size)
    _alone(c, at, c.resources.memory[own - SWITCHES], (nothing,))


def _wait(c: PimsimCosts, at: Array) -> None:
    nothing = np.zeros(at.size)
    _alone(c, at, c.resources.memory[_core(c, at)], (nothing,))


# -- the machine ----------------------------------------------------------------------------------------------------


def _rules(machine: PimsimHardware) -> IssueRules:
    ticks = ticks_per_cycle(machine)
    several = machine.rob_size > 1
    return IssueRules(
        window=machine.rob_size, cycles=ticks if several else 1, in_order=True, is_serial=not several,
        handshake_cycles=_HANDSHAKE, ticks_per_cycle=ticks,
    )  # fmt: skip


def _static_mw(program: Program) -> float:
    """A core that the program has no list for takes no power."""
    return pimsim_of(program).static_mw(len(noted_cores(program)))


def _check(program: Program) -> None:
    check_messages(to_table(program))


def _until_cycles(program: Program) -> int:
    """Programs in the steady state run for the time that their configuration says."""
    machine = pimsim_of(program)
    return round(machine.sim_time_ms * 1e6 / machine.period_ns) if program.mode == "throughput" else 0


def _counted_rounds(program: Program, rounds: Array, place: Array) -> Array:
    """With the quirk, rounds whose last instruction is fetched: it stands in fetch, decode or dispatch, or has left."""
    if not pimsim_of(program).quirks.rounds_count_fetches:
        return rounds
    lengths = list_lengths(program)
    used = np.flatnonzero(np.diff(program.stream_ptr))
    following = program.stream_ptr[used] + place[used]
    position = program.rows["src1_step"][following] - scalars_before(program, following)
    counted = rounds.copy()
    counted[used] += lengths[used] - position <= _FETCHED_AHEAD
    return counted


_TRANSFERS: Final[dict[str, Formula]] = {
    "ld": _by_traffic(_load), "st": _by_traffic(_store), "lldi": _fill, "lmv": _copy, "send": _send, "recv": _receive, "sync": _sync,
    "wait": _wait, "mvmul": _mvmul,
}  # fmt: skip

_VECTORS: Final[dict[str, Formula]] = {one.name: _vector(one) for one in OPERATIONS if one.unit == Unit.VECTOR}
_MADE_OF: Final = ("processor", "length", "arg", "src2_step")
_READS: Final = {f"pimsim.{name}": _MADE_OF for name in (*_TRANSFERS, *_VECTORS)}

PIMSIM: Final = Machine(
    "pimsim", PimsimResources.of, _rules,
    {f"pimsim.{name}": cost for name, cost in (_TRANSFERS | _VECTORS).items()}, _READS, surroundings,
    _static_mw, _check, _until_cycles, _counted_rounds,
)  # fmt: skip


def durations(program: Program) -> Array:
    """int64[n]: ticks that each row takes on its core when nothing waits, its issue slots included."""
    context = work_out(program, PIMSIM)
    return context.costs.idle_ticks()[context.forms.of_row]


def arrivals(program: Program) -> Array:
    """int64[n]: ticks from the beginning of its list until each row is at its unit when nothing waits."""
    context = work_out(program, PIMSIM)
    forms, costs = context.forms.of_row, context.costs
    taken = costs.idle_ticks()[forms]
    begun = np.cumsum(taken) - taken
    before = np.append(begun, 0)[program.stream_ptr[:-1]]
    return begun - np.repeat(before, np.diff(program.stream_ptr)) + costs.lead[forms]
