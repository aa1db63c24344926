"""A machine in words and derived figures, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pimloom.hardware.crossbar import CrossbarHardware
from pimloom.hardware.machine import Hardware
from pimloom.hardware.parts import GlobalMemory, LocalMemory
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
    return [
        ("precision", f"{weights}-bit weights, {inputs}-bit activations"),
        ("weight capacity", _capacity(hw)),
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


DESCRIPTIONS: Final[Mapping[str, Callable[[Any], list[tuple[str, str]]]]] = {"crossbar": _crossbar}
"""Kind of machine -> what is said of it, as (label, text)."""
