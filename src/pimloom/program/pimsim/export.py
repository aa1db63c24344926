"""From a program for crossbars to the three files that pimsim-nn reads: program, architecture, network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.hardware.parts import GlobalMemory, LocalMemory
from pimloom.hardware.pimsim import MatrixPart, MemoryPart, NetworkPart, PimsimHardware, Quirks, network_line, network_tables
from pimloom.program.crossbar import crossbar_of
from pimloom.program.pimsim.convert import MEMORY_SWITCH, architecture_of, to_program
from pimloom.program.pimsim.hazards import executed_ranges
from pimloom.program.pimsim.lower import lower_rows
from pimloom.program.pimsim.machine import durations
from pimloom.program.pimsim.network import Distances
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.program import Program
from pimloom.program.rows import Array

_FINEST: Final = 10**6
_OVERLAPPING: Final = 2
"""Samples from which on rows may be ordered so that samples overlap."""

_MOST_BYTES: Final = (1 << 31) - 1
"""What a number of the file can say; pimsim-nn does not look at sizes of memories."""


def export_program(program: Program) -> Program:
    """A program in pimsim-nn's instruction set, on the same machine as pimsim-nn can say it; its lists in the order of its rows.

    Args:
        program: for a machine of kind `crossbar`; one of kind `pimsim` is returned as it is.

    Raises:
        ProgramError: the program holds something that pimsim-nn cannot run.
    """
    return program if isinstance(program.hardware, PimsimHardware) else _imported(program, lower_rows(program)[0])


def as_repeated(program: Program) -> Program:
    """A throughput program of one sample as one of several, for its lists will be repeated: rounds may then overlap as samples do.

    All rounds use the addresses of the first sample.
    """
    repeats = program.mode == "throughput" and not isinstance(program.hardware, PimsimHardware)
    return replace(program, samples=max(program.samples, _OVERLAPPING)) if repeats else program


def export_with_cycles(program: Program) -> tuple[Program, Array]:
    """As `export_program`, and what each row takes there when nothing waits: int64[n], in units of pimsim-nn's time.

    A core there does one thing at a time and waits for others as its list is ordered, so these are what lists are ordered by.

    Raises:
        ProgramError: the program holds something that pimsim-nn cannot run.
    """
    table, made = lower_rows(program)
    exported = _imported(program, table)
    ends = np.concatenate(([0], np.cumsum(durations(exported))))
    return exported, np.diff(ends[np.concatenate(([0], np.cumsum(made)))])


def _imported(program: Program, table: PimsimProgram) -> Program:
    """A lowered program as one of kind `pimsim`."""
    limit = max(int((touched.start + touched.bytes).max(initial=0)) for touched in executed_ranges(table, Quirks()))
    machine = machine_of(crossbar_of(program), limit)
    architecture = architecture_of(machine, sim_mode=int(program.mode == "latency"))
    return to_program(table, architecture, name=program.name, machine=machine.name)


def machine_of(hardware: CrossbarHardware, memory_bytes: int) -> PimsimHardware:
    """A machine of kind `crossbar` as far as pimsim-nn can say it.

    A local memory has one port there, and the chip one port to the global memory, which is made as wide as all ports
    together. Links, buffers of routers and asynchronous communication it does not have; of the crossbars' power at rest it
    takes no notice.

    Args:
        hardware: the machine.
        memory_bytes: what the fullest core holds; the local memory is stated as no smaller.
    """
    h, period = hardware, 1 / hardware.clock_ghz
    core, noc = h.core, h.noc
    return PimsimHardware(
        name=h.name, kind="pimsim", description=h.description, source=h.source, cores=h.total_cores, period_ns=period,
        rob_size=min(core.issue.window, 4096), vector_width=core.vector_unit.lanes, vector_ns=core.vector_unit.beat_cycles * period,
        vector_energy_pj=core.vector_unit.energy_pj_per_beat, fetch_power_mw=0.0,
        core_static_power_mw=core.vector_unit.static_mw + core.control_static_mw + noc.router_static_mw, sim_time_ms=100.0,
        matrix=_matrix(h, period), local_memory=_memory(core.local_memory, period, 1, memory_bytes),
        global_memory=_memory(h.global_memory, period, h.global_memory.ports, 0), network=_network(h),
    )  # fmt: skip


def _memory(part: LocalMemory | GlobalMemory, period_ns: float, ports: int, least_bytes: int) -> MemoryPart:
    return MemoryPart(
        width_bytes=part.width_bytes * ports, read_ns=part.read_beat_cycles * period_ns, write_ns=part.write_beat_cycles * period_ns,
        static_power_mw=part.static_mw, read_energy_pj=part.read_energy_pj_per_beat * ports,
        write_energy_pj=part.write_energy_pj_per_beat * ports, memory_bytes=max(part.size_bytes, least_bytes),
    )  # fmt: skip


def _matrix(hardware: CrossbarHardware, period_ns: float) -> MatrixPart:
    """Energies per conversion become powers over the time of one; what takes no time goes to the crossbar."""
    x = hardware.crossbar
    per_read = x.array_read_energy_pj + x.register_energy_pj
    rounds, conversions = -(-x.rows // x.dac_count), x.cols // x.adc_count
    parts = {
        "dac_power_mw": (x.dac_energy_pj * x.rows / rounds, x.dac_cycles * x.dac_count),
        "sample_hold_power_mw": (x.sample_hold_energy_pj * x.cols, x.sample_hold_cycles * x.cols),
        "adc_power_mw": (x.adc_energy_pj * x.cols, conversions * x.adc_cycles * x.adc_count),
        "shift_adder_power_mw": (x.shift_add_energy_pj * x.cols, conversions * x.shift_add_cycles),
    }
    powers: dict[str, float] = {}
    for name, (energy_pj, cycles) in parts.items():
        powers[name] = energy_pj / (cycles * period_ns) if cycles else 0.0
        per_read += 0.0 if cycles else energy_pj
    return MatrixPart(
        crossbars=hardware.core.crossbars, period_ns=period_ns, is_pipelined=x.pipelined, rows=x.rows, columns=x.cols,
        cell_bits=x.cell_bits, dac_bits=x.dac_bits, dac_count=x.dac_count, dac_cycles=x.dac_cycles,
        crossbar_ns=x.read_cycles * period_ns, sample_hold_cycles=x.sample_hold_cycles, adc_count=x.adc_count, adc_cycles=x.adc_cycles,
        shift_adder_cycles=x.shift_add_cycles, output_buffer_cycles=x.output_buffer_cycles,
        crossbar_power_mw=per_read / (x.read_cycles * period_ns), output_buffer_power_mw=0.0, **powers,
    )  # fmt: skip


def _network(hardware: CrossbarHardware) -> NetworkPart:
    distances, cores = Distances(hardware), np.arange(hardware.total_cores)
    tables: list[tuple[str, ...]] = []
    for between, memory in zip(distances.between(cores, cores), distances.to_memory(), strict=True):
        table = np.zeros((cores.size + 1, cores.size + 1))
        table[1:, 1:], table[0, 1:], table[1:, 0] = between, memory, memory
        np.fill_diagonal(table, 0.0)
        known = ~np.eye(cores.size + 1, dtype=bool)
        tables.append(tuple(network_line(line, there) for line, there in zip(table.tolist(), known.tolist(), strict=True)))
    return NetworkPart(flit_bytes=hardware.noc.flit_bytes, latency_ns=tables[0], energy_pj=tables[1])


def architecture_document(machine: PimsimHardware, network_file: str, *, sim_mode: int) -> dict[str, Any]:
    """The architecture file of a machine.

    Args:
        machine: the machine.
        network_file: name of the network file, in the same folder.
        sim_mode: 1 for one pass, 0 for lists that are repeated.
    """
    m = machine.matrix
    core = {
        "period": _plain(machine.period_ns), "rob_size": machine.rob_size, "vector_width": machine.vector_width,
        "vector_latency_cycle": _plain(machine.vector_ns), "vector_alu_dynamic_energy": _plain(machine.vector_energy_pj),
        "inst_fetch_static_power": _plain(machine.core_static_power_mw), "inst_fetch_dynamic_power": _plain(machine.fetch_power_mw),
        "global_memory_switch_id": MEMORY_SWITCH, "local_memory_config": _memory_document(machine.local_memory),
        "matrix_config": {
            "xbar_array_count": m.crossbars, "period": _plain(m.period_ns), "pipeline_mode": m.is_pipelined,
            "xbar_size": [m.rows, m.columns], "cell_precision": m.cell_bits, "dac_resolution": m.dac_bits, "dac_count": m.dac_count,
            "dac_latency_cycle": m.dac_cycles, "xbar_latency": _plain(m.crossbar_ns), "sample_hold_latency_cycle": m.sample_hold_cycles,
            "adc_count": m.adc_count, "adc_latency_cycle": m.adc_cycles, "shift_adder_latency_cycle": m.shift_adder_cycles,
            "output_buffer_latency_cycle": m.output_buffer_cycles, "dac_dynamic_power": _plain(m.dac_power_mw),
            "xbar_read_power": _plain(m.crossbar_power_mw), "sample_hold_dynamic_power": _plain(m.sample_hold_power_mw),
            "adc_dynamic_power": _plain(m.adc_power_mw), "shift_adder_dynamic_power": _plain(m.shift_adder_power_mw),
            "output_buffer_dynamic_power": _plain(m.output_buffer_power_mw),
        },
    }  # fmt: skip
    chip = {
        "core_cnt": machine.cores, "global_memory_switch_id": MEMORY_SWITCH, "core_config": core,
        "global_memory_config": _memory_document(machine.global_memory),
        "network_config": {
            "bus_topology": "mesh", "bus_width": machine.network.flit_bytes, "layout": list(machine.processor_grid),
            "net_config_file_path": network_file,
        },
    }  # fmt: skip
    return {"chip_config": chip, "sim_config": {"sim_mode": sim_mode, "sim_time": machine.sim_time_ms, "report_verbose_level": 1}}


def _memory_document(part: MemoryPart) -> dict[str, Any]:
    """Latencies are whole cycles of a period of the memory's own."""
    times = [Fraction(ns).limit_denominator(_FINEST) for ns in (part.read_ns, part.write_ns)]
    scale = math.lcm(*(time.denominator for time in times))
    step = Fraction(max(math.gcd(*(int(time * scale) for time in times)), 1), scale)
    period = 1 if step.denominator == 1 else step
    return {
        "data_width": part.width_bytes, "period": _plain(float(period)), "read_latency_cycle": int(times[0] / period),
        "write_latency_cycle": int(times[1] / period), "static_power": _plain(part.static_power_mw),
        "read_dynamic_energy": _plain(part.read_energy_pj), "write_dynamic_energy": _plain(part.write_energy_pj),
        "memory_size": min(part.memory_bytes, _MOST_BYTES),
    }  # fmt: skip


def network_document(machine: PimsimHardware) -> dict[str, Any]:
    """The network file: `{"latency": {from: {to: ns}}, "energy": {from: {to: pJ}}}`, switches by decimal number."""
    latency, energy, known = network_tables(machine.network)
    names = [str(MEMORY_SWITCH), *map(str, range(machine.cores))]
    found: dict[str, Any] = {}
    for key, table in (("latency", latency), ("energy", energy)):
        lines = zip(names, table.tolist(), known.tolist(), strict=True)
        found[key] = {name: _row(names, values, there) for name, values, there in lines}
    return found


def _row(names: list[str], values: list[float], known: list[bool]) -> dict[str, float | int]:
    return {name: _plain(value) for name, value, there in zip(names, values, known, strict=True) if there}


def _plain(value: float) -> float | int:
    """Whole numbers without a fraction."""
    return int(value) if value == int(value) else value


def write_configuration(machine: PimsimHardware, architecture: Path, network: Path, *, sim_mode: int) -> None:
    """Writes the architecture and the network file; they must lie in one folder when pimsim-nn reads them."""
    documents = ((architecture, architecture_document(machine, network.name, sim_mode=sim_mode)), (network, network_document(machine)))
    for path, document in documents:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
