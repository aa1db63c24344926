"""A machine in words and derived figures, for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from pimloom.hardware.crossbar import CrossbarHardware
from pimloom.hardware.machine import Hardware
from pimloom.hardware.parts import GlobalMemory, LocalMemory
from pimloom.hardware.pimsim import MemoryPart, PimsimHardware, Quirks
from pimloom.hardware.sram import SramHardware
from pimloom.units import cycles_to_ns, format_bytes, format_count, format_ns, format_pj


def describe(hardware: Hardware) -> str:
    """Summarises a machine: what it is, and the figures that follow from its numbers.

    Args:
        hardware: any machine.

    Returns:
        Lines `label  text`; bandwidths in GB/s (10^9 bytes), rates at the machine's default precision.
    """
    rows = DESCRIPTIONS[hardware.kind](hardware)
    title = f"{hardware.name}: {hardware.description}" if hardware.description else hardware.name
    width = max(len(label) for label, _ in rows)
    lines = [title, *(f"  {label:<{width}}  {text}" for label, text in rows)]
    if hardware.source:
        lines.append(f"  {'source':<{width}}  {hardware.source}")
    return "\n".join(lines)


def _crossbar(hw: CrossbarHardware) -> list[tuple[str, str]]:
    return [*_structure(hw), *_compute(hw), *_traffic(hw), ("power at rest", _power(hw))]


def _structure(hw: CrossbarHardware) -> list[tuple[str, str]]:
    chip, xbar = hw.chip, hw.crossbar
    array = f"{xbar.rows} x {xbar.cols}, {xbar.cell_bits}-bit cells, {xbar.signed} weights"
    grid = f"{_n(hw.chips, 'chip')} of {chip.cores} on a grid of {chip.core_rows} x {chip.core_cols}"
    return [
        ("kind", f"{hw.kind}, {hw.clock_ghz:g} GHz"),
        ("cores", f"{hw.total_cores}: {grid}"),
        ("crossbars", f"{hw.total_crossbars}: {hw.core.crossbars} per core of {array}"),
        ("issue", f"{hw.core.issue.order}, window {hw.core.issue.window}, {hw.core.communication} communication"),
    ]


def _compute(hw: CrossbarHardware) -> list[tuple[str, str]]:
    weights, inputs = hw.precision.weight_bits, hw.precision.activation_bits
    xbar, vector = hw.crossbar, hw.core.vector_unit
    latency, interval = xbar.mvm_cycles(inputs), xbar.mvm_interval_cycles(inputs)
    mvm = f"{latency} cycles ({_time(hw, latency)}), one every {interval} ({_time(hw, interval)})"
    rate = format_count(hw.peak_mvm_per_s(inputs))
    lanes = vector.lanes / vector.beat_cycles * hw.clock_ghz * 1e9
    rewriting = "arrays are written once"
    if xbar.rewriting is not None:
        drivers = "arrays of a core at once" if xbar.rewriting.drivers == "array" else "one array of a core at a time"
        energy = format_pj(xbar.rewriting.cell_energy_pj)
        rewriting = f"{_time(hw, xbar.rewriting.row_cycles)} a row, {energy} a cell, {drivers}; --rewrite"
    return [
        ("precision", f"{weights}-bit weights, {inputs}-bit activations"),
        ("weight capacity", _capacity(hw)),
        ("rewriting", rewriting),
        ("one MVM", f"{mvm}, {format_pj(xbar.mvm_energy_pj(inputs))}"),
        ("peak", f"{rate} MVM/s, {hw.peak_ops_per_s(weights, inputs) / 1e12:.4g} TOPS"),
        ("vector unit", f"{vector.lanes} lanes, {format_count(lanes)} elements/s per core"),
    ]


def _capacity(hw: CrossbarHardware) -> str:
    bits = hw.precision.weight_bits
    capacity = hw.weights_capacity(bits)
    return f"{format_count(capacity)} weights ({format_bytes(capacity * bits / 8)})"


def _traffic(hw: CrossbarHardware) -> list[tuple[str, str]]:
    noc = hw.noc
    link = noc.flit_bytes / noc.flit_cycles
    return [
        ("local memory", _memory(hw, hw.core.local_memory, "core")),
        ("global memory", _memory(hw, hw.global_memory, "chip")),
        ("network", f"{noc.topology}, {_rate(hw, link)} per link, {_time(hw, noc.hop_cycles)} per hop"),
        *([("chip link", _rate(hw, hw.chip_link.bytes_per_cycle))] if hw.chip_link else []),
    ]


def _power(hw: CrossbarHardware) -> str:
    active = hw.peak_crossbar_mw(hw.precision.activation_bits)
    return f"{_watts(hw.static_mw_total)}; {_watts(active)} more with all crossbars busy"


def _memory(hw: CrossbarHardware, memory: LocalMemory | GlobalMemory, owner: str) -> str:
    rates = f"read {_rate(hw, memory.read_bytes_per_cycle)}, write {_rate(hw, memory.write_bytes_per_cycle)}"
    return f"{format_bytes(memory.size_bytes)} per {owner}, {_n(memory.ports, 'port')}, {rates}"


def _rate(hw: CrossbarHardware, bytes_per_cycle: float) -> str:
    return f"{bytes_per_cycle * hw.clock_ghz:.4g} GB/s"


def _time(hw: CrossbarHardware, cycles: int) -> str:
    return format_ns(cycles_to_ns(cycles, hw.clock_ghz))


def _watts(power_mw: float) -> str:
    return f"{power_mw / 1000:.4g} W"


def _n(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sram(hw: SramHardware) -> list[tuple[str, str]]:
    macro, link = hw.macro, hw.link
    slow, fast = macro.slowest_write_bytes_per_cycle, macro.fastest_write_bytes_per_cycle
    behind = f"a DRAM channel of {link.dram.banks} banks" if link.dram else "an ideal memory"
    traffic = "weights, activations and results" if link.carries_activations else "weights only"
    rate = hw.arrays * 2.0 * macro.size_bytes / macro.vector_cycles * hw.clock_ghz * 1e9
    return [
        ("kind", f"{hw.kind}, {hw.clock_ghz:g} GHz"),
        ("macros", f"{hw.arrays}: {hw.cores} cores of {hw.macros_per_core}, each {macro.rows} x {macro.cols} bytes"),
        ("one vector", f"{macro.vector_cycles} cycles, {hw.vector_pass_cycles} with its control, {format_pj(macro.vector_energy_pj)}"),
        ("rewriting", f"{slow} to {fast} B/cycle: {hw.write_cycles(slow)} to {hw.write_cycles(fast)} cycles per macro"),
        ("weight capacity", f"{format_count(hw.weights_capacity(8))} weights ({format_bytes(hw.weights_capacity(8))})"),
        ("peak", f"{rate / 1e12:.4g} TOPS"),
        ("link", f"{link.bytes_per_cycle} B/cycle ({link.bytes_per_cycle * hw.clock_ghz:.4g} GB/s), {behind}; carries {traffic}"),
        ("link grants", f"{macro.line_bytes} B at a time, {hw.ticks_per_cycle} ticks per cycle"),
        ("activation memory", format_bytes(hw.memories.activation_bytes)),
        ("result memory", f"{format_bytes(hw.memories.result_bytes)}, {hw.memories.sums} sums of {hw.result_bits} bits"),
        ("scratch memory", f"{format_bytes(hw.memories.scratch_bytes)} per macro, {hw.vectors_per_pass} vectors at a time"),
        ("memory outside", format_bytes(hw.global_memory_bytes)),
        ("precision", f"{hw.precision.weight_bits}-bit weights, {hw.precision.activation_bits}-bit activations"),
        ("SFU", f"{hw.sfu.lanes} lanes, {format_count(hw.sfu.lanes / hw.sfu.beat_cycles * hw.clock_ghz * 1e9)} elements/s"),
        ("power at rest", _watts(hw.static_mw_total)),
    ]


def _pimsim(hw: PimsimHardware) -> list[tuple[str, str]]:
    matrix = hw.matrix
    off = [spec.name for spec in dataclasses.fields(Quirks) if not getattr(hw.quirks, spec.name)]
    return [
        ("kind", f"{hw.kind}, {hw.clock_ghz:g} GHz"),
        ("cores", f"{hw.cores}, {_n(hw.rob_size, 'instruction')} in flight on each"),
        ("crossbars", f"{matrix.rows} x {matrix.columns}, {matrix.cell_bits}-bit cells, {_n(matrix.adc_count, 'ADC')} each"),
        ("vector unit", f"{hw.vector_width} elements in {hw.vector_ns:g} ns"),
        ("local memory", _beats(hw.local_memory)),
        ("global memory", _beats(hw.global_memory)),
        ("network", f"a table of times, flits of {hw.network.flit_bytes} B"),
        ("oversights of pimsim-nn", f"left out: {', '.join(off)}" if off else "all taken over"),
        ("power at rest", _watts(hw.static_mw_total)),
    ]


def _beats(memory: MemoryPart) -> str:
    return f"{memory.width_bytes} B in {memory.read_ns:g} ns (read) or {memory.write_ns:g} ns (write)"


DESCRIPTIONS: Final[Mapping[str, Callable[[Any], list[tuple[str, str]]]]] = {"crossbar": _crossbar, "sram": _sram, "pimsim": _pimsim}
"""Kind of machine -> what is said of it, as (label, text)."""
