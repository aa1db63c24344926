"""Programs of pimsim-nn as our Programs, and back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pimloom.hardware.pimsim import NetworkPart, PimsimHardware, Quirks, network_line, network_tables
from pimloom.ir.graph import Graph
from pimloom.program.pimsim.architecture import Architecture, NetworkTable
from pimloom.program.pimsim.check import check_addresses, check_lists, check_steady, check_widths
from pimloom.program.pimsim.encoding import NOTES, decode, encode, list_lengths, noted_cores
from pimloom.program.pimsim.hazards import Dependencies, hazards
from pimloom.program.pimsim.messages import check_order, pair_events, pair_messages
from pimloom.program.pimsim.opcodes import UNIT_OF_CODE, Unit
from pimloom.program.pimsim.table import COLUMNS, PimsimProgram
from pimloom.program.program import Groups, Program
from pimloom.program.rows import Array, ragged

MEMORY_SWITCH: Final = -10


def hardware_of(architecture: Architecture, name: str, cores: int, quirks: Quirks) -> PimsimHardware:
    """The machine that an architecture and a network file describe.

    Args:
        architecture: what was read.
        name: of the machine.
        cores: number of cores; the program decides it in pimsim-nn.
        quirks: what is taken over from pimsim-nn.
    """
    a = architecture
    return PimsimHardware(
        name=name, kind="pimsim", source=a.source, cores=cores, period_ns=a.period_ns, rob_size=a.rob_size, vector_width=a.vector_width,
        vector_ns=a.vector_ns, vector_energy_pj=a.vector_energy_pj, fetch_power_mw=a.fetch_power_mw,
        core_static_power_mw=a.core_static_power_mw, sim_time_ms=a.sim_time_ms, matrix=a.matrix, local_memory=a.local_memory,
        global_memory=a.global_memory, network=_network(a, cores), quirks=quirks,
    )  # fmt: skip


def _network(a: Architecture, cores: int) -> NetworkPart:
    switches = [a.memory_switch, *range(cores)]
    at = np.array([a.network.index(switch) for switch in switches])
    both = np.ix_(at, at)
    # What the file does not name is looked up in an empty row and column at the end.
    tables = (np.pad(table, (0, 1))[both] for table in (a.network.latency_ns, a.network.energy_pj))
    known = np.pad(a.network.is_known, (0, 1))[both].tolist()
    lines = [tuple(network_line(line, there) for line, there in zip(table.tolist(), known, strict=True)) for table in tables]
    return NetworkPart(flit_bytes=a.bus_bytes, latency_ns=lines[0], energy_pj=lines[1])


def architecture_of(machine: PimsimHardware, sim_mode: int = 1) -> Architecture:
    """A machine as pimsim-nn's files describe it: the inverse of `hardware_of`."""
    latency, energy, known = network_tables(machine.network)
    order = np.argsort([MEMORY_SWITCH, *range(machine.cores)])
    both = np.ix_(order, order)
    switches = np.array([MEMORY_SWITCH, *range(machine.cores)], np.int64)[order]
    return Architecture(
        source=machine.source or machine.name, core_count=machine.cores, period_ns=machine.period_ns, rob_size=machine.rob_size,
        vector_width=machine.vector_width, vector_ns=machine.vector_ns, memory_switch=MEMORY_SWITCH, bus_bytes=machine.network.flit_bytes,
        matrix=machine.matrix, local_memory=machine.local_memory, global_memory=machine.global_memory,
        core_static_power_mw=machine.core_static_power_mw, vector_energy_pj=machine.vector_energy_pj,
        fetch_power_mw=machine.fetch_power_mw, sim_mode=sim_mode, sim_time_ms=machine.sim_time_ms,
        network=NetworkTable(switches, latency[both], energy[both], known[both]), without_effect=(),
    )  # fmt: skip


def to_program(table: PimsimProgram, architecture: Architecture, *, name: str, machine: str, quirks: Quirks | None = None) -> Program:
    """A program that the engines run.

    Args:
        table: what was read.
        architecture: of the machine; its `sim_mode` 1 is a latency program, 0 one whose lists are repeated.
        name: of the program.
        machine: name of the machine.
        quirks: what is taken over from pimsim-nn, all by default.

    Raises:
        ProgramError: there is no list or one is empty, an address lies outside the local memory, an instruction has no element width
            (without that quirk), cores wait for each other forever, or wait for events in lists that repeat.
    """
    chosen = quirks if quirks is not None else Quirks()
    check_lists(table)
    check_addresses(table, architecture, quirks=chosen)
    if not chosen.bit_width_resets_to_zero:
        check_widths(table)
    repeats = architecture.sim_mode == 0
    partner, events = pair_messages(table), pair_events(table)
    check_order(table, partner, events)
    if repeats:
        check_steady(table, events[0])
    dependencies = _dependencies(table, architecture, chosen, events, repeats=repeats)
    none = np.zeros(table.group_crossbars.size, np.int32)
    groups = Groups(
        np.repeat(np.arange(table.n_cores, dtype=np.int32), np.diff(table.group_ptr)), table.group_crossbars.copy(), none - 1, *[none] * 4,
    )  # fmt: skip
    notes = {NOTES: {"lengths": table.length_of_core.tolist(), "cores": np.flatnonzero(table.is_present).tolist()}}
    return Program(
        name=name, target="pimsim", mode="throughput" if repeats else "latency", samples=1,
        hardware=hardware_of(architecture, machine, table.n_cores, chosen), graph=Graph(name, (), (), (), {}, {}),
        rows=encode(table), stream_ptr=table.core_ptr.copy(), partner=partner,
        dep_ptr=dependencies.ptr.astype(np.int32), dep_row=dependencies.row, dep_distance=dependencies.distance,
        pattern_ptr=ragged([])[0], pattern_offset=np.zeros(0, np.int32), pattern_length=np.zeros(0, np.int32),
        groups=groups, matrices=(), regions=(), blocks=(), notes=notes,
    )  # fmt: skip


def to_table(program: Program) -> PimsimProgram:
    """The table of a program made by `to_program`."""
    cores = program.n_processors
    group_ptr = np.concatenate(([0], np.cumsum(np.bincount(program.groups.processor, minlength=cores)))).astype(np.int64)
    found = decode(program.rows, group_ptr)
    columns: dict[str, Any] = {name: found[name].astype(dtype) for name, dtype in COLUMNS.items()}
    present = np.zeros(cores, bool)
    present[noted_cores(program)] = True
    lengths = list_lengths(program).astype(np.int32)
    return PimsimProgram(program.name, program.stream_ptr.copy(), lengths, present, group_ptr, program.groups.crossbars.copy(), **columns)


def _dependencies(
    table: PimsimProgram, architecture: Architecture, quirks: Quirks, events: tuple[Array, Array], *, repeats: bool
) -> Dependencies:  # fmt: skip
    """Conflicts of addresses, busy units and events as dependencies."""
    found = hazards(table, architecture, quirks=quirks, is_repeated=repeats)
    target = np.repeat(np.arange(table.n_instructions), np.diff(found.ptr))
    parts = [(target, found.row.astype(np.int64), found.distance.astype(np.int64)), (*events, np.zeros(events[0].size, np.int64))]
    if architecture.rob_size > 1:
        parts.append(_units(table))
    targets, sources, distances = (np.concatenate([part[i] for part in parts]) for i in range(3))
    order = np.argsort(targets, kind="stable")
    ptr = np.concatenate(([0], np.cumsum(np.bincount(targets, minlength=table.n_instructions))))
    return Dependencies(ptr.astype(np.int64), sources[order].astype(np.int32), distances[order].astype(np.int32))


def _units(table: PimsimProgram) -> tuple[Array, Array, Array]:
    """A vector or transfer instruction waits for the one before it on its unit."""
    unit = UNIT_OF_CODE[table.opcode]
    key = table.core().astype(np.int64) * 8 + unit
    order = np.argsort(key, kind="stable")
    follows = (key[order[1:]] == key[order[:-1]]) & (unit[order[1:]] != Unit.MATRIX)
    target, source = order[1:][follows], order[:-1][follows]
    return target, source, np.zeros(target.size, np.int64)
