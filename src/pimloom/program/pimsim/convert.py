"""Programs of pimsim-nn as our Programs, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from pimloom.hardware.pimsim import NetworkPart, PimsimHardware, Quirks, network_line, network_tables
from pimloom.ir.graph import Graph
from pimloom.program.pimsim.architecture import Architecture, NetworkTable
from pimloom.program.pimsim.check import check_addresses, check_lists, check_steady, check_widths
from pimloom.program.pimsim.encoding import NOTES, encode, to_table
from pimloom.program.pimsim.hazards import Dependencies, hazards
from pimloom.program.pimsim.machine import arrivals
from pimloom.program.pimsim.messages import pair_messages
from pimloom.program.pimsim.opcodes import UNIT_OF_CODE, Unit
from pimloom.program.pimsim.order import passage, rows_of_waits
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.program import Groups, Program
from pimloom.program.rows import Array, ragged

__all__ = ["MEMORY_SWITCH", "architecture_of", "hardware_of", "to_program", "to_table"]

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
    if repeats:
        check_steady(table)
    dependencies = _dependencies(table, architecture, chosen, repeats=repeats)
    none = np.zeros(table.group_crossbars.size, np.int32)
    groups = Groups(
        np.repeat(np.arange(table.n_cores, dtype=np.int32), np.diff(table.group_ptr)), table.group_crossbars.copy(), none - 1, *[none] * 4,
    )  # fmt: skip
    notes = {NOTES: {"lengths": table.length_of_core.tolist(), "cores": np.flatnonzero(table.is_present).tolist()}}
    program = Program(
        name=name, target="pimsim", mode="throughput" if repeats else "latency", samples=1,
        hardware=hardware_of(architecture, machine, table.n_cores, chosen), graph=Graph(name, (), (), (), {}, {}),
        rows=encode(table), stream_ptr=table.core_ptr.copy(), partner=pair_messages(table),
        dep_ptr=dependencies.ptr.astype(np.int32), dep_row=dependencies.row, dep_distance=dependencies.distance,
        pattern_ptr=ragged([])[0], pattern_offset=np.zeros(0, np.int32), pattern_length=np.zeros(0, np.int32),
        groups=groups, matrices=(), regions=(), blocks=(), notes=notes,
    )  # fmt: skip
    return _with_events(program, table, dependencies)


def _with_events(program: Program, table: PimsimProgram, dependencies: Dependencies) -> Program:
    """The program with what its `wait` wait for, if there are any: which `sync` that is depends on how long the rest takes.

    Raises:
        ProgramError: cores wait for each other forever.
    """
    if not rows_of_waits(table).size:
        passage(table, program.partner)
        return program
    found = passage(table, program.partner, arrivals(program))
    more = _joined(table.n_instructions, dependencies, found.waits, found.syncs)
    return replace(program, dep_ptr=more.ptr.astype(np.int32), dep_row=more.row, dep_distance=more.distance)


def _dependencies(table: PimsimProgram, architecture: Architecture, quirks: Quirks, *, repeats: bool) -> Dependencies:
    """Conflicts of addresses and busy units as dependencies."""
    found = hazards(table, architecture, quirks=quirks, is_repeated=repeats)
    return _joined(table.n_instructions, found, *_units(table)) if architecture.rob_size > 1 else found


def _joined(n: int, one: Dependencies, targets: Array, sources: Array) -> Dependencies:
    """Dependencies of n rows and more of them, in the same round: of each row first those that it had."""
    both = np.concatenate([np.repeat(np.arange(n), np.diff(one.ptr)), targets])
    order = np.argsort(both, kind="stable")
    ptr = np.concatenate(([0], np.cumsum(np.bincount(both, minlength=n))))
    row = np.concatenate([one.row, sources.astype(np.int32)])
    distance = np.concatenate([one.distance, np.zeros(targets.size, np.int32)])
    return Dependencies(ptr.astype(np.int64), row[order].astype(np.int32), distance[order].astype(np.int32))


def _units(table: PimsimProgram) -> tuple[Array, Array]:
    """A vector or transfer instruction waits for the one before it on its unit: int64[m] twice, the later ones first."""
    unit = UNIT_OF_CODE[table.opcode]
    key = table.core().astype(np.int64) * 8 + unit
    order = np.argsort(key, kind="stable")
    follows = (key[order[1:]] == key[order[:-1]]) & (unit[order[1:]] != Unit.MATRIX)
    return order[1:][follows], order[:-1][follows]
